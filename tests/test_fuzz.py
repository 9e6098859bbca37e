"""Every reader, fed with damaged and hostile files: `python -m tests.fuzz`, a little of it."""

import signal
from pathlib import Path

import processes
import pytest
from fuzz import readers

from fastmnist.errors import DataError

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no limit of time here")
NEEDED = {"picture": "PIL", "safetensors": "safetensors"}


@pytest.mark.parametrize("name", readers.READERS)
def test_a_file_is_refused_with_one_error_or_read_right(name, tmp_path, times):
    if name in NEEDED:
        pytest.importorskip(NEEDED[name])
    reader = readers.READERS[name]
    path = tmp_path / f"file{reader.ending}"
    count, accepted = times(300, 20_000), 0
    for content in readers.inputs(name, count, seed=7):
        accepted += readers.execute(reader, content, path)
    assert 0 < accepted < count  # the valid ones, and some that are still valid


@pytest.mark.parametrize("name", readers.READERS)
def test_valid_files_are_accepted(name, tmp_path):
    if name in NEEDED:
        pytest.importorskip(NEEDED[name])
    reader = readers.READERS[name]
    seeds = reader.seeds()
    accepted = [readers.execute(reader, s, tmp_path / f"file{reader.ending}") for s in seeds]
    assert all(accepted)


def test_found_files_are_of_a_reader():
    kept = [path.name.partition("-")[0] for path in readers.FOUND.iterdir()]
    assert set(kept) <= set(readers.READERS)


def _raise_another(path):
    raise KeyError(path)


def _forget_the_name(path):
    raise DataError("something is wrong")


def _promise_nothing(path):
    raise AssertionError("read wrong")


def _never_end(path):
    while True:
        pass


def _never_end_and_catch_all(path):
    while True:
        try:
            _never_end(path)
        except Exception:
            continue


def _take_memory(path):
    return b"x" * (readers.peak() + 2**22)  # on macOS, more than ever before


@pytest.mark.parametrize(
    ("read", "error"),
    [
        (_raise_another, KeyError),
        (_forget_the_name, AssertionError),
        (_promise_nothing, AssertionError),
        (_never_end, readers.TooSlow),
        (_never_end_and_catch_all, readers.TooSlow),
        (_take_memory, readers.TooLarge),
    ],
)
def test_a_reader_that_is_wrong_is_found_out(read, error, tmp_path):
    limit = 0.5 if error is readers.TooSlow else 60
    wrong = readers.READERS["idx"]._replace(read=read, seconds=limit, memory=2**20)
    with pytest.raises(error):
        readers.execute(wrong, b"", tmp_path / "file")


@pytest.mark.parametrize("way", [["--plain"], []], ids=["random", "guided"])
def test_the_command_reports_each_reader(way):
    if not way:
        pytest.importorskip("atheris")
    command = ("-m", "tests.fuzz", "idx", "gzip", "--executions", "50", *way)
    done = processes.run(*command, env=processes.environment(PYTHONPATH=str(processes.ROOT)))
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.split(",")[0] for line in done.stdout.splitlines()] == [
        f"{name}: 50 {'random' if way else 'guided'} files" for name in ("idx", "gzip")
    ]
