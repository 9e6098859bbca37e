"""Searches: which settings are tried, which are stopped, and studies that are gone on with."""

import json
import os
import signal

import numpy as np
import processes
import pytest

pytest.importorskip("distributed")
pytest.importorskip("optuna")

from test_cli import write_csv

import fastmnist as fm
from fastmnist import cli, datasets
from fastmnist.distributed import Range, varied
from fastmnist.distributed.searching import _bars, ranked, run_trial
from fastmnist.distributed.study import Trial, kept_study
from fastmnist.errors import DataError
from fastmnist.recipes import Recipe

RECIPE = Recipe("A small one.", hidden=(8,), epochs=3, batch_size=16, learning_rate=0.2)
HIDDEN = {"hidden": [4, 16, (12, 8), ()]}


def images(count=160, seed=0):
    """Of four classes that a network soon tells apart."""
    rng = np.random.default_rng(seed)
    shapes = np.random.default_rng(99).integers(0, 256, (4, 6, 6))
    labels = rng.integers(0, 4, count)
    pixels = shapes[labels] * rng.uniform(0.4, 1, (count, 1, 1))
    return fm.Dataset((pixels * (rng.random((count, 6, 6)) < 0.6)).astype(np.uint8), labels)


def search(client, vary=None, **options):
    settings = {"recipe": RECIPE, "validation": 60, **options}
    return fm.distributed.search(images(), client, vary=vary or HIDDEN, **settings)


def tried(found):
    """Settings, as texts, however lists and tuples are written."""
    return sorted(trial.describe() for trial in found.trials)


def test_all_combinations_are_tried_where_trials_suffice(client):
    found = search(client, {"hidden": [4, 16], "optimizer": ["sgd", "adam", "nesterov"]})
    assert tried(found) == sorted(
        f"hidden {hidden}, optimizer {optimizer}"
        for hidden in (4, 16)
        for optimizer in ("sgd", "adam", "nesterov")
    )


@pytest.mark.parametrize("trials", [1, 2, 3])
def test_no_more_than_so_many_are_tried(trials, client):
    assert len(search(client, trials=trials).trials) == trials


def test_ranges_are_drawn_from(client):
    found = search(client, {"learning_rate": Range(0.05, 0.5), "hidden": Range(4, 12)}, trials=6)
    settings = [trial.settings for trial in found.trials]
    assert all(0.05 <= each["learning_rate"] <= 0.5 for each in settings)
    assert {type(each["hidden"]) for each in settings} == {int}
    assert all(4 <= each["hidden"] <= 12 for each in settings)
    assert len({each["learning_rate"] for each in settings}) > 1


def test_the_best_is_trained_again_on_all_samples(client):
    found = search(client, {"hidden": [4, 16], "seed": [7, 8]})
    best = found.trials[0]
    assert found.best is best
    assert best.accuracy == max(trial.accuracy for trial in found.trials)
    assert found.recipe.hidden == best.settings["hidden"]
    model, history = found.refit(images())
    again = fm.MLP([36, *best.settings["hidden"], 4], seed=best.settings["seed"])
    fm.fit(
        again,
        images(),
        epochs=3,
        batch_size=16,
        learning_rate=0.2,
        seed=best.settings["seed"],
    )
    assert np.array_equal(model.params.flat, again.params.flat)
    assert len(history) == 3


def test_a_trial_is_an_ordinary_training(client):
    """With what is set aside by the seed of the search, and its seed where none is varied."""
    held_out = images(60, seed=5)
    found = search(client, {"hidden": [16]}, seed=4, validation=held_out)
    _, history = found.refit(images(), validation=held_out)
    assert found.best.accuracies == tuple(history.validation_accuracy)
    assert found.best.loss == history.validation_loss[-1]
    assert found.best_seed == 4
    assert found.best.seconds > 0


def test_a_search_is_the_same_again(client):
    """As long as one trial ends after the other: Optuna learns from those that have ended."""

    def trials():
        return [(trial.number, trial.settings, trial.accuracies) for trial in search(client).trials]

    assert sorted(map(repr, trials())) == sorted(map(repr, trials()))


def trial(number, accuracies, state="done", loss=1.0):
    return Trial(number, {}, state, tuple(accuracies), loss, 1.0, "")


