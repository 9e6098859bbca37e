"""All parameters of a network in one aligned buffer, seen as a list of (W, b)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NoReturn, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

LANES = 16  # float32 numbers in a cache line of 64 bytes, and in the widest vector register
COLUMNS = 64  # that wide rows are worked off at a time, at least
BLOCK = 8  # rows that the kernels for dense data work on at the same time, at most

Gradients = list[tuple[NDArray[Any], NDArray[Any]]]


def aligned_zeros(count: int) -> NDArray[np.float32]:
    """Zeros of shape (count,), float32, that begin on a cache line (NumPy aligns to 16 bytes)."""
    raw = np.zeros(count + LANES, np.float32)
    skip = (-raw.ctypes.data // 4) % LANES
    return raw[skip : skip + count]


def padded(columns: int) -> int:
    """`columns`, rounded up to what the kernels work on: one cache line, or whole `COLUMNS`."""
    return LANES if columns <= LANES else -(-columns // COLUMNS) * COLUMNS


def row_stride(columns: int) -> int:
    """Floats from one row to the next: whole cache lines, and an odd number of them.

    With an even number (512 bytes, say) the same columns of all rows fall into a part of the
    cache's sets only, and push each other out. There is always room for one more number.
    """
    lines = padded(columns) // LANES | 1
    return LANES * (lines if columns < LANES * lines else lines + 2)


def in_blocks(count: int) -> int:
    """`count`, rounded up to whole blocks."""
    return -(-count // BLOCK) * BLOCK


def _padded_shape(inputs: int, outputs: int) -> tuple[int, int]:
    """Rows and columns of a layer in the buffer: of W, of the bias, and of padding."""
    return in_blocks(inputs + 1), row_stride(outputs)


def bytes_of(sizes: Sequence[int]) -> int:
    """How much memory `Parameters` of these sizes take."""
    return 4 * sum(math.prod(_padded_shape(n, m)) for n, m in pairwise(sizes))


class Parameters(list[tuple[NDArray[np.float32], NDArray[np.float32]]]):
    """A list of (W, b), one per layer, each a view into one flat buffer.

    W has shape (inputs, outputs), b (outputs,), both float32. In the buffer the bias is one more
    row of W, the weight of an input that is always 1, rows are padded to whole cache lines, and
    their number to whole blocks; so the kernels need no code for biases and none for odd sizes.
    Padding stays zero.

    Assigning to an entry copies the values into the buffer.

    Parameters
    ----------
    sizes : sequence of int
        Number of inputs, of units in each hidden layer, and of classes.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        self.sizes = tuple(sizes)
        shapes = [_padded_shape(n, m) for n, m in pairwise(sizes)]
        ends = np.cumsum([rows * stride for rows, stride in shapes])
        self.offsets = [0, *map(int, ends[:-1])]
        self.flat = aligned_zeros(int(ends[-1]))
        self.kept: dict[Any, list[Any]] = {}  # by the kernels, from one prediction to the next
        blocks = [
            self.flat[start : start + rows * stride].reshape(rows, stride)
            for start, (rows, stride) in zip(self.offsets, shapes, strict=True)
        ]
        super().__init__(
            (block[:n, :m], block[n, :m])
            for block, (n, m) in zip(blocks, pairwise(sizes), strict=True)
        )

    @classmethod
    def copy_of(cls, params: Sequence[tuple[ArrayLike, ArrayLike]]) -> Parameters:
        """The same values in a buffer of their own, rounded to float32."""
        copy = cls(sizes_of(params))
        copy.assign(params)
        return copy

    def assign(self, params: Sequence[tuple[ArrayLike, ArrayLike]]) -> None:
        """Copy all values of `params`, which must have the same shapes, into this buffer."""
        if sizes_of(params) != self.sizes:
            raise ValueError(f"parameters of sizes {sizes_of(params)}, wanted {self.sizes}")
        for layer, (W, b) in enumerate(params):
            self[layer] = (W, b)

    def __setitem__(self, layer: Any, value: Any) -> None:
        if not isinstance(layer, SupportsIndex):
            raise TypeError("replace one layer at a time: params[0] = (W, b)")
        for view, new in zip(self[layer], value, strict=True):
            if np.shape(new) != view.shape:
                raise ValueError(f"layer {layer}: got shape {np.shape(new)}, wanted {view.shape}")
            view[...] = new

    def _fixed(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError("the number of layers is fixed; make a new MLP with other sizes")

    append = extend = insert = pop = remove = clear = __delitem__ = __iadd__ = _fixed

    def __reduce__(self) -> Any:  # pickled and copied as values: views would lose their buffer
        return _restored, ([(W.copy(), b.copy()) for W, b in self],)


def _restored(params: Gradients) -> Parameters:
    return Parameters.copy_of(params)


def sizes_of(params: Sequence[tuple[ArrayLike, ArrayLike]]) -> tuple[int, ...]:
    """Layer sizes of a list of (W, b); ValueError if its shapes do not follow from one another."""
    shapes = [(np.shape(W), np.shape(b)) for W, b in params]
    if not shapes:
        raise ValueError("a network needs at least one layer of (W, b)")
    for layer, (W, b) in enumerate(shapes):
        if len(W) != 2 or b != W[1:] or (layer and W[0] != shapes[layer - 1][0][1]):
            raise ValueError(f"layer {layer}: W of shape {W} and b of shape {b} do not fit")
    return (shapes[0][0][0], *(W[1] for W, _ in shapes))
