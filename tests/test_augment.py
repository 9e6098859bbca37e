"""Augmentation, against NumPy and SciPy: the same pictures, whoever draws them."""

import numpy as np
import pytest

import fastmnist as fm
from fastmnist.augment import Augmentation, augmented
from fastmnist.backends import backend_named
from fastmnist.counter_based import AFFINE, ELASTIC, bits, epoch_key, sample_keys
from fastmnist.parameters import LANES

ndimage = pytest.importorskip("scipy.ndimage")

CASES = {
    "nothing": Augmentation(),
    "shift": Augmentation(shift=2),
    "rotation": Augmentation(rotation=20),
    "scale": Augmentation(scale=0.2),
    "shear": Augmentation(shear=0.3),
    "elastic": Augmentation(elastic=34),
    "all": Augmentation(shift=1, rotation=10, scale=0.1, shear=0.1, elastic=30, smoothness=5),
}


def drawings(count=60, height=28, width=28, seed=0):
    """Some strokes, dark in the middle and soft at the edges."""
    rng = np.random.default_rng(seed)
    ink = np.zeros((count, height, width))
    for image in ink:
        for _ in range(3):
            image[tuple(rng.integers(0, n) for n in image.shape)] = 1
    ink = ndimage.gaussian_filter(ink, (0, 1.5, 1.5))
    return (255 * ink / ink.max(axis=(1, 2), keepdims=True)).astype(np.uint8)


def drawn_by_kernels(images, augmentation, *, seed=0, epoch=0, threads=None):
    rows = fm.kernels.augmented(images, augmentation, epoch_key(seed, epoch))
    return fm.kernels.drawn(rows, threads=threads)


IMPLEMENTATIONS = [augmented, pytest.param(drawn_by_kernels, marks=pytest.mark.kernels)]
either = pytest.mark.parametrize("draw", IMPLEMENTATIONS, ids=["reference", "kernels"])


