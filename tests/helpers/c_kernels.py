"""The kernels of an exported C file, compiled as a library and called for one layer."""

import contextlib
import ctypes
import subprocess
from functools import partial
from importlib.resources import files
from pathlib import Path

import numpy as np

from surge_mm.deploy.c import weights
from surge_mm.deploy.c.kernels import kernels
from surge_mm.deploy.packing.epilogue import ROWS

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
        'Binary',
        *FIRST,
        ('pad_value', ctypes.c_int),
        ('shift', ctypes.c_void_p),
        LAST,
        ('thresholds', ctypes.c_int),
    ),
    'int8': structure('Int8', *FIRST, ('inverse', ctypes.c_float), ('zero', ctypes.c_int), LAST),
    'float': structure('Float', *FIRST, ('bias', ctypes.c_void_p), LAST),
}

EXPORTS = '\n'.join(
    f"""
size_t test_{kind}_workspace(const surge_{kind}_layer *l, surge_shape in) {{ return surge_{kind}_workspace(l, in); }}
void test_{kind}(surge_team *team, const surge_{kind}_layer *l, surge_shape in, const float *x, const uint32_t *bits,
                 const float *shortcut, float *out, const float *out_shift, uint32_t *out_bits, void *workspace)
{{
    const surge_call call = {{l, in, x, bits, shortcut, out, out_shift, out_bits}};
    const surge_geometry *g = &l->geometry;
    const surge_part all = {{0, surge_output(g, in).height, 0, g->out_channels / g->groups}};
    if (team) /* however small the layer is */
        surge_divide(team, surge_compute_{kind}, &call, all, g->groups == 1, workspace);
    else
        surge_{kind}(NULL, l, in, x, {'bits, ' if kind == 'binary' else ''}shortcut, out, out_shift, out_bits,
                     workspace);
}}"""
    for kind in KINDS
)
EXPORTS += """
int test_cpu(int cpu)
{
    int found = surge_find_cpu();
    surge_cpu_is = cpu < found ? cpu : found;
    return surge_cpu_is;
}
#ifdef SURGE_THREADS
void *test_start(int threads, void *memory, size_t workspace) { return surge_start(threads, memory, workspace); }
void test_stop(void *team) { surge_stop(team); }
#endif"""


MAIN = r"""
#include <stdio.h>
#include <stdlib.h>

static void *take(void) /* an array behind its size; NULL for a size below 0 */
{
    int32_t bytes;
    unsigned char *array;
    if (fread(&bytes, 4, 1, stdin) != 1) exit(0);
    if (bytes < 0) return NULL;
    array = malloc((size_t)bytes + 1);
    if (fread(array, 1, (size_t)bytes, stdin) != (size_t)bytes) exit(1);
    return array;
}

int main(void)
{
    for (;;) {
        int32_t *head = take(), guarded[2];
        void *fields[16], *to[2];
        surge_shape in = {head[1], head[2], head[3]};
        surge_geometry g;
        surge_epilogue e;
        surge_binary_layer binary;
        surge_int8_layer int8;
        surge_float_layer real;
        size_t needed;
        unsigned char *memory;
        memcpy(&g, head + 4, sizeof g);
        for (int i = 0; i < 15; i++) fields[i] = take();
        memcpy(&e, fields + 2, sizeof e);
        binary = (surge_binary_layer){g, fields[0], head[17], fields[1], e, head[21]};
        int8 = (surge_int8_layer){g, fields[0], 0, head[17], e};
        memcpy(&int8.inverse, head + 18, 4);
        real = (surge_float_layer){g, fields[0], fields[1], e};
        needed = head[0] == 0   ? test_binary_workspace(&binary, in)
                 : head[0] == 1 ? test_int8_workspace(&int8, in)
                                : test_float_workspace(&real, in);
        memory = malloc(needed + 192);
        memset(memory, 0xA5, needed + 192);
        for (int i = 0; i < 2; i++) {
            guarded[i] = head[19 + i];
            to[i] = guarded[i] ? malloc((size_t)guarded[i]) : NULL;
            if (to[i]) memset(to[i], 0xA5, (size_t)guarded[i]);
        }
        unsigned char *workspace = memory + (64 - (uintptr_t)memory % 64) % 64;
        void **f = fields + 11;
        if (head[0] == 0) test_binary(NULL, &binary, in, f[0], f[1], f[2], to[0], f[3], to[1], workspace);
        if (head[0] == 1) test_int8(NULL, &int8, in, f[0], f[1], f[2], to[0], f[3], to[1], workspace);
        if (head[0] == 2) test_float(NULL, &real, in, f[0], f[1], f[2], to[0], f[3], to[1], workspace);
        for (size_t i = 0; i < 64; i++)
            if (workspace[needed + i] != 0xA5) exit(2);
        int32_t size = (int32_t)needed;
        fwrite(&size, 4, 1, stdout);
        for (int i = 0; i < 2; i++)
            if (to[i]) fwrite(to[i], 1, (size_t)guarded[i], stdout), free(to[i]);
        fflush(stdout);
        for (int i = 0; i < 15; i++) free(fields[i]);
        free(memory);
        free(head);
    }
}
"""
"""A program that computes layers from its standard input, for an emulated CPU."""


