"""Patches that reach one module, not the whole process.

The process belongs to other threads, too: to Dask's, whose timers never fire again when a test sets
`time.monotonic` 32 years ahead.
"""

from __future__ import annotations

import pkgutil
import sys
import types

import pytest

# What everybody looks up in `sys`, so that no copy of a module's own would be seen.
_ALLOWED = {("sys", name) for name in ("argv", "stdin", "stdout", "stderr", "unraisablehook")}


def own(patch: pytest.MonkeyPatch, user: types.ModuleType, name: str) -> types.SimpleNamespace:
    """Give `user` a copy of the module that it imports as `name`, to be changed, and return it.

    ``own(monkeypatch, files, "os").kill = refused`` changes nothing for others than `files`.
    """
    copy = types.SimpleNamespace(**vars(getattr(user, name)))
    patch.setattr(user, name, copy)
    return copy


def refuse_changes_of_the_process() -> None:
    """Let `monkeypatch` refuse to change modules and classes of the standard library."""
    for method in ("setattr", "delattr"):
        setattr(pytest.MonkeyPatch, method, _guarded(getattr(pytest.MonkeyPatch, method)))


def _guarded(method):
    def guarded(self, target, name=None, *arguments, **options):
        owner, attribute = target, name
        if isinstance(target, str):
            path, _, attribute = target.rpartition(".")
            owner = pkgutil.resolve_name(path)
        module = _module_of(owner)
        if module.split(".")[0] in sys.stdlib_module_names and (module, attribute) not in _ALLOWED:
            raise RuntimeError(
                f"this would change {module} for every thread of the process; "
                "change the copy of one module: see tests/patching.py"
            )
        given = () if name is None else (name,)
        return method(self, target, *given, *arguments, **options)

    return guarded


def _module_of(owner: object) -> str:
    """The name of the module that `owner` is or, a class, was defined in; else nothing."""
    if isinstance(owner, types.ModuleType):
        return owner.__name__
    return owner.__module__ if isinstance(owner, type) else ""
