/* Binary convolution by AVX-512: a lane has 32 channels of a filter. With a kernel three wide, three words of a row are
 * counted by two popcounts:
 *
 *     odd = x ^ x' ^ x'' ^ w ^ w' ^ w''          where 1 or 3 of the three bits differ
 *     two = (x ^ w, x' ^ w', x'' ^ w'') has two or three ones
 *     count = popcount(odd) + 2 popcount(two)
 */

/* Steps of words; with a kernel three wide, of those of its first column. */
SURGE_TARGET static inline int surge_binary_steps_avx512(const surge_geometry *g, surge_shape in, int32_t *steps)
{
    const int words = surge_words(g), column = g->dilation_x * g->groups * words;
    const int row = g->dilation_y * surge_padded_width(g, in) * g->groups * words;
    int n = 0;
    for (int i = 0; i < g->kernel_height; i++)
        for (int j = 0; j < (g->kernel_width == 3 ? 1 : g->kernel_width); j++)
            for (int word = 0; word < words; word++) steps[n++] = i * row + j * column + word;
    return n;
}

/* Write x ^ x' ^ x'' for each word of the map. */
SURGE_TARGET static inline void surge_derive_avx512(const surge_binary_job *job)
{
    const surge_geometry *g = job->geometry;
    size_t column = (size_t)(g->dilation_x * g->groups * surge_words(g));
    const uint32_t *x = job->words;
    uint32_t *to = (uint32_t *)(void *)job->derived;
    if (g->kernel_width != 3) return;
    for (size_t i = 0; i + 2 * column < job->n_words; i += 16) {
        __m512i a = _mm512_loadu_si512(x + i), b = _mm512_loadu_si512(x + i + column);
        _mm512_storeu_si512(to + i, _mm512_xor_si512(_mm512_xor_si512(a, b), _mm512_loadu_si512(x + i + 2 * column)));
    }
}

/* Write the words of a block of filters, 16 next to one another, in the order of the steps, and the popcounts of each tap.
 * With a kernel three wide, w, w' and w ^ w' ^ w'' follow one another.
 */
SURGE_TARGET static inline void surge_words_avx512(const surge_binary_job *job, const unsigned char *w, uint32_t *to)
{
    const surge_geometry *g = job->geometry;
    int taps = g->kernel_height * g->kernel_width, words = surge_words(g), threes = g->kernel_width == 3;
    __m512i order = _mm512_setzero_si512();
    for (int i = 0; i < 4; i++) /* byte 4 f + i is byte 16 i + f */
        order = _mm512_or_si512(
            order, _mm512_slli_epi32(
                       _mm512_add_epi32(
                           _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15), _mm512_set1_epi32(16 * i)),
                       (unsigned)(8 * i)));
    for (int tap = 0; tap < taps; tap++) {
        __m512i count = _mm512_setzero_si512();
        const int place = threes ? tap % 3 : 0;
        uint32_t *at = threes ? to + 16 * (tap / 3 * 3 * words + place) : to + 16 * tap * words;
        for (int i = 0; i < words; i++, w += 64, at += threes ? 48 : 16) {
            __m512i word = _mm512_permutexvar_epi8(order, _mm512_loadu_si512(w));
            count = _mm512_add_epi32(count, _mm512_popcnt_epi32(word));
            if (place == 2) word = _mm512_ternarylogic_epi32(word, _mm512_loadu_si512(at - 16), _mm512_loadu_si512(at - 32), 0x96);
            _mm512_storeu_si512(at, word);
        }
        _mm512_storeu_si512(job->tap_counts + tap * SURGE_ROW, count);
    }
}

/* For output pixel p of a tile: its counts, three words, one word, and its sums. */
#define SURGE_BEGIN(p)                                                                                        \
    const uint32_t *x##p = (const uint32_t *)(const void *)(job->windows.map + job->windows.offsets[pixel + p]); \
    __m512i count##p = _mm512_setzero_si512(), twos##p = count##p;
