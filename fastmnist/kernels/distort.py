"""An image, distorted: shifted, turned, stretched, slanted, and bent like rubber.

Each pixel of the result is read at another place of the image, between four of its pixels. See
`fastmnist.Augmentation` for what the numbers mean.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numpy.typing import NDArray

from fastmnist.augment import Augmentation, gaussian_filter_matrix
from fastmnist.counter_based import AFFINE, ELASTIC
from fastmnist.kernels.dense import multiply
from fastmnist.kernels.jit import intrinsic, jit
from fastmnist.kernels.network import FIRST, Matrix
from fastmnist.kernels.random_lanes import sample_key, uniform
from fastmnist.kernels.vectors import (
    NARROW,
    _address,
    _broadcast,
    add,
    load,
    scaled,
    shifted,
    store,
    zeros,
)
from fastmnist.parameters import LANES, aligned_zeros, in_blocks

RING = 3  # zeros around an image, in all: one before, two behind
_HALF, _ONE, _WHITE = np.float32(0.5), np.float32(1), np.float32(255)


class Distortion(NamedTuple):
    """An `Augmentation` for images of one size."""

    key: np.uint64
    height: int
    width: int
    stride: int  # from row to row of what follows: `width`, rounded up to whole vectors
    shift: np.float32
    rotation: np.float32  # radians
    scale: np.float32
    shear: np.float32
    only_shifts: bool
    elastic: bool
    down_stride: int
    down: NDArray[np.float32]  # (height, down_stride): mixes rows, by a Gaussian
    across: NDArray[np.float32]  # (width, stride): mixes columns, and scales


def distortion_of(augmentation: Augmentation, height: int, width: int, key: int) -> Distortion:
    """`augmentation` for images of one size, in one epoch."""
    a, stride = augmentation, _in_lanes(width)
    return Distortion(
        *(np.uint64(key), height, width, stride),
        np.float32(a.shift),
        np.float32(math.radians(a.rotation)),
        np.float32(a.scale),
        np.float32(a.shear),
        not (a.rotation or a.scale or a.shear or a.elastic),
        a.elastic > 0,
        _in_lanes(height),
        _padded(gaussian_filter_matrix(height, a.smoothness), _in_lanes(height)),
        _padded(gaussian_filter_matrix(width, a.smoothness) * np.float32(a.elastic), stride),
    )


def _padded(matrix: NDArray[np.float32], stride: int) -> NDArray[np.float32]:
    """`matrix` flat and aligned, its rows `stride` apart."""
    size = len(matrix)
    out = aligned_zeros(in_blocks(size) * stride)
    out.reshape(-1, stride)[:size, :size] = matrix
    return out


class Canvas(NamedTuple):
    """What one thread needs to distort images of one size."""

    numbers: NDArray[np.float32]  # (LANES,): what is drawn for an image
    noise: NDArray[np.float32]  # (height, 2 * stride): for x and y side by side
    half: NDArray[np.float32]  # smoothed in one direction
    bend: NDArray[np.float32]  # and in both
    ring: NDArray[np.uint8]  # (height + RING, width + RING): the image within zeros
    quads: NDArray[np.int32]  # of each pixel and its neighbours right, below, and both


def new_canvas(height: int = 0, width: int = 0) -> Canvas:
    """Room to distort images of this size."""
    field = in_blocks(height) * 2 * _in_lanes(width)
    size = (height + RING) * (width + RING)
    return Canvas(
        aligned_zeros(LANES),
        *(aligned_zeros(field), aligned_zeros(field), aligned_zeros(field)),
        np.zeros(size + width + RING + 1, np.uint8),
        np.zeros(size, np.int32),
    )


def _in_lanes(count: int) -> int:
    return -(-count // LANES) * LANES


@jit
def distort(X, sample, d, canvas, out):
    """Image `sample` of X, distorted, as height * width numbers in [0, 1], multiples of 1/255."""
    numbers = canvas.numbers
    store(numbers, 0, uniform(zeros(NARROW), sample_key(d.key, sample, AFFINE), FIRST))
    right = np.floor(numbers[0] * (d.shift + _HALF) + _HALF)
    down = np.floor(numbers[1] * (d.shift + _HALF) + _HALF)
    if d.only_shifts:
        _shift(X, sample, d, np.intp(right), np.intp(down), out)
        return
    turn = numbers[2] * d.rotation
    wide = _ONE / (_ONE + numbers[3] * d.scale)
    high = _ONE / (_ONE + numbers[4] * d.scale)
    slant = -numbers[5] * d.shear * wide * high
    cos, sin = np.cos(turn), np.sin(turn)
    # from a place of the result, away from the middle, to that in the image
    xx, xy = wide * cos - slant * sin, wide * sin + slant * cos
    yx, yy = -high * sin, high * cos
    middle_x, middle_y = _HALF * np.float32(d.width - 1), _HALF * np.float32(d.height - 1)
    if d.elastic:
        _bend(d, sample, canvas)
    _spread(X, sample, d, canvas)
    for y in range(d.height):
        v = np.float32(y) - middle_y - down
        for x in range(0, d.width, NARROW):
            u = lane_numbers(zeros(NARROW), np.float32(x) - middle_x - right)
            from_x = shifted(scaled(u, xx), -(xy * v + middle_x))
            from_y = shifted(scaled(u, yx), -(yy * v + middle_y))
            if d.elastic:
                at = y * 2 * d.stride + x
                from_x = add(from_x, load(u, canvas.bend, at))
                from_y = add(from_y, load(u, canvas.bend, at + d.stride))
            ink = between(from_x, from_y, canvas.quads, d.width, d.height, d.width + RING)
            put_pixels(out, y * d.width + x, ink)


@jit
def _shift(X, sample, d, right, down, out):
    """`distort` by whole pixels."""
    row, back = X[sample], down * d.width + right
    for k in range(d.height * d.width):
        out[np.uintp(k)] = 0
    for y in range(max(down, 0), min(d.height + down, d.height)):
        at = y * d.width
        for x in range(max(right, 0), min(d.width + right, d.width)):
            out[np.uintp(at + x)] = np.float32(row[np.uintp(at + x - back)]) / _WHITE


@jit
def _spread(X, sample, d, canvas):
    """Bring an image into `canvas.ring`, and each 2 x 2 of its pixels into one of `quads`."""
    row, ring, step = X[sample], canvas.ring, np.uintp(d.width + RING)
    for y in range(d.height):
        at = np.uintp(y + 1) * step + np.uintp(1)
        for x in range(d.width):
            ring[at + np.uintp(x)] = row[np.uintp(y * d.width + x)]
    for k in range(np.uintp(len(canvas.quads))):
        under = k + step
        above = np.int32(ring[k]) | np.int32(ring[k + np.uintp(1)]) << np.int32(8)
        below = np.int32(ring[under]) | np.int32(ring[under + np.uintp(1)]) << np.int32(8)
        canvas.quads[k] = above | below << np.int32(16)


@jit
def _bend(d, sample, canvas):
    """Two fields of random displacements, smoothed by a Gaussian down and across."""
    key, stride = sample_key(d.key, sample, ELASTIC), 2 * d.stride
    for at in range(0, d.height * stride, NARROW):
        store(canvas.noise, at, uniform(zeros(NARROW), key, at))
    noise, half = Matrix(canvas.noise, FIRST, stride), Matrix(canvas.half, FIRST, stride)
    down = Matrix(d.down, FIRST, d.down_stride)
    multiply(down, noise, FIRST, d.height, FIRST, d.height, FIRST, stride, half, False)
    across = Matrix(d.across, FIRST, d.stride)
    for side in range(0, stride, d.stride):
        multiply(
            Matrix(canvas.half, np.int64(side), stride), across, FIRST, d.width, FIRST, d.height,
            FIRST, d.stride, Matrix(canvas.bend, np.int64(side), stride), False,
        )  # fmt: skip


@intrinsic
def lane_numbers(typingctx: Any, like: Any, first: Any) -> Any:
    """``first, first + 1, ...``."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lanes = args[0].type
        numbers = ir.Constant(lanes, [float(lane) for lane in range(lanes.count)])
        return builder.fadd(numbers, _broadcast(builder, args[1], lanes))

    return like(like, types.float32), codegen


