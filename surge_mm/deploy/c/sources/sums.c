/* Sums of a convolution by vectors: of a tile of a few output pixels times a few blocks of filters, kept in registers.
 *
 *     S[p, f] = first[f] + sum over steps s of x[offset[p] + step[s]] w[s, f]
 *
 * Of bytes, each x and w are four of them. For a filter per channel, x are the channels of the pixel.
 */
#define SURGE_WEIGHT_AT(v) w + (size_t)(v / SURGE_REGISTERS) * block + v % SURGE_REGISTERS * SURGE_LANES * SURGE_OF_WEIGHT
#if SURGE_OF_BYTES
#define SURGE_FIRST_PIXELS(step) SURGE_FIRST_HALF_OF_BYTES(step)
#define SURGE_OTHER_PIXELS(step) SURGE_OTHER_HALF_OF_BYTES(step)
#define SURGE_NAME(name) SURGE_OF(name##_int8)
#define SURGE_PER_TILE SURGE_BYTES_TILE
#define SURGE_SUM SURGE_INTS
#define SURGE_WEIGHT int8_t
#define SURGE_OF_WEIGHT 4 /* numbers of a filter at a step */
#define SURGE_FIRST_SUM(first, i) SURGE_ZEROS
#define SURGE_SPLAT_AT(p) SURGE_SPLAT_INT(surge_four_bytes(p))
#define SURGE_LOAD_WEIGHT(p) SURGE_LOAD_INTS(p)
#define SURGE_ACCUMULATE(sum, x, w) SURGE_ADD_BYTES(sum, x, w)
#define SURGE_OF_CHANNEL sizeof(uint8_t)
#define SURGE_LOAD_CHANNELS(p) SURGE_LOAD_UINT8(p)
#define SURGE_LOAD_CHANNEL_WEIGHTS(p) SURGE_LOAD_INT8(p)
#define SURGE_ACCUMULATE_CHANNELS(sum, x, w) SURGE_ADD_INTS(sum, x, w)
#define SURGE_SUM_TO_FLOATS(sum) SURGE_TO_FLOATS(sum)
#else
#define SURGE_FIRST_PIXELS(step) SURGE_FIRST_HALF(step)
#define SURGE_OTHER_PIXELS(step) SURGE_OTHER_HALF(step)
#define SURGE_NAME(name) SURGE_OF(name##_float)
#define SURGE_PER_TILE SURGE_TILE
#define SURGE_SUM SURGE_FLOATS
#define SURGE_WEIGHT float
#define SURGE_OF_WEIGHT 1
#define SURGE_FIRST_SUM(first, i) SURGE_LOAD((first) + (i))
#define SURGE_SPLAT_AT(p) SURGE_SPLAT(*(const float *)(const void *)(p))
#define SURGE_LOAD_WEIGHT(p) SURGE_LOAD(p)
#define SURGE_ACCUMULATE(sum, x, w) SURGE_ADD_PRODUCT(sum, x, w)
#define SURGE_OF_CHANNEL sizeof(float)
#define SURGE_LOAD_CHANNELS(p) SURGE_LOAD((const float *)(const void *)(p))
#define SURGE_LOAD_CHANNEL_WEIGHTS(p) SURGE_LOAD(p)
#define SURGE_ACCUMULATE_CHANNELS(sum, x, w) SURGE_ADD_PRODUCT(sum, x, w)
#define SURGE_SUM_TO_FLOATS(sum) (sum)
#endif

/* For output pixel p of a tile: its first sums, the products of a step, and its last sums. Sums are variables, not arrays,
 * which compilers would keep in memory. columns: vectors of filters.
 */
#define SURGE_BEGIN(p)                                                                  \
    const unsigned char *x##p = n->map + n->offsets[pixel + p];                         \
    SURGE_SUM s##p##0 = SURGE_FIRST_SUM(first, 0), s##p##1 = s##p##0, s##p##2 = s##p##0, s##p##3 = s##p##0; \
    if (columns > 1) s##p##1 = SURGE_FIRST_SUM(first, SURGE_LANES);                     \
    if (columns > 2) s##p##2 = SURGE_FIRST_SUM(first, 2 * SURGE_LANES);                 \
    if (columns > 3) s##p##3 = SURGE_FIRST_SUM(first, 3 * SURGE_LANES);
