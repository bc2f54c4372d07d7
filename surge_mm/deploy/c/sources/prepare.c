/* The steps of resize.c, with the lines of bilinear.c or pillow.c. */

typedef struct {
    const surge_input *input;
    const surge_sizes *sizes;
    surge_resizer resizer;
    int next;
} surge_rows;

static void surge_start_rows(
    surge_rows *rows, const surge_input *in, const surge_sizes *sizes, const uint8_t *pixels, ptrdiff_t stride, void *workspace)
{
    surge_resizer *r = &rows->resizer;
    rows->input = in;
    rows->sizes = sizes;
    rows->next = 0;
    r->from = sizes->picture;
    r->to = sizes->resized;
    r->first = sizes->corner.width;
    r->count = sizes->cropped.width;
    r->pixels = pixels;
    r->stride = stride;
    surge_resize_start(r, workspace);
}

/* Write the next row of the input of the network, (sizes.padded.width, 3). of: a surge_rows. */
static void surge_next_row(void *of, float *out)
{
    surge_rows *rows = of;
    const surge_input *in = rows->input;
    const surge_sizes *sizes = rows->sizes;
    const int y = rows->next++;
    const uint8_t *line = y < sizes->cropped.height ? surge_resize_line(&rows->resizer, sizes->corner.height + y) : NULL;
    const int end = line ? sizes->cropped.width : 0, padded = y < sizes->image.height ? sizes->image.width : 0;
    int x = 0;
    for (; x < end; ++x)
        for (int c = 0; c < 3; ++c) *out++ = in->table[3 * line[3 * x + in->channels[c]] + c];
    for (; x < padded; ++x)
        for (int c = 0; c < 3; ++c) *out++ = in->table[3 * in->pad_value[c] + c];
    for (; x < sizes->padded.width; ++x)
        for (int c = 0; c < 3; ++c) *out++ = in->border;
}
