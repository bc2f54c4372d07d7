/* Boxes from the maps of a one-stage head of MMDetection: BaseDenseHead.predict_by_feat and batched_nms.
 *
 *     int n = surge_boxes(&head, maps, &sizes, boxes, max, workspace);
 *
 * maps: surge_map {const float *values; int height, width, channels;}, memory of (height, width, channels). First the
 * scores of each level with priors * classes channels (one class more with softmax), then the boxes of each level with
 * priors * 4 channels, then, where the head has them, the factors of the scores with one channel for each prior.
 * sizes: surge_sizes of resize.c. boxes: surge_box {float x1, y1, x2, y2, score; int label;}, room for `max` of them.
 * workspace: 32 bytes for each candidate, aligned for float. A level has as many candidates as scores, or nms_pre.
 * Return the number of boxes, the best first. Equal scores keep their order.
 */

typedef struct {
    float stride_x, stride_y;
    int priors;         /* at each place */
    const float *prior; /* (priors, 4): x1, y1, x2, y2 at the first place. A point has x1 = x2 and y1 = y2. */
} surge_level;

typedef struct {
    int levels, classes;
    int softmax;     /* scores are softmax(x) without the last class, not sigmoid(x) */
    int has_factors; /* scores are multiplied by sigmoid(factor) */
    int is_distance; /* boxes are distances from a point to left, top, right and bottom, not changes of an anchor */
    int clip;        /* boxes are clipped to the image */
    const surge_level *level;
    float means[4], stds[4], max_log; /* of changes: (dx, dy, log w, log h) stds + means; the logs are within +-max_log */
    float score_thr;
    int nms_pre; /* the best ones of each level; a negative number leaves out the last ones */
    float min_size; /* of both sides; negative: no limit */
    float iou_threshold;
    int class_agnostic;
    int split; /* from this number of boxes on, classes are separate though boxes overlap other classes */
    int max_boxes;
} surge_head;

typedef struct {
    float score;
    int32_t at;
} surge_candidate;

static int surge_is_better(surge_candidate a, surge_candidate b)
{
    return a.score > b.score || (a.score == b.score && a.at < b.at);
}

