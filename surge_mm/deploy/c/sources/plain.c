/* Convolutions in plain C, for any compiler. */

static inline int surge_sign_bit(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return x != x || !(bits >> 31); /* +1 for 0.0, -1 for -0.0 */
}

/* Signs of a map: per pixel and group, words of 32 channels. */
static inline void surge_pack(surge_shape s, int groups, const float *x, const float *shift, uint32_t *bits)
{
    size_t pixels = surge_pixels(s);
    int per_group = s.channels / groups, words = (per_group + 31) / 32;
    for (size_t i = 0; i < pixels; i++)
        for (int g = 0; g < groups; g++, bits += words) {
            memset(bits, 0, (size_t)words * sizeof *bits);
            for (int c = 0; c < per_group; c++, x++) {
                float value = shift ? *x + shift[g * per_group + c] : *x;
                bits[c / 32] |= (uint32_t)surge_sign_bit(value) << (c % 32);
            }
        }
}

static inline int surge_count(uint32_t x)
{
#ifdef __GNUC__
    return __builtin_popcount(x);
#else
    x = x - ((x >> 1) & 0x55555555u);
    x = (x & 0x33333333u) + ((x >> 2) & 0x33333333u);
    return (int)((((x + (x >> 4)) & 0x0F0F0F0Fu) * 0x01010101u) >> 24);
#endif
}

static inline void surge_keep(
    const surge_epilogue *e, int channels, int c, size_t at, float y, const float *shortcut, float *out,
    const float *out_shift, uint32_t *out_bits)
{
    y = surge_finish(e, c, y, shortcut ? shortcut + at : NULL);
    if (out) out[at] = y;
    if (out_bits) {
        uint32_t *word = out_bits + at / (size_t)channels * (size_t)((channels + 31) / 32) + c / 32;
        if (c % 32 == 0) *word = 0;
        *word |= (uint32_t)surge_sign_bit(out_shift ? y + out_shift[c] : y) << (c % 32);
    }
}

static inline size_t surge_binary_workspace(const surge_binary_layer *l, surge_shape in)
{
    int per_group = in.channels / l->geometry.groups;
    return surge_pixels(in) * (size_t)(l->geometry.groups * ((per_group + 31) / 32)) * sizeof(uint32_t);
}

static inline void surge_binary(
    const surge_binary_layer *l, surge_shape in, const float *x, const uint32_t *bits, const float *shortcut, float *out,
    const float *out_shift, uint32_t *out_bits, void *workspace)
{
    const surge_geometry *g = &l->geometry;
    surge_shape shape = surge_output(g, in);
    int per_group = g->in_channels / g->groups, words = (per_group + 31) / 32, outs = g->out_channels / g->groups;
    size_t at = 0;
    if (!bits) {
        surge_pack(in, g->groups, x, l->shift, (uint32_t *)workspace);
        bits = (const uint32_t *)workspace;
    }
    for (int row = 0; row < shape.height; row++)
        for (int column = 0; column < shape.width; column++)
            for (int c = 0; c < shape.channels; c++, at++) {
                const uint32_t *w = l->weights + (size_t)c * (size_t)(g->kernel_height * g->kernel_width * words);
                int sum = 0;
                for (int i = 0; i < g->kernel_height; i++)
                    for (int j = 0; j < g->kernel_width; j++, w += words) {
                        int y = row * g->stride_y - g->pad_top + i * g->dilation_y;
                        int k = column * g->stride_x - g->pad_left + j * g->dilation_x;
                        int inside = y >= 0 && y < in.height && k >= 0 && k < in.width, differ = 0;
                        const uint32_t *pixel = bits;
                        if (!inside && l->pad_value == 0) continue;
                        if (inside) pixel += (((size_t)y * (size_t)in.width + (size_t)k) * (size_t)g->groups + (size_t)(c / outs)) * (size_t)words;
                        for (int n = 0; n < words; n++) {
                            uint32_t border = l->pad_value > 0 ? 0xFFFFFFFFu : 0u;
                            uint32_t mask = n == words - 1 && per_group % 32 ? (1u << (per_group % 32)) - 1u : 0xFFFFFFFFu;
                            differ += surge_count(((inside ? pixel[n] : border) ^ w[n]) & mask);
                        }
                        sum += per_group - 2 * differ;
                    }
                surge_keep(&l->epilogue, shape.channels, c, at, (float)sum, shortcut, out, out_shift, out_bits);
            }
}

