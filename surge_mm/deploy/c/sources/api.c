const char *const @name@_classes[@NAME@_CLASSES + 1] = {@classes@NULL};

int @name@_init(@name@_context *context, void *memory, size_t bytes)
{
    if (!context || !memory) return @NAME@_ERROR_NULL;
    context->arena = NULL;
    context->team = NULL;
    if (bytes < @NAME@_MEMORY) return @NAME@_ERROR_MEMORY;
    context->arena = (unsigned char *)memory + (63u & (0u - (uintptr_t)memory));
    return 0;
}

#ifdef SURGE_THREADS
int @name@_start_threads(@name@_context *context, int threads, void *memory, size_t bytes)
{
    const size_t skipped = 63u & (0u - (uintptr_t)memory);
    if (!context || !context->arena || !memory) return @NAME@_ERROR_NULL;
    if (threads < 1 || threads > @NAME@_MOST_THREADS) return @NAME@_ERROR_THREADS;
    if (bytes < @NAME@_THREADS_MEMORY((size_t)threads)) return @NAME@_ERROR_MEMORY;
    @name@_stop_threads(context);
    if (threads == 1) return 0;
    context->team = surge_start(threads, (unsigned char *)memory + skipped, @NAME@_THREAD_WORKSPACE);
    return context->team ? 0 : @NAME@_ERROR_THREADS;
}

void @name@_stop_threads(@name@_context *context)
{
    if (!context || !context->team) return;
    surge_stop(context->team);
    context->team = NULL;
}
#endif

int @name@_forward(@name@_context *context, const float *image, int height, int width, @name@_map maps[@NAME@_MAPS])
{
    const surge_image numbers = {image, NULL, NULL};
    if (!context || !context->arena || !image || !maps) return @NAME@_ERROR_NULL;
    if (height < 1 || width < 1 || !(@fits@)) return @NAME@_ERROR_SIZE;
    return network(context->team, context->arena, &numbers, height, width, maps);
}
