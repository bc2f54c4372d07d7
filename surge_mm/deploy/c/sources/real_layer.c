/* A layer in float32, by the kernels for this CPU. */

typedef struct {
    void (*group)(const surge_windows *, const float *, const float *, const surge_target *, int, int);
    void (*depthwise)(const surge_windows *, const float *, const float *, const surge_target *, int);
} surge_float_kernels;

static inline void surge_compute_float(const surge_call *call, surge_part part, void *workspace)
{
    const surge_float_layer *l = call->layer;
    const surge_geometry *g = &l->geometry;
    surge_shape in = call->in, shape = surge_output(g, in);
    unsigned char *rest = (unsigned char *)workspace;
    int channels = g->in_channels / g->groups, n_steps = g->kernel_height * g->kernel_width * channels;
    size_t pixel_bytes = (size_t)g->in_channels * sizeof(float), pixels = surge_band_pixels(g, in, pixel_bytes);
    int band = surge_band_rows(g, in, pixel_bytes), blocks = surge_blocks(g);
    int32_t *steps = (int32_t *)surge_take(&rest, (size_t)n_steps * 4);
    int32_t *offsets = (int32_t *)surge_take(&rest, (pixels + SURGE_PIXELS) * 4);
    float *padded = surge_pads(g) ? (float *)(void *)rest : NULL;
    surge_target t = surge_new_target(g, &l->epilogue, call, part);
    const surge_float_kernels kernels = {
        SURGE_KERNEL(surge_group_float, surge_group_float_plain),
        SURGE_KERNEL(surge_depthwise_float, NULL),
    };
    surge_windows windows;
    windows.steps = steps;
    windows.n_steps = surge_steps(g, in, pixel_bytes, channels * (int)sizeof(float), (int)sizeof(float), steps);
    windows.offsets = offsets;
    for (int first = part.first_row; first < part.end_row; first += band) {
        int rows = first + band < part.end_row ? band : part.end_row - first, top = first * g->stride_y - g->pad_top;
        const float *map = padded, *w = l->weights;
        windows.pixels = rows * shape.width;
        if (padded)
            surge_pad_rows(g, in, call->x, top, (rows - 1) * g->stride_y + surge_extent(g), padded);
        else
            map = call->x + (size_t)top * (size_t)in.width * (size_t)in.channels;
        surge_offsets(g, in, rows, pixel_bytes, offsets);
        if (surge_is_depthwise(g)) {
            windows.map = (const unsigned char *)map;
            int channel = 0;
            for (; kernels.depthwise && channel + SURGE_ROW <= t.channels; channel += SURGE_ROW)
                kernels.depthwise(&windows, w, l->bias, &t, channel);
            for (; channel < t.channels; channel += SURGE_ROW)
                surge_float_depthwise_plain(&windows, w, l->bias, &t, channel, surge_count(t.channels - channel));
        } else {
            w += (size_t)part.channel * (size_t)n_steps;
            for (int group = 0; group < g->groups; group++, w += (size_t)blocks * (size_t)n_steps * SURGE_ROW) {
                windows.map = (const unsigned char *)(map + group * channels);
                kernels.group(&windows, w, l->bias, &t, part.channel + group * part.outs, part.outs);
            }
        }
        surge_advance(&t, (size_t)(rows * shape.width));
    }
}

static inline void surge_float(
    surge_team *team, const surge_float_layer *l, surge_shape in, const float *x, const float *shortcut, float *out,
    const float *out_shift, uint32_t *out_bits, void *workspace)
{
    const surge_call call = {l, in, x, NULL, shortcut, out, out_shift, out_bits};
    surge_divide_layer(team, surge_compute_float, &l->geometry, &call, 1000000, workspace);
}
