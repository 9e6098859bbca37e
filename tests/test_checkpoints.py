"""Checkpoints: stopped, killed and resumed, a training ends with the same bits."""

import dataclasses
import os

import numpy as np
import pytest
from agreement import BACKENDS

import fastmnist as fm
from fastmnist import archive, checkpoints
from fastmnist.datasets import Dataset
from fastmnist.errors import DataError, DivergedError, ModelFileError

SIZES = (20, 7, 3)
WAYS = {
    "plain": {"optimizer": "sgd"},
    "everything": {
        "optimizer": "adamw",
        "dropout": 0.2,
        "input_dropout": 0.1,
        "label_smoothing": 0.1,
        "averaging": 0.6,
        "validation": 15,
    },
    "patience": {"learning_rate": 2.0, "validation": 15, "patience": 2},
    "augmented": {"augmentation": fm.Augmentation(shift=1), "schedule": "cosine"},
}


def samples(count=80, seed=0):
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (count, 4, 5), np.uint8)
    return Dataset(images, images.reshape(count, -1).argmax(axis=1) % 3)


def train(path=None, *, stop_after=None, seed=0, data=None, sizes=SIZES, **options):
    """Train, or stop in a callback, and return the model and the history."""
    model = fm.MLP(sizes, seed=seed)
    epochs = []

    def stop(model, epoch):
        epochs.append(epoch)
        if len(epochs) == stop_after:
            raise KeyboardInterrupt

    options = {"epochs": 6, "batch_size": 16, "callbacks": [stop], **options}
    history = fm.fit(model, data or samples(), checkpoint=path, **options)
    return model, history


def stopped(path, after, **options):
    """A checkpoint of so many whole epochs: the epoch in which it stops is not kept."""
    with pytest.raises(KeyboardInterrupt):
        train(path, stop_after=after + 1, **options)
    return path


def bits(model):
    return model.params.flat.tobytes()


def without_times(history):
    return [dataclasses.replace(epoch, seconds=0) for epoch in history]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "training.npz"


@pytest.mark.fault(row=80)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("way", WAYS)
def test_a_training_resumed_after_any_epoch_ends_with_the_same_bits(way, backend, tmp_path):
    options = WAYS[way] | {"backend": backend, "threads": 2}
    model, history = train(**options)
    for after in range(len(history)):
        path = stopped(tmp_path / f"{after}.npz", after, **options)
        resumed, whole_history = train(path, resume=True, **options)
        assert bits(resumed) == bits(model)
        assert without_times(whole_history) == without_times(history)


def test_a_finished_training_is_resumed_to_its_end(path):
    model, history = train(path)
    resumed, again = train(path, resume=True)
    assert bits(resumed) == bits(model)
    assert list(again) == list(history)


def test_a_checkpoint_is_a_model_of_the_last_whole_epoch(path):
    after = []
    train(callbacks=[lambda model, epoch: after.append(bits(model))])
    stopped(path, 2)
    assert bits(fm.MLP.load(path)) == after[1]
    train(path, resume=True)
    assert bits(fm.MLP.load(path)) == after[-1]


def test_the_model_in_a_checkpoint_may_be_the_one_to_go_on_with(path):
    stopped(path, 2)
    model = fm.MLP.load(path)
    fm.fit(model, samples(), epochs=6, batch_size=16, checkpoint=path, resume=True)
    assert bits(model) == bits(train()[0])


def test_a_resumed_training_says_which_epochs_it_does(path, capsys):
    stopped(path, 4)
    train(path, resume=True, progress=True)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in lines] == ["epoch 5/6", "epoch 6/6"]


@pytest.mark.fault(row=75)
@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"epochs": 7}, "epochs was 6, is 7"),
        ({"batch_size": 17}, "batch_size was 16, is 17"),
        ({"learning_rate": 0.05}, r"learning_rate was 0\.1, is 0\.05"),
        ({"optimizer": "sgd"}, r"optimizer was SGD\(momentum=0\.9, nesterov=True"),
        ({"schedule": "cosine"}, "schedule was one-cycle, is cosine"),
        ({"schedule": lambda progress: 1 - progress / 2}, "learning rates was"),
        ({"dropout": 0.5}, r"dropout was 0\.0, is 0\.5"),
        ({"augmentation": fm.Augmentation(shift=2)}, "augmentation was None"),
        ({"validation": 10}, "train was 80 samples .*validation was None, is 10 samples"),
        ({"averaging": 0.5}, "averaging was"),
        pytest.param(
            {"backend": "reference"},
            "backend was numba, is reference",
            marks=pytest.mark.kernels,
        ),
        ({"seed": 5}, "parameters at the start"),
        ({"data": samples(seed=1)}, "train was 80 samples .*, is 80 samples"),
        ({"data": samples(count=81)}, "train was 80 samples .*, is 81 samples"),
        ({"sizes": (20, 8, 3)}, "sizes was 20-7-3, is 20-8-3"),
    ],
)
def test_another_training_is_not_resumed_and_the_difference_is_named(other, message, path):
    stopped(path, 2)
    kept = path.read_bytes()
    with pytest.raises(ValueError, match=message) as caught:
        train(path, resume=True, **other)
    assert "training.npz" in str(caught.value)
    assert path.read_bytes() == kept


