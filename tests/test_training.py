"""fit(): what it returns, reproducibility, interruption, divergence, and bad arguments."""

import contextlib
import math
import re
import signal
import threading
import time

import numpy as np
import pytest
from agreement import BACKENDS, EPS, flat, steps_apart
from trained import EVERYTHING

import fastmnist as fm
from fastmnist import epochs, metrics, reference
from fastmnist.backends import backend_named
from fastmnist.epochs import epoch_order
from fastmnist.history import Epoch, History
from fastmnist.optimizers import SGD, State, rates
from fastmnist.progress import Best
from fastmnist.training import fit

either = pytest.mark.parametrize("backend", BACKENDS)


def blobs(count=200, seed=0, features=30, classes=4):
    """Images of a few classes that a network soon tells apart."""
    rng = np.random.default_rng(seed)
    shapes = np.random.default_rng(99).integers(0, 256, (classes, features))
    labels = rng.integers(0, classes, count)
    images = (
        shapes[labels] * rng.uniform(0.5, 1, (count, 1)) * (rng.random((count, features)) < 0.7)
    )
    return fm.Dataset(images.astype(np.uint8), labels, "blobs")


def trained(seed=0, sizes=(30, 17, 4), count=200, **options):
    model = fm.MLP(sizes, seed=1)
    history = fit(model, blobs(count), seed=seed, **{"epochs": 3, "batch_size": 16} | options)
    return model, history


# What comes back.


@either
def test_it_learns(backend):
    model, history = trained(epochs=10, backend=backend)
    assert history.loss[-1] < history.loss[0] / 5
    assert fm.evaluate(model, blobs(seed=1)).accuracy > 0.95


@either
def test_each_epoch_is_an_epoch_of_the_backend(backend):
    data, module = blobs(), backend_named(backend)
    model, history = trained(seed=5, backend=backend, learning_rate=0.05)
    again = fm.MLP(model.sizes, seed=1)
    state = State.zeros(again.params)
    step_rates = rates("one-cycle", 0.05, 3 * 13)
    for number, epoch in enumerate(history):
        loss = module.train_epoch(
            again.params,
            data.images,
            data.labels,
            learning_rate=step_rates[13 * number : 13 * (number + 1)],
            batch_size=16,
            optimizer=SGD(momentum=0.9, nesterov=True),
            state=state,
            order=epoch_order(5, number, 200),
        )
        assert epoch.loss == loss
        assert epoch.learning_rate == step_rates[13 * (number + 1) - 1]
        assert epoch.seconds > 0
    assert np.array_equal(model.params.flat, again.params.flat)


def test_history_holds_each_quantity_of_each_epoch():
    _, history = trained(validation=blobs(50, seed=1))
    assert len(history) == 3
    assert isinstance(history[0], Epoch)
    assert isinstance(history[1:], History)
    assert list(history[1:]) == list(history)[1:]
    for name in ("loss", "validation_loss", "validation_accuracy", "seconds", "learning_rate"):
        assert getattr(history, name) == [getattr(epoch, name) for epoch in history]
    assert "History([Epoch(" in repr(history)


def test_without_validation_there_are_no_scores():
    _, history = trained()
    assert history.validation_loss == history.validation_accuracy == [None] * 3


def test_a_validation_set_is_evaluated_after_each_epoch():
    held_out, seen = blobs(50, seed=1), []
    _, history = trained(
        validation=held_out,
        callbacks=[lambda model, epoch: seen.append(fm.evaluate(model, held_out))],
    )
    assert history.validation_loss == [report.loss for report in seen]
    assert history.validation_accuracy == [report.accuracy for report in seen]


