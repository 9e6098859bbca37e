"""The readers of files, valid files to begin with, and what must hold whatever a file holds.

A reader either refuses a file with its one exception, or what it returns is what it promises. It
takes at most a second, and at most 64 MiB of memory (on macOS: beyond the most held before).
Pictures, which are packed, may take two seconds and 1 GiB: see `fastmnist.pictures`.
"""

from __future__ import annotations

import gzip
import io
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import astuple
from itertools import product
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from types import FrameType
from typing import NamedTuple, NoReturn

import numpy as np

from fastmnist import MLP, archive, checkpoints, csv_files, idx
from fastmnist.errors import DataError, ModelFileError
from fastmnist.history import Epoch
from fastmnist.model import arrays_of
from fastmnist.optimizers import State
from fastmnist.parameters import Parameters
from fastmnist.progress import Average, Best, Progress

from . import mutate

HERE = Path(__file__).parent
FOUND = HERE / "found"
FILES = HERE.parent / "files"


class Reader(NamedTuple):
    read: Callable[[Path], None]  # checks what it has read
    refusal: type[Exception]
    ending: str
    seeds: Callable[[], list[bytes]]
    mutate: mutate.Mutate
    seconds: float = 1.0  # of processor time, so that a busy machine is no failure
    memory: int = 2**26  # bytes


def execute(reader: Reader, content: bytes, path: Path) -> bool:
    """Read `content` as the file `path`; whether it was accepted.

    Raises
    ------
    Exception
        Whatever the reader raised that it must not.
    TooSlow, TooLarge
        If it took more time or memory.
    """
    path.write_bytes(content)
    before = peak(anew=True)
    with warnings.catch_warnings(), _limited(reader.seconds):
        warnings.simplefilter("ignore")  # Pillow's, about a picture that it can still read
        try:
            reader.read(path)
            accepted = True
        except reader.refusal as error:
            accepted, message = False, str(error)
    assert accepted or path.name in message, f"the file is not named: {message}"
    taken = peak() - before
    if taken > reader.memory:
        raise TooLarge(f"{taken:,} bytes of memory for a file of {len(content):,}")
    return accepted


class TooSlow(BaseException):
    """No Exception: a reader must not catch it."""


