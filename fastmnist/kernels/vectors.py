"""Vectors of float32 as values in compiled code.

A vector of any number of lanes is one LLVM value; LLVM splits it over as many registers as the
processor needs (64 lanes: 4 of AVX-512, 8 of AVX2, 16 of NEON). Loops written with these run
about twice as fast as the same loops left to auto-vectorisation.

Offsets count float32 numbers from an array's beginning and must be multiples of `NARROW` in an
array that begins on a cache line (`fastmnist.parameters.aligned_zeros`). Nothing is checked.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import partial
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import models, register_model

from fastmnist.kernels.jit import intrinsic
from fastmnist.kernels.target import ARM, FMA, LINE, REGISTER_LANES, REGISTERS, X86
from fastmnist.parameters import BLOCK, COLUMNS, LANES

NARROW = LANES

# Blocks by the vector registers that there are; sums stay in registers only if they fit there.
# WIDE columns of a sum of rows: with more of them, what an entry costs besides (its column, its
# value, the loop) counts for less; and there must be as many independent sums as a multiply-add
# takes cycles. MR x NR is the block of a product of matrices: besides MR * NR sums a row of NR
# numbers and a number for each of MR rows must fit. (Blocks for AVX-512 on other processors, with
# 64 numbers spilled and loaded again in every step: 2 to 3 times as slow.)
WIDE, MR, NR = {
    (32, 16): (128, 4, 64),  # AVX-512: 8 registers of sums; 16
    (16, 8): (64, 6, 16),  # AVX: 8; 12 (4 x 16, 8 of them, took 1.1 times as long)
    (32, 4): (64, 6, 16),  # NEON: 16; 24
    (16, 4): (32, 2, 16),  # SSE: 8; 8, as products need registers of their own
}[REGISTERS, REGISTER_LANES]
MIDDLE = min(WIDE, COLUMNS)

# Rows behind the last MR: so many divide BLOCK, to a multiple of which rows are padded.
REST = math.gcd(MR, BLOCK)

# Rows of a block of 16 columns, where NR are too many.
NARROW_MR = BLOCK if NR > NARROW else MR

_ALIGNMENT = 4 * LANES


class VectorType(types.Type):
    """`lanes` float32 numbers in registers."""

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        super().__init__(name=f"float32x{lanes}")

    def __len__(self) -> int:
        return self.lanes


@register_model(VectorType)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: VectorType) -> None:
        super().__init__(dmm, fe_type, ir.VectorType(ir.FloatType(), fe_type.lanes))


class BlockType(types.Type):
    """Rows of a matrix side by side, each of them a vector."""

    def __init__(self, rows: int, lanes: int) -> None:
        self.rows, self.lanes = rows, lanes
        super().__init__(name=f"float32x{rows}x{lanes}")


@register_model(BlockType)
class _BlockModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: BlockType) -> None:
        row = ir.VectorType(ir.FloatType(), fe_type.lanes)
        super().__init__(dmm, fe_type, ir.ArrayType(row, fe_type.rows))


def _rows_of(builder: Any, block: Any) -> list[Any]:
    """The rows of a block; a vector is one."""
    if isinstance(block.type, ir.VectorType):
        return [block]
    return [builder.extract_value(block, i) for i in range(block.type.count)]


def _joined(builder: Any, like: Any, rows: list[Any]) -> Any:
    """The block, or the vector, of these rows."""
    if isinstance(like.type, ir.VectorType):
        return rows[0]
    block = ir.Constant(like.type, ir.Undefined)
    for i, row in enumerate(rows):
        block = builder.insert_value(block, row, i)
    return block


def _each_row(builder: Any, function: Any, *blocks: Any) -> Any:
    """``function(builder, *rows)`` of each row of blocks, or of vectors."""
    rows = zip(*(_rows_of(builder, block) for block in blocks), strict=True)
    return _joined(builder, blocks[0], [function(builder, *each) for each in rows])


def _address(context: Any, builder: Any, array_type: Any, array: Any, offset: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.gep(data, [offset])


def _load(builder: Any, address: Any, vector: ir.VectorType) -> Any:
    loaded = builder.load(builder.bitcast(address, vector.as_pointer()))
    loaded.align = _ALIGNMENT
    return loaded


def _store(builder: Any, vector: Any, address: Any) -> None:
    stored = builder.store(vector, builder.bitcast(address, vector.type.as_pointer()))
    stored.align = _ALIGNMENT


def _broadcast(builder: Any, scalar: Any, vector: ir.VectorType) -> Any:
    lane = ir.Constant(ir.IntType(32), 0)
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, lane)
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), vector.count), None)
    return builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), zeros)


def _multiply_add(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """``a * b + c``, rounded once where there is an instruction for it."""
    if not FMA:
        return builder.fadd(builder.fmul(a, b), c)
    kind = ir.FunctionType(c.type, [c.type] * 3)
    name = f"llvm.fma.v{c.type.count}f32"
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [a, b, c])


@partial(intrinsic, prefer_literal=True)
def zeros(typingctx: Any, lanes: Any) -> Any:
    """A vector of `lanes` zeros; `lanes` is a constant."""
    result = VectorType(lanes.literal_value)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return ir.Constant(context.get_value_type(signature.return_type), None)

    return result(lanes), codegen


@partial(intrinsic, prefer_literal=True)
def zero_rows(typingctx: Any, rows: Any, lanes: Any) -> Any:
    """A block of zeros; `rows` and `lanes` are constants."""
    result = BlockType(rows.literal_value, lanes.literal_value)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return ir.Constant(context.get_value_type(signature.return_type), None)

    return result(rows, lanes), codegen


@intrinsic
def row_count(typingctx: Any, block: Any) -> Any:
    """How many rows `block` has."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return context.get_constant(types.intp, signature.args[0].rows)

    return types.intp(block), codegen


