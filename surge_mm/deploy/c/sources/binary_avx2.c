/* Binary convolution by AVX2: a byte of a vector counts for one filter. The bits of four channels that differ are looked
 * up: for four signs of a pixel, row x of the table has popcount(x ^ w) for each w, four signs of a filter.
 */

static const unsigned char surge_differing[16][16] __attribute__((aligned(16))) = {
    {0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4}, {1, 0, 2, 1, 2, 1, 3, 2, 2, 1, 3, 2, 3, 2, 4, 3},
    {1, 2, 0, 1, 2, 3, 1, 2, 2, 3, 1, 2, 3, 4, 2, 3}, {2, 1, 1, 0, 3, 2, 2, 1, 3, 2, 2, 1, 4, 3, 3, 2},
    {1, 2, 2, 3, 0, 1, 1, 2, 2, 3, 3, 4, 1, 2, 2, 3}, {2, 1, 3, 2, 1, 0, 2, 1, 3, 2, 4, 3, 2, 1, 3, 2},
    {2, 3, 1, 2, 1, 2, 0, 1, 3, 4, 2, 3, 2, 3, 1, 2}, {3, 2, 2, 1, 2, 1, 1, 0, 4, 3, 3, 2, 3, 2, 2, 1},
    {1, 2, 2, 3, 2, 3, 3, 4, 0, 1, 1, 2, 1, 2, 2, 3}, {2, 1, 3, 2, 3, 2, 4, 3, 1, 0, 2, 1, 2, 1, 3, 2},
    {2, 3, 1, 2, 3, 4, 2, 3, 1, 2, 0, 1, 2, 3, 1, 2}, {3, 2, 2, 1, 4, 3, 3, 2, 2, 1, 1, 0, 3, 2, 2, 1},
    {2, 3, 3, 4, 1, 2, 2, 3, 1, 2, 2, 3, 0, 1, 1, 2}, {3, 2, 4, 3, 2, 1, 3, 2, 2, 1, 3, 2, 1, 0, 2, 1},
    {3, 4, 2, 3, 2, 3, 1, 2, 2, 3, 1, 2, 1, 2, 0, 1}, {4, 3, 3, 2, 3, 2, 2, 1, 3, 2, 2, 1, 2, 1, 1, 0}};

/* Write the place of the row of the table for each four signs of the map: two bytes for a byte. */
SURGE_TARGET static inline void surge_derive_avx2(const surge_binary_job *job)
{
    const unsigned char *x = (const unsigned char *)job->words;
    const __m128i high = _mm_set1_epi8((char)0xF0);
    for (size_t i = 0; i < job->n_words * 4; i += 16) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)(x + i));
        __m128i first = _mm_and_si128(_mm_slli_epi16(bytes, 4), high), second = _mm_and_si128(bytes, high);
        _mm_storeu_si128((__m128i *)(void *)(job->derived + 2 * i), _mm_unpacklo_epi8(first, second));
        _mm_storeu_si128((__m128i *)(void *)(job->derived + 2 * i + 16), _mm_unpackhi_epi8(first, second));
    }
}

/* Steps of bytes, in the derived map. */
SURGE_TARGET static inline int surge_binary_steps_avx2(const surge_geometry *g, surge_shape in, int32_t *steps)
{
    int n = surge_binary_steps_plain(g, in, steps);
    for (int i = 0; i < n; i++) steps[i] *= 2;
    return n;
}

SURGE_INLINE SURGE_TARGET __m256i surge_two_blocks(const unsigned char *a, const unsigned char *b)
{
    __m128i first = _mm_loadu_si128((const __m128i *)(const void *)a);
    return _mm256_inserti128_si256(_mm256_castsi128_si256(first), _mm_loadu_si128((const __m128i *)(const void *)b), 1);
}

/* Write four signs of 32 filters of two blocks, then the next four, for each step. */
SURGE_TARGET static inline void surge_split_avx2(
    int n_steps, const unsigned char *a, const unsigned char *b, unsigned char *to, size_t stride)
{
    const __m256i low = _mm256_set1_epi8(15);
    for (int s = 0; s < n_steps; s++, a += SURGE_ROW, b += SURGE_ROW, to += stride) {
        __m256i bytes = surge_two_blocks(a, b);
        _mm256_storeu_si256((__m256i *)(void *)to, _mm256_and_si256(bytes, low));
        _mm256_storeu_si256((__m256i *)(void *)(to + 32), _mm256_and_si256(_mm256_srli_epi16(bytes, 4), low));
    }
}

#define SURGE_FEW 4 /* output pixels of a tile */
#define SURGE_EACH_OF_FEW(step) step(0) step(1) step(2) step(3)

