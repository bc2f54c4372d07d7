/* Windows of a convolution, and the steps after its sums: what all kinds of convolutions share.
 *
 * A convolution is computed in bands of output rows. The input rows of a band are copied into the workspace, with their
 * padding. A window is then a list of numbers at fixed distances from its first one. Filters are computed in blocks of
 * SURGE_ROW, which their weights are arranged for; see surge_mm/deploy/c/weights.py.
 */

#if defined(__BYTE_ORDER__) && defined(__ORDER_BIG_ENDIAN__)
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#error "The signs of weights are arranged for little-endian CPUs."
#endif
#endif

#define SURGE_ROW 16   /* filters of a block */
#define SURGE_BLOCKS 4 /* most blocks that are computed together */
#define SURGE_PIXELS 8 /* most output pixels of a tile */
/* Bytes of the input rows of a band, unless one output row needs more: SURGE_MOST_BAND if the weights, which are read again
 * for each band, are larger than that.
 */
#define SURGE_BAND SURGE_EITHER(262144, 8192)
#define SURGE_MOST_BAND SURGE_EITHER(1048576, 8192)

/* A product that is rounded before it is added, also where a compiler merges both in spite of the pragma above. */
#if defined(__GNUC__)
#define SURGE_ROUND(y) __asm__ volatile("" : : "r"(y) : "memory")
#else
#define SURGE_ROUND(y) (void)(y)
#endif

typedef struct {
    const unsigned char *map; /* padded input rows */
    const int32_t *offsets;   /* first byte of the window of each output pixel; SURGE_PIXELS - 1 more at the end */
    const int32_t *steps;     /* bytes from there to each number of the window */
    int n_steps;
    int pixels;
} surge_windows;

/* Where outputs go. Shortcut, out and out_bits begin at the first output pixel of a band. */
typedef struct {
    const surge_epilogue *epilogue;
    const float *shortcut;
    float *out;
    const float *out_shift;
    uint32_t *out_bits;
    int channels;
    int activates; /* whether the epilogue has steps after the shortcut */
} surge_target;

/* Numbers of a block of filters, one row for each step of the epilogue. A step that is left out has 1 or -0.0. */
typedef struct {
    float m1[SURGE_ROW], a1[SURGE_ROW], m2[SURGE_ROW], a2[SURGE_ROW], p[SURGE_ROW], slope[SURGE_ROW], c[SURGE_ROW],
        low[SURGE_ROW], high[SURGE_ROW], shift[SURGE_ROW];
} surge_table;

static inline void *surge_take(unsigned char **workspace, size_t bytes)
{
    void *taken = *workspace;
    *workspace += (bytes + 63) / 64 * 64;
    return taken;
}

static inline size_t surge_least(size_t a, size_t b)
{
    return a < b ? a : b;
}

static inline int surge_extent(const surge_geometry *g)
{
    return (g->kernel_height - 1) * g->dilation_y + 1;
}

static inline int surge_padded_width(const surge_geometry *g, surge_shape in)
{
    return in.width + g->pad_left + g->pad_right;
}

static inline int surge_pads(const surge_geometry *g)
{
    return g->pad_top || g->pad_bottom || g->pad_left || g->pad_right;
}

/* Filters of a block of which so many are left. */
static inline int surge_count(int left)
{
    return left < SURGE_ROW ? left : SURGE_ROW;
}

static inline int surge_blocks(const surge_geometry *g)
{
    return (g->out_channels / g->groups + SURGE_ROW - 1) / SURGE_ROW;
}

static inline int surge_is_depthwise(const surge_geometry *g)
{
    return g->groups > 1 && g->groups == g->in_channels && g->groups == g->out_channels;
}

static inline size_t surge_band(const surge_geometry *g, size_t pixel_bytes)
{
    size_t filter = (size_t)(g->kernel_height * g->kernel_width) * pixel_bytes / (size_t)g->groups;
    return filter * (size_t)g->out_channels > SURGE_MOST_BAND ? SURGE_MOST_BAND : SURGE_BAND;
}

/* Output rows of a band. */
static inline int surge_band_rows(const surge_geometry *g, surge_shape in, size_t pixel_bytes)
{
    size_t row = (size_t)surge_padded_width(g, in) * pixel_bytes, extent = (size_t)surge_extent(g);
    size_t rows = surge_band(g, pixel_bytes) / row;
    rows = rows < extent ? 1 : (rows - extent) / (size_t)g->stride_y + 1;
    return (int)surge_least(rows, (size_t)surge_output(g, in).height);
}

