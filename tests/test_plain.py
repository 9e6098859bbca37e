"""Every instruction of the kernels against its twin in NumPy, bit for bit.

Each program below runs twice: compiled, and as Python with the functions of `kernels.plain`.
"""

import inspect
from types import FunctionType

import numpy as np
import pytest
from agreement import EPS, properties
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fastmnist.kernels import barrier, distort, packed, phases, plain, random_lanes, vectors
from fastmnist.kernels.barrier import acquire, fetch_add, release
from fastmnist.kernels.distort import between, lane_numbers, put_pixels
from fastmnist.kernels.jit import entry
from fastmnist.kernels.packed import FLOATS, PIXELS, column_of, pack_lanes, put, value_of
from fastmnist.kernels.phases import now
from fastmnist.kernels.random_lanes import uniform, where_kept
from fastmnist.kernels.vectors import (
    add,
    add_outer,
    add_scaled,
    add_scaled_row,
    exponential,
    first_lanes,
    largest_lane,
    load,
    load_rows,
    maximum,
    opaque,
    over_root,
    per_line,
    prefetch,
    row_count,
    scaled,
    shifted,
    squared,
    store,
    store_rows,
    sum_of_lanes,
    transpose_square,
    where_positive,
    zero_rows,
    zeros,
)
from fastmnist.parameters import aligned_zeros

pytestmark = pytest.mark.compiled

NUMBERS = st.floats(width=32)
ORDINARY = st.floats(-1e6, 1e6, width=32)


def programs(program):
    """The program compiled, and as it is with the twins of its instructions."""
    twins = FunctionType(program.__code__, globals() | vars(plain))
    return entry(program), np.errstate(all="ignore")(twins)


def aligned(values):
    array = aligned_zeros(np.size(values))
    array[:] = np.ravel(values)
    return array


def assert_same_bits(program, *inputs, room):
    """Both forms of a program leave the same numbers in `room` of an output."""
    outputs = []
    for form in program:
        out = aligned_zeros(room)
        form(*inputs, out)
        outputs.append(out)
    compiled, twins = outputs
    np.testing.assert_array_equal(compiled, twins)
    signs = np.signbit(outputs) & ~np.isnan(outputs)  # a NaN's sign means nothing
    np.testing.assert_array_equal(*signs)


def test_every_instruction_has_a_twin_and_no_twin_is_left_over():
    twins = {name for name, _ in inspect.getmembers(plain, inspect.isfunction) if name[0] != "_"}
    instructions = {
        name
        for module in (barrier, distort, packed, phases, random_lanes, vectors)
        for name, value in vars(module).items()
        if type(value).__name__ == "_Intrinsic"
    }
    assert twins == instructions | {"yield_processor"}
    for name in twins & set(vars(vectors)):
        instruction = list(inspect.signature(getattr(vectors, name)._defn).parameters)[1:]
        assert instruction == list(inspect.signature(getattr(plain, name)).parameters), name


@programs
def arithmetic(numbers, scalar, count, out):
    like = zeros(16)
    x, y, z = load(like, numbers, 0), load(like, numbers, 16), load(like, numbers, 32)
    store(out, 0, add(x, y))
    store(out, 32, scaled(x, scalar))
    store(out, 48, squared(x))
    store(out, 64, over_root(x, y, scalar))
    store(out, 80, shifted(x, scalar))
    store(out, 112, where_positive(x, z))
    store(out, 128, maximum(x, y))
    store(out, 144, first_lanes(x, count, scalar))
    store(out, 160, lane_numbers(z, scalar))
    out[176], out[177] = largest_lane(x), sum_of_lanes(x)
    out[178], out[179], out[180] = (
        row_count(zero_rows(6, 16)),
        per_line(numbers),
        opaque(np.uintp(count)),
    )
    prefetch(numbers, 0)


@properties(200)
@given(arrays(np.float32, 48, elements=NUMBERS), NUMBERS, st.integers(0, 17))
def test_arithmetic_of_any_numbers(numbers, scalar, count):
    inputs = aligned(numbers), np.float32(scalar), np.int32(count)
    assert_same_bits(arithmetic, *inputs, room=192)


@programs
def multiply_adds(numbers, scalar, out):
    x, y = load(zeros(32), numbers, 0), load(zeros(32), numbers, 32)
    store(out, 0, add_scaled(x, scalar, y))
    store(out, 32, add_scaled_row(x, scalar, numbers, 32))


def test_a_multiply_add_is_rounded_once():
    rng = np.random.default_rng(0)
    for _ in range(100):
        numbers, scalar = aligned(rng.normal(size=64)), np.float32(rng.normal())
        assert_same_bits(multiply_adds, numbers, scalar, room=64)


@properties(200)
@given(arrays(np.float32, 64, elements=ORDINARY), ORDINARY)
def test_a_multiply_add_of_its_twin_is_a_rounding_step_off_at_most(numbers, scalar):
    compiled, twin = aligned_zeros(64), aligned_zeros(64)
    for form, out in zip(multiply_adds, (compiled, twin), strict=True):
        form(aligned(numbers), np.float32(scalar), out)
    np.testing.assert_array_max_ulp(compiled, twin, maxulp=1)


@programs
def exponentials(numbers, out):
    store(out, 0, exponential(load(zeros(64), numbers, 0)))


