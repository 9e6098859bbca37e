"""`fastmnist.counter_based` in registers: the same random bits, a vector of them at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types

from fastmnist.counter_based import STREAMS
from fastmnist.kernels.jit import intrinsic, jit
from fastmnist.kernels.vectors import _broadcast


@jit
def sample_key(key, sample, stream):
    """`counter_based.sample_keys` of one sample; all uint64 but `stream`."""
    place = np.uint64(sample) * np.uint64(STREAMS) + np.uint64(stream)
    z = key + (place + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@intrinsic
def where_kept(
    typingctx: Any, vector: Any, key: Any, first: Any, threshold: Any, scale: Any
) -> Any:
    """`vector` times `scale` in the lanes whose random bits reach `threshold`, else 0.

    The first lane is number `first` of the stream that belongs to `key`.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector, key, first, threshold, scale = args
        bits = _bits(builder, key, first, vector.type.count)
        threshold = _broadcast(builder, builder.trunc(threshold, ir.IntType(32)), bits.type)
        kept = builder.icmp_unsigned(">=", bits, threshold)
        scaled = builder.fmul(vector, _broadcast(builder, scale, vector.type))
        return builder.select(kept, scaled, ir.Constant(vector.type, None))

    return vector(vector, types.uint64, types.intp, types.int64, types.float32), codegen


@intrinsic
def uniform(typingctx: Any, like: Any, key: Any, first: Any) -> Any:
    """Random numbers in [-1, 1]: the bits as a signed number, in units of 2^-31."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        like, key, first = args
        numbers = builder.sitofp(_bits(builder, key, first, like.type.count), like.type)
        return builder.fmul(numbers, ir.Constant(like.type, [2.0**-31] * like.type.count))

    return like(like, types.uint64, types.intp), codegen


def _bits(builder: Any, key: Any, first: Any, count: int) -> Any:
    """`counter_based.bits`, from number `first` on."""
    word = ir.IntType(32)
    lanes = ir.VectorType(word, count)
    low = builder.trunc(key, word)
    high = builder.trunc(builder.lshr(key, key.type(32)), word)
    begin = _broadcast(builder, builder.add(builder.trunc(first, word), low), lanes)
    index = builder.add(begin, ir.Constant(lanes, list(range(count))))
    mixed = builder.xor(_mixed(builder, index), _broadcast(builder, high, lanes))
    return _mixed(builder, mixed)


def _mixed(builder: Any, x: Any) -> Any:
    def every(number: int) -> Any:
        return ir.Constant(x.type, [number] * x.type.count)

    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        x = builder.mul(builder.xor(x, builder.lshr(x, every(shift))), every(factor))
    return builder.xor(x, builder.lshr(x, every(16)))
