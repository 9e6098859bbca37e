"""MNIST's placement rule: against MNIST itself, against plain loops, and at its edges."""

from fractions import Fraction
from math import ceil, floor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fastmnist.placing import place


def plain_place(picture):
    """The rule in loops and exact fractions: what a reader, or another language, would write."""
    height, width = picture.shape
    inked = [(y, x) for y in range(height) for x in range(width) if picture[y, x]]
    placed = np.zeros((28, 28), np.uint8)
    if not inked:
        return placed
    top, left = min(y for y, _ in inked), min(x for _, x in inked)
    side = 1 + max(max(y for y, _ in inked) - top, max(x for _, x in inked) - left)
    step = Fraction(side, 20)

    def covered(cell, pixel):  # the part of the cell that the pixel covers, along one direction
        return max(0, min((cell + 1) * step, pixel + 1) - max(cell * step, pixel)) / step

    scaled = [[0] * 20 for _ in range(20)]
    for row in range(20):
        for column in range(20):
            total = Fraction(0)
            for y in range(floor(row * step), min(ceil((row + 1) * step), height - top)):
                for x in range(floor(column * step), min(ceil((column + 1) * step), width - left)):
                    area = covered(row, y) * covered(column, x)
                    total += area * int(picture[top + y, left + x])
            scaled[row][column] = floor(total + Fraction(1, 2))
    mass = sum(map(sum, scaled))
    if mass == 0:
        return placed
    centre_y = Fraction(sum(y * sum(scaled[y]) for y in range(20)), mass)
    centre_x = Fraction(sum(x * scaled[y][x] for y in range(20) for x in range(20)), mass)
    down, across = 14 - floor(centre_y + Fraction(1, 2)), 14 - floor(centre_x + Fraction(1, 2))
    for y in range(20):
        for x in range(20):
            if 0 <= y + down < 28 and 0 <= x + across < 28:
                placed[y + down, x + across] = scaled[y][x]
    return placed


def ink(rng, height, width):
    """A random picture whose ink reaches all four of its edges."""
    picture = rng.integers(0, 256, (height, width), np.uint8)
    picture[[0, -1], :] |= 1
    picture[:, [0, -1]] |= 1
    return picture


def test_placing_mnist_is_the_identity(mnist):
    test = mnist.test.images
    np.testing.assert_array_equal(place(test), test)
    train = mnist.train.images
    moved = [
        start + k
        for start in range(0, len(train), 10_000)
        for k in np.flatnonzero(
            (place(train[start : start + 10_000]) != train[start : start + 10_000]).any((1, 2))
        )
    ]
    # the centre of mass of these two lies a few hundredths of a pixel beyond 13.5
    assert moved == [19841, 45131]


def test_mnist_embedded_in_a_larger_picture_comes_back(mnist):
    digits = mnist.train.images[:500]
    larger = np.pad(digits, ((0, 0), (13, 40), (60, 5)))
    np.testing.assert_array_equal(place(larger), digits)


@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 9), (7, 3), (20, 20), (21, 20), (28, 28), (33, 47), (61, 40), (1, 300)]
)
def test_the_rule_in_plain_loops_agrees(shape):
    rng = np.random.default_rng([1, *shape])
    picture = np.pad(ink(rng, *shape), ((3, 0), (1, 2)))
    np.testing.assert_array_equal(place(picture), plain_place(picture))


@given(arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_the_rule_in_plain_loops_agrees_on_any_small_picture(picture):
    np.testing.assert_array_equal(place(picture), plain_place(picture))


def test_large_pictures_need_more_than_float32():
    picture = ink(np.random.default_rng(2), 700, 500)
    # 35 x 35 whole pixels a cell: the rule is a plain mean, here in whole numbers
    cells = np.pad(picture, ((0, 0), (0, 200))).reshape(20, 35, 20, 35).sum((1, 3), dtype=np.int64)
    scaled = (2 * cells + 35 * 35) // (2 * 35 * 35)
    placed = place(picture)
    rows, columns = np.nonzero(placed)
    assert rows.max() - rows.min() == 19
    np.testing.assert_array_equal(
        placed[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1],
        scaled[:, : columns.max() + 1 - columns.min()],
    )


def test_every_size_fills_twenty_pixels_with_its_mass_at_fourteen():
    for side in [1, 2, 19, 20, 21, 50, 256, 257, 1000]:
        picture = np.full((side, max(1, side // 2)), 255, np.uint8)
        placed = place(picture).astype(float)
        rows, columns = placed.sum(1), placed.sum(0)
        assert np.count_nonzero(rows) == 20, side
        for line in (rows, columns):
            assert abs(line @ np.arange(28) / line.sum() - 14) <= 0.5, side


def test_ink_that_falls_off_the_frame_is_cut_off():
    picture = np.zeros((200, 200), np.uint8)
    picture[:20] = 255  # a heavy bar, 2 pixels high when scaled
    picture[20:, 100:110] = 10  # with a faint tail of 18 pixels
    placed = place(picture)
    np.testing.assert_array_equal(np.flatnonzero(placed.any(axis=1)), np.arange(13, 28))
    np.testing.assert_array_equal(placed[13:15].max(axis=1), 255)
    np.testing.assert_array_equal(placed[15:].max(axis=1), 10)


@pytest.mark.parametrize("shape", [(28, 28), (1, 1), (300, 10), (4, 28, 28)])
def test_a_picture_without_ink_gives_one_without_ink(shape):
    placed = place(np.zeros(shape, np.uint8))
    assert placed.shape == (*shape[:-2], 28, 28)
    assert not placed.any()


def test_a_line_too_thin_to_be_seen_vanishes_without_a_warning():
    assert not place(np.ones((1, 30_000), np.uint8)).any()


def test_an_array_of_pictures_is_placed_one_by_one():
    rng = np.random.default_rng(3)
    pictures = rng.integers(0, 256, (2, 3, 17, 40), np.uint8) * rng.integers(0, 2, (17, 40))
    pictures = pictures.astype(np.uint8)
    pictures[1, 2] = 0
    placed = place(pictures)
    assert placed.shape == (2, 3, 28, 28)
    for index in np.ndindex(2, 3):
        np.testing.assert_array_equal(placed[index], place(pictures[index]))
    assert place(pictures[:0]).shape == (0, 3, 28, 28)


def test_the_picture_is_not_changed_and_may_be_read_only():
    picture = ink(np.random.default_rng(4), 30, 30)
    picture.flags.writeable = False
    before = picture.copy()
    np.testing.assert_array_equal(place(picture), place(picture[:, ::-1][:, ::-1]))
    np.testing.assert_array_equal(picture, before)


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.bool_])
def test_other_dtypes_are_refused(dtype):
    with pytest.raises(TypeError, match="uint8"):
        place(np.ones((28, 28), dtype))


@pytest.mark.parametrize("shape", [(), (784,), (0, 5), (5, 0)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match="height, width"):
        place(np.ones(shape, np.uint8))
