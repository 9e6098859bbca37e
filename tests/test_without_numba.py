"""Where Numba is missing or broken NumPy does all of it, after one line that says so."""

import os
import pickle
import re

import numpy as np
import processes
import pytest

import fastmnist as fm
from fastmnist import datasets

# What importing Numba raises, and what the user is told.
BROKEN = {
    "missing": (
        "ModuleNotFoundError(\"No module named 'numba'\", name='numba')",
        "The kernels need Numba, which is not installed. Install it: pip install numba",
    ),
    "too new a NumPy": (
        "ImportError('Numba needs NumPy 2.3 or less. Got NumPy 2.4.')",
        "Numba needs NumPy 2.3 or less. Got NumPy 2.4. "
        'Run pip install --upgrade numba, or else pip install "numpy<2.4"',
    ),
    "no LLVM": (
        "OSError(\"Could not find/load shared object file 'libllvmlite.so'.\")",
        "Numba does not start: Could not find/load shared object file 'libllvmlite.so'. "
        "Run pip install --force-reinstall numba llvmlite",
    ),
    "another C interface": (
        "ValueError('numpy.dtype size changed')",
        "Numba does not start: numpy.dtype size changed. "
        "Run pip install --force-reinstall numba llvmlite",
    ),
}
LINE = "using NumPy, several times slower than the kernels. "


@pytest.fixture
def without(tmp_path):
    """The environment of a process in which importing Numba raises what the code says."""

    def environment(raises=BROKEN["missing"][0]):
        for name in ("numba", "llvmlite"):
            (tmp_path / "broken" / name).mkdir(parents=True, exist_ok=True)
            (tmp_path / "broken" / name / "__init__.py").write_text(f"raise {raises}\n", "utf-8")
        path = os.pathsep.join([str(tmp_path / "broken"), str(processes.ROOT)])
        unset = {name: None for name in os.environ if name.startswith("NUMBA_")}
        return processes.environment(
            PYTHONPATH=path,
            PYTHONWARNINGS=None,
            FASTMNIST_DATA=None,
            OPENBLAS_NUM_THREADS="1",  # on a busy machine its threads wait for each other
            **unset,
        )

    return environment


EVERYTHING = """
import sys
import numpy as np
import fastmnist as fm
backend = sys.argv[1]
data = fm.Dataset(np.eye(100, 16, dtype=np.uint8).reshape(100, 4, 4) * 9, np.arange(100) % 3)
model = fm.MLP([16, 8, 3], seed=0)
options = {"validation": 20, "augmentation": fm.Augmentation(shift=1, rotation=5, elastic=3)}
options |= {"dropout": 0.1, "input_dropout": 0.1, "checkpoint": "training.npz"}
def stop(model, epoch):
    raise KeyboardInterrupt
try:
    fm.fit(model, data, callbacks=[stop], backend=backend, **options)
except KeyboardInterrupt:
    pass
model = fm.MLP([16, 8, 3], seed=0)
fm.fit(model, data, resume=True, backend=backend, **options)
fm.evaluate(model, data, backend=backend)
for ask in (model.predict, model.predict_proba):
    assert len(ask(data.images, backend=backend)) == 100
fm.augmented(data.images, fm.Augmentation(shift=1))
model.save("model.npz"); fm.MLP.load("model.npz")
print("works")
for fails in (
    lambda: fm.kernels,
    lambda: fm.warmup(),
    lambda: fm.fit(model, data, backend="numba"),
    lambda: fm.evaluate(model, data, backend="numba"),
    lambda: model.predict(data.images, backend="numba"),
):
    try:
        fails()
    except ImportError as error:
        print(error)
"""


@pytest.mark.fault(row=97)
@pytest.mark.parametrize("reason", BROKEN)
def test_everything_works_after_one_line_and_asking_for_the_kernels_is_one_error(
    reason, without, tmp_path
):
    raises, advice = BROKEN[reason]
    done = processes.run("-c", EVERYTHING, "auto", cwd=tmp_path, env=without(raises))
    assert done.stdout.splitlines() == ["works", *[advice] * 5], done.stderr
    warnings = [line for line in done.stderr.splitlines() if "Warning" in line]
    assert [line.split("UserWarning: ")[1] for line in warnings] == [f"{LINE}{advice}"]


def test_the_reference_asked_for_brings_no_line(without, tmp_path):
    out = processes.succeeds("-c", EVERYTHING, "reference", cwd=tmp_path, env=without())
    assert out.startswith("works")


@pytest.mark.kernels
def test_a_variable_that_numba_refuses_is_told(tmp_path):
    environment = processes.environment(NUMBA_NUM_THREADS="0", FASTMNIST_DATA=None)
    done = processes.run("-c", EVERYTHING, "auto", cwd=tmp_path, env=environment)
    assert done.stdout.startswith("works\nNumba does not start: ")
    assert done.stdout.endswith("Check the environment's variables NUMBA_...\n")