def test_parameters_at_the_start_are_told_from_all_others(path):
    stopped(path, 2)
    for seed in range(1, 7):
        with pytest.raises(ValueError, match="parameters at the start was"):
            train(path, resume=True, seed=seed)


@pytest.mark.parametrize(
    ("change", "message"),
    {
        "no steps": (lambda told, arrays: told.pop("steps"), "checkpoint: KeyError"),
        "steps of no kind": (lambda told, arrays: told.update(steps=None), "checkpoint: TypeError"),
        "steps in words": (lambda told, arrays: told.update(steps="two"), "checkpoint: TypeError"),
        "epochs of another form": (
            lambda told, arrays: told.update(epochs=[{"mood": 1}]),
            "checkpoint: TypeError",
        ),
        "means of another shape": (
            lambda told, arrays: arrays.update({"velocity.b0": np.zeros(3, np.float32)}),
            r"npz: array 'velocity\.b0' is float32 of shape \(3,\), wanted",
        ),
    }.values(),
)
def test_a_checkpoint_that_is_none_is_refused(change, message, path):
    stopped(path, 2)
    header, arrays = archive.read(path)
    change(header["training"], arrays)
    archive.write(path, header, arrays)
    with pytest.raises(ModelFileError, match=message) as caught:
        train(path, resume=True)
    assert "training.npz" in str(caught.value)


def test_another_version_of_the_package_is_named(path, monkeypatch):
    stopped(path, 2)
    monkeypatch.setattr(checkpoints, "__version__", "99.0")
    with pytest.raises(ValueError, match=r"fastmnist was .*, is 99\.0"):
        train(path, resume=True)


def test_threads_may_differ(path):
    stopped(path, 2, threads=1)
    assert bits(train(path, resume=True, threads=3)[0]) == bits(train()[0])


def test_a_file_that_is_there_is_not_overwritten(path):
    path.write_bytes(b"something else")
    with pytest.raises(ValueError, match=r"training\.npz is there already: resume it"):
        train(path)
    assert path.read_bytes() == b"something else"


def test_there_must_be_something_to_resume(path):
    with pytest.raises(ModelFileError, match=r"training\.npz cannot be read"):
        train(path, resume=True)
    fm.MLP(SIZES).save(path)
    with pytest.raises(ModelFileError, match="a model, not the checkpoint"):
        train(path, resume=True)
    with pytest.raises(ValueError, match="resume needs a checkpoint"):
        train(resume=True)
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.fault(row=58)
def test_every_flipped_bit_is_noticed(path, times, figure):
    stopped(path, 2, **WAYS["everything"])
    content = path.read_bytes()
    count = times(300, 10_000)
    for bit in np.random.default_rng(1).integers(8 * len(content), size=count):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(ModelFileError, match=r"training\.npz"):
            checkpoints.read(path)
    figure(f"checkpoints: 0 of {count:,} flipped bits unnoticed")


@pytest.mark.fault(row=74)
def test_two_trainings_do_not_share_a_checkpoint(path):
    def second(model, epoch):
        with pytest.raises(DataError, match=f"in use by process {os.getpid()}"):
            train(path)
        with pytest.raises(DataError, match="in use"):
            train(path, resume=True)

    train(path, callbacks=[second])
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.fault(row=68)
@pytest.mark.parametrize("backend", BACKENDS)
def test_divergence_leaves_the_checkpoint_of_the_last_good_epoch(backend, path):
    model = fm.MLP(SIZES)
    kept = []

    def overshoot(progress):
        return np.where(progress < 0.5, 1.0, 1e30)

    with pytest.raises(DivergedError) as caught:
        fm.fit(
            model,
            samples(),
            epochs=4,
            batch_size=16,
            optimizer="sgd",
            schedule=overshoot,
            backend=backend,
            checkpoint=path,
            callbacks=[lambda model, epoch: kept.append(bits(model))],
        )
    assert len(kept) == 2
    assert bits(model) == kept[-1] == bits(fm.MLP.load(path))
    assert caught.value.epoch == 3
    assert 1 <= caught.value.batch <= 5


@pytest.mark.fault(row=68)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("batch", range(1, 6))
def test_divergence_names_the_batch(batch, backend):
    """A rate that is too large for one batch alone, of 5 in each of 3 epochs."""
    at = (5 + batch - 1) / 15
    with pytest.raises(DivergedError, match=f"epoch 2, batch {batch} of 5") as caught:
        fm.fit(
            fm.MLP(SIZES),
            samples(),
            epochs=3,
            batch_size=16,
            optimizer="sgd",
            learning_rate=1.0,
            schedule=lambda progress: np.where(np.isclose(progress, at), 1e39, 0.01),
            backend=backend,
        )
    assert (caught.value.epoch, caught.value.batch) == (2, batch)
