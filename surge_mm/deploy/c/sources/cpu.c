/* Instructions of this CPU. On x86 they are found when the program runs, elsewhere when it is compiled. */

#define SURGE_IS_PLAIN 1
#define SURGE_IS_NEON 2
#define SURGE_IS_WASM 2   /* WebAssembly with vectors of 128 bits */
#define SURGE_IS_AVX2 2   /* AVX2 and FMA */
#define SURGE_IS_AVX512 3 /* AVX-512 F, BW, DQ, VL, VBMI, VNNI and VPOPCNTDQ */

static int surge_cpu_is = 0; /* one of these once it is found. Threads may look for it at the same time. */

#if (defined(__x86_64__) || defined(__i386__)) && defined(__GNUC__) && !defined(SURGE_PLAIN)
#define SURGE_X86 1
#define SURGE_VECTORS 1 /* kernels by vectors, which need more memory than plain C */
#include <cpuid.h>
#include <immintrin.h>

static inline int surge_find_cpu(void)
{
    unsigned a = 0, b = 0, c = 0, d = 0, first = 0, enabled, high;
    const unsigned avx2 = 1u << 5, avx512 = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31; /* F, DQ, BW, VL */
    const unsigned bits = 1u << 1 | 1u << 11 | 1u << 14;                            /* VBMI, VNNI, VPOPCNTDQ */
    if (!__get_cpuid(1, &a, &b, &first, &d) || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return SURGE_IS_PLAIN;
    if (!(first >> 27 & 1u)) return SURGE_IS_PLAIN; /* no xgetbv */
    __asm__ volatile("xgetbv" : "=a"(enabled), "=d"(high) : "c"(0)); /* registers that the operating system saves */
    if ((enabled & 6u) != 6u || !(first >> 12 & 1u) || !(first >> 28 & 1u) || !(b & avx2)) return SURGE_IS_PLAIN;
    if ((enabled & 0xE0u) == 0xE0u && (b & avx512) == avx512 && (c & bits) == bits) return SURGE_IS_AVX512;
    return SURGE_IS_AVX2;
}
#elif defined(__ARM_NEON) && defined(__GNUC__) && !defined(SURGE_PLAIN)
#define SURGE_NEON 1
#define SURGE_VECTORS 1
#include <arm_neon.h>

static inline int surge_find_cpu(void)
{
    return SURGE_IS_NEON;
}
#elif defined(__wasm_simd128__) && !defined(SURGE_PLAIN)
#define SURGE_WASM 1
#define SURGE_VECTORS 1
#include <wasm_simd128.h>

static inline int surge_find_cpu(void)
{
    return SURGE_IS_WASM;
}
#else
static inline int surge_find_cpu(void)
{
    return SURGE_IS_PLAIN;
}
#endif

#ifdef SURGE_VECTORS
#define SURGE_EITHER(vectors, plain) (vectors)
#else
#define SURGE_EITHER(vectors, plain) (plain)
#endif

static inline int surge_cpu(void)
{
#ifdef __GNUC__
    int is = __atomic_load_n(&surge_cpu_is, __ATOMIC_RELAXED);
    if (!is) __atomic_store_n(&surge_cpu_is, is = surge_find_cpu(), __ATOMIC_RELAXED);
    return is;
#else
    (void)surge_cpu_is;
    return surge_find_cpu(); /* which is known when it is compiled */
#endif
}

/* The kernel NAME for this CPU, NAME_avx512 for example, or `plain` where it has no vectors. */
#if defined(SURGE_X86)
#define SURGE_KERNEL(name, plain) \
    (surge_cpu() == SURGE_IS_AVX512 ? name##_avx512 : surge_cpu() == SURGE_IS_AVX2 ? name##_avx2 : plain)
#elif defined(SURGE_NEON)
#define SURGE_KERNEL(name, plain) name##_neon
#elif defined(SURGE_WASM)
#define SURGE_KERNEL(name, plain) name##_wasm
#else
#define SURGE_KERNEL(name, plain) plain
#endif

/* Loops over registers must be unrolled, so that none of them is kept in memory. */
#if defined(__clang__)
#define SURGE_UNROLL _Pragma("clang loop unroll(full)")
#elif defined(__GNUC__)
#define SURGE_UNROLL _Pragma("GCC unroll 64")
#else
#define SURGE_UNROLL
#endif

/* An index that compilers keep in a register, instead of an address for each number that is read with it. */
#ifdef __GNUC__
#define SURGE_HIDE(i) __asm__("" : "+r"(i))
#else
#define SURGE_HIDE(i) (void)(i)
#endif
