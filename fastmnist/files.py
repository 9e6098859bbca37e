"""Where files are kept, and how they are written so that nothing is lost."""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import secrets
import stat
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO
from unicodedata import normalize

import platformdirs

from fastmnist.errors import DataError

# What a file system without locks answers: Lustre, NFS, others, Windows of a network drive.
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL)


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
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
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
    mode = _mode_of(target)
    try:
        try:  # before the file is there: Ctrl-C may come as soon as it is
            with open(temporary, "xb", opener=_private if mode is not None else None) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            if mode is not None and sys.platform != "win32":  # read-only: cannot be moved
                os.chmod(temporary, mode)
            _replace(temporary, target)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
    except OSError as error:
        if error.errno and error.filename in (None, str(temporary)):
            error.filename = str(path)
        raise


def _mode_of(target: Path) -> int | None:
    try:
        return stat.S_IMODE(target.stat().st_mode)
    except FileNotFoundError:
        return None


def _private(path: str, flags: int) -> int:
    """Open a file that nobody else can read before it has the mode that it will have."""
    return os.open(path, flags, 0o600)


def _prefix(target: Path) -> str:
    """How the temporary names of a file begin on this machine; a process number follows."""
    return f".{target.name}.{platform.node()}-"


def _sweep(target: Path) -> None:
    """Remove what processes of this machine that are gone have left of `target`."""
    prefix = normalize("NFC", _prefix(target))  # macOS's HFS+ gives names decomposed
    with contextlib.suppress(OSError):  # another process sweeps too
        for left in os.scandir(target.parent):
            name = normalize("NFC", left.name)
            writer = name.removeprefix(prefix).partition(".")[0]
            if name.startswith(prefix) and writer.isdigit() and not _alive(int(writer)):
                os.unlink(left)


def _alive(process: int) -> bool:
    import psutil  # 20 ms, only where something was left

    return bool(psutil.pid_exists(process))


def _replace(temporary: Path, target: Path) -> None:
    """`os.replace`; Windows refuses it while somebody reads `target`, so there for 2 s again."""
    for attempt in range(10 if sys.platform == "win32" else 0):
        with contextlib.suppress(PermissionError):
            os.replace(temporary, target)
            return
        time.sleep(0.002 * 2**attempt)
    os.replace(temporary, target)


@contextlib.contextmanager
def locked(path: str | os.PathLike[str]) -> Iterator[None]:
    """Keep other processes that ask for the same lock from `path` until the block ends.

    The lock of a process that is gone, however it ended, does not count. On a file system without
    locks there is a warning instead.

    Raises
    ------
    DataError
        If another one has it; names its process.
    OSError
        If the lock, a file beside `path`, cannot be made.
    """
    target = Path(path).resolve()
    lock = target.with_name(f".{target.name}.lock")
    try:
        descriptor, is_locked = _open_locked(lock)
    except BlockingIOError:
        raise DataError(
            f"{path} is in use by {_holder(lock)}; wait for it, or name another file"
        ) from None
    try:
        os.write(descriptor, b" %-20d" % os.getpid())
        if not is_locked:
            warnings.warn(
                f"the file system of {target.parent} has no locks; let no other process write "
                f"{target.name}",
                stacklevel=3,
            )
        yield
    finally:
        _remove(lock, descriptor)


def _holder(lock: Path) -> str:
    """Which process has a lock: it has written so, behind the first byte, which Windows locks."""
    with contextlib.suppress(OSError, ValueError), open(lock, "rb", buffering=0) as file:
        file.seek(1)
        return f"process {int(file.read(20))}"
    return "another process"


def _open_locked(lock: Path) -> tuple[int, bool]:
    """Open a file and lock it until it is closed; whether the file system has locks.

    Raises
    ------
    BlockingIOError
        If it is locked already.
    OSError
        If it cannot be opened.
    """
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            is_locked = _lock(descriptor)
            if not is_locked or _is_at(lock, descriptor):
                return descriptor, is_locked
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # its owner has just removed it


def _lock(descriptor: int) -> bool:
    """Lock an open file: True, or False on a file system without locks."""
    from filelock import lock_descriptor  # 30 ms, only where it is needed

    try:
        if lock_descriptor(descriptor, blocking=False):
            return True
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return False
        raise
    raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether an open file still has this name."""
    named = True
    if sys.platform != "win32":  # where nobody can take it away
        try:
            named = os.path.samestat(os.stat(path), os.fstat(descriptor))
        except FileNotFoundError:
            named = False
    return named


def _remove(path: Path, descriptor: int) -> None:
    """Remove a file that we have locked, and close it."""
    if sys.platform == "win32":  # where nobody can remove what is open
        os.close(descriptor)
        with contextlib.suppress(OSError):  # another one has opened it since
            os.unlink(path)
    else:  # first removed, or another one could lock what then disappears
        with contextlib.suppress(OSError):
            os.unlink(path)
        os.close(descriptor)