@intrinsic
def load(typingctx: Any, like: Any, array: Any, offset: Any) -> Any:
    """``array[offset : offset + lanes]``, with as many lanes as `like` has."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        address = _address(context, builder, signature.args[1], args[1], args[2])
        return _load(builder, address, args[0].type)

    return like(like, array, types.intp), codegen


@intrinsic
def store(typingctx: Any, array: Any, offset: Any, vector: Any) -> Any:
    """``array[offset : offset + lanes] = vector``."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _store(builder, args[2], _address(context, builder, signature.args[0], args[0], args[1]))
        return context.get_dummy_value()

    return types.none(array, types.intp, vector), codegen


@intrinsic
def add(typingctx: Any, left: Any, right: Any) -> Any:
    """``left + right``, of vectors or blocks."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _each_row(builder, lambda builder, left, right: builder.fadd(left, right), *args)

    return left(left, right), codegen


@intrinsic
def add_scaled(typingctx: Any, vector: Any, scalar: Any, other: Any) -> Any:
    """``vector + scalar * other``, rounded once, of vectors or blocks."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector, scalar, other = args

        def of_row(builder: Any, row: Any, other: Any) -> Any:
            return _multiply_add(builder, _broadcast(builder, scalar, row.type), other, row)

        return _each_row(builder, of_row, vector, other)

    return vector(vector, types.float32, other), codegen


@intrinsic
def scaled(typingctx: Any, vector: Any, scalar: Any) -> Any:
    """``scalar * vector``."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fmul(args[0], _broadcast(builder, args[1], args[0].type))

    return vector(vector, types.float32), codegen


@intrinsic
def squared(typingctx: Any, vector: Any) -> Any:
    """``vector * vector``."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fmul(args[0], args[0])

    return vector(vector), codegen


@intrinsic
def over_root(typingctx: Any, vector: Any, squares: Any, epsilon: Any) -> Any:
    """``vector / (sqrt(squares) + epsilon)``."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector, squares, epsilon = args
        kind = ir.FunctionType(vector.type, [vector.type])
        name = f"llvm.sqrt.v{vector.type.count}f32"
        root = builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [squares])
        return builder.fdiv(vector, builder.fadd(root, _broadcast(builder, epsilon, vector.type)))

    return vector(vector, squares, types.float32), codegen


@intrinsic
def shifted(typingctx: Any, vector: Any, shift: Any) -> Any:
    """``vector - shift``."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fsub(args[0], _broadcast(builder, args[1], args[0].type))

    return vector(vector, types.float32), codegen


@intrinsic
def add_scaled_row(typingctx: Any, vector: Any, scalar: Any, array: Any, offset: Any) -> Any:
    """``vector + scalar * array[offset : offset + lanes]``, rounded once."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector, scalar, array, offset = args
        address = _address(context, builder, signature.args[2], array, offset)
        row = _load(builder, address, vector.type)
        return _multiply_add(builder, _broadcast(builder, scalar, vector.type), row, vector)

    return vector(vector, types.float32, array, types.intp), codegen


@intrinsic
def load_rows(typingctx: Any, like: Any, array: Any, offset: Any, stride: Any) -> Any:
    """Rows of `array` from `offset` on, `stride` apart: a block or a vector, as `like` is."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        like, array, offset, stride = args
        rows = []
        for i, row in enumerate(_rows_of(builder, like)):
            at = builder.add(offset, builder.mul(stride, stride.type(i)))
            address = _address(context, builder, signature.args[1], array, at)
            rows.append(_load(builder, address, row.type))
        return _joined(builder, like, rows)

    return like(like, array, types.intp, types.intp), codegen


