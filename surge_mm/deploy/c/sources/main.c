/* Find the boxes in pictures and print them, one line of JSON for each picture.
 *
 *     cc -O2 @name@.c @name@_main.c -o @name@ -lm
 *     ./@name@ picture.ppm other.bmp
 *     ./@name@ --score-thr 0.5 --repeat 20 picture.ppm
 *
 * Pictures are PPM (P6), or BMP with 24 or 32 bits; "-" is the standard input. With the header stb_image.h
 * (https://github.com/nothings/stb) beside this file, add -DSURGE_STB_IMAGE for PNG and JPEG too.
 * milliseconds is the CPU time from the pixels to the boxes, the median of --repeat runs. With -DSURGE_THREADS -pthread for
 * both files, --threads 2 computes by two threads, and milliseconds is the time of the clock.
 * The exit status is 1 if a picture cannot be used, and 2 after a wrong argument.
 */

#ifdef SURGE_THREADS
#define _POSIX_C_SOURCE 200112L /* clock_gettime */
#endif

#include "@name@.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#ifdef SURGE_STB_IMAGE
#define STB_IMAGE_IMPLEMENTATION
#include "stb_image.h"
#endif

#ifdef SURGE_THREADS
#define OPTIONS "[--score-thr 0.3] [--repeat 1] [--threads 1]"
enum { MOST_THREADS = @NAME@_MOST_THREADS };
#else
#define OPTIONS "[--score-thr 0.3] [--repeat 1]"
enum { MOST_THREADS = 0 };
#endif
enum { LARGEST_FILE = 1 << 30, LARGEST_SIDE = 65535, MOST_RUNS = 100000 };

typedef struct {
    unsigned char *memory; /* to be freed */
    unsigned char *rgb;
    int width, height, stride;
} picture;

/* Read a whole file. Return its bytes, which the caller frees, or NULL. */
static unsigned char *read_file(const char *path, size_t *size)
{
    FILE *file = strcmp(path, "-") ? fopen(path, "rb") : stdin;
    unsigned char *bytes = NULL, *larger;
    size_t room = 0, count;
    *size = 0;
    if (!file) return NULL;
    do {
        if (*size == room) {
            room = room ? 2 * room : 1 << 16;
            larger = room > LARGEST_FILE ? NULL : realloc(bytes, room);
            if (!larger) {
                free(bytes);
                bytes = NULL;
                errno = EFBIG;
                break;
            }
            bytes = larger;
        }
        count = fread(bytes + *size, 1, room - *size, file);
        *size += count;
    } while (count);
    if (bytes && ferror(file)) {
        free(bytes);
        bytes = NULL;
    }
    if (file != stdin) fclose(file);
    return bytes;
}

/* Read a number of the head of a PPM, after spaces and comments. Return -1 if there is none up to 65535. */
static long ppm_number(const unsigned char *bytes, size_t size, size_t *at)
{
    long number = -1;
    while (*at < size && (isspace(bytes[*at]) || bytes[*at] == '#')) {
        if (bytes[*at] == '#')
            while (*at < size && bytes[*at] != '\n') ++*at;
        else
            ++*at;
    }
    for (; *at < size && isdigit(bytes[*at]); ++*at) {
        number = (number < 0 ? 0 : number) * 10 + (bytes[*at] - '0');
        if (number > LARGEST_SIDE) return -1;
    }
    return number;
}

static const char *read_ppm(picture *p, size_t size)
{
    size_t at = 2;
    const long width = ppm_number(p->memory, size, &at), height = ppm_number(p->memory, size, &at);
    if (width < 1 || height < 1) return "its head is damaged, or a side is not 1 to 65535 pixels";
    if (ppm_number(p->memory, size, &at) != 255) return "its largest value is not 255";
    if (at < size && p->memory[at] == '#') /* the end of a comment is the space before the pixels */
        while (at < size && p->memory[at] != '\n') ++at;
    if (at < size && !isspace(p->memory[at])) return "its head is damaged";
    if (++at > size || (size - at) / 3 / (size_t)width < (size_t)height) return "it is cut off";
    p->width = (int)width;
    p->height = (int)height;
    p->stride = 3 * p->width;
    p->rgb = p->memory + at;
    return NULL;
}

