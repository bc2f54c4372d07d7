/* Binary convolution. For n pairs of signs, as bits, sum(s t) = n - 2 popcount(bits(s) ^ bits(t)). A bit is 1 for -1. */

static inline int surge_words(const surge_geometry *g)
{
    return (g->in_channels / g->groups + 31) / 32;
}

static inline size_t surge_sign_bytes(const surge_geometry *g)
{
    return (size_t)(g->groups * surge_words(g)) * 4;
}

static inline size_t surge_kinds(int kernel, int size)
{
    return surge_least((size_t)(2 * kernel + 1), (size_t)size);
}

/* How the windows of output pixels meet the border: taps that are outside on each side. */
typedef struct {
    int32_t top, bottom, left, right;
} surge_border;

/* Bytes beside those for the windows: borders of each output pixel, sums of each kind of border, and of each tap. */
static inline size_t surge_borders_workspace(const surge_geometry *g, surge_shape in)
{
    surge_shape shape = surge_output(g, in);
    size_t kinds = surge_kinds(g->kernel_height, shape.height) * surge_kinds(g->kernel_width, shape.width);
    size_t pixels = surge_band_pixels(g, in, surge_sign_bytes(g)) + SURGE_PIXELS;
    return surge_whole(pixels * 4) + surge_whole(kinds * sizeof(surge_border)) + surge_whole(kinds * SURGE_ROW * SURGE_BLOCKS * 4);
}

/* Kernels by vectors read another form of the map, of up to twice its size, and of the weights of four blocks. */
static inline size_t surge_derived_bytes(const surge_geometry *g, surge_shape in)
{
#ifndef SURGE_VECTORS
    (void)g, (void)in;
    return 0;
#else
    return surge_whole(2 * surge_band_pixels(g, in, surge_sign_bytes(g)) * surge_sign_bytes(g) + 64);
#endif
}

static inline size_t surge_scratch_bytes(size_t steps)
{
#ifndef SURGE_VECTORS
    (void)steps;
    return 0;
#else
    return surge_whole(steps * 8 * SURGE_ROW);
#endif
}

static inline size_t surge_binary_workspace(const surge_binary_layer *l, surge_shape in)
{
    const surge_geometry *g = &l->geometry;
    size_t taps = (size_t)(g->kernel_height * g->kernel_width), steps = taps * (size_t)surge_words(g) * 4;
    return surge_windows_workspace(g, in, surge_sign_bytes(g), steps) + surge_borders_workspace(g, in) +
           surge_whole(taps * SURGE_ROW * SURGE_BLOCKS * 4) + surge_derived_bytes(g, in) + surge_scratch_bytes(steps);
}

/* Write the signs of the channels of a pixel, each group from a new word on. A NaN keeps its sign, which sums lose on some
 * CPUs.
 */
static inline void surge_pack_pixel(const float *x, const float *shift, int groups, int channels, uint32_t *words)
{
    for (int group = 0; group < groups; group++)
        for (int first = 0; first < channels; first += 32) {
            float y[32];
            int count = channels - first < 32 ? channels - first : 32;
            for (int i = 0; i < count; i++, x++) {
                y[i] = shift && *x == *x ? *x + *shift : *x;
                shift += shift != NULL;
            }
            *words++ = surge_signs(y, count);
        }
}

/* Write the signs of consecutive pixels. */
typedef void surge_pack_function(const float *x, const float *shift, int groups, int channels, int pixels, uint32_t *words);

static inline void surge_pack_plain(const float *x, const float *shift, int groups, int channels, int pixels, uint32_t *words)
{
    int words_of_pixel = groups * ((channels + 31) / 32);
    for (int i = 0; i < pixels; i++, x += groups * channels, words += words_of_pixel)
        surge_pack_pixel(x, shift, groups, channels, words);
}

/* Write the signs of the padding. */
static inline void surge_pack_border(int pad_value, int groups, int channels, int pixels, uint32_t *words)
{
    for (int i = 0; i < pixels * groups; i++)
        for (int first = 0; first < channels; first += 32) {
            uint32_t all = channels - first < 32 ? (1u << (channels - first)) - 1u : 0xFFFFFFFFu;
            *words++ = pad_value < 0 ? all : 0u;
        }
}