static inline void surge_int8(
    const surge_int8_layer *l, surge_shape in, const float *x, const float *shortcut, float *out,
    const float *out_shift, uint32_t *out_bits, void *workspace)
{
    const surge_geometry *g = &l->geometry;
    surge_shape shape = surge_output(g, in);
    int per_group = g->in_channels / g->groups, outs = g->out_channels / g->groups;
    size_t numbers = surge_numbers(in), at = 0;
    uint8_t *q = (uint8_t *)workspace;
    for (size_t i = 0; i < numbers; i++) {
        float y = rintf(x[i] * l->inverse) + (float)l->zero;
        q[i] = (uint8_t)(y > 0.0f ? (y < 255.0f ? y : 255.0f) : 0.0f);
    }
    for (int row = 0; row < shape.height; row++)
        for (int column = 0; column < shape.width; column++)
            for (int c = 0; c < shape.channels; c++, at++) {
                const int8_t *w = l->weights + (size_t)c * (size_t)(g->kernel_height * g->kernel_width * per_group);
                int32_t sum = 0;
                for (int i = 0; i < g->kernel_height; i++)
                    for (int j = 0; j < g->kernel_width; j++, w += per_group) {
                        int y = row * g->stride_y - g->pad_top + i * g->dilation_y;
                        int k = column * g->stride_x - g->pad_left + j * g->dilation_x;
                        int inside = y >= 0 && y < in.height && k >= 0 && k < in.width;
                        const uint8_t *pixel = q;
                        if (inside) pixel += ((size_t)y * (size_t)in.width + (size_t)k) * (size_t)in.channels + (size_t)(c / outs * per_group);
                        for (int n = 0; n < per_group; n++) sum += w[n] * (inside ? pixel[n] : l->zero);
                    }
                surge_keep(&l->epilogue, shape.channels, c, at, (float)sum, shortcut, out, out_shift, out_bits);
            }
}

static inline void surge_float(
    const surge_float_layer *l, surge_shape in, const float *x, const float *shortcut, float *out,
    const float *out_shift, uint32_t *out_bits, void *workspace)
{
    const surge_geometry *g = &l->geometry;
    surge_shape shape = surge_output(g, in);
    int per_group = g->in_channels / g->groups, outs = g->out_channels / g->groups;
    size_t at = 0;
    (void)workspace;
    for (int row = 0; row < shape.height; row++)
        for (int column = 0; column < shape.width; column++)
            for (int c = 0; c < shape.channels; c++, at++) {
                const float *w = l->weights + (size_t)c * (size_t)(g->kernel_height * g->kernel_width * per_group);
                float sum = 0.0f;
                for (int i = 0; i < g->kernel_height; i++)
                    for (int j = 0; j < g->kernel_width; j++, w += per_group) {
                        int y = row * g->stride_y - g->pad_top + i * g->dilation_y;
                        int k = column * g->stride_x - g->pad_left + j * g->dilation_x;
                        const float *pixel = x;
                        if (y < 0 || y >= in.height || k < 0 || k >= in.width) continue;
                        pixel += ((size_t)y * (size_t)in.width + (size_t)k) * (size_t)in.channels + (size_t)(c / outs * per_group);
                        for (int n = 0; n < per_group; n++) sum += w[n] * pixel[n];
                    }
                if (l->bias) sum += l->bias[c];
                surge_keep(&l->epilogue, shape.channels, c, at, sum, shortcut, out, out_shift, out_bits);
            }
}
