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

/* Bytes beside those for the windows: borders of each output pixel, sums of each kind of border, and of each tap. */
static inline size_t surge_borders_workspace(const surge_geometry *g, surge_shape in)
{
    surge_shape shape = surge_output(g, in);
    size_t kinds = surge_kinds(g->kernel_height, shape.height) * surge_kinds(g->kernel_width, shape.width);
    size_t pixels = surge_band_pixels(g, in, surge_sign_bytes(g)) + SURGE_PIXELS;
    return surge_whole(pixels * 4) + surge_whole(kinds * 16) + surge_whole(kinds * SURGE_ROW * 4);
}

static inline size_t surge_binary_workspace(const surge_binary_layer *l, surge_shape in)
{
    const surge_geometry *g = &l->geometry;
    size_t taps = (size_t)(g->kernel_height * g->kernel_width), bytes = (size_t)surge_words(g) * 4;
    return surge_windows_workspace(g, in, surge_sign_bytes(g), taps * bytes) + surge_borders_workspace(g, in) +
           surge_whole(taps * SURGE_ROW * 4);
}

/* Write the signs of the channels of a pixel, each group from a new word on. */
static inline void surge_pack_pixel(const float *x, const float *shift, int groups, int channels, uint32_t *words)
{
    for (int group = 0; group < groups; group++)
        for (int first = 0; first < channels; first += 32) {
            float y[32];
            int count = channels - first < 32 ? channels - first : 32;
            for (int i = 0; i < count; i++) y[i] = shift ? *x++ + *shift++ : *x++;
            *words++ = surge_signs(y, count);
        }
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
    const surge_binary_layer *l, surge_shape in, const float *x, const uint32_t *bits, int first, int rows, uint32_t *words)
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
            for (int i = 0; i < in.width; i++)
                surge_pack_pixel(
                    x + ((size_t)y * (size_t)in.width + (size_t)i) * (size_t)in.channels, l->shift, g->groups, channels, words + i * n);
        words += in.width * n;
        surge_pack_border(l->pad_value, g->groups, channels, g->pad_right, words);
        words += g->pad_right * n;
    }
}

/* How the windows of output pixels meet the border: taps that are outside on each side. */
typedef struct {
    int32_t top, bottom, left, right;
} surge_border;

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

/* Write the sums where no bit differs, for each kind of border: of all taps for a padding of 1 or -1. For 0, taps in the
 * border, whose bits are 0, do not count. tap_sums: sums of the weights of each tap.
 */
static inline void surge_fill_base(
    const surge_geometry *g, const surge_border *kinds, int n_kinds, int all, const int32_t *tap_sums, int32_t *base)
{
    for (int n = 0; n < n_kinds; n++, base += SURGE_ROW) {
        const int32_t *tap = tap_sums;
        for (int k = 0; k < SURGE_ROW; k++) base[k] = all;
        if (!tap) continue;
        for (int i = 0; i < g->kernel_height; i++)
            for (int j = 0; j < g->kernel_width; j++, tap += SURGE_ROW)
                if (i < kinds[n].top || i >= g->kernel_height - kinds[n].bottom || j < kinds[n].left ||
                    j >= g->kernel_width - kinds[n].right)
                    for (int k = 0; k < SURGE_ROW; k++) base[k] -= tap[k];
    }
}

/* What the kernels compute a block of filters from. */
typedef struct {
    const surge_geometry *geometry;
    surge_windows windows;
    const surge_border *kinds;
    int n_kinds;
    const int32_t *kind_of; /* kind of border of each output pixel */
    int corrects;           /* whether taps in the border count as 0 */
    int32_t *tap_sums;      /* (taps, SURGE_ROW) */
    int32_t *base;          /* (n_kinds, SURGE_ROW) */
    unsigned char *scratch;
} surge_binary_job;

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

