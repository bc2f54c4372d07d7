/* Steps before and after the sums of a convolution, by vectors. A block of filters is SURGE_REGISTERS vectors. */
#define SURGE_REGISTERS (SURGE_ROW / SURGE_LANES)

/* As surge_finish_plain. */
SURGE_TARGET static inline void SURGE_OF(surge_finish)(
    const surge_target *t, const surge_table *n, const float *sums, int stride, int pixel, int pixels, int channel, int count)
{
    size_t channels = (size_t)t->channels, words = (channels + 31) / 32;
    uint32_t all = (1u << count) - 1u;
    for (int k = pixel; k < pixel + pixels; k++, sums += stride) {
        size_t at = (size_t)k * channels + (size_t)channel;
        uint32_t bits = 0;
        SURGE_UNROLL
        for (int r = 0, i = 0; r < SURGE_REGISTERS; r++, i += SURGE_LANES) {
            SURGE_FLOATS y = SURGE_MUL(SURGE_LOAD(sums + i), SURGE_LOAD(n->m1 + i)), negative;
            SURGE_KEEP(y);
            y = SURGE_FMA(SURGE_ADD(y, SURGE_LOAD(n->a1 + i)), SURGE_LOAD(n->m2 + i), SURGE_LOAD(n->a2 + i));
            if (t->shortcut && count >= i + SURGE_LANES)
                y = SURGE_ADD(y, SURGE_LOAD(t->shortcut + at + i));
            else if (t->shortcut && count > i)
                y = SURGE_ADD(y, SURGE_LOAD_PART(t->shortcut + at + i, count - i));
            if (t->activates) {
                y = SURGE_ADD(y, SURGE_LOAD(n->p + i));
                negative = SURGE_MUL(y, SURGE_LOAD(n->slope + i));
                SURGE_KEEP(negative);
                y = SURGE_ADD(SURGE_IF_POSITIVE(y, y, negative), SURGE_LOAD(n->c + i));
                y = SURGE_AT_LEAST(y, SURGE_LOAD(n->low + i));
                y = SURGE_AT_MOST(y, SURGE_LOAD(n->high + i));
            }
            if (t->out && count >= i + SURGE_LANES)
                SURGE_STORE(t->out + at + i, y);
            else if (t->out && count > i)
                SURGE_STORE_PART(t->out + at + i, y, count - i);
            if (t->out_bits) bits |= SURGE_SIGNS(SURGE_ADD(y, SURGE_LOAD(n->shift + i))) << i;
        }
        if (t->out_bits) surge_put(t->out_bits + (size_t)k * words, channel, count, bits & all);
    }
}
