"""Data-parallel training: its mathematics, and the same bits whatever happens to the workers."""

import dataclasses
import math

import numpy as np
import pytest
from agreement import BACKENDS, float64
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("distributed")
pytest.importorskip("optuna")

from distributed import Client, LocalCluster

import fastmnist as fm
from fastmnist import checkpoints, datasets, reference
from fastmnist.backends import resolved
from fastmnist.counter_based import epoch_key
from fastmnist.distributed import local_sgd
from fastmnist.distributed.local_sgd import (
    Plan,
    Trained,
    _passes,
    average,
    average_in_float32,
    train_shard,
)
from fastmnist.distributed.sources import InMemory, seed_of
from fastmnist.dropout import Dropout
from fastmnist.epochs import epoch_order, set_aside
from fastmnist.optimizers import SGD, State, optimizer_named, rates
from fastmnist.parameters import Parameters

SIZES = (64, 24, 5)
EVERYTHING = {
    "dropout": 0.2,
    "input_dropout": 0.1,
    "label_smoothing": 0.1,
    "schedule": "warm-up-cosine",
}
WAYS = {
    "sgd": {"optimizer": "sgd"},
    "nesterov": {"optimizer": "nesterov", "schedule": "one-cycle"},
    "adamw": {"optimizer": "adamw", "learning_rate": 0.01, **EVERYTHING},
    "augmented": {"optimizer": "momentum", "augmentation": fm.Augmentation(shift=1, rotation=9)},
}


def images(count=90, seed=0):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (count, 8, 8), np.uint8) * (rng.random((count, 8, 8)) < 0.4)
    return fm.Dataset(pixels.astype(np.uint8), np.arange(count) % 5, "images")


def network(seed=1, sizes=SIZES):
    return fm.MLP(sizes, seed=seed)


def bits(model):
    return model.params.flat.tobytes()


def planned(**changes):
    usual = Plan(
        shards=1,
        rounds=1,
        steps=None,
        batch_size=16,
        learning_rate=0.1,
        optimizer=SGD(),
        schedule="constant",
        label_smoothing=0.0,
        dropout=0.0,
        input_dropout=0.0,
        augmentation=None,
        backend=resolved("auto"),
        seed=0,
    )
    if "optimizer" in changes:
        changes["optimizer"] = optimizer_named(changes["optimizer"])
    return dataclasses.replace(usual, **changes)


def trained_alone(model, data, plan):
    """The whole training, shard by shard, without an engine."""
    parts = [InMemory(data, plan.seed).part(shard, plan.shards) for shard in range(plan.shards)]
    for number in range(plan.rounds):
        results = [
            train_shard(model.params, part.load(0), plan, shard, number, 1)
            for shard, part in enumerate(parts)
        ]
        while len(results) > 8:
            results = [average(*results[i : i + 8]) for i in range(0, len(results), 8)]
        model.params.flat[:] = average_in_float32(*results).params.flat
    return model


# The mathematics.


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("way", WAYS)
def test_one_shard_in_one_round_is_an_ordinary_training(way, backend):
    settings = {"learning_rate": 0.1, "batch_size": 16, "backend": backend, "seed": 3} | WAYS[way]
    ordinary = network()
    history = fm.fit(ordinary, images(), epochs=3, **settings)

    plan = planned(**{"schedule": "one-cycle", **settings}, steps=3 * 6)
    trained = train_shard(network().params, images(), plan, 0, 0, 1)

    assert np.array_equal(trained.params.flat, ordinary.params.flat)
    assert trained.loss == pytest.approx(np.mean(history.loss), rel=1e-12)
    assert (trained.samples, trained.rate) == (3 * 90, history.learning_rate[-1])