/* Restore a heap, whose root is the worst candidate, below place i. */
static void surge_sift(surge_candidate *heap, int n, int i)
{
    const surge_candidate moved = heap[i];
    for (int child = 2 * i + 1; child < n; child = 2 * i + 1) {
        if (child + 1 < n && surge_is_better(heap[child], heap[child + 1])) ++child;
        if (!surge_is_better(moved, heap[child])) break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = moved;
}

/* Sort, the best first. */
static void surge_sort(surge_candidate *all, int n)
{
    for (int i = n / 2 - 1; i >= 0; --i) surge_sift(all, n, i);
    for (int last = n - 1; last > 0; --last) {
        const surge_candidate worst = all[0];
        all[0] = all[last];
        all[last] = worst;
        surge_sift(all, last, 0);
    }
}

/* The best scores above the threshold of a level, sorted. `at` is their place in (height, width, priors, classes). */
static int surge_candidates(const surge_head *head, const surge_level *level, surge_map map, surge_candidate *found)
{
    const int outputs = head->classes + head->softmax, places = map.height * map.width * level->priors;
    const float thr = head->score_thr;
    /* logits below are below the threshold too, for certain */
    const float low = thr > 0 && thr < 1 ? logf(thr / (1 - thr)) - 0.01f : -INFINITY;
    int n = 0;
    if (!head->nms_pre) return 0;
    for (int i = 0; i < places; ++i) {
        const float *x = map.values + (ptrdiff_t)i * outputs;
        float highest = x[0], sum = 0;
        if (head->softmax) {
            for (int c = 1; c < outputs; ++c) highest = x[c] > highest ? x[c] : highest;
            for (int c = 0; c < outputs; ++c) sum += surge_exp(x[c] - highest);
        }
        for (int c = 0; c < head->classes; ++c) {
            surge_candidate one;
            if (!head->softmax && !(x[c] > low)) continue;
            one.score = head->softmax ? surge_exp(x[c] - highest) / sum : surge_sigmoid(x[c]);
            one.at = i * head->classes + c;
            if (!(one.score > thr)) continue;
            if (head->nms_pre < 0 || n < head->nms_pre) {
                found[n++] = one;
                if (n == head->nms_pre)
                    for (int k = n / 2 - 1; k >= 0; --k) surge_sift(found, n, k);
            } else if (surge_is_better(one, found[0])) {
                found[0] = one;
                surge_sift(found, n, 0);
            }
        }
    }
    surge_sort(found, n);
    if (head->nms_pre < 0) n = n + head->nms_pre > 0 ? n + head->nms_pre : 0;
    return n;
}

static float surge_within(float x, float low, float high)
{
    return x < low ? low : x > high ? high : x;
}

/* Decode a box: the prior moved to its place, and four numbers of the head. */
static void surge_decode(const surge_head *head, const float *prior, float x, float y, const float *code, surge_box *box)
{
    const float x1 = prior[0] + x, y1 = prior[1] + y, x2 = prior[2] + x, y2 = prior[3] + y;
    if (head->is_distance) {
        box->x1 = x1 - code[0];
        box->y1 = y1 - code[1];
        box->x2 = x1 + code[2];
        box->y2 = y1 + code[3];
    } else {
        float d[4], width, height, center_x, center_y;
        for (int i = 0; i < 4; ++i) d[i] = code[i] * head->stds[i] + head->means[i];
        center_x = (x1 + x2) * 0.5f + (x2 - x1) * d[0];
        center_y = (y1 + y2) * 0.5f + (y2 - y1) * d[1];
        width = (x2 - x1) * expf(surge_within(d[2], -head->max_log, head->max_log));
        height = (y2 - y1) * expf(surge_within(d[3], -head->max_log, head->max_log));
        box->x1 = center_x - width * 0.5f;
        box->y1 = center_y - height * 0.5f;
        box->x2 = center_x + width * 0.5f;
        box->y2 = center_y + height * 0.5f;
    }
}

/* Whether a box suppresses another. Boxes of each class are moved by `step` from those of the class before. */
static int surge_suppresses(const surge_box *a, const surge_box *b, float step, float iou_threshold)
{
    const float move_a = (float)a->label * step, move_b = (float)b->label * step;
    const float ax1 = a->x1 + move_a, ay1 = a->y1 + move_a, ax2 = a->x2 + move_a, ay2 = a->y2 + move_a;
    const float bx1 = b->x1 + move_b, by1 = b->y1 + move_b, bx2 = b->x2 + move_b, by2 = b->y2 + move_b;
    const float width = (ax2 < bx2 ? ax2 : bx2) - (ax1 > bx1 ? ax1 : bx1);
    const float height = (ay2 < by2 ? ay2 : by2) - (ay1 > by1 ? ay1 : by1);
    float both;
    if (!(width > 0 && height > 0)) return 0;
    both = width * height;
    return both / ((ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - both) > iou_threshold;
}

static float surge_inverse_scale(int resized, int picture)
{
#ifdef SURGE_NO_DOUBLE
    return (float)picture / (float)resized;
#else
    return (float)(1.0 / ((double)resized / picture));
#endif
}

static int surge_boxes(const surge_head *head, const surge_map *maps, const surge_sizes *sizes, surge_box *out, int max,
                       void *workspace)
{
    const float right = (float)sizes->image.width, bottom = (float)sizes->image.height;
    const float by_x = surge_inverse_scale(sizes->resized.width, sizes->picture.width);
    const float by_y = surge_inverse_scale(sizes->resized.height, sizes->picture.height);
    int all = 0, n = 0, kept = 0;
    float highest = -INFINITY, step;
    surge_box *found;
    surge_candidate *order;
    for (int l = 0; l < head->levels; ++l) {
        const int scores = maps[l].height * maps[l].width * head->level[l].priors * head->classes;
        all += head->nms_pre >= 0 && head->nms_pre < scores ? head->nms_pre : scores;
    }
    found = workspace;
    order = (surge_candidate *)(found + all);
    for (int l = 0; l < head->levels; ++l) {
        const surge_level *level = &head->level[l];
        const float *codes = maps[head->levels + l].values;
        const int width = maps[l].width, count = surge_candidates(head, level, maps[l], order);
        for (int i = 0; i < count; ++i) {
            const int32_t at = order[i].at / head->classes, place = at / level->priors;
            const float x = (float)(place % width) * level->stride_x, y = (float)(place / width) * level->stride_y;
            surge_box box;
            surge_decode(head, level->prior + at % level->priors * 4, x, y, codes + 4 * (ptrdiff_t)at, &box);
            box.label = (int)(order[i].at % head->classes);
            box.score = order[i].score;
            if (head->has_factors) box.score *= surge_sigmoid(maps[2 * head->levels + l].values[at]);
            if (head->clip) {
                box.x1 = surge_within(box.x1, 0, right);
                box.y1 = surge_within(box.y1, 0, bottom);
                box.x2 = surge_within(box.x2, 0, right);
                box.y2 = surge_within(box.y2, 0, bottom);
            }
            box.x1 *= by_x;
            box.y1 *= by_y;
            box.x2 *= by_x;
            box.y2 *= by_y;
            if (head->min_size >= 0 && !(box.x2 - box.x1 > head->min_size && box.y2 - box.y1 > head->min_size)) continue;
            highest = box.x1 > highest ? box.x1 : highest;
            highest = box.y1 > highest ? box.y1 : highest;
            highest = box.x2 > highest ? box.x2 : highest;
            highest = box.y2 > highest ? box.y2 : highest;
            found[n++] = box;
        }
    }
    for (int i = 0; i < n; ++i) {
        order[i].score = found[i].score;
        order[i].at = i;
    }
    surge_sort(order, n);
    step = head->class_agnostic ? 0 : highest + 1;
    if (max > head->max_boxes) max = head->max_boxes;
    for (int i = 0; i < n && kept < max; ++i) {
        const surge_box *box = &found[order[i].at];
        int k = 0;
        for (; k < kept; ++k) {
            if (out[k].label != box->label && ((head->clip && !head->class_agnostic) || n >= head->split)) continue;
            if (surge_suppresses(&out[k], box, step, head->iou_threshold)) break;
        }
        if (k == kept) out[kept++] = *box;
    }
    return kept;
}
