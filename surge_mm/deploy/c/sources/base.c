/* As surge_fill_base. */
SURGE_TARGET static inline void SURGE_OF(surge_fill_base)(const surge_binary_job *job, int block)
{
    const surge_geometry *g = job->geometry;
    const int channels = g->in_channels / g->groups, taps = g->kernel_height * g->kernel_width;
    for (int r = 0; r < SURGE_ROW; r += SURGE_LANES) {
        int32_t *base = job->base + block * job->n_kinds * SURGE_ROW + r;
        for (const surge_border *kind = job->kinds; kind < job->kinds + job->n_kinds; kind++, base += SURGE_ROW) {
            const int32_t *counts = job->tap_counts + block * taps * SURGE_ROW + r;
            SURGE_INTS differing = SURGE_ZEROS;
            int all = channels * taps;
            for (int i = 0; i < g->kernel_height && job->corrects; i++)
                for (int j = 0; j < g->kernel_width; j++, counts += SURGE_ROW)
                    if (surge_is_outside(g, kind, i, j)) {
                        differing = SURGE_ADD_INT(differing, SURGE_LOAD_INTS(counts));
                        all -= channels;
                    }
            SURGE_STORE_INTS(base, SURGE_ADD_INT(SURGE_SPLAT_INT(all), SURGE_ADD_INT(differing, differing)));
        }
    }
}
