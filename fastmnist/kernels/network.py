"""What the kernels work on: a network's parameters, one chunk of samples, a thread's scratch.

Every array is flat and holds all layers, one behind the other, and a table says where each layer
stands; so one compiled kernel serves networks of any depth.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastmnist.kernels.packed import FLOATS, Dense, Packed, band_count
from fastmnist.kernels.vectors import MIDDLE, NARROW
from fastmnist.optimizers import State
from fastmnist.parameters import Parameters, aligned_zeros, in_blocks, padded, row_stride

# Samples that pass through the network together, between two meetings of the threads. Larger
# batches are worked off in chunks, so that what belongs to a chunk stays in the L2 cache.
CHUNK = 128

# From one input's list of samples to the next, when a chunk is turned round: an odd number of
# cache lines, for the reason given at `fastmnist.parameters.row_stride`.
TURNED = CHUNK + 8

# Inputs of a later layer whose weights are updated at a time.
TASK = 64

# The columns of the table of shapes, one row a layer.
(
    INPUTS,  # number of inputs, without the constant 1
    OUTPUTS,
    STRIDE,  # from row to row of W, of its gradient, and of Z
    COLUMNS,  # outputs with padding, as they are worked off
    BANDS,  # of inputs
    WEIGHTS,  # where W begins in the parameters
    OUT,  # where Z begins in `Chunk.outputs`, one row a sample, and its gradient in `Chunk.dZ`
    TRANSPOSED,  # where the transposed W begins in `Network.transposed`
    INPUT_STRIDE,  # from row to row of the transposed W, and of a panel of inputs
    INPUT_COLUMNS,  # inputs with padding
) = range(10)

# The columns of a list of pieces, see `pieces_of`: the last tells whether to add to the part.
PART, FIRST_BAND, LAST_BAND, FIRST_COLUMN, LAST_COLUMN, ADDS = range(6)
PARTS = 2

# As a number of NumPy: for a literal 0 of Python's, Numba compiles every function once more.
FIRST = np.int64(0)


class Network(NamedTuple):
    """A network's parameters and everything shaped like them."""

    shapes: NDArray[np.int64]  # (layers, 10)
    tasks: NDArray[np.int64]  # (tasks, 2): each later layer, and the first of each `TASK` inputs
    weights: NDArray[np.float32]
    transposed: NDArray[np.float32]
    gradient: NDArray[np.float32]
    velocity: NDArray[np.float32]
    squares: NDArray[np.float32]


class Chunk(NamedTuple):
    """What the threads share of a chunk of samples."""

    outputs: NDArray[np.float32]  # of all layers: Z, or activations with the constant 1 behind them
    dZ: NDArray[np.float32]  # laid out alike
    parts: NDArray[np.float32]  # (PARTS * part,): of the first layer's Z
    part: int  # samples * STRIDE


class Scratch(NamedTuple):
    """What one thread needs for itself."""

    panel: NDArray[np.float32]  # (samples * INPUT_STRIDE,): a chunk's dense inputs
    turned: NDArray[np.void]  # (inputs * TURNED,): for each input, its samples as FLOATS
    filled: NDArray[np.int64]  # (inputs,): how many they are
    canvas: Any  # for images that are distorted


class Matrix(NamedTuple):
    """Rows of a flat array."""

    numbers: NDArray[np.float32]
    origin: np.int64
    stride: np.int64


class Inputs(NamedTuple):
    """What enters the first layer: for sample s row ``order[first + s]`` of `rows`."""

    rows: Packed | Dense
    order: NDArray[np.int64]
    first: int | np.int64


class Rule(NamedTuple):
    """The optimiser's step."""

    steps: bool  # False: only the gradient is wanted
    plain: bool  # gradient descent and nothing else: without a gradient nothing changes
    momentum: np.float32  # Adam's beta1
    nesterov: bool
    adaptive: bool  # Adam
    beta2: np.float32
    gain1: np.float32  # 1 - beta1, which a subtraction in float32 would not give
    gain2: np.float32  # 1 - beta2
    decay: np.float32  # of the parameters, added to the gradient


class Pace(NamedTuple):
    """What differs from step to step."""

    rate: np.float32
    epsilon: np.float32
    keep: np.float32  # what the parameters are multiplied by: decoupled weight decay


class Dropout(NamedTuple):
    """Which units are left out, of the samples of a chunk."""

    key: np.uint64
    inputs: np.int64  # threshold, see `fastmnist.dropout`; 0: none is left out
    inputs_scale: np.float32  # of those that stay
    hidden: np.int64
    hidden_scale: np.float32
    order: NDArray[np.int64]
    first: int | np.int64  # sample s is number ``order[first + s]``