#define SURGE_THREE(p)                                                      \
    a = _mm512_xor_si512(_mm512_set1_epi32((int)x##p[first]), w0);          \
    b = _mm512_xor_si512(_mm512_set1_epi32((int)x##p[second]), w1);         \
    c = _mm512_xor_si512(_mm512_set1_epi32((int)x##p[odd]), w2);            \
    count##p = _mm512_add_epi32(count##p, _mm512_popcnt_epi32(c));          \
    a = _mm512_ternarylogic_epi32(a, b, c, 0xD4); /* (a & b) | ((a ^ b) & ~c) */ \
    twos##p = _mm512_add_epi32(twos##p, _mm512_popcnt_epi32(a));
#define SURGE_ONE(p)                                               \
    a = _mm512_xor_si512(_mm512_set1_epi32((int)x##p[first]), w0); \
    count##p = _mm512_add_epi32(count##p, _mm512_popcnt_epi32(a));
#define SURGE_END(p)                                                                      \
    a = _mm512_loadu_si512(job->base + job->kind_of[pixel + p] * SURGE_ROW);              \
    b = _mm512_slli_epi32(_mm512_add_epi32(count##p, _mm512_slli_epi32(twos##p, 1)), 1);  \
    _mm512_storeu_ps(sums + p * SURGE_ROW, _mm512_cvtepi32_ps(_mm512_sub_epi32(a, b)));

/* Sums of SURGE_TILE output pixels, or of half of them. threes: whether the kernel is three wide. */
SURGE_INLINE SURGE_TARGET void surge_binary_tile_avx512(
    const int threes, const int whole, const surge_binary_job *job, int pixel, const uint32_t *w, float *sums)
{
    const surge_geometry *g = job->geometry;
    const ptrdiff_t column = (ptrdiff_t)g->dilation_x * g->groups * surge_words(g);
    const ptrdiff_t to_odd = (const uint32_t *)(const void *)job->derived - job->words;
    const int n_steps = job->windows.n_steps;
    __m512i a, b, c, w0, w1, w2;
    SURGE_FIRST_HALF(SURGE_BEGIN)
    SURGE_OTHER_HALF(SURGE_BEGIN)
    for (int s = 0; s < n_steps && threes; s++, w += 48) {
        ptrdiff_t first = job->windows.steps[s], second = first + column, odd = first + to_odd;
        w0 = _mm512_loadu_si512(w);
        w1 = _mm512_loadu_si512(w + 16);
        w2 = _mm512_loadu_si512(w + 32);
        SURGE_HIDE(first);
        SURGE_HIDE(second);
        SURGE_HIDE(odd);
        SURGE_FIRST_HALF(SURGE_THREE)
        if (whole) {
            SURGE_OTHER_HALF(SURGE_THREE)
        }
    }
    for (int s = 0; s < n_steps && !threes; s++, w += 16) {
        ptrdiff_t first = job->windows.steps[s];
        w0 = _mm512_loadu_si512(w);
        SURGE_HIDE(first);
        SURGE_FIRST_HALF(SURGE_ONE)
        if (whole) {
            SURGE_OTHER_HALF(SURGE_ONE)
        }
    }
    SURGE_FIRST_HALF(SURGE_END)
    if (whole) {
        SURGE_OTHER_HALF(SURGE_END)
    }
}
#undef SURGE_BEGIN
#undef SURGE_THREE
#undef SURGE_ONE
#undef SURGE_END

/* As surge_binary_group_plain. */
SURGE_TARGET static inline void surge_binary_group_avx512(
    const surge_binary_job *job, const unsigned char *w, const surge_target *t, int channel, int outs)
{
    const surge_windows *n = &job->windows;
    uint32_t *words = (uint32_t *)(void *)job->scratch;
    for (; outs > 0; outs -= SURGE_ROW, channel += SURGE_ROW, w += job->block_bytes) {
        float sums[SURGE_TILE * SURGE_ROW];
        surge_table table;
        surge_fill_table(t, channel, surge_count(outs), &table);
        surge_words_avx512(job, w, words);
        surge_fill_base_avx512(job, 0);
        for (int pixel = 0; pixel < n->pixels; pixel += SURGE_TILE) {
            int pixels = n->pixels - pixel < SURGE_TILE ? n->pixels - pixel : SURGE_TILE;
            const int threes = job->geometry->kernel_width == 3, whole = 2 * pixels > SURGE_TILE;
            if (threes && whole) surge_binary_tile_avx512(1, 1, job, pixel, words, sums);
            if (threes && !whole) surge_binary_tile_avx512(1, 0, job, pixel, words, sums);
            if (!threes) surge_binary_tile_avx512(0, 1, job, pixel, words, sums);
            surge_finish_avx512(t, &table, sums, SURGE_ROW, pixel, pixels, channel, surge_count(outs));
        }
    }
}
