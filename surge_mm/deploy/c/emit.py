"""C code of a network: its layers as constants, and one statement for each operation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from surge_mm.deploy.c.graph import LAYERS, Graph, Node
from surge_mm.deploy.c.plan import Plans, either, reader_of_rows, reads_signs
from surge_mm.deploy.c.weights import binary_weights, float_weights, int8_weights
from surge_mm.deploy.packing.epilogue import ROWS

NUMBERS_PER_LINE = 12


class Constants:
    """Arrays and structs of a C file. Equal ones are written once.

    Attributes:
        lines (list[str]): The C code.
        bytes (int): Size of the arrays.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.bytes = 0
        self._names: dict[tuple[str, Any], str] = {}

    def array(self, values: np.ndarray | None) -> str:
        """Return the name of an array of C, or ``NULL`` for None.

        Args:
            values (np.ndarray, optional): uint32, int8, uint8 or float32.
        """
        if values is None:
            return 'NULL'
        ctype = {'float32': 'float'}.get(values.dtype.name, f'{values.dtype.name}_t')
        key = (ctype, values.tobytes())
        if key not in self._names:
            name = self._names[key] = f'{ctype.removesuffix("_t")}_{len(self._names)}'
            self.bytes += values.nbytes
            texts = [_number(v) for v in values.ravel()]
            self.lines.append(f'static const {ctype} {name}[{len(texts)}] = {{')
            for i in range(0, len(texts), NUMBERS_PER_LINE):
                self.lines.append('    ' + ', '.join(texts[i : i + NUMBERS_PER_LINE]) + ',')
            self.lines.append('};')
        return self._names[key]

    def struct(self, ctype: str, fields: str, comment: str) -> str:
        """Return the name of a constant of C.

        Args:
            ctype (str): Its type.
            fields (str): Its initializer.
            comment (str): Name of the module that it belongs to.
        """
        key = (ctype, fields)
        if key not in self._names:
            name = self._names[key] = f'{ctype.removeprefix("surge_")}_{len(self._names)}'
            self.lines.append(f'/* {comment} */\nstatic const {ctype} {name} = {fields};')
        return self._names[key]


def _number(value: Any) -> str:
    if not isinstance(value, np.floating):
        return f'{value}u' if isinstance(value, np.uint32) else str(value)
    if not np.isfinite(value):
        return 'NAN' if np.isnan(value) else ('-INFINITY' if value < 0 else 'INFINITY')
    text = f'{value:.9g}'
    return f'{text}f' if '.' in text or 'e' in text else f'{text}.0f'


def network(
    graph: Graph, plans: Plans, bands: tuple[int, int], constants: Constants, name: str
) -> str:
    """Return the function that computes all maps of a network.

    Args:
        graph (Graph): The network.
        plans (Plans): Places of its maps.
        bands (tuple[int, int]): Output rows that the reader of the image computes at a time, by vectors and in plain C.
        constants (Constants): Takes the constants of the layers.
        name (str): Prefix of the names in C.
    """
    lines = [
        f'static int network(surge_team *team, unsigned char *arena, const surge_image *image, int height, int width, '
        f'{name}_map *maps)',
        '{',
        f'    const surge_shape s0 = {{height, width, {graph.channels}}};',
    ]
    by_rows = reader_of_rows(graph)
    if (0, 'values') in plans.plain.buffers:
        place = plans.place(0, 'values')
        lines.append(
            '    const float *const x0 = '
            f'surge_whole_image(image, s0, (float *)(void *)(arena + {place}));'
        )
    elif by_rows is None:
        lines.append('    const float *const x0 = image->values;')
    for node in graph.nodes:
        band = either(*bands) if node is by_rows else ''
        lines += _statements(node, plans, band, constants, name)
    for i, (title, value) in enumerate(graph.outputs.items()):
        lines.append(
            f'    maps[{i}] = ({name}_map){{x{value}, s{value}.height, s{value}.width, s{value}.channels}};'
        )
        lines[-1] += f' /* {title} */'
    return '\n'.join([*lines, '    return 0;', '}'])


def _statements(
    node: Node, plans: Plans, band: str, constants: Constants, name: str
) -> Iterator[str]:
    out, first = node.output, node.inputs[0]
    struct = _struct(node, constants)
    yield f'    /* {node.name} */'
    yield f'    const surge_shape s{out} = {_shape(node, struct)};'
    conditions = (
        [] if node.kind in ('pointwise', 'function', 'scale') else [f'!surge_exists(s{out})']
    )
    if node.shortcut is not None:
        conditions.append(f'!surge_equal(s{out}, s{node.shortcut})')
    if node.kind == 'concatenate':
        conditions += [f'!surge_same_size(s{first}, s{other})' for other in node.inputs[1:]]
    if conditions:
        yield f'    if ({" || ".join(conditions)}) return {name.upper()}_ERROR_SIZE;'
    for form, ctype, letter in (('values', 'float', 'x'), ('signs', 'uint32_t', 'b')):
        if (out, form) in plans.plain.buffers:
            place = plans.place(out, form)  # type: ignore[arg-type]
            yield f'    {ctype} *const {letter}{out} = ({ctype} *)(void *)(arena + {place});'
    shortcut = 'NULL' if node.shortcut is None else f'x{node.shortcut}'
    if node.kind in LAYERS:
        yield f'    {_convolution(node, plans, band, constants, struct, shortcut)}'
    elif node.kind == 'pointwise':
        yield f'    surge_pointwise(team, &{struct}, s{first}, x{first}, {shortcut}, x{out});'
    elif node.kind in ('max_pool', 'average_pool'):
        yield f'    surge_pool(team, &{struct}, s{first}, x{first}, x{out});'
    elif node.kind == 'global_average':
        yield f'    surge_global_average(s{first}, x{first}, x{out});'
    elif node.kind == 'upsample':
        yield f'    surge_upsample(s{first}, x{first}, s{out}, x{out});'
    elif node.kind == 'concatenate':
        before = '0'
        for i in node.inputs:
            yield f'    surge_copy_channels(s{i}, x{i}, x{out}, s{out}.channels, {before});'
            before = f's{i}.channels' if before == '0' else f'{before} + s{i}.channels'
    elif node.kind == 'slice':
        yield f'    surge_slice(s{first}, x{first}, x{out}, s{out}.channels, {node.options["first"]});'
    elif node.kind == 'scale':
        yield f'    (void)s{node.inputs[1]};'  # which nothing may read
        yield f'    surge_scale(s{first}, x{first}, x{node.inputs[1]}, x{out});'
    else:
        yield f'    surge_{node.options["function"]}_each(s{first}, x{first}, x{out});'


