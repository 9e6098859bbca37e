"""Imported from an archive, or in a frozen program: where the package is, there are no files."""

import zipfile
from pathlib import Path

import processes
import pytest

import fastmnist

pytestmark = [pytest.mark.compiled, pytest.mark.fault(row=89)]

PACKAGE = Path(fastmnist.__file__).parent

USED = """
import numpy as np
import fastmnist as fm
from fastmnist import kernels, system
from fastmnist.kernels import jit

rows = kernels.prepare(np.eye(20, 784, dtype=np.uint8))
np.testing.assert_array_equal(rows.entries["column"][rows.bands[:, 0]], np.arange(20))
print(fm.__spec__.origin, "kept" if jit.folder() else "not kept", system.facts()["fastmnist"])
"""

# As programs are frozen: bytecode without files, and a loader that gives neither sources nor data.
FROZEN = """
import importlib.machinery, pathlib, sys

PACKAGE = pathlib.Path({package!r})

class Frozen:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] != "fastmnist":
            return None
        self.files = getattr(self, "files", {{}})
        file = PACKAGE.parent.joinpath(*name.split("."))
        package = file.is_dir()
        self.files[name] = file / "__init__.py" if package else file.with_suffix(".py")
        return importlib.machinery.ModuleSpec(name, self, is_package=package)

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        source = self.files[module.__name__].read_text(encoding="utf-8")
        exec(compile(source, f"<frozen {{module.__name__}}>", "exec"), vars(module))

sys.meta_path.insert(0, Frozen())
"""

NOT_KEPT = "compiled kernels cannot be kept on disk"


def used(tmp_path, program, **variables):
    """The program's output, and what it warned of."""
    cache = str(tmp_path / "cache")
    quick = {"NUMBA_OPT": "0", "FASTMNIST_CACHE": cache}  # soon compiled
    environment = processes.environment(**quick, **variables)
    done = processes.run("-c", program, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def test_from_an_archive_of_sources_kernels_are_kept_and_data_is_found(tmp_path):
    archive = tmp_path / "package.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in PACKAGE.rglob("*"):
            if path.suffix in (".py", ".html"):
                file.write(path, path.relative_to(PACKAGE.parent))
    page = "fm.MLP([784, 10]).save('model.npz')\nfrom fastmnist.cli import main\n"
    page += "raise SystemExit(main(['export', 'model.npz', 'page.html']))"
    out, err = used(tmp_path, USED + page, PYTHONPATH=str(archive))
    assert f"{archive}" in out
    assert " kept " in out
    assert err == ""
    assert (tmp_path / "page.html").read_bytes().startswith(b"<!DOCTYPE html>")


def test_from_an_archive_of_bytecode_kernels_are_compiled_each_time(tmp_path):
    archive = tmp_path / "package.zip"
    with zipfile.PyZipFile(archive, "w") as file:
        file.writepy(str(PACKAGE))
    out, err = used(tmp_path, USED, PYTHONPATH=str(archive))
    assert f"{archive}" in out
    assert "not kept" in out
    assert err.count("Warning") == err.count(NOT_KEPT) == 1


def test_in_a_frozen_program_kernels_are_compiled_each_time(tmp_path):
    out, err = used(tmp_path, FROZEN.format(package=str(PACKAGE)) + USED)
    assert out.startswith("None not kept")
    assert err.count("Warning") == err.count(NOT_KEPT) == 1
