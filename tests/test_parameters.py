"""All parameters in one buffer."""

import copy
import pickle

import numpy as np
import pytest

from fastmnist.parameters import LANES, Parameters, aligned_zeros, padded, row_stride, sizes_of


@pytest.mark.parametrize("count", [1, 15, 16, 1000])
def test_zeros_begin_on_a_cache_line(count):
    zeros = [aligned_zeros(count) for _ in range(20)]
    assert all(z.ctypes.data % 64 == 0 for z in zeros)
    assert all(z.shape == (count,) and not z.any() for z in zeros)


@pytest.mark.parametrize("columns", [1, 15, 16, 17, 63, 64, 65, 128, 800])
def test_rows_are_an_odd_number_of_cache_lines_with_room_for_one_more(columns):
    lines, rest = divmod(row_stride(columns), LANES)
    assert rest == 0
    assert lines % 2 == 1
    assert columns < row_stride(columns) <= padded(columns) + 2 * LANES


def test_layers_are_views_that_do_not_overlap():
    params = Parameters((5, 17, 3))
    assert [(W.shape, b.shape) for W, b in params] == [((5, 17), (17,)), ((17, 3), (3,))]
    numbers = iter(range(1, 10**6))
    for W, b in params:
        for view in (W, b):
            view[...] = np.reshape([next(numbers) for _ in range(view.size)], view.shape)
    written = np.concatenate([view.ravel() for pair in params for view in pair])
    np.testing.assert_array_equal(written, np.arange(1, written.size + 1))
    assert np.count_nonzero(params.flat) == written.size  # the rest is padding, still zero


def test_assigning_a_layer_copies_it():
    params = Parameters((2, 3))
    W = np.ones((2, 3))
    params[0] = (W, [1, 2, 3])
    W[...] = 7
    np.testing.assert_array_equal(params[0][0], np.ones((2, 3)))
    np.testing.assert_array_equal(params[0][1], [1, 2, 3])


def test_wrong_shapes_are_refused():
    params = Parameters((2, 3))
    with pytest.raises(ValueError, match="wanted"):
        params[0] = (np.ones((3, 2)), np.ones(3))
    with pytest.raises(ValueError, match="sizes"):
        params.assign([(np.ones((2, 4)), np.ones(4))])
    with pytest.raises(TypeError, match="one layer at a time"):
        params[:] = []
    with pytest.raises(TypeError, match="fixed"):
        params.append((np.ones((3, 1)), np.ones(1)))


@pytest.mark.parametrize(
    "params",
    [
        [],
        [(np.ones((2, 3)), np.ones(2))],
        [(np.ones(3), np.ones(3))],
        [(np.ones((2, 3)), np.ones(3)), (np.ones((4, 1)), np.ones(1))],
    ],
    ids=["none", "bias", "vector", "chain"],
)
def test_sizes_that_do_not_follow_are_refused(params):
    with pytest.raises(ValueError, match="layer"):
        sizes_of(params)


@pytest.mark.parametrize(
    "twin", [copy.copy, copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))]
)
def test_copies_have_a_buffer_of_their_own(twin):
    params = Parameters.copy_of([(np.ones((2, 3)), np.arange(3.0))])
    other = twin(params)
    assert isinstance(other, Parameters)
    other[0][1][...] = 9
    np.testing.assert_array_equal(params[0][1], [0, 1, 2])
    np.testing.assert_array_equal(other.flat[:3], params.flat[:3])
