#define @NAME@_BOXES @n_boxes@ /* largest number of boxes of a picture */
#define @NAME@_ERROR_BOXES -5 /* max is below 0 */

/* A box in pixels of the picture, and its class as an index into @name@_classes. */
typedef struct {
    float x1, y1, x2, y2, score;
    int label;
} @name@_box;

/* Find boxes in a picture of 8 bits, (height, width, 3), RGB, whose rows are `stride` bytes apart.
 * Write the best ones, at most `max`, the best first. Return their number or an error. */
int @name@_detect(
    @name@_context *context, const unsigned char *rgb, int width, int height, int stride, @name@_box *boxes, int max);
