/* Vectors of WebAssembly, of 128 bits. */
#define SURGE_OF(name) name##_wasm
#define SURGE_TARGET
#define SURGE_LANES 4
#define SURGE_TILE 2 /* output pixels of a tile: engines have 16 registers for vectors on x86 */
#define SURGE_FIRST_HALF(step) step(0)
#define SURGE_OTHER_HALF(step) step(1)
#define SURGE_BYTES_TILE SURGE_TILE /* of bytes */
#define SURGE_FIRST_HALF_OF_BYTES(step) SURGE_FIRST_HALF(step)
#define SURGE_OTHER_HALF_OF_BYTES(step) SURGE_OTHER_HALF(step)
#define SURGE_TILE_BLOCKS 1 /* blocks of filters of a tile */
#define SURGE_FLOATS v128_t
#define SURGE_INTS v128_t
#define SURGE_LOAD(p) wasm_v128_load(p)
#define SURGE_STORE(p, y) wasm_v128_store(p, y)
#define SURGE_LOAD_PART(p, n) surge_load_part_wasm(p, n)
#define SURGE_STORE_PART(p, y, n) surge_store_part_wasm(p, y, n)
#define SURGE_SPLAT(x) wasm_f32x4_splat(x)
#define SURGE_ADD(a, b) wasm_f32x4_add(a, b)
#define SURGE_MUL(a, b) wasm_f32x4_mul(a, b)
#define SURGE_FMA(a, b, c) surge_fma_wasm(a, b, c)
#define SURGE_ADD_PRODUCT(sum, a, b) wasm_f32x4_add(sum, wasm_f32x4_mul(a, b))
#define SURGE_KEEP(y) (void)(y) /* there is no instruction that merges a product and a sum */
#define SURGE_BEND(y, slope) wasm_v128_bitselect(y, wasm_f32x4_mul(y, slope), wasm_f32x4_gt(y, wasm_f32x4_splat(0.0f))) /* y > 0 ? y : slope y */
#define SURGE_AT_LEAST(y, low) wasm_f32x4_pmax(y, low)
#define SURGE_NUMBER_AT_LEAST(y, low) wasm_f32x4_pmax(low, y) /* low for NaN */
#define SURGE_AT_MOST(y, high) wasm_f32x4_pmin(y, high)
#define SURGE_SIGN_BITS uint8_t
#define SURGE_SIGNS(y) ((uint32_t)wasm_i32x4_bitmask(y))
#define SURGE_RINT(y) wasm_f32x4_nearest(y)
#define SURGE_STORE_BYTES(p, y) surge_store_bytes_wasm(p, y)
#define SURGE_ZEROS wasm_i32x4_splat(0)
#define SURGE_SPLAT_INT(x) wasm_i32x4_splat(x)
#define SURGE_LOAD_INTS(p) wasm_v128_load(p)
#define SURGE_STORE_INTS(p, v) wasm_v128_store(p, v)
#define SURGE_ADD_INT(a, b) wasm_i32x4_add(a, b)
#define SURGE_SUB_INT(a, b) wasm_i32x4_sub(a, b)
#define SURGE_TO_FLOATS(v) wasm_f32x4_convert_i32x4(v)
#define SURGE_COUNTS v128_t
#define SURGE_NO_COUNTS wasm_i8x16_splat(0)
#define SURGE_LOAD_COUNTS(p) wasm_v128_load(p)
#define SURGE_SPLAT_BYTE(p) wasm_v128_load8_splat(p)
#define SURGE_XOR(a, b) wasm_v128_xor(a, b)
#define SURGE_POPCOUNTS(v) wasm_i8x16_popcnt(v)
#define SURGE_ADD_COUNTS(a, b) wasm_i8x16_add(a, b)
#define SURGE_TWICE(p) wasm_i32x4_shl(wasm_u32x4_load16x4(p), 1) /* of four numbers of 16 bits */
#define SURGE_ADD_BYTES(sum, x, w) surge_add_bytes_wasm(sum, x, w)
#define SURGE_ADD_INTS(sum, x, w) wasm_i32x4_add(sum, wasm_i32x4_mul(x, w))
#define SURGE_LOAD_UINT8(p) wasm_u32x4_extend_low_u16x8(wasm_u16x8_extend_low_u8x16(wasm_v128_load32_zero(p)))
#define SURGE_LOAD_INT8(p) wasm_i32x4_extend_low_i16x8(wasm_i16x8_extend_low_i8x16(wasm_v128_load32_zero(p)))

