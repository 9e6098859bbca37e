"""The decorators that compile, with every flag and its reason, and their cache on disk."""

from __future__ import annotations

import contextlib
import hashlib
import linecache
import os
import pickle
import stat
import sys
import warnings
from collections.abc import Callable, Iterator
from functools import cache, wraps
from importlib import resources
from pathlib import Path
from typing import Any

import numba
import numba.extending
import numpy as np
from numba.core import types
from numba.core.caching import NullCache
from numba.core.compiler import CompileResult
from numba.core.registry import cpu_target
from numba.core.serialize import dumps

from fastmnist.files import atomic_write, cache_dir
from fastmnist.kernels import plain

OFF = bool(numba.config.DISABLE_JIT)  # NUMBA_DISABLE_JIT=1: the kernels run as plain Python


def jit(function: Callable[..., Any]) -> Any:
    """Compile `function`, which only compiled code calls; keep the result on disk."""
    return _compiled(function, no_cpython_wrapper=True)


def entry(function: Callable[..., Any]) -> Any:
    """The same for a function that Python calls: the wrapper for that takes long to compile."""
    # compiled code warns of no overflow, so neither does the same code uncompiled
    return np.errstate(all="ignore")(function) if OFF else _compiled(function)


def inlined(function: Callable[..., Any]) -> Any:
    """The same, copied into every caller: for what is called once a sample.

    A call counts up and down, atomically, the references to each array it is given: 20 cycles
    each (packing 10 activations: 2.4 times as slow). LLVM does so by itself with short functions.
    """
    return _compiled(function, no_cpython_wrapper=True, forceinline=True)


def intrinsic(function: Callable[..., Any], *, prefer_literal: bool = False) -> Any:
    """Numba's `intrinsic`, or where compilation is off the function of `plain` of that name."""
    if not OFF:
        return numba.extending.intrinsic(prefer_literal=prefer_literal)(function)
    return getattr(plain, function.__name__)


def chosen(choose: Callable[..., Any]) -> Any:
    """One of several functions, which `choose` returns for the types of the arguments.

    It is called when a caller is compiled, with Numba's types, so the choice costs nothing. Where
    compilation is off it is called each time, with the arguments themselves; `kind_of` takes both.
    """
    if not OFF:
        numba.extending.overload(choose)(choose)
        return choose

    @wraps(choose)
    def call(*arguments: Any) -> Any:
        return choose(*arguments)(*arguments)

    return call


def kind_of(value: Any) -> Any:
    """The class of a number or a named tuple, given itself or Numba's type of it."""
    if not OFF and isinstance(value, types.Number):
        return numba.np.numpy_support.as_dtype(value).type
    return getattr(value, "instance_class", type(value))


def _compiled(function: Callable[..., Any], **options: Any) -> Any:
    dispatcher = numba.njit(
        nogil=True,  # the members of a team run at the same time
        error_model="numpy",  # 1.0 / 0.0 is inf, as in the reference, not an exception
        no_cfunc_wrapper=True,  # nobody calls by a C pointer; less to compile
        **options,
    )(function)
    # fastmath stays off: it lets the compiler assume that NaN never occurs and sums in any order
    if not OFF and (kept := folder()) and (identity := _identity(function)):
        dispatcher._cache = _Cache(identity, kept)
    return dispatcher


@cache
def folder() -> Path | None:
    """Where compiled kernels are kept; None, after one warning, if there is no safe place.

    The name holds a hash of all that they are made from: the sources of this package's kernels, the
    constants that those take from elsewhere, the versions of Numba and Python, the processor (of
    machines that share a home), and whether bounds are checked.
    The files are pickles, so the folder must be ours and writable by nobody else.
    """
    try:
        sources = _sources()
    except OSError as error:  # such as in a frozen program
        _warn(f"their sources cannot be read ({error}); install those too")
        return None
    digest = hashlib.sha256(repr((_compiler(), sources)).encode())
    try:
        path = cache_dir() / "kernels" / digest.hexdigest()[:16]
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.stat()
        if hasattr(os, "getuid") and (
            found.st_uid != os.getuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        ):
            raise PermissionError(f"{path} can be written by others")
        if not os.access(path, os.W_OK | os.X_OK):
            raise PermissionError(f"{path} cannot be written")
    except (OSError, RuntimeError) as error:  # RuntimeError: no home folder
        _warn(_no_folder(error))
        return None
    return path


