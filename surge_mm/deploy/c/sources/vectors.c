/* Steps before and after the sums of a convolution, by vectors. A block of filters is SURGE_REGISTERS vectors. */
#define SURGE_REGISTERS (SURGE_ROW / SURGE_LANES)

/* As surge_finish_plain. */
SURGE_TARGET static inline void SURGE_OF(surge_finish)(
    const surge_target *t, const surge_table *n, const float *sums, int stride, int pixel, int pixels, int channel, int count)
{
    const size_t channels = (size_t)t->channels, words = (channels + 31) / 32;
    const int activates = t->activates, scales = t->epilogue->m2 != NULL;
    for (int i = 0; i < SURGE_ROW && i < count; i += SURGE_LANES) {
        const SURGE_FLOATS m1 = SURGE_LOAD(n->m1 + i), a1 = SURGE_LOAD(n->a1 + i), m2 = SURGE_LOAD(n->m2 + i),
                           a2 = SURGE_LOAD(n->a2 + i), before = SURGE_LOAD(n->p + i), slope = SURGE_LOAD(n->slope + i),
                           after = SURGE_LOAD(n->c + i), low = SURGE_LOAD(n->low + i), high = SURGE_LOAD(n->high + i),
                           shift = SURGE_LOAD(n->shift + i);
        const int left = count - i < SURGE_LANES ? count - i : SURGE_LANES, whole = left == SURGE_LANES;
        const int whole_bytes = whole && SURGE_LANES >= 8 && (channel + i) % SURGE_LANES == 0;
        const uint32_t all = (1u << left) - 1u;
        const size_t at = (size_t)pixel * channels + (size_t)(channel + i);
        const float *added = t->shortcut ? t->shortcut + at : NULL;
        float *out = t->out ? t->out + at : NULL;
        uint32_t *bits = t->out_bits ? t->out_bits + (size_t)pixel * words : NULL;
        for (const float *sum = sums + i, *end = sum + pixels * stride; sum < end; sum += stride) {
            SURGE_FLOATS y = SURGE_MUL(SURGE_LOAD(sum), m1);
            SURGE_KEEP(y);
            y = SURGE_ADD(y, a1);
            if (scales) y = SURGE_FMA(y, m2, a2);
            if (added) {
                y = SURGE_ADD(y, whole ? SURGE_LOAD(added) : SURGE_LOAD_PART(added, left));
                added += channels;
            }
            if (activates) {
                y = SURGE_ADD(y, before);
                y = SURGE_BEND(y, slope);
                SURGE_KEEP(y);
                y = SURGE_ADD(y, after);
                y = SURGE_AT_LEAST(y, low);
                y = SURGE_AT_MOST(y, high);
            }
            if (out) {
                if (whole)
                    SURGE_STORE(out, y);
                else
                    SURGE_STORE_PART(out, y, left);
                out += channels;
            }
            if (!bits) continue;
            if (whole_bytes) {
                SURGE_SIGN_BITS of_lanes = (SURGE_SIGN_BITS)SURGE_SIGNS(SURGE_ADD(y, shift));
                memcpy((unsigned char *)bits + (channel + i) / 8, &of_lanes, sizeof of_lanes);
            } else
                surge_put(bits, channel + i, left, SURGE_SIGNS(SURGE_ADD(y, shift)) & all);
            bits += words;
        }
    }
}
