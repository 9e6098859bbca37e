"""The kernels where Numba's and OpenBLAS's variables are set: they agree with the reference."""

import os
import shutil
import stat
from pathlib import Path
from types import SimpleNamespace

import numba
import processes
import pytest
from patching import own

from fastmnist.kernels import jit

# Compiled anew, and so as little of it as will do.
PREDICTS = """
import agreement
from fastmnist import kernels

for sizes, density in (((30, 20, 10), 0.2), ((70, 65, 17), 0.9)):
    case = agreement.random_case(0, sizes, 150, density)
    agreement.check_probabilities(kernels, case)
"""
LEARNS = f"{PREDICTS}    agreement.check_gradients(kernels, case)"

SUITE = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_kernels.py"]

OTHERS = {
    "any": {"NUMBA_CPU_NAME": "generic", "OPENBLAS_CORETYPE": "Prescott"},
    "Haswell": {"NUMBA_CPU_NAME": "haswell", "OPENBLAS_CORETYPE": "Haswell"},
}


def run(arguments, variables):
    """Run Python with such variables, with the tests at hand."""
    found = os.pathsep.join([str(Path(__file__).parent), str(processes.ROOT)])
    environment = processes.environment(PYTHONPATH=found, **variables)
    done = processes.run(*arguments, env=environment, timeout=1800)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="modes mean nothing here")
def test_a_cache_that_others_can_write_is_not_used_and_warned_of_once(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTMNIST_CACHE", str(tmp_path))
    monkeypatch.setattr(jit, "_warned", [])
    folder = jit.folder.__wrapped__
    ours = folder()
    assert ours.is_relative_to(tmp_path)
    assert stat.S_IMODE(ours.stat().st_mode) == 0o700
    ours.chmod(0o777)
    with pytest.warns(UserWarning, match="can be written by others"):
        assert folder() is None
    assert folder() is None  # a second warning would be an error


def test_a_cache_that_cannot_be_written_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTMNIST_CACHE", str(tmp_path))
    monkeypatch.setattr(jit, "_warned", [])
    own(monkeypatch, jit, "os").access = lambda *_: False  # nothing is forbidden to root
    with pytest.warns(UserWarning, match="cannot be written"):
        assert jit.folder.__wrapped__() is None


def test_any_change_of_a_source_gives_another_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTMNIST_CACHE", str(tmp_path))
    package = Path(shutil.copytree(Path(jit.__file__).parent.parent, tmp_path / "package"))
    monkeypatch.setattr(jit, "resources", SimpleNamespace(files=lambda _: package))
    names = [jit.folder.__wrapped__().name]
    assert jit.folder.__wrapped__().name == names[0]
    for source in ("kernels/step.py", "kernels/vectors.py", "counter_based.py", "parameters.py"):
        (package / source).write_text("changed", "utf-8")
        names.append(jit.folder.__wrapped__().name)
    monkeypatch.setattr(numba, "__version__", "0.0")
    names.append(jit.folder.__wrapped__().name)
    assert len(set(names)) == len(names)


@pytest.mark.compiled
@pytest.mark.fault(row=95)
@pytest.mark.parametrize("processor", OTHERS)
def test_code_for_other_processors_agrees(processor, times):
    if not times(processor == "Haswell", True):
        pytest.skip("compiles for 5 s; with --long")
    run(times(["-c", PREDICTS], SUITE), OTHERS[processor])


@pytest.mark.compiled
@pytest.mark.fault(row=96)
def test_checked_bounds_are_kept(times):
    run(times(["-c", PREDICTS], SUITE), {"NUMBA_BOUNDSCHECK": "1"})


@pytest.mark.fault(row=96)
def test_uncompiled_kernels_agree(times):
    run(times(["-c", LEARNS], SUITE), {"NUMBA_DISABLE_JIT": "1"})
