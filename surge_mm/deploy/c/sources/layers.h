/* Layers of a network, and what is computed of them. Activations are float32, NHWC, of one image. */

#include <float.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __FAST_MATH__
#error "Compile without -ffast-math: it changes the order of sums, and with it the signs of the activations."
#endif

/* Each operation is rounded: no product is merged with a sum but by fmaf. gcc ignores the pragma of C99. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("fp-contract=off")
#else
#pragma STDC FP_CONTRACT OFF
#endif

/* A network calls those functions of this file that it needs. */
#ifdef __GNUC__
#pragma GCC diagnostic ignored "-Wunused-function"
#endif

#if FLT_EVAL_METHOD != 0 && FLT_EVAL_METHOD != 16
#error "Compile with -msse2 -mfpmath=sse, or for a CPU that computes in float32: numbers must not be kept in more bits."
#endif

typedef struct {
    int height, width, channels;
} surge_shape;

typedef struct {
    int in_channels, out_channels, kernel_height, kernel_width;
    int stride_y, stride_x, dilation_y, dilation_x;
    int pad_top, pad_bottom, pad_left, pad_right, groups;
} surge_geometry;

/* Steps after the sums, as surge_mm/deploy/packing/epilogue.py has them, with one number per output channel. NULL: left out.
 *
 *     y   = (m1 S + a1) m2 + a2 + shortcut + p       m2 and a2 with one rounding, as by fmaf; the others round each
 *     out = clamp(max(y, 0) + slope min(y, 0) + c)
 */
typedef struct {
    const float *m1, *a1, *m2, *a2, *p, *slope, *c, *low, *high;
} surge_epilogue;

/* Binary convolution. A sign is +1 for 0.0 and -1 for -0.0, as of surge_mm.ops.sign. */
typedef struct {
    surge_geometry geometry;
    const uint32_t *weights;
    int pad_value;      /* of the signs: 0, 1 or -1 */
    const float *shift; /* one number per input channel, added before the sign of the input; NULL for none */
    surge_epilogue epilogue;
    int thresholds; /* whether signs alone are computed, those of m1 S + a1, which are integers: m1 is 1 or -1 */
} surge_binary_layer;

/* Convolution in int8, in the arithmetic of surge_mm/deploy/real_layers/int8_conv.py. */
typedef struct {
    surge_geometry geometry;
    const int8_t *weights;
    float inverse;
    int zero;
    surge_epilogue epilogue;
} surge_int8_layer;

/* Convolution in float32: sum + bias, then the epilogue. */
typedef struct {
    surge_geometry geometry;
    const float *weights;
    const float *bias; /* NULL for none */
    surge_epilogue epilogue;
} surge_float_layer;

/* Height and width are 0 where the kernel does not fit: the division of C rounds to 0, not down. */
static inline surge_shape surge_output(const surge_geometry *g, surge_shape in)
{
    const int rows = in.height + g->pad_top + g->pad_bottom - g->dilation_y * (g->kernel_height - 1) - 1;
    const int columns = in.width + g->pad_left + g->pad_right - g->dilation_x * (g->kernel_width - 1) - 1;
    surge_shape out;
    out.height = rows < 0 ? 0 : rows / g->stride_y + 1;
    out.width = columns < 0 ? 0 : columns / g->stride_x + 1;
    out.channels = g->out_channels;
    return out;
}

#ifdef __GNUC__
#define SURGE_INLINE static inline __attribute__((always_inline))
#else
#define SURGE_INLINE static inline
#endif

/* exp with the same bits on every machine: expf_u10 of SLEEF, by which PyTorch computes sigmoid, SiLU and softmax. */
SURGE_INLINE float surge_exp(float x)
{
    float r, y;
    int32_t q;
    uint32_t bits[2];
    float powers[2];
    x = x < -105.0f ? -105.0f : x; /* whose exp is 0 */
    x = x > 105.0f ? 105.0f : x;   /* infinity */
    r = rintf(x * 1.44269504f);
    q = (int32_t)(x == x ? r : 0.0f);
    x = fmaf(r, -0.693145751953125f, x);
    x = fmaf(r, -1.428606765330187045e-06f, x);
    y = 0.000198527617612853646278381f;
    y = fmaf(y, x, 0.00139304355252534151077271f);
    y = fmaf(y, x, 0.00833336077630519866943359f);
    y = fmaf(y, x, 0.0416664853692054748535156f);
    y = fmaf(y, x, 0.166666671633720397949219f);
    y = fmaf(y, x, 0.5f);
    y = 1.0f + fmaf(x * x, y, x);
    bits[0] = (uint32_t)(q / 2 + 127) << 23; /* two powers of 2, since one of them may be too small for float32 */
    bits[1] = (uint32_t)(q - q / 2 + 127) << 23;
    memcpy(powers, bits, sizeof powers);
    return y * powers[0] * powers[1];
}

SURGE_INLINE float surge_sigmoid(float x)
{
    return 1.0f / (1.0f + surge_exp(-x));
}