@intrinsic
def store_rows(typingctx: Any, array: Any, offset: Any, stride: Any, block: Any) -> Any:
    """The rows of `block` become rows of `array` from `offset` on, `stride` apart."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array, offset, stride, block = args
        for i, row in enumerate(_rows_of(builder, block)):
            at = builder.add(offset, builder.mul(stride, stride.type(i)))
            _store(builder, row, _address(context, builder, signature.args[0], array, at))
        return context.get_dummy_value()

    return types.none(array, types.intp, types.intp, block), codegen


@intrinsic
def add_outer(typingctx: Any, block: Any, X: Any, offset: Any, stride: Any, row: Any) -> Any:
    """To row i of `block`, add ``X[offset + i * stride] * row``, rounded once."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        block, X, offset, stride, row = args
        sums = []
        for i, sum_ in enumerate(_rows_of(builder, block)):
            at = builder.add(offset, builder.mul(stride, stride.type(i)))
            x = builder.load(_address(context, builder, signature.args[1], X, at))
            sums.append(_multiply_add(builder, _broadcast(builder, x, row.type), row, sum_))
        return _joined(builder, block, sums)

    return block(block, X, types.intp, types.intp, row), codegen


@intrinsic
def transpose_square(
    typingctx: Any, source: Any, at: Any, stride: Any, target: Any, to: Any, step: Any
) -> Any:
    """A square of `NARROW` rows of `source`, from `at` on, becomes columns of `target`, from `to`.

    Each of four rounds interleaves the first half of the rows with the second.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source, at, stride, target, to, step = args
        lanes, half = ir.VectorType(ir.FloatType(), NARROW), NARROW // 2
        both = [
            _lanes(first + lane // 2 + NARROW * (lane % 2) for lane in range(NARROW))
            for first in (0, half)
        ]
        rows = []
        for i in range(NARROW):
            offset = builder.add(at, builder.mul(stride, stride.type(i)))
            rows.append(
                _load(builder, _address(context, builder, signature.args[0], source, offset), lanes)
            )
        for _ in range(NARROW.bit_length() - 1):
            pairs = list(zip(rows[:half], rows[half:], strict=True))
            rows = [
                builder.shuffle_vector(*pair, interleaved) for pair in pairs for interleaved in both
            ]
        for i, row in enumerate(rows):
            offset = builder.add(to, builder.mul(step, step.type(i)))
            _store(builder, row, _address(context, builder, signature.args[3], target, offset))
        return context.get_dummy_value()

    return types.none(source, types.intp, types.intp, target, types.intp, types.intp), codegen


def _lanes(numbers: Iterable[int]) -> ir.Constant:
    lanes = list(map(int, numbers))
    return ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), lanes)


@intrinsic
def where_positive(typingctx: Any, condition: Any, vector: Any) -> Any:
    """`vector` in the lanes where `condition` is greater than 0 or NaN, else 0.

    So ReLU keeps NaN, as in the reference: a sum that has overflowed is never a silent 0.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        zero = ir.Constant(args[0].type, None)
        return builder.select(builder.fcmp_unordered(">", args[0], zero), args[1], zero)

    return vector(condition, vector), codegen


@intrinsic
def exponential(typingctx: Any, vector: Any) -> Any:
    """``exp(vector)`` where that is at most 1, to 2 rounding steps; 0 below exp(-87).

    exp(x) = 2^n exp(r), n whole and r within ln 2 / 2 of zero, where eight terms of Taylor's series
    leave an error of a tenth of a rounding step. (Ten np.exp, one by one: 5 times as slow.)
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lanes = args[0].type
        integers = ir.VectorType(ir.IntType(32), lanes.count)

        def every(number: float) -> Any:
            return ir.Constant(lanes, [number] * lanes.count)

        x = args[0]
        # the last bit of 1.5 * 2^23 is worth 1: adding it rounds to a whole number
        rounded = _multiply_add(builder, x, every(1 / math.log(2)), every(1.5 * 2**23))
        n = builder.fsub(rounded, every(1.5 * 2**23))
        high = 0.693359375  # ln 2 to 9 bits: n times it is exact
        r = _multiply_add(builder, n, every(-high), x)
        r = _multiply_add(builder, n, every(high - math.log(2)), r)
        series = every(1 / math.factorial(7))
        for k in range(6, -1, -1):
            series = _multiply_add(builder, series, r, every(1 / math.factorial(k)))
        exponent = builder.add(
            builder.fptosi(n, integers), ir.Constant(integers, [127] * lanes.count)
        )
        power = builder.bitcast(
            builder.shl(exponent, ir.Constant(integers, [23] * lanes.count)), lanes
        )
        result = builder.fmul(series, power)
        return builder.select(builder.fcmp_ordered(">", x, every(-87)), result, every(0))

    return vector(vector), codegen


@intrinsic
def maximum(typingctx: Any, left: Any, right: Any) -> Any:
    """The larger of two vectors, lane by lane."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _larger(builder, *args)

    return left(left, right), codegen


