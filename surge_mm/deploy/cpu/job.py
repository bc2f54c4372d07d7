"""Arguments of the compiled loops, in the order in which they are laid out in memory."""

from __future__ import annotations

from typing import NamedTuple


class LayerArguments(NamedTuple):
    """What the loops read of a layer, all int64; see :class:`surge_mm.deploy.cpu.plan.Plan`.

    Attributes:
        offsets (int): Address of ``Geometry.offsets``, the word at which the window of an output pixel begins.
        steps (int): Address of ``Geometry.steps``, offsets of the words of a window.
        n_steps (int): Steps of a group, S.
        image_bytes (int): Bytes of a padded image of this layer.
        pixels (int): Output pixels of an image, P.
        line (int): Output pixels that are divided into tiles: those of a row if counts are looked up, else P.
        filters (int): Address of the filters.
        groups (int): Groups of the convolution.
        block_bytes (int): Bytes of the filters that are counted together.
        base (int): Address of the sums where no bit differs.
        borders (int): Address of ``Geometry.borders``, a row of ``base`` for each output pixel.
        table (int): Address of the table of the epilogue.
        width (int): Columns of ``base`` and ``table``: output channels, each group padded to whole vectors.
        channels (int): Output channels, C_out.
        slices (int): Slices into which the filters of a group are divided.
        activated (int): 1 if the table has steps after the shortcut.
        out_shift (int): Address of the shift of the output before its signs.
        out_places (int): Address of ``Geometry.places`` of the next layer; 0 if no signs are written.
        signs_bytes (int): Bytes of a padded image of the next layer.
        thresholds (int): Address of the thresholds of the counts, :func:`.thresholds.count_thresholds`; 0 without them.
        in_shift (int): Address of the shift of the input before its signs.
        in_places (int): Address of ``Geometry.places``, the byte at which an input pixel begins.
        in_channels (int): Input channels, C_in.
        in_pixels (int): Input pixels of an image, H * W.
    """

    offsets: int
    steps: int
    n_steps: int
    image_bytes: int
    pixels: int
    line: int
    filters: int
    groups: int
    block_bytes: int
    base: int
    borders: int
    table: int
    width: int
    channels: int
    slices: int
    activated: int
    out_shift: int
    out_places: int
    signs_bytes: int
    thresholds: int
    in_shift: int
    in_places: int
    in_channels: int
    in_pixels: int


class Job(NamedTuple):
    """What the threads of a job share, all int64. Two counters per thread follow in memory: parts packed and convolved.

    Each thread has a run of parts of its own, the same in each layer, so that it finds in its cache what it wrote
    there. A thread that has finished its own takes those of others, so any number of threads completes a job.

    Attributes:
        arrived (int): Threads that have started, counted by themselves where ``own_number`` is 0.
        done_packed (int): Parts that are packed.
        threads (int): Runs of parts.
        own_number (int): Address of the C function that returns the number of the calling thread; 0 without one.
        packed_parts (int): Parts into which the packing of signs is divided; 0 if the signs are given.
        unit_parts (int): Parts into which the convolution is divided.
        pixels (int): Input pixels of all images.
        units (int): Units of all images: a tile of output pixels and a slice of the filters each.
        layer (int): Address of :class:`LayerArguments`.
        x (int): Address of the input, ``(N, H, W, C_in)``, float32; 0 if the signs are given.
        words (int): Address of the sign bits of the input, ``(N, words of a padded image)``, int32.
        shortcut (int): Address of the shortcut, ``(N, H', W', C_out)``, float32; 0 without one.
        out (int): Address of the output, of that shape; 0 if it is not wanted.
        signs (int): Address of the sign bits of the output; 0 if they are not wanted.
    """

    arrived: int
    done_packed: int
    threads: int
    own_number: int
    packed_parts: int
    unit_parts: int
    pixels: int
    units: int
    layer: int
    x: int
    words: int
    shortcut: int
    out: int
    signs: int


