"""One training, for tests here and in programs that they start: the bits that it ends with."""

import hashlib

import numpy as np

import fastmnist as fm

EVERYTHING = {
    "optimizer": "adamw",
    "schedule": "warm-up-cosine",
    "label_smoothing": 0.1,
    "dropout": 0.2,
    "input_dropout": 0.1,
    "averaging": 0.5,
}


def trained(threads=2, sizes=(784, 40, 10), count=300, **options):
    """The SHA-256 of the parameters of a network that was trained."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, 28, 28)) * (rng.random((count, 28, 28)) < 0.2)
    data = fm.Dataset(images.astype(np.uint8), np.arange(count) % 10)
    model = fm.MLP(sizes, seed=1)
    fm.fit(model, data, threads=threads, **{"epochs": 2, "batch_size": 100} | options)
    return hashlib.sha256(model.params.flat.tobytes()).hexdigest()