def _larger(builder: Any, left: Any, right: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", left, right), left, right)


@intrinsic
def first_lanes(typingctx: Any, vector: Any, count: Any, other: Any) -> Any:
    """`vector` in the first `count` lanes, `other` in the rest."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector, count, other = args
        lanes = ir.VectorType(count.type, vector.type.count)
        number = ir.Constant(lanes, list(range(lanes.count)))
        wanted = builder.icmp_signed("<", number, _broadcast(builder, count, lanes))
        return builder.select(wanted, vector, _broadcast(builder, other, vector.type))

    return vector(vector, types.int32, types.float32), codegen


@intrinsic
def largest_lane(typingctx: Any, vector: Any) -> Any:
    """The largest number in a vector."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _folded(builder, args[0], _larger)

    return types.float32(vector), codegen


@intrinsic
def sum_of_lanes(typingctx: Any, vector: Any) -> Any:
    """The sum of the numbers in a vector."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _folded(builder, args[0], lambda builder, low, high: builder.fadd(low, high))

    return types.float32(vector), codegen


def _folded(builder: Any, vector: Any, combine: Any) -> Any:
    """One number from a vector: its halves are combined until one lane is left."""
    index = ir.IntType(32)
    while vector.type.count > 1:
        half = vector.type.count // 2
        low, high = (
            builder.shuffle_vector(
                vector,
                ir.Constant(vector.type, ir.Undefined),
                ir.Constant(ir.VectorType(index, half), list(range(first, first + half))),
            )
            for first in (0, half)
        )
        vector = combine(builder, low, high)
    return builder.extract_element(vector, index(0))


@intrinsic
def prefetch(typingctx: Any, array: Any, offset: Any) -> Any:
    """Begin to bring the cache line that holds element `offset` of `array` into the L1 cache."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        address = _address(context, builder, signature.args[0], args[0], args[1])
        flag, pointer = ir.IntType(32), ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [pointer, flag, flag, flag])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        read, keep, data = flag(0), flag(3), flag(1)
        builder.call(function, [builder.bitcast(address, pointer), read, keep, data])
        return context.get_dummy_value()

    return types.none(array, types.intp), codegen


@intrinsic
def per_line(typingctx: Any, array: Any) -> Any:
    """How many elements of `array` stand in a cache line."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        size = context.get_abi_sizeof(context.get_data_type(signature.args[0].dtype))
        return context.get_constant(types.uintp, LINE // size)

    return types.uintp(array), codegen


@intrinsic
def opaque(typingctx: Any, number: Any) -> Any:
    """`number`, of which the compiler does not know that: so it does not unroll a loop over it."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(args[0].type, [args[0].type])
        return builder.asm(kind, "", "=r,0", args, False)

    return types.uintp(types.uintp), codegen


# The bit of the floating-point control register (MXCSR, FPCR) that makes denormal results and
# operands 0. Other processors keep them.
_FLUSH = 0x8040 if X86 else 1 << 24 if ARM else 0


@intrinsic
def flush_denormals(typingctx: Any) -> Any:
    """From now on this thread takes denormal numbers for 0; the state before, for `restore`."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if not _FLUSH:
            return _STATE(0)
        before = _control(builder)
        _set_control(builder, builder.or_(before, _STATE(_FLUSH)))
        return before

    return types.uint64(), codegen


@intrinsic
def restore(typingctx: Any, state: Any) -> Any:
    """As it was before `flush_denormals`."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if _FLUSH:
            _set_control(builder, args[0])
        return context.get_dummy_value()

    return types.none(types.uint64), codegen


_STATE = ir.IntType(64)


def _control(builder: Any) -> Any:
    """The floating-point control register."""
    if ARM:
        return _called(builder, "llvm.aarch64.get.fpcr", _STATE)
    room = cgutils.alloca_once(builder, ir.IntType(32))
    _called(builder, "llvm.x86.sse.stmxcsr", ir.VoidType(), _bytes(builder, room))
    return builder.zext(builder.load(room), _STATE)


def _set_control(builder: Any, state: Any) -> None:
    if ARM:
        _called(builder, "llvm.aarch64.set.fpcr", ir.VoidType(), state)
        return
    room = cgutils.alloca_once_value(builder, builder.trunc(state, ir.IntType(32)))
    _called(builder, "llvm.x86.sse.ldmxcsr", ir.VoidType(), _bytes(builder, room))


def _bytes(builder: Any, address: Any) -> Any:
    return builder.bitcast(address, ir.IntType(8).as_pointer())


def _called(builder: Any, name: str, result: Any, *arguments: Any) -> Any:
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)
