/* Binary convolution by vectors of 16 bytes: a byte counts for one filter, of the eight signs that are read at a step. */
#define SURGE_FEW 4 /* output pixels of a tile */
#define SURGE_EACH_OF_FEW(step) step(0) step(1) step(2) step(3)

/* For output pixel p of a tile: its counts of two blocks of filters, a step, and its counts of 16 bits. */
#define SURGE_BEGIN(p) SURGE_COUNTS a##p = SURGE_NO_COUNTS, b##p = a##p;
#define SURGE_COUNT(p)                                                             \
    splat = SURGE_SPLAT_BYTE(x[p] + step);                                         \
    a##p = SURGE_ADD_COUNTS(a##p, SURGE_POPCOUNTS(SURGE_XOR(splat, w0)));          \
    if (two) b##p = SURGE_ADD_COUNTS(b##p, SURGE_POPCOUNTS(SURGE_XOR(splat, w1)));
#define SURGE_END(p)                                       \
    SURGE_OF(surge_widen)(a##p, counts + p * 2 * SURGE_ROW); \
    if (two) SURGE_OF(surge_widen)(b##p, counts + p * 2 * SURGE_ROW + SURGE_ROW);

/* Counts of SURGE_FEW output pixels for one or two blocks of filters: (pixels, 2, SURGE_ROW). b: weights of the second. */
SURGE_INLINE void SURGE_OF(surge_binary_tile)(
    const int two, const surge_windows *n, int pixel, const unsigned char *w, const unsigned char *b, uint16_t *counts)
{
    const unsigned char *x[SURGE_FEW];
    SURGE_COUNTS splat, w0, w1;
    for (int p = 0; p < SURGE_FEW; p++) x[p] = n->map + n->offsets[pixel + p];
    memset(counts, 0, SURGE_FEW * 2 * SURGE_ROW * sizeof *counts);
    for (int first = 0; first < n->n_steps; first += 31) { /* a byte counts to 31 * 8 */
        int last = first + 31 < n->n_steps ? first + 31 : n->n_steps;
        SURGE_EACH_OF_FEW(SURGE_BEGIN)
        for (int s = first; s < last; s++, w += SURGE_ROW, b += SURGE_ROW) {
            ptrdiff_t step = n->steps[s];
            w0 = SURGE_LOAD_COUNTS(w);
            w1 = two ? SURGE_LOAD_COUNTS(b) : w0;
            SURGE_EACH_OF_FEW(SURGE_COUNT)
        }
        SURGE_EACH_OF_FEW(SURGE_END)
    }
}
#undef SURGE_BEGIN
#undef SURGE_COUNT
#undef SURGE_END
#undef SURGE_EACH_OF_FEW

/* Write the popcounts of each tap. */
static inline void SURGE_OF(surge_count_taps)(int taps, int of_tap, const unsigned char *w, int32_t *counts)
{
    for (int tap = 0; tap < taps; tap++, counts += SURGE_ROW) {
        uint16_t total[SURGE_ROW] = {0};
        for (int s = 0; s < of_tap; s++, w += SURGE_ROW) SURGE_OF(surge_widen)(SURGE_POPCOUNTS(SURGE_LOAD_COUNTS(w)), total);
        for (int k = 0; k < SURGE_ROW; k++) counts[k] = total[k];
    }
}

/* As surge_binary_group_plain. */
static inline void SURGE_OF(surge_binary_group)(
    const surge_binary_job *job, const unsigned char *w, const surge_target *t, int channel, int outs)
{
    const surge_geometry *g = job->geometry;
    const surge_windows *n = &job->windows;
    const int taps = g->kernel_height * g->kernel_width, of_tap = surge_words(g) * 4;
    for (; outs > 0; outs -= 2 * SURGE_ROW, channel += 2 * SURGE_ROW, w += 2 * job->block_bytes) {
        const int blocks = outs > SURGE_ROW ? 2 : 1;
        surge_table tables[2];
        uint16_t counts[SURGE_FEW * 2 * SURGE_ROW];
        float sums[SURGE_FEW * SURGE_ROW];
        for (int i = 0; i < blocks; i++) {
            surge_fill_table(t, channel + i * SURGE_ROW, surge_count(outs - i * SURGE_ROW), tables + i);
            if (job->corrects)
                SURGE_OF(surge_count_taps)(taps, of_tap, w + (size_t)i * job->block_bytes, job->tap_counts + i * taps * SURGE_ROW);
            SURGE_OF(surge_fill_base)(job, i);
        }
        for (int pixel = 0; pixel < n->pixels; pixel += SURGE_FEW) {
            const int pixels = n->pixels - pixel < SURGE_FEW ? n->pixels - pixel : SURGE_FEW;
            if (blocks == 1) SURGE_OF(surge_binary_tile)(0, n, pixel, w, w, counts);
            if (blocks == 2) SURGE_OF(surge_binary_tile)(1, n, pixel, w, w + job->block_bytes, counts);
            for (int i = 0; i < blocks; i++) {
                for (int p = 0; p < pixels; p++)
                    for (int k = 0; k < SURGE_ROW; k += 4) {
                        const int32_t *base = job->base + (i * job->n_kinds + job->kind_of[pixel + p]) * SURGE_ROW + k;
                        SURGE_INTS twice = SURGE_TWICE(counts + (2 * p + i) * SURGE_ROW + k);
                        SURGE_STORE(sums + p * SURGE_ROW + k, SURGE_TO_FLOATS(SURGE_SUB_INT(SURGE_LOAD_INTS(base), twice)));
                    }
                SURGE_OF(surge_finish)(
                    t, tables + i, sums, SURGE_ROW, pixel, pixels, channel + i * SURGE_ROW, surge_count(outs - i * SURGE_ROW));
            }
        }
    }
}
#undef SURGE_FEW
