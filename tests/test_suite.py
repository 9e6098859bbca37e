"""The machinery of these tests: a hang ends, and tells where it was."""

import shutil
from pathlib import Path

import processes
import pytest

HERE = Path(__file__).parent

HANGS = """
import threading
import pytest

def never():
    threading.Event().wait()

@pytest.mark.timeout(1)
def test_hangs():
    threading.Thread(target=never, daemon=True).start()
    never()
"""


@pytest.mark.parametrize("way", [["-n0"], ["-n1"]], ids=["in turn", "in parallel"])
def test_a_test_that_hangs_ends_and_tells_where_every_thread_stands(tmp_path, way):
    for file in ("conftest.py", "unchanged.py"):
        shutil.copy(HERE / file, tmp_path)
    shutil.copy(HERE.parent / "pyproject.toml", tmp_path)
    (tmp_path / "test_it.py").write_text(HANGS)
    done = processes.run("-m", "pytest", *way, "test_it.py", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.count("in never") == 2
    assert done.stderr.count("in test_hangs") == 1


def test_a_program_that_hangs_ends_and_tells_where_it_stands():
    program = "import time\ndef rests(): time.sleep(100)\nrests()"
    with pytest.raises(pytest.fail.Exception, match="in rests"):
        processes.run("-c", program, timeout=1)
