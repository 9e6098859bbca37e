"""The sets that have a name: where they are published, and how a copy is known to be true."""

from __future__ import annotations

import functools
import hashlib
import re
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastmnist import idx
from fastmnist.errors import DataError, DownloadError
from fastmnist.files import atomic_write, cache_dir

if TYPE_CHECKING:
    from rich.progress import Progress

FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
DIMENSIONS = (3, 1, 3, 1)


class Published(NamedTuple):
    """A set that has a name."""

    title: str
    mirrors: tuple[str, ...]  # each has all of FILES, with .gz behind their names
    digests: tuple[str, ...]  # of FILES: "sha256:" of the content, or "md5:" of the .gz
    class_names: tuple[str, ...]


SETS = {
    "mnist": Published(
        "MNIST",
        (
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        (
            "sha256:ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "sha256:65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "sha256:0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "sha256:ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
        tuple("0123456789"),
    ),
    "fashion": Published(
        "Fashion-MNIST",
        ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
        (
            "md5:8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "md5:25c81989df183df01b3e8a0aad5dffbe",
            "md5:bef4ecab320f06d8554ea6380940ec79",
            "md5:bb300cfdad3c16e7a12a480ee83cd310",
        ),
        (
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ),
    ),
    "kmnist": Published(
        "KMNIST",
        ("http://codh.rois.ac.jp/kmnist/dataset/kmnist/",),
        (
            "md5:bdb82020997e1d708af4cf47b453dcf7",
            "md5:e144d726b3acfaa3e44228e80efcd344",
            "md5:5c965bf0a639b31b8f53240b1b52f4d7",
            "md5:7320c461ea6c1c855c0b718fb2a4b134",
        ),
        ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
    ),
}


def verified(content: bytes, name: str, part: int, source: str) -> NDArray[np.uint8]:
    """The array in a file's bytes, if they are those of ``FILES[part]`` of a named set.

    Raises
    ------
    DataError
        If they are not; `source` is the file's name in the message.
    """
    array = idx.decode(content, DIMENSIONS[part], source)
    kind, wanted = SETS[name].digests[part].split(":")
    if kind == "sha256":
        found = idx.sha256(array)
    else:
        found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != wanted:
        raise DataError(
            f"{source} is not {SETS[name].title}'s {FILES[part]} as published "
            f"({kind} {found}, wanted {wanted}); to use your own files, give their folder as a path"
        )
    return array


def fetch(name: str) -> tuple[NDArray[np.uint8], ...]:
    """The four arrays of a named set, from the cache folder or from a mirror.

    Raises
    ------
    DownloadError
        If no mirror delivers a file; the message has a line for each place.
    """
    mirrors = list(SETS[name].mirrors)
    return tuple(_fetch(name, part, mirrors) for part in range(len(FILES)))


def _fetch(name: str, part: int, mirrors: list[str]) -> NDArray[np.uint8]:
    """One array; a mirror that fails goes to the end of the list, to be asked last for the next."""
    # What a SHA-256 of the content can verify is kept unzipped: MNIST then opens in 70 ms, not 320.
    unzipped = SETS[name].digests[part].startswith("sha256")
    cached = cache_dir() / name / (FILES[part] + ("" if unzipped else ".gz"))
    try:
        return verified(idx.read_bytes(cached), name, part, str(cached))
    except DataError as error:
        causes = [str(error)]
    for mirror in tuple(mirrors):
        address = f"{mirror}{FILES[part]}.gz"
        try:
            content = receive(address)
            array = verified(content, name, part, "what it sent")
        except Exception as error:  # whatever went wrong, the next mirror may do better
            causes.append(f"{address}: {_reason(error)}")
            mirrors.remove(mirror)
            mirrors.append(mirror)
        else:
            _keep(cached, idx.encode(array) if unzipped else content)
            return array
    raise DownloadError("\n".join(causes))


def _keep(path: Path, content: bytes) -> None:
    """Write a file into the cache, or warn that it could not be."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            file.write(content)
    except OSError as error:
        _warn(f"downloads cannot be kept in {path.parent}: {error.strerror}")


@functools.cache  # one warning for the four files
def _warn(message: str) -> None:
    warnings.warn(message, stacklevel=2)


SILENCE = 5.0  # seconds without 1 KiB of data; two dead mirrors hold an offline machine up for 10
DEADLINE = 900.0  # seconds for one file: the largest, 26 MB, at 30 kB/s
LIMIT = 2**26  # bytes; Fashion-MNIST's training images, the largest archive, have 26 MB


def receive(address: str) -> bytes:
    """What a server has under an address.

    Raises
    ------
    DownloadError
        If it is too large, or the server is silent or busy for too long.
    Exception
        Whatever pooch and requests raise for a download that fails.
    """
    transfer = _Transfer(address)
    transfer.start()
    started = heard = time.monotonic()
    size = 0
    try:
        with _bar() as bar:
            task = bar.add_task(address.rsplit("/", 1)[-1], total=None)
            while transfer.is_alive():
                transfer.join(0.1)
                now = time.monotonic()
                if len(transfer.content) > size:
                    size, heard = len(transfer.content), now
                bar.update(task, completed=size, total=transfer.total or None)
                if now > heard + SILENCE:
                    raise DownloadError(f"no data for {SILENCE:g} s")
                if now > started + DEADLINE:
                    raise DownloadError(f"not done in {DEADLINE:g} s")
    finally:
        transfer.given_up = True
    if transfer.failure:
        raise transfer.failure
    return bytes(transfer.content)


class _Transfer(threading.Thread):
    """A download under way; to pooch it is both the file to write and the progress bar to move.

    It is a thread because no timeout of requests bounds the look-up of a name, or a server that
    sends a byte now and then.
    """

    def __init__(self, address: str) -> None:
        import pooch  # 0.2 s with requests, for whoever has no file yet

        super().__init__(daemon=True)
        self.content = bytearray()
        self.total = 0  # bytes, as the server says; 0 if it does not
        self.failure: Exception | None = None
        self.given_up = False
        self._address = address
        self._responses: list[Any] = []
        self._download = pooch.HTTPDownloader(
            progressbar=self,
            timeout=SILENCE,
            headers={"Accept-Encoding": "identity"},  # or requests would unzip what is sent zipped
            hooks={"response": lambda response, **_: self._responses.append(response)},
        )

    def run(self) -> None:
        try:
            self._download(self._address, self, None)
        except Exception as error:
            self.failure = error
        for response in self._responses:  # pooch leaves those that failed open
            response.close()

    def write(self, chunk: bytes) -> None:
        if self.given_up:
            raise DownloadError("given up")
        if len(self.content) + len(chunk) > LIMIT:
            raise DownloadError(f"more than {LIMIT:,} bytes")
        self.content += chunk

    def _ignore(self, *_: object) -> None: ...

    flush = update = reset = close = _ignore


def _bar() -> Progress:
    """A progress bar on standard error, if that is a terminal."""
    from rich import progress
    from rich.console import Console

    return progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.DownloadColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )


def _reason(error: Exception) -> str:
    """Why a download failed, in one line, without the name of the object that failed."""
    inner = getattr(error.args[0], "reason", None) if error.args else None
    return re.sub(r"^(<.*?>|\w+\(.*?\)): ", "", " ".join(str(inner or error).split()))
