/* Vectors of AVX2. */
#define SURGE_OF(name) name##_avx2
#define SURGE_TARGET __attribute__((target("avx2,fma")))
#define SURGE_LANES 8
#define SURGE_TILE 6        /* output pixels of a tile */
#define SURGE_BYTES_TILE 4  /* of bytes */
#define SURGE_FIRST_HALF(step) step(0) step(1) step(2)
#define SURGE_OTHER_HALF(step) step(3) step(4) step(5)
#define SURGE_FIRST_HALF_OF_BYTES(step) step(0) step(1)
#define SURGE_OTHER_HALF_OF_BYTES(step) step(2) step(3)
#define SURGE_TILE_BLOCKS 1 /* blocks of filters of a tile */
#define SURGE_FLOATS __m256
#define SURGE_INTS __m256i
#define SURGE_LOAD(p) _mm256_loadu_ps(p)
#define SURGE_STORE(p, y) _mm256_storeu_ps(p, y)
#define SURGE_FIRST(n) _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))
#define SURGE_LOAD_PART(p, n) _mm256_maskload_ps(p, SURGE_FIRST(n))
#define SURGE_STORE_PART(p, y, n) _mm256_maskstore_ps(p, SURGE_FIRST(n), y)
#define SURGE_SPLAT(x) _mm256_set1_ps(x)
#define SURGE_ADD(a, b) _mm256_add_ps(a, b)
#define SURGE_MUL(a, b) _mm256_mul_ps(a, b)
#define SURGE_FMA(a, b, c) _mm256_fmadd_ps(a, b, c)
#define SURGE_ADD_PRODUCT(sum, a, b) _mm256_fmadd_ps(a, b, sum)
#define SURGE_KEEP(y) __asm__("" : "+x"(y))
/* y > 0 ? y : slope y */
#define SURGE_BEND(y, slope) _mm256_blendv_ps(_mm256_mul_ps(y, slope), y, _mm256_cmp_ps(y, _mm256_setzero_ps(), _CMP_GT_OQ))
/* max returns the second number where one is NaN or both are zeros */
#define SURGE_AT_LEAST(y, low) _mm256_max_ps(low, y)
#define SURGE_NUMBER_AT_LEAST(y, low) _mm256_max_ps(y, low) /* low for NaN */
#define SURGE_AT_MOST(y, high) _mm256_min_ps(high, y)
#define SURGE_SIGN_BITS uint8_t
#define SURGE_SIGNS(y) ((uint32_t)_mm256_movemask_ps(y))
#define SURGE_RINT(y) _mm256_round_ps(y, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)
#define SURGE_STORE_BYTES(p, y) surge_store_bytes_avx2(p, _mm256_cvtps_epi32(y))
#define SURGE_ZEROS _mm256_setzero_si256()
#define SURGE_SPLAT_INT(x) _mm256_set1_epi32(x)
#define SURGE_LOAD_INTS(p) _mm256_loadu_si256((const __m256i *)(const void *)(p))
#define SURGE_STORE_INTS(p, v) _mm256_storeu_si256((__m256i *)(void *)(p), v)
#define SURGE_ADD_INT(a, b) _mm256_add_epi32(a, b)
#define SURGE_TO_FLOATS(v) _mm256_cvtepi32_ps(v)
/* Add the products of four bytes with four weights in each lane. */
#define SURGE_ADD_BYTES(sum, x, w) surge_add_bytes_avx2(sum, x, w)
#define SURGE_ADD_INTS(sum, x, w) _mm256_add_epi32(sum, _mm256_mullo_epi32(x, w))
#define SURGE_LOAD_UINT8(p) _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)(p)))
#define SURGE_LOAD_INT8(p) _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)(p)))

SURGE_TARGET static inline void surge_store_bytes_avx2(uint8_t *to, __m256i v)
{
    __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    _mm_storel_epi64((__m128i *)(void *)to, _mm_packus_epi16(words, words));
}

/* Pairs of products fit into 16 bits. With the intrinsic function of the sum, GCC 12 copies each sum at each step. */
SURGE_INLINE SURGE_TARGET __m256i surge_add_bytes_avx2(__m256i sum, __m256i x, __m256i w)
{
    __m256i products = _mm256_madd_epi16(_mm256_maddubs_epi16(x, w), _mm256_set1_epi16(1));
    __asm__("vpaddd %1, %0, %0" : "+x"(sum) : "x"(products));
    return sum;
}
