"""Where images come from: named sets, folders of IDX files, CSV files, generated digits."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastmnist import checks, csv_files, digits, idx
from fastmnist.download import DIMENSIONS, FILES, SETS, fetch, verified
from fastmnist.errors import DataError, DownloadError

GENERATED = "generated"
DIGITS = tuple("0123456789")


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Images and their labels; slice it as an array: ``data.train[:1000]``.

    Attributes
    ----------
    images : ndarray
        uint8 of shape (n, height, width), 0 to 255; or features of shape (n, features).
    labels : ndarray or None
        Class numbers of shape (n,); None where they are not known.
    name : str
        For titles and messages.
    class_names : tuple of str
        What each class number stands for; may be empty.

    Raises
    ------
    TypeError
        If images or labels are masked or sparse.
    ValueError
        If there are more labels than images or fewer, or a label that has no class name.
    """

    images: NDArray[Any]
    labels: NDArray[Any] | None = None
    name: str = "data"
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "images", checks.as_array("images", self.images))
        if self.labels is not None:
            object.__setattr__(self, "labels", checks.as_array("labels", self.labels))
        if self.images.ndim < 2:
            raise ValueError(f"{self.name}: images must have shape (n, height, width)")
        if self.labels is None:
            return
        if self.labels.shape != (len(self),):
            raise ValueError(
                f"{self.name}: {len(self)} images, labels of shape {self.labels.shape}"
            )
        if self.class_names:
            with checks.naming(self.name):
                checks.labels(self.labels, len(self), len(self.class_names))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: slice | NDArray[Any] | list[int]) -> Dataset:
        if not isinstance(index, slice) and np.ndim(index) != 1:
            raise TypeError(f"a dataset is sliced: data[{index}:{index} + 1], not data[{index}]")
        labels = None if self.labels is None else self.labels[index]
        return Dataset(self.images[index], labels, self.name, self.class_names)

    def __repr__(self) -> str:
        size = " x ".join(map(str, self.images.shape[1:]))
        labels = "without labels" if self.labels is None else "with labels"
        return f"<Dataset {self.name!r}: {len(self):,} images of {size}, {labels}>"


class Split(NamedTuple):
    """A set to train with and a set to test with."""

    train: Dataset
    test: Dataset


def load(
    name: str | os.PathLike[str] = "mnist", *, data_dir: str | os.PathLike[str] | None = None
) -> Split:
    """Load a dataset by its name or from your own files.

    A named set is looked for in `data_dir`, in $FASTMNIST_DATA/<name> and in the cache folder, and
    else downloaded; its content is verified wherever it was found.

    Parameters
    ----------
    name : {"mnist", "fashion", "kmnist", "generated"} or path-like
        A path is a folder with MNIST's four IDX files, gzipped or not (of two copies the gzipped
        one is read), or a CSV file with labels, whose last seventh becomes the test set.
        "generated" is 60,000 and 10,000 digits that the package draws itself.
    data_dir : path-like, optional
        The folder with the four files of a named set, or the one above it.

    Returns
    -------
    Split
        ``(train, test)``.

    Raises
    ------
    DataError
        If a file is missing, damaged or not what it should be.
    DownloadError
        If a named set was found nowhere; lists each place.
    ValueError
        If the name is unknown.
    """
    known = (*SETS, GENERATED)
    path = Path(name)
    if name not in known and (os.path.lexists(path) or path.suffix or path.parent != Path()):
        return _read_folder(path) if os.path.isdir(path) else _split_csv(path)
    if checks.nearest("dataset", name, known) == GENERATED:
        return Split(
            generate(60_000, seed=0, name="generated digits (train)"),
            generate(10_000, seed=1, name="generated digits (test)"),
        )
    return _named(str(name), data_dir)


def load_or_generate(*, data_dir: str | os.PathLike[str] | None = None) -> tuple[Split, str | None]:
    """Load MNIST, or generated digits where it is neither found nor to be downloaded.

    Parameters
    ----------
    data_dir : path-like, optional
        As for `load`.

    Returns
    -------
    split : Split
    reason : str or None
        Why the digits are generated ones, in one line; None if they are MNIST.
    """
    try:
        return load("mnist", data_dir=data_dir), None
    except DownloadError as error:
        return load(GENERATED), str(error).splitlines()[0].rstrip(":")


def generate(
    count: int, seed: int = 0, name: str = "generated digits", *, threads: int | None = None
) -> Dataset:
    """Digits that the package draws itself.

    Parameters
    ----------
    count : int
        How many, at least 1.
    seed : int
        The same seed draws the same digits.
    name : str
        The dataset's name.
    threads : int, optional
        By default one for each processor. The digits are the same for any number.
    """
    count = checks.whole("count", count, 1)
    seed = checks.whole("seed", seed, 0, 2**63 - 1)
    images, labels = digits.draw(count, seed, threads=threads)
    return Dataset(images, labels, name, DIGITS)