/* Most pixels of the input rows of a band. Output pixels of a band are never more. */
static inline size_t surge_band_pixels(const surge_geometry *g, surge_shape in, size_t pixel_bytes)
{
    size_t width = (size_t)surge_padded_width(g, in), extent = (size_t)surge_extent(g) * width;
    size_t all = (size_t)(in.height + g->pad_top + g->pad_bottom) * width;
    size_t most = surge_band(g, pixel_bytes) / pixel_bytes;
    return surge_least(all, most < extent ? extent : most);
}

static inline size_t surge_whole(size_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

/* Bytes for steps, offsets and the map. Kernels may read 64 bytes beyond the map. */
static inline size_t surge_windows_workspace(const surge_geometry *g, surge_shape in, size_t pixel_bytes, size_t steps)
{
    size_t pixels = surge_band_pixels(g, in, pixel_bytes);
    return surge_whole(steps * 4) + surge_whole((pixels + SURGE_PIXELS) * 4) + surge_whole(pixels * pixel_bytes + 64);
}

/* Write the offsets of the windows of so many output rows. */
static inline void surge_offsets(const surge_geometry *g, surge_shape in, int rows, size_t pixel_bytes, int32_t *offsets)
{
    int columns = surge_output(g, in).width, step = g->stride_x * (int)pixel_bytes, last = 0;
    int row_step = g->stride_y * surge_padded_width(g, in) * (int)pixel_bytes;
    for (int row = 0; row < rows; row++)
        for (int column = 0; column < columns; column++) *offsets++ = last = row * row_step + column * step;
    for (int i = 1; i < SURGE_PIXELS; i++) *offsets++ = last;
}

/* Write the steps of a window: of numbers of so many bytes, from runs of consecutive bytes. A run is a row of the window
 * if its pixels are next to one another, else a pixel. Return the number of steps.
 */
static inline int surge_steps(const surge_geometry *g, surge_shape in, size_t pixel_bytes, int group_bytes, int number, int32_t *steps)
{
    int joined = g->groups == 1 && g->dilation_x == 1, n = 0, pixel = (int)pixel_bytes;
    int run = joined ? g->kernel_width * pixel : group_bytes, runs = joined ? 1 : g->kernel_width;
    int row = g->dilation_y * surge_padded_width(g, in) * pixel;
    for (int i = 0; i < g->kernel_height; i++)
        for (int j = 0; j < runs; j++)
            for (int at = 0; at < run; at += number) steps[n++] = i * row + j * g->dilation_x * pixel + at;
    return n;
}

static inline int surge_count_steps(const surge_geometry *g, int group_bytes, int number)
{
    int joined = g->groups == 1 && g->dilation_x == 1;
    int run = joined ? g->kernel_width * group_bytes : group_bytes, runs = joined ? 1 : g->kernel_width;
    return g->kernel_height * runs * ((run + number - 1) / number);
}

static inline void surge_advance(surge_target *t, size_t pixels)
{
    size_t channels = (size_t)t->channels;
    if (t->shortcut) t->shortcut += pixels * channels;
    if (t->out) t->out += pixels * channels;
    if (t->out_bits) t->out_bits += pixels * ((channels + 31) / 32);
}

static inline surge_target surge_new_target(
    const surge_geometry *g, const surge_epilogue *e, const surge_call *call, surge_part part)
{
    surge_target t;
    surge_shape shape = surge_output(g, call->in);
    t.epilogue = e;
    t.shortcut = call->shortcut;
    t.out = call->out;
    t.out_shift = call->out_shift;
    t.out_bits = call->out_bits;
    t.channels = shape.channels;
    t.activates = e->p || e->slope || e->c || e->low || e->high;
    surge_advance(&t, (size_t)part.first_row * (size_t)shape.width);
    if (t.out_bits) {
        size_t words = (size_t)((shape.channels + 31) / 32), count = (size_t)((part.outs * g->groups + 31) / 32);
        size_t pixels = (size_t)(part.end_row - part.first_row) * (size_t)shape.width;
        if (count == words) memset(t.out_bits, 0, pixels * words * sizeof *t.out_bits);
        for (size_t i = 0; i < pixels && count < words; i++)
            memset(t.out_bits + i * words + part.channel / 32, 0, count * sizeof *t.out_bits);
    }
    return t;
}

/* Compute a layer by all threads, or by the caller alone if it has fewer products than `least`, which take about 10 us. */
static inline void surge_divide_layer(
    surge_team *team, surge_compute *compute, const surge_geometry *g, const surge_call *call, int least, void *workspace)
{
    const surge_shape shape = surge_output(g, call->in);
    const surge_part all = {0, shape.height, 0, g->out_channels / g->groups};
    const float products = (float)surge_numbers(shape) * (float)(g->in_channels / g->groups * g->kernel_height * g->kernel_width);
    surge_divide(products < (float)least ? NULL : team, compute, call, all, g->groups == 1, workspace);
}

static inline void surge_row(float *row, const float *numbers, int channel, int count, float neutral)
{
    for (int i = 0; i < SURGE_ROW; i++) row[i] = neutral;
    if (numbers) memcpy(row, numbers + channel, (size_t)count * sizeof *row);
}

/* Write the numbers of a block of filters. */
static inline void surge_fill_table(const surge_target *t, int channel, int count, surge_table *table)
{
    const surge_epilogue *e = t->epilogue;
    surge_row(table->m1, e->m1, channel, count, 1.0f);
    surge_row(table->a1, e->a1, channel, count, -0.0f);
    surge_row(table->m2, e->m2, channel, count, 1.0f);
    surge_row(table->a2, e->a2, channel, count, -0.0f);
    surge_row(table->p, e->p, channel, count, -0.0f);
    surge_row(table->slope, e->slope, channel, count, 1.0f);
    surge_row(table->c, e->c, channel, count, -0.0f);
    surge_row(table->low, e->low, channel, count, -INFINITY);
    surge_row(table->high, e->high, channel, count, INFINITY);
    surge_row(table->shift, t->out_shift, channel, count, -0.0f);
}

/* Bit i: the sign bit of x[i]. */
static inline uint32_t surge_signs(const float *x, int count)
{
    uint32_t bits = 0, number;
    for (int i = 0; i < count; i++) {
        memcpy(&number, x + i, sizeof number);
        bits |= number >> 31 << i;
    }
    return bits;
}

/* Write bits among those of a pixel, which were 0. */
static inline void surge_put(uint32_t *words, int channel, int count, uint32_t bits)
{
    int at = channel % 32;
    words += channel / 32;
    words[0] |= bits << at;
    if (at + count > 32) words[1] |= bits >> (32 - at);
}

/* Write outputs and signs of so many pixels, from the sums of a block of filters. Sums of pixels are stride apart.
 *
 *     y = (m1 S + a1) m2 + a2 + shortcut
 *     y = y + p;  y = y > 0 ? y : slope y;  y = clamp(y + c, low, high)     if it activates
 *     out = y;  signs of y + shift
 */
static inline void surge_finish_plain(
    const surge_target *t, const surge_table *table, const float *sums, int stride, int pixel, int pixels, int channel,
    int count)
{
    float y[SURGE_ROW];
    for (int k = 0; k < pixels; k++, sums += stride) {
        size_t at = (size_t)(pixel + k) * (size_t)t->channels + (size_t)channel;
        for (int i = 0; i < SURGE_ROW; i++) y[i] = sums[i] * table->m1[i];
        SURGE_ROUND(y);
        for (int i = 0; i < SURGE_ROW; i++) y[i] = y[i] + table->a1[i];
        if (t->epilogue->m2)
            for (int i = 0; i < SURGE_ROW; i++) y[i] = fmaf(y[i], table->m2[i], table->a2[i]);
        if (t->shortcut)
            for (int i = 0; i < count; i++) y[i] = y[i] + t->shortcut[at + (size_t)i];
        if (t->activates) {
            for (int i = 0; i < SURGE_ROW; i++) {
                y[i] = y[i] + table->p[i];
                y[i] = y[i] > 0.0f ? y[i] : y[i] * table->slope[i];
            }
            SURGE_ROUND(y);
            for (int i = 0; i < SURGE_ROW; i++) {
                y[i] = y[i] + table->c[i];
                y[i] = y[i] < table->low[i] ? table->low[i] : y[i];
                y[i] = y[i] > table->high[i] ? table->high[i] : y[i];
            }
        }
        if (t->out) memcpy(t->out + at, y, (size_t)count * sizeof *y);
        if (t->out_bits) {
            for (int i = 0; i < SURGE_ROW; i++) y[i] = y[i] + table->shift[i];
            surge_put(t->out_bits + (size_t)(pixel + k) * (size_t)((t->channels + 31) / 32), channel, count, surge_signs(y, count));
        }
    }
}
