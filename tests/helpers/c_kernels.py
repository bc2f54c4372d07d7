"""The kernels of an exported C file, compiled as a library and called for one layer."""

import ctypes
import subprocess
from importlib.resources import files

import numpy as np

from surge_mm.deploy.c import weights
from surge_mm.deploy.c.kernels import kernels
from surge_mm.deploy.epilogue import ROWS

CPUS = {'plain C': 1, 'AVX2': 2, 'AVX-512': 3}
"""Sets of instructions by their numbers in C."""
KINDS = ('binary', 'int8', 'float')
SHAPE = ('height', 'width', 'channels')
GEOMETRY = (
    *('in_channels', 'out_channels', 'kernel_height', 'kernel_width', 'stride_y', 'stride_x'),
    *('dilation_y', 'dilation_x', 'pad_top', 'pad_bottom', 'pad_left', 'pad_right', 'groups'),
)
GUARD = 64
"""Bytes after each output that must stay as they are."""


def structure(name, *fields):
    return type(name, (ctypes.Structure,), {'_fields_': fields})


Shape = structure('Shape', *((name, ctypes.c_int) for name in SHAPE))
Geometry = structure('Geometry', *((name, ctypes.c_int) for name in GEOMETRY))
Epilogue = structure('Epilogue', *((name, ctypes.c_void_p) for name in ROWS))
FIRST = ('geometry', Geometry), ('weights', ctypes.c_void_p)
LAST = ('epilogue', Epilogue)
LAYERS = {
    'binary': structure(
        'Binary', *FIRST, ('pad_value', ctypes.c_int), ('shift', ctypes.c_void_p), LAST
    ),
    'int8': structure('Int8', *FIRST, ('inverse', ctypes.c_float), ('zero', ctypes.c_int), LAST),
    'float': structure('Float', *FIRST, ('bias', ctypes.c_void_p), LAST),
}

EXPORTS = '\n'.join(
    f"""
size_t test_{kind}_workspace(const surge_{kind}_layer *l, surge_shape in) {{ return surge_{kind}_workspace(l, in); }}
void test_{kind}(const surge_{kind}_layer *l, surge_shape in, const float *x, const uint32_t *bits,
                 const float *shortcut, float *out, const float *out_shift, uint32_t *out_bits, void *workspace)
{{
    {'' if kind == 'binary' else '(void)bits;'}
    surge_{kind}(l, in, x, {'bits, ' if kind == 'binary' else ''}shortcut, out, out_shift, out_bits, workspace);
}}"""
    for kind in KINDS
)
EXPORTS += """
int test_cpu(int cpu)
{
    int found = surge_find_cpu();
    surge_cpu_is = cpu < found ? cpu : found;
    return surge_cpu_is;
}"""


def source():
    """Return the C code of the library."""
    layers = (files('surge_mm.deploy.c') / 'sources' / 'layers.h').read_text()
    return '\n'.join([layers, kernels(KINDS), EXPORTS])


def compile_library(folder, *command):
    """Return the library, compiled by a command that takes the options of a system compiler."""
    path, library = folder / 'kernels.c', folder / 'kernels.so'
    path.write_text(source())
    subprocess.run([*command, '-shared', '-fPIC', path, '-o', library, '-lm'], check=True)
    return ctypes.CDLL(str(library))


class Layer:
    """A convolution for the compiled kernels.

    Args:
        library (CDLL): Of :func:`compile_library`.
        kind (str): ``'binary'``, ``'int8'`` or ``'float'``.
        weight (np.ndarray): ``(C_out, C_in / groups, kH, kW)``.
        convolution (Convolution): The convolution.
        steps (dict[str, np.ndarray]): Steps of the epilogue, ``(C_out,)`` each.
        **options: Fields of the layer in C, numbers or arrays.
    """

    def __init__(self, library, kind, weight, convolution, steps, **options):
        self.library, self.kind, self.weight, self.convolution = library, kind, weight, convolution
        self.filters = len(weight)
        left, right, top, bottom = convolution.padding
        numbers = (weight.shape[1] * convolution.groups, len(weight), *weight.shape[2:])
        numbers += (*convolution.stride, *convolution.dilation, top, bottom, left, right)
        packed = getattr(weights, f'{kind}_weights')(weight, convolution)
        self.kept = [packed, *steps.values(), *options.values()]
        epilogue = Epilogue(**{name: values.ctypes.data for name, values in steps.items()})
        fields = {k: v.ctypes.data if isinstance(v, np.ndarray) else v for k, v in options.items()}
        geometry = Geometry(*numbers, convolution.groups)
        address = packed.ctypes.data
        self.struct = LAYERS[kind](geometry=geometry, weights=address, epilogue=epilogue, **fields)

    def workspace(self, size):
        """Return the bytes of the workspace, as C and Python compute them."""
        function = getattr(self.library, f'test_{self.kind}_workspace')
        function.restype = ctypes.c_size_t
        channels = self.weight.shape[1] * self.convolution.groups
        in_c = function(ctypes.byref(self.struct), Shape(*size, channels))
        return in_c, weights.workspace(self.kind, self.weight.shape, self.convolution, size)

    def run(self, x, bits=None, shortcut=None, out_shift=None, values=True, signs=True):
        """Return outputs ``(H', W', C_out)`` and words of their signs, of an input ``(H, W, C_in)``."""
        size = self.convolution.output_size(*x.shape[:2], self.weight.shape[2:])
        out = np.full((*size, self.filters), np.nan, np.float32)
        words = np.full((*size, -(-self.filters // 32)), 0xFFFFFFFF, np.uint32)
        guarded = [np.full(n.nbytes + GUARD, 0xA5, np.uint8) for n in (out, words)]
        needed = self.workspace(x.shape[:2])[0]
        workspace = np.full(needed + GUARD + 64, 0xA5, np.uint8)
        start = -workspace.ctypes.data % 64
        given = [
            None if n is None else n.ctypes.data
            for n in (None if bits is not None else x, bits, shortcut)
        ]
        to = [
            g.ctypes.data if wanted else None
            for g, wanted in zip(guarded, (values, signs), strict=True)
        ]
        shift = None if out_shift is None else out_shift.ctypes.data
        arguments = [*given, to[0], shift, to[1], workspace.ctypes.data + start]
        function = getattr(self.library, f'test_{self.kind}')
        function(ctypes.byref(self.struct), Shape(*x.shape), *map(ctypes.c_void_p, arguments))
        ends = (*(g[-GUARD:] for g in guarded), workspace[start + needed :])
        assert all((end == 0xA5).all() for end in ends), 'written beyond a buffer'
        out = guarded[0][:-GUARD].view(np.float32).reshape(out.shape)
        words = guarded[1][:-GUARD].view(np.uint32).reshape(words.shape)
        return out if values else None, words if signs else None


def signs_of(values):
    """Return the words of the signs of ``(H, W, C)``."""
    bits = np.pad(np.signbit(values), [(0, 0), (0, 0), (0, -values.shape[2] % 32)])
    return np.packbits(bits, axis=-1, bitorder='little').view(np.uint32)