@pytest.mark.kernels
@pytest.mark.parametrize(("rounds", "steps"), [(18, 1), (6, 3), (4, 5), (2, 9)])
def test_where_rounds_end_changes_nothing_for_one_shard_with_plain_sgd(rounds, steps):
    """Six batches an epoch: rounds end within epochs, and epochs within rounds."""
    epochs, rest = divmod(rounds * steps, 6)
    epochs += rest > 0
    settings = {"learning_rate": 0.1, "batch_size": 16, "augmentation": fm.Augmentation(shift=1)}
    settings |= EVERYTHING | {"optimizer": "sgd", "seed": 3}
    ordinary, pace = network(), rates("warm-up-cosine", 0.1, rounds * steps)
    state = State.zeros(ordinary.params)
    for epoch in range(epochs):
        order = epoch_order(3, epoch, 90)[: 16 * (rounds * steps - 6 * epoch)]
        fm.kernels.train_epoch(
            ordinary.params,
            fm.kernels.augmented(images().images, settings["augmentation"], epoch_key(3, epoch)),
            images().labels,
            learning_rate=pace[6 * epoch : 6 * epoch + math.ceil(len(order) / 16)],
            batch_size=16,
            optimizer=SGD(),
            state=state,
            order=order,
            label_smoothing=0.1,
            dropout=Dropout(0.2, 0.1, epoch_key(3, epoch)),
        )

    local = trained_alone(network(), images(), planned(rounds=rounds, steps=steps, **settings))

    assert bits(local) == bits(ordinary)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shards", [2, 3, 7])
def test_one_step_a_round_is_sgd_with_the_samples_of_all_shards(shards, backend):
    """Exactly, in real numbers: shards of 12 and of 13 samples count for what they have."""
    data = images(90)
    exact = float64(network().params)
    for _ in range(3):
        reference.train_epoch(
            exact, data.images.reshape(90, -1), data.labels, learning_rate=0.3, batch_size=90
        )

    plan = planned(shards=shards, rounds=3, batch_size=90, learning_rate=0.3, backend=backend)
    model = trained_alone(network(), data, plan)

    for (W, b), (exact_W, exact_b) in zip(model.params, exact, strict=True):
        np.testing.assert_allclose(W, exact_W, rtol=0, atol=2e-6)
        np.testing.assert_allclose(b, exact_b, rtol=0, atol=2e-6)


def test_several_steps_a_round_are_another_algorithm():
    one = trained_alone(network(), images(), planned(shards=2, rounds=4, steps=1))
    four = trained_alone(network(), images(), planned(shards=2, rounds=1, steps=4))
    assert np.abs(one.params.flat - four.params.flat).max() > 1e-4


def came_to(value, *, samples=1, loss=0.0):
    params = Parameters((1, 1))
    for array in params[0]:
        array[...] = value
    return Trained(params, loss, samples, 0.1)


def test_the_mean_counts_samples():
    mean = average(came_to(1, samples=30, loss=2.0), came_to(5, samples=10, loss=6.0))
    assert [array.item() for array in mean.params[0]] == [2, 2]
    assert (mean.loss, mean.samples) == (3, 40)


def test_the_mean_is_summed_in_the_order_of_the_shards():
    """In float64, in which 1 is lost beside 2**56, and not where that is gone."""

    def mean(*values):
        return average(*map(came_to, values)).params[0][1].item()

    large = 2.0**56
    assert mean(large, 1, -large, 1) == 0.25
    assert mean(large, -large, 1, 1) == 0.5


def test_means_of_means_count_samples():
    """In float64, so that no level of the tree rounds to float32."""
    parts = [came_to(1 / n, samples=n, loss=float(n)) for n in range(1, 21)]
    groups = [average(*parts[:8]), average(*parts[8:16]), average(*parts[16:])]
    tree, at_once = average(*groups), average(*parts)
    assert tree.samples == at_once.samples == 210
    assert tree.loss == pytest.approx(at_once.loss, rel=1e-15)
    assert tree.params[0][0].item() == pytest.approx(at_once.params[0][0].item(), rel=1e-15)


@given(st.integers(0, 50), st.integers(1, 50), st.integers(1, 9))
def test_passes_are_the_steps_in_turn(first, steps, batches):
    passes = list(_passes(first, steps, batches))
    assert [batches * e + b for e, begin, end in passes for b in range(begin, end)] == list(
        range(first, first + steps)
    )
    assert all(0 <= begin < end <= batches for _, begin, end in passes)


