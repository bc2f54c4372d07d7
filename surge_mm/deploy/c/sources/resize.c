/* The input of the network from the pixels of a picture: resize, pad, normalize.
 *
 *     surge_sizes sizes;
 *     if (!surge_input_sizes(&input, width, height, &sizes)) ...   the picture is empty or too large
 *     surge_prepare(&input, &sizes, pixels, stride, values, workspace);
 *
 * pixels: uint8, three channels, rows `stride` bytes apart. values: float32, (sizes.padded.height, sizes.padded.width, 3).
 * workspace: 23 bytes for each column of the resized picture, aligned for int32_t.
 * Sizes and values equal those of cv2, MMCV and MMDetection to the bit.
 * With SURGE_NO_DOUBLE, for CPUs without units for double, sizes and places are computed in integers. They differ from
 * the others only where these are rounded to the other side of a tie.
 */

typedef struct {
    int width, height;
} surge_size;

enum { SURGE_AS_IS, SURGE_EXACT, SURGE_KEEP_RATIO, SURGE_KEEP_RATIO_DOWN };
enum { SURGE_LARGEST_SIDE = 65535 };

typedef struct {
    int resize;      /* one of the names above; SURGE_KEEP_RATIO_DOWN rounds the sizes down, as FixScaleResize */
    surge_size size; /* of the resized picture, or the box into which it is fitted */
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
    surge_size image;  /* resized, and padded by the test pipeline: boxes are clipped to it */
    surge_size padded; /* the input of the network */
} surge_sizes;

static int surge_round_up(int n, int divisor)
{
    return divisor > 1 ? (n + divisor - 1) / divisor * divisor : n;
}

static int surge_fits(surge_size size, surge_size largest)
{
    return size.width <= largest.width && size.height <= largest.height;
}

