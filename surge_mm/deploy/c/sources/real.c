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
    const surge_windows *n, const float *w, const float *bias, const surge_target *t, const surge_table *table, int channel,
    int count)
{
    for (int pixel = 0; pixel < n->pixels; pixel++) {
        const unsigned char *x = n->map + n->offsets[pixel];
        const float *weight = w;
        float sums[SURGE_ROW];
        memcpy(sums, bias, sizeof sums);
        for (int s = 0; s < n->n_steps; s++, weight += SURGE_ROW) {
            float number = surge_number(x + n->steps[s]);
            for (int k = 0; k < SURGE_ROW; k++) sums[k] += weight[k] * number;
        }
        surge_finish_plain(t, table, sums, 0, pixel, 1, channel, count);
    }
}

/* A filter per channel. Weights: (taps, channels). */
static inline void surge_float_depthwise_plain(
    const surge_windows *n, const float *w, const float *bias, const surge_target *t, const surge_table *table, int channel,
    int count)
{
    for (int pixel = 0; pixel < n->pixels; pixel++) {
        const unsigned char *x = n->map + n->offsets[pixel] + (size_t)channel * sizeof(float);
        const float *weight = w + channel;
        float sums[SURGE_ROW];
        memcpy(sums, bias, sizeof sums);
        for (int s = 0; s < n->n_steps; s++, weight += t->channels)
            for (int k = 0; k < count; k++) sums[k] += weight[k] * surge_number(x + n->steps[s] + (size_t)k * sizeof(float));
        surge_finish_plain(t, table, sums, 0, pixel, 1, channel, count);
    }
}

static inline void surge_float(
    const surge_float_layer *l, surge_shape in, const float *x, const float *shortcut, float *out, const float *out_shift,
    uint32_t *out_bits, void *workspace)
{
    const surge_geometry *g = &l->geometry;
    surge_shape shape = surge_output(g, in);
    unsigned char *rest = (unsigned char *)workspace;
    int channels = g->in_channels / g->groups, n_steps = g->kernel_height * g->kernel_width * channels;
    size_t pixel_bytes = (size_t)g->in_channels * sizeof(float), pixels = surge_band_pixels(g, in, pixel_bytes);
    int band = surge_band_rows(g, in, pixel_bytes), outs = g->out_channels / g->groups, blocks = surge_blocks(g);
    int32_t *steps = (int32_t *)surge_take(&rest, (size_t)n_steps * 4);
    int32_t *offsets = (int32_t *)surge_take(&rest, (pixels + SURGE_PIXELS) * 4);
    float *padded = surge_pads(g) ? (float *)(void *)rest : NULL;
    surge_target t = surge_new_target(g, in, &l->epilogue, shortcut, out, out_shift, out_bits);
    surge_table table;
    surge_windows windows;
    float bias[SURGE_ROW];
    windows.steps = steps;
    windows.n_steps = surge_steps(g, in, pixel_bytes, channels * (int)sizeof(float), (int)sizeof(float), steps);
    windows.offsets = offsets;
    for (int first = 0; first < shape.height; first += band) {
        int rows = first + band < shape.height ? band : shape.height - first, top = first * g->stride_y - g->pad_top;
        const float *map = padded, *w = l->weights;
        windows.pixels = rows * shape.width;
        if (padded)
            surge_pad_rows(g, in, x, top, (rows - 1) * g->stride_y + surge_extent(g), padded);
        else
            map = x + (size_t)top * (size_t)in.width * (size_t)in.channels;
        surge_offsets(g, in, rows, pixel_bytes, offsets);
        if (surge_is_depthwise(g)) {
            windows.map = (const unsigned char *)map;
            for (int channel = 0; channel < t.channels; channel += SURGE_ROW) {
                int count = t.channels - channel < SURGE_ROW ? t.channels - channel : SURGE_ROW;
                surge_fill_table(&t, channel, count, &table);
                surge_row(bias, l->bias, channel, count, 0.0f);
                surge_float_depthwise_plain(&windows, w, bias, &t, &table, channel, count);
            }
        } else {
            for (int group = 0; group < g->groups; group++) {
                windows.map = (const unsigned char *)(map + group * channels);
                for (int block = 0; block < blocks; block++, w += n_steps * SURGE_ROW) {
                    int channel = group * outs + block * SURGE_ROW, count = outs - block * SURGE_ROW;
                    count = count < SURGE_ROW ? count : SURGE_ROW;
                    surge_fill_table(&t, channel, count, &table);
                    surge_row(bias, l->bias, channel, count, 0.0f);
                    surge_float_block_plain(&windows, w, bias, &t, &table, channel, count);
                }
            }
        }
        surge_advance(&t, (size_t)(rows * shape.width));
    }
}
