int @name@_classify(
    @name@_context *context, const unsigned char *rgb, int width, int height, int stride, float scores[@NAME@_SCORES])
{
    @name@_map map;
    surge_sizes sizes;
    surge_rows rows;
    const surge_image image = {NULL, surge_next_row, &rows};
    float highest, sum = 0.0f;
    int code;
    if (!context || !context->arena || !rgb || !scores) return @NAME@_ERROR_NULL;
    if (!surge_input_sizes(&input, width, height, &sizes)) return @NAME@_ERROR_SIZE;
    if (stride < 3 * width) return @NAME@_ERROR_STRIDE;
    surge_start_rows(&rows, &input, &sizes, rgb, stride, context->arena + @before@);
    code = network(context->team, context->arena, &image, sizes.padded.height, sizes.padded.width, &map);
    if (code) return code;
    highest = map.values[0];
    for (int i = 1; i < @NAME@_SCORES; i++) highest = map.values[i] > highest ? map.values[i] : highest;
    for (int i = 0; i < @NAME@_SCORES; i++) sum += scores[i] = surge_exp(map.values[i] - highest);
    for (int i = 0; i < @NAME@_SCORES; i++) scores[i] /= sum;
    return 0;
}
