/* The image that a network takes: its numbers, or what makes its rows one after another. */
typedef struct {
    const float *values; /* (height, width, channels), or NULL */
    void (*next_row)(void *of, float *row);
    void *of;
} surge_image;

/* Return the numbers of an image, which are written to `to` if its rows are made. */
static inline const float *surge_whole_image(const surge_image *image, surge_shape s, float *to)
{
    if (image->values) return image->values;
    for (int y = 0; y < s.height; y++) image->next_row(image->of, to + (size_t)y * (size_t)(s.width * s.channels));
    return to;
}

/* A convolution whose input is the image, in bands of so many output rows. A band is a convolution of its input rows with
 * less padding.
 */
typedef struct {
    const void *layer;
    const surge_image *image;
    float *lines; /* the input rows of a band, made of the picture */
    int band;
} surge_image_layer;

#define SURGE_OF_IMAGE(kind)                                                                                           \
    static inline void surge_compute_##kind##_of_image(const surge_call *call, surge_part all, void *workspace)        \
    {                                                                                                                  \
        const surge_image_layer *const of = call->layer;                                                               \
        const surge_##kind##_layer *const l = of->layer;                                                               \
        const surge_geometry *g = &l->geometry;                                                                        \
        const surge_image *const image = of->image;                                                                    \
        const surge_shape in = call->in, shape = surge_output(g, in);                                                  \
        const size_t row = (size_t)(in.width * in.channels), out_row = (size_t)(shape.width * shape.channels);         \
        const size_t words_row = (size_t)(shape.width * ((shape.channels + 31) / 32));                                 \
        int kept = 0, made = 0; /* rows of the image: the first one in lines, and how many were made */                \
        for (int first = all.first_row; first < all.end_row; first += of->band) {                                      \
            const int rows = all.end_row - first < of->band ? all.end_row - first : of->band;                          \
            int top = first * g->stride_y - g->pad_top, bottom = top + (rows - 1) * g->stride_y + surge_extent(g);     \
            surge_##kind##_layer part = *l;                                                                            \
            surge_shape of_part = in;                                                                                  \
            part.geometry.pad_top = top < 0 ? -top : 0;                                                                \
            part.geometry.pad_bottom = bottom > in.height ? bottom - in.height : 0;                                    \
            if (top < 0) top = 0;                                                                                      \
            if (bottom > in.height) bottom = in.height;                                                                \
            of_part.height = bottom - top;                                                                             \
            if (of->lines && !image->values) {                                                                         \
                memmove(of->lines, of->lines + (size_t)(top - kept) * row, (size_t)(made - top) * row * sizeof(float));\
                for (kept = top; made < bottom; made++)                                                                \
                    image->next_row(image->of, of->lines + (size_t)(made - top) * row);                                \
            }                                                                                                          \
            surge_##kind(                                                                                              \
                NULL, &part, of_part, image->values ? image->values + (size_t)top * row : of->lines, NULL,             \
                call->out ? call->out + (size_t)first * out_row : NULL, call->out_shift,                               \
                call->out_bits ? call->out_bits + (size_t)first * words_row : NULL, workspace);                        \
        }                                                                                                              \
    }                                                                                                                  \
                                                                                                                       \
    /* Rows of a picture are made one after another, by the caller alone. */                                           \
    static inline void surge_##kind##_of_image(                                                                        \
        surge_team *team, const surge_##kind##_layer *l, surge_shape in, const surge_image *image, float *out,         \
        const float *out_shift, uint32_t *out_bits, void *workspace, float *lines, int band)                           \
    {                                                                                                                  \
        const surge_image_layer of = {l, image, lines, band};                                                          \
        const surge_call call = {&of, in, NULL, NULL, NULL, out, out_shift, out_bits};                                 \
        const surge_part all = {0, surge_output(&l->geometry, in).height, 0, l->geometry.out_channels};                \
        surge_divide(image->values ? team : NULL, surge_compute_##kind##_of_image, &call, all, 0, workspace);          \
    }
