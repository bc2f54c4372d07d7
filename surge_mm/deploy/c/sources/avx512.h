/* Vectors of AVX-512. */
#define SURGE_OF(name) name##_avx512
#define SURGE_TARGET __attribute__((target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,avx512vpopcntdq")))
#define SURGE_LANES 16
#define SURGE_TILE 8        /* output pixels of a tile */
#define SURGE_BYTES_TILE 8  /* of bytes */
#define SURGE_FIRST_HALF(step) step(0) step(1) step(2) step(3)
#define SURGE_OTHER_HALF(step) step(4) step(5) step(6) step(7)
#define SURGE_FIRST_HALF_OF_BYTES(step) SURGE_FIRST_HALF(step)
#define SURGE_OTHER_HALF_OF_BYTES(step) SURGE_OTHER_HALF(step)
#define SURGE_TILE_BLOCKS 3 /* blocks of filters of a tile */
#define SURGE_FLOATS __m512
#define SURGE_INTS __m512i
#define SURGE_LOAD(p) _mm512_loadu_ps(p)
#define SURGE_STORE(p, y) _mm512_storeu_ps(p, y)
#define SURGE_LOAD_PART(p, n) _mm512_maskz_loadu_ps((__mmask16)((1u << (n)) - 1u), p)
#define SURGE_STORE_PART(p, y, n) _mm512_mask_storeu_ps(p, (__mmask16)((1u << (n)) - 1u), y)
#define SURGE_SPLAT(x) _mm512_set1_ps(x)
#define SURGE_ADD(a, b) _mm512_add_ps(a, b)
#define SURGE_MUL(a, b) _mm512_mul_ps(a, b)
#define SURGE_FMA(a, b, c) _mm512_fmadd_ps(a, b, c)
#define SURGE_ADD_PRODUCT(sum, a, b) _mm512_fmadd_ps(a, b, sum)
#define SURGE_KEEP(y) __asm__("" : "+v"(y))
/* y > 0 ? y : slope y */
#define SURGE_BEND(y, slope) _mm512_mask_mul_ps(y, _mm512_cmp_ps_mask(y, _mm512_setzero_ps(), _CMP_NGT_UQ), y, slope)
/* max returns the second number where one is NaN or both are zeros */
#define SURGE_AT_LEAST(y, low) _mm512_max_ps(low, y)
#define SURGE_NUMBER_AT_LEAST(y, low) _mm512_max_ps(y, low) /* low for NaN */
#define SURGE_AT_MOST(y, high) _mm512_min_ps(high, y)
#define SURGE_SIGN_BITS uint16_t
#define SURGE_SIGNS(y) ((uint32_t)_mm512_movepi32_mask(_mm512_castps_si512(y)))
#define SURGE_RINT(y) _mm512_roundscale_ps(y, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)
#define SURGE_STORE_BYTES(p, y) _mm_storeu_si128((__m128i *)(void *)(p), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(y)))
#define SURGE_ZEROS _mm512_setzero_si512()
#define SURGE_SPLAT_INT(x) _mm512_set1_epi32(x)
#define SURGE_LOAD_INTS(p) _mm512_loadu_si512(p)
#define SURGE_STORE_INTS(p, v) _mm512_storeu_si512(p, v)
#define SURGE_ADD_INT(a, b) _mm512_add_epi32(a, b)
#define SURGE_TO_FLOATS(v) _mm512_cvtepi32_ps(v)
/* Add the products of four bytes with four weights in each lane. */
#define SURGE_ADD_BYTES(sum, x, w) surge_add_bytes_avx512(sum, x, w)
#define SURGE_ADD_INTS(sum, x, w) _mm512_add_epi32(sum, _mm512_mullo_epi32(x, w))
#define SURGE_LOAD_UINT8(p) _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)(p)))
#define SURGE_LOAD_INT8(p) _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)(p)))

/* Not by its intrinsic function, with which GCC 12 keeps the sums in memory. */
SURGE_INLINE SURGE_TARGET __m512i surge_add_bytes_avx512(__m512i sum, __m512i x, __m512i w)
{
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(x), "v"(w));
    return sum;
}
