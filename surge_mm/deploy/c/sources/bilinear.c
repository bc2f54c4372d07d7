/* Resizing as cv2.resize has it, with INTER_LINEAR. */

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
static void surge_resize_x(const uint8_t *row, const surge_place *columns, int width, int count, int16_t *out)
{
    for (int x = 0; x < count; ++x) {
        const surge_place place = columns[x];
        const uint8_t *one = row + 3 * (ptrdiff_t)place.at, *other = place.at + 1 < width ? one + 3 : one;
        for (int c = 0; c < 3; ++c)
            *out++ = (int16_t)((one[c] * place.first + other[c] * place.second) >> 4);
    }
}

/* cv2.resize of some columns, row by row with increasing numbers. */
typedef struct {
    surge_size from, to;
    int first, count; /* columns of the resized picture */
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
    r->rows[0] = (int16_t *)(r->columns + r->count);
    r->rows[1] = r->rows[0] + 3 * r->count;
    r->line = (uint8_t *)(r->rows[1] + 3 * r->count);
    r->kept[0] = r->kept[1] = -1;
    for (int x = 0; x < r->count; ++x) {
        surge_place *place = &r->columns[x];
        *place = surge_place_of(r->first + x, r->from.width, r->to.width);
        if (place->at < 0 || place->at >= r->from.width - 1) {
            place->at = place->at < 0 ? 0 : r->from.width - 1;
            place->first = 2048;
            place->second = 0;
        }
    }
}

static const uint8_t *surge_resize_line(surge_resizer *r, int y)
{
    const int n = 3 * r->count;
    surge_place place;
    int needed[2];
    const int16_t *upper, *lower;
    if (r->from.width == r->to.width && r->from.height == r->to.height)
        return r->pixels + y * r->stride + 3 * (ptrdiff_t)r->first;
    if (r->from.width == 2 * r->to.width && r->from.height == 2 * r->to.height) { /* the mean of 2 x 2 pixels */
        for (int i = 0; i < n; ++i) {
            const uint8_t *p = r->pixels + 2 * y * r->stride + (r->first + i / 3) * 6 + i % 3;
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
        surge_resize_x(r->pixels + needed[i] * r->stride, r->columns, r->from.width, r->count, r->rows[slot]);
        r->kept[slot] = needed[i];
    }
    upper = r->rows[needed[0] & 1];
    lower = r->rows[needed[1] & 1];
    for (int i = 0; i < n; ++i)
        r->line[i] = (uint8_t)((((place.first * upper[i]) >> 16) + ((place.second * lower[i]) >> 16) + 2) >> 2);
    return r->line;
}
