"""What importing the package gives, and what it leaves alone."""

import re
import tomllib
from pathlib import Path

import processes
import pytest

import fastmnist as fm

ROOT = Path(__file__).parent.parent
DASK = ("dask", "distributed", "optuna")


def loaded_by(statement):
    """The modules that a new process has loaded after a statement."""
    program = f"import sys\n{statement}\nprint(*sys.modules)"
    return {name.partition(".")[0] for name in processes.succeeds("-c", program).split()}


@pytest.mark.parametrize(
    "statement",
    [
        "import fastmnist",
        "import fastmnist as fm; fm.load, fm.Dataset, fm.MLP([4, 2]), fm.fit, fm.SGD, fm.reference",
        pytest.param("from fastmnist import *", marks=pytest.mark.kernels),
    ],
    ids=["import", "use", "star"],
)
def test_import_loads_neither_numba_nor_matplotlib(statement):
    loaded = loaded_by(statement)
    if "*" in statement:  # asks for fm.kernels and fm.plots by name
        assert {"numba", "matplotlib"} <= loaded
    else:
        assert not {"numba", "matplotlib", "PIL", "typer", "rich", "requests", *DASK} & loaded


def test_the_command_line_loads_dask_only_for_clusters():
    assert not {*DASK} & loaded_by("import fastmnist.cli")


def test_the_reference_needs_numpy_alone():
    loaded = loaded_by("import fastmnist.reference")
    assert not {"numba", "matplotlib", "pooch", "platformdirs"} & loaded


KERNELS = {"kernels", "warmup"}


@pytest.mark.parametrize(
    "name",
    [*sorted({*fm.__all__} - KERNELS)]
    + [pytest.param(name, marks=pytest.mark.kernels) for name in sorted(KERNELS)],
)
def test_every_public_name_is_there_and_documented(name):
    assert name in dir(fm)
    if not name.startswith("__"):
        assert getattr(fm, name).__doc__


def test_every_public_name_for_clusters_is_there_and_documented():
    pytest.importorskip("distributed")
    pytest.importorskip("optuna")
    assert all(getattr(fm.distributed, name).__doc__ for name in fm.distributed.__all__)


def test_all_extras_are_in_all():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"][
        "optional-dependencies"
    ]
    assert extras.pop("all") == [f"fastmnist[{','.join(sorted(extras))}]"]
    assert {re.match(r"[\w-]+", needed)[0] for needed in extras["distributed"]} == {
        "bokeh",
        "distributed",
        "optuna",
    }


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nonsense"):
        fm.nonsense  # noqa: B018


def test_metadata_is_whole():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["license"] == "MIT"
    assert fm.__version__.count(".") == 2
    assert (ROOT / "fastmnist" / "py.typed").exists()


def test_readme_and_ci_run_the_same_tests():
    command = (ROOT / ".ci" / "run").read_text("utf-8").splitlines()[-1]
    assert command.endswith("python -m pytest -n auto")
    assert f"\n{command}\n" in (ROOT / "README.md").read_text("utf-8")


def test_the_workflow_runs_the_tests_on_every_python_that_the_metadata_names():
    yaml = pytest.importorskip("yaml")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    named = re.findall(r"Python :: (3\.\d+)", " ".join(project["classifiers"]))
    workflow = (ROOT / ".github" / "workflows" / "checks.yml").read_text("utf-8")
    assert yaml.safe_load(workflow)["jobs"]["tests"]["strategy"]["matrix"]["python"] == named
    assert project["requires-python"] == f">={named[0]}"


def test_every_session_of_nox_is_described():
    names = re.findall(r"^def (\w+)\(session\)", (ROOT / "noxfile.py").read_text("utf-8"), re.M)
    described = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    assert len(names) >= 10
    assert [name for name in names if f"`{name.replace('_', '-')}`" not in described] == []
