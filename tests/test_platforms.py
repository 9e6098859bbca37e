"""Odd places to run in: packages that are absent, little memory, unusual paths and options."""

import json
import os
import re
import sys
from pathlib import Path

import numpy as np
import processes
import pytest
from trained import trained

import fastmnist as fm
from fastmnist import datasets
from fastmnist.cli import main

HERE = Path(__file__).parent

ABSENT = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {package!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
"""

# What works without the package, and what must then say which one is missing.
WITHOUT = {
    "numba": (
        "import numpy as np, fastmnist as fm\n"
        "model, X = fm.MLP([4, 8, 2]), np.eye(4, dtype=np.uint8)\n"
        "fm.fit(model, fm.Dataset(X, np.arange(4) % 2), backend='reference')\n"
        "model.save('model.npz'); fm.MLP.load('model.npz').predict(X)",
        "fm.fit(model, fm.Dataset(X, np.arange(4) % 2), backend='numba')",
        "pip install numba",
    ),
    "sklearn": (
        "import fastmnist as fm; fm.MLP([4, 2]).predict([[1, 2, 3, 4]] * 64)",
        "import fastmnist.sklearn",
        'pip install "fastmnist[sklearn]"',
    ),
    "matplotlib": (
        "import fastmnist as fm; from fastmnist.cli import main\n"
        "fm.MLP([784, 10]).save('model.npz')",
        "import sys; sys.exit(main(['plot', 'weights', 'model.npz']))",
        'pip install "fastmnist[plots]"',
    ),
    "pooch": (
        "from fastmnist import datasets, download; datasets.generate(20)\n"
        "mnist = download.SETS['mnist']._replace(mirrors=('http://127.0.0.1:9/',))\n"
        "download.SETS['mnist'] = mnist",
        "datasets.load('mnist', data_dir='.')",
        "train-images-idx3-ubyte.gz: No module named 'pooch'",
    ),
}


@pytest.mark.fault(row=97)
@pytest.mark.parametrize("package", WITHOUT)
def test_without_a_package_all_else_works_and_it_is_named(package, tmp_path):
    works, fails, message = WITHOUT[package]
    program = f"{ABSENT.format(package=package)}\n{works}\nprint('works', flush=True)\n{fails}"
    environment = processes.environment(FASTMNIST_DATA=None, PYTHONPATH=str(processes.ROOT))
    done = processes.run("-c", program, cwd=tmp_path, env=environment)
    assert done.stdout == "works\n"
    assert done.returncode == 1
    assert message in done.stderr


LIMITED = """
import resource, sys
import numpy as np
import fastmnist as fm
from fastmnist.cli import main
from trained import trained
before = trained()
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**27, used + 2**27))
try:
    fm.MLP([784, 100_000, 10])
except MemoryError as error:
    print(error)
assert trained() == before
sys.exit(main(["train", "--data", "digits.csv", "--hidden", "100000"]))
"""


@pytest.mark.fault(row=98)
@pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")
def test_without_enough_memory_the_size_is_told_and_smaller_networks_train(tmp_path):
    digits = datasets.generate(30)
    rows = np.column_stack([digits.labels, digits.images.reshape(30, -1)])
    np.savetxt(tmp_path / "digits.csv", rows, "%d", ",")
    path = os.pathsep.join([str(HERE), str(processes.ROOT)])
    environment = processes.environment(PYTHONPATH=path)
    done = processes.run("-c", LIMITED, cwd=tmp_path, env=environment)
    size = "Unable to allocate [0-9.]+ [MG]iB"
    assert re.match(size, done.stdout)
    assert re.fullmatch(f"fastmnist: not enough memory: {size}.*", done.stderr.splitlines()[-1])
    assert "Traceback" not in done.stderr
    assert done.returncode == 1
    assert os.listdir(tmp_path) == ["digits.csv"]


PATHS = {
    "unicode": "zürich 数字 🖊",
    "spaces": " two  words ",
    "quotes": 'it\'s "this" [0] %s {} $HOME',
    "a line break": "first\nsecond",
    "surrogates": os.fsdecode(b"\xe9t\xe9"),
    "200 letters": "n" * 200,
}


@pytest.mark.fault(row=99)
@pytest.mark.parametrize("name", PATHS.values(), ids=PATHS)
def test_any_name_of_a_file_works(name, tmp_path, capsys):
    digits = datasets.generate(30)
    rows = np.column_stack([digits.labels, digits.images.reshape(30, -1)])
    folder = tmp_path / name
    folder.mkdir()
    np.savetxt(folder / "digits.csv", rows, "%d", ",")
    model = str(folder / f"{name}.npz")
    assert main(["train", "--data", str(folder / "digits.csv"), "--epochs", "1", "-o", model]) == 0
    assert main(["evaluate", model, "-o", str(folder / "mistakes.png")]) == 0
    assert main(["evaluate", model, "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["model"] == model


@pytest.mark.fault(row=99)
@pytest.mark.parametrize("path", ["n" * 4096, "n/" * 2100], ids=["name", "path"])
def test_what_cannot_be_the_name_of_a_file_is_told(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model = fm.MLP([784, 10])
    with pytest.raises(OSError, match="too long"):
        model.save(f"{path}.npz")
    with pytest.raises(fm.ModelFileError, match="too long"):
        fm.MLP.load(f"{path}.npz")
    with pytest.raises(fm.DataError, match="too long"):
        fm.load(f"{path}/digits.csv")
    data = ["--data", f"{path}/digits.csv"]
    for arguments in (["train", "-o", path], ["train", *data], ["evaluate", path]):
        assert main(arguments) == 1
        assert re.fullmatch("fastmnist: .*too long\n", capsys.readouterr().err)
    assert not list(tmp_path.iterdir())


OPTIONS = {
    "-W error": ({}, "-W", "error"),
    "-O": ({}, "-O"),
    "-X dev": ({}, "-X", "dev"),
    "hash seed 1": ({"PYTHONHASHSEED": "1"},),
}


@pytest.mark.kernels  # whose bits do not vary
@pytest.mark.fault(row=105)
@pytest.mark.parametrize("option", OPTIONS)
def test_options_of_python_change_no_bit_and_raise_no_warning(option):
    variables, *arguments = OPTIONS[option]
    path = os.pathsep.join([str(HERE), str(processes.ROOT)])
    environment = processes.environment(PYTHONPATH=path, **variables)
    code = "from trained import trained; print(trained(optimizer='adam'))"
    printed = processes.succeeds(*arguments, "-c", code, env=environment)
    assert printed.strip() == trained(optimizer="adam")