def test_a_task_is_pure():
    params, plan = network().params, planned(optimizer="nesterov", dropout=0.2)
    before = params.flat.tobytes()
    first, second = (train_shard(params, images(), plan, 0, 0, 1) for _ in range(2))
    assert params.flat.tobytes() == before
    assert np.array_equal(first.params.flat, second.params.flat)
    assert first[1:] == second[1:]


def test_portions_are_trained_on_in_turn_each_with_random_numbers_of_its_own():
    """Round 3 of 2 portions is the second visit to the second."""
    plan = planned(shards=3, rounds=4, steps=6, seed=8)
    trained = train_shard(network().params, images(), plan, 1, 3, 2)

    again, seed = network(), seed_of(8, 1 + 3)
    fm.kernels.train_epoch(
        again.params,
        images().images,
        images().labels,
        learning_rate=0.1,
        batch_size=16,
        optimizer=SGD(),
        state=State.zeros(again.params),
        order=epoch_order(seed, 1, 90),
    )
    assert np.array_equal(trained.params.flat, again.params.flat)


def test_streams_of_random_numbers_differ():
    assert seed_of(5, 0) == 5
    assert len({seed_of(seed, stream) for seed in range(30) for stream in range(1000)}) == 30_000
    assert all(0 <= seed_of(2**63 - 1, stream) < 2**63 for stream in range(1000))


# On an engine.


def fit(client, data=None, model=None, **options):
    model = model or network()
    settings = {"shards": 3, "rounds": 4, "batch_size": 16, "seed": 3} | options
    data = images() if data is None else data
    history = fm.distributed.fit(model, data, client, **settings)
    return model, history


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("way", WAYS)
def test_on_an_engine_it_is_what_it_is_without_one(way, backend, client):
    settings = {"learning_rate": 0.1, "schedule": "one-cycle", "backend": backend} | WAYS[way]
    alone = trained_alone(
        network(), images(), planned(shards=3, rounds=4, steps=4, seed=3, **settings)
    )
    model, history = fit(client, steps=4, **settings)
    assert bits(model) == bits(alone)
    pace = rates(settings["schedule"], settings["learning_rate"], 4 * 4)
    assert history.learning_rate == pace[3::4].tolist()


def test_one_shard_and_one_round_are_an_ordinary_training(client):
    ordinary = network()
    fm.fit(ordinary, images(), epochs=1, batch_size=16, seed=3, validation=10)
    model, history = fit(client, shards=1, rounds=1, validation=10)
    assert bits(model) == bits(ordinary)
    _, held_out = set_aside(images(), 10, 3)
    assert history.validation_accuracy == [fm.evaluate(ordinary, held_out).accuracy]


def test_it_learns(client):
    train, test = datasets.generate(600, seed=3), datasets.generate(100, seed=1)
    model = fm.MLP([784, 32, 10])
    history = fm.distributed.fit(
        model, train, client, shards=4, rounds=12, batch_size=16, validation=test
    )
    assert len(history) == 12
    assert history.loss[-1] < history.loss[0] / 2
    assert history.validation_accuracy[-1] == fm.evaluate(model, test).accuracy > 0.6
    assert all(epoch.seconds > 0 for epoch in history)


@pytest.mark.parametrize(
    ("workers", "threads", "separate"),
    [(1, 1, False), (3, 1, False), (1, 2, False), (2, 2, False), (2, 2, True)],
)
@pytest.mark.parametrize("shards", [3, 10])
def test_any_number_of_workers_and_threads_gives_the_same_bits(
    shards, workers, threads, separate, times
):
    if separate and not times(False, True):
        pytest.skip("processes start in 3 s; with --long")
    alone = trained_alone(network(), images(), planned(shards=shards, rounds=4, seed=3))
    with (
        LocalCluster(
            n_workers=workers,
            threads_per_worker=threads,
            processes=separate,
            dashboard_address="127.0.0.1:0",
        ) as cluster,
        Client(cluster) as client,
    ):
        settings = {"optimizer": "sgd", "schedule": "constant", "learning_rate": 0.1}
        model, _ = fit(client, shards=shards, **settings)
    assert bits(model) == bits(alone)