static unsigned long little(const unsigned char *bytes)
{
    return bytes[0] | bytes[1] << 8 | (unsigned long)bytes[2] << 16 | (unsigned long)bytes[3] << 24;
}

/* The pixels become RGB from the top, in place. */
static const char *read_bmp(picture *p, size_t size)
{
    unsigned char *bytes = p->memory, *to;
    unsigned long first, width, height, bits, row;
    int is_upward, is_plain;
    if (size < 54) return "it is cut off";
    first = little(bytes + 10);
    width = little(bytes + 18);
    height = little(bytes + 22);
    bits = bytes[28] | bytes[29] << 8;
    is_upward = height < 0x80000000ul;
    if (!is_upward) height = 0xfffffffful - height + 1;
    is_plain = little(bytes + 30) == 0
               || (little(bytes + 30) == 3 && size >= 66 && little(bytes + 54) == 0xff0000 && little(bytes + 58) == 0xff00
                   && little(bytes + 62) == 0xff); /* masks of the colors */
    if ((bits != 24 && bits != 32) || !is_plain) return "it has no 24 or 32 bits, or is compressed";
    if (width < 1 || height < 1 || width > LARGEST_SIDE || height > LARGEST_SIDE)
        return "a side is not 1 to 65535 pixels";
    row = (width * bits / 8 + 3) / 4 * 4;
    if (first < 54 || first > size || (size - first) / row < height) return "it is cut off";
    to = bytes;
    for (unsigned long y = 0; y < height; ++y) {
        const unsigned char *from = bytes + first + y * row;
        for (unsigned long x = 0; x < width; ++x, from += bits / 8, to += 3) {
            const unsigned char blue = from[0], green = from[1], red = from[2];
            to[0] = red;
            to[1] = green;
            to[2] = blue;
        }
    }
    p->width = (int)width;
    p->height = (int)height;
    p->stride = 3 * p->width;
    p->rgb = bytes;
    for (unsigned long y = 0; is_upward && y < height / 2; ++y) {
        unsigned char *one = bytes + y * 3 * width, *other = bytes + (height - 1 - y) * 3 * width;
        for (unsigned long i = 0; i < 3 * width; ++i) {
            const unsigned char kept = one[i];
            one[i] = other[i];
            other[i] = kept;
        }
    }
    return NULL;
}

/* Return NULL, or why the picture cannot be read. */
static const char *read_picture(picture *p, const char *path)
{
    size_t size;
    errno = 0;
    p->memory = read_file(path, &size);
    if (!p->memory) return errno ? strerror(errno) : "it cannot be read";
    if (size > 2 && !memcmp(p->memory, "P6", 2)) return read_ppm(p, size);
    if (size > 2 && !memcmp(p->memory, "BM", 2)) return read_bmp(p, size);
#ifdef SURGE_STB_IMAGE
    {
        int channels;
        unsigned char *decoded = stbi_load_from_memory(p->memory, (int)size, &p->width, &p->height, &channels, 3);
        free(p->memory);
        p->memory = p->rgb = decoded;
        p->stride = 3 * p->width;
        return decoded ? NULL : stbi_failure_reason();
    }
#else
    return "it is no PPM (P6) and no BMP";
#endif
}

static void print_string(const char *text)
{
    putchar('"');
    for (; *text; ++text) {
        if (*text == '"' || *text == '\\') printf("\\%c", *text);
        else if ((unsigned char)*text < 32) printf("\\u%04x", *text);
        else putchar(*text);
    }
    putchar('"');
}

static int by_value(const void *a, const void *b)
{
    const double one = *(const double *)a, other = *(const double *)b;
    return (one > other) - (one < other);
}