def read_csv(path: str | os.PathLike[str]) -> Dataset:
    """Read digits in the CSV form of Kaggle's digit-recognizer.

    Parameters
    ----------
    path : path-like
        Lines of ``label,pixel0,...,pixel783``, or without the label, with a line of names or not.

    Raises
    ------
    DataError
        If the file is anything else; names the line and the column.
    """
    images, labels = csv_files.read(path)
    return Dataset(images, labels, Path(path).name, DIGITS)


def _split_csv(path: Path) -> Split:
    """The rows of a CSV file, the last seventh to test with, as in MNIST."""
    rows = read_csv(path)
    if rows.labels is None:
        raise DataError(f"{path} has no labels, so it cannot be trained with")
    if len(rows) < 2:
        raise DataError(f"{path} has one image, too few to train and to test")
    first = len(rows) - max(1, len(rows) // 7)
    train, test = rows[:first], rows[first:]
    return Split(
        replace(train, name=f"{path.name} (first {len(train):,} rows)"),
        replace(test, name=f"{path.name} (last {len(test):,} rows)"),
    )


def _named(name: str, data_dir: str | os.PathLike[str] | None) -> Split:
    """A named set from the first place that has it, verified."""
    title = SETS[name].title
    shared = os.environ.get("FASTMNIST_DATA")
    folders = [Path(data_dir, name), Path(data_dir)] if data_dir is not None else []
    folders += [Path(shared, name)] if shared else []
    for folder in folders:
        if any(_find(folder, file) for file in FILES):
            return _read_folder(folder, name)
    try:
        return _split(fetch(name), title, SETS[name].class_names)
    except DownloadError as error:
        looked = [f"{folder} has none of its files" for folder in folders]
        looked += [] if shared else ["$FASTMNIST_DATA is not set"]
        places = "\n  ".join([*looked, *str(error).splitlines()])
        raise DownloadError(
            f"{title} was not found and could not be downloaded:\n  {places}\n"
            f"Put {', '.join(f'{file}.gz' for file in FILES)} into a folder and give it as "
            f'data_dir or as $FASTMNIST_DATA/{name}; or take the built-in digits, "{GENERATED}".'
        ) from None


def _find(folder: Path, file: str) -> Path | None:
    """The path of an IDX file under one of its usual names, gzipped ones first."""
    for stem in (file, file.replace("-idx", ".idx")):
        for path in (folder / f"{stem}.gz", folder / stem):
            if os.path.lexists(path):
                return path
    return None


def read_train(folder: str | os.PathLike[str]) -> Dataset:
    """Read the two IDX files of a folder with images to train with, and nothing to test with.

    Parameters
    ----------
    folder : path-like
        With train-images-idx3-ubyte and train-labels-idx1-ubyte, gzipped or not.

    Raises
    ------
    DataError
        If a file is missing, damaged or not what it should be.
    """
    folder = Path(folder)
    images, labels = _read_pair(*_paths(folder, FILES[:2]))
    return Dataset(images, labels, str(folder))


def _paths(folder: Path, files: Sequence[str]) -> list[Path]:
    """Where those files are in a folder, under one of their usual names."""
    found = {file: _find(folder, file) for file in files}
    missing = [file for file, path in found.items() if path is None]
    if missing:
        raise DataError(f"{folder} has no {', no '.join(missing)} (with .gz or without)")
    return [path for path in found.values() if path is not None]


def _read_pair(images: Path, labels: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """As many images as labels."""
    X, y = (idx.read(path, n) for path, n in zip((images, labels), DIMENSIONS[:2], strict=True))
    if len(X) != len(y):
        raise DataError(f"{images} has {len(X):,} images, but {labels} has {len(y):,} labels")
    return X, y


def _read_folder(folder: Path, name: str | None = None) -> Split:
    """The four IDX files of a folder; with a name, verified to be that set."""
    paths = _paths(folder, FILES)
    if name is not None:
        arrays = [verified(idx.read_bytes(p), name, i, str(p)) for i, p in enumerate(paths)]
        return _split(arrays, SETS[name].title, SETS[name].class_names)
    arrays = [*_read_pair(*paths[:2]), *_read_pair(*paths[2:])]
    (_, *train_size), (_, *test_size) = arrays[0].shape, arrays[2].shape
    if train_size != test_size:
        raise DataError(f"{paths[0]} has images of {train_size}, but {paths[2]} of {test_size}")
    classes = 1 + max(arrays[1].max(), arrays[3].max())
    return _split(arrays, folder.resolve().name, tuple(map(str, range(classes))))


def _split(arrays: Sequence[NDArray[np.uint8]], title: str, classes: tuple[str, ...]) -> Split:
    """Training images and labels, test images and labels as a Split."""
    return Split(
        Dataset(arrays[0], arrays[1], f"{title} (train)", classes),
        Dataset(arrays[2], arrays[3], f"{title} (test)", classes),
    )