@pytest.mark.kernels
def test_each_task_is_trained_on_one_thread(client, monkeypatch):
    threads, train_epoch = [], fm.kernels.train_epoch

    def spy(*arguments, **options):
        threads.append(options["threads"])
        return train_epoch(*arguments, **options)

    monkeypatch.setattr(fm.kernels, "train_epoch", spy)
    monkeypatch.setattr(local_sgd, "compile_once", lambda *_, **__: None)
    fit(client)
    assert threads == [1] * 12


def test_a_callback_is_told_each_round_and_progress_is_printed(client, capsys):
    seen = []
    model, history = fit(
        client, rounds=3, progress=True, callbacks=[lambda *told: seen.append(told)]
    )
    assert seen == [(model, epoch) for epoch in history]
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in lines] == ["round 1/3", "round 2/3", "round 3/3"]


def test_workers_take_the_mean_and_the_driver_gets_that_alone(client, monkeypatch):
    """By a tree for more shards than eight; the same bits as one process gets by the same tree."""
    alone = trained_alone(network(), images(), planned(shards=20, rounds=2, seed=3, steps=2))
    gathered, gather = [], Client.gather

    def spy(self, futures, **options):
        gathered.append([future.key.rpartition("-")[0].split("-")[0] for future in futures])
        return gather(self, futures, **options)

    monkeypatch.setattr(Client, "gather", spy)
    monkeypatch.setattr(local_sgd, "compile_once", lambda *_, **__: None)
    settings = {"optimizer": "sgd", "schedule": "constant", "learning_rate": 0.1, "steps": 2}
    model, _ = fit(client, shards=20, rounds=2, **settings)
    assert gathered == [["average_in_float32"]] * 2
    assert bits(model) == bits(alone)


@pytest.mark.parametrize("portions", [1, 3])
def test_workers_hold_the_portions_of_one_round(portions, client):
    tasks = client.cluster.scheduler.tasks
    before, held = set(tasks), []

    def count(model, epoch):
        held.append(sum(key.startswith("load_portion") for key in tasks.keys() - before))

    drawn = fm.distributed.Drawn(20, portions=portions)
    fit(client, drawn, fm.MLP([784, 10]), callbacks=[count])
    assert held == [3] * 4


# Stopped, and gone on with.


def stop_after(count):
    seen = []

    def stop(model, epoch):
        seen.append(epoch)
        if len(seen) > count:
            raise KeyboardInterrupt

    return stop


@pytest.mark.parametrize("way", ["adamw", "augmented"])
def test_stopped_and_resumed_it_gives_the_same_bits(way, client, tmp_path):
    path, settings = tmp_path / "training.npz", {"rounds": 5, **WAYS[way]}
    whole, history = fit(client, **settings)
    with pytest.raises(KeyboardInterrupt):
        fit(client, checkpoint=path, callbacks=[stop_after(2)], **settings)
    assert len(checkpoints.read(path).progress.history) == 2

    model, resumed = fit(client, checkpoint=path, resume=True, **settings)

    assert bits(model) == bits(whole)
    assert resumed.loss == history.loss
    assert bits(fm.MLP.load(path)) == bits(whole)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"shards": 4}, "shards was 3, is 4"),
        ({"rounds": 9}, "rounds was 4, is 9"),
        ({"steps": 2}, "steps was None, is 2"),
        ({"learning_rate": 0.2}, "learning_rate was 0.1, is 0.2"),
        ({"optimizer": "adam"}, "optimizer was SGD"),
        ({"dropout": 0.5}, r"dropout was 0\.0, is 0\.5"),
        ({"augmentation": fm.Augmentation(shift=2)}, "augmentation was None, is Augmentation"),
        ({"seed": 4}, "seed was 3, is 4"),
        ({"validation": 5}, "validation was None, is 5 samples"),
        ({"data": images(seed=1)}, "train was 90 samples"),
        ({"data": fm.distributed.Drawn(30)}, "train was 90 samples .*, is Drawn"),
        ({"model": network(seed=2)}, "parameters at the start"),
    ],
)
def test_another_training_is_not_gone_on_with(changed, said, client, tmp_path):
    path = tmp_path / "training.npz"
    with pytest.raises(KeyboardInterrupt):
        fit(client, checkpoint=path, callbacks=[stop_after(0)])
    before = path.read_bytes()
    with pytest.raises(ValueError, match=said):
        fit(client, checkpoint=path, resume=True, **changed)
    assert path.read_bytes() == before