/* Write the signs of the input rows of a band with their padding, from row `first` on, which may be negative. */
static inline void surge_pack_rows(
    const surge_binary_layer *l, surge_pack_function *pack, surge_shape in, const float *x, const uint32_t *bits, int first,
    int rows, uint32_t *words)
{
    const surge_geometry *g = &l->geometry;
    int channels = g->in_channels / g->groups, n = g->groups * surge_words(g);
    for (int y = first; y < first + rows; y++) {
        if (y < 0 || y >= in.height) {
            surge_pack_border(l->pad_value, g->groups, channels, surge_padded_width(g, in), words);
            words += surge_padded_width(g, in) * n;
            continue;
        }
        surge_pack_border(l->pad_value, g->groups, channels, g->pad_left, words);
        words += g->pad_left * n;
        if (bits)
            memcpy(words, bits + (size_t)y * (size_t)(in.width * n), (size_t)(in.width * n) * sizeof *words);
        else
            pack(x + (size_t)y * (size_t)in.width * (size_t)in.channels, l->shift, g->groups, channels, in.width, words);
        words += in.width * n;
        surge_pack_border(l->pad_value, g->groups, channels, g->pad_right, words);
        words += g->pad_right * n;
    }
}

static inline int surge_outside(int first, int dilation, int kernel, int size, int32_t *after)
{
    int before = 0;
    *after = 0;
    for (int i = 0; i < kernel; i++) {
        int at = first + i * dilation;
        before += at < 0;
        *after += at >= size;
    }
    return before;
}

/* Write the kind of border of each output pixel of a band, and the kinds. Return their number. */
static inline int surge_find_borders(
    const surge_geometry *g, surge_shape in, int first_row, int rows, int32_t *kind_of, surge_border *kinds)
{
    int columns = surge_output(g, in).width, n = 0, of_row = 0, pixel = 0;
    surge_border b, row_before = {-1, -1, -1, -1};
    for (int row = 0; row < rows; row++) {
        b.top = surge_outside((first_row + row) * g->stride_y - g->pad_top, g->dilation_y, g->kernel_height, in.height, &b.bottom);
        if (b.top == row_before.top && b.bottom == row_before.bottom) {
            memcpy(kind_of + pixel, kind_of + pixel - columns, (size_t)columns * sizeof *kind_of);
            pixel += columns;
            continue;
        }
        row_before = b;
        of_row = n;
        for (int column = 0; column < columns; column++) {
            b.left = surge_outside(column * g->stride_x - g->pad_left, g->dilation_x, g->kernel_width, in.width, &b.right);
            if (n == of_row || b.left != kinds[n - 1].left || b.right != kinds[n - 1].right) kinds[n++] = b;
            kind_of[pixel++] = n - 1;
        }
    }
    for (int i = 0; i < SURGE_PIXELS - 1; i++) kind_of[pixel + i] = 0;
    return n;
}

/* What the kernels compute a block of filters from. */
typedef struct {
    const surge_geometry *geometry;
    surge_windows windows;
    size_t block_bytes;     /* of weights */
    const surge_border *kinds;
    int n_kinds;
    const int32_t *kind_of; /* kind of border of each output pixel */
    int corrects;           /* whether taps in the border count as 0 */
    int32_t *tap_counts;    /* weights of -1 of each tap, (SURGE_BLOCKS, taps, SURGE_ROW) */
    int32_t *base;          /* (SURGE_BLOCKS, n_kinds, SURGE_ROW) */
    uint32_t *words;        /* the map, of all groups */
    size_t n_words;
    ptrdiff_t row_words;
    unsigned char *derived; /* made of the map */
    unsigned char *scratch; /* made of the weights */
    int thresholds;         /* as that of the layer */
} surge_binary_job;

/* Whether a tap, of a row and a column of the kernel, is outside. */
static inline int surge_is_outside(const surge_geometry *g, const surge_border *kind, int i, int j)
{
    return i < kind->top || i >= g->kernel_height - kind->bottom || j < kind->left || j >= g->kernel_width - kind->right;
}

/* Write the sums of a block of filters where no bit differs, for each kind of border: of all taps for a padding of 1 or
 * -1. For 0, taps in the border, whose bits are 0, do not count: their sums, channels - 2 tap_counts, are subtracted.
 */
static inline void surge_fill_base(const surge_binary_job *job, int block)
{
    const surge_geometry *g = job->geometry;
    const int channels = g->in_channels / g->groups, taps = g->kernel_height * g->kernel_width;
    int32_t *base = job->base + block * job->n_kinds * SURGE_ROW;
    for (const surge_border *kind = job->kinds; kind < job->kinds + job->n_kinds; kind++, base += SURGE_ROW) {
        const int32_t *counts = job->tap_counts + block * taps * SURGE_ROW;
        for (int k = 0; k < SURGE_ROW; k++) base[k] = channels * taps;
        for (int i = 0; i < g->kernel_height && job->corrects; i++)
            for (int j = 0; j < g->kernel_width; j++, counts += SURGE_ROW)
                if (surge_is_outside(g, kind, i, j))
                    for (int k = 0; k < SURGE_ROW; k++) base[k] += 2 * counts[k] - channels;
    }
}

