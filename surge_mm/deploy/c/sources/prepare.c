/* The steps of resize.c, with the lines of bilinear.c or pillow.c. */

static void surge_prepare(const surge_input *in, const surge_sizes *sizes, const uint8_t *pixels, ptrdiff_t stride,
                          float *out, void *workspace)
{
    surge_resizer resizer;
    resizer.from = sizes->picture;
    resizer.to = sizes->resized;
    resizer.first = sizes->corner.width;
    resizer.count = sizes->cropped.width;
    resizer.pixels = pixels;
    resizer.stride = stride;
    surge_resize_start(&resizer, workspace);
    for (int y = 0; y < sizes->padded.height; ++y) {
        const uint8_t *line = y < sizes->cropped.height ? surge_resize_line(&resizer, sizes->corner.height + y) : NULL;
        const int end = line ? sizes->cropped.width : 0, padded = y < sizes->image.height ? sizes->image.width : 0;
        int x = 0;
        for (; x < end; ++x)
            for (int c = 0; c < 3; ++c) *out++ = in->table[3 * line[3 * x + in->channels[c]] + c];
        for (; x < padded; ++x)
            for (int c = 0; c < 3; ++c) *out++ = in->table[3 * in->pad_value[c] + c];
        for (; x < sizes->padded.width; ++x)
            for (int c = 0; c < 3; ++c) *out++ = in->border;
    }
}
