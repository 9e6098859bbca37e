"""pytest-benchmark beside the other tests, whose warnings are errors."""

import json
import shutil
from pathlib import Path

import processes
import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture
def timed(tmp_path):
    """Time one test in a folder of its own, with the settings of this project."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "test_it.py").write_text("def test_it(benchmark):\n    benchmark(int)\n", "utf-8")
    ways = ["-p", "no:randomly", "--benchmark-enable", "--benchmark-max-time=0.01"]

    def run(*options):
        alone = processes.environment(PYTEST_XDIST_WORKER=None)  # in parallel nothing is saved
        return processes.run("-m", "pytest", "test_it.py", *ways, *options, cwd=tmp_path, env=alone)

    return run


def test_a_comparison_without_a_saved_run_says_so(timed):
    done = timed("--benchmark-compare")
    assert done.returncode == 0, done.stderr
    assert "Can't load the previous benchmark" in done.stderr


def test_a_run_of_another_machine_is_compared_with_a_warning(timed, tmp_path):
    assert timed("--benchmark-autosave").returncode == 0
    [path] = tmp_path.glob(".benchmarks/*/*.json")
    saved = json.loads(path.read_text("utf-8"))
    saved["machine_info"]["cpu"]["hz_actual_friendly"] = "1.0000 GHz"
    path.write_text(json.dumps(saved), "utf-8")
    done = timed("--benchmark-compare")
    assert done.returncode == 0, done.stderr
    assert "machine_info is different" in done.stderr
    assert "(0001" in done.stdout  # the row of the saved run


def test_both_backends_follow_each_other_and_names_hold_the_images():
    collect = ("--collect-only", "-q", "-p", "no:randomly")
    printed = processes.succeeds("-m", "pytest", "benchmarks", *collect)
    names = [line for line in printed.splitlines() if "::" in line]
    assert len(names) == 48
    for reference, numba in zip(names[::2], names[1::2], strict=True):
        assert numba == reference.replace("reference", "numba") != reference
        assert "synthetic" in numba or "mnist" in numba
