#ifndef @NAME@_H
#define @NAME@_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    @NAME@_ERROR_NULL = -1,   /* a pointer is null, or @name@_init failed for the context */
    @NAME@_ERROR_SIZE = -2,   /* the image is empty, too large, or does not fit the strides of the network */
    @NAME@_ERROR_STRIDE = -3, /* rows overlap */
    @NAME@_ERROR_MEMORY = -4  /* the memory is too short */
};

/* Bytes of memory that a context needs: with kernels by vectors, and in plain C. */
#if defined(__GNUC__) && !defined(SURGE_PLAIN) && \
    (defined(__x86_64__) || defined(__i386__) || defined(__ARM_NEON) || defined(__wasm_simd128__))
#define @NAME@_MEMORY @memory@
#define @NAME@_THREAD_WORKSPACE @workspace@
#else
#define @NAME@_MEMORY @plain_memory@
#define @NAME@_THREAD_WORKSPACE @plain_workspace@
#endif
#define @NAME@_MAPS @maps@
#define @NAME@_CLASSES @n_classes@

/* One thread at a time uses a context. Several contexts, each with memory of its own, may be used at once. */
typedef struct {
    unsigned char *arena;
    void *team; /* of threads */
} @name@_context;

/* A map of the network in memory as (height, width, channels), valid until the context is used again. */
typedef struct {
    const float *values;
    int height, width, channels;
} @name@_map;

extern const char *const @name@_classes[@NAME@_CLASSES + 1];

int @name@_init(@name@_context *context, void *memory, size_t bytes);

#ifdef SURGE_THREADS
#define @NAME@_MOST_THREADS @most_threads@
#define @NAME@_ERROR_THREADS -6 /* a number of threads that is not 1 to @NAME@_MOST_THREADS, or that the system refuses */
/* Bytes of memory for so many threads, beside @NAME@_MEMORY. */
#define @NAME@_THREADS_MEMORY(threads) (@team@ + ((threads) - 1) * @NAME@_THREAD_WORKSPACE)

/* Let so many threads compute the layers of a context: the caller of its functions, and others that this function starts.
 * They replace those of an earlier call, and use the memory until @name@_stop_threads. Return 0 or an error. */
int @name@_start_threads(@name@_context *context, int threads, void *memory, size_t bytes);

/* End the threads, so that the memory can be freed. The caller alone computes from now on. */
void @name@_stop_threads(@name@_context *context);
#endif

/* Compute the maps of an image, (height, width, 3), normalized. Return 0 or an error. */
int @name@_forward(@name@_context *context, const float *image, int height, int width, @name@_map maps[@NAME@_MAPS]);
@task@
#ifdef __cplusplus
}
#endif
#endif