@intrinsic
def between(
    typingctx: Any, x: Any, y: Any, quads: Any, width: Any, height: Any, stride: Any
) -> Any:
    """What an image is at places between its pixels, by bilinear interpolation; outside, 0.

    The rows of `quads` are `stride` apart.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        x, y, quads, width, height, stride = args
        lanes, count = x.type, x.type.count
        whole = ir.VectorType(ir.IntType(32), count)

        def call(name: str, *operands: Any) -> Any:
            kind = ir.FunctionType(lanes, [operand.type for operand in operands])
            name = f"llvm.{name}.v{count}f32"
            return builder.call(
                cgutils.get_or_insert_function(builder.module, kind, name), operands
            )

        def every(number: float) -> Any:
            return ir.Constant(lanes, [number] * count)

        def within(place: Any, size: Any) -> tuple[Any, Any]:
            """How far behind a pixel a place is, and that pixel, counted from the ring's edge."""
            most = _broadcast(builder, builder.sitofp(size, ir.FloatType()), lanes)
            place = call("minnum", call("maxnum", place, every(-1)), most)
            pixel = call("floor", place)
            index = builder.fptosi(builder.fadd(pixel, every(1)), whole)
            return builder.fsub(place, pixel), index

        def ink(shift: int) -> Any:
            pixel = builder.lshr(found, ir.Constant(whole, [shift] * count))
            return builder.uitofp(builder.and_(pixel, ir.Constant(whole, [255] * count)), lanes)

        def mix(one: Any, other: Any, part: Any) -> Any:
            return builder.fadd(one, builder.fmul(part, builder.fsub(other, one)))

        part_x, column = within(x, width)
        part_y, row = within(y, height)
        stride = builder.trunc(stride, ir.IntType(32))
        index = builder.add(builder.mul(row, _broadcast(builder, stride, whole)), column)
        base = context.make_array(signature.args[2])(context, builder, quads).data
        found = _gathered(builder, base, index)
        return mix(mix(ink(0), ink(8), part_x), mix(ink(16), ink(24), part_x), part_y)

    return x(x, y, quads, types.intp, types.intp, types.intp), codegen


