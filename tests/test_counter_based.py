"""Random numbers by their place: the same everywhere, spread evenly, unlike their neighbours'."""

import numpy as np
import pytest

from fastmnist.counter_based import AFFINE, ELASTIC, bits, epoch_key, sample_keys
from fastmnist.parameters import aligned_zeros


@pytest.mark.kernels
def test_the_kernels_draw_the_same():
    from fastmnist.kernels.jit import entry
    from fastmnist.kernels.random_lanes import sample_key, uniform
    from fastmnist.kernels.vectors import store, zeros

    @entry
    def key_of(key, sample, stream):
        return sample_key(key, sample, stream)

    @entry
    def draw(key, out):
        for first in range(0, len(out), 16):
            store(out, first, uniform(zeros(16), key, first))

    samples = np.array([0, 1, 59_999, 2**31])
    for key in (0, epoch_key(3, 4), 2**64 - 1):
        for stream in (0, 1, AFFINE, ELASTIC):
            keys = sample_keys(key, samples, stream)
            for sample, wanted in zip(samples, keys, strict=True):
                found = key_of(np.uint64(key), sample, stream)
                assert int(found) == int(wanted)
                numbers = aligned_zeros(64)
                draw(np.uint64(found), numbers)
                signed = bits(np.array([wanted]), 64)[0].view(np.int32)
                np.testing.assert_array_equal(numbers, signed.astype(np.float32) * 2.0**-31)


def test_a_number_depends_on_its_place_alone():
    keys = sample_keys(epoch_key(0, 0), np.array([5, 9, 7]), 2)
    all_of_them = bits(keys, 100)
    np.testing.assert_array_equal(bits(keys[::-1], 100), all_of_them[::-1])
    np.testing.assert_array_equal(bits(keys, 10), all_of_them[:, :10])


def test_every_place_has_numbers_of_its_own():
    drawn = [
        bits(sample_keys(epoch_key(seed, epoch), np.arange(20), stream), 50)
        for seed in (0, 1)
        for epoch in (0, 1)
        for stream in (0, 1, AFFINE)
    ]
    everything = np.concatenate(drawn)
    assert len(np.unique(everything, axis=0)) == len(everything)


@pytest.mark.parametrize("stream", [0, 1, ELASTIC])
def test_numbers_are_spread_evenly(stream):
    numbers = bits(sample_keys(epoch_key(0, 0), np.arange(2000), stream), 500)
    counts = np.bincount(numbers.ravel() >> np.uint32(24), minlength=256)
    expected = numbers.size / 256
    chi_squared = ((counts - expected) ** 2 / expected).sum()
    assert 160 < chi_squared < 360  # 255 degrees of freedom: mean 255, deviation 23
    for bit in range(32):
        ones = (numbers >> np.uint32(bit) & np.uint32(1)).mean()
        assert abs(ones - 0.5) < 5 * 0.5 / np.sqrt(numbers.size)


def test_neighbours_are_not_alike():
    numbers = bits(sample_keys(epoch_key(0, 0), np.arange(1000), 0), 1000) / 2**32 - 0.5
    for shifted in (np.roll(numbers, 1, axis=0), np.roll(numbers, 1, axis=1)):
        correlation = (numbers * shifted).mean() * 12
        assert abs(correlation) < 5 / np.sqrt(numbers.size)