static inline v128_t surge_load_part_wasm(const float *p, int n)
{
    float four[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    for (int i = 0; i < n; i++) four[i] = p[i];
    return wasm_v128_load(four);
}

static inline void surge_store_part_wasm(float *p, v128_t y, int n)
{
    float four[4];
    wasm_v128_store(four, y);
    for (int i = 0; i < n; i++) p[i] = four[i];
}

/* a b + c of two float64 that are float32, rounded to odd: the last bit is 1 where the sum is not exact. Its rounding to
 * float32 is then that of the exact sum.
 */
SURGE_INLINE v128_t surge_odd_sum_wasm(v128_t a, v128_t b, v128_t c)
{
    const v128_t zero = wasm_f64x2_splat(0.0), one = wasm_i64x2_splat(1);
    v128_t product = wasm_f64x2_mul(a, b), sum = wasm_f64x2_add(product, c), part = wasm_f64x2_sub(sum, product);
    v128_t rest = wasm_f64x2_add(wasm_f64x2_sub(product, wasm_f64x2_sub(sum, part)), wasm_f64x2_sub(c, part));
    v128_t above = wasm_f64x2_gt(rest, zero), below = wasm_f64x2_lt(rest, zero); /* both false for NaN */
    v128_t away = wasm_v128_xor(above, wasm_f64x2_lt(sum, zero)); /* from zero, where the sum is not exact */
    v128_t changes = wasm_v128_andnot(wasm_v128_and(wasm_v128_or(above, below), one), sum); /* 1 for an even sum */
    /* + 1 or - 1 as integers: away from zero or towards it */
    return wasm_i64x2_add(sum, wasm_v128_bitselect(changes, wasm_i64x2_neg(changes), away));
}

/* With one rounding. */
SURGE_INLINE v128_t surge_fma_wasm(v128_t a, v128_t b, v128_t c)
{
    v128_t low = surge_odd_sum_wasm(
        wasm_f64x2_promote_low_f32x4(a), wasm_f64x2_promote_low_f32x4(b), wasm_f64x2_promote_low_f32x4(c));
#define SURGE_HIGH(v) wasm_f64x2_promote_low_f32x4(wasm_i64x2_shuffle(v, v, 1, 1))
    v128_t high = surge_odd_sum_wasm(SURGE_HIGH(a), SURGE_HIGH(b), SURGE_HIGH(c));
#undef SURGE_HIGH
    return wasm_i64x2_shuffle(wasm_f32x4_demote_f64x2_zero(low), wasm_f32x4_demote_f64x2_zero(high), 0, 2);
}

static inline void surge_store_bytes_wasm(uint8_t *to, v128_t y)
{
    v128_t words = wasm_i32x4_trunc_sat_f32x4(y);
    words = wasm_i16x8_narrow_i32x4(words, words);
    wasm_v128_store32_lane(to, wasm_u8x16_narrow_i16x8(words, words), 0);
}

/* Add the products of four bytes with four weights in each lane; x has the same bytes in each. */
SURGE_INLINE v128_t surge_add_bytes_wasm(v128_t sum, v128_t x, v128_t w)
{
    v128_t bytes = wasm_u16x8_extend_low_u8x16(x);
    v128_t a = wasm_i32x4_dot_i16x8(bytes, wasm_i16x8_extend_low_i8x16(w));
    v128_t b = wasm_i32x4_dot_i16x8(bytes, wasm_i16x8_extend_high_i8x16(w));
    v128_t pairs = wasm_i32x4_add(wasm_i32x4_shuffle(a, b, 0, 2, 4, 6), wasm_i32x4_shuffle(a, b, 1, 3, 5, 7));
    return wasm_i32x4_add(sum, pairs);
}

/* Add 16 counts to numbers of 16 bits. */
static inline void surge_widen_wasm(v128_t count, uint16_t *total)
{
    wasm_v128_store(total, wasm_i16x8_add(wasm_v128_load(total), wasm_u16x8_extend_low_u8x16(count)));
    wasm_v128_store(total + 8, wasm_i16x8_add(wasm_v128_load(total + 8), wasm_u16x8_extend_high_u8x16(count)));
}
