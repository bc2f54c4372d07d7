int @name@_detect(
    @name@_context *context, const unsigned char *rgb, int width, int height, int stride, @name@_box *boxes, int max)
{
    @name@_map maps[@NAME@_MAPS];
    surge_sizes sizes;
    surge_rows rows;
    const surge_image image = {NULL, surge_next_row, &rows};
    int code;
    if (!context || !context->arena || !rgb || !boxes) return @NAME@_ERROR_NULL;
    if (!surge_input_sizes(&input, width, height, &sizes)) return @NAME@_ERROR_SIZE;
    if (stride < 3 * width) return @NAME@_ERROR_STRIDE;
    if (max < 0) return @NAME@_ERROR_BOXES;
    surge_start_rows(&rows, &input, &sizes, rgb, stride, context->arena + @before@);
    code = network(context->team, context->arena, &image, sizes.padded.height, sizes.padded.width, maps);
    return code ? code : surge_boxes(&head, maps, &sizes, boxes, max, context->arena + @after@);
}
