const char *const @name@_classes[@NAME@_CLASSES + 1] = {@classes@NULL};

int @name@_init(@name@_context *context, void *memory, size_t bytes)
{
    if (!context || !memory) return @NAME@_ERROR_NULL;
    context->arena = NULL;
    if (bytes < @NAME@_MEMORY) return @NAME@_ERROR_MEMORY;
    context->arena = (unsigned char *)memory + (63u & (0u - (uintptr_t)memory));
    return 0;
}

int @name@_forward(@name@_context *context, const float *image, int height, int width, @name@_map maps[@NAME@_MAPS])
{
    const surge_image numbers = {image, NULL, NULL};
    if (!context || !context->arena || !image || !maps) return @NAME@_ERROR_NULL;
    if (height < 1 || width < 1 || !(@fits@)) return @NAME@_ERROR_SIZE;
    return network(context->arena, &numbers, height, width, maps);
}
