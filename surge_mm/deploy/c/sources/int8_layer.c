/* A layer in int8, by the kernels for this CPU. */

typedef struct {
    surge_quantize_function *quantize;
    void (*group)(const surge_windows *, const int8_t *, const float *, const surge_target *, int, int);
    void (*depthwise)(const surge_windows *, const int8_t *, const float *, const surge_target *, int);
} surge_int8_kernels;

static inline void surge_compute_int8(const surge_call *call, surge_part part, void *workspace)
{
    const surge_int8_layer *l = call->layer;
    const surge_geometry *g = &l->geometry;
    surge_shape in = call->in, shape = surge_output(g, in);
    unsigned char *rest = (unsigned char *)workspace;
    size_t pixel_bytes = (size_t)g->in_channels, pixels = surge_band_pixels(g, in, pixel_bytes);
    int channels = g->in_channels / g->groups, n_steps = surge_count_steps(g, channels, 4);
    int band = surge_band_rows(g, in, pixel_bytes), blocks = surge_blocks(g);
    int32_t *steps = (int32_t *)surge_take(&rest, (size_t)n_steps * 4);
    int32_t *offsets = (int32_t *)surge_take(&rest, (pixels + SURGE_PIXELS) * 4);
    uint8_t *q = (uint8_t *)surge_take(&rest, pixels * pixel_bytes + 64);
    surge_target t = surge_new_target(g, &l->epilogue, call, part);
    const surge_int8_kernels kernels = {
        SURGE_KERNEL(surge_quantize, surge_quantize_plain),
        SURGE_KERNEL(surge_group_int8, surge_group_int8_plain),
        SURGE_KERNEL(surge_depthwise_int8, NULL),
    };
    surge_windows windows;
    windows.steps = steps;
    windows.n_steps = surge_steps(g, in, pixel_bytes, channels, 4, steps);
    windows.offsets = offsets;
    for (int first = part.first_row; first < part.end_row; first += band) {
        int rows = first + band < part.end_row ? band : part.end_row - first;
        int in_rows = (rows - 1) * g->stride_y + surge_extent(g);
        const int8_t *w = l->weights;
        windows.pixels = rows * shape.width;
        surge_quantize_rows(l, kernels.quantize, in, call->x, first * g->stride_y - g->pad_top, in_rows, q);
        /* zeros of weights count these as nothing, but they are read */
        memset(q + (size_t)in_rows * (size_t)surge_padded_width(g, in) * pixel_bytes, 0, 4);
        surge_offsets(g, in, rows, pixel_bytes, offsets);
        if (surge_is_depthwise(g)) {
            windows.map = q;
            int channel = 0;
            for (; kernels.depthwise && channel + SURGE_ROW <= t.channels; channel += SURGE_ROW)
                kernels.depthwise(&windows, w, NULL, &t, channel);
            for (; channel < t.channels; channel += SURGE_ROW)
                surge_int8_depthwise_plain(&windows, w, &t, channel, surge_count(t.channels - channel));
        } else {
            w += (size_t)part.channel * (size_t)n_steps * 4;
            for (int group = 0; group < g->groups; group++, w += (size_t)blocks * (size_t)n_steps * 4 * SURGE_ROW) {
                windows.map = q + group * channels;
                kernels.group(&windows, w, NULL, &t, part.channel + group * part.outs, part.outs);
            }
        }
        surge_advance(&t, (size_t)(rows * shape.width));
    }
}

static inline void surge_int8(
    surge_team *team, const surge_int8_layer *l, surge_shape in, const float *x, const float *shortcut, float *out,
    const float *out_shift, uint32_t *out_bits, void *workspace)
{
    const surge_call call = {l, in, x, NULL, shortcut, out, out_shift, out_bits};
    surge_divide_layer(team, surge_compute_int8, &l->geometry, &call, 8000000, workspace);
}
