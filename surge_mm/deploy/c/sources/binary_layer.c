/* A binary layer, by the kernels for this CPU. */

typedef struct {
    surge_pack_function *pack;
    int (*steps)(const surge_geometry *, surge_shape, int32_t *);
    void (*derive)(const surge_binary_job *);
    void (*group)(const surge_binary_job *, const unsigned char *, const surge_target *, int, int);
} surge_binary_kernels;

/* bits: signs of a filter. */
static inline surge_binary_kernels surge_pick_binary(size_t bits)
{
    surge_binary_kernels k = {surge_pack_plain, surge_binary_steps_plain, NULL, surge_binary_group_plain};
    if (bits >= 65536 && surge_cpu() != SURGE_IS_AVX512) return k; /* the others count in 16 bits */
    k.group = SURGE_KERNEL(surge_binary_group, surge_binary_group_plain);
#ifndef __arm__ /* whose vectors lose the sign of a NaN, and of denormal sums */
    k.pack = SURGE_KERNEL(surge_pack, surge_pack_plain);
#endif
#ifdef SURGE_X86
    k.steps = SURGE_KERNEL(surge_binary_steps, surge_binary_steps_plain);
    k.derive = SURGE_KERNEL(surge_derive, NULL);
#endif
    return k;
}

static inline void surge_compute_binary(const surge_call *call, surge_part part, void *workspace)
{
    const surge_binary_layer *l = call->layer;
    const surge_geometry *g = &l->geometry;
    surge_shape in = call->in, shape = surge_output(g, in);
    unsigned char *rest = (unsigned char *)workspace;
    size_t pixel_bytes = surge_sign_bytes(g), pixels = surge_band_pixels(g, in, pixel_bytes);
    size_t taps = (size_t)(g->kernel_height * g->kernel_width), of_tap = (size_t)surge_words(g) * 4;
    size_t n_kinds = surge_kinds(g->kernel_height, shape.height) * surge_kinds(g->kernel_width, shape.width);
    int32_t *steps = (int32_t *)surge_take(&rest, taps * of_tap * 4);
    int32_t *offsets = (int32_t *)surge_take(&rest, (pixels + SURGE_PIXELS) * 4);
    uint32_t *words = (uint32_t *)surge_take(&rest, pixels * pixel_bytes + 64);
    int32_t *kind_of = (int32_t *)surge_take(&rest, (pixels + SURGE_PIXELS) * 4);
    surge_border *kinds = (surge_border *)surge_take(&rest, n_kinds * sizeof *kinds);
    surge_binary_kernels kernels = surge_pick_binary(taps * of_tap * 8);
    surge_binary_job job;
    surge_target t = surge_new_target(g, &l->epilogue, call, part);
    int band = surge_band_rows(g, in, pixel_bytes), blocks = surge_blocks(g);
    job.geometry = g;
    job.thresholds = l->thresholds;
    job.windows.steps = steps;
    job.windows.n_steps = kernels.steps(g, in, steps);
    job.block_bytes = taps * of_tap * SURGE_ROW;
    job.windows.offsets = offsets;
    job.kinds = kinds;
    job.kind_of = kind_of;
    job.corrects = l->pad_value == 0 && surge_pads(g);
    job.words = words;
    job.row_words = (ptrdiff_t)surge_padded_width(g, in) * (ptrdiff_t)(pixel_bytes / 4);
    job.base = (int32_t *)surge_take(&rest, n_kinds * SURGE_ROW * SURGE_BLOCKS * 4);
    job.tap_counts = (int32_t *)surge_take(&rest, taps * SURGE_ROW * SURGE_BLOCKS * 4);
    job.derived = (unsigned char *)surge_take(&rest, surge_derived_bytes(g, in));
    job.scratch = rest;
    for (int first = part.first_row; first < part.end_row; first += band) {
        int rows = first + band < part.end_row ? band : part.end_row - first;
        int in_rows = (rows - 1) * g->stride_y + surge_extent(g);
        const unsigned char *w = (const unsigned char *)l->weights + (size_t)(part.channel / SURGE_ROW) * job.block_bytes;
        job.windows.pixels = rows * shape.width;
        surge_pack_rows(l, kernels.pack, in, call->x, call->bits, first * g->stride_y - g->pad_top, in_rows, words);
        surge_offsets(g, in, rows, pixel_bytes, offsets);
        job.n_kinds = surge_find_borders(g, in, first, rows, kind_of, kinds);
        job.n_words = (size_t)in_rows * (size_t)surge_padded_width(g, in) * pixel_bytes / 4;
        if (kernels.derive) kernels.derive(&job);
        for (int group = 0; group < g->groups; group++, w += (size_t)blocks * job.block_bytes) {
            job.windows.map = (const unsigned char *)words + (size_t)group * of_tap;
            kernels.group(&job, w, &t, part.channel + group * part.outs, part.outs);
        }
        surge_advance(&t, (size_t)(rows * shape.width));
    }
}

static inline void surge_binary(
    surge_team *team, const surge_binary_layer *l, surge_shape in, const float *x, const uint32_t *bits,
    const float *shortcut, float *out, const float *out_shift, uint32_t *out_bits, void *workspace)
{
    const surge_call call = {l, in, x, bits, shortcut, out, out_shift, out_bits};
    surge_divide_layer(team, surge_compute_binary, &l->geometry, &call, 8000000, workspace);
}
