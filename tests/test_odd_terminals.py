"""The command line where output goes nowhere, to a full disk, or to a simple terminal."""

import errno
import os
import re
import sys

import numpy as np
import processes
import pytest

import fastmnist as fm
from fastmnist import MLP, datasets
from fastmnist.cli import main

FULL = f"fastmnist: {os.strerror(errno.ENOSPC)}\n"
COMMAND = ["-m", "fastmnist"]


@pytest.fixture(autouse=True)
def files(monkeypatch, tmp_path):
    """A folder with a few digits, and a model that reads them."""
    monkeypatch.chdir(tmp_path)
    digits = datasets.generate(60)
    rows = np.column_stack([digits.labels, digits.images.reshape(60, -1)])
    np.savetxt("digits.csv", rows, "%d", ",")
    MLP([784, 10]).save("model.npz")
    return tmp_path


TRAIN = ["train", "--data", "digits.csv", "--epochs", "1", "--hidden", "8"]
COMMANDS = {
    "train": TRAIN,
    "train --json": [*TRAIN, "--json"],
    "evaluate": ["evaluate", "model.npz", "--data", "digits.csv"],
    "recipes": ["recipes"],
    "help": ["train", "--help"],
    "version": ["--version"],
}


@pytest.mark.fault(row=101)
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
@pytest.mark.parametrize("name", ["train --json", "recipes", "help"])
def test_output_to_a_full_disk_fails_with_1(name, files):
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = processes.run(*COMMAND, "-q", *COMMANDS[name], stdout=full, cwd=files)
    assert done.returncode == 1
    assert done.stderr.endswith(FULL)
    assert "Traceback" not in done.stderr


@pytest.mark.fault(row=101)
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_messages_to_a_full_disk_fail_with_1(files):
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = processes.run(*COMMAND, *TRAIN, stderr=full, cwd=files)
    assert done.returncode == 1


@pytest.mark.fault(row=101)
@pytest.mark.skipif(os.name != "posix", reason="a shell of POSIX")
def test_whoever_reads_may_stop_after_a_line(files):
    command = f'"{sys.executable}" -m fastmnist recipes | head -1; exit ${{PIPESTATUS[0]}}'
    code = f"import subprocess, sys; sys.exit(subprocess.call(['bash', '-c', {command!r}]))"
    done = processes.run("-c", code, cwd=files)
    assert done.stdout.startswith("quick ")
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""


PLAIN = {
    "LC_ALL": "C",
    "LANG": "C",
    "PYTHONIOENCODING": "ascii",
    "PYTHONUTF8": "0",
    "TERM": "dumb",
    "NO_COLOR": "1",
    "COLUMNS": "20",
}


@pytest.mark.fault(row=102)
@pytest.mark.parametrize("name", ["train", "evaluate", "help"])
def test_a_plain_terminal_gets_plain_text(name, files):
    environment = processes.environment(**PLAIN)
    done = processes.run(*COMMAND, *COMMANDS[name], cwd=files, env=environment)
    assert done.returncode == 0, done.stderr
    assert (done.stdout + done.stderr).isascii()
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", done.stdout + done.stderr)


@pytest.mark.fault(row=102)
@pytest.mark.skipif(os.name != "posix", reason="terminals of POSIX")
@pytest.mark.parametrize(
    ("variables", "codes"),
    [
        ({"TERM": "dumb", "NO_COLOR": None}, r"\x1b"),
        ({"TERM": "xterm", "NO_COLOR": "1"}, r"\x1b\[[0-9;]*(3[0-7]|9[0-7]|38|48)[0-9;]*m"),
    ],
    ids=["dumb", "without colours"],
)
@pytest.mark.parametrize("name", ["train", "help"])
def test_a_terminal_gets_no_codes_that_it_does_not_know(variables, codes, name, files):
    outer, inner = os.openpty()
    environment = processes.environment(COLUMNS="20", **variables)
    process = processes.start(
        *COMMAND, *COMMANDS[name], stdout=inner, stderr=inner, cwd=files, env=environment
    )
    os.close(inner)
    shown = b""
    try:
        while part := os.read(outer, 4096):
            shown += part
    except OSError:  # Linux: nobody writes any more
        pass
    os.close(outer)
    assert processes.finish(process).returncode == 0
    assert (b"accuracy" if name == "train" else b"Usage: ") in shown
    assert not re.search(codes.encode(), shown)


@pytest.mark.fault(row=103)
def test_pictures_are_drawn_without_a_display(files):
    pytest.importorskip("matplotlib")
    environment = processes.environment(
        DISPLAY=None, WAYLAND_DISPLAY=None, MPLBACKEND="tkagg", MPLCONFIGDIR=str(files)
    )
    done = processes.run(*COMMAND, "plot", "weights", "model.npz", cwd=files, env=environment)
    assert done.returncode == 0
    assert (files / "fastmnist-weights.png").read_bytes().startswith(b"\x89PNG")


WRITERS = [
    "train --data digits.csv -o {}.npz",
    "evaluate model.npz -o {}.png",
    "predict model.npz digits.csv --submission {}.csv",
    "predict model.npz digits.png --several -o {}.png",
    "export model.npz {}.html",
    "plot data --data digits.csv -o {}.png",
    "plot augmented --data digits.csv -o {}.png",
    "plot predictions model.npz -o {}.png",
    "plot weights model.npz -o {}.png",
    "plot saliency model.npz -o {}.png",
    "plot confusion model.npz -o {}.png",
    "plot history model.npz -o {}.png",
]


@pytest.mark.fault(row=104)
@pytest.mark.parametrize("command", WRITERS)
def test_output_that_cannot_be_written_fails_before_any_work(command, files, monkeypatch, capsys):
    if command.startswith("plot"):
        pytest.importorskip("matplotlib")

    def work(*_, **__):
        raise AssertionError("work has begun")

    monkeypatch.setattr(datasets, "load", work)
    monkeypatch.setattr(datasets, "read_csv", work)
    monkeypatch.setattr(MLP, "load", work)
    monkeypatch.setattr(fm.training, "fit", work)
    (files / "file").touch()
    before = sorted(files.iterdir())
    assert main(command.format("file/out").split()) == 1
    assert re.fullmatch("fastmnist: file/out.* cannot be written: .*\n", capsys.readouterr().err)
    assert sorted(files.iterdir()) == before


READ_ONLY = """
import os, sys
from fastmnist import cli
os.chdir("/proc")  # where nobody may write, be it root
sys.exit(cli.main(["train", "--data", {data!r}]))
"""


@pytest.mark.fault(row=104)
@pytest.mark.skipif(not os.path.isdir("/proc"), reason="no /proc")
def test_a_folder_that_is_read_only_is_told_before_any_work(files):
    done = processes.run("-c", READ_ONLY.format(data=str(files / "digits.csv")))
    assert done.returncode == 1
    assert re.fullmatch("fastmnist: fastmnist-model.npz cannot be written: .*\n", done.stderr)
