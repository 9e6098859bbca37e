"""The machinery of these tests: a hang ends, and tells where it was; tests keep to themselves."""

import ast
import os
import shutil
import sys
import threading
import time
from pathlib import Path

import processes
import psutil
import pytest
from patching import own

from fastmnist import files, training

HERE = Path(__file__).parent

HANGS = """
import threading
import pytest

def never():
    threading.Event().wait()

@pytest.mark.timeout(2)
def test_hangs():
    threading.Thread(target=never, daemon=True).start()
    never()
"""


@pytest.mark.parametrize("way", [["-n0"], ["-n1"]], ids=["in turn", "in parallel"])
def test_a_test_that_hangs_ends_and_tells_where_every_thread_stands(tmp_path, way):
    for file in ("conftest.py", "patching.py", "processes.py", "unchanged.py"):
        shutil.copy(HERE / file, tmp_path)
    shutil.copy(HERE.parent / "pyproject.toml", tmp_path)
    (tmp_path / "test_it.py").write_text(HANGS, "utf-8")
    done = processes.run("-m", "pytest", *way, "test_it.py", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.count("in never") == 2
    assert done.stderr.count("in test_hangs") == 1


def test_a_program_that_hangs_ends_and_tells_where_it_stands():
    program = "import time\ndef rests(): time.sleep(100)\nrests()"
    with pytest.raises(pytest.fail.Exception, match="in rests"):
        processes.run("-c", program, timeout=1)


STARTS_ANOTHER = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"])
print(child.pid, flush=True)
child.wait()
"""


def test_what_a_test_starts_ends_with_it_and_so_does_what_that_starts():
    def fails():
        child = processes.start("-c", STARTS_ANOTHER)
        started.append(psutil.Process(child.pid))
        started.append(psutil.Process(int(processes.wait_for_line(child, "stdout", ""))))
        raise ZeroDivisionError

    started = []
    with pytest.raises(ZeroDivisionError), processes.none_left():
        fails()
    assert len(started) == 2
    assert psutil.wait_procs(started, timeout=20)[1] == []


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (time, "monotonic"),
        (training.time, "monotonic"),
        (os, "replace"),
        (os.path, "exists"),
        (sys, "exit"),
        (threading.Thread, "start"),
    ],
)
def test_the_process_is_not_patched(owner, name, monkeypatch):
    usual = getattr(owner, name)
    for change in (
        lambda: monkeypatch.setattr(owner, name, None),
        lambda: monkeypatch.setattr(f"fastmnist.training.time.{name}", None),
        lambda: monkeypatch.delattr(owner, name),
    ):
        with pytest.raises(RuntimeError, match="every thread of the process"):
            change()
    assert getattr(owner, name) is usual


def test_a_module_has_its_own_copy_of_another(monkeypatch):
    usual = os.replace
    own(monkeypatch, files, "os").replace = None
    assert files.os.replace is None
    assert files.os.fsync is os.fsync
    assert os.replace is usual
    monkeypatch.undo()
    assert files.os is os


PROGRAMS = {"arm64.py", "mutants.py", "processors.py", "soak.py"}
STARTS_PROGRAMS = {
    *(f"subprocess.{name}" for name in ("Popen", "run", "call", "check_call", "check_output")),
    *("os.fork", "os.posix_spawn", "os.system"),
}


@pytest.mark.parametrize("name", sorted({path.name for path in HERE.glob("*.py")} - PROGRAMS))
def test_tests_change_no_module_and_start_programs_in_one_place_only(name):
    tree = ast.parse((HERE / name).read_text("utf-8"))
    imported = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name.partition(".")[0] in sys.stdlib_module_names
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in imported:
            where = f"line {node.lineno}: {ast.unparse(node)}"
            assert isinstance(node.ctx, ast.Load), f"{where} is changed; see patching.py"
            if name != "processes.py":
                assert ast.unparse(node) not in STARTS_PROGRAMS, f"{where}; see processes.py"


FAULTY = """
import subprocess, sys

def test_leaves_one():
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"], start_new_session=True)

def test_fails():
    assert False
"""


def test_a_soak_tells_what_failed_and_what_was_left(tmp_path):
    test = tmp_path / "test_it.py"
    test.write_text(FAULTY, "utf-8")
    output = ("--output", tmp_path / "soak")
    command = ("-m", "tests.soak", "--runs", "1", "--busy", "1", *output, test, "-W", "ignore")
    done = processes.run(*command)
    header, run, end = done.stdout.splitlines()
    assert header.split("\t")[1] == "seed"
    assert "\ttest_fails, left behind: " in run
    assert end.startswith("0 of 1 passed; longest test: ")
    assert (tmp_path / "soak" / "runs.tsv").read_text("utf-8").splitlines() == [run]
    assert (done.returncode, done.stderr) == (1, "")


def test_a_soak_that_passes(tmp_path):
    test = tmp_path / "test_it.py"
    test.write_text("def test_it(): pass", "utf-8")
    command = ("-m", "tests.soak", "--runs", "1", "--busy", "0", "--output", tmp_path, test)
    assert "1 of 1 passed" in processes.succeeds(*command)
