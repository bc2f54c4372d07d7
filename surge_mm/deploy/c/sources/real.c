/* Convolution in float32. Without padding, windows are read from the input itself. */

static inline size_t surge_float_workspace(const surge_float_layer *l, surge_shape in)
{
    const surge_geometry *g = &l->geometry;
    size_t pixel_bytes = (size_t)g->in_channels * sizeof(float);
    size_t steps = (size_t)(g->kernel_height * g->kernel_width * (g->in_channels / g->groups));
    if (surge_pads(g)) return surge_windows_workspace(g, in, pixel_bytes, steps);
    return surge_whole(steps * 4) + surge_whole((surge_band_pixels(g, in, pixel_bytes) + SURGE_PIXELS) * 4);
}

/* Copy the input rows of a band with their padding, from row `first` on, which may be negative. */
static inline void surge_pad_rows(const surge_geometry *g, surge_shape in, const float *x, int first, int rows, float *to)
{
    size_t channels = (size_t)in.channels, row = (size_t)in.width * channels;
    size_t left = (size_t)g->pad_left * channels, right = (size_t)g->pad_right * channels;
    for (int y = first; y < first + rows; y++, to += left + row + right) {
        if (y < 0 || y >= in.height) {
            memset(to, 0, (left + row + right) * sizeof *to);
            continue;
        }
        memset(to, 0, left * sizeof *to);
        memcpy(to + left, x + (size_t)y * row, row * sizeof *to);
        memset(to + left + row, 0, right * sizeof *to);
    }
}

static inline float surge_number(const unsigned char *at)
{
    float x;
    memcpy(&x, at, sizeof x);
    return x;
}

static inline void surge_float_block_plain(
    const surge_windows *n, const float *w, const float *bias, const surge_target *t, int channel, int count)
{
    float first[SURGE_ROW];
    surge_table table;
    surge_row(first, bias, channel, count, 0.0f);
    surge_fill_table(t, channel, count, &table);
    for (int pixel = 0; pixel < n->pixels; pixel++) {
        const unsigned char *x = n->map + n->offsets[pixel];
        const float *weight = w;
        float sums[SURGE_ROW];
        memcpy(sums, first, sizeof sums);
        for (int s = 0; s < n->n_steps; s++, weight += SURGE_ROW) {
            float number = surge_number(x + n->steps[s]);
            for (int k = 0; k < SURGE_ROW; k++) sums[k] += weight[k] * number;
        }
        surge_finish_plain(t, &table, sums, 0, pixel, 1, channel, count);
    }
}

/* Outputs of all filters of a group, from channel `channel` on. */
static inline void surge_group_float_plain(
    const surge_windows *n, const float *w, const float *bias, const surge_target *t, int channel, int outs)
{
    for (; outs > 0; outs -= SURGE_ROW, channel += SURGE_ROW, w += n->n_steps * SURGE_ROW)
        surge_float_block_plain(n, w, bias, t, channel, surge_count(outs));
}

/* A filter per channel. Weights: (taps, channels). */
static inline void surge_float_depthwise_plain(
    const surge_windows *n, const float *w, const float *bias, const surge_target *t, int channel, int count)
{
    float first[SURGE_ROW];
    surge_table table;
    surge_row(first, bias, channel, count, 0.0f);
    surge_fill_table(t, channel, count, &table);
    for (int pixel = 0; pixel < n->pixels; pixel++) {
        const unsigned char *x = n->map + n->offsets[pixel] + (size_t)channel * sizeof(float);
        const float *weight = w + channel;
        float sums[SURGE_ROW];
        memcpy(sums, first, sizeof sums);
        for (int s = 0; s < n->n_steps; s++, weight += t->channels)
            for (int k = 0; k < count; k++) sums[k] += weight[k] * surge_number(x + n->steps[s] + (size_t)k * sizeof(float));
        surge_finish_plain(t, &table, sums, 0, pixel, 1, channel, count);
    }
}
