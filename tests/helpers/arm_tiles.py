"""Program that compiles the tile of the packed layers of Python for 64-bit ARM: python -m helpers.arm_tiles FOLDER CPU.

It writes ``tile.o`` and ``tile.s``. NUMBA_CPU_FEATURES must be ``+neon``, by which the code is chosen at import.
"""

import sys
from pathlib import Path
from types import SimpleNamespace

from llvmlite import binding, ir
from numba import types

from surge_mm.deploy.cpu.codegen import tiles, vectors

TRIPLE = 'aarch64-unknown-linux-gnu'
ARGUMENTS = 18


def main(folder, cpu):
    assert vectors.BYTE_COUNTS and vectors.PIXELS == 2
    module = ir.Module()
    module.triple = TRIPLE
    signature = ir.FunctionType(ir.VoidType(), [ir.IntType(64)] * ARGUMENTS)
    function = ir.Function(module, signature, 'tile')
    b = ir.IRBuilder(function.append_basic_block())
    _, codegen = tiles.tile_of_pixels._defn(None, *[types.int64] * ARGUMENTS)
    codegen(SimpleNamespace(get_dummy_value=lambda: None), b, None, list(function.args))
    b.ret_void()
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    target = binding.Target.from_triple(TRIPLE)
    machine = target.create_target_machine(cpu=cpu, features='+neon', opt=3, reloc='pic')
    parsed = binding.parse_assembly(str(module))
    options = binding.create_pipeline_tuning_options(speed_level=3)
    builder = binding.create_pass_builder(machine, options)
    builder.getModulePassManager().run(parsed, builder)
    (Path(folder) / 'tile.o').write_bytes(machine.emit_object(parsed))
    (Path(folder) / 'tile.s').write_text(machine.emit_assembly(parsed))


if __name__ == '__main__':
    main(*sys.argv[1:])
