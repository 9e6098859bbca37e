"""Augmentation: images that are shifted, turned, stretched and bent, anew in every epoch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from fastmnist.checks import at_least_zero, positive, share, whole
from fastmnist.counter_based import AFFINE, ELASTIC, bits, epoch_key, sample_keys
from fastmnist.parameters import LANES

Array = NDArray[np.float32]

_BATCH = 128  # images at a time: their random numbers, 0.9 MB, stay in the cache
_HALF = np.float32(0.5)


@dataclass(frozen=True)
class Augmentation:
    """How far images may be distorted; all is drawn uniformly, for each sample and epoch anew.

    Parameters
    ----------
    shift : int
        Pixels, to each side and up and down.
    rotation : float
        Degrees, to each side.
    scale : float
        In [0, 1): width and height each change by up to this part.
    shear : float
        Columns that a row moves for each row it is away from the middle, to each side.
    elastic : float
        Strength of the elastic distortion: every pixel is displaced by random numbers in
        [-elastic, elastic], smoothed by a Gaussian. 34 with a smoothness of 4 moves pixels of MNIST
        by 1.4 pixels (root mean square) in each direction.
    smoothness : float
        Standard deviation of that Gaussian in pixels.

    References
    ----------
    Simard, Steinkraus and Platt 2003, "Best practices for convolutional neural networks applied to
    visual document analysis", section 2.
    """

    shift: int = 0
    rotation: float = 0.0
    scale: float = 0.0
    shear: float = 0.0
    elastic: float = 0.0
    smoothness: float = 4.0

    def describe(self) -> str:
        """How images are distorted, for people."""
        parts = [
            f"shift {self.shift}" * (self.shift > 0),
            f"rotation {self.rotation:g}°" * (self.rotation > 0),
            f"scale {self.scale:g}" * (self.scale > 0),
            f"shear {self.shear:g}" * (self.shear > 0),
            f"elastic {self.elastic:g}" * (self.elastic > 0),
        ]
        return ", ".join(part for part in parts if part) or "no distortion"

    def __post_init__(self) -> None:
        whole("shift", self.shift, 0)
        at_least_zero("rotation", self.rotation)
        share("scale", self.scale)
        at_least_zero("shear", self.shear)
        at_least_zero("elastic", self.elastic)
        positive("smoothness", self.smoothness)


def augmented(
    images: NDArray[np.uint8], augmentation: Augmentation, *, seed: int = 0, epoch: int = 0
) -> NDArray[np.uint8]:
    """Images as a training sees them in one of its epochs.

    This is the reference for the kernels' `augmented`, whose pixels differ by 1 where float32
    rounds to the other side.

    Parameters
    ----------
    images : ndarray of uint8, shape (n, height, width)
        Image i is number i of its data set.
    augmentation : Augmentation
    seed : int
        Of the training.
    epoch : int
        From 0.

    Returns
    -------
    ndarray of uint8, shape (n, height, width)

    Raises
    ------
    TypeError, ValueError
        If `images` are not uint8 images.
    """
    images, key = check_images(images), epoch_key(seed, epoch)
    out = np.empty_like(images)
    for first in range(0, len(images), _BATCH):
        some = images[first : first + _BATCH]
        samples = np.arange(first, first + len(some))
        with np.errstate(over="ignore", invalid="ignore"):  # extreme strengths move all outside
            out[first : first + _BATCH] = _distorted(some, samples, augmentation, key)
    return out


def _distorted(
    images: NDArray[np.uint8], samples: NDArray[np.int64], a: Augmentation, key: int
) -> NDArray[np.uint8]:
    """Images of these numbers, distorted."""
    u = _uniform(key, samples, AFFINE, 6).T
    right, down = np.floor(u[:2] * np.float32(a.shift + 0.5) + _HALF)
    if not (a.rotation or a.scale or a.shear or a.elastic):
        return _shifted(images, right, down)
    x, y = _sources(a, u, right, down, *images.shape[1:])
    if a.elastic:
        bend_x, bend_y = _displacements(a, key, samples, *images.shape[1:])
        x, y = x + bend_x, y + bend_y
    pixels: NDArray[np.uint8] = np.floor(_interpolated(images, x, y) + _HALF).astype(np.uint8)
    return pixels


def _shifted(images: NDArray[np.uint8], right: Array, down: Array) -> NDArray[np.uint8]:
    """Images, each moved by whole pixels: 4 times as fast as interpolation."""
    count, height, width = images.shape
    framed = np.pad(images, ((0, 0), (height, height), (width, width)))
    windows = sliding_window_view(framed, (height, width), axis=(1, 2))
    top = height - np.clip(down, -height, height).astype(np.intp)
    left = width - np.clip(right, -width, width).astype(np.intp)
    moved: NDArray[np.uint8] = windows[np.arange(count), top, left]
    return moved


def _sources(
    a: Augmentation, u: Array, right: Array, down: Array, height: int, width: int
) -> tuple[Array, Array]:
    """Where in its image each pixel is read that is shifted, turned, stretched and slanted.

    x and y, float32 of shape (n, height, width).
    """
    u, right, down = u[:, :, None], right[:, None], down[:, None]
    angle = u[2] * np.float32(math.radians(a.rotation))
    x_scale = 1 / (1 + u[3] * np.float32(a.scale))
    y_scale = 1 / (1 + u[4] * np.float32(a.scale))
    shear = -u[5] * np.float32(a.shear) * x_scale * y_scale
    cos, sin = np.cos(angle), np.sin(angle)
    # the inverse of: stretch and slant, turn, shift, all about the middle
    middle_x, middle_y = _HALF * (width - 1), _HALF * (height - 1)
    column = np.arange(width, dtype=np.float32) - middle_x - right
    row = np.arange(height, dtype=np.float32) - middle_y - down
    x_of_column, x_of_row = x_scale * cos - shear * sin, x_scale * sin + shear * cos
    y_of_column, y_of_row = -y_scale * sin, y_scale * cos
    x = (x_of_column * column)[:, None, :] + (x_of_row * row + middle_x)[:, :, None]
    y = (y_of_column * column)[:, None, :] + (y_of_row * row + middle_y)[:, :, None]
    return x, y


def _displacements(
    a: Augmentation, key: int, samples: NDArray[np.int64], height: int, width: int
) -> Array:
    """Random displacements of all pixels, smoothed by a Gaussian: (2, n, height, width)."""
    padded = -(-width // LANES) * LANES  # the kernels draw whole vectors
    noise = _uniform(key, samples, ELASTIC, height * 2 * padded)
    fields = noise.reshape(len(samples), height, 2, padded)[..., :width].transpose(2, 0, 1, 3)
    down = gaussian_filter_matrix(height, a.smoothness)
    across = gaussian_filter_matrix(width, a.smoothness) * np.float32(a.elastic)
    smoothed: Array = down @ fields @ across
    return smoothed


def gaussian_filter_matrix(size: int, sigma: float) -> Array:
    """The matrix of a Gaussian filter, float32: row i weighs what lies around i, in all 1."""
    place = np.arange(size)
    weights = np.exp(-((place[:, None] - place) ** 2) / (2 * sigma**2))
    everywhere = np.arange(-4 * math.ceil(sigma), 4 * math.ceil(sigma) + 1)
    matrix: Array = (weights / np.exp(-(everywhere**2) / (2 * sigma**2)).sum()).astype(np.float32)
    return matrix


def _uniform(key: int, samples: NDArray[np.int64], stream: int, count: int) -> Array:
    """Random numbers in [-1, 1], float32 of shape (samples, count)."""
    numbers = bits(sample_keys(key, samples, stream), count).view(np.int32)
    return numbers.astype(np.float32) * np.float32(2**-31)


def _interpolated(images: NDArray[np.uint8], x: Array, y: Array) -> Array:
    """What images are at places between their pixels, by bilinear interpolation; outside, 0."""
    count, height, width = images.shape
    x = np.fmin(np.fmax(x, -1), width)  # NaN, from extreme numbers, becomes -1
    y = np.fmin(np.fmax(y, -1), height)
    left, above = np.floor(x), np.floor(y)
    framed = np.pad(images, ((0, 0), (1, 2), (1, 2)))
    rows, columns = framed.shape[1:]
    at = np.arange(0, count * rows * columns, rows * columns)[:, None, None]
    at = at + (above.astype(np.intp) + 1) * columns + left.astype(np.intp) + 1
    ink = framed.ravel().astype(np.float32)
    upper = _mixed(ink[at], ink[at + 1], x - left)
    lower = _mixed(ink[at + columns], ink[at + columns + 1], x - left)
    return _mixed(upper, lower, y - above)


def _mixed(one: Array, other: Array, part: Array) -> Array:
    return one + part * (other - one)


def check_images(images: Any) -> NDArray[np.uint8]:
    """`images` if they can be distorted."""
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.ndim != 3:
        raise ValueError("augmentation needs uint8 images of shape (n, height, width)")
    return images