/* For output pixel p of a tile: its counts, its byte of two vectors of filters, and its counts of 16 bits. */
#define SURGE_BEGIN(p) __m256i a##p = _mm256_setzero_si256(), b##p = a##p;
#define SURGE_COUNT(p)                                                                            \
    row = surge_differing[0] + x##p[step];                                                       \
    table = _mm256_broadcastsi128_si256(_mm_load_si128((const __m128i *)(const void *)row));     \
    a##p = _mm256_add_epi8(a##p, _mm256_shuffle_epi8(table, w0));                                \
    if (vectors > 1) b##p = _mm256_add_epi8(b##p, _mm256_shuffle_epi8(table, w1));
#define SURGE_END(p)                                          \
    surge_widen_avx2(a##p, total + 4 * p);                    \
    if (vectors > 1) surge_widen_avx2(b##p, total + 4 * p + 2);

SURGE_INLINE SURGE_TARGET void surge_widen_avx2(__m256i count, __m256i *total)
{
    total[0] = _mm256_add_epi16(total[0], _mm256_unpacklo_epi8(count, _mm256_setzero_si256()));
    total[1] = _mm256_add_epi16(total[1], _mm256_unpackhi_epi8(count, _mm256_setzero_si256()));
}

/* Counts of SURGE_FEW output pixels for 32 or 64 filters: (pixels, filters). */
SURGE_INLINE SURGE_TARGET void surge_binary_tile_avx2(
    const int vectors, const unsigned char *const *x, const int32_t *steps, int n_steps, const unsigned char *w, uint16_t *counts)
{
    const unsigned char *x0 = x[0], *x1 = x[1], *x2 = x[2], *x3 = x[3], *row;
    __m256i total[4 * SURGE_FEW], table, w0, w1;
    for (int i = 0; i < 4 * SURGE_FEW; i++) total[i] = _mm256_setzero_si256();
    for (int first = 0; first < n_steps; first += 31) { /* a byte counts to 31 * 8 */
        int last = first + 31 < n_steps ? first + 31 : n_steps;
        SURGE_EACH_OF_FEW(SURGE_BEGIN)
        for (int s = first; s < last; s++, w += 64 * vectors) {
            ptrdiff_t step = steps[s];
            SURGE_HIDE(step);
            w0 = _mm256_loadu_si256((const __m256i *)(const void *)w);
            w1 = vectors > 1 ? _mm256_loadu_si256((const __m256i *)(const void *)(w + 64)) : w0;
            SURGE_EACH_OF_FEW(SURGE_COUNT)
            step++;
            SURGE_HIDE(step);
            w0 = _mm256_loadu_si256((const __m256i *)(const void *)(w + 32));
            w1 = vectors > 1 ? _mm256_loadu_si256((const __m256i *)(const void *)(w + 96)) : w0;
            SURGE_EACH_OF_FEW(SURGE_COUNT)
        }
        SURGE_EACH_OF_FEW(SURGE_END)
    }
    for (int p = 0; p < SURGE_FEW; p++)
        for (int v = 0; v < vectors; v++) {
            __m256i a = total[4 * p + 2 * v], b = total[4 * p + 2 * v + 1];
            __m256i *to = (__m256i *)(void *)(counts + p * 32 * vectors + 32 * v);
            _mm256_storeu_si256(to, _mm256_permute2x128_si256(a, b, 0x20));
            _mm256_storeu_si256(to + 1, _mm256_permute2x128_si256(a, b, 0x31));
        }
}
#undef SURGE_BEGIN
#undef SURGE_COUNT
#undef SURGE_END
#undef SURGE_EACH_OF_FEW

/* Write the popcounts of each tap, from the weights of two blocks as surge_split_avx2 has written them. */
SURGE_TARGET static inline void surge_count_taps_avx2(
    int taps, int of_tap, const unsigned char *w, size_t stride, int32_t *a, int32_t *b)
{
    const __m256i table = _mm256_broadcastsi128_si256(_mm_load_si128((const __m128i *)(const void *)surge_differing[0]));
    for (int tap = 0; tap < taps; tap++, a += SURGE_ROW, b += SURGE_ROW) {
        __m256i even = _mm256_setzero_si256(), odd = even; /* counts of 16 bits: of even and of odd filters */
        for (int s = 0; s < of_tap; s++, w += stride) {
            __m256i first = _mm256_loadu_si256((const __m256i *)(const void *)w);
            __m256i second = _mm256_loadu_si256((const __m256i *)(const void *)(w + 32));
            __m256i count = _mm256_add_epi8(_mm256_shuffle_epi8(table, first), _mm256_shuffle_epi8(table, second));
            even = _mm256_add_epi16(even, _mm256_and_si256(count, _mm256_set1_epi16(255)));
            odd = _mm256_add_epi16(odd, _mm256_srli_epi16(count, 8));
        }
        SURGE_UNROLL
        for (int half = 0; half < 2; half++) {
            __m256i of_two = half ? _mm256_unpackhi_epi16(even, odd) : _mm256_unpacklo_epi16(even, odd);
            __m256i of_a = _mm256_cvtepu16_epi32(_mm256_castsi256_si128(of_two));
            __m256i of_b = _mm256_cvtepu16_epi32(_mm256_extracti128_si256(of_two, 1));
            _mm256_storeu_si256((__m256i *)(void *)(a + 8 * half), of_a);
            _mm256_storeu_si256((__m256i *)(void *)(b + 8 * half), of_b);
        }
    }
}

/* Sums of 16 filters of an output pixel. */
SURGE_TARGET static inline void surge_sums_avx2(const int32_t *base, const uint16_t *counts, float *sums)
{
    SURGE_UNROLL
    for (int i = 0; i < SURGE_ROW; i += 8) {
        __m256i count = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)(counts + i)));
        __m256i all = _mm256_loadu_si256((const __m256i *)(const void *)(base + i));
        _mm256_storeu_ps(sums + i, _mm256_cvtepi32_ps(_mm256_sub_epi32(all, _mm256_slli_epi32(count, 1))));
    }
}

