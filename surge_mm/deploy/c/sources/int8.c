/* Convolution in int8. q = min(max(rint(x inverse) + zero, 0), 255), zero in the border; exact sums of q_w q. */

static inline size_t surge_int8_workspace(const surge_int8_layer *l, surge_shape in)
{
    const surge_geometry *g = &l->geometry;
    size_t steps = (size_t)surge_count_steps(g, g->in_channels / g->groups, 4);
    return surge_windows_workspace(g, in, (size_t)g->in_channels, steps);
}

typedef void surge_quantize_function(const float *x, size_t count, float inverse, float zero, uint8_t *q);

static inline void surge_quantize_plain(const float *x, size_t count, float inverse, float zero, uint8_t *q)
{
    for (size_t i = 0; i < count; i++) {
        float y = rintf(x[i] * inverse) + zero;
        y = y > 0.0f ? y : 0.0f;
        y = y < 255.0f ? y : 255.0f;
        q[i] = (uint8_t)(int)y;
    }
}

/* Write the bytes of the input rows of a band with their padding, from row `first` on, which may be negative. */
static inline void surge_quantize_rows(
    const surge_int8_layer *l, surge_quantize_function *quantize, surge_shape in, const float *x, int first, int rows, uint8_t *q)
{
    const surge_geometry *g = &l->geometry;
    size_t channels = (size_t)in.channels, row = (size_t)in.width * channels;
    size_t left = (size_t)g->pad_left * channels, right = (size_t)g->pad_right * channels;
    for (int y = first; y < first + rows; y++, q += left + row + right) {
        if (y < 0 || y >= in.height) {
            memset(q, l->zero, left + row + right);
            continue;
        }
        memset(q, l->zero, left);
        quantize(x + (size_t)y * row, row, l->inverse, (float)l->zero, q + left);
        memset(q + left + row, l->zero, right);
    }
}

static inline int32_t surge_four_bytes(const unsigned char *q)
{
    int32_t four;
    memcpy(&four, q, sizeof four);
    return four;
}

/* Sums of the products of four bytes with four weights of each of SURGE_ROW filters, at each step. */
static inline void surge_int8_block_plain(
    const surge_windows *n, const int8_t *w, const surge_target *t, int channel, int count)
{
    surge_table table;
    surge_fill_table(t, channel, count, &table);
    for (int pixel = 0; pixel < n->pixels; pixel++) {
        const uint8_t *x = n->map + n->offsets[pixel];
        const int8_t *weight = w;
        int32_t sums[SURGE_ROW] = {0};
        float y[SURGE_ROW];
        for (int s = 0; s < n->n_steps; s++, weight += 4 * SURGE_ROW) {
            const uint8_t *q = x + n->steps[s];
            for (int k = 0; k < SURGE_ROW; k++)
                sums[k] += weight[4 * k] * q[0] + weight[4 * k + 1] * q[1] + weight[4 * k + 2] * q[2] + weight[4 * k + 3] * q[3];
        }
        for (int k = 0; k < SURGE_ROW; k++) y[k] = (float)sums[k];
        surge_finish_plain(t, &table, y, 0, pixel, 1, channel, count);
    }
}

/* Outputs of all filters of a group, from channel `channel` on. */
static inline void surge_group_int8_plain(
    const surge_windows *n, const int8_t *w, const float *bias, const surge_target *t, int channel, int outs)
{
    (void)bias;
    for (; outs > 0; outs -= SURGE_ROW, channel += SURGE_ROW, w += n->n_steps * 4 * SURGE_ROW)
        surge_int8_block_plain(n, w, t, channel, surge_count(outs));
}

/* A filter per channel. Weights: (taps, channels). */
static inline void surge_int8_depthwise_plain(
    const surge_windows *n, const int8_t *w, const surge_target *t, int channel, int count)
{
    surge_table table;
    surge_fill_table(t, channel, count, &table);
    for (int pixel = 0; pixel < n->pixels; pixel++) {
        const uint8_t *x = n->map + n->offsets[pixel] + channel;
        const int8_t *weight = w + channel;
        int32_t sums[SURGE_ROW] = {0};
        float y[SURGE_ROW];
        for (int s = 0; s < n->n_steps; s++, weight += t->channels)
            for (int k = 0; k < count; k++) sums[k] += weight[k] * x[n->steps[s] + k];
        for (int k = 0; k < SURGE_ROW; k++) y[k] = (float)sums[k];
        surge_finish_plain(t, &table, y, 0, pixel, 1, channel, count);
    }
}