class TooLarge(BaseException):
    pass


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Raise TooSlow after so much processor time; only in the main thread."""

    def end(number: int, frame: FrameType | None) -> NoReturn:
        raise TooSlow(f"more than {seconds} s of processor time")

    before = signal.signal(signal.SIGPROF, end)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def peak(*, anew: bool = False) -> int:
    """The most memory in bytes that this process has held, since it was last asked anew."""
    if sys.platform != "linux":
        import resource  # not on Windows

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if anew:
        with suppress(OSError):  # where that may not be written, it is the most ever
            Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    with open("/proc/self/status", "rb") as file:
        status = file.read()
    at = status.index(b"VmHWM:") + 6
    return 1024 * int(status[at : status.index(b"kB", at)])


def inputs(name: str, executions: int, seed: int) -> Iterator[bytes]:
    """Valid files and found ones, changed at random; the same ones for the same seed."""
    reader, rng = READERS[name], Random(seed)
    corpus = [*reader.seeds(), *found(name)]
    for content in corpus[:executions]:
        yield content
    for _ in range(executions - len(corpus)):
        content = rng.choice(corpus)
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            content = reader.mutate(content, rng)
        yield content


def found(name: str) -> list[bytes]:
    """Files that a reader once failed on."""
    return [path.read_bytes() for path in sorted(FOUND.glob(f"{name}-*"))]


# What is read.


def _read_idx(path: Path) -> None:
    """As images and as labels; at most one of them can be right."""
    read = []
    for dimensions in (1, 3):
        try:
            read.append(idx.read(path, dimensions))
        except DataError as error:
            refusal = error
    if not read:
        raise refusal
    [array] = read
    assert array.dtype == np.uint8
    assert array.size > 0
    content = path.read_bytes()
    if not content.startswith(b"\x1f\x8b"):
        assert idx.encode(array) == content


def _read_csv(path: Path) -> None:
    images, labels = csv_files.read(path)
    assert images.dtype == np.uint8
    assert images.shape == (len(images), 28, 28)
    assert len(images) > 0
    assert labels is None or (labels.shape == (len(images),) and labels.max() < 10)


def _read_model(path: Path) -> None:
    _check_params(MLP.load(path).params)


def _check_params(params: Parameters) -> None:
    for (W, b), inputs, outputs in zip(params, params.sizes[:-1], params.sizes[1:], strict=True):
        assert (W.shape, b.shape) == ((inputs, outputs), (outputs,))
        assert (W.dtype, b.dtype) == (np.float32, np.float32)
    assert np.isfinite(params.flat).all()


def _read_checkpoint(path: Path) -> None:
    saved = checkpoints.read(path)
    progress = saved.progress
    for params in (saved.params, progress.state.velocity, progress.state.squares):
        _check_params(params)
    for mean in (progress.average.mean, progress.best.params):
        if mean is not None:
            _check_params(mean)
    for count in (progress.state.steps, progress.average.count, progress.best.age):
        assert isinstance(count, int)
        assert count >= 0
    for epoch in progress.history:
        assert all(value is None or isinstance(value, float) for value in astuple(epoch))


def _read_picture(path: Path) -> None:
    from fastmnist.pictures import read_digit, read_digits

    image = read_digit(path)
    assert (image.shape, image.dtype) == ((28, 28), np.uint8)
    assert image.any()
    try:
        several = read_digits(path)
    except DataError:
        return
    assert several
    assert all(digit.image.shape == (28, 28) for digit in several)


# Valid files.


def _idx_seeds() -> list[bytes]:
    shapes = [(1,), (5,), (1, 1, 1), (2, 3, 4), (3, 28, 28)]
    return [idx.encode(np.arange(np.prod(s), dtype=np.uint8).reshape(s)) for s in shapes]


def _gzip_seeds() -> list[bytes]:
    packed = [
        gzip.compress(content, level, mtime=0) for content in _idx_seeds() for level in (0, 9)
    ]
    named = io.BytesIO()
    with gzip.GzipFile("labels", "wb", fileobj=named, mtime=1) as file:
        file.write(_idx_seeds()[0])
    return [*packed, named.getvalue(), packed[0] + bytes(64)]


def _csv_seeds() -> list[bytes]:
    rng = Random(0)
    files = []
    for labelled, names, end, quote in product((0, 1), (0, 1), ("\n", "\r\n"), ("", '"')):
        first = (["label"] if labelled else []) + [f"pixel{i}" for i in range(784)]
        rows = [[str(rng.randrange(10)) for _ in first] for _ in range(2)]
        lines = [first, *rows] if names else rows
        files.append(end.join(",".join(f"{quote}{c}{quote}" for c in line) for line in lines))
    return [text.encode()[: mutate.LONGEST] for text in files]


def _models() -> list[MLP]:
    return [MLP.uniform(sizes, seed=1) for sizes in ((1, 1), (3, 2), (4, 3, 2), (2, 5, 1, 3))]


def _model_seeds() -> list[bytes]:
    written = [
        archive.pack(
            {"sizes": model.sizes},
            {name: array.astype(dtype) for name, array in arrays_of(model.params).items()},
        )
        for model in _models()
        for dtype in ("<f4", ">f4")
    ]
    return [*written, (FILES / "model-version-1.npz").read_bytes()]


def _checkpoint_seeds() -> list[bytes]:
    def filled(sizes: tuple[int, ...], seed: int) -> Parameters:
        return MLP.uniform(sizes, seed=seed).params

    files = []
    for model, epochs in product(_models()[:3], (0, 1, 2)):
        state = State(filled(model.sizes, 2), filled(model.sizes, 3), 5 * epochs)
        average = Average(filled(model.sizes, 4) if epochs > 1 else None, epochs // 2)
        best = Best(filled(model.sizes, 5), 0.5, 1) if epochs == 1 else Best()
        history = [Epoch(0.7, 0.6 if epochs == 1 else None, None, 0.01, 0.1)] * epochs
        progress = Progress(state, history, average, best)
        saved = checkpoints.Saved(model.params, progress, {"seed": 0, "X": "0f"}, {"name": "x"})
        with TemporaryDirectory() as folder:
            path = Path(folder, "seed.npz")
            checkpoints.write(path, saved)
            files.append(path.read_bytes())
    return files


def _tensor_seeds() -> list[bytes]:
    from fastmnist import exchange

    written = [exchange.to_safetensors(model.params) for model in _models()]
    return [*written, (FILES / "model-without-checksum.safetensors").read_bytes()]


def _picture_seeds() -> list[bytes]:
    from PIL import Image

    pixels = np.zeros((24, 20), np.uint8)
    pixels[4:20, 8:12] = 250
    digit = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    alpha = Image.merge("LA", (digit, digit))
    forms: list[tuple[Image.Image, str, dict[str, object]]] = [
        *((digit.convert(mode), "PNG", {}) for mode in ("L", "1", "P", "RGB", "RGBA")),
        (Image.fromarray(pixels.astype(np.uint16) * 257), "PNG", {"exif": exif}),
        (alpha, "PNG", {}),
        (digit, "JPEG", {}),
        (digit.convert("RGB"), "JPEG", {"progressive": True, "exif": exif}),
        (digit.convert("CMYK"), "JPEG", {}),
        *((digit.convert(mode), "BMP", {}) for mode in ("L", "1", "RGB")),
        (digit, "GIF", {}),
        (digit, "GIF", {"save_all": True, "append_images": [digit.rotate(90)]}),
        *((digit, "TIFF", {"compression": kind}) for kind in (None, "tiff_lzw", "packbits")),
        (Image.fromarray(pixels.astype(np.float32)), "TIFF", {}),
        (digit.convert("RGB"), "WEBP", {"lossless": True}),
        (digit.convert("RGB"), "WEBP", {}),
        *((digit.convert(mode), "PPM", {}) for mode in ("L", "1", "RGB")),
    ]
    return [_encoded(image, form, options) for image, form, options in forms]


def _encoded(image: object, form: str, options: dict[str, object]) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)  # type: ignore[attr-defined]
    return buffer.getvalue()


READERS = {
    "idx": Reader(_read_idx, DataError, "", _idx_seeds, mutate.anywhere),
    "gzip": Reader(_read_idx, DataError, ".gz", _gzip_seeds, mutate.inside_gzip),
    "csv": Reader(_read_csv, DataError, ".csv", _csv_seeds, mutate.cells),
    "npz": Reader(_read_model, ModelFileError, ".npz", _model_seeds, mutate.inside_archive),
    "safetensors": Reader(
        _read_model, ModelFileError, ".safetensors", _tensor_seeds, mutate.inside_tensors
    ),
    "checkpoint": Reader(
        _read_checkpoint, ModelFileError, ".npz", _checkpoint_seeds, mutate.inside_archive
    ),
    "picture": Reader(
        *(_read_picture, DataError, ".png", _picture_seeds, mutate.inside_picture),
        seconds=2,
        memory=2**30,
    ),
}
