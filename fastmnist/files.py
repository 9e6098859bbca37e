"""Where files are kept, and how they are written so that nothing is lost."""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
import secrets
import stat
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
    is followed; the mode of a file that was there before is kept. What writers of the same file
    have left who were killed is removed.

    Raises
    ------
    OSError
        If it cannot be written; what was there before is unchanged.
    """
    target = Path(path).resolve()
    temporary = target.with_name(f"{_prefix(target)}{os.getpid()}.{secrets.token_hex(4)}")
    _sweep(target)
    try:
        try:  # before the file is there: Ctrl-C may come as soon as it is
            with open(temporary, mode.replace("w", "x"), opener=_private) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, _mode_for(target))
            os.replace(temporary, target)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
    except OSError as error:
        if error.errno and error.filename in (None, str(temporary)):
            error.filename = str(path)
        raise


def _private(path: str, flags: int) -> int:
    """Open a file that nobody else can read before it has the mode that it will have."""
    return os.open(path, flags, 0o600)


def _prefix(target: Path) -> str:
    """How the temporary names of a file begin on this machine; a process number follows."""
    return f".{target.name}.{platform.node()}-"


def _sweep(target: Path) -> None:
    """Remove what processes of this machine that are gone have left of `target`."""
    prefix = _prefix(target)
    with contextlib.suppress(OSError):  # another process sweeps too
        for left in os.scandir(target.parent):
            writer = left.name.removeprefix(prefix).partition(".")[0]
            if left.name.startswith(prefix) and writer.isdigit() and not _alive(int(writer)):
                os.unlink(left)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True


@contextlib.contextmanager
def locked(path: str | os.PathLike[str]) -> Iterator[None]:
    """Keep other processes that ask for the same lock from `path` until the block ends.

    The lock of a process that is gone, however it ended, does not count.

    Raises
    ------
    DataError
        If another one has it; names its process.
    OSError
        If the lock, a file beside `path`, cannot be made.
    """
    target = Path(path).resolve()
    lock = target.with_name(f".{target.name}.lock")
    descriptor = _locked(lock, path)
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        yield
    finally:
        os.unlink(lock)
        os.close(descriptor)


def _locked(lock: Path, path: str | os.PathLike[str]) -> int:
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if lock.exists() and os.path.samestat(os.stat(lock), os.fstat(descriptor)):
                return descriptor
        except BlockingIOError:
            holder = os.read(descriptor, 20).decode() or "another"
            os.close(descriptor)
            raise DataError(
                f"{path} is in use by process {holder}; wait for it, or name another file"
            ) from None
        os.close(descriptor)  # its owner has just removed it


def _mode_for(target: Path) -> int:
    try:
        return stat.S_IMODE(target.stat().st_mode)
    except FileNotFoundError:
        umask = os.umask(0)
        os.umask(umask)
        return 0o666 & ~umask
