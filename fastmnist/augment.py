"""Augmentation: images that are shifted, turned, stretched and bent, anew in every epoch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmnist.checks import at_least_zero, positive, share, whole
from fastmnist.counter_based import epoch_key


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
    images: NDArray[np.uint8],
    augmentation: Augmentation,
    *,
    seed: int = 0,
    epoch: int = 0,
    threads: int | None = None,
) -> NDArray[np.uint8]:
    """Images as a training sees them in one of its epochs.

    Parameters
    ----------
    images : ndarray of uint8, shape (n, height, width)
        Image i is number i of its data set.
    augmentation : Augmentation
    seed : int
        Of the training.
    epoch : int
        From 0.
    threads : int, optional
        By default as many as this process may use. The result is the same for any number.

    Returns
    -------
    ndarray of uint8, shape (n, height, width)

    Raises
    ------
    TypeError, ValueError
        If `images` are not uint8 images.
    """
    from fastmnist import kernels  # Numba, only now

    pictures: Any = kernels.augmented(check_images(images), augmentation, epoch_key(seed, epoch))
    return kernels.drawn(pictures, threads=threads)


def check_images(images: Any) -> NDArray[np.uint8]:
    """`images` if they can be distorted."""
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.ndim != 3:
        raise ValueError("augmentation needs uint8 images of shape (n, height, width)")
    return images