class QuantizationPass(NamedTuple):
    """Quantization of images, all int64; see :mod:`surge_mm.deploy.real_layers.int8_conv`.

    Attributes:
        next_part (int): The part that the next thread takes, counted by the threads.
        parts (int): Parts into which the rows are divided.
        x (int): Address of the input, ``(N, H, W, C_in)``, float32.
        out (int): Address of the bytes, ``(N, padded height, padded width, C_in)``.
        rows (int): Rows of all padded images.
        numbers (int): Address of ``1 / step`` and of the byte of 0, float32.
        height (int): Rows of an image, H.
        row (int): Numbers of a row, W * C_in.
        top (int): Rows of padding above.
        bottom (int): Rows of padding below.
        left (int): Bytes of padding on the left of a row.
        right (int): Bytes of padding on the right of a row.
    """

    next_part: int
    parts: int
    x: int
    out: int
    rows: int
    numbers: int
    height: int
    row: int
    top: int
    bottom: int
    left: int
    right: int


class EpiloguePass(NamedTuple):
    """Epilogue of a real-valued convolution, and the max pool behind it, all int64.

    Attributes:
        next_part (int): The part that the next thread takes, counted by the threads.
        parts (int): Parts into which the output rows are divided.
        sums (int): Address of the output of the convolution, ``(N, H', W', C_out)``, float32.
        out (int): Address of the output, float32. It may be that of the sums if there is no pool.
        images (int): Number of images, N.
        height (int): Rows of the sums, H'.
        width (int): Columns of the sums, W'.
        channels (int): Output channels, C_out.
        table (int): Address of the table of the epilogue, ``(9, C_out)``, float32.
        activates (int): 1 if the table has steps after a2.
        pool_height (int): Rows of the window of the pool; 0 without one.
        pool_width (int): Columns of the window.
        pool_step_y (int): Vertical stride of the pool.
        pool_step_x (int): Horizontal stride.
        pool_top (int): Rows of padding above, and below.
        pool_left (int): Columns of padding on the left, and on the right.
    """

    next_part: int
    parts: int
    sums: int
    out: int
    images: int
    height: int
    width: int
    channels: int
    table: int
    activates: int
    pool_height: int
    pool_width: int
    pool_step_y: int
    pool_step_x: int
    pool_top: int
    pool_left: int


class BytePass(NamedTuple):
    """Convolution of bytes with its epilogue, all int64; see :mod:`surge_mm.deploy.cpu.byte_tile_kernels`.

    Attributes:
        next_part (int): The part that the next thread takes, counted by the threads.
        parts (int): Parts into which the units are divided.
        x (int): Address of the bytes, ``(N, padded height, padded width, C_in)``, and 3 more bytes.
        out (int): Address of the output, float32: ``(N, H', W', C_out)``, or that of the pool.
        units (int): Tiles of pixels of all images; rows of the output of the pool with one.
        height (int): Rows of the convolution, H'.
        width (int): Columns of the convolution, W'.
        channels (int): Output channels, C_out.
        image_bytes (int): Bytes of a padded image.
        offsets (int): Address of the byte at which the window of each output pixel begins, int64.
        steps (int): Address of the offsets of four bytes each from the first byte of a window, int64.
        n_steps (int): Number of steps.
        firsts (int): Address of the indices of the steps that are gathered, each with those after it if ``together``.
        n_firsts (int): Number of them.
        together (int): 1 if several steps are gathered together, which are consecutive bytes of a window.
        filters (int): Address of the weights, ``(blocks, n_steps, 16, 4)``, int8.
        table (int): Address of the table of the epilogue, ``(9, C_out)``, float32.
        activates (int): 1 if the table has steps after a1.
        pool_height (int): Rows of the window of the max pool behind it; 0 without one.
        pool_width (int): Columns of the window.
        pool_step_y (int): Vertical stride of the pool.
        pool_step_x (int): Horizontal stride.
        pool_top (int): Rows of padding above, and below.
        pool_left (int): Columns of padding on the left, and on the right.
    """

    next_part: int
    parts: int
    x: int
    out: int
    units: int
    height: int
    width: int
    channels: int
    image_bytes: int
    offsets: int
    steps: int
    n_steps: int
    firsts: int
    n_firsts: int
    together: int
    filters: int
    table: int
    activates: int
    pool_height: int
    pool_width: int
    pool_step_y: int
    pool_step_x: int
    pool_top: int
    pool_left: int