def test_validation_samples_are_set_aside(monkeypatch):
    data = fm.Dataset(np.arange(100, dtype=np.float32).reshape(100, 1) / 100, np.arange(100) % 3)
    seen = {}

    def spy(params, X, y, **options):
        seen["trained"], seen["labels"] = X[:, 0], y
        return 0.0

    monkeypatch.setattr(reference, "train_epoch", spy)
    monkeypatch.setattr(
        metrics,
        "evaluate",
        lambda model, held, **_: (
            seen.update(held=held) or metrics.Report(0, 0, np.eye(3), 0, np.empty(0))
        ),
    )

    def split(seed):
        fit(fm.MLP([1, 3]), data, epochs=1, validation=20, backend="reference", seed=seed)
        assert len(seen["held"]) == 20
        held = seen["held"].images[:, 0]
        assert sorted([*held, *seen["trained"]]) == sorted(data.images[:, 0])
        assert np.array_equal(np.rint(100 * held) % 3, seen["held"].labels)
        assert np.array_equal(np.rint(100 * seen["trained"]) % 3, seen["labels"])
        return held

    assert np.array_equal(split(0), split(0))
    assert not np.array_equal(split(0), split(1))


@pytest.mark.fault(row=49)
def test_a_batch_larger_than_the_set_is_all_of_it():
    all_of_it, _ = trained(batch_size=200)
    larger, _ = trained(batch_size=2**31 - 1)
    assert np.array_equal(all_of_it.params.flat, larger.params.flat)


@pytest.mark.fault(row=46)
def test_images_train_like_rows():
    data = blobs()
    images = fm.Dataset(data.images.reshape(-1, 5, 6), data.labels)
    model, twin = fm.MLP([30, 4]), fm.MLP([30, 4])
    fit(model, data, epochs=1)
    fit(twin, images, epochs=1)
    assert np.array_equal(model.params.flat, twin.params.flat)


def test_schedules_can_be_functions():
    model, history = trained(schedule=lambda progress: 1 - progress, learning_rate=0.2)
    assert history.learning_rate[-1] == pytest.approx(0.2 / 39)
    constant, history = trained(schedule="constant", learning_rate=0.2)
    assert history.learning_rate == [0.2] * 3
    assert not np.array_equal(model.params.flat, constant.params.flat)


def test_the_order_is_a_permutation_of_its_own_for_each_seed_and_epoch():
    orders = [tuple(epoch_order(seed, epoch, 50)) for seed in (0, 1, 2**63 - 1) for epoch in (0, 1)]
    assert len(set(orders)) == 6
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert tuple(epoch_order(0, 0, 50)) == orders[0]


def test_progress_prints_a_line_for_each_epoch(capsys):
    trained(progress=True, validation=20)
    trained(progress=True, epochs=1)
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert len(lines) == 4
    for number, line in enumerate(lines[:3], 1):
        pattern = rf"epoch {number}/3: loss \d\.\d{{4}}, validation \d+\.\d\d %, \d+\.\d\d s"
        assert re.fullmatch(pattern, line)
    assert re.fullmatch(r"epoch 1/1: loss \d\.\d{4}, \d+\.\d\d s", lines[3])


def test_without_progress_nothing_is_printed(capsys):
    trained()
    assert capsys.readouterr() == ("", "")


def test_callbacks_see_the_model_after_each_epoch():
    calls = []
    model, history = trained(
        callbacks=[
            lambda model, epoch: calls.append(("first", epoch, model.params.flat.copy())),
            lambda model, epoch: calls.append(("second", epoch, model.params.flat.copy())),
        ]
    )
    assert [name for name, *_ in calls] == ["first", "second"] * 3
    assert [epoch for _, epoch, _ in calls[::2]] == list(history)
    assert np.array_equal(calls[-1][2], model.params.flat)
    assert not np.array_equal(calls[0][2], model.params.flat)


# The same bits.


@either
def test_both_backends_train_the_same_network(backend):
    # without hidden layers, so that no gate of a ReLU can differ
    model, history = trained(sizes=(30, 4), backend=backend)
    twin, twin_history = trained(sizes=(30, 4), backend="reference")
    assert history.loss == pytest.approx(twin_history.loss, rel=8 * EPS)
    for got, want in zip(flat(model.params), flat(twin.params), strict=True):
        assert steps_apart(got, want) <= 32