/* Compute the sizes for a picture. Return 0 if it is empty or too large, 1 otherwise. */
static int surge_input_sizes(const surge_input *in, int width, int height, surge_sizes *out)
{
    surge_size size = {width, height};
    if (width < 1 || height < 1 || width > SURGE_LARGEST_SIDE || height > SURGE_LARGEST_SIDE) return 0;
    out->picture = size;
    if (in->resize == SURGE_EXACT) {
        size = in->size;
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

/* Two neighbors and their weights in parts of 2048. `at` may be -1, or the last one. */
typedef struct {
    int32_t at;
    int16_t first, second;
} surge_place;

/* (i + 0.5) from / to - 0.5 */
static float surge_position(int i, int from, int to)
{
#ifdef SURGE_NO_DOUBLE
    int64_t part = (2 * i + 1) * (int64_t)from - to;
    const int64_t whole = 2 * (int64_t)to;
    const int is_negative = part < 0;
    float unit = 1;
    if (part == 0) return 0;
    if (is_negative) part = -part;
    for (; part < whole << 23; part *= 2) unit *= 0.5f; /* a quotient of 24 bits */
    {
        int64_t bits = part / whole;
        const int64_t rest = 2 * (part % whole) - whole;
        bits += rest > 0 || (rest == 0 && bits % 2);
        return (float)bits * (is_negative ? -unit : unit);
    }
#else
    const double scale = 1.0 / ((double)to / from);
    return (float)((i + 0.5) * scale - 0.5);
#endif
}

static surge_place surge_place_of(int i, int from, int to)
{
    const float position = surge_position(i, from, to);
    const float start = floorf(position), rest = position - start;
    surge_place place;
    place.at = (int32_t)start;
    place.first = (int16_t)rintf((1.0f - rest) * 2048.0f);
    place.second = (int16_t)rintf(rest * 2048.0f);
    return place;
}

/* A row resized in x, in parts of 128. */
static void surge_resize_x(const uint8_t *row, const surge_place *columns, surge_size from, surge_size to, int16_t *out)
{
    for (int x = 0; x < to.width; ++x) {
        const surge_place place = columns[x];
        const uint8_t *one = row + 3 * (ptrdiff_t)place.at, *other = place.at + 1 < from.width ? one + 3 : one;
        for (int c = 0; c < 3; ++c)
            *out++ = (int16_t)((one[c] * place.first + other[c] * place.second) >> 4);
    }
}

/* cv2.resize, row by row from the first. */
typedef struct {
    surge_size from, to;
    const uint8_t *pixels;
    ptrdiff_t stride;
    surge_place *columns;
    int16_t *rows[2]; /* two rows of the picture, resized in x */
    int kept[2];      /* which rows they are */
    uint8_t *line;
} surge_resizer;

static void surge_resize_start(surge_resizer *r, void *workspace)
{
    r->columns = workspace;
    r->rows[0] = (int16_t *)(r->columns + r->to.width);
    r->rows[1] = r->rows[0] + 3 * r->to.width;
    r->line = (uint8_t *)(r->rows[1] + 3 * r->to.width);
    r->kept[0] = r->kept[1] = -1;
    for (int x = 0; x < r->to.width; ++x) {
        surge_place *place = &r->columns[x];
        *place = surge_place_of(x, r->from.width, r->to.width);
        if (place->at < 0 || place->at >= r->from.width - 1) {
            place->at = place->at < 0 ? 0 : r->from.width - 1;
            place->first = 2048;
            place->second = 0;
        }
    }
}

static const uint8_t *surge_resize_line(surge_resizer *r, int y)
{
    const int n = 3 * r->to.width;
    surge_place place;
    int needed[2];
    const int16_t *upper, *lower;
    if (r->from.width == r->to.width && r->from.height == r->to.height) return r->pixels + y * r->stride;
    if (r->from.width == 2 * r->to.width && r->from.height == 2 * r->to.height) { /* the mean of 2 x 2 pixels */
        for (int i = 0; i < n; ++i) {
            const uint8_t *p = r->pixels + 2 * y * r->stride + i / 3 * 6 + i % 3;
            r->line[i] = (uint8_t)((p[0] + p[3] + p[r->stride] + p[r->stride + 3] + 2) >> 2);
        }
        return r->line;
    }
    place = surge_place_of(y, r->from.height, r->to.height);
    needed[0] = place.at < 0 ? 0 : place.at;
    needed[1] = place.at + 1 < r->from.height ? place.at + 1 : r->from.height - 1;
    for (int i = 0; i < 2; ++i) {
        const int slot = needed[i] & 1;
        if (r->kept[slot] == needed[i]) continue;
        surge_resize_x(r->pixels + needed[i] * r->stride, r->columns, r->from, r->to, r->rows[slot]);
        r->kept[slot] = needed[i];
    }
    upper = r->rows[needed[0] & 1];
    lower = r->rows[needed[1] & 1];
    for (int i = 0; i < n; ++i)
        r->line[i] = (uint8_t)((((place.first * upper[i]) >> 16) + ((place.second * lower[i]) >> 16) + 2) >> 2);
    return r->line;
}

static void surge_prepare(const surge_input *in, const surge_sizes *sizes, const uint8_t *pixels, ptrdiff_t stride,
                          float *out, void *workspace)
{
    surge_resizer resizer = {sizes->picture, sizes->resized, pixels, stride, NULL, {NULL, NULL}, {-1, -1}, NULL};
    surge_resize_start(&resizer, workspace);
    for (int y = 0; y < sizes->padded.height; ++y) {
        const uint8_t *line = y < sizes->resized.height ? surge_resize_line(&resizer, y) : NULL;
        const int end = line ? sizes->resized.width : 0, padded = y < sizes->image.height ? sizes->image.width : 0;
        int x = 0;
        for (; x < end; ++x)
            for (int c = 0; c < 3; ++c) *out++ = in->table[3 * line[3 * x + in->channels[c]] + c];
        for (; x < padded; ++x)
            for (int c = 0; c < 3; ++c) *out++ = in->table[3 * in->pad_value[c] + c];
        for (; x < sizes->padded.width; ++x)
            for (int c = 0; c < 3; ++c) *out++ = in->border;
    }
}
