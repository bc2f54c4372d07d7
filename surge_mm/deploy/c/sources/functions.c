/* Functions of all numbers of a map. out may be x. */

SURGE_INLINE float surge_silu(float x)
{
    return x / (1.0f + surge_exp(-x));
}

SURGE_INLINE float surge_within_six(float x)
{
    x = x < 0.0f ? 0.0f : x;
    return x > 6.0f ? 6.0f : x;
}

SURGE_INLINE float surge_hardsigmoid(float x)
{
    return surge_within_six(x + 3.0f) / 6.0f;
}

SURGE_INLINE float surge_hardswish(float x)
{
    return x * surge_within_six(x + 3.0f) / 6.0f;
}

#define SURGE_LOOP(function)                                                                                           \
    for (size_t i = 0; i < n; i++) out[i] = function(x[i])

#ifdef SURGE_X86
#define SURGE_EACH(function)                                                                                           \
    __attribute__((target("avx2,fma"))) static void function##_avx2(size_t n, const float *x, float *out)              \
    {                                                                                                                  \
        SURGE_LOOP(function);                                                                                          \
    }                                                                                                                  \
    static void function##_each(surge_shape s, const float *x, float *out)                                             \
    {                                                                                                                  \
        const size_t n = surge_numbers(s);                                                                             \
        if (surge_cpu() == SURGE_IS_PLAIN)                                                                             \
            SURGE_LOOP(function);                                                                                      \
        else                                                                                                           \
            function##_avx2(n, x, out);                                                                                \
    }
#else
#define SURGE_EACH(function)                                                                                           \
    static void function##_each(surge_shape s, const float *x, float *out)                                             \
    {                                                                                                                  \
        const size_t n = surge_numbers(s);                                                                             \
        SURGE_LOOP(function);                                                                                          \
    }
#endif