static inline void surge_binary_block_plain(
    const surge_binary_job *job, const unsigned char *w, const surge_target *t, const surge_table *table, int channel, int count)
{
    const surge_geometry *g = job->geometry;
    const surge_windows *n = &job->windows;
    int channels = g->in_channels / g->groups, taps = g->kernel_height * g->kernel_width, of_tap = surge_words(g) * 4;
    int32_t counts[SURGE_ROW];
    float sums[SURGE_ROW];
    if (job->corrects)
        for (int tap = 0; tap < taps; tap++) {
            surge_count_plain(NULL, NULL, of_tap, w + tap * of_tap * SURGE_ROW, counts);
            for (int k = 0; k < SURGE_ROW; k++) job->tap_sums[tap * SURGE_ROW + k] = channels - 2 * counts[k];
        }
    surge_fill_base(g, job->kinds, job->n_kinds, channels * taps, job->corrects ? job->tap_sums : NULL, job->base);
    for (int pixel = 0; pixel < n->pixels; pixel++) {
        const int32_t *base = job->base + job->kind_of[pixel] * SURGE_ROW;
        surge_count_plain(n->map + n->offsets[pixel], n->steps, n->n_steps, w, counts);
        for (int k = 0; k < SURGE_ROW; k++) sums[k] = (float)(base[k] - 2 * counts[k]);
        surge_finish_plain(t, table, sums, 0, pixel, 1, channel, count);
    }
}

static inline void surge_binary(
    const surge_binary_layer *l, surge_shape in, const float *x, const uint32_t *bits, const float *shortcut, float *out,
    const float *out_shift, uint32_t *out_bits, void *workspace)
{
    const surge_geometry *g = &l->geometry;
    surge_shape shape = surge_output(g, in);
    unsigned char *rest = (unsigned char *)workspace;
    size_t pixel_bytes = surge_sign_bytes(g), pixels = surge_band_pixels(g, in, pixel_bytes);
    size_t taps = (size_t)(g->kernel_height * g->kernel_width), of_tap = (size_t)surge_words(g) * 4;
    size_t n_kinds = surge_kinds(g->kernel_height, shape.height) * surge_kinds(g->kernel_width, shape.width);
    int32_t *steps = (int32_t *)surge_take(&rest, taps * of_tap * 4);
    int32_t *offsets = (int32_t *)surge_take(&rest, (pixels + SURGE_PIXELS) * 4);
    uint32_t *words = (uint32_t *)surge_take(&rest, pixels * pixel_bytes + 64);
    int32_t *kind_of = (int32_t *)surge_take(&rest, (pixels + SURGE_PIXELS) * 4);
    surge_border *kinds = (surge_border *)surge_take(&rest, n_kinds * sizeof *kinds);
    surge_binary_job job;
    surge_target t = surge_new_target(g, in, &l->epilogue, shortcut, out, out_shift, out_bits);
    surge_table table;
    int band = surge_band_rows(g, in, pixel_bytes), outs = g->out_channels / g->groups, blocks = surge_blocks(g);
    job.geometry = g;
    job.windows.steps = steps;
    job.windows.n_steps = surge_steps(g, in, pixel_bytes, (int)of_tap, 1, steps);
    job.windows.offsets = offsets;
    job.kinds = kinds;
    job.kind_of = kind_of;
    job.corrects = l->pad_value == 0 && surge_pads(g);
    job.base = (int32_t *)surge_take(&rest, n_kinds * SURGE_ROW * 4);
    job.tap_sums = (int32_t *)surge_take(&rest, taps * SURGE_ROW * 4);
    job.scratch = rest;
    for (int first = 0; first < shape.height; first += band) {
        int rows = first + band < shape.height ? band : shape.height - first;
        const unsigned char *w = (const unsigned char *)l->weights;
        job.windows.pixels = rows * shape.width;
        surge_pack_rows(
            l, in, x, bits, first * g->stride_y - g->pad_top, (rows - 1) * g->stride_y + surge_extent(g), words);
        surge_offsets(g, in, rows, pixel_bytes, offsets);
        job.n_kinds = surge_find_borders(g, in, first, rows, kind_of, kinds);
        for (int group = 0; group < g->groups; group++) {
            job.windows.map = (const unsigned char *)words + (size_t)group * of_tap;
            for (int block = 0; block < blocks; block++, w += taps * of_tap * SURGE_ROW) {
                int channel = group * outs + block * SURGE_ROW, count = outs - block * SURGE_ROW;
                count = count < SURGE_ROW ? count : SURGE_ROW;
                surge_fill_table(&t, channel, count, &table);
                surge_binary_block_plain(&job, w, &t, &table, channel, count);
            }
        }
        surge_advance(&t, (size_t)(rows * shape.width));
    }
}
