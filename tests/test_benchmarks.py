"""Every workload runs, with the same result for both backends, and the tables are printed."""

import json
import re
import sys
from contextlib import nullcontext
from importlib import import_module
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

import fastmnist as fm
from benchmarks import (
    ablations,
    denormals,
    estimators,
    exchange,
    optimizers,
    phases,
    processors,
    race,
    ratios,
    records,
    timing,
    workloads,
)
from benchmarks.peers.course import Course
from fastmnist.optimizers import OPTIMIZERS
from fastmnist.recipes import RECIPES

pytestmark = pytest.mark.compiled

ROOT = Path(__file__).parent.parent
IMAGES = 600  # ragged: 600 = 4 * 128 + 88


@pytest.fixture(scope="module", autouse=True)
def synthetic_data():
    """The data that every machine has."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("FASTMNIST_DATA", raising=False)
        yield


@pytest.mark.parametrize("network", workloads.NETWORKS)
@pytest.mark.parametrize("count", [1, IMAGES])
def test_forward_is_the_same_work_for_both_backends(network, count):
    reference, numba = (workloads.forward(network, b, count)() for b in workloads.BACKENDS)
    assert reference.shape == numba.shape == (count, 10)
    assert reference.dtype == numba.dtype == np.float32
    assert _rounding_steps(numba, reference) <= 64


@pytest.mark.parametrize("network", workloads.NETWORKS)
def test_loss_and_gradients_is_the_same_work_for_both_backends(network):
    (want_loss, wanted), (loss, gradients) = (
        workloads.loss_and_gradients(network, b)() for b in workloads.BACKENDS
    )
    assert loss == pytest.approx(want_loss, rel=1e-6)
    for want, got in zip(chain(*wanted), chain(*gradients), strict=True):
        assert _rounding_steps(got, want) <= 64


@pytest.mark.parametrize("network", workloads.NETWORKS)
def test_epoch_is_the_same_work_for_both_backends(network):
    reference, numba = (workloads.epoch(network, b, IMAGES)() for b in workloads.BACKENDS)
    assert numba == pytest.approx(reference, rel=1e-5)


@pytest.mark.parametrize("backend", workloads.BACKENDS)
def test_each_epoch_starts_from_new_parameters(backend):
    first, second = (workloads.epoch("784-10-10", backend, IMAGES) for _ in range(2))
    before = first()
    assert first() < before  # the same call goes on training
    assert second() == pytest.approx(before, rel=1e-6)


@pytest.mark.parametrize("network", workloads.NETWORKS)
@pytest.mark.parametrize("backend", workloads.BACKENDS)
def test_training_learns(network, backend):
    train, test = workloads.data()
    before = fm.evaluate(fm.MLP(workloads.sizes(network), seed=0), test[:1000])
    after = fm.evaluate(workloads.training(network, backend, IMAGES)(), test[:1000])
    assert len(train) == workloads.IMAGES
    assert after.loss < before.loss
    assert after.accuracy > before.accuracy


def test_synthetic_images_are_as_sparse_as_mnist_and_always_the_same():
    images, labels = workloads.synthetic(500)
    assert images.shape == (500, 28, 28)
    assert images.dtype == labels.dtype == np.uint8
    assert 140 < np.count_nonzero(images) / 500 < 150
    assert set(labels) == set(range(10))
    assert np.array_equal(images, workloads.synthetic(500)[0])


def test_data_are_mnist_where_it_is_found(monkeypatch, tmp_path):
    assert workloads.data_name() == "synthetic"
    monkeypatch.setenv("FASTMNIST_DATA", str(tmp_path))
    assert workloads.data_name() == "synthetic"
    (tmp_path / "mnist").mkdir()
    assert workloads.data_name() == "synthetic"
    (tmp_path / "mnist" / "train-images-idx3-ubyte.gz").touch()
    assert workloads.data_name() == "mnist"


def test_ratios_prints_a_table(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["ratios", "--rounds", "1", "--images", str(IMAGES)])
    monkeypatch.setattr(timing, "REST", 0)
    ratios.main()
    sentence, _, *table = capsys.readouterr().out.splitlines()
    assert f"{IMAGES} images (synthetic)" in sentence
    assert len(table) == 2 + len(ratios.CASES)
    assert len({line.count("|") for line in table}) == 1


def test_optimizers_prints_a_table(monkeypatch, capsys):
    arguments = ["--network", "784-10", "--rounds", "1", "--images", str(IMAGES)]
    monkeypatch.setattr(sys, "argv", ["optimizers", *arguments])
    monkeypatch.setattr(timing, "REST", 0)
    optimizers.main()
    sentence, _, *table = capsys.readouterr().out.splitlines()
    assert f"{IMAGES} images (synthetic)" in sentence
    assert [line.split()[1] for line in table[2:]] == list(OPTIMIZERS)
    assert table[2].endswith("| 1.00 |")


def test_denormals_prints_a_table(monkeypatch, capsys):
    arguments = ["--network", "784-10-10", "--rounds", "1", "--images", str(IMAGES)]
    monkeypatch.setattr(sys, "argv", ["denormals", *arguments])
    monkeypatch.setattr(timing, "REST", 0)
    denormals.main()
    sentence, _, *table = capsys.readouterr().out.splitlines()
    assert f"{IMAGES} images (synthetic)" in sentence
    assert [line.split()[1] for line in table[2:]] == list(denormals.CASES)
    assert table[2].endswith("| 1.00 |")


@pytest.mark.parametrize("name", denormals.CASES)
def test_what_is_called_denormal_is_so_to_the_end(name):
    rows = fm.kernels.prepare(workloads.pixels(IMAGES))
    epoch = denormals.ready((784, 10, 10), rows, denormals.CASES[name])
    params, state = epoch.args[0], epoch.keywords["state"]
    epoch()
    found = {
        "weights": params[0][0],
        "gradients": fm.kernels.loss_and_gradients(params, rows, epoch.args[2])[1][-1][1],
        "velocities": state.velocity[0][0],
    }
    least = np.finfo(np.float32).smallest_normal
    assert {what for what, numbers in found.items() if np.abs(numbers).max() < least} == (
        {name} - {"nothing"} | ({"gradients"} if name == "velocities" else set())
    )


def test_phases_prints_what_adds_up_to_the_epoch(monkeypatch, capsys):
    arguments = ["--networks", "784-10-10", "--batches", "128", "--images", str(IMAGES)]
    monkeypatch.setattr(sys, "argv", ["phases", *arguments, "--rounds", "1"])
    phases.main()
    _, _, header, _, *rows = capsys.readouterr().out.splitlines()
    assert [row.split("|")[3].strip() for row in rows] == ["1", "2"]  # threads
    for row in rows:
        assert row.count("|") == header.count("|")
        whole, *parts = (float(cell) for cell in row.split("|")[4:-1])
        assert whole == pytest.approx(sum(parts), abs=0.5)  # each is rounded to 0.1 ms


def test_ablations_prints_what_each_trick_gives(monkeypatch, capsys, times):
    if not times(False, True):
        pytest.skip("compiles for 9 s; .ci/run runs the command; with --long")
    one = {"everything on": {}}  # of each, all kernels are compiled
    monkeypatch.setattr(ablations, "ABLATIONS", one)
    arguments = ["--networks", "784-10", "784-20-10", "--rounds", "1", "--images", str(IMAGES)]
    monkeypatch.setattr(sys, "argv", ["ablations", *arguments])
    monkeypatch.setattr(timing, "REST", 0)
    ablations.main()
    _, _, header, _, *rows = capsys.readouterr().out.splitlines()
    assert [row.split("|")[1].strip() for row in rows] == list(one)
    assert rows[0].count("(1.00)") == 2
    assert {row.count("|") for row in (header, *rows)} == {4}


def test_processors_prints_what_each_takes(monkeypatch, capsys, times):
    if not times(False, True):
        pytest.skip("compiles for 9 s; nox -s benchmarks runs the command; with --long")
    arguments = ["--processors", "native", "--networks", "784-10", "--rows", "sparse"]
    arguments += ["--rounds", "1", "--images", str(IMAGES)]
    monkeypatch.setattr(sys, "argv", ["processors", *arguments])
    monkeypatch.setattr(timing, "REST", 0)
    processors.main()
    _, _, header, _, row = capsys.readouterr().out.splitlines()
    assert header == "| network | rows | native |"
    assert row.startswith("| 784-10 | sparse | ")
    assert row.endswith(" ms (1.00) |")


def test_an_ablation_changes_what_the_kernels_use(monkeypatch):
    modules = [m for name, m in sys.modules.items() if name.startswith("fastmnist.kernels")]
    for changed in chain(*ablations.ABLATIONS.values()):
        assert any(hasattr(module, changed) for module in modules), changed
    for module in modules:
        if hasattr(module, "BAND"):
            monkeypatch.setattr(module, "BAND", module.BAND)  # and back, after the test
    ablations.patch({"BAND": 32})
    assert fm.kernels.packed.BAND == fm.kernels.sparse.BAND == 32


def test_ratios_refuses_to_compare_different_work(monkeypatch):
    ratios.verify_losses("784-10-10", {"reference": 0.5, "numba": 0.50001})
    for kernels in (0.51, float("nan")):
        with pytest.raises(SystemExit, match="losses differ"):
            ratios.verify_losses("784-10-10", {"reference": 0.5, "numba": kernels})

    exact = workloads.loss_and_gradients("784-10-10", "reference")()
    loss, gradients = exact
    scaled = loss, [(1.0001 * dW, 1.0001 * db) for dW, db in gradients]
    results = iter([exact, scaled])
    monkeypatch.setattr(workloads, "loss_and_gradients", lambda *_: lambda: next(results))
    with pytest.raises(SystemExit, match="gradients differ"):
        ratios.verify_gradients("784-10-10", 128)


@pytest.fixture
def few_images(monkeypatch):
    train, test = (part[:IMAGES] for part in workloads.data())
    monkeypatch.setattr(fm, "load", lambda name: fm.datasets.Split(train, test))
    monkeypatch.setattr(records, "plain_epoch", lambda: 0.01)


def test_records_prints_a_row_for_each_recipe(monkeypatch, capsys, few_images):
    monkeypatch.setattr(sys, "argv", ["records", "--seeds", "2", "--epochs", "1"])
    records.main()
    _, _, header, _, *rows = capsys.readouterr().out.splitlines()
    assert [row.split()[1] for row in rows] == [*RECIPES, "generated"]
    for row in rows:
        assert row.count("|") == header.count("|")
        mean, spread, worst, best = map(
            float, re.search(r"(\S+) % ± (\S+) \((\S+) to (\S+)\)", row).groups()
        )
        assert 0 < worst <= mean <= best <= 100
        assert spread >= 0


def test_a_record_stands_when_its_mean_beats_the_bar():
    def p(*percent):
        return records.Scores(list(percent), [], []).p(98.0)

    assert p(98.1, 98.2, 98.15, 98.12) < 0.01
    assert p(97.9, 98.2, 98.05, 98.0) > 0.01
    assert p(97.5, 97.6, 97.4, 97.5) > 0.99
    assert p(99.0) is None


def test_a_record_of_one_seed_has_no_spread_and_is_not_judged(monkeypatch):
    one = records.Scores([98.5], [0.1], [1.0])
    monkeypatch.setattr(records, "plain_epoch", lambda: 0.1)
    monkeypatch.setattr(records, "scores", lambda *_: one)
    monkeypatch.setattr(fm, "load", lambda name: fm.datasets.Split(None, None))
    row = records.row("quick", 1, 98.0)
    assert row == "| quick | 1 | 98.50 % | 98 % | not known | 10.0 % | 1.00 | 10.0 |"


def test_records_file_and_recipes_agree():
    rows = (ROOT / "RECORDS.md").read_text(encoding="utf-8").splitlines()
    for name, recipe in RECIPES.items():
        of_recipe = [row for row in rows if f"`{name}`" in row and row[0] in "|N"]  # "Not yet"
        row = of_recipe[-1]  # the newest
        wanted = recipe.measured
        assert f"{wanted.accuracy:.2f} % ± {wanted.deviation:.2f}" in row
        assert f"{wanted.seeds} seeds" in row
        assert f" {wanted.seconds:g} " in row
        assert wanted.accuracy > records.BARS[name][0]
        assert wanted.seeds >= records.BARS[name][1]


def test_every_recipe_has_a_marker_in_the_picture_of_the_race(monkeypatch, tmp_path):
    pytest.importorskip("matplotlib")
    from matplotlib.axes import Axes

    drawn = []
    monkeypatch.setattr(Axes, "plot", lambda self, *_, label, **__: drawn.append(label))
    monkeypatch.setattr("matplotlib.figure.Figure.legend", lambda *_, **__: None)
    run = {"accuracy": [0.9], "since_start": [2.0], "since_ready": [1.0]}
    race.save({name: {"fastmnist": [run]} for name in RECIPES}, tmp_path)
    assert len(set(drawn)) == len(RECIPES)


def test_race_trains_and_draws(monkeypatch, capsys, tmp_path):
    pytest.importorskip("matplotlib")
    arguments = ["--only", "fastmnist", "--rounds", "1", "--epochs", "1", "--images", str(IMAGES)]
    monkeypatch.setattr(sys, "argv", ["race", *arguments, "--output", str(tmp_path)])
    race.main()
    rows = [line for line in capsys.readouterr().out.splitlines() if "fastmnist |" in line]
    assert [row.split()[1] for row in rows] == list(race.RECIPES)
    [run] = json.loads((tmp_path / "race.json").read_text("utf-8"))["quick"]["fastmnist"]
    assert len(run["accuracy"]) == 1
    assert 0 < run["since_ready"][0] < run["since_start"][0]
    assert (tmp_path / "race.png").read_bytes().startswith(b"\x89PNG")


def test_estimators_prints_a_table(monkeypatch, capsys):
    pytest.importorskip("sklearn")
    arguments = ["--seeds", "2", "--epochs", "1", "--images", str(IMAGES)]
    monkeypatch.setattr(sys, "argv", ["estimators", *arguments])
    estimators.main()
    *_, first, second, third, fourth = capsys.readouterr().out.splitlines()
    assert [row.split("|")[2].strip() for row in (first, second, third, fourth)] == [
        *("fastmnist", "scikit-learn") * 2
    ]
    assert first.split("|")[4].strip() == third.split("|")[4].strip() == "1.0"


def test_rounds_prints_tables_and_tells_where_it_saved(monkeypatch, capsys, tmp_path, client):
    from benchmarks import rounds

    monkeypatch.setattr(fm.distributed, "connect", lambda address: nullcontext(client))
    train, test = (part[:IMAGES] for part in workloads.data())
    monkeypatch.setattr(workloads, "data", lambda: (train, test))
    one_of_each = ["--seeds", "1", "--shards", "1", "--rounds", "1", "--steps", "1"]
    few = ["--samples", "2000", "--output", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["rounds", *one_of_each, *few])
    rounds.main()
    *lines, last = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("| 1 | 1 |") for line in lines) == 2
    assert last == f"Saved in {tmp_path}: rounds.json and rounds.png"
    assert len(json.loads((tmp_path / "rounds.json").read_text("utf-8"))) == 2
    assert (tmp_path / "rounds.png").read_bytes().startswith(b"\x89PNG")


def test_communication_finds_its_model_and_tells_where_it_saved(monkeypatch, capsys, tmp_path):
    pytest.importorskip("distributed")
    from benchmarks import communication

    true = communication.Model(0.01, 0.002, 6, 2e-9, 2.5, 2000)

    def measured(client, links, network, workers, link, steps, arguments):
        size = communication._bytes(network)
        passed, seconds = true.passed(workers, size), true.seconds(workers, size, *link)
        seconds += 1e-4 * (steps - 1)
        return communication.Round(network, workers, *link, steps, size, passed, passed, seconds)

    monkeypatch.setattr(communication, "hosts", lambda workers: nullcontext((None, None)))
    monkeypatch.setattr(communication, "measured", measured)
    one_of_each = ["--rounds", "1", "--workers", "1", "--networks", "784-128-10"]
    monkeypatch.setattr(sys, "argv", ["communication", *one_of_each, "--output", str(tmp_path)])
    communication.main()
    *lines, last = capsys.readouterr().out.splitlines()
    assert last == f"Saved in {tmp_path}: communication.json and communication.png"
    checked = [line.split("|") for line in lines if line.startswith("| 784-256-64-10 ")]
    assert len(checked) == 2
    for cells in checked:
        took, told = (float(cell.split()[0]) for cell in cells[5:7])
        assert told == pytest.approx(took, rel=0.02)


@pytest.mark.filterwarnings("ignore")  # those of other packages
def test_exchange_prints_a_row_for_each_tool(monkeypatch, capsys, times):
    if not times(False, True):
        pytest.skip("takes 6 s; .ci/run runs the command; with --long")
    train, test = (part[:IMAGES] for part in workloads.data())
    monkeypatch.setattr(workloads, "data", lambda: (train, test))
    exchange.main()
    rows = capsys.readouterr().out.splitlines()[4:]
    assert [row.split("|")[1].strip() for row in rows] == list(exchange.RUNNERS)
    for row in rows:
        cell = row.split("|")[2].strip()
        assert cell.startswith("not installed") or float(cell) < 1e-5


@pytest.mark.filterwarnings("ignore")  # those of other packages
@pytest.mark.parametrize("module", ["with_pytorch", "with_jax"])
def test_others_take_the_same_course(module):
    pytest.importorskip({"with_pytorch": "torch", "with_jax": "jax"}[module])
    course = Course("quick", 1000, epochs=1)
    ends = {}
    for name in ("with_fastmnist", module):
        found = []
        note = lambda params, found=found: found.extend(  # noqa: E731
            (np.array(W), np.array(b)) for W, b in params
        )
        import_module(f"benchmarks.peers.{name}").train(course, note)()
        ends[name] = found
    for (W, b), (V, c) in zip(*ends.values(), strict=True):
        np.testing.assert_allclose(W, V, atol=1e-4)
        np.testing.assert_allclose(b, c, atol=1e-4)


def _rounding_steps(got, want):
    return np.abs(got - want).max() / (np.abs(want).max() * np.finfo(np.float32).eps)