@pytest.mark.compiled
@pytest.mark.parametrize("optimizer", ["sgd", "nesterov"])
def test_any_number_of_threads_gives_the_same_bits(optimizer):
    def run(threads):
        model, history = trained(
            sizes=(30, 129, 65, 4), batch_size=150, count=400, optimizer=optimizer, threads=threads
        )
        return model.params.flat.tobytes(), history.loss

    first = run(1)
    assert all(run(threads) == first for threads in (1, 2, 3, 4, 7, 16, None))


@pytest.mark.fault(row=55)
def test_seeds_decide_the_order():
    first, again, other = (trained(seed=seed)[0].params.flat for seed in (3, np.int64(3), 4))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.fault(row=84)
def test_two_fits_at_once_give_the_same_bits_as_in_turn():
    want = [trained(seed=seed)[0].params.flat.tobytes() for seed in range(2)]
    got = [None, None]

    def run(seed):
        got[seed] = trained(seed=seed)[0].params.flat.tobytes()

    for _ in range(5):
        threads = [threading.Thread(target=run, args=(seed,)) for seed in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert got == want


@pytest.mark.fault(row=85)
def test_a_callback_can_train_another_model():
    inner = []
    model, _ = trained(callbacks=[lambda *_: inner.append(trained(epochs=1)[0].params.flat)])
    assert np.array_equal(model.params.flat, trained()[0].params.flat)
    assert all(np.array_equal(flat, trained(epochs=1)[0].params.flat) for flat in inner)


@pytest.mark.compiled
@pytest.mark.fault(row=80)
@pytest.mark.parametrize("augmented", [False, True])
@pytest.mark.parametrize("sizes", [(30, 129, 65, 4), (30, 10, 4), (30, 4)])
def test_any_number_of_threads_gives_the_same_bits_with_everything(sizes, augmented):
    data = blobs(400)
    options = EVERYTHING | {"learning_rate": 0.01, "batch_size": 150, "epochs": 2}
    if augmented:
        data = fm.Dataset(data.images.reshape(-1, 5, 6), data.labels)
        options["augmentation"] = fm.Augmentation(shift=1, rotation=10, elastic=5)

    def run(threads):
        model = fm.MLP(sizes, seed=1)
        fit(model, data, threads=threads, **options)
        return model.params.flat.tobytes()

    first = run(1)
    assert all(run(threads) == first for threads in (2, 3, 4, 7, 16, 2, 2))


@pytest.mark.kernels
@pytest.mark.parametrize("name", [*EVERYTHING, "all"])
def test_both_backends_take_the_same_way(name):
    options = EVERYTHING if name == "all" else {name: EVERYTHING[name]}
    options = {"learning_rate": 0.01, "epochs": 4, "batch_size": 50} | options
    ends = []
    for backend in ("numba", "reference"):
        model, history = trained(backend=backend, **options)
        ends.append((model.params.flat.copy(), history.loss))
    (params, losses), (others, other_losses) = ends
    start = fm.MLP([30, 17, 4], seed=1).params.flat
    assert losses == pytest.approx(other_losses, rel=1e-4)
    assert np.linalg.norm(params - others) < 1e-3 * np.linalg.norm(params - start)
    plain, _ = trained(learning_rate=0.01, epochs=4, batch_size=50)
    assert np.linalg.norm(params - plain.params.flat) > 1e-2 * np.linalg.norm(params - start)


@pytest.mark.kernels
def test_both_backends_take_the_same_way_with_distortions_and_after_a_pause(tmp_path):
    data = blobs(240)
    data = fm.Dataset(data.images.reshape(-1, 5, 6), data.labels)
    options = EVERYTHING | {
        "augmentation": fm.Augmentation(shift=1, rotation=10, scale=0.1, shear=0.1, elastic=5),
        "averaging": 0,
        "validation": 40,
        "patience": 4,
        "learning_rate": 0.01,
        "epochs": 4,
        "batch_size": 50,
    }
    models, histories = [], []
    for backend in ("numba", "reference"):
        options |= {"backend": backend, "checkpoint": tmp_path / f"{backend}.npz"}
        with pytest.raises(KeyboardInterrupt):
            fit(fm.MLP([30, 17, 4], seed=1), data, callbacks=[_interrupt_in_epoch(3)], **options)
        models.append(fm.MLP([30, 17, 4], seed=1))
        histories.append(fit(models[-1], data, resume=True, **options))
    for name in ("loss", "validation_loss"):
        losses, others = (getattr(history, name) for history in histories)
        assert losses == pytest.approx(others, rel=1e-4)
        assert len(losses) == 4
    params, others = (model.params.flat for model in models)
    start = fm.MLP([30, 17, 4], seed=1).params.flat
    assert np.linalg.norm(params - others) < 1e-3 * np.linalg.norm(params - start)


def _interrupt_in_epoch(number):
    seen = []

    def callback(model, epoch):
        seen.append(epoch)
        if len(seen) == number:
            raise KeyboardInterrupt

    return callback


@either
def test_averaging_takes_the_mean_over_the_last_epochs(backend):
    ends = []
    model, history = trained(
        epochs=5,
        averaging=0.6,
        validation=20,
        backend=backend,
        callbacks=[lambda model, epoch: ends.append(model.params.flat.copy())],
    )
    again = []
    trained(
        epochs=5,
        validation=20,
        backend=backend,
        callbacks=[lambda model, epoch: again.append(model.params.flat.copy())],
    )
    np.testing.assert_allclose(model.params.flat, np.mean(again[2:], axis=0), atol=1e-6)
    np.testing.assert_array_equal(ends[-1], model.params.flat)
    assert not np.array_equal(again[-1], model.params.flat)
    held_out = epochs.set_aside(blobs(), 20, 0)[1]
    assert history[-1].validation_loss == fm.evaluate(model, held_out).loss


def test_averaging_takes_the_last_epoch_at_least():
    model, _ = trained(averaging=0.01)
    plain, _ = trained()
    np.testing.assert_array_equal(model.params.flat, plain.params.flat)


@either
def test_early_stopping_restores_the_best(backend):
    ends = []
    rng = np.random.default_rng(0)
    data = fm.Dataset(rng.random((60, 30)), rng.integers(0, 4, 60))  # nothing can be learnt
    model = fm.MLP([30, 17, 4], seed=1)
    history = fit(
        model,
        data,
        epochs=200,
        batch_size=10,
        schedule="constant",
        validation=30,
        patience=3,
        backend=backend,
        callbacks=[lambda model, epoch: ends.append(model.params.flat.copy())],
    )
    losses = history.validation_loss
    best = int(np.argmin(losses))
    assert len(history) == best + 4 < 200
    np.testing.assert_array_equal(model.params.flat, ends[best])


def test_early_stopping_that_never_stops_restores_the_best_too():
    model, history = trained(epochs=5, validation=50, patience=100)
    held_out = epochs.set_aside(blobs(), 50, 0)[1]
    assert len(history) == 5
    assert fm.evaluate(model, held_out).loss == min(history.validation_loss)


@pytest.mark.parametrize(
    "options", [{"patience": 3}, {"patience": 3, "validation": 20, "averaging": 0.5}]
)
def test_early_stopping_needs_validation_and_no_averaging(options):
    with pytest.raises(ValueError, match="patience needs validation, and no averaging"):
        trained(**options)


@pytest.mark.parametrize(("optimizer", "usual"), [("sgd", 0.1), ("nesterov", 0.1), ("adam", 0.003)])
def test_the_learning_rate_is_what_is_usual(optimizer, usual):
    options = {"optimizer": optimizer, "schedule": "constant"}
    model, history = trained(**options)
    assert history.learning_rate == [usual] * 3
    same, _ = trained(learning_rate=usual, **options)
    assert np.array_equal(model.params.flat, same.params.flat)


def test_rows_cannot_be_distorted():
    with pytest.raises(ValueError, match="uint8 images"):
        trained(augmentation=fm.Augmentation(shift=1))


# When it ends early.


@pytest.fixture
def no_thread_stays():
    before = set(threading.enumerate())
    yield
    wait_for_threads_but(before)


def wait_for_threads_but(before):
    """Until only these are left; a thread that has done its work may need a moment to go."""
    limit = time.monotonic() + 20
    while not set(threading.enumerate()) <= before:
        assert time.monotonic() < limit, threading.enumerate()
        time.sleep(0.001)


@pytest.mark.fault(row=76)
@either
def test_a_callback_that_raises_ends_training_after_its_epoch(backend, no_thread_stays):
    def stop(model, epoch):
        raise LookupError("enough")

    model = fm.MLP([30, 17, 4], seed=1)
    with pytest.raises(LookupError, match="enough"):
        fit(model, blobs(), epochs=3, schedule="constant", callbacks=[stop], backend=backend)
    once, _ = trained(epochs=1, batch_size=64, schedule="constant", backend=backend)
    assert np.array_equal(model.params.flat, once.params.flat)


@either
@pytest.mark.parametrize("rate", [1e20, 1e38, 1e300])
def test_divergence_restores_the_last_whole_epoch(backend, rate, no_thread_stays):
    model = fm.MLP([30, 17, 4], seed=1)
    before = model.params.flat.copy()
    with pytest.raises(fm.DivergedError, match="epoch 1"):
        fit(model, blobs(), learning_rate=rate, epochs=3, batch_size=16, backend=backend)
    assert np.array_equal(model.params.flat, before)


@either
def test_divergence_later_restores_the_epoch_before(backend):
    model, after = fm.MLP([30, 17, 4], seed=1), []
    with pytest.raises(fm.DivergedError, match="epoch 3"):
        fit(
            model,
            blobs(),
            epochs=4,
            batch_size=16,
            learning_rate=1e-3,
            schedule=lambda progress: np.where(progress < 0.5, 1, 1e15),
            callbacks=[lambda model, epoch: after.append(model.params.flat.copy())],
            backend=backend,
        )
    assert len(after) == 2
    assert np.array_equal(model.params.flat, after[-1])


@pytest.fixture
def ctrl_c():
    """Within it, and never later, an interrupt signal raises KeyboardInterrupt."""
    inside = []

    def handler(*_):
        if inside:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def window():
        inside.append(True)
        try:
            yield
        finally:
            inside.clear()

    usual = signal.signal(signal.SIGINT, handler)
    yield window
    signal.signal(signal.SIGINT, usual)


@pytest.mark.compiled
@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="sends itself a signal")
@pytest.mark.parametrize("presses", [1, 2])
@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize(("width", "batch_size"), [(600, 1), (1500, 100)], ids=["short", "long"])
def test_ctrl_c_ends_within_a_batch_as_of_the_last_whole_epoch(
    width, batch_size, threads, presses, ctrl_c
):
    for _ in range(5):  # a busy machine may keep even a thread waiting that is to end
        seconds, waited = interrupted(ctrl_c, width, batch_size, threads, presses)
        if waited < seconds / 2:
            return
    pytest.fail(f"waited for {waited:.3f} s where an epoch takes {seconds:.3f} s")