@properties(100)
@given(arrays(np.float32, 64, elements=st.floats(-100, 0, width=32)))
def test_exponentials_are_two_rounding_steps_apart_at_most(numbers):
    numbers[:4] = -87, np.nextafter(np.float32(-87), np.float32(0)), np.nan, -np.inf
    compiled, twin = aligned_zeros(64), aligned_zeros(64)
    for form, out in zip(exponentials, (compiled, twin), strict=True):
        form(aligned(numbers), out)
    assert (np.abs(compiled - twin) <= 2 * EPS * twin).all()
    assert compiled[0] == 0 < compiled[1]


@programs
def blocks(numbers, offset, stride, out):
    rows = load_rows(zero_rows(6, 16), numbers, offset, stride)
    store_rows(out, 0, 16, rows)
    store_rows(out, 96 + offset, stride, rows)
    row = load_rows(zeros(16), numbers, offset, stride)
    sums = add_outer(rows, numbers, offset + 3, stride, row)
    store_rows(out, 384, 16, sums)
    store_rows(out, 480, 16, add(sums, rows))
    store_rows(out, 576, 16, add_scaled(sums, numbers[0], rows))
    store_rows(out, 672, 16, row)
    transpose_square(numbers, offset, 32, out, 688 + offset, 48)


@properties(50)
@given(
    arrays(np.float32, 544, elements=ORDINARY),
    st.sampled_from([0, 16, 32]),
    st.sampled_from([16, 32, 48]),
)
def test_blocks_of_rows(numbers, offset, stride):
    assert_same_bits(blocks, aligned(numbers), offset, stride, room=1500)


@programs
def entries_of(entries, out):
    for p in range(np.uintp(8)):
        out[p], out[8 + p] = column_of(entries, p), value_of(entries, p)


@pytest.mark.parametrize("kind", [PIXELS, FLOATS], ids=["pixels", "floats"])
def test_columns_and_values(kind):
    entries, rng = np.zeros(8, kind), np.random.default_rng(0)
    for values in [np.arange(first, first + 8) for first in range(0, 256, 8)]:
        entries["column"], entries["value"] = rng.integers(0, 2**16, 8), values
        assert_same_bits(entries_of, entries, room=16)


@programs
def writing(X, first, column, at, entries, count):
    count[0] = pack_lanes(X, first, column, entries, at)


@pytest.mark.parametrize(
    ("dtype", "kind"), [(np.uint8, PIXELS), (np.float32, FLOATS)], ids=["pixels", "floats"]
)
@properties(50)
@given(data=st.data(), first=st.integers(0, 5), column=st.integers(0, 1000), at=st.integers(0, 5))
def test_packing_of_lanes(dtype, kind, data, first, column, at):
    X = data.draw(arrays(dtype, 21))
    written = []
    for form in writing:
        entries, count = np.zeros(24, kind), np.zeros(1, np.int64)
        form(X, first, column, np.uintp(at), entries, count)
        written.append(entries[: at + count[0]].tolist())
    np.testing.assert_equal(*written)


@programs
def putting(column, value, entries):
    put(entries, np.uintp(1), column, value)


@given(st.integers(0, 2**16), NUMBERS)
def test_putting_an_entry(column, value):
    written = [np.zeros(3, FLOATS) for _ in putting]
    for form, entries in zip(putting, written, strict=True):
        form(column, np.float32(value), entries)
    np.testing.assert_equal(*[entries.tolist() for entries in written])


@programs
def random(numbers, key, first, threshold, scale, out):
    x = load(zeros(64), numbers, 0)
    store(out, 0, where_kept(x, key, first, threshold, scale))
    store(out, 64, uniform(x, key, first))


@properties(50)
@given(
    arrays(np.float32, 64, elements=ORDINARY),
    st.integers(0, 2**64 - 1),
    st.integers(0, 2000),
    st.integers(0, 2**32 - 1),
)
def test_random_numbers(numbers, key, first, threshold):
    inputs = aligned(numbers), np.uint64(key), first, np.int64(threshold), np.float32(1.25)
    assert_same_bits(random, *inputs, room=128)


@programs
def pixels(places, quads, out):
    x, y = load(zeros(16), places, 0), load(zeros(16), places, 16)
    ink = between(x, y, quads, 5, 4, 8)
    store(out, 0, ink)
    put_pixels(out, 21, ink)


@properties(100)
@given(
    arrays(np.float32, 32, elements=st.floats(-10, 10, width=32)),
    arrays(np.int32, 8 * 7, elements=st.integers(-(2**31), 2**31 - 1)),
)
def test_places_between_pixels(places, quads):
    assert_same_bits(pixels, aligned(places), quads, room=48)


@programs
def shared(words, out):
    out[0] = fetch_add(words, 8, 5)
    out[1] = acquire(words, 8)
    release(words, 16, out[1] + 1)
    out[2] = acquire(words, 16)


def test_shared_words():
    for form in shared:
        words, out = barrier.new_words(), np.zeros(3, np.int64)
        words[8] = 2
        form(words, out)
        assert out.tolist() == [2, 7, 8]


@programs
def clock(out):
    out[0], out[1] = now(), now()


def test_the_clock_runs_on():
    for form in clock:
        out = np.zeros(2, np.int64)
        form(out)
        assert out[0] < out[1]
