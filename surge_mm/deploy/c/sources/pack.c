/* Write the signs of the channels of consecutive pixels. shift has a number for each channel. */
SURGE_TARGET static inline void SURGE_OF(surge_pack)(
    const float *x, const float *shift, int groups, int channels, int pixels, uint32_t *words)
{
    if (groups > 1 || channels % 32) {
        for (int i = 0; i < pixels; i++, x += groups * channels, words += groups * ((channels + 31) / 32))
            surge_pack_pixel(x, shift, groups, channels, words);
        return;
    }
    for (int i = 0; i < pixels; i++)
        for (int first = 0; first < channels; first += 32, x += 32) {
            uint32_t bits = 0;
            SURGE_UNROLL
            for (int k = 0; k < 32; k += SURGE_LANES) {
                SURGE_FLOATS y = SURGE_LOAD(x + k);
                if (shift) y = SURGE_ADD(y, SURGE_LOAD(shift + first + k));
                bits |= SURGE_SIGNS(y) << k;
            }
            *words++ = bits;
        }
}