def test_the_best_come_first_and_those_that_were_not_done_last():
    trials = [
        trial(0, [0.9], loss=0.4),
        trial(1, [0.8]),
        trial(2, [0.9], loss=0.3),
        trial(3, [0.99], "stopped"),
        trial(4, [], "failed"),
        trial(5, [0.9], loss=0.3),
    ]
    assert [each.number for each in ranked(trials)] == [2, 5, 0, 1, 3, 4]


def test_bars_are_medians_of_what_is_done():
    done = [trial(n, [0.1 * n, 0.2 * n]) for n in range(1, 6)]
    assert _bars(done[:4], 2) == []  # too few to compare with
    assert _bars(done, 2) == pytest.approx([0.3])
    assert _bars([*done, trial(6, [0.9], "stopped")], 2) == pytest.approx([0.3])
    assert _bars(done, 1) == []
    # of a longer training, after the same share of it
    assert _bars(done, 4) == pytest.approx([0.3, 0.3, 0.6])


def test_a_weak_trial_is_stopped_after_the_epoch_that_shows_it():
    data = (images(), images(60, seed=1))

    def outcome(bars):
        return run_trial(RECIPE, {"hidden": (8,)}, 0, data, bars)

    free = outcome([])
    assert (free.state, len(free.epochs), free.reason) == ("done", 3, "")
    reached = [epoch.validation_accuracy for epoch in free.epochs]
    assert outcome(reached[:2]).state == "done"  # as good is not weak
    stopped = outcome([reached[0], reached[1] + 0.01])
    assert (stopped.state, len(stopped.epochs)) == ("stopped", 2)
    assert stopped.reason == "weak after epoch 2"


def test_weak_trials_are_stopped_unless_not_wanted(client):
    vary = {"learning_rate": [0.2, 0.21, 0.22, 0.23, 0.24, 0.25, 1e-6, 1e-7]}
    found = search(client, vary, validation=images(60, seed=1), trials=8)
    weak = [each for each in found.trials if each.state == "stopped"]
    assert all(each.reason.startswith("weak after epoch") for each in weak)
    assert {each.settings["learning_rate"] for each in weak} <= {1e-6, 1e-7, *vary["learning_rate"]}
    kept = search(client, vary, stop_weak=False)
    assert {each.state for each in kept.trials} == {"done"}


def test_trials_that_diverge_or_fail_do_not_end_the_search(client):
    found = search(client, {"learning_rate": [0.1, 1e30], "seed": [1, 2]})
    states = {each.settings["learning_rate"]: (each.state, each.reason) for each in found.trials}
    assert states[0.1] == ("done", "")
    assert states[1e30] == ("stopped", "diverged in epoch 1")
    assert len(found.trials) == 4


def test_a_trial_that_cannot_be_is_told_as_failed():
    floats = fm.Dataset(np.full((20, 6, 6), 1e38), np.arange(20) % 4)
    outcome = run_trial(RECIPE, {}, 0, (floats, floats), [])
    assert outcome.state == "failed"
    assert outcome.reason.startswith("ValueError: ")


def test_a_search_of_which_no_trial_is_done_is_an_error(client):
    with pytest.raises(RuntimeError, match="no trial was done: diverged in epoch 1"):
        search(client, {"learning_rate": [1e30, 2e30]})


def test_callbacks_are_told_each_trial_as_it_ends(client):
    told = []
    found = search(client, callbacks=[lambda trial, trials: told.append((trial, len(trials)))])
    assert [count for _, count in told] == [1, 2, 3, 4]
    assert ranked([trial for trial, _ in told]) == found.trials


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"client": None}, TypeError, "client must be that of"),
        ({"vary": {"hiddn": [4]}}, ValueError, "did you mean 'hidden'"),
        ({"recipe": "dfault"}, ValueError, "did you mean 'default'"),
        ({"trials": 0}, ValueError, "trials must be from 1"),
        ({"trials": 2.5}, TypeError, "trials must be a whole number"),
        ({"validation": 160}, ValueError, "validation must leave samples"),
        ({"validation": None}, TypeError, "validation must be a number of samples"),
        ({"seed": -1}, ValueError, "seed must be from 0"),
    ],
)
def test_wrong_arguments_are_told(options, error, said, client, tmp_path):
    path = tmp_path / "study.log"
    with pytest.raises(error, match=said):
        search(**{"client": client, "study": path, **options})
    assert os.listdir(tmp_path) == []


# Studies.


def stop_after(count):
    def stop(trial, trials):
        if len(trials) == count:
            raise KeyboardInterrupt

    return stop


