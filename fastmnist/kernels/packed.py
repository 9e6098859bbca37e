"""The packed form of the first layer's rows: only what is not zero.

81 % of MNIST's pixels are zero, and a zero input neither changes a sum nor receives a gradient. So
every row of pixels or features is kept as the list of its non-zero entries (column, value), in
order of columns, with one more entry at the end: the constant 1 whose weight is the bias. Columns
are grouped into bands of `BAND`, and for each row it is noted where each band begins, so that the
threads can divide a batch by columns as easily as by rows.

Column and value stand side by side: a row that shuffling brings up costs half as many reads of
memory as it would from two arrays.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numpy.typing import NDArray

from fastmnist.kernels.jit import entry, inlined, intrinsic
from fastmnist.kernels.target import ARM
from fastmnist.kernels.vectors import _address, _broadcast
from fastmnist.parameters import LANES, aligned_zeros

# Columns in a band, whose rows of W meet all samples of a chunk one after the other: with 64 the
# lists are so short that their ends cost more than a full cache (784-128-10: 1.15 times as slow).
BAND = 128

# The share of numbers that are not zero from which on rows are left dense.
DENSE = 0.4

PIXELS = np.dtype([("column", np.uint16), ("value", np.uint8)], align=True)  # 4 bytes
FLOATS = np.dtype([("column", np.uint32), ("value", np.float32)])

_COLUMN = ir.IntType(32)(0xFFFF)  # of PIXELS read as a whole; the value stands above it

SLACK = LANES  # entries behind the last row that may be read or written, though not used

_SCALED = np.arange(256, dtype=np.float32) / np.float32(255)


class Packed(NamedTuple):
    """Rows without their zeros.

    Band b of row r is ``entries[bands[r, b] : bands[r, b + 1]]``; the last one ends the row.
    """

    bands: NDArray[np.int64]  # (rows, band_count + 1)
    entries: NDArray[np.void]  # PIXELS or FLOATS

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(self.bands)


class Dense(NamedTuple):
    """Rows with so few zeros that they are left as they are."""

    X: NDArray[Any]  # uint8 pixels or float32, of shape (rows, columns)

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(self.X)


class Unpacked(NamedTuple):
    """Rows that a thread packs itself, a group at a time, just before it works on them."""

    X: NDArray[Any]  # uint8 pixels or float32, of shape (rows * columns,)
    one: NDArray[Any]  # of shape (1,): the constant 1 among them
    group: Packed  # room for the packed form of a group


def band_count(columns: int) -> int:
    """Bands of `columns` columns and the constant 1 behind them."""
    return columns // BAND + 1


def new_packed(lengths: NDArray[np.int64], columns: int, kind: np.dtype[np.void]) -> Packed:
    """Room for rows of at most so many entries each, the constant 1 included."""
    bands = band_count(columns) + 1
    # a row's bands are one read of memory if they do not cross the end of a cache line
    table = aligned_zeros(2 * len(lengths) * bands).view(np.int64).reshape(len(lengths), bands)
    table[1:, 0] = np.cumsum(lengths[:-1])
    return Packed(table, np.zeros(lengths.sum() + SLACK, kind))


def columns_of(rows: Any) -> int | None:
    """How wide rows in any form are; None where there are none to tell."""
    if not isinstance(rows, Packed):
        return int(rows.X.shape[1])
    if not rows.rows:
        return None
    return int(rows.entries[rows.bands[0, -1] - 1]["column"])  # of the constant 1, the last entry


def rows_of(X: NDArray[Any]) -> Packed | Dense:
    """The rows of `X`, uint8 or float32 of shape (rows, columns), in the form that is faster."""
    if is_dense(X):
        return Dense(read_only(X))
    X, kind, one = packable(X)
    lengths = np.empty(len(X), np.int64)
    _count_entries(X, lengths)
    packed = new_packed(lengths, X.shape[1], kind)
    _pack_rows(X.reshape(-1), X.shape[1], packed, one)
    return packed


def from_csr(
    indptr: NDArray[Any], indices: NDArray[Any], data: NDArray[Any], columns: int
) -> Packed:
    """The rows of a sparse matrix (compressed rows, sorted indices), packed as they are."""
    lengths = np.diff(indptr).astype(np.int64) + 1
    packed = new_packed(lengths, columns, FLOATS)
    row = np.repeat(np.arange(len(lengths)), lengths - 1)
    entries = packed.entries[: lengths.sum()]
    ends = packed.bands[:, 0] + lengths - 1
    inside = np.ones(len(entries), bool)
    inside[ends] = False
    entries["column"][inside], entries["value"][inside] = indices, data
    entries["column"][ends], entries["value"][ends] = columns, 1
    band = indices // BAND
    for b in range(band_count(columns)):
        packed.bands[:, b + 1] = packed.bands[:, b] + np.bincount(
            row[band == b], minlength=len(lengths)
        )
    packed.bands[:, -1] = ends + 1
    return packed


def is_dense(X: NDArray[Any]) -> bool:
    """Whether so many of its numbers are not zero that skipping those that are would not pay."""
    return bool(np.count_nonzero(X) > DENSE * X.size)


def packable(X: NDArray[Any]) -> tuple[NDArray[Any], np.dtype[np.void], Any]:
    """`X` so that its columns can be numbered, the kind of its entries, and the constant 1."""
    if X.dtype == np.uint8 and X.shape[1] < 2**16:
        return read_only(X), PIXELS, np.uint8(255)
    return read_only(_SCALED[X] if X.dtype == np.uint8 else X), FLOATS, np.float32(1)


def read_only(X: NDArray[Any]) -> NDArray[Any]:
    """`X`, not to be written to: if both kinds came, Numba would compile each kernel twice."""
    X = X.view()
    X.flags.writeable = False
    return X


@intrinsic
def column_of(typingctx: Any, entries: Any, p: Any) -> Any:
    """The column of entry p."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind, (entries, p) = signature.args[0], args
        word = context.get_value_type(types.intp)
        if kind.dtype.size == 4:
            return builder.zext(builder.and_(_whole(context, builder, kind, *args), _COLUMN), word)
        return builder.zext(_field(context, builder, kind, entries, p, "column"), word)

    return types.intp(entries, types.uintp), codegen


