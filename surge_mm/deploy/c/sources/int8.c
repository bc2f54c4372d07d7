/* Convolution in int8. q = min(max(rint(x inverse) + zero, 0), 255), zero in the border; exact sums of q_w q. */

static inline size_t surge_int8_workspace(const surge_int8_layer *l, surge_shape in)
{
    const surge_geometry *g = &l->geometry;
    size_t steps = (size_t)surge_count_steps(g, g->in_channels / g->groups, 4);
    return surge_windows_workspace(g, in, (size_t)g->in_channels, steps);
}

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
static inline void surge_quantize_rows(const surge_int8_layer *l, surge_shape in, const float *x, int first, int rows, uint8_t *q)
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
        surge_quantize_plain(x + (size_t)y * row, row, l->inverse, (float)l->zero, q + left);
        memset(q + left + row, l->zero, right);
    }
}

/* Sums of the products of four bytes with four weights of each of SURGE_ROW filters, at each step. */
static inline void surge_int8_block_plain(
    const surge_windows *n, const int8_t *w, const surge_target *t, const surge_table *table, int channel, int count)
{
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
        surge_finish_plain(t, table, y, 0, pixel, 1, channel, count);
    }
}

/* A filter per channel. Weights: (taps, channels). */
static inline void surge_int8_depthwise_plain(
    const surge_windows *n, const int8_t *w, const surge_target *t, const surge_table *table, int channel, int count)
{
    for (int pixel = 0; pixel < n->pixels; pixel++) {
        const uint8_t *x = n->map + n->offsets[pixel] + channel;
        const int8_t *weight = w + channel;
        int32_t sums[SURGE_ROW] = {0};
        float y[SURGE_ROW];
        for (int s = 0; s < n->n_steps; s++, weight += t->channels)
            for (int k = 0; k < count; k++) sums[k] += weight[k] * x[n->steps[s] + k];
        for (int k = 0; k < SURGE_ROW; k++) y[k] = (float)sums[k];
        surge_finish_plain(t, table, y, 0, pixel, 1, channel, count);
    }
}

static inline void surge_int8(
    const surge_int8_layer *l, surge_shape in, const float *x, const float *shortcut, float *out, const float *out_shift,
    uint32_t *out_bits, void *workspace)
{
    const surge_geometry *g = &l->geometry;
    surge_shape shape = surge_output(g, in);
    unsigned char *rest = (unsigned char *)workspace;
    size_t pixel_bytes = (size_t)g->in_channels, pixels = surge_band_pixels(g, in, pixel_bytes);
    int channels = g->in_channels / g->groups, n_steps = surge_count_steps(g, channels, 4);
    int band = surge_band_rows(g, in, pixel_bytes), outs = g->out_channels / g->groups, blocks = surge_blocks(g);
    int32_t *steps = (int32_t *)surge_take(&rest, (size_t)n_steps * 4);
    int32_t *offsets = (int32_t *)surge_take(&rest, (pixels + SURGE_PIXELS) * 4);
    uint8_t *q = (uint8_t *)surge_take(&rest, pixels * pixel_bytes + 64);
    surge_target t = surge_new_target(g, in, &l->epilogue, shortcut, out, out_shift, out_bits);
    surge_table table;
    surge_windows windows;
    windows.steps = steps;
    windows.n_steps = surge_steps(g, in, pixel_bytes, channels, 4, steps);
    windows.offsets = offsets;
    for (int first = 0; first < shape.height; first += band) {
        int rows = first + band < shape.height ? band : shape.height - first;
        int in_rows = (rows - 1) * g->stride_y + surge_extent(g);
        const int8_t *w = l->weights;
        windows.pixels = rows * shape.width;
        surge_quantize_rows(l, in, x, first * g->stride_y - g->pad_top, in_rows, q);
        /* zeros of weights count these as nothing, but they are read */
        memset(q + (size_t)in_rows * (size_t)surge_padded_width(g, in) * pixel_bytes, 0, 4);
        surge_offsets(g, in, rows, pixel_bytes, offsets);
        if (surge_is_depthwise(g)) {
            windows.map = q;
            for (int channel = 0; channel < t.channels; channel += SURGE_ROW) {
                int count = t.channels - channel < SURGE_ROW ? t.channels - channel : SURGE_ROW;
                surge_fill_table(&t, channel, count, &table);
                surge_int8_depthwise_plain(&windows, w, &t, &table, channel, count);
            }
        } else {
            for (int group = 0; group < g->groups; group++) {
                windows.map = q + group * channels;
                for (int block = 0; block < blocks; block++, w += n_steps * 4 * SURGE_ROW) {
                    int channel = group * outs + block * SURGE_ROW, count = outs - block * SURGE_ROW;
                    count = count < SURGE_ROW ? count : SURGE_ROW;
                    surge_fill_table(&t, channel, count, &table);
                    surge_int8_block_plain(&windows, w, &t, &table, channel, count);
                }
            }
        }
        surge_advance(&t, (size_t)(rows * shape.width));
    }
}