def test_a_study_that_was_stopped_is_gone_on_with(client, tmp_path):
    """No trial is lost, and those that were running are tried again."""
    path = tmp_path / "study.log"
    with pytest.raises(KeyboardInterrupt):
        search(client, study=path, callbacks=[stop_after(2)])
    assert os.listdir(tmp_path) == [path.name]
    new = []

    found = search(client, study=path, callbacks=[lambda trial, trials: new.append(trial)])

    assert tried(found) == ["hidden 12-8", "hidden 16", "hidden 4", "hidden none"]
    assert len(new) == 2
    assert os.listdir(tmp_path) == [path.name]


def test_what_a_study_holds_is_as_it_was_found(client, tmp_path):
    first = search(client, study=tmp_path / "study.log")
    again = search(client, study=tmp_path / "study.log", callbacks=[pytest.fail])
    assert again.trials == first.trials


def test_a_study_may_get_more_trials(client, tmp_path):
    vary, path = {"learning_rate": Range(0.05, 0.5)}, tmp_path / "study.log"
    first = search(client, vary, study=path, trials=2)
    more = search(client, vary, study=path, trials=5)
    assert len(more.trials) == 5
    assert {repr(trial) for trial in first.trials} <= {repr(trial) for trial in more.trials}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"vary": {"hidden": [4, 16]}}, "varied was .*hidden.*, is .*hidden"),
        ({"recipe": "quick"}, "recipe was Recipe.*A small one.*, is Recipe.*blink"),
        ({"seed": 1}, "seed was 0, is 1"),
        ({"validation": 50}, "validation was 60 samples .*, is 50 samples"),
    ],
)
def test_the_study_of_another_search_is_refused(changed, said, client, tmp_path):
    path = tmp_path / "study.log"
    search(client, study=path, trials=1)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=f"study.log is of another search: .*{said}"):
        search(client, study=path, **changed)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "content",
    [b"nonsense\n", b"nonsense", b"{}\n", b"[1, 2]\n", b"\0\xff\0\xff\n", b'{"op_code": 99}\n'],
)
def test_a_file_that_is_no_study_is_named_and_stays(content, client, tmp_path):
    path = tmp_path / "study.log"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"study\.log: not a readable study"):
        search(client, study=path)
    assert path.read_bytes() == content


def test_the_last_line_of_a_study_may_be_half_written(client, tmp_path):
    """As it is when a process is killed within it."""
    path = tmp_path / "study.log"
    search(client, study=path, trials=3)
    content = path.read_bytes()
    for cut in (1, 20):
        path.write_bytes(content[:-cut])
        assert len(search(client, study=path, trials=4).trials) == 4


def test_a_study_belongs_to_one_search_at_a_time(client, tmp_path):
    path = tmp_path / "study.log"
    refused = []

    def second(trial, trials):
        with pytest.raises(DataError, match=f"{path} is in use by process {os.getpid()}"):
            search(client, study=path)
        refused.append(trial)

    search(client, study=path, trials=1, callbacks=[second])
    assert len(refused) == 1


def test_a_study_in_no_folder_is_an_error(client, tmp_path):
    with pytest.raises(OSError, match="nowhere"):
        search(client, study=tmp_path / "nowhere" / "study.log")


def test_running_trials_of_a_process_that_is_gone_are_tried_again(tmp_path):
    space = varied.checked({"hidden": [4, 8, 16]})
    with kept_study(tmp_path / "s.log", {}, space, 0) as kept:
        kept.try_all()
        lost = [kept.ask()[1]["hidden"] for _ in range(2)]
    with kept_study(tmp_path / "s.log", {}, space, 0) as kept:
        assert kept.trials() == []
        kept.try_all()
        assert sorted(kept.ask()[1]["hidden"] for _ in range(3)) == [(4,), (8,), (16,)]
    assert len(lost) == 2


KILLED = """
import sys
sys.path.insert(0, "tests")
from distributed import Client, LocalCluster
from fastmnist.distributed import Range
from test_search import search

def tell(trial, trials):
    print(len(trials), flush=True)

vary = {"learning_rate": Range(0.05, 0.5)}
with (
    LocalCluster(n_workers=2, processes=False, dashboard_address="127.0.0.1:0") as cluster,
    Client(cluster) as client,
):
    search(client, vary, trials=10_000, study=sys.argv[1], callbacks=[tell])
"""


