/* Vectors of NEON, of 64 bits and of 32. */
#define SURGE_OF(name) name##_neon
#define SURGE_TARGET
#define SURGE_LANES 4
#ifdef __aarch64__
#define SURGE_TILE 4 /* output pixels of a tile */
#define SURGE_FIRST_HALF(step) step(0) step(1)
#define SURGE_OTHER_HALF(step) step(2) step(3)
#else
#define SURGE_TILE 2
#define SURGE_FIRST_HALF(step) step(0)
#define SURGE_OTHER_HALF(step) step(1)
#endif
#define SURGE_BYTES_TILE SURGE_TILE /* of bytes */
#define SURGE_FIRST_HALF_OF_BYTES(step) SURGE_FIRST_HALF(step)
#define SURGE_OTHER_HALF_OF_BYTES(step) SURGE_OTHER_HALF(step)
#define SURGE_TILE_BLOCKS 1 /* blocks of filters of a tile */
#define SURGE_FLOATS float32x4_t
#define SURGE_INTS int32x4_t
#define SURGE_LOAD(p) vld1q_f32(p)
#define SURGE_STORE(p, y) vst1q_f32(p, y)
#define SURGE_LOAD_PART(p, n) surge_load_part_neon(p, n)
#define SURGE_STORE_PART(p, y, n) surge_store_part_neon(p, y, n)
#define SURGE_SPLAT(x) vdupq_n_f32(x)
#define SURGE_ADD(a, b) vaddq_f32(a, b)
#define SURGE_MUL(a, b) vmulq_f32(a, b)
#ifdef __ARM_FEATURE_FMA
#define SURGE_FMA(a, b, c) vfmaq_f32(c, a, b)
#define SURGE_ADD_PRODUCT(sum, a, b) vfmaq_f32(sum, a, b)
#else
#define SURGE_FMA(a, b, c) surge_fma_neon(a, b, c)
#define SURGE_ADD_PRODUCT(sum, a, b) vmlaq_f32(sum, a, b)
#endif
#define SURGE_KEEP(y) __asm__("" : "+w"(y))
#define SURGE_BEND(y, slope) vbslq_f32(vcgtq_f32(y, vdupq_n_f32(0.0f)), y, vmulq_f32(y, slope)) /* y > 0 ? y : slope y */
#define SURGE_AT_LEAST(y, low) vbslq_f32(vcltq_f32(y, low), low, y)
#define SURGE_NUMBER_AT_LEAST(y, low) vbslq_f32(vcgtq_f32(y, low), y, low) /* low for NaN */
#define SURGE_AT_MOST(y, high) vbslq_f32(vcgtq_f32(y, high), high, y)
#define SURGE_SIGN_BITS uint8_t
#define SURGE_SIGNS(y) surge_signs_neon(y)
#define SURGE_RINT(y) surge_rint_neon(y)
#define SURGE_STORE_BYTES(p, y) surge_store_bytes_neon(p, y)
#define SURGE_ZEROS vdupq_n_s32(0)
#define SURGE_SPLAT_INT(x) vdupq_n_s32(x)
#define SURGE_LOAD_INTS(p) vreinterpretq_s32_s8(vld1q_s8((const int8_t *)(const void *)(p)))
#define SURGE_STORE_INTS(p, v) vst1q_s32(p, v)
#define SURGE_ADD_INT(a, b) vaddq_s32(a, b)
#define SURGE_SUB_INT(a, b) vsubq_s32(a, b)
#define SURGE_TO_FLOATS(v) vcvtq_f32_s32(v)
#define SURGE_COUNTS uint8x16_t
#define SURGE_NO_COUNTS vdupq_n_u8(0)
#define SURGE_LOAD_COUNTS(p) vld1q_u8(p)
#define SURGE_SPLAT_BYTE(p) vld1q_dup_u8(p)
#define SURGE_XOR(a, b) veorq_u8(a, b)
#define SURGE_POPCOUNTS(v) vcntq_u8(v)
#define SURGE_ADD_COUNTS(a, b) vaddq_u8(a, b)
#define SURGE_TWICE(p) vreinterpretq_s32_u32(vshll_n_u16(vld1_u16(p), 1)) /* of four numbers of 16 bits */
#define SURGE_ADD_BYTES(sum, x, w) surge_add_bytes_neon(sum, x, w)
#define SURGE_ADD_INTS(sum, x, w) vmlaq_s32(sum, x, w)
#define SURGE_LOAD_UINT8(p) vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(vmovl_u8(surge_four_neon(p)))))
#define SURGE_LOAD_INT8(p) vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_u8(surge_four_neon(p)))))

