"""Vectors of float32 as values in compiled code.

A vector of any number of lanes is one LLVM value; LLVM splits it over as many registers as the
processor needs (64 lanes: 4 of AVX-512, 8 of AVX2, 16 of NEON). Loops written with these run
about twice as fast as the same loops left to auto-vectorisation.

Offsets count float32 numbers from an array's beginning and must be multiples of `NARROW` in an
array that begins on a cache line (`fastmnist.parameters.aligned_zeros`). Nothing is checked.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, models, register_model

from fastmnist.parameters import LANES

NARROW = LANES
# Eight registers' worth: enough independent sums to hide the four cycles of a multiply-add.
WIDE = 128 if llvm.get_host_cpu_features().get("avx512f") else 64

_ALIGNMENT = 4 * LANES


class VectorType(types.Type):
    """`lanes` float32 numbers in registers."""

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        super().__init__(name=f"float32x{lanes}")


@register_model(VectorType)
class _VectorModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, dmm: Any, fe_type: VectorType) -> None:
        super().__init__(dmm, fe_type, ir.VectorType(ir.FloatType(), fe_type.lanes))


def _address(context: Any, builder: Any, array_type: Any, array: Any, offset: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.gep(data, [offset])


def _load(builder: Any, address: Any, vector: ir.VectorType) -> Any:
    loaded = builder.load(builder.bitcast(address, vector.as_pointer()))
    loaded.align = _ALIGNMENT
    return loaded


def _broadcast(builder: Any, scalar: Any, vector: ir.VectorType) -> Any:
    lane = ir.Constant(ir.IntType(32), 0)
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, lane)
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), vector.count), None)
    return builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), zeros)


def _multiply_add(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """``a * b + c``, rounded once."""
    kind = ir.FunctionType(c.type, [c.type] * 3)
    name = f"llvm.fma.v{c.type.count}f32"
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [a, b, c])


@intrinsic(prefer_literal=True)  # type: ignore[misc]
def zeros(typingctx: Any, lanes: Any) -> Any:
    """A vector of `lanes` zeros; `lanes` is a constant."""
    result = VectorType(lanes.literal_value)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return ir.Constant(context.get_value_type(signature.return_type), None)

    return result(lanes), codegen


@intrinsic  # type: ignore[misc]
def load(typingctx: Any, like: Any, array: Any, offset: Any) -> Any:
    """``array[offset : offset + lanes]``, with as many lanes as `like` has."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        address = _address(context, builder, signature.args[1], args[1], args[2])
        return _load(builder, address, args[0].type)

    return like(like, array, types.intp), codegen


@intrinsic  # type: ignore[misc]
def store(typingctx: Any, array: Any, offset: Any, vector: Any) -> Any:
    """``array[offset : offset + lanes] = vector``."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        address = _address(context, builder, signature.args[0], args[0], args[1])
        stored = builder.store(args[2], builder.bitcast(address, args[2].type.as_pointer()))
        stored.align = _ALIGNMENT
        return context.get_dummy_value()

    return types.none(array, types.intp, vector), codegen


@intrinsic  # type: ignore[misc]
def add(typingctx: Any, left: Any, right: Any) -> Any:
    """``left + right``."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fadd(*args)

    return left(left, right), codegen


@intrinsic  # type: ignore[misc]
def add_scaled(typingctx: Any, vector: Any, scalar: Any, other: Any) -> Any:
    """``vector + scalar * other``, rounded once."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector, scalar, other = args
        return _multiply_add(builder, _broadcast(builder, scalar, vector.type), other, vector)

    return vector(vector, types.float32, other), codegen


@intrinsic  # type: ignore[misc]
def add_scaled_row(typingctx: Any, vector: Any, scalar: Any, array: Any, offset: Any) -> Any:
    """``vector + scalar * array[offset : offset + lanes]``, rounded once."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector, scalar, array, offset = args
        address = _address(context, builder, signature.args[2], array, offset)
        row = _load(builder, address, vector.type)
        return _multiply_add(builder, _broadcast(builder, scalar, vector.type), row, vector)

    return vector(vector, types.float32, array, types.intp), codegen


@intrinsic  # type: ignore[misc]
def where_positive(typingctx: Any, condition: Any, vector: Any) -> Any:
    """`vector` in the lanes where `condition` is greater than 0, else 0."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        zero = ir.Constant(args[0].type, None)
        return builder.select(builder.fcmp_ordered(">", args[0], zero), args[1], zero)

    return vector(condition, vector), codegen


@intrinsic  # type: ignore[misc]
def prefetch(typingctx: Any, array: Any, offset: Any) -> Any:
    """Begin to fetch the cache line of ``array[offset]``, of any array, into the caches."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        address = _address(context, builder, signature.args[0], args[0], args[1])
        pointer = ir.IntType(8).as_pointer()
        i32 = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [pointer, i32, i32, i32])
        call = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        read, keep, data = i32(0), i32(3), i32(1)
        builder.call(call, [builder.bitcast(address, pointer), read, keep, data])
        return context.get_dummy_value()

    return types.none(array, types.intp), codegen