static void print_boxes(const char *path, const picture *p, double milliseconds, const @name@_box *boxes, int n,
                        double score_thr)
{
    const char *separator = "";
    fputs("{\"image\": ", stdout);
    print_string(path);
    printf(", \"width\": %d, \"height\": %d, \"milliseconds\": %.3f, \"found\": [", p->width, p->height, milliseconds);
    for (int i = 0; i < n; ++i) {
        const @name@_box *b = &boxes[i];
        if (!(b->score >= score_thr)) continue;
        printf("%s{\"label\": %d, \"class\": ", separator, b->label);
        if (b->label < @NAME@_CLASSES) print_string(@name@_classes[b->label]);
        else printf("\"%d\"", b->label);
        printf(", \"score\": %.9g, \"bbox\": [%.9g, %.9g, %.9g, %.9g]}", b->score, b->x1, b->y1, b->x2, b->y2);
        separator = ", ";
    }
    puts("]}");
}

static double now(void)
{
#ifdef SURGE_THREADS
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return 1e3 * (double)time.tv_sec + 1e-6 * (double)time.tv_nsec;
#else
    return 1e3 * (double)clock() / CLOCKS_PER_SEC;
#endif
}

/* Return the number in 0 to `highest` that an argument is, or -1. */
static double number_of(const char *text, double highest)
{
    char *end;
    const double number = strtod(text, &end);
    return end == text || *end || !(number >= 0 && number <= highest) ? -1 : number;
}

int main(int argc, char **argv)
{
    @name@_context context;
    static @name@_box boxes[@NAME@_BOXES];
    void *memory;
#ifdef SURGE_THREADS
    void *of_threads;
#endif
    double *times, score_thr = 0.3;
    int first = 1, repeat = 1, threads = 1, failed = 0;
    while (first + 1 < argc && !strncmp(argv[first], "--", 2)) {
        const int is_thr = !strcmp(argv[first], "--score-thr"), is_repeat = !strcmp(argv[first], "--repeat");
        const int is_threads = MOST_THREADS && !strcmp(argv[first], "--threads");
        const double number = number_of(argv[first + 1], is_thr ? 1 : is_repeat ? MOST_RUNS : MOST_THREADS);
        if (!(is_thr || is_repeat || is_threads) || number < !is_thr) break;
        if (is_thr) score_thr = number;
        else if (is_repeat) repeat = (int)number;
        else threads = (int)number;
        first += 2;
    }
    if (first >= argc || !strncmp(argv[first], "--", 2)) {
        fprintf(stderr, "usage: %s " OPTIONS " picture.ppm other.bmp ...\n", argv[0]);
        return 2;
    }
    memory = malloc(@NAME@_MEMORY);
    times = malloc((size_t)repeat * sizeof *times);
    if (!memory || !times || @name@_init(&context, memory, @NAME@_MEMORY)) {
        fprintf(stderr, "%s: there is no memory of %lu bytes\n", argv[0], (unsigned long)@NAME@_MEMORY);
        return 1;
    }
#ifdef SURGE_THREADS
    of_threads = malloc(@NAME@_THREADS_MEMORY((size_t)threads));
    if (@name@_start_threads(&context, threads, of_threads, @NAME@_THREADS_MEMORY((size_t)threads))) {
        fprintf(stderr, "%s: %d threads cannot be started\n", argv[0], threads);
        return 1;
    }
#else
    (void)threads;
#endif
    for (int i = first; i < argc; ++i) {
        picture p = {NULL, NULL, 0, 0, 0};
        const char *defect = read_picture(&p, argv[i]);
        int n = 0;
        for (int k = 0; !defect && k < repeat; ++k) {
            const double start = now();
            n = @name@_detect(&context, p.rgb, p.width, p.height, p.stride, boxes, @NAME@_BOXES);
            times[k] = now() - start;
            if (n < 0) defect = n == @NAME@_ERROR_SIZE ? "its size does not fit the network" : "it cannot be used";
        }
        if (defect) {
            fprintf(stderr, "%s: %s\n", argv[i], defect);
            failed = 1;
        } else {
            qsort(times, (size_t)repeat, sizeof *times, by_value);
            print_boxes(argv[i], &p, times[repeat / 2], boxes, n, score_thr);
        }
        free(p.memory);
    }
#ifdef SURGE_THREADS
    @name@_stop_threads(&context);
    free(of_threads);
#endif
    free(memory);
    free(times);
    if (fflush(stdout) || ferror(stdout)) {
        fprintf(stderr, "%s: the output could not be written\n", argv[0]);
        return 1;
    }
    return failed;
}
