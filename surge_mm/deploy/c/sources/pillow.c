/* Resizing as PIL.Image.resize has it, with BILINEAR: each pixel is a mean over a triangle, which is as wide as two pixels
 * of the larger of both pictures. First along rows, then along columns, each rounded to 8 bits.
 * With SURGE_NO_DOUBLE the weights are float32, so that a pixel may differ by 1. */

#ifdef SURGE_NO_DOUBLE
typedef float surge_real;
#else
typedef double surge_real;
#endif

enum { SURGE_KEPT_ROWS = 4, SURGE_WEIGHT_BITS = 22 };

typedef struct {
    surge_real center, scale, sum; /* of the triangle; its half width; sum of its weights */
    int first, count;              /* pixels below it */
} surge_triangle;

static surge_real surge_height(const surge_triangle *t, int i)
{
    surge_real x = ((surge_real)(i + t->first) - t->center + (surge_real)0.5) * ((surge_real)1 / t->scale);
    x = x < 0 ? -x : x;
    return x < 1 ? 1 - x : 0;
}

/* The triangle of place i without its sum. */
static surge_triangle surge_triangle_at(int i, int from, int to)
{
    const surge_real scale = (surge_real)from / to;
    surge_triangle t;
    int end;
    t.scale = scale < 1 ? 1 : scale;
    t.center = (i + (surge_real)0.5) * scale;
    t.first = (int)(t.center - t.scale + (surge_real)0.5);
    if (t.first < 0) t.first = 0;
    end = (int)(t.center + t.scale + (surge_real)0.5);
    t.count = (end < from ? end : from) - t.first;
    t.sum = 0;
    return t;
}

static surge_real surge_sum_of(const surge_triangle *t)
{
    surge_real sum = 0;
    for (int i = 0; i < t->count; ++i) sum += surge_height(t, i);
    return sum;
}

static int32_t surge_weight(const surge_triangle *t, int i)
{
    return (int32_t)((surge_real)0.5 + surge_height(t, i) / t->sum * (1 << SURGE_WEIGHT_BITS));
}

/* PIL.Image.resize of some columns, row by row with increasing numbers. */
typedef struct {
    surge_size from, to;
    int first, count; /* columns of the resized picture */
    const uint8_t *pixels;
    ptrdiff_t stride;
    surge_real *sums;               /* of the triangle of each column */
    int32_t *totals;                /* of a line */
    uint8_t *rows[SURGE_KEPT_ROWS]; /* rows of the picture, resized in x */
    int kept[SURGE_KEPT_ROWS];      /* which rows they are */
    uint8_t *line;
} surge_resizer;

static void surge_resize_start(surge_resizer *r, void *workspace)
{
    uint8_t *row;
    r->sums = workspace;
    r->totals = (int32_t *)(r->sums + r->count);
    row = (uint8_t *)(r->totals + 3 * r->count);
    for (int x = 0; x < r->count; ++x) {
        const surge_triangle t = surge_triangle_at(r->first + x, r->from.width, r->to.width);
        r->sums[x] = surge_sum_of(&t);
    }
    for (int i = 0; i < SURGE_KEPT_ROWS; ++i, row += 3 * r->count) {
        r->rows[i] = row;
        r->kept[i] = -1;
    }
    r->line = row;
}

static uint8_t surge_rounded(int32_t sum)
{
    sum >>= SURGE_WEIGHT_BITS;
    return (uint8_t)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
}

/* Row y of the picture, resized in x. */
static const uint8_t *surge_resize_x(surge_resizer *r, int y)
{
    const uint8_t *row = r->pixels + y * r->stride;
    uint8_t *out = r->rows[y % SURGE_KEPT_ROWS];
    if (r->from.width == r->to.width) return row + 3 * (ptrdiff_t)r->first;
    if (r->kept[y % SURGE_KEPT_ROWS] == y) return out;
    r->kept[y % SURGE_KEPT_ROWS] = y;
    for (int x = 0; x < r->count; ++x) {
        surge_triangle t = surge_triangle_at(r->first + x, r->from.width, r->to.width);
        const uint8_t *p = row + 3 * (ptrdiff_t)t.first;
        int32_t sums[3];
        t.sum = r->sums[x];
        sums[0] = sums[1] = sums[2] = 1 << (SURGE_WEIGHT_BITS - 1);
        for (int i = 0; i < t.count; ++i, p += 3) {
            const int32_t weight = surge_weight(&t, i);
            for (int c = 0; c < 3; ++c) sums[c] += p[c] * weight;
        }
        for (int c = 0; c < 3; ++c) out[3 * x + c] = surge_rounded(sums[c]);
    }
    return out;
}

static const uint8_t *surge_resize_line(surge_resizer *r, int y)
{
    const int n = 3 * r->count;
    surge_triangle t;
    if (r->from.height == r->to.height) return surge_resize_x(r, y);
    t = surge_triangle_at(y, r->from.height, r->to.height);
    t.sum = surge_sum_of(&t);
    for (int i = 0; i < n; ++i) r->totals[i] = 1 << (SURGE_WEIGHT_BITS - 1);
    for (int k = 0; k < t.count; ++k) {
        const int32_t weight = surge_weight(&t, k);
        const uint8_t *row = surge_resize_x(r, t.first + k);
        for (int i = 0; i < n; ++i) r->totals[i] += row[i] * weight;
    }
    for (int i = 0; i < n; ++i) r->line[i] = surge_rounded(r->totals[i]);
    return r->line;
}