def by_definition(images, a, seed, epoch):
    """`augmented` in float64, one image after the other."""
    count, height, width = images.shape
    numbers = np.arange(count)
    key, stride = epoch_key(seed, epoch), -(-width // LANES) * LANES
    u = bits(sample_keys(key, numbers, AFFINE), 6).view(np.int32) / 2**31
    noise = bits(sample_keys(key, numbers, ELASTIC), height * 2 * stride).view(np.int32) / 2**31
    noise = noise.reshape(count, height, 2, stride)[..., :width]
    middle = np.array([(width - 1) / 2, (height - 1) / 2])[:, None, None]
    out = np.empty_like(images)
    for i in numbers:
        moved = np.floor(u[i, :2] * (a.shift + 0.5) + 0.5)[:, None, None]
        angle = np.radians(a.rotation) * u[i, 2]
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        stretch = np.array([[1 + a.scale * u[i, 3], a.shear * u[i, 5]], [0, 1 + a.scale * u[i, 4]]])
        y, x = np.mgrid[:height, :width]
        back = np.linalg.inv(turn @ stretch)
        source = np.tensordot(back, np.stack([x, y]) - middle - moved, 1) + middle
        for axis in range(2):
            source[axis] += a.elastic * ndimage.gaussian_filter(
                noise[i, :, axis], a.smoothness, mode="constant", truncate=8
            )
        padded = np.pad(images[i].astype(float), 1)
        place = np.clip(source[::-1], -1, np.array([height, width])[:, None, None])
        out[i] = np.floor(ndimage.map_coordinates(padded, place + 1, order=1) + 0.5)
    return out


@pytest.mark.parametrize("size", [(28, 28), (9, 40), (33, 17), (1, 5)])
@pytest.mark.parametrize("augmentation", CASES.values(), ids=CASES)
@either
def test_pictures_are_those_of_the_definition(draw, augmentation, size):
    images = drawings(20, *size)
    found = draw(images, augmentation, seed=3, epoch=2)
    assert_same(found, by_definition(images, augmentation, 3, 2))


def assert_same(found, wanted):
    """The same pictures, but for pixels where float32 rounds to the other side."""
    difference = np.abs(found.astype(int) - wanted)
    assert difference.max() <= 1
    assert (difference > 0).sum() <= 1 + 0.005 * difference.size


@pytest.mark.kernels
@pytest.mark.parametrize("augmentation", CASES.values(), ids=CASES)
def test_the_reference_and_the_kernels_draw_the_same(augmentation):
    images = drawings(300)  # more than the reference distorts at a time
    wanted = augmented(images, augmentation, seed=5, epoch=1)
    assert_same(drawn_by_kernels(images, augmentation, seed=5, epoch=1), wanted)


@either
@pytest.mark.parametrize("strength", [{"elastic": 1e30}, {"elastic": 1e30, "shear": 1e38}], ids=str)
def test_extreme_strengths_leave_pictures_and_no_warning(draw, strength):
    found = draw(drawings(5), Augmentation(**strength))
    assert found.shape == (5, 28, 28)


@either
def test_a_shift_beyond_the_image_leaves_nothing_of_it(draw):
    images = np.full((40, 9, 7), 255, np.uint8)
    assert (draw(images, Augmentation(shift=10_000)).max(axis=(1, 2)) == 0).sum() > 35


@pytest.mark.parametrize("fault", ["seed", "epoch"])
@either
def test_other_numbers_give_other_pictures(draw, fault):
    images = drawings()
    wanted = by_definition(images, CASES["all"], 3, 2)
    found = draw(images, CASES["all"], **({"seed": 3, "epoch": 2} | {fault: 7}))
    assert np.abs(found.astype(int) - wanted).max() > 50


@pytest.mark.kernels
def test_pictures_are_the_same_for_any_number_of_threads():
    images = drawings(100)
    alone = drawn_by_kernels(images, CASES["all"], threads=1)
    for threads in (2, 3, 7):
        found = drawn_by_kernels(images, CASES["all"], threads=threads)
        np.testing.assert_array_equal(found, alone)


@either
def test_pictures_are_the_same_in_any_company(draw):
    images = drawings(150)
    some = draw(images[:10], CASES["all"])
    np.testing.assert_array_equal(some, draw(images, CASES["all"])[:10])


@either
def test_nothing_is_distorted_without_a_distortion(draw):
    images = drawings()
    np.testing.assert_array_equal(draw(images, Augmentation()), images)


@either
def test_shifts_are_whole_pixels_and_equally_likely(draw):
    images = np.zeros((3000, 9, 9), np.uint8)
    images[:, 4, 4] = 200
    found = draw(images, Augmentation(shift=1))
    assert (found.reshape(3000, -1).sum(axis=1) == 200).all()
    places = np.argwhere(found)[:, 1:]
    counts = np.bincount((places - 3) @ [3, 1], minlength=9)
    assert len(counts) == 9
    assert counts.min() > 3000 / 9 * 0.75


def test_elastic_34_moves_pixels_by_what_the_docstring_says():
    gradient = np.tile(np.arange(0, 252, 9, dtype=np.uint8), (2000, 28, 1))
    moved = augmented(gradient, Augmentation(elastic=34))[:, 10:18, 10:18].astype(float)
    displacement = (moved - gradient[:, 10:18, 10:18]) / 9
    assert np.sqrt((displacement**2).mean()) == pytest.approx(1.4, abs=0.1)


@pytest.mark.parametrize("backend", [pytest.param("numba", marks=pytest.mark.kernels), "reference"])
def test_both_backends_train_on_those_pictures(backend):
    images, labels = drawings(40), np.arange(40) % 3
    module = backend_named(backend)
    model, twin = fm.MLP([784, 16, 3], seed=0), fm.MLP([784, 16, 3], seed=0)
    options = {"epochs": 2, "schedule": "constant", "optimizer": "sgd", "learning_rate": 0.1}
    fm.fit(
        model, fm.Dataset(images, labels), augmentation=CASES["all"], backend=backend, seed=5,
        batch_size=16, **options,
    )  # fmt: skip
    for epoch in range(2):
        pictures = augmented(images, CASES["all"], seed=5, epoch=epoch)
        order = fm.epochs.epoch_order(5, epoch, 40)
        module.train_epoch(twin.params, pictures, labels, order=order, batch_size=16)
    for (W, b), (V, c) in zip(model.params, twin.params, strict=True):
        np.testing.assert_allclose(W, V, atol=1e-6)
        np.testing.assert_allclose(b, c, atol=1e-6)


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((3, 784), np.uint8),
        np.zeros((3, 28, 28), np.float32),
        [[[1, 2]]],
    ],
    ids=["rows", "floats", "a list"],
)
def test_what_cannot_be_distorted_is_refused(images):
    with pytest.raises(ValueError, match="uint8 images"):
        augmented(images, Augmentation(shift=1))


@pytest.mark.parametrize(
    "wrong",
    [
        {"shift": -1},
        {"rotation": -5},
        {"scale": 1},
        {"shear": float("nan")},
        {"elastic": float("inf")},
        {"smoothness": 0},
    ],
    ids=str,
)
def test_values_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Augmentation(**wrong)
