/* Operations between the convolutions. */

static inline size_t surge_pixels(surge_shape s)
{
    return (size_t)s.height * (size_t)s.width;
}

static inline size_t surge_numbers(surge_shape s)
{
    return surge_pixels(s) * (size_t)s.channels;
}

static inline int surge_equal(surge_shape a, surge_shape b)
{
    return a.height == b.height && a.width == b.width && a.channels == b.channels;
}

static inline int surge_same_size(surge_shape a, surge_shape b)
{
    return a.height == b.height && a.width == b.width;
}

static inline int surge_exists(surge_shape s)
{
    return s.height > 0 && s.width > 0;
}

/* Compute an operation on the numbers of a map, or on its pixels, by all threads. */
static inline void surge_divide_rows(surge_team *team, surge_compute *compute, const surge_call *call, int rows)
{
    const surge_part all = {0, rows, 0, call->in.channels};
    surge_divide(surge_numbers(call->in) < 30000 ? NULL : team, compute, call, all, 0, NULL);
}

/* The steps of an epilogue for each pixel. out may be x. */
static inline void surge_compute_pointwise(const surge_call *call, surge_part part, void *workspace)
{
    const surge_epilogue *e = call->layer;
    const size_t width = (size_t)call->in.width, end = (size_t)part.end_row * width;
    const int n = call->in.channels;
    const float *shortcut = call->shortcut;
    (void)workspace;
    for (size_t i = (size_t)part.first_row * width; i < end; i++) {
        const float *x = call->x + i * (size_t)n;
        float *out = call->out + i * (size_t)n;
        if (out != x) memcpy(out, x, (size_t)n * sizeof(float));
        if (e->m1)
            for (int c = 0; c < n; c++) out[c] *= e->m1[c];
        if (e->a1)
            for (int c = 0; c < n; c++) out[c] += e->a1[c];
        if (e->m2)
            for (int c = 0; c < n; c++) out[c] = fmaf(out[c], e->m2[c], e->a2[c]);
        if (shortcut)
            for (int c = 0; c < n; c++) out[c] += shortcut[i * (size_t)n + (size_t)c];
        if (e->p)
            for (int c = 0; c < n; c++) out[c] += e->p[c];
        if (e->slope)
            for (int c = 0; c < n; c++) out[c] = out[c] > 0 ? out[c] : out[c] * e->slope[c];
        if (e->c)
            for (int c = 0; c < n; c++) out[c] += e->c[c];
        if (e->low)
            for (int c = 0; c < n; c++) {
                out[c] = out[c] < e->low[c] ? e->low[c] : out[c];
                out[c] = out[c] > e->high[c] ? e->high[c] : out[c];
            }
    }
}

static inline void surge_pointwise(
    surge_team *team, const surge_epilogue *e, surge_shape s, const float *x, const float *shortcut, float *out)
{
    const surge_call call = {e, s, x, NULL, shortcut, out, NULL, NULL};
    surge_divide_rows(team, surge_compute_pointwise, &call, s.height);
}

typedef struct {
    int kernel_height, kernel_width, stride_y, stride_x, pad_y, pad_x, ceil_mode;
    int mean; /* whether the mean of a window is computed, not its largest number */
} surge_window;

static inline int surge_pooled(int size, int kernel, int stride, int pad, int ceil_mode)
{
    int rest = size + 2 * pad - kernel + (ceil_mode ? stride - 1 : 0);
    int out = rest < 0 ? 0 : rest / stride + 1;
    /* a window must begin within the map or its first border */
    return ceil_mode && (out - 1) * stride >= size + pad ? out - 1 : out;
}

static inline surge_shape surge_window_output(const surge_window *w, surge_shape in)
{
    surge_shape out;
    out.height = surge_pooled(in.height, w->kernel_height, w->stride_y, w->pad_y, w->ceil_mode);
    out.width = surge_pooled(in.width, w->kernel_width, w->stride_x, w->pad_x, w->ceil_mode);
    out.channels = in.channels;
    return out;
}

/* The larger number, or a NaN of the first one. Without a branch, whose direction would be random. */
static inline float surge_larger(float a, float b)
{
    return ((a > b) | (a != a)) ? a : b;
}

/* Write the largest numbers of a window, or their means, of `block` channels at a time: a constant, for which compilers use
 * vectors. x: the first pixel of the window. row: numbers from a row to the next.
 */