def interrupted(ctrl_c, width, batch_size, threads, presses):
    """How long an epoch took, and how long Ctrl-C in the next one; the model is as of the first."""
    model = fm.MLP([30, width, width, 4], seed=1)
    after, sent, before = [], [], set(threading.enumerate())

    def press():
        for _ in range(presses):
            sent.append(time.perf_counter())
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            time.sleep(0.002)

    def remember(model, epoch):
        after.append((epoch.seconds, model.params.flat.copy()))
        if len(after) == 1:
            threading.Timer(epoch.seconds / 5, press).start()

    with pytest.raises(KeyboardInterrupt), ctrl_c():
        fit(
            model,
            blobs(500),
            epochs=1000,  # however late a busy machine lets the other thread press
            batch_size=batch_size,
            learning_rate=1e-3,
            callbacks=[remember],
            threads=threads,
        )
    waited = time.perf_counter() - sent[0]
    wait_for_threads_but(before)  # any that were left could still write
    seconds, params = after[-1]
    assert np.array_equal(model.params.flat, params)
    return seconds, waited


def test_training_goes_on_after_an_interruption():
    interrupted = fm.MLP([30, 17, 4], seed=1)

    def interrupt(model, epoch):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(interrupted, blobs(), epochs=1, schedule="constant", callbacks=[interrupt])
    fit(interrupted, blobs(), epochs=1, schedule="constant")
    model = fm.MLP([30, 17, 4], seed=1)
    for _ in range(2):
        fit(model, blobs(), epochs=1, schedule="constant")
    assert np.array_equal(interrupted.params.flat, model.params.flat)