def _compiler() -> tuple[Any, ...]:
    """What compiles, and for which processor."""
    processor = cpu_target.target_context.codegen().magic_tuple()
    return numba.__version__, sys.implementation.cache_tag, processor, numba.config.BOUNDSCHECK


def _sources() -> list[bytes]:
    """What is compiled, wherever the package was imported from."""
    package = resources.files("fastmnist")
    constants = [package / "counter_based.py", package / "parameters.py"]
    kernels = [file for file in (package / "kernels").iterdir() if file.name.endswith(".py")]
    if not kernels:
        raise FileNotFoundError(f"{package} has no sources")
    return [file.read_bytes() for file in [*constants, *sorted(kernels, key=lambda f: f.name)]]


_warned: list[bool] = []


def _warn(reason: str) -> None:
    """Say so once, however many kernels there are."""
    if _warned:
        return
    _warned.append(True)
    warnings.warn(
        f"compiled kernels cannot be kept on disk, so every start compiles them again: {reason}",
        stacklevel=2,
    )


def _no_folder(error: Exception) -> str:
    return f"{error}; name a writable folder in FASTMNIST_CACHE"


@contextlib.contextmanager
def _faults_forgiven() -> Iterator[None]:
    """A fault of the disk costs a compilation, never an error."""
    try:
        yield
    except FileNotFoundError:
        pass  # not compiled yet, or the folder was removed
    except OSError as error:
        _warn(_no_folder(error))  # such as a full disk
    except Exception:
        pass  # what was kept cannot be unpickled here


_SEAL = hashlib.sha256().digest_size  # bytes at the start of a file: a hash of the others


def _identity(function: Callable[..., Any]) -> tuple[str, int, str] | None:
    """Its name, line and a hash of its file; None if those do not say all that it computes."""
    code = function.__code__
    source = "".join(linecache.getlines(code.co_filename, function.__globals__))
    if not source or function.__closure__:
        return None
    stamp = hashlib.sha256(source.encode()).hexdigest()
    return f"{function.__module__}.{function.__name__}", code.co_firstlineno, stamp


class _Cache(NullCache):
    """A cache on disk with a file of its own for each function and signature.

    Numba's numbers the files of a function by the length of its index. Two processes that save at
    once then take the same number, and from then on one signature runs the code of the other, which
    may even be for another processor. Here a file is named by a hash of its key and holds the key,
    so no two keys share anything, and whoever writes the same file writes the same code.
    """

    def __init__(self, function: tuple[str, int, str], kept: Path) -> None:
        self._function = function
        self._folder = kept

    def load_overload(self, sig: Any, target_context: Any) -> CompileResult | None:
        target_context.refresh()
        key = *self._function, sig, target_context.codegen().magic_tuple()
        with _faults_forgiven():
            content = self._path(key).read_bytes()
            if hashlib.sha256(content[_SEAL:]).digest() == content[:_SEAL]:
                of, reduced = pickle.loads(content[_SEAL:])
                if of == key:
                    return CompileResult._rebuild(target_context, *reduced)
        return None

    def save_overload(self, sig: Any, data: CompileResult) -> None:
        if data.library.has_dynamic_globals:  # such as addresses, which another process has not
            return
        key = *self._function, sig, data.codegen.magic_tuple()
        with _faults_forgiven():
            content = dumps((key, data._reduce()))
            with atomic_write(self._path(key)) as file:
                file.write(hashlib.sha256(content).digest() + content)

    def _path(self, key: tuple[Any, ...]) -> Path:
        digest = hashlib.sha256(repr(key).encode()).hexdigest()
        return self._folder / f"{self._function[0]}-{digest[:32]}.kernel"