/* Counts of SURGE_ROW filters: bits of x, at so many steps, that differ from theirs. Eight filters at a time: a byte of
 * each in a word of 64 bits.
 */
static inline void surge_count_plain(const unsigned char *x, const int32_t *steps, int n_steps, const unsigned char *w, int32_t *counts)
{
    const uint64_t ones = 0x0101010101010101u, m1 = 0x5555555555555555u, m2 = 0x3333333333333333u, m4 = 0x0F0F0F0F0F0F0F0Fu;
    unsigned char bytes[SURGE_ROW];
    for (int k = 0; k < SURGE_ROW; k++) counts[k] = 0;
    for (int first = 0; first < n_steps; first += 31) { /* a byte counts to 31 * 8 */
        int last = first + 31 < n_steps ? first + 31 : n_steps;
        uint64_t a = 0, b = 0, u, v;
        for (int s = first; s < last; s++, w += SURGE_ROW) {
            uint64_t eight = ones * (x ? x[steps[s]] : 0u);
            memcpy(&u, w, sizeof u);
            memcpy(&v, w + 8, sizeof v);
            u ^= eight;
            v ^= eight;
            u -= (u >> 1) & m1;
            v -= (v >> 1) & m1;
            u = (u & m2) + ((u >> 2) & m2);
            v = (v & m2) + ((v >> 2) & m2);
            a += (u + (u >> 4)) & m4;
            b += (v + (v >> 4)) & m4;
        }
        memcpy(bytes, &a, sizeof a);
        memcpy(bytes + 8, &b, sizeof b);
        for (int k = 0; k < SURGE_ROW; k++) counts[k] += bytes[k];
    }
}

/* Write the steps of a window as the kernels read them. Return their number. */
static inline int surge_binary_steps_plain(const surge_geometry *g, surge_shape in, int32_t *steps)
{
    return surge_steps(g, in, surge_sign_bytes(g), surge_words(g) * 4, 1, steps);
}

/* Write the signs of a pixel for sums base - 2 counts, by integers alone. */
static inline void surge_compare(
    const surge_target *t, const int32_t *factors, const int32_t *terms, const int32_t *base, const int32_t *counts, int pixel,
    int channel, int count)
{
    uint32_t bits = 0;
    for (int k = 0; k < count; k++)
        bits |= (uint32_t)(factors[k] * (base[k] - 2 * counts[k]) + terms[k] < 0) << k;
    surge_put(t->out_bits + (size_t)pixel * (size_t)((t->channels + 31) / 32), channel, count, bits);
}

/* Outputs of all filters of a group, from channel `channel` on. */
static inline void surge_binary_group_plain(
    const surge_binary_job *job, const unsigned char *w, const surge_target *t, int channel, int outs)
{
    const surge_geometry *g = job->geometry;
    const surge_windows *n = &job->windows;
    int taps = g->kernel_height * g->kernel_width, of_tap = surge_words(g) * 4;
    for (; outs > 0; outs -= SURGE_ROW, channel += SURGE_ROW, w += job->block_bytes) {
        int32_t counts[SURGE_ROW], factors[SURGE_ROW] = {0}, terms[SURGE_ROW] = {0};
        float sums[SURGE_ROW];
        surge_table table;
        int count = surge_count(outs);
        surge_fill_table(t, channel, count, &table);
        for (int k = 0; k < count && job->thresholds; k++) {
            factors[k] = (int32_t)table.m1[k];
            terms[k] = (int32_t)table.a1[k];
        }
        for (int tap = 0; tap < taps && job->corrects; tap++)
            surge_count_plain(NULL, NULL, of_tap, w + tap * of_tap * SURGE_ROW, job->tap_counts + tap * SURGE_ROW);
        surge_fill_base(job, 0);
        for (int pixel = 0; pixel < n->pixels; pixel++) {
            const int32_t *base = job->base + job->kind_of[pixel] * SURGE_ROW;
            surge_count_plain(n->map + n->offsets[pixel], n->steps, n->n_steps, w, counts);
            if (job->thresholds) {
                surge_compare(t, factors, terms, base, counts, pixel, channel, count);
                continue;
            }
            for (int k = 0; k < SURGE_ROW; k++) sums[k] = (float)(base[k] - 2 * counts[k]);
            surge_finish_plain(t, &table, sums, 0, pixel, 1, channel, count);
        }
    }
}