@pytest.mark.fault(row=85)
def test_it_trains_in_any_thread_and_sets_no_signal_handler():
    handler, results = signal.getsignal(signal.SIGINT), []
    thread = threading.Thread(target=lambda: results.append(trained()[0].params.flat))
    thread.start()
    thread.join()
    assert np.array_equal(results[0], trained()[0].params.flat)
    assert signal.getsignal(signal.SIGINT) is handler


# Bad arguments.

WRONG = [
    *[({name: value}, TypeError, name) for name in ("epochs", "batch_size", "seed", "validation")
      for value in (1.5, True, "32", [1], math.nan)],
    *[({name: None}, TypeError, name)
      for name in ("epochs", "batch_size", "seed")],
    *[({name: value}, ValueError, name) for name in ("epochs", "batch_size", "validation")
      for value in (0, -1, 2**63)],
    *[({"threads": value}, error, "threads") for value, error in
      ((0, ValueError), (-1, ValueError), (2**63, ValueError), (1.5, TypeError), (True, TypeError),
       ("2", TypeError))],
    *[({"learning_rate": value}, ValueError, "learning_rate")
      for value in (0, -0.1, math.nan, math.inf, -math.inf)],
    *[({"learning_rate": value}, TypeError, "learning_rate") for value in ("0.1", True, [0.1], 1j)],
    *[({name: value}, ValueError, name)
      for name in ("label_smoothing", "dropout", "input_dropout", "averaging")
      for value in (-0.1, 1, math.nan)],
    *[({name: "0.1"}, TypeError, name)
      for name in ("label_smoothing", "dropout", "input_dropout", "averaging")],
    ({"patience": 0, "validation": 20}, ValueError, "patience"),
    ({"augmentation": True}, TypeError, "must be an Augmentation"),
    ({"augmentation": {"shift": 1}}, TypeError, "must be an Augmentation"),
    ({"schedule": lambda progress: -progress}, ValueError, "at least 0"),
    ({"schedule": lambda progress: progress * math.nan}, ValueError, "finite factor"),
    ({"schedule": lambda progress: progress[:3]}, ValueError, "finite factor"),
    ({"seed": -1}, ValueError, "seed"),
    ({"seed": 2**64}, ValueError, "seed"),
    ({"validation": 200}, ValueError, "validation must leave samples to train: 200 of 200"),
    ({"optimizer": "nestrov"}, ValueError, "did you mean 'nesterov'"),
    ({"optimizer": 3}, ValueError, "unknown optimizer 3"),
    ({"schedule": "one_cycle"}, ValueError, "did you mean 'one-cycle'"),
    ({"schedule": None}, ValueError, "unknown schedule None"),
    ({"backend": "numpy"}, ValueError, "known: auto, numba, reference"),
    ({"momentum": 0.9}, TypeError, "momentum"),
    ({"epoch": 3}, TypeError, "unexpected keyword argument 'epoch'"),
    ({"optimizer": SGD}, ValueError, "known: sgd, momentum, nesterov"),
    ({"validation": 201}, ValueError, "validation must leave samples to train: 201 of 200"),
    ({"epochs": "32"}, TypeError, "epochs must be a whole number from 1 to 2147483647, got '32'"),
    ({"batch_size": 0}, ValueError, "batch_size must be from 1 to 2147483647, got 0"),
    ({"seed": -1}, ValueError, "seed must be from 0 to 9223372036854775807, got -1"),
]  # fmt: skip


