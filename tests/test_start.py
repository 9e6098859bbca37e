"""From nothing to a result: programs that run, and two tables."""

import sys

import numba
import numpy as np
import processes
import pytest

import fastmnist as fm
from benchmarks import compilation, start, timing, workloads

pytestmark = pytest.mark.compiled


@pytest.fixture(autouse=True)
def few_synthetic_images(monkeypatch):
    data = fm.Dataset(*workloads.synthetic(300), "synthetic")
    monkeypatch.setattr(workloads, "data", lambda source=None: (data[:200], data[200:]))
    monkeypatch.setattr(workloads, "data_name", lambda: "synthetic")


def test_the_program_opens_trains_and_evaluates(tmp_path):
    script = start.result(workloads.saved(tmp_path), 200)
    found = {}
    exec(script, found)
    assert found["report"].confusion.sum() == 100
    assert np.array_equal(found["data"].train.images, workloads.data()[0].images)
    assert np.array_equal(found["data"].test.labels, workloads.data()[1].labels)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell")
def test_peak_memory_is_that_of_the_program():
    least = start.peak_memory("")
    most = start.peak_memory("import numpy; numpy.ones(50_000_000, numpy.uint8)")
    assert 5 < least < 40
    assert 50 < most - least < 110


def test_a_program_that_fails_ends_it():
    with pytest.raises(SystemExit, match="ended with 3"):
        start.peak_memory("raise SystemExit(3)")


def test_the_command_prints_a_table_of_processes(monkeypatch, capsys):
    monkeypatch.setattr(timing, "REST", 0)
    monkeypatch.setattr(start, "PEERS", {"json": "import json", "none": "import none"})
    arguments = ["--rounds", "1", "--images", "200", "--compilations", "0"]
    monkeypatch.setattr(sys, "argv", ["start", *arguments])
    start.main()
    _, table, imports = capsys.readouterr().out.strip().split("\n\n")
    for lines in (table.splitlines(), imports.splitlines()):
        assert len({line.count("|") for line in lines}) == 1
    first = [line.split(" | ")[0] for line in table.splitlines()[2:]]
    assert first == [f"| {start.OURS}", "| import json"]
    loads = [line.split(" | ")[2] for line in imports.splitlines()[2:]]
    assert loads == ["no |", "no |", "yes |"]


def test_compilation_is_divided_between_numba_and_llvm(monkeypatch):
    def few_kernels():  # of all, it takes 8 s
        for number in range(3):
            numba.njit(lambda x, number=number: np.sort(x) + number)(np.ones(3))

    monkeypatch.setattr(fm.kernels, "warmup", few_kernels)
    parts = compilation.measured()
    assert parts["signatures"] >= parts["functions"] >= 3
    assert min(parts["numba"], parts["llvm"]) > 0.1 * parts["seconds"]
    assert parts["numba"] + parts["llvm"] <= parts["seconds"]
    assert start.compilation_row(1, **parts).count("|") == 7


def test_a_full_cache_is_refused(tmp_path):
    fm.warmup()
    done = processes.run(start.COMPILATION)
    assert done.returncode == 1
    assert "nothing was compiled" in done.stderr
