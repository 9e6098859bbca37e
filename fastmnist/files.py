"""Where files are kept, and how they are written so that nothing is lost."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO

import platformdirs

from fastmnist.errors import DataError


def cache_dir() -> Path:
    """The folder for data and compiled kernels: $FASTMNIST_CACHE, or the user's cache folder."""
    folder = os.environ.get("FASTMNIST_CACHE")
    try:
        return Path(folder or platformdirs.user_cache_dir("fastmnist")).expanduser()
    except RuntimeError:
        # Neither $HOME nor a home of this user, as in some containers: here nothing can be kept.
        return Path(os.devnull, "no home folder")


@contextlib.contextmanager
def open_regular(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file to read its bytes.

    Raises
    ------
    DataError
        If there is no such file, it cannot be read, or it is a folder, a pipe or a device.
    """
    try:
        # Asked before it is opened: opening a pipe waits for a writer, a device has no end.
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise DataError(f"{path} is not a regular file")
        with open(path, "rb") as file:
            yield file
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str], mode: str = "wb") -> Iterator[IO[Any]]:
    """Open a file that appears under `path`, whole, when the block ends without an exception.

    It is written under a temporary name in the same folder, synced, and moved into place. A link
    is followed; the mode of a file that was there before is kept.

    Raises
    ------
    OSError
        If it cannot be written; what was there before is unchanged.
    """
    target = Path(path).resolve()
    descriptor, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(descriptor, mode) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, _mode_for(target))
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _mode_for(target: Path) -> int:
    try:
        return stat.S_IMODE(target.stat().st_mode)
    except FileNotFoundError:
        umask = os.umask(0)
        os.umask(umask)
        return 0o666 & ~umask