COMMANDS = [
    "train --data digits.csv --recipe best --epochs 2 --hidden 20 --validation 20 "
    "--checkpoint training.npz",
    "train --resume training.npz",
    "train --data digits.csv --epochs 1 --output reference.npz --backend reference --json",
    "evaluate fastmnist-model.npz",
    "evaluate fastmnist-model.npz --json --backend reference",
    "predict fastmnist-model.npz rows.csv digit.png",
    "predict fastmnist-model.npz digit.png --several --output marked.png",
    "predict fastmnist-model.npz rows.csv --submission submission.csv",
    "export fastmnist-model.npz page.html",
    "export fastmnist-model.npz model.onnx",
    "export fastmnist-model.npz model.safetensors",
    "plot data --data digits.csv",
    "plot augmented --data digits.csv",
    "plot predictions",
    "plot weights",
    "plot saliency",
    "plot confusion",
    "plot history",
    "recipes",
    "info",
]

WALK = """
import sys
from fastmnist.cli import main
for command in sys.argv[1:]:
    print(f"$ {command}", file=sys.stderr, flush=True)
    if code := main(command.split()):
        sys.exit(f"{command}: ended with {code}")
"""


@pytest.mark.fault(row=97)
def test_every_command_works(without, tmp_path):
    for package in ("matplotlib", "onnx", "PIL", "safetensors"):
        pytest.importorskip(package)
    digits = datasets.generate(200)
    rows = digits.images.reshape(200, -1)
    np.savetxt(tmp_path / "digits.csv", np.column_stack([digits.labels, rows]), "%d", ",")
    np.savetxt(tmp_path / "rows.csv", rows[:100], "%d", ",")
    fm.plots.data(digits[:1]).figure.savefig(tmp_path / "digit.png")
    done = processes.run("-c", WALK, *COMMANDS, cwd=tmp_path, env=without(), timeout=280)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(LINE) == 1
    assert re.search("\nbackend: +reference\n", done.stdout)
    assert re.search("\nkernels: .*not installed", done.stdout)
    written = {path.name for path in tmp_path.iterdir()}
    assert {"fastmnist-model.png", "marked.png", "model.onnx", "page.html"} <= written
    assert len((tmp_path / "submission.csv").read_text("utf-8").splitlines()) == 101


def test_the_kernels_asked_for_on_the_command_line_are_one_error(without, tmp_path):
    done = processes.run(
        *("-m", "fastmnist", "train", "--data", "generated", "--backend", "numba"),
        cwd=tmp_path,
        env=without(),
    )
    assert done.returncode == 1
    assert done.stderr == f"fastmnist: {BROKEN['missing'][1]}\n"
    assert os.listdir(tmp_path) == ["broken"]


ESTIMATOR = """
import pickle
import numpy as np
from fastmnist.sklearn import MLPClassifier
X = np.random.default_rng(0).random((1100, 64))
found = MLPClassifier(max_iter=2, early_stopping=True).fit(X, X[:, 0] > X[:, 1])
assert found.coefs_[0].dtype == np.float32
assert found.predict(X).shape == (1100,)
with open("trained.pickle", "rb") as file:
    print(*pickle.load(file).predict(np.eye(2, 64)))
"""


@pytest.mark.kernels
def test_the_estimator_works_and_so_does_one_that_the_kernels_trained(without, tmp_path):
    pytest.importorskip("sklearn")
    from fastmnist.sklearn import MLPClassifier

    X = np.random.default_rng(0).random((2000, 64))
    y = np.where(X[:, 0] > X[:, 1], "more", "less")
    trained = MLPClassifier(max_iter=1000, tol=1e-3, random_state=0).fit(X, y)
    (tmp_path / "trained.pickle").write_bytes(pickle.dumps(trained))
    done = processes.run("-W", "ignore", "-c", ESTIMATOR, cwd=tmp_path, env=without())
    assert done.stdout == "more less\n", done.stderr


@pytest.mark.kernels
def test_the_reference_asked_for_loads_no_numba(tmp_path):
    program = EVERYTHING.split("print(")[0] + "assert 'numba' not in sys.modules"
    environment = processes.environment(PYTHONPATH=str(processes.ROOT))
    processes.succeeds("-c", program, "reference", cwd=tmp_path, env=environment)


def test_a_worker_without_numba_is_told(client, monkeypatch):
    from fastmnist.distributed import cluster
    from fastmnist.distributed.tasks import Tasks

    def fails(augmentation):
        raise ImportError(BROKEN["missing"][1])

    monkeypatch.setattr(cluster, "_compile", fails)
    with pytest.raises(fm.ClusterError, match=r"a worker cannot use the kernels: .* pip install"):
        cluster.compile_once(Tasks(client), augmentation=False)