@intrinsic
def value_of(typingctx: Any, entries: Any, p: Any) -> Any:
    """The value of entry p, as float32; of a pixel, scaled to [0, 1]."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind, (entries, p) = signature.args[0], args
        if kind.dtype.size == 8:
            return _field(context, builder, kind, entries, p, "value")
        pixel = builder.lshr(_whole(context, builder, kind, *args), ir.IntType(32)(16))
        table = cgutils.global_constant(
            builder.module, "scaled", ir.Constant(ir.ArrayType(ir.FloatType(), 256), list(_SCALED))
        )
        pixel = builder.zext(pixel, ir.IntType(64))
        return builder.load(builder.gep(table, [ir.IntType(32)(0), pixel]))

    return types.float32(entries, types.uintp), codegen


def _whole(context: Any, builder: Any, kind: Any, entries: Any, p: Any) -> Any:
    """Entry p of PIXELS in one read (784-128-10: 0.9 of the time of reading each field)."""
    record = _address(context, builder, kind, entries, p)
    return builder.load(builder.bitcast(record, ir.IntType(32).as_pointer()))


def _field(context: Any, builder: Any, kind: Any, entries: Any, p: Any, name: str) -> Any:
    record = builder.bitcast(
        _address(context, builder, kind, entries, p), ir.IntType(8).as_pointer()
    )
    field = context.get_data_type(kind.dtype.typeof(name)).as_pointer()
    at = ir.IntType(32)(kind.dtype.offset(name))
    return builder.load(builder.bitcast(builder.gep(record, [at]), field))


@entry
def _count_entries(X, lengths):
    for r in range(len(X)):
        row = X[r]
        entries = 1
        for k in range(len(row)):
            entries += row[k] != 0
        lengths[r] = entries


@entry
def _pack_rows(X, columns, packed, one):
    for r in range(len(packed.bands)):
        pack_row(X, r * columns, columns, packed, r, one)


@inlined
def pack_row(X, first, columns, packed, r, one):
    """Row r of `packed` becomes the packed form of ``X[first : first + columns]``."""
    bands, entries = packed.bands, packed.entries
    at, band = np.uintp(bands[r, 0]), 1
    for begin in range(0, columns + 1, BAND):
        k, end = begin, min(begin + BAND, columns)
        while k + LANES <= end:
            at += pack_lanes(X, first + k, k, entries, at)
            k += LANES
        while k < end:  # written in any case; only what is not zero is kept
            x = X[np.uintp(first + k)]
            entries[at]["column"] = k
            entries[at]["value"] = x
            at += np.uintp(x != 0)
            k += 1
        bands[r, band] = at
        band += 1
    entries[at]["column"] = columns
    entries[at]["value"] = one
    bands[r, band - 1] = at + np.uintp(1)


@intrinsic
def pack_lanes(typingctx: Any, X: Any, first: Any, column: Any, entries: Any, at: Any) -> Any:
    """Write the entries of ``X[first : first + LANES]`` from `at` on; how many they are.

    The columns begin at `column`. Behind the entries, up to `LANES` in all, anything is written.
    (One number at a time, each written and kept if it is not zero: 4 times as slow.)
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind, (X, first, column, entries, at) = signature.args, args
        lanes = ir.VectorType(ir.IntType(32), LANES)
        number = context.get_value_type(kind[0].dtype)
        source = _address(context, builder, kind[0], X, first)
        source = builder.bitcast(source, ir.VectorType(number, LANES).as_pointer())
        row = builder.load(source, align=context.get_abi_sizeof(number))
        column = _broadcast(builder, builder.trunc(column, ir.IntType(32)), lanes)
        columns = builder.add(column, ir.Constant(lanes, list(range(LANES))))
        if kind[0].dtype == types.uint8:
            wanted = builder.icmp_unsigned("!=", row, ir.Constant(row.type, None))
            value = builder.shl(builder.zext(row, lanes), ir.Constant(lanes, [16] * LANES))
            fields = [builder.or_(value, columns)]
        else:
            wanted = builder.fcmp_unordered("!=", row, ir.Constant(row.type, None))
            fields = [columns, builder.bitcast(row, lanes)]
        end = at
        for part in range(0, LANES, _AT_ONCE):
            end = _put_wanted(context, builder, kind[3], entries, end, fields, wanted, part)
        return builder.sub(end, at)

    return types.uintp(X, types.intp, types.intp, entries, types.uintp), codegen


