"""Compiled loop over calls of the other compiled loops."""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from surge_mm.deploy.cpu.kernel_cache import compiled_callback

I64 = ir.IntType(64)
FIELDS = 3
"""Numbers of a call: address of the job, address of its function, number of threads."""


@intrinsic
def run_all(context, at):
    """Run calls in sequence.

    Args:
        context (Context): Given by Numba.
        at (CPointer): Their number, the address of ``GOMP_parallel``, and then the fields of each call.
    """

    def codegen(context, b, signature, arguments):
        one = ir.FunctionType(ir.VoidType(), [I64])
        team = ir.FunctionType(ir.VoidType(), [I64, I64, ir.IntType(32), ir.IntType(32)])
        at = b.bitcast(arguments[0], I64.as_pointer())
        number, parallel = (b.load(b.gep(at, [I64(i)])) for i in range(2))
        with cgutils.for_range(b, number, intp=I64) as loop:
            first = b.add(b.mul(loop.index, I64(FIELDS)), I64(2))
            fields = (b.gep(at, [b.add(first, I64(i))]) for i in range(FIELDS))
            job, function, threads = map(b.load, fields)
            with b.if_else(b.icmp_signed('==', threads, I64(1))) as (alone, together):
                with alone:
                    b.call(b.inttoptr(function, one.as_pointer()), [job])
                with together:
                    counts = [b.trunc(threads, ir.IntType(32)), ir.IntType(32)(0)]
                    b.call(b.inttoptr(parallel, team.as_pointer()), [function, job, *counts])
        return context.get_dummy_value()

    return types.void(types.CPointer(types.int64)), codegen


@compiled_callback(types.void(types.CPointer(types.int64)))
def run_calls(at):
    """Run calls in sequence, each as :class:`surge_mm.deploy.cpu.threads.Team` runs a job."""
    run_all(at)
