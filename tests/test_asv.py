"""The history over commits: what asv finds, in which environments, and which commit it measures."""

import ast
import importlib
import json
import sys
import tomllib
from pathlib import Path

import processes
import pytest
from packaging.requirements import Requirement

import fastmnist as fm
from benchmarks.suite import bench_recipes, programs, workloads

pytestmark = pytest.mark.compiled

ROOT = Path(__file__).parent.parent
SUITE = ROOT / "benchmarks" / "suite"
MODULES = sorted(path.stem for path in SUITE.glob("bench_*.py"))


def found(**environment):
    """What asv finds, by name, as a process with these variables sees it."""
    program = (
        "import sys; from asv_runner.discovery import list_benchmarks; "
        f"from asv_runner._aux import update_sys_path; update_sys_path({str(SUITE)!r}); "
        f"list_benchmarks({str(SUITE)!r}, sys.stdout)"
    )
    pytest.importorskip("asv_runner")
    printed = programs.run("-c", program, **environment)
    return {benchmark["name"]: benchmark for benchmark in json.loads(printed)}


def test_asv_accepts_the_benchmarks():
    pytest.importorskip("asv")
    known = processes.environment(ASV_PYTHONPATH=str(ROOT))  # it ignores PYTHONPATH
    done = processes.run("-m", "asv", "check", "-E", f"existing:{sys.executable}", env=known)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No problems found" in done.stdout


@pytest.mark.parametrize("path", sorted(SUITE.glob("*.py")), ids=lambda path: path.stem)
def test_the_suite_imports_nothing_that_its_environments_lack(path):
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module)
    public = {"fastmnist", "fastmnist.recipes", "numpy"}
    assert {name for name in names if name.split(".")[0] not in sys.stdlib_module_names} <= public


def test_environments_have_each_dependency_in_one_version():
    config = pytest.importorskip("asv.config").Config.load(str(ROOT / "asv.conf.json"))
    pinned = config.matrix["req"]
    assert {name for name, versions in pinned.items() if len(versions) != 1} == set()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = project["dependencies"] + project["optional-dependencies"]["kernels"]
    for dependency in map(Requirement, needed):
        assert dependency.name in pinned, "asv.conf.json lacks it"
        assert pinned[dependency.name][0] in dependency.specifier


def test_benchmarks_are_the_same_with_and_without_mnist(tmp_path):
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / "train-images-idx3-ubyte").touch()
    assert found(FASTMNIST_DATA=str(tmp_path)) == found(FASTMNIST_DATA="")


def test_each_benchmark_has_a_version_of_its_own_and_no_setup_between_calls():
    for name, benchmark in found().items():
        assert benchmark["version"].isdigit(), name  # asv's own is a hash of its source
        # with more, asv_runner 0.3.2 prepares anew before each of the calls
        assert benchmark.get("number", 1) in (0, 1), name


@pytest.mark.parametrize("module", MODULES)
def test_no_benchmark_asks_which_images_are_there(module, monkeypatch):
    def asked():
        raise AssertionError("figures must not depend on FASTMNIST_DATA")

    monkeypatch.setattr(workloads, "data_name", asked)
    for name, kind in vars(importlib.import_module(f"benchmarks.suite.{module}")).items():
        if name.startswith("_") or name == "RecipeOnMNIST" or not hasattr(kind, "setup"):
            continue
        kind().setup(*(values[0] for values in getattr(kind, "params", ())))


def test_mnist_is_a_benchmark_of_its_own_that_is_skipped_without_it(monkeypatch):
    monkeypatch.delenv("FASTMNIST_DATA", raising=False)
    with pytest.raises(NotImplementedError):
        bench_recipes.RecipeOnMNIST().setup("quick")


def test_programs_run_what_is_installed_and_not_what_lies_about(monkeypatch, tmp_path):
    (tmp_path / "fastmnist.py").write_text(
        "raise SystemExit('the working tree was measured')", "utf-8"
    )
    monkeypatch.chdir(tmp_path)
    assert programs.run("-c", "import fastmnist; print(fastmnist.__file__)") == fm.__file__
