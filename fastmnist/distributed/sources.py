"""Where the samples of each shard come from: memory, folders of IDX files, or a worker's own pen.

A source gives each shard its part. A part is small or, of data in memory, the samples themselves;
it travels to a worker, which loads its portions there.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from fastmnist import checks, datasets
from fastmnist.checkpoints import fingerprint
from fastmnist.datasets import Dataset
from fastmnist.errors import DataError

_STEP = 0x9E3779B97F4A7C15  # odd, so that no two of 2**63 seeds in a row are the same


class Part(Protocol):
    """The samples of one shard."""

    @property
    def portions(self) -> int:
        """How many there are; they are trained on in turn, one in each round."""

    def load(self, number: int) -> Dataset:
        """The samples of portion `number`; called on a worker."""


class Source(Protocol):
    """Samples that can be divided."""

    def part(self, shard: int, shards: int) -> Part:
        """What shard number `shard` of `shards` trains on."""

    def describe(self) -> str:
        """What tells this source from others."""


def seed_of(seed: int, stream: int) -> int:
    """A seed for each of many streams of random numbers; for stream 0, `seed` itself."""
    return (seed + stream * _STEP) % 2**63


@dataclass(frozen=True)
class InMemory:
    """A data set of this process, dealt out to the shards in a random order.

    Attributes
    ----------
    data : Dataset
    seed : int
    """

    data: Dataset
    seed: int

    def part(self, shard: int, shards: int) -> Portion:
        """Every `shards`-th sample of the random order; in the order of the data set."""
        if len(self.data) < shards:
            raise ValueError(f"{self.data.name}: {len(self.data)} samples for {shards} shards")
        order = np.random.default_rng(self.seed).permutation(len(self.data))
        return Portion(self.data[np.sort(order[shard::shards])])

    def describe(self) -> str:
        """Size and fingerprint."""
        arrays = [self.data.images, *([] if self.data.labels is None else [self.data.labels])]
        return f"{len(self.data):,} samples ({fingerprint(*arrays)})"


@dataclass(frozen=True)
class Portion:
    """The same samples in each round.

    Attributes
    ----------
    data : Dataset
    """

    data: Dataset
    portions = 1

    def load(self, number: int) -> Dataset:
        """All of them."""
        return self.data


@dataclass(frozen=True)
class Folder:
    """Folders of IDX files, of which each worker reads its own: data may be larger than memory.

    Parameters
    ----------
    path : path-like
        A folder that all workers see under this path. Each folder in it is a portion: it has a
        file train-images-idx3-ubyte and a file train-labels-idx1-ubyte, gzipped or not. There are
        at least as many as shards; shard s has numbers s, s + shards, ... of them, by name.

    Raises
    ------
    DataError
        If there is no such folder, or none in it.
    """

    path: str | os.PathLike[str]

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", os.path.abspath(self.path))
        if not self.folders():
            raise DataError(f"{self.path} holds no folders, each with the IDX files of a portion")

    def folders(self) -> list[Path]:
        """All folders in it, by name."""
        try:
            return sorted(path for path in Path(self.path).iterdir() if path.is_dir())
        except OSError as error:
            raise DataError(f"{self.path}: {error.strerror}") from error

    def part(self, shard: int, shards: int) -> Folders:
        """Every `shards`-th folder."""
        folders = self.folders()
        if len(folders) < shards:
            raise DataError(f"{self.path} holds {len(folders)} folders, for {shards} shards")
        return Folders(tuple(folders[shard::shards]))

    def describe(self) -> str:
        """Path and number of folders: what lies in them is not looked at."""
        return f"{len(self.folders())} folders in {self.path}"


@dataclass(frozen=True)
class Folders:
    """Folders that are read one after the other, each when its round has come.

    Attributes
    ----------
    paths : tuple of Path
    """

    paths: tuple[Path, ...]

    @property
    def portions(self) -> int:
        """One for each folder."""
        return len(self.paths)

    def load(self, number: int) -> Dataset:
        """Read that folder."""
        return datasets.read_train(self.paths[number])


@dataclass(frozen=True)
class Drawn:
    """Digits that each worker draws for itself, so that no data travels.

    Drawing takes far longer than training. With few portions, and an augmentation that distorts
    them in each round otherwise, digits are still endless: infinite MNIST (Loosli, Canu and Bottou
    2007) is made so of 60,000.

    Parameters
    ----------
    count : int
        Digits of each shard and portion.
    portions : int
        How many times a shard draws new digits before it returns to its first.
    seed : int
        The same seed draws the same digits.
    """

    count: int
    portions: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        checks.whole("count", self.count, 1)
        checks.whole("portions", self.portions, 1)
        checks.whole("seed", self.seed, 0, 2**63 - 1)

    def part(self, shard: int, shards: int) -> DrawnPart:
        """Seeds of its own: never 1, of the generated digits to test with, for a small `seed`."""
        streams = [1 + shard + shards * number for number in range(self.portions)]
        return DrawnPart(self.count, tuple(seed_of(self.seed, stream) for stream in streams))

    def describe(self) -> str:
        """All of its numbers."""
        return repr(self)


@dataclass(frozen=True)
class DrawnPart:
    """Digits to be drawn.

    Attributes
    ----------
    count : int
    seeds : tuple of int
        One for each portion.
    """

    count: int
    seeds: tuple[int, ...]

    @property
    def portions(self) -> int:
        """One for each seed."""
        return len(self.seeds)

    def load(self, number: int) -> Dataset:
        """Draw them, on one thread."""
        return datasets.generate(self.count, self.seeds[number], threads=1)