def test_the_checkpoint_of_an_ordinary_training_is_another(client, tmp_path):
    path = tmp_path / "training.npz"
    fm.fit(network(), images(), epochs=1, batch_size=16, seed=3, checkpoint=path)
    with pytest.raises(ValueError, match="shards was None, is 3"):
        fit(client, checkpoint=path, resume=True)


# What fails.


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize("backend", BACKENDS)
def test_divergence_in_a_shard_is_told_with_its_round(backend, client):
    kept = []
    model = network()
    with pytest.raises(
        fm.DivergedError, match=r"round \d+, shard \d of 3; .* below 1e\+10"
    ) as info:
        fit(
            client,
            model=model,
            learning_rate=1e10,
            rounds=30,
            backend=backend,
            callbacks=[lambda model, epoch: kept.append(bits(model))],
        )
    kept.insert(0, bits(network()))
    assert info.value.epoch == len(kept)
    assert bits(model) == kept[-1]


def test_wrong_data_on_a_worker_is_told_as_it_is(client):
    with pytest.raises(ValueError, match=r"label \d at index \d+: wanted 0 to 2"):
        fit(client, fm.distributed.Drawn(30), fm.MLP([784, 3]))
    with pytest.raises(ValueError, match="784 features a row, the network has 64 inputs"):
        fit(client, fm.distributed.Drawn(30))


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"shards": 0}, ValueError, "shards must be from 1"),
        ({"shards": 91}, ValueError, "images: 90 samples for 91 shards"),
        ({"rounds": 0}, ValueError, "rounds must be from 1"),
        ({"rounds": 1.5}, TypeError, "rounds must be a whole number"),
        ({"steps": 0}, ValueError, "steps must be from 1"),
        ({"batch_size": 0}, ValueError, "batch_size must be from 1"),
        ({"learning_rate": -1}, ValueError, "learning_rate must be finite and greater"),
        ({"optimizer": "addam"}, ValueError, "did you mean 'adam'"),
        ({"schedule": "consine"}, ValueError, "did you mean 'cosine'"),
        ({"label_smoothing": 1}, ValueError, "label_smoothing must be in"),
        ({"dropout": 1}, ValueError, "dropout must be in"),
        ({"input_dropout": -1}, ValueError, "input_dropout must be in"),
        ({"augmentation": "shift"}, TypeError, "augmentation must be an Augmentation"),
        ({"backend": "nunba"}, ValueError, "did you mean 'numba'"),
        ({"seed": -1}, ValueError, "seed must be from 0"),
        ({"validation": 90}, ValueError, "validation must leave samples"),
        ({"resume": True}, ValueError, "resume needs a checkpoint"),
        ({"model": fm.MLP([9, 5])}, ValueError, "images: X has 64 features"),
        ({"data": images()[:0]}, ValueError, "no samples"),
        ({"data": fm.distributed.Drawn(9), "validation": 5}, TypeError, "must be a Dataset"),
        ({"client": None}, TypeError, "client must be that of"),
    ],
)
def test_a_wrong_argument_is_told_before_anything_is_done(options, error, said, client):
    model = options.get("model") or network()
    before = bits(model)
    options = {"client": client, "data": images(), **options, "model": model}
    with pytest.raises(error, match=said):
        fit(**options)
    assert bits(model) == before