def test_a_killed_search_is_gone_on_with(client, tmp_path, times, figure):
    path, count = tmp_path / "study.log", times(1, 20)
    vary = {"learning_rate": Range(0.05, 0.5)}
    for _ in range(count):
        process = processes.start("-c", KILLED, str(path))
        processes.wait_for_line(process, "stdout", "5")
        process.send_signal(signal.SIGKILL)
        told = int((processes.finish(process).stdout.split() or [5])[-1])
        found = search(client, vary, trials=told + 3, study=path)
        assert len(found.trials) == told + 3
        assert len({trial.number for trial in found.trials}) == told + 3
        assert os.listdir(tmp_path) == [path.name]
        path.unlink()
    figure(f"SIGKILL of a search: {count} of {count} studies gone on with")


# The command line.


@pytest.fixture(scope="module")
def csv(tmp_path_factory):
    return write_csv(tmp_path_factory.mktemp("data") / "digits.csv", datasets.generate(280, seed=0))


@pytest.fixture
def command(csv, client, tmp_path, monkeypatch):
    """The command line, on workers of this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fm.distributed, "connect", lambda address: client_of(client))
    usual = ("--data", csv, "--validation", "80")
    return lambda *options: cli.main(["search", *usual, *options])


class client_of:
    def __init__(self, client):
        self._client = client

    def __enter__(self):
        return self._client

    def __exit__(self, *_):
        pass


def test_a_search_by_the_command_line(command, csv, client, capsys):
    arguments = ("--recipe", "quick", "--vary", "hidden=8,24-8", "--vary", "learning-rate=0.1,0.3")
    assert command(*arguments, "--seed", "3", "--json") == 0
    out, err = capsys.readouterr()
    record = json.loads(out)
    data = datasets.load(csv)
    found = fm.distributed.search(
        data.train,
        client,
        vary={"hidden": [8, (24, 8)], "learning_rate": [0.1, 0.3]},
        recipe="quick",
        validation=80,
        seed=3,
    )
    model, _ = found.refit(data.train)
    saved = fm.MLP.load("fastmnist-model.npz")
    assert np.array_equal(saved.params.flat, model.params.flat)
    assert record["test_accuracy"] == fm.evaluate(model, data.test).accuracy
    assert len(record["trials"]) == 4
    assert record["trials"][0]["settings"] == json.loads(json.dumps(found.best.settings))
    assert sum(line.startswith("trial ") for line in err.splitlines()) == 4


def test_a_search_prints_a_table_the_best_first(command, capsys):
    assert command("--recipe", "quick", "--vary", "hidden=8,none", "--study", "s.log") == 0
    out, err = capsys.readouterr()
    assert [line.split()[1] for line in out.splitlines() if line.startswith("│ ")] == ["1", "2"]
    assert "the best once more, on all 240 images: hidden" in err
    assert os.path.exists("s.log")
    assert command("--recipe", "quick", "--vary", "hidden=8,none", "--study", "s.log") == 0
    assert "trial 1/" not in capsys.readouterr().err  # they have been tried


def test_the_study_of_another_search_is_refused_by_the_command_line(command, capsys):
    assert command("--recipe", "quick", "--vary", "hidden=8", "--study", "s.log") == 0
    assert command("--recipe", "quick", "--vary", "hidden=16", "--study", "s.log") == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("fastmnist: s.log is of another search: varied was ")


# scikit-learn's search on the same workers.


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_scikit_learns_search_on_dasks_workers_finds_the_same(client):
    joblib = pytest.importorskip("joblib")
    pytest.importorskip("sklearn")
    from sklearn.datasets import load_digits
    from sklearn.model_selection import GridSearchCV

    from fastmnist.sklearn import MLPClassifier

    X, y = load_digits(return_X_y=True)
    X, y = (X[:300] / 16).astype(np.float32), y[:300]
    grid = {"hidden_layer_sizes": [(8,), (32,)], "learning_rate_init": [0.001, 0.01]}

    def searched():
        model = MLPClassifier(max_iter=5, random_state=0)
        return GridSearchCV(model, grid, cv=3).fit(X, y)

    alone = searched()
    with joblib.parallel_config(backend="dask", client=client):
        threads = joblib.Parallel()(joblib.delayed(MLPClassifier()._threads)() for _ in range(4))
        on_workers = searched()

    assert threads == [1] * 4
    assert on_workers.best_params_ == alone.best_params_
    assert np.array_equal(
        on_workers.cv_results_["mean_test_score"], alone.cv_results_["mean_test_score"]
    )