def shapes_of(params: Parameters, samples: int) -> NDArray[np.int64]:
    """The table of shapes for chunks of `samples`."""
    table = np.zeros((len(params), 10), np.int64)
    out = transposed = 0
    for row, inputs, outputs, weights in zip(
        table, params.sizes[:-1], params.sizes[1:], params.offsets, strict=True
    ):
        row[INPUTS], row[OUTPUTS], row[STRIDE] = inputs, outputs, row_stride(outputs)
        row[COLUMNS], row[BANDS] = padded(outputs), band_count(inputs)
        row[INPUT_COLUMNS], row[INPUT_STRIDE] = padded(inputs), row_stride(inputs)
        row[WEIGHTS], row[OUT], row[TRANSPOSED] = weights, out, transposed
        out += in_blocks(samples) * row[STRIDE]
        if weights:  # nothing flows back into the first layer's inputs
            transposed += padded(outputs) * row[INPUT_STRIDE]
    return table


def new_network(
    params: Parameters,
    samples: int,
    state: State | None = None,
    gradient: Parameters | None = None,
) -> Network:
    """A network for chunks of `samples`; the parameters are shared, not copied."""
    shapes = shapes_of(params, samples)
    transposed = aligned_zeros(sum(row[COLUMNS] * row[INPUT_STRIDE] for row in shapes[1:]))
    for row, (W, _) in zip(shapes[1:], params[1:], strict=True):
        block = transposed[row[TRANSPOSED] :][: row[OUTPUTS] * row[INPUT_STRIDE]]
        block.reshape(row[OUTPUTS], row[INPUT_STRIDE])[:, : row[INPUTS]] = W.T
    tasks = [
        (layer, first)
        for layer in range(1, len(shapes))
        for first in range(0, shapes[layer, INPUTS] + 1, TASK)
    ]
    nothing = Parameters(params.sizes)
    return Network(
        shapes,
        np.array(tasks, np.int64).reshape(-1, 2),
        params.flat,
        transposed,
        *((gradient or nothing).flat, (state.velocity if state else nothing).flat),
        (state.squares if state else nothing).flat,
    )


def pieces_of(member: int, members: int, shapes: NDArray[np.int64]) -> NDArray[np.int64]:
    """The pieces of one member of a team: of each its part, bands and columns, first to last.

    The first layer, by far the largest, is divided by its inputs into pieces of consecutive bands,
    and its Z is the sum of two parts: of the even pieces and of the odd ones, since in the middle
    of an image there is more ink than above and below. A thread keeps to its own part, forward and
    in the update, so that neither its rows of W nor its entries of the samples ever move from one
    core to another; only the parts of Z do (784-128-10, two threads: 0.9 of the time). The pieces
    depend on the network alone, and with them the order of every sum. More members than two divide
    the columns of their part.
    """
    outputs, bands, columns = shapes[0, [OUTPUTS, BANDS, COLUMNS]]
    pieces = 2 if outputs <= NARROW else 4  # a narrow layer has less work to divide
    unit = min(MIDDLE, columns)
    table = []
    for piece in range(pieces):
        part = piece % PARTS
        sharers = range(part, members, PARTS) if members > 1 else range(1)
        if member in sharers:
            share, shares = sharers.index(member), len(sharers)
            table.append(
                (
                    part,
                    # rounded up: a piece without bands comes behind all that have some
                    *(-(-edge * bands // pieces) for edge in (piece, piece + 1)),
                    *(columns // unit * edge // shares * unit for edge in (share, share + 1)),
                    piece >= PARTS,
                )
            )
    return np.array(table, np.int64)


def new_chunk(sizes: tuple[int, ...], samples: int) -> Chunk:
    """Room for `samples` samples in all layers."""
    samples = in_blocks(samples)
    outputs = samples * sum(map(row_stride, sizes[1:]))
    part = samples * row_stride(sizes[1])
    return Chunk(
        aligned_zeros(outputs),
        aligned_zeros(outputs),
        aligned_zeros(PARTS * part),
        part,
    )


def new_scratch(sizes: tuple[int, ...], samples: int, canvas: Any = None) -> Scratch:
    """Room for one thread's own work on `samples` samples."""
    inputs = sizes[0] + 1
    return Scratch(
        aligned_zeros(in_blocks(samples) * row_stride(sizes[0])),
        np.empty(inputs * TURNED, FLOATS),
        np.empty(inputs, np.int64),
        canvas,
    )
