#define @NAME@_SCORES @scores@ /* number of classes */

/* Write the score of each class, 0 to 1, of a picture of 8 bits, (height, width, 3), RGB, whose rows are `stride` bytes
 * apart. It is resized and cropped as in the test pipeline. Return 0 or an error. */
int @name@_classify(
    @name@_context *context, const unsigned char *rgb, int width, int height, int stride, float scores[@NAME@_SCORES]);