# Lanes that `pack_lanes` brings together at a time. For ARM with SVE, LLVM (22, at least) splits
# longer vectors wrongly: 330 of 360 rows of images were packed wrongly, and training crashed.
_AT_ONCE = 4 if ARM else LANES


def _put_wanted(
    context: Any,
    builder: Any,
    kind: Any,
    entries: Any,
    at: Any,
    fields: Any,
    wanted: Any,
    part: int,
) -> Any:
    """Write the wanted ones of `_AT_ONCE` entries, from lane `part` on; where the next one goes."""
    here = list(range(part, part + _AT_ONCE))
    wanted = _taken(builder, wanted, wanted, here)
    fields = [_compressed(builder, _taken(builder, each, each, here), wanted) for each in fields]
    in_turn = [lane + _AT_ONCE * f for lane in range(_AT_ONCE) for f in range(len(fields))]
    entry = _taken(builder, fields[0], fields[-1], in_turn)
    target = _address(context, builder, kind, entries, at)
    builder.store(entry, builder.bitcast(target, entry.type.as_pointer()), align=4)
    count = builder.ctpop(builder.bitcast(wanted, ir.IntType(_AT_ONCE)))
    return builder.add(at, builder.zext(count, at.type))


def _taken(builder: Any, first: Any, second: Any, lanes: list[int]) -> Any:
    """Lanes of two vectors, numbered on."""
    return builder.shuffle_vector(
        first, second, ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), lanes)
    )


def _compressed(builder: Any, vector: Any, wanted: Any) -> Any:
    """The wanted lanes side by side, and zeros behind them.

    Anything would do, but for the fourth byte of PIXELS, which only whole entries set: `value_of`
    reads it, too.
    """
    kind = ir.FunctionType(vector.type, [vector.type, wanted.type, vector.type])
    name = f"llvm.experimental.vector.compress.v{vector.type.count}i32"
    function = cgutils.get_or_insert_function(builder.module, kind, name)
    return builder.call(function, [vector, wanted, ir.Constant(vector.type, None)])


@intrinsic
def put(typingctx: Any, entries: Any, p: Any, column: Any, value: Any) -> Any:
    """Entry p of FLOATS becomes (column, value), in one store."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        entries, p, column, value = args
        word = ir.IntType(64)
        bits = builder.zext(builder.bitcast(value, ir.IntType(32)), word)
        entry = builder.or_(builder.shl(bits, word(32)), column)
        where = _address(context, builder, signature.args[0], entries, p)
        builder.store(entry, builder.bitcast(where, word.as_pointer()), align=8)
        return context.get_dummy_value()

    return types.none(entries, types.uintp, types.intp, types.float32), codegen
