/* As surge_quantize_plain. */
SURGE_TARGET static inline void SURGE_OF(surge_quantize)(const float *x, size_t count, float inverse, float zero, uint8_t *q)
{
    size_t i = 0;
    for (; i + SURGE_LANES <= count; i += SURGE_LANES) {
        SURGE_FLOATS y = SURGE_RINT(SURGE_MUL(SURGE_LOAD(x + i), SURGE_SPLAT(inverse)));
        y = SURGE_NUMBER_AT_LEAST(SURGE_ADD(y, SURGE_SPLAT(zero)), SURGE_SPLAT(0.0f));
        SURGE_STORE_BYTES(q + i, SURGE_AT_MOST(y, SURGE_SPLAT(255.0f)));
    }
    surge_quantize_plain(x + i, count - i, inverse, zero, q + i);
}