@pytest.mark.fault(row=52)
@pytest.mark.fault(row=53)
@pytest.mark.fault(row=55)
@pytest.mark.fault(row=56)
@either
@pytest.mark.parametrize(("options", "error", "message"), WRONG)
def test_bad_options_are_refused_and_nothing_changes(options, error, message, backend):
    model = fm.MLP([30, 17, 4], seed=1)
    before = model.params.flat.copy()
    with pytest.raises(error, match=re.escape(message)):
        fit(model, blobs(), **{"backend": backend} | options)
    assert np.array_equal(model.params.flat, before)


X30 = np.zeros((5, 30), np.uint8)
BAD_SETS = {
    "too narrow": (fm.Dataset(np.zeros((5, 29)), np.zeros(5, int)), "29 features"),
    "no labels": (fm.Dataset(X30), "no labels"),
    "label too large": (fm.Dataset(X30, np.array([0, 1, 2, 3, 4])), "label 4 at index 4"),
    "label negative": (fm.Dataset(X30, np.array([0, -1, 2, 3, 3])), "label -1 at index 1"),
    "label a fraction": (fm.Dataset(X30, np.array([0, 1, 1.5, 2, 3])), "label 1.5 at index 2"),
    "NaN": (fm.Dataset(np.full((5, 30), np.nan), np.zeros(5, int)), "row 0, column 0"),
    "infinite": (fm.Dataset(np.full((5, 30), np.inf), np.zeros(5, int)), "finite"),
    "empty": (fm.Dataset(X30[:0], np.zeros(0, int)), "no samples"),
}


