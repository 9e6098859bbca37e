"""What is timed: data, networks, seeds and steps, so that a figure means the same everywhere.

Each workload is a function that returns a call without arguments, compiled and ready. What trains
changes its own network, so such a call is good for one timed sample; get a new one for the next.
`source` names the images, `SYNTHETIC` or `MNIST`; None is what `data_name` finds.

A change here raises the `version` of every benchmark that it changes: asv then stops comparing
with older results. Only public names of fastmnist are used, so that old commits run, too.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from functools import cache, lru_cache, partial
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

import fastmnist as fm

from . import THREADS

NETWORKS = ("784-10-10", "784-128-10", "784-800-10", "784-256-128-10")
BATCHES = (32, 128, 1024)
NETWORK = "784-128-10"  # where one has to do
BACKENDS = ("reference", "numba")  # as `fit` names them
IMAGES = 60_000
BATCH = 128
EPOCHS = 3  # of a whole training
RATE = 0.1

SYNTHETIC = "synthetic"  # images that every machine has, the same ones at every commit
MNIST = "mnist"

Call = Callable[[], Any]


def forward(network: str, backend: str, count: int, source: str | None = None) -> Call:
    """Probabilities of the first `count` test images, from pixels."""
    X = unseen(count, source)
    function = _module(backend).forward
    return _tried(partial(function, _params(network, backend), X, **_threads(backend)))


def predict(network: str, count: int, source: str | None = None) -> Call:
    """Classes of the first `count` test images, from pixels, as a user asks for them."""
    fm.warmup()  # from then on the kernels predict a few images, too
    # As ONNX Runtime is, it is told only for many images how many threads it may use.
    threads = {"threads": THREADS} if count > 1 else {}
    model = fm.MLP(sizes(network), seed=0)
    return _tried(partial(model.predict, unseen(count, source), **threads))


def loss_and_gradients(
    network: str, backend: str, batch: int = BATCH, source: str | None = None
) -> Call:
    """Loss and gradients on the first `batch` training images, from pixels."""
    X, y = pixels(batch, source), labels(batch, source)
    function = _module(backend).loss_and_gradients
    return _tried(partial(function, _params(network, backend), X, y, **_threads(backend)))


def epoch(
    network: str,
    backend: str = "numba",
    images: int = IMAGES,
    batch: int = BATCH,
    *,
    rows: Any = None,
    optimizer: fm.SGD | fm.Adam | None = None,
    threads: int = THREADS,
    source: str | None = None,
) -> Call:
    """An epoch of SGD in random order, over rows prepared once, as `fit` does; the loss.

    `rows`, prepared already, are taken in place of the training images.
    """
    train = partial(
        _module(backend).train_epoch,
        learning_rate=_rate(optimizer),
        batch_size=batch,
        threads=threads,
        **({"optimizer": optimizer} if optimizer else {}),
    )

    def first(count: int) -> tuple[Any, np.ndarray]:
        if rows is not None:
            return rows, labels(images, source)
        return _prepared(backend, count, source or data_name())

    few = min(images, max(batch, images // 5))
    # compiles, and warms the caches: as in a training of many epochs
    train(_params(network, backend), *first(few))
    order = np.random.default_rng(0).permutation(images)
    return partial(train, _params(network, backend), *first(images), order=order)


def _rate(optimizer: fm.SGD | fm.Adam | None) -> float:
    """That makes the steps of all optimisers about as long."""
    if optimizer is None:
        return RATE
    if isinstance(optimizer, fm.Adam):
        return RATE / 100
    return RATE * (1 - optimizer.momentum)


def training(network: str, backend: str, images: int = IMAGES, source: str | None = None) -> Call:
    """The whole of `fit`, from pixels; the call returns the trained model."""
    train, _ = data(source)

    def call(images: int = images) -> fm.MLP:
        model = fm.MLP(sizes(network), seed=0)
        options = {"epochs": EPOCHS, "batch_size": BATCH, "learning_rate": RATE}
        fm.fit(model, train[:images], backend=backend, threads=THREADS, **options)
        return model

    call(BATCH)  # compiles
    return call


def sizes(network: str) -> tuple[int, ...]:
    """Inputs, units of each hidden layer, and classes."""
    return tuple(map(int, network.split("-")))


def operations(network: str, images: int = IMAGES) -> float:
    """Of an epoch as dense products: forward, gradient of W, and backward."""
    weights = [n * m for n, m in pairwise(sizes(network))]
    # three products a layer, but nothing flows back into the images
    return images * 2.0 * (3 * sum(weights) - weights[0])


def data_name() -> str:
    """`MNIST` where $FASTMNIST_DATA holds it, `SYNTHETIC` otherwise: what commands take.

    Neither asv nor pytest-benchmark does: their figures must not depend on a variable.
    """
    folder = os.environ.get("FASTMNIST_DATA")
    return MNIST if folder and any(Path(folder, "mnist").glob("*ubyte*")) else SYNTHETIC


def data(source: str | None = None) -> tuple[fm.Dataset, fm.Dataset]:
    """60,000 training and 10,000 test images, the same ones at every commit.

    MNIST is the same because `load` checks its content. The package's generated digits are not:
    they change whenever their drawing improves; so without MNIST the images are made here.
    """
    return _data(source or data_name())


@cache
def _data(source: str) -> tuple[fm.Dataset, fm.Dataset]:
    if source == MNIST:
        return fm.load("mnist")
    images, labels = synthetic(IMAGES + 10_000)
    everything = fm.Dataset(images, labels, SYNTHETIC)
    return everything[:IMAGES], everything[IMAGES:]


def saved(folder: Path, source: str | None = None) -> str:
    """The name under which `fastmnist.load` finds `data`: "mnist", or files written to `folder`."""
    if (source or data_name()) == MNIST:
        return "mnist"
    for name, part in zip(("train", "t10k"), data(source), strict=True):
        for kind, array in (("images-idx3", part.images), ("labels-idx1", part.labels)):
            # MNIST's format: two zeros, 8 for bytes, the number of dimensions, each of them
            header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
            (folder / f"{name}-{kind}-ubyte").write_bytes(header + array.tobytes())
    return str(folder.resolve())


def pixels(images: int = IMAGES, source: str | None = None) -> np.ndarray:
    """Those of the first training images, uint8 of shape (images, 784)."""
    return data(source)[0].images[:images].reshape(-1, 784)


@lru_cache(maxsize=1)  # 47 MB
def random_pixels(density: float, images: int = IMAGES) -> np.ndarray:
    """uint8 of shape (images, 784), of which such a share is not zero."""
    generator = np.random.default_rng(0)
    X = generator.integers(1, 256, (images, 784), dtype=np.uint8)
    X[generator.random(X.shape, np.float32) >= density] = 0
    return X


def unseen(images: int, source: str | None = None) -> np.ndarray:
    """Those of the first test images."""
    return data(source)[1].images[:images].reshape(-1, 784)


def labels(images: int = IMAGES, source: str | None = None) -> np.ndarray:
    """Those of the first training images, int64."""
    return data(source)[0].labels[:images].astype(np.int64)


def synthetic(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Ten patterns of 4 x 4 blocks, moved about, a random half of their pixels missing.

    They lie in the middle 20 x 20 pixels, as MNIST's digits do, and 144 pixels of an image are
    inked on average, against MNIST's 150.

    Parameters
    ----------
    count : int

    Returns
    -------
    images : ndarray of uint8, shape (count, 28, 28)
    labels : ndarray of uint8, shape (count,)
    """
    generator = np.random.default_rng(0)
    blocks = generator.permuted(np.tile(np.arange(25) < 18, (10, 1)), axis=1).reshape(10, 5, 5)
    patterns = np.pad(np.kron(blocks, np.ones((1, 4, 4), np.uint8)), ((0, 0), (4, 4), (4, 4)))
    steps = range(-2, 3)
    moved = np.stack([np.roll(patterns, (y, x), (1, 2)) for y in steps for x in steps])
    labels = generator.integers(10, size=count, dtype=np.uint8)
    images = moved[generator.integers(len(moved), size=count), labels]
    # in place and in bytes: a benchmark's peak of memory is to be the network's, not these images'
    images *= generator.integers(2, size=images.shape, dtype=np.uint8)
    images *= generator.integers(1, 256, size=images.shape, dtype=np.uint8)
    return images, labels


def _module(backend: str) -> ModuleType:
    return fm.kernels if backend == "numba" else fm.reference


def _params(network: str, backend: str) -> Any:
    """New parameters, the same for both: a model's own for the kernels, plain arrays for NumPy."""
    params = fm.MLP(sizes(network), seed=0).params
    return params if backend == "numba" else [(W.copy(), b.copy()) for W, b in params]


@cache
def _prepared(backend: str, images: int, source: str) -> tuple[Any, np.ndarray]:
    return _module(backend).prepare(pixels(images, source)), labels(images, source)


def _threads(backend: str) -> dict[str, int]:
    return {"threads": THREADS} if backend == "numba" else {}  # NumPy: see this package's module


def _tried(call: Call) -> Call:
    call()  # compiles
    return call