def _gathered(builder: Any, base: Any, index: Any) -> Any:
    """``base[index]``, lane by lane, of 32-bit numbers."""
    count, word, address = index.type.count, ir.IntType(32), ir.IntType(64)
    offsets = builder.zext(index, ir.VectorType(address, count))
    offsets = builder.mul(offsets, ir.Constant(offsets.type, [4] * count))
    begin = _broadcast(builder, builder.ptrtoint(base, address), offsets.type)
    pointers = builder.inttoptr(
        builder.add(begin, offsets), ir.VectorType(word.as_pointer(), count)
    )
    flags = ir.VectorType(ir.IntType(1), count)
    kind = ir.FunctionType(index.type, [pointers.type, word, flags, index.type])
    name = f"llvm.masked.gather.v{count}i32.v{count}p0"
    function = cgutils.get_or_insert_function(builder.module, kind, name)
    everywhere = ir.Constant(flags, [1] * count)
    return builder.call(
        function, [pointers, word(4), everywhere, ir.Constant(index.type, ir.Undefined)]
    )


@intrinsic
def put_pixels(typingctx: Any, array: Any, offset: Any, ink: Any) -> Any:
    """Numbers of 0 to 255 become whole ones, in units of 1/255, from any offset on."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array, offset, ink = args
        lanes = ink.type

        def every(number: float) -> Any:
            return ir.Constant(lanes, [number] * lanes.count)

        whole = builder.fptoui(
            builder.fadd(ink, every(0.5)), ir.VectorType(ir.IntType(32), lanes.count)
        )
        pixels = builder.fdiv(builder.uitofp(whole, lanes), every(255))
        address = _address(context, builder, signature.args[0], array, offset)
        builder.store(pixels, builder.bitcast(address, lanes.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.none(array, types.intp, ink), codegen