@pytest.mark.fault(row=37)
@pytest.mark.fault(row=45)
@pytest.mark.fault(row=48)
@either
@pytest.mark.parametrize("role", ["train", "validation"])
@pytest.mark.parametrize(("data", "message"), BAD_SETS.values(), ids=BAD_SETS)
def test_bad_data_are_refused_and_nothing_changes(data, message, role, backend):
    model = fm.MLP([30, 17, 4], seed=1)
    before = model.params.flat.copy()
    sets = {"train": blobs(), "validation": None} | {role: data}
    with pytest.raises(ValueError, match=message):
        fit(model, **sets, backend=backend)
    assert np.array_equal(model.params.flat, before)


@pytest.mark.fault(row=50)
@either
def test_the_data_stay_as_they_were(backend):
    data = blobs()
    images, labels = data.images.copy(), data.labels.copy()
    fit(fm.MLP([30, 4]), data, epochs=1, validation=20, backend=backend)
    assert np.array_equal(data.images, images)
    assert np.array_equal(data.labels, labels)


@pytest.mark.compiled
def test_real_digits_are_learned_in_an_epoch(mnist):
    model = fm.MLP([784, 32, 10], seed=0)
    history = fit(model, mnist.train[:10_000], epochs=1, validation=1000, learning_rate=0.05)
    assert history.validation_accuracy[0] > 0.85
    assert fm.evaluate(model, mnist.test).accuracy > 0.85


def test_without_a_loss_that_is_a_number_there_is_no_best():
    best, params = Best(), fm.MLP([3, 2], seed=0).params
    before = params.flat.copy()
    best.note(params, math.nan)
    assert (best.params, best.age) == (None, 1)
    best.restore(params)
    np.testing.assert_array_equal(params.flat, before)