def _convolution(
    node: Node, plans: Plans, band: str, constants: Constants, struct: str, shortcut: str
) -> str:
    out, first, plan = node.output, node.inputs[0], plans.plain
    signs = reads_signs(node, plan, first)
    x = 'image' if band else 'NULL' if signs else f'x{first}'
    arguments = ['team', f'&{struct}', f's{first}', x]
    if node.kind == 'binary':
        arguments.append(f'b{first}' if signs else 'NULL')
    arguments += [] if band else [shortcut]
    arguments.append(f'x{out}' if (out, 'values') in plan.buffers else 'NULL')
    follower = plan.signs_from.get(out)
    arguments += (
        ['NULL', 'NULL']
        if follower is None
        else [
            'NULL' if node.options.get('thresholds') else constants.array(follower.options['shift'])
        ]
        + [f'b{out}']
    )
    arguments.append(f'arena + {plans.place(out, "workspace")}')
    if band:
        lines = (out, 'lines') in plan.buffers
        place = plans.place(out, 'lines') if lines else ''
        arguments += [f'(float *)(void *)(arena + {place})' if lines else 'NULL', band]
    return f'surge_{node.kind}{"_of_image" if band else ""}({", ".join(arguments)});'


def _shape(node: Node, struct: str) -> str:
    first = node.inputs[0]
    if node.kind in LAYERS:
        return f'surge_output(&{struct}.geometry, s{first})'
    if node.kind in ('max_pool', 'average_pool'):
        return f'surge_window_output(&{struct}, s{first})'
    if node.kind == 'global_average':
        return f'{{1, 1, s{first}.channels}}'
    if node.kind == 'upsample':
        if factor := node.options.get('factor'):
            return f'{{s{first}.height * {factor}, s{first}.width * {factor}, s{first}.channels}}'
        like = node.inputs[1]
        return f'{{s{like}.height, s{like}.width, s{first}.channels}}'
    if node.kind == 'concatenate':
        channels = ' + '.join(f's{i}.channels' for i in node.inputs)
        return f'{{s{first}.height, s{first}.width, {channels}}}'
    if node.kind == 'slice':
        return f'{{s{first}.height, s{first}.width, {node.options["channels"]}}}'
    return f's{first}'


def _struct(node: Node, constants: Constants) -> str:
    """Return the name of the constant of a node, or an empty string."""
    options = node.options
    if node.kind == 'pointwise':
        return constants.struct('surge_epilogue', _epilogue(node, constants), node.name)
    if node.kind in ('max_pool', 'average_pool'):
        numbers = [
            *options['kernel'],
            *options['stride'],
            *options['padding'],
            int(options['ceil_mode']),
            int(node.kind == 'average_pool'),
        ]
        return constants.struct('surge_window', f'{{{", ".join(map(str, numbers))}}}', node.name)
    if node.kind not in LAYERS:
        return ''
    weight, convolution = options['weight'], options['convolution']
    left, right, top, bottom = convolution.padding
    channels = weight.shape[1] * convolution.groups
    numbers = [channels, len(weight), *weight.shape[2:], *convolution.stride, *convolution.dilation]
    numbers += [top, bottom, left, right, convolution.groups]
    fields = [f'{{{", ".join(map(str, numbers))}}}']
    if node.kind == 'binary':
        packed = constants.array(binary_weights(weight, convolution))
        fields += [packed, str(options['pad_value']), constants.array(options['shift'])]
    elif node.kind == 'int8':
        fields += [
            constants.array(int8_weights(weight, convolution)),
            _number(np.float32(options['inverse'])),
        ]
        fields.append(str(options['zero']))
    else:
        fields += [
            constants.array(float_weights(weight, convolution)),
            constants.array(options['bias']),
        ]
    fields.append(_epilogue(node, constants))
    fields += [str(int(options.get('thresholds', False)))] if node.kind == 'binary' else []
    return constants.struct(f'surge_{node.kind}_layer', f'{{{", ".join(fields)}}}', node.name)


def _epilogue(node: Node, constants: Constants) -> str:
    steps = (node.steps.get(step) for step in ROWS)
    return f'{{{", ".join(constants.array(values) for values in steps)}}}'