class Program:
    """The kernels as a process, which may run on an emulated CPU.

    Args:
        folder (Path): where it is compiled.
        compiler (list): command that takes the options of a system compiler.
        emulator (list): command before that of the program.
        vectors (bool): whether it has kernels by vectors.
    """

    def __init__(self, folder, compiler, emulator=(), vectors=True):
        self.vectors = vectors
        (folder / 'kernels.c').write_text(source() + MAIN)
        program = folder / 'kernels'
        subprocess.run([*compiler, folder / 'kernels.c', '-o', program, '-lm'], check=True)
        pipe = subprocess.PIPE
        self.process = subprocess.Popen([*emulator, program], stdin=pipe, stdout=pipe)

    def run(self, layer, x, given, out_shift, guarded):
        """Compute a layer into two guarded outputs, each of which may be None. Return the size of the workspace."""
        s, options = layer.struct, layer.options
        numbers = [KINDS.index(layer.kind), *x.shape]
        numbers += [getattr(s.geometry, name) for name in GEOMETRY]
        inverse = np.float32(options.get('inverse', 0)).view(np.int32)
        sizes = [0 if g is None else g.nbytes for g in guarded]
        numbers += [options.get('pad_value', options.get('zero', 0)), inverse, *sizes]
        numbers.append(options.get('thresholds', 0))
        arrays = [
            np.array(numbers, np.int32),
            layer.packed,
            options.get('shift', options.get('bias')),
        ]
        arrays += [layer.steps.get(name) for name in ROWS] + [*given, out_shift]
        for array in arrays:
            self.process.stdin.write(np.int32(-1 if array is None else array.nbytes).tobytes())
            self.process.stdin.write(b'' if array is None else array.tobytes())
        self.process.stdin.flush()
        needed = int(np.frombuffer(self.process.stdout.read(4), np.int32)[0])
        for g in guarded:
            if g is not None:
                g[:] = np.frombuffer(self.process.stdout.read(g.nbytes), np.uint8)
        return needed


def emulator(target):
    """Return the command before that of a program for another system, by its name in zig."""
    cpu = target.split('-')[0]
    if cpu.startswith('wasm'):
        return ['node', '--no-warnings', str(Path(__file__).with_name('wasi.mjs'))]
    return [f'qemu-{cpu}-static']


def source():
    """Return the C code of the library."""
    first = (
        files('surge_mm.deploy.c') / 'sources' / name
        for name in ('layers.h', 'threads.c', 'steps.c')
    )
    return '\n'.join([*(file.read_text() for file in first), kernels(KINDS), EXPORTS])


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
        self.packed, self.steps, self.options = packed, steps, options
        self.team = None
        self.kept = [packed, *steps.values(), *options.values()]
        epilogue = Epilogue(**{name: values.ctypes.data for name, values in steps.items()})
        fields = {k: v.ctypes.data if isinstance(v, np.ndarray) else v for k, v in options.items()}
        geometry = Geometry(*numbers, convolution.groups)
        address = packed.ctypes.data
        self.struct = LAYERS[kind](geometry=geometry, weights=address, epilogue=epilogue, **fields)

    @contextlib.contextmanager
    def threads(self, threads, size):
        """Divide inputs of a size among threads."""
        workspace = -(-self.in_python(size) // 64) * 64
        memory = np.empty(1024 + 64 + threads * workspace, np.uint8)
        start = memory.ctypes.data + -memory.ctypes.data % 64
        self.library.test_start.restype = ctypes.c_void_p
        arguments = threads, ctypes.c_void_p(start), ctypes.c_size_t(workspace)
        self.team = ctypes.c_void_p(self.library.test_start(*arguments))
        yield
        self.library.test_stop(self.team)
        self.team = None

    def in_python(self, size):
        """Return the bytes of the workspace, as Python computes them."""
        vectors = getattr(self.library, 'vectors', True)
        return weights.workspace(self.kind, self.weight.shape, self.convolution, size, vectors)

    def run(self, x, bits=None, shortcut=None, out_shift=None, values=True, signs=True):
        """Return outputs ``(H', W', C_out)`` and words of their signs, of an input ``(H, W, C_in)``."""
        size = self.convolution.output_size(*x.shape[:2], self.weight.shape[2:])
        out = np.full((*size, self.filters), np.nan, np.float32)
        words = np.full((*size, -(-self.filters // 32)), 0xFFFFFFFF, np.uint32)
        guarded = [np.full(n.nbytes + GUARD, 0xA5, np.uint8) for n in (out, words)]
        given = [None if bits is not None else x, bits, shortcut]
        wanted = [g if want else None for g, want in zip(guarded, (values, signs), strict=True)]
        emulated = isinstance(self.library, Program)
        run = partial(self.library.run, self) if emulated else self.run_here
        needed = run(x, given, out_shift, wanted)
        assert needed == self.in_python(x.shape[:2])
        assert all((g[-GUARD:] == 0xA5).all() for g in guarded), 'written beyond an output'
        out = guarded[0][:-GUARD].view(np.float32).reshape(out.shape)
        words = guarded[1][:-GUARD].view(np.uint32).reshape(words.shape)
        return out if values else None, words if signs else None

    def run_here(self, x, given, out_shift, guarded):
        """Compute into two guarded outputs by the library. Return the size of the workspace."""
        shape, struct = Shape(*x.shape), ctypes.byref(self.struct)
        size = getattr(self.library, f'test_{self.kind}_workspace')
        size.restype = ctypes.c_size_t
        needed = size(struct, shape)
        workspace = np.full(needed + GUARD + 64, 0xA5, np.uint8)
        start = -workspace.ctypes.data % 64
        arrays = [*given, guarded[0], out_shift, guarded[1], workspace[start:]]
        addresses = [ctypes.c_void_p(None if n is None else n.ctypes.data) for n in arrays]
        getattr(self.library, f'test_{self.kind}')(self.team, struct, shape, *addresses)
        assert (workspace[start + needed :] == 0xA5).all(), 'written beyond the workspace'
        return needed


def signs_of(values):
    """Return the words of the signs of ``(H, W, C)``."""
    bits = np.pad(np.signbit(values), [(0, 0), (0, 0), (0, -values.shape[2] % 32)])
    return np.packbits(bits, axis=-1, bitorder='little').view(np.uint32)