SURGE_INLINE void surge_pool_window(
    const int block, const int mean, surge_shape window, size_t row, const float *x, float *out)
{
    const float size = (float)(window.height * window.width);
    float numbers[16], y[16];
    for (int c = 0; c < window.channels; c += block) {
        /* the last ones with some of those before, of which they are the same numbers again */
        if (window.channels - c < block) c = window.channels - block;
        for (int k = 0; k < block; k++) numbers[k] = mean ? 0.0f : -INFINITY;
        for (int i = 0; i < window.height; i++)
            for (int j = 0; j < window.width; j++) {
                memcpy(y, x + (size_t)i * row + (size_t)j * (size_t)window.channels + c, (size_t)block * sizeof *y);
                if (mean)
                    for (int k = 0; k < block; k++) numbers[k] += y[k];
                else
                    for (int k = 0; k < block; k++) numbers[k] = surge_larger(y[k], numbers[k]);
            }
        for (int k = 0; k < block && mean; k++) numbers[k] /= size;
        memcpy(out + c, numbers, (size_t)block * sizeof *numbers);
    }
}

/* The largest number of each window, or its mean; pixels of the border do not count. */
static inline void surge_compute_pool(const surge_call *call, surge_part part, void *workspace)
{
    const surge_window *w = call->layer;
    surge_shape in = call->in, shape = surge_window_output(w, in), window = in;
    size_t channels = (size_t)in.channels, row_in = (size_t)in.width * channels;
    float *out = call->out + (size_t)part.first_row * (size_t)shape.width * channels;
    (void)workspace;
    for (int row = part.first_row; row < part.end_row; row++)
        for (int column = 0; column < shape.width; column++, out += channels) {
            int top = row * w->stride_y - w->pad_y, left = column * w->stride_x - w->pad_x;
            int bottom = top + w->kernel_height, right = left + w->kernel_width;
            const float *x;
            if (top < 0) top = 0;
            if (left < 0) left = 0;
            window.height = (bottom > in.height ? in.height : bottom) - top;
            window.width = (right > in.width ? in.width : right) - left;
            x = call->x + (size_t)top * row_in + (size_t)left * channels;
            if (in.channels >= 16)
                surge_pool_window(16, w->mean, window, row_in, x, out);
            else if (in.channels >= 4)
                surge_pool_window(4, w->mean, window, row_in, x, out);
            else
                surge_pool_window(1, w->mean, window, row_in, x, out);
        }
}

static inline void surge_pool(surge_team *team, const surge_window *w, surge_shape in, const float *x, float *out)
{
    const surge_call call = {w, in, x, NULL, NULL, out, NULL, NULL};
    surge_divide_rows(team, surge_compute_pool, &call, surge_window_output(w, in).height);
}

static inline void surge_global_average(surge_shape in, const float *x, float *out)
{
    size_t channels = (size_t)in.channels, row = (size_t)in.width * channels;
    for (size_t c = 0; c < channels; c++) {
        float sum = 0.0f;
        for (int y = 0; y < in.height; y++) {
            float of_row = 0.0f; /* sums of few numbers each, for less rounding */
            for (size_t i = c; i < row; i += channels) of_row += x[(size_t)y * row + i];
            sum += of_row;
        }
        out[c] = sum / ((float)in.height * (float)in.width);
    }
}

/* The nearest pixel, as torch.nn.functional.interpolate(mode='nearest') finds it. */
static inline void surge_upsample(surge_shape in, const float *x, surge_shape shape, float *out)
{
    float step_y = (float)in.height / (float)shape.height, step_x = (float)in.width / (float)shape.width;
    size_t channels = (size_t)in.channels;
    for (int row = 0; row < shape.height; row++) {
        int y = (int)((float)row * step_y);
        if (y > in.height - 1) y = in.height - 1;
        for (int column = 0; column < shape.width; column++, out += channels) {
            int i = (int)((float)column * step_x);
            if (i > in.width - 1) i = in.width - 1;
            memcpy(out, x + ((size_t)y * (size_t)in.width + (size_t)i) * channels, channels * sizeof(float));
        }
    }
}

/* Copy a map to the channels from first on of a map with more channels. */
static inline void surge_copy_channels(surge_shape in, const float *x, float *out, int channels, int first)
{
    size_t pixels = surge_pixels(in);
    for (size_t i = 0; i < pixels; i++)
        memcpy(out + i * (size_t)channels + first, x + i * (size_t)in.channels, (size_t)in.channels * sizeof(float));
}

/* Copy the channels from first on. */
static inline void surge_slice(surge_shape in, const float *x, float *out, int channels, int first)
{
    size_t pixels = surge_pixels(in);
    for (size_t i = 0; i < pixels; i++)
        memcpy(out + i * (size_t)channels, x + i * (size_t)in.channels + first, (size_t)channels * sizeof(float));
}

/* Multiply each channel by a number. out may be x. */
static inline void surge_scale(surge_shape s, const float *x, const float *numbers, float *out)
{
    size_t pixels = surge_pixels(s), at = 0;
    for (size_t i = 0; i < pixels; i++)
        for (int c = 0; c < s.channels; c++, at++) out[at] = x[at] * numbers[c];
}
