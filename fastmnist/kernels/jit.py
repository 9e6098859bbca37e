"""The decorators that compile, with every flag and its reason, and their cache on disk."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import warnings
from collections.abc import Callable, Iterator
from functools import cache, wraps
from pathlib import Path
from typing import Any

import numba
import numba.extending
import numpy as np
from numba.core import types
from numba.core.caching import FunctionCache, _CacheLocator

from fastmnist.files import cache_dir
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
    if not OFF and folder() is not None:
        dispatcher._cache = _Cache(function)
    return dispatcher


@cache
def folder() -> Path | None:
    """Where compiled kernels are kept; None, after one warning, if there is no safe place.

    The name holds a hash of all sources of this package's kernels, of the constants that they take
    from elsewhere, and of Numba's version: Numba itself notices a change in a function's own file
    only, and would run old code of a callee. And whether bounds are checked, which Numba forgets.
    The files are pickles, so the folder must be ours and writable by nobody else.
    """
    digest = hashlib.sha256(f"{numba.__version__} {numba.config.BOUNDSCHECK}".encode())
    here = Path(__file__).parent
    constants = [here.parent / "counter_based.py", here.parent / "parameters.py"]
    for source in [*sorted(here.glob("*.py")), *constants]:
        digest.update(source.read_bytes())
    path = cache_dir() / "kernels" / digest.hexdigest()[:16]
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.stat()
        if hasattr(os, "getuid") and (
            found.st_uid != os.getuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        ):
            raise PermissionError(f"{path} can be written by others")
        if not os.access(path, os.W_OK | os.X_OK):
            raise PermissionError(f"{path} cannot be written")
    except (OSError, RuntimeError) as error:  # RuntimeError: no home folder
        _warn(error)
        return None
    return path


_warned: list[bool] = []


def _warn(error: Exception) -> None:
    """Say so once, however many kernels there are."""
    if _warned:
        return
    _warned.append(True)
    warnings.warn(
        f"compiled kernels cannot be kept on disk, so every start compiles anew: {error}; "
        "name a writable folder in FASTMNIST_CACHE",
        stacklevel=2,
    )


class _Locator(_CacheLocator):
    """Tells Numba to use our folder."""

    def __init__(self, file: str) -> None:
        self._file = file

    @classmethod
    def from_function(cls, py_func: Any, py_file: str) -> _Locator:
        return cls(py_file)

    def get_cache_path(self) -> str:
        return str(folder())

    def get_source_stamp(self) -> str:
        return hashlib.sha256(Path(self._file).read_bytes()).hexdigest()

    def get_disambiguator(self) -> str:
        return ""


class _Cache(FunctionCache):
    """Numba's cache, except that a fault of the disk costs a compilation, never an error."""

    class _impl_class(FunctionCache._impl_class):
        _locator_classes = (_Locator,)

    @contextlib.contextmanager
    def _guard_against_spurious_io_errors(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # unpickling garbage raises anything
            if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
                _warn(error)  # such as a full disk
            with contextlib.suppress(OSError):
                self.flush()  # forget a damaged index, so that the next compilation is kept