static inline float32x4_t surge_load_part_neon(const float *p, int n)
{
    float four[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    for (int i = 0; i < n; i++) four[i] = p[i];
    return vld1q_f32(four);
}

static inline void surge_store_part_neon(float *p, float32x4_t y, int n)
{
    float four[4];
    vst1q_f32(four, y);
    for (int i = 0; i < n; i++) p[i] = four[i];
}

/* With one rounding, on a CPU that has no such instruction. */
static inline float32x4_t surge_fma_neon(float32x4_t a, float32x4_t b, float32x4_t c)
{
    float x[4], y[4], z[4];
    vst1q_f32(x, a);
    vst1q_f32(y, b);
    vst1q_f32(z, c);
    for (int i = 0; i < 4; i++) x[i] = fmaf(x[i], y[i], z[i]);
    return vld1q_f32(x);
}

static inline uint32_t surge_signs_neon(float32x4_t y)
{
    static const int32_t places[4] = {0, 1, 2, 3};
    uint32x4_t bits = vshlq_u32(vshrq_n_u32(vreinterpretq_u32_f32(y), 31), vld1q_s32(places));
    uint32x2_t pairs = vpadd_u32(vget_low_u32(bits), vget_high_u32(bits));
    return vget_lane_u32(vpadd_u32(pairs, pairs), 0);
}

/* To the nearest integer, ties to even. Without an instruction for it, numbers beyond 1024 become 1024, which is enough for
 * bytes.
 */
static inline float32x4_t surge_rint_neon(float32x4_t y)
{
#ifdef __aarch64__
    return vrndnq_f32(y);
#else
    const float32x4_t large = vdupq_n_f32(12582912.0f); /* 1.5 2^23: a sum with it has no fraction */
    y = SURGE_AT_MOST(SURGE_AT_LEAST(y, vdupq_n_f32(-1024.0f)), vdupq_n_f32(1024.0f));
    y = vaddq_f32(y, large);
    SURGE_KEEP(y);
    return vsubq_f32(y, large);
#endif
}

static inline void surge_store_bytes_neon(uint8_t *to, float32x4_t y)
{
    uint16x4_t words = vmovn_u32(vcvtq_u32_f32(y));
    uint32_t four = vget_lane_u32(vreinterpret_u32_u8(vmovn_u16(vcombine_u16(words, words))), 0);
    memcpy(to, &four, sizeof four);
}

static inline uint8x8_t surge_four_neon(const void *p)
{
    uint32_t four;
    memcpy(&four, p, sizeof four);
    return vreinterpret_u8_u32(vdup_n_u32(four));
}

/* Add the products of four bytes with four weights in each lane. A product, and the sum of two, fits into 16 bits. */
SURGE_INLINE int32x4_t surge_add_bytes_neon(int32x4_t sum, int32x4_t x, int32x4_t w)
{
    int16x8_t bytes = vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(vreinterpretq_u8_s32(x))));
    int8x16_t weights = vreinterpretq_s8_s32(w);
    int16x8_t a = vmulq_s16(bytes, vmovl_s8(vget_low_s8(weights))), b = vmulq_s16(bytes, vmovl_s8(vget_high_s8(weights)));
#ifdef __aarch64__
    return vpadalq_s16(sum, vpaddq_s16(a, b));
#else
    int16x4_t first = vpadd_s16(vget_low_s16(a), vget_high_s16(a)), second = vpadd_s16(vget_low_s16(b), vget_high_s16(b));
    return vpadalq_s16(sum, vcombine_s16(first, second));
#endif
}

/* Add 16 counts to numbers of 16 bits. */
static inline void surge_widen_neon(uint8x16_t count, uint16_t *total)
{
    vst1q_u16(total, vaddw_u8(vld1q_u16(total), vget_low_u8(count)));
    vst1q_u16(total + 8, vaddw_u8(vld1q_u16(total + 8), vget_high_u8(count)));
}
