/* The input of the network from the pixels of a picture: resize, crop, pad, normalize.
 *
 *     surge_sizes sizes;
 *     if (!surge_input_sizes(&input, width, height, &sizes)) ...   the picture is empty or too large
 *     surge_start_rows(&rows, &input, &sizes, pixels, stride, workspace);   of prepare.c
 *     surge_next_row(&rows, values);                                        for each of sizes.padded.height rows
 *
 * pixels: uint8, three channels, rows `stride` bytes apart. values: float32, (sizes.padded.width, 3).
 * workspace: 23 bytes for each column of the resized and cropped picture, with pillow.c 35, aligned for double.
 * Sizes and values equal those of cv2 or Pillow, MMCV, MMDetection and MMPretrain to the bit.
 * With SURGE_NO_DOUBLE, for CPUs without units for double, sizes and places are computed in integers. They differ from
 * the others only where these are rounded to the other side of a tie.
 */

typedef struct {
    int width, height;
} surge_size;

enum { SURGE_AS_IS, SURGE_EXACT, SURGE_KEEP_RATIO, SURGE_KEEP_RATIO_DOWN, SURGE_SHORT_EDGE, SURGE_LONG_EDGE, SURGE_WIDTH,
       SURGE_HEIGHT };
enum { SURGE_LARGEST_SIDE = 65535 };

typedef struct {
    int resize;      /* one of the names above; SURGE_KEEP_RATIO_DOWN rounds the sizes down, as FixScaleResize */
    surge_size size; /* of the resized picture, the box into which it is fitted, or the length of the edge */
    surge_size crop; /* CenterCrop; 0 without it */
    /* Pad of the test pipeline, before the normalization. 0 where a size or divisor is not set. */
    surge_size pad;
    int pad_square, pad_divisor;
    uint8_t pad_value[3]; /* in the order of the channels of the network */
    /* Pad of the data preprocessor, after the normalization. */
    int divisor;
    float border;
    uint8_t channels[3]; /* channel of the picture that each channel of the network reads */
    const float *table;  /* (256, 3): normalized value of each number in each channel of the network */
    surge_size largest[2]; /* the input of the network fits into one of them */
} surge_input;

typedef struct {
    surge_size picture, resized;
    surge_size image;  /* resized, and cropped or padded by the test pipeline: boxes are clipped to it */
    surge_size padded; /* the input of the network */
    surge_size corner, cropped; /* first column and row of the resized picture that are used, and their numbers */
} surge_sizes;

static int surge_round_up(int n, int divisor)
{
    return divisor > 1 ? (n + divisor - 1) / divisor * divisor : n;
}

static int surge_fits(surge_size size, surge_size largest)
{
    return size.width <= largest.width && size.height <= largest.height;
}

/* The first of n rows or columns that a crop leaves, rounded to even as in Python. */
static int surge_corner(int n, int cropped)
{
    const int half = (n - cropped) / 2;
    return half + ((n - cropped) % 2 ? half % 2 : 0);
}

/* Resize one edge to a length. */
static surge_size surge_by_edge(surge_size picture, int edge, int length)
{
    const int by_width = edge == SURGE_WIDTH || (edge == SURGE_SHORT_EDGE && picture.width < picture.height)
                         || (edge == SURGE_LONG_EDGE && picture.width > picture.height);
    const int made = by_width ? picture.width : picture.height, other = picture.width + picture.height - made;
    const int64_t rest = (int64_t)length * other / made;
    const int bounded = rest > SURGE_LARGEST_SIDE ? 0 : (int)rest;
    const surge_size size = {by_width ? length : bounded, by_width ? bounded : length};
    return size;
}

/* Compute the sizes for a picture. Return 0 if it is empty or too large, 1 otherwise. */
static int surge_input_sizes(const surge_input *in, int width, int height, surge_sizes *out)
{
    surge_size size = {width, height};
    if (width < 1 || height < 1 || width > SURGE_LARGEST_SIDE || height > SURGE_LARGEST_SIDE) return 0;
    out->picture = size;
    if (in->resize == SURGE_EXACT) {
        size = in->size;
    } else if (in->resize >= SURGE_SHORT_EDGE) {
        size = surge_by_edge(size, in->resize, in->size.width);
    } else if (in->resize != SURGE_AS_IS) {
        const int box_long = in->size.width > in->size.height ? in->size.width : in->size.height;
        const int box_short = in->size.width + in->size.height - box_long;
        const int longer = width > height ? width : height, shorter = width + height - longer;
#ifdef SURGE_NO_DOUBLE
        const int is_long = (int64_t)box_long * shorter < (int64_t)box_short * longer;
        const int64_t part = is_long ? box_long : box_short, whole = is_long ? longer : shorter;
        const int64_t half = in->resize == SURGE_KEEP_RATIO ? whole : 0;
        size.width = (int)((2 * width * part + half) / (2 * whole));
        size.height = (int)((2 * height * part + half) / (2 * whole));
#else
        const double by_long = (double)box_long / longer, by_short = (double)box_short / shorter;
        const double scale = by_long < by_short ? by_long : by_short;
        const double add = in->resize == SURGE_KEEP_RATIO ? 0.5 : 0;
        size.width = (int)(width * scale + add);
        size.height = (int)(height * scale + add);
#endif
    }
    out->resized = size;
    if (in->crop.width > 0) {
        if (in->crop.width < size.width) size.width = in->crop.width;
        if (in->crop.height < size.height) size.height = in->crop.height;
    }
    out->cropped = size;
    out->corner.width = surge_corner(out->resized.width, size.width);
    out->corner.height = surge_corner(out->resized.height, size.height);
    if (in->pad_square) {
        if (size.width < size.height) size.width = size.height;
        size.height = size.width;
    }
    if (in->pad.width > size.width) size.width = in->pad.width;
    if (in->pad.height > size.height) size.height = in->pad.height;
    size.width = surge_round_up(size.width, in->pad_divisor);
    size.height = surge_round_up(size.height, in->pad_divisor);
    out->image = size;
    size.width = surge_round_up(size.width, in->divisor);
    size.height = surge_round_up(size.height, in->divisor);
    out->padded = size;
    return out->resized.width > 0 && out->resized.height > 0
           && (surge_fits(size, in->largest[0]) || surge_fits(size, in->largest[1]));
}