/* As surge_binary_group_plain. */
SURGE_TARGET static inline void surge_binary_group_avx2(
    const surge_binary_job *job, const unsigned char *w, const surge_target *t, int channel, int outs)
{
    const surge_geometry *g = job->geometry;
    const surge_windows *n = &job->windows;
    const int taps = g->kernel_height * g->kernel_width, of_tap = surge_words(g) * 4;
    const size_t block = job->block_bytes, map = (size_t)(n->map - (const unsigned char *)job->words);
    while (outs > 0) {
        int blocks = (outs + SURGE_ROW - 1) / SURGE_ROW < SURGE_BLOCKS ? (outs + SURGE_ROW - 1) / SURGE_ROW : SURGE_BLOCKS;
        int vectors = (blocks + 1) / 2;
        surge_table tables[SURGE_BLOCKS];
        uint16_t counts[SURGE_FEW * SURGE_BLOCKS * SURGE_ROW];
        float sums[SURGE_FEW * SURGE_ROW];
        for (int v = 0; v < vectors; v++) {
            const unsigned char *a = w + (size_t)(2 * v) * block, *b = 2 * v + 1 < blocks ? a + block : a;
            int32_t *of_a = job->tap_counts + 2 * v * taps * SURGE_ROW;
            surge_split_avx2(n->n_steps, a, b, job->scratch + 64 * v, (size_t)(64 * vectors));
            if (job->corrects)
                surge_count_taps_avx2(
                    taps, of_tap, job->scratch + 64 * v, (size_t)(64 * vectors), of_a, of_a + taps * SURGE_ROW);
        }
        for (int i = 0; i < blocks; i++) {
            surge_fill_table(t, channel + i * SURGE_ROW, surge_count(outs - i * SURGE_ROW), tables + i);
            surge_fill_base_avx2(job, i);
        }
        for (int pixel = 0; pixel < n->pixels; pixel += SURGE_FEW) {
            int pixels = n->pixels - pixel < SURGE_FEW ? n->pixels - pixel : SURGE_FEW;
            const unsigned char *x[SURGE_FEW];
            for (int p = 0; p < SURGE_FEW; p++) x[p] = job->derived + 2 * (map + (size_t)n->offsets[pixel + p]);
            if (vectors == 1) surge_binary_tile_avx2(1, x, n->steps, n->n_steps, job->scratch, counts);
            if (vectors == 2) surge_binary_tile_avx2(2, x, n->steps, n->n_steps, job->scratch, counts);
            for (int i = 0; i < blocks; i++) {
                for (int p = 0; p < pixels; p++)
                    surge_sums_avx2(
                        job->base + (i * job->n_kinds + job->kind_of[pixel + p]) * SURGE_ROW,
                        counts + p * 32 * vectors + i * SURGE_ROW, sums + p * SURGE_ROW);
                surge_finish_avx2(
                    t, tables + i, sums, SURGE_ROW, pixel, pixels, channel + i * SURGE_ROW, surge_count(outs - i * SURGE_ROW));
            }
        }
        outs -= blocks * SURGE_ROW;
        channel += blocks * SURGE_ROW;
        w += (size_t)blocks * block;
    }
}
#undef SURGE_FEW