#define SURGE_STEP(p)                                              \
    splat = SURGE_SPLAT_AT(x##p + step);                           \
    s##p##0 = SURGE_ACCUMULATE(s##p##0, splat, w0);                \
    if (columns > 1) s##p##1 = SURGE_ACCUMULATE(s##p##1, splat, w1); \
    if (columns > 2) s##p##2 = SURGE_ACCUMULATE(s##p##2, splat, w2); \
    if (columns > 3) s##p##3 = SURGE_ACCUMULATE(s##p##3, splat, w3);
#define SURGE_END(p)                                                                   \
    SURGE_STORE(sums, SURGE_SUM_TO_FLOATS(s##p##0));                                   \
    if (columns > 1) SURGE_STORE(sums + SURGE_LANES, SURGE_SUM_TO_FLOATS(s##p##1));     \
    if (columns > 2) SURGE_STORE(sums + 2 * SURGE_LANES, SURGE_SUM_TO_FLOATS(s##p##2)); \
    if (columns > 3) SURGE_STORE(sums + 3 * SURGE_LANES, SURGE_SUM_TO_FLOATS(s##p##3)); \
    sums += columns * SURGE_LANES;

/* whole: whether all pixels of the tile are computed, or half of them. block: numbers from a block of weights to the next. */
SURGE_INLINE SURGE_TARGET void SURGE_NAME(surge_tile)(
    const int blocks, const int whole, const surge_windows *n, int pixel, const SURGE_WEIGHT *w, size_t block,
    const float *first, float *sums)
{
    const int columns = blocks * SURGE_REGISTERS;
    (void)first;
    SURGE_FIRST_PIXELS(SURGE_BEGIN)
    SURGE_OTHER_PIXELS(SURGE_BEGIN)
    for (int s = 0; s < n->n_steps; s++, w += SURGE_ROW * SURGE_OF_WEIGHT) {
        ptrdiff_t step = n->steps[s];
        SURGE_SUM splat, w0 = SURGE_LOAD_WEIGHT(w), w1 = w0, w2 = w0, w3 = w0;
        if (columns > 1) w1 = SURGE_LOAD_WEIGHT(SURGE_WEIGHT_AT(1));
        if (columns > 2) w2 = SURGE_LOAD_WEIGHT(SURGE_WEIGHT_AT(2));
        if (columns > 3) w3 = SURGE_LOAD_WEIGHT(SURGE_WEIGHT_AT(3));
        SURGE_HIDE(step);
        SURGE_FIRST_PIXELS(SURGE_STEP)
        if (whole) {
            SURGE_OTHER_PIXELS(SURGE_STEP)
        }
    }
    SURGE_FIRST_PIXELS(SURGE_END)
    if (whole) {
        SURGE_OTHER_PIXELS(SURGE_END)
    }
}

/* Outputs of all filters of a group, from channel `channel` on. */
SURGE_TARGET static inline void SURGE_NAME(surge_group)(
    const surge_windows *n, const SURGE_WEIGHT *w, const float *bias, const surge_target *t, int channel, int outs)
{
    float sums[SURGE_PIXELS * SURGE_TILE_BLOCKS * SURGE_ROW], first[SURGE_TILE_BLOCKS * SURGE_ROW];
    surge_table tables[SURGE_TILE_BLOCKS];
    size_t block = (size_t)n->n_steps * SURGE_ROW * SURGE_OF_WEIGHT;
    while (outs > 0) {
        int blocks = 0, done = 0, counts[SURGE_TILE_BLOCKS] = {0};
        for (; blocks < SURGE_TILE_BLOCKS && done < outs; blocks++, done += SURGE_ROW) {
            counts[blocks] = outs - done < SURGE_ROW ? outs - done : SURGE_ROW;
            surge_fill_table(t, channel + done, counts[blocks], tables + blocks);
            surge_row(first + done, bias, channel + done, counts[blocks], 0.0f);
        }
        for (int pixel = 0; pixel < n->pixels; pixel += SURGE_PER_TILE) {
            int pixels = n->pixels - pixel < SURGE_PER_TILE ? n->pixels - pixel : SURGE_PER_TILE;
            const int whole = 2 * pixels > SURGE_PER_TILE;
            if (blocks == 1 && whole) SURGE_NAME(surge_tile)(1, 1, n, pixel, w, block, first, sums);
            if (blocks == 1 && !whole) SURGE_NAME(surge_tile)(1, 0, n, pixel, w, block, first, sums);
#if SURGE_TILE_BLOCKS == 3
            if (blocks == 2 && whole) SURGE_NAME(surge_tile)(2, 1, n, pixel, w, block, first, sums);
            if (blocks == 2 && !whole) SURGE_NAME(surge_tile)(2, 0, n, pixel, w, block, first, sums);
            if (blocks == 3 && whole) SURGE_NAME(surge_tile)(3, 1, n, pixel, w, block, first, sums);
            if (blocks == 3 && !whole) SURGE_NAME(surge_tile)(3, 0, n, pixel, w, block, first, sums);
#endif
            for (int i = 0; i < blocks; i++)
                SURGE_OF(surge_finish)(
                    t, tables + i, sums + i * SURGE_ROW, blocks * SURGE_ROW, pixel, pixels, channel + i * SURGE_ROW, counts[i]);
        }
        channel += done;
        outs -= done;
        w += (size_t)blocks * block;
    }
}

/* Outputs of 16 channels with a filter per channel. w: (steps, all channels). */
SURGE_TARGET static inline void SURGE_NAME(surge_depthwise)(
    const surge_windows *n, const SURGE_WEIGHT *w, const float *bias, const surge_target *t, int channel)
{
    float sums[4 * SURGE_ROW], first[SURGE_ROW];
    surge_table table;
    surge_row(first, bias, channel, SURGE_ROW, 0.0f);
    surge_fill_table(t, channel, SURGE_ROW, &table);
    for (int pixel = 0; pixel < n->pixels; pixel += 4) {
        for (int i = 0; i < SURGE_ROW; i += SURGE_LANES) {
            SURGE_SUM sum[4];
            const unsigned char *x[4];
            const SURGE_WEIGHT *weight = w + channel + i;
            SURGE_UNROLL
            for (int p = 0; p < 4; p++) {
                x[p] = n->map + n->offsets[pixel + p] + (size_t)(channel + i) * SURGE_OF_CHANNEL;
                sum[p] = SURGE_FIRST_SUM(first, i);
            }
            for (int s = 0; s < n->n_steps; s++, weight += t->channels) {
                SURGE_SUM of_step = SURGE_LOAD_CHANNEL_WEIGHTS(weight);
                SURGE_UNROLL
                for (int p = 0; p < 4; p++)
                    sum[p] = SURGE_ACCUMULATE_CHANNELS(sum[p], SURGE_LOAD_CHANNELS(x[p] + n->steps[s]), of_step);
            }
            SURGE_UNROLL
            for (int p = 0; p < 4; p++) SURGE_STORE(sums + p * SURGE_ROW + i, SURGE_SUM_TO_FLOATS(sum[p]));
        }
        SURGE_OF(surge_finish)(
            t, &table, sums, SURGE_ROW, pixel, n->pixels - pixel < 4 ? n->pixels - pixel : 4, channel, SURGE_ROW);
    }
}
#undef SURGE_WEIGHT_AT
#undef SURGE_FIRST_PIXELS
#undef SURGE_OTHER_PIXELS
#undef SURGE_BEGIN
#undef SURGE_STEP
#undef SURGE_END
#undef SURGE_NAME
#undef SURGE_PER_TILE
#undef SURGE_SUM
#undef SURGE_WEIGHT
#undef SURGE_OF_WEIGHT
#undef SURGE_FIRST_SUM
#undef SURGE_SPLAT_AT
#undef SURGE_LOAD_WEIGHT
#undef SURGE_ACCUMULATE
#undef SURGE_OF_CHANNEL
#undef SURGE_LOAD_CHANNELS
#undef SURGE_LOAD_CHANNEL_WEIGHTS
#undef SURGE_ACCUMULATE_CHANNELS
#undef SURGE_SUM_TO_FLOATS
