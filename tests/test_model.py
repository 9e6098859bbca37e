"""The model: what it draws and predicts, and a file format that accepts nothing damaged."""

import copy
import hashlib
import io
import json
import os
import pickle
import re
import sys
import zipfile
from pathlib import Path

import numpy as np
import processes
import programs
import pytest
from agreement import EPS, flat, properties
from hypothesis import given
from hypothesis import strategies as st
from named_pipes import make_pipe

import fastmnist as fm
from fastmnist import archive, checkpoints, reference
from fastmnist.datasets import Dataset
from fastmnist.errors import ModelFileError

SIZES = (6, 5, 3)
FILES = Path(__file__).parent / "files"


def test_weights_are_drawn_for_relu_and_biases_are_0():
    model = fm.MLP([784, 300, 10], seed=0)
    for W, b in model.params:
        assert W.std() == pytest.approx(np.sqrt(2 / len(W)), rel=0.05)
        assert abs(W.mean()) < 0.1 * W.std()
        assert not b.any()


def test_uniform_weights_and_biases():
    model = fm.MLP.uniform([784, 300, 10], seed=0)
    for W, b in model.params:
        for array in (W, b):
            assert -0.5 <= array.min() < array.max() <= 0.5
    assert model.params[0][0].std() == pytest.approx(np.sqrt(1 / 12), rel=0.01)
    narrow = fm.MLP.uniform([784, 10], low=2, high=3, seed=0)
    assert narrow.params[0][0].min() >= 2


@pytest.mark.fault(row=55)
@pytest.mark.parametrize("make", [fm.MLP, fm.MLP.uniform])
def test_seeds_decide_the_weights(make):
    first, again, other = (make(SIZES, seed=seed).params.flat for seed in (3, np.int64(3), 4))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_shapes():
    model = fm.MLP(SIZES)
    assert model.sizes == SIZES
    assert [(W.shape, b.shape) for W, b in model.params] == [((6, 5), (5,)), ((5, 3), (3,))]
    assert {a.dtype for a in flat(model.params)} == {np.dtype(np.float32)}
    assert repr(model) == "MLP([6, 5, 3])"


def test_parameters_can_be_replaced():
    model = fm.MLP(SIZES)
    model.params = [(np.ones((6, 5)), np.zeros(5)), (np.full((5, 3), 2.0), np.ones(3))]
    assert model.params[0][0].sum() == 30
    with pytest.raises(ValueError, match="wanted"):
        model.params = [(np.ones((6, 3)), np.zeros(3))]


def test_a_copy_is_independent():
    model = fm.MLP(SIZES)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert np.array_equal(twin.params.flat, model.params.flat)
        twin.params[0][0][:] = 7
        assert twin.params.flat.max() == 7
        assert model.params.flat.max() < 7


@pytest.mark.fault(row=54)
@pytest.mark.parametrize(
    ("sizes", "error"),
    [
        ([], ValueError),
        ([784], ValueError),
        ([784, 0], ValueError),
        ([784, -3, 10], ValueError),
        ([10**9, 10**9], ValueError),
        ([2**40, 10], ValueError),
        ([784, 10**7, 10], ValueError),
        ([784, 1.5], TypeError),
        ([784, True], TypeError),
        ([784, "10"], TypeError),
        ([784, None], TypeError),
        (784, TypeError),
        ("784", TypeError),
        (None, TypeError),
    ],
)
def test_impossible_sizes_are_refused_before_anything_is_allocated(sizes, error):
    with pytest.raises(error, match="sizes"):
        fm.MLP(sizes)


@pytest.mark.fault(row=55)
@pytest.mark.parametrize("kind", [np.int64, np.uint8])
def test_a_seed_may_be_of_any_integer_type(kind):
    assert np.array_equal(
        fm.MLP(SIZES, seed=kind(3)).params.flat, fm.MLP(SIZES, seed=3).params.flat
    )


@programs.linux
@pytest.mark.fault(row=54)
def test_impossible_sizes_are_told_with_little_memory_too():
    code = """
import fastmnist as fm
fm.MLP([2, 2])  # imports what is needed
limit(resource.RLIMIT_AS, 2**29)
reset_peak()
before = peak()
for sizes in ([784, 10**9, 10], [10**9, 10**9], [784, 10**7, 10], [46_341, 46_341], [1, 2**30]):
    try:
        fm.MLP(sizes)
    except ValueError as error:
        print(error)
print(peak() - before)
"""
    *told, memory = programs.run(code).splitlines()
    assert len(told) == 5
    for line in told:
        assert re.search(r"sizes \[.*\] need [\d,]{13,} bytes of parameters", line)
        assert line.endswith("the most are 8,589,934,592; take smaller layers")
    assert int(memory) < 2**20


@pytest.mark.fault(row=55)
@pytest.mark.parametrize(
    ("seed", "error"), [(None, TypeError), (-1, ValueError), (2**64, ValueError), (0.5, TypeError)]
)
def test_impossible_seeds_are_refused(seed, error):
    with pytest.raises(error, match="seed"):
        fm.MLP(SIZES, seed=seed)


# Predictions.


def test_predictions_are_the_references():
    rng = np.random.default_rng(0)
    model = fm.MLP([784, 30, 10], seed=0)
    X = rng.integers(0, 256, (50, 28, 28), dtype=np.uint8)
    P = reference.forward([(W.astype(float), b.astype(float)) for W, b in model.params], X)
    assert model.predict_proba(X) == pytest.approx(P, rel=64 * EPS)
    assert np.array_equal(model.predict(X), P.argmax(axis=1))
    assert np.array_equal(model.predict(X[:1]), P[:1].argmax(axis=1))
    assert model.predict(X).dtype == np.int64
    for threads in (1, 2, 5):
        assert np.array_equal(model.predict_proba(X, threads=threads), model.predict_proba(X))


@pytest.mark.fault(row=45)
def test_no_images_have_no_predictions():
    model = fm.MLP([784, 30, 10])
    assert model.predict(np.zeros((0, 784))).shape == (0,)
    assert model.predict_proba(np.zeros((0, 28, 28), np.uint8)).shape == (0, 10)


@pytest.mark.fault(row=37)
@pytest.mark.fault(row=39)
@pytest.mark.fault(row=43)
@pytest.mark.fault(row=46)
@pytest.mark.parametrize("method", ["predict", "predict_proba"])
@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        (np.zeros((2, 5)), ValueError, "5 features a row, the network has 6 inputs"),
        (np.zeros((2, 5, 5)), ValueError, "25 features"),
        (np.zeros(6), ValueError, "shape"),
        (np.float32(0), ValueError, "shape"),
        (np.array([[0, 1, 2, np.nan, 4, 5]]), ValueError, "row 0, column 3"),
        (np.array([["a"] * 6]), TypeError, "real numbers"),
        (np.zeros((2, 6), complex), TypeError, "real numbers"),
        (np.ma.zeros((2, 6)), TypeError, "masked"),
        (None, TypeError, "real numbers"),
    ],
)
def test_bad_images_are_refused(X, error, message, method):
    with pytest.raises(error, match=message):
        getattr(fm.MLP(SIZES), method)(X)


# Files.


@pytest.fixture
def model():
    return fm.MLP.uniform(SIZES, seed=1)


@pytest.fixture
def saved(model, tmp_path):
    path = tmp_path / "model.npz"
    model.save(path)
    return path


def same(model, twin):
    return model.sizes == twin.sizes and model.params.flat.tobytes() == twin.params.flat.tobytes()


@pytest.mark.parametrize("sizes", [(1, 1), (6, 3), (784, 128, 10), (3, 1, 1, 1, 2)])
def test_a_saved_model_is_loaded_bit_for_bit(sizes, tmp_path):
    model = fm.MLP.uniform(sizes, seed=1)
    for path in (tmp_path / "model.npz", tmp_path / "model.zip", str(tmp_path / "no suffix")):
        model.save(path)
        assert same(fm.MLP.load(path), model)


def test_denormals_and_negative_zero_survive(model, tmp_path):
    model.params[0][1][:] = [-0.0, 1e-45, -1e-40, 3.4e38, 0]
    model.save(tmp_path / "model.npz")
    assert same(fm.MLP.load(tmp_path / "model.npz"), model)


def test_a_saved_model_can_be_read_with_numpy_alone(saved, model):
    with np.load(saved, allow_pickle=False) as file:
        assert set(file.files) == {"header", "W0", "b0", "W1", "b1"}
        assert np.array_equal(file["W1"], model.params[1][0])


@pytest.mark.fault(row=57)
@pytest.mark.parametrize("kind", ["model.npz", "model.safetensors", "checkpoint.npz"])
def test_a_cut_file_is_refused(kind, model, tmp_path):
    path = tmp_path / kind
    if kind.startswith("checkpoint"):
        path.write_bytes((FILES / "checkpoint-version-2.npz").read_bytes())
    else:
        model.save(path)
    read = checkpoints.read if kind.startswith("checkpoint") else fm.MLP.load
    content = path.read_bytes()
    lengths = np.linspace(0, len(content) - 1, 50).astype(int)
    for length in (*lengths, *range(len(content) - 100, len(content))):
        path.write_bytes(content[:length])
        with pytest.raises(ModelFileError, match=path.name):
            read(path)
    path.write_bytes(content)
    read(path)


def test_extra_bytes_change_no_parameter(saved, model):
    content = saved.read_bytes()
    for longer in (content + b"x", b"x" + content, content + content):
        saved.write_bytes(longer)
        loads_as_it_was_or_not_at_all(saved, model)


def loads_as_it_was_or_not_at_all(path, model):
    try:
        found = fm.MLP.load(path)
    except ModelFileError:
        return
    assert same(found, model)


@pytest.mark.fault(row=58)
@pytest.mark.parametrize("ending", [".npz", ".safetensors"])
def test_every_flipped_bit_is_noticed(ending, model, tmp_path, times, figure):
    path = tmp_path / f"model{ending}"
    model.save(path)
    content = path.read_bytes()
    generator = np.random.default_rng(1)
    count = times(300, 10_000)
    for bit in generator.integers(8 * len(content), size=count):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(ModelFileError, match=rf"model\{ending}"):
            fm.MLP.load(path)
    figure(f"{ending} models: 0 of {count:,} flipped bits unnoticed")


@properties(100)
@given(content=st.binary(max_size=300))
def test_anything_else_is_refused(content, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "anything.npz"
    for prefix in (b"", b"PK\x03\x04", b"PK\x05\x06", b"\x93NUMPY"):
        path.write_bytes(prefix + content)
        with pytest.raises(ModelFileError, match=r"anything\.npz"):
            fm.MLP.load(path)


def parts_of(path):
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    return json.loads(str(arrays.pop("header"))), arrays


def write(path, header, arrays):
    """A file like those of `save`, its checksum right whatever is in it."""
    path.write_bytes(archive.pack(header, arrays))


def seal(path):
    """Make the checksum of a file right that was changed."""
    body = path.read_bytes()[:-64]
    path.write_bytes(body + hashlib.sha256(body).hexdigest().encode())


def test_the_tests_way_of_writing_is_accepted(saved, model):
    write(saved, *parts_of(saved))
    assert same(fm.MLP.load(saved), model)
    seal(saved)
    assert same(fm.MLP.load(saved), model)


@pytest.mark.fault(row=61)
@pytest.mark.fault(row=62)
@pytest.mark.fault(row=63)
@pytest.mark.parametrize(
    ("change", "message"),
    {
        "newer version": (lambda h, a: h.update(version=3), "install a newer fastmnist"),
        "older than any version": (lambda h, a: h.update(version=0), "version"),
        "no version": (lambda h, a: h.update(version=None), "version"),
        "version no number": (lambda h, a: h.update(version="new"), "not a readable"),
        "no sizes": (lambda h, a: h.pop("sizes"), "sizes"),
        "other sizes": (
            lambda h, a: h.update(sizes=[6, 4, 3]),
            r"wanted float32 of shape \(6, 4\)",
        ),
        "sizes of a giant": (lambda h, a: h.update(sizes=[10**9, 10**9]), "sizes"),
        "sizes no list": (lambda h, a: h.update(sizes=6), "sizes"),
        "array missing": (lambda h, a: a.pop("W1"), "'W1' is missing"),
        "extra array": (lambda h, a: a.update(W2=np.zeros(3)), "does not have"),
        "array of another shape": (
            lambda h, a: a.update(b0=np.zeros(4, np.float32)),
            r"'b0' is float32 of shape \(4,\), wanted float32 of shape \(5,\)",
        ),
        "array of another dtype": (lambda h, a: a.update(b0=np.zeros(5)), "'b0' is float64"),
        "whole numbers": (lambda h, a: a.update(b0=np.zeros(5, np.int16)), "'b0' is int16"),
        "NaN": (lambda h, a: a["W0"].__setitem__((2, 3), np.nan), "'W0' holds NaN"),
        "infinity": (lambda h, a: a["b1"].__setitem__(0, -np.inf), "'b1' holds NaN or infinite"),
        "version 1 without its checksum": (lambda h, a: h.update(version=1), "checksum"),
        "version 1 with a wrong one": (
            lambda h, a: h.update(version=1, sha256="0" * 64),
            "checksum",
        ),
    }.values(),
)
def test_a_file_that_is_no_such_model_is_refused(change, message, saved):
    header, arrays = parts_of(saved)
    change(header, arrays)
    write(saved, header, arrays)
    with pytest.raises(ModelFileError, match=message) as caught:
        fm.MLP.load(saved)
    assert "model.npz" in str(caught.value)


# Files of every version, with the same parameters: k/8 for k = 1, 2, ..., of signs in turn.


def known_params(params, factor=1):
    number = 0
    for pair in params:
        for array in pair:
            k = number + np.arange(array.size)
            wanted = np.float32(factor * (k + 1) / 8 * (-1.0) ** (k - number))
            np.testing.assert_array_equal(array, wanted.reshape(array.shape))
            number += array.size
    return number == 23


@pytest.mark.fault(row=63)
@pytest.mark.parametrize(
    "name",
    [
        "model-version-1.npz",
        "model-version-2.npz",
        "model-without-checksum.safetensors",
        "model-version-1.safetensors",
        "checkpoint-version-2.npz",
    ],
)
def test_files_of_every_version_are_read(name, tmp_path):
    model = fm.MLP.load(FILES / name)
    assert model.sizes == (4, 3, 2)
    assert known_params(model.params)
    model.save(tmp_path / "again.npz")
    assert parts_of(tmp_path / "again.npz")[0]["version"] == archive.VERSION
    assert same(fm.MLP.load(tmp_path / "again.npz"), model)


@pytest.mark.fault(row=63)
def test_there_is_a_file_of_every_version():
    for version in range(1, archive.VERSION + 1):
        assert parts_of(FILES / f"model-version-{version}.npz")[0]["version"] == version


@pytest.mark.fault(row=63)
def test_a_checkpoint_of_every_version_is_read():
    saved = checkpoints.read(FILES / "checkpoint-version-2.npz")
    progress = saved.progress
    assert known_params(saved.params)
    for params, factor in (
        (progress.state.velocity, 2),
        (progress.state.squares, 4),
        (progress.average.mean, 8),
        (progress.best.params, 16),
    ):
        assert known_params(params, factor)
    assert (progress.state.steps, progress.average.count) == (6, 2)
    assert (progress.best.loss, progress.best.age) == (0.25, 1)
    assert [epoch.loss for epoch in progress.history] == [0.75, 0.5]
    assert saved.identity == {"seed": 0, "fastmnist": "0.1.0"}
    assert saved.notes == {"recipe": "quick"}


@pytest.mark.parametrize(
    ("change", "message"),
    {
        "newer version": (lambda h, a: h.update(version=3), "install a newer fastmnist"),
        "array missing": (lambda h, a: a.pop("best.b1"), "'best.b1' is missing"),
        "extra array": (lambda h, a: a.update(W2=np.zeros(3)), r"of no checkpoint: \['W2'\]"),
        "array of another shape": (
            lambda h, a: a.update({"velocity.b0": np.zeros(4, np.float32)}),
            r"'velocity.b0' is float32 of shape \(4,\), wanted float32 of shape \(3,\)",
        ),
        "array of another dtype": (
            lambda h, a: a.update({"squares.b0": np.zeros(3)}),
            "'squares.b0' is float64",
        ),
        "NaN": (lambda h, a: a["average.W0"].__setitem__((2, 1), np.nan), "'average.W0' holds NaN"),
        "infinity": (
            lambda h, a: a["W0"].__setitem__((0, 0), np.inf),
            "'W0' holds NaN or infinite",
        ),
        "no steps": (lambda h, a: h["training"].pop("steps"), "steps"),
        "negative steps": (lambda h, a: h["training"].update(steps=-1), "steps must be from 0"),
        "steps no number": (lambda h, a: h["training"].update(steps="6"), "whole number"),
        "an age without end": (
            lambda h, a: h["training"].update({"best age": float("inf")}),
            "whole number",
        ),
        "a loss too large": (
            lambda h, a: h["training"].update({"best loss": 10**400}),
            "not a readable checkpoint",
        ),
        "epochs of text": (lambda h, a: h["training"].update(epochs=["x"]), "not a readable"),
        "an epoch with more": (
            lambda h, a: h["training"]["epochs"][0].update(more=1),
            "not a readable checkpoint",
        ),
        "training no object": (lambda h, a: h.update(training=3), "not a readable checkpoint"),
    }.values(),
)
@pytest.mark.fault(row=61)
@pytest.mark.fault(row=62)
@pytest.mark.fault(row=63)
def test_a_file_that_is_no_such_checkpoint_is_refused(change, message, tmp_path):
    header, arrays = parts_of(FILES / "checkpoint-version-2.npz")
    path = tmp_path / "training.npz"
    write(path, header, arrays)
    checkpoints.read(path)
    change(header, arrays)
    write(path, header, arrays)
    with pytest.raises(ModelFileError, match=message) as caught:
        checkpoints.read(path)
    assert "training.npz" in str(caught.value)


@pytest.mark.parametrize("header", [b"[]", b"3", b"null", b"{", b"\xff\xfe", b"[" * 100_000])
def test_a_header_that_is_none_is_refused(header, saved):
    _, arrays = parts_of(saved)
    np.savez(saved, header=np.array(header), **arrays)
    with pytest.raises(ModelFileError):
        fm.MLP.load(saved)


def test_a_file_without_a_header_is_refused(saved):
    np.savez(saved, **parts_of(saved)[1])
    with pytest.raises(ModelFileError, match="not a readable fastmnist file: 'header'"):
        fm.MLP.load(saved)


@pytest.mark.fault(row=64)
def test_big_endian_arrays_are_the_same_parameters(saved, model):
    header, arrays = parts_of(saved)
    swapped = {name: array.astype(">f4") for name, array in arrays.items()}
    write(saved, header, swapped)
    assert same(fm.MLP.load(saved), model)
    with np.load(FILES / "model-version-1.npz") as file:  # its checksum is of little-endian values
        old = {name: file[name].astype(">f4") for name in file.files if name != "header"}
        np.savez(saved, header=file["header"], **old)
    assert same(fm.MLP.load(saved), fm.MLP.load(FILES / "model-version-1.npz"))


@pytest.mark.fault(row=64)
@pytest.mark.kernels
def test_what_the_kernels_trained_the_reference_predicts_with_the_same_parameters(tmp_path):
    generator = np.random.default_rng(0)
    X, y = generator.random((60, 6), np.float32), generator.integers(0, 3, 60)
    model = fm.MLP(SIZES, seed=0)
    fm.fit(model, Dataset(X, y), epochs=2, batch_size=16, backend="numba")
    for ending in ("npz", "safetensors"):
        model.save(tmp_path / f"model.{ending}")
        loaded = fm.MLP.load(tmp_path / f"model.{ending}")
        assert same(loaded, model)
        P = reference.forward(loaded.params, X)
        assert np.array_equal(P, reference.forward(model.params, X))
        assert np.abs(P - fm.kernels.forward(model.params, X)).max() <= 64 * EPS


@pytest.mark.fault(row=60)
def test_a_compressed_file_is_refused(saved):
    # One that unpacks to gigabytes would be one of these.
    header, arrays = parts_of(saved)
    np.savez_compressed(saved, header=np.array(json.dumps(header)), **arrays)
    with pytest.raises(ModelFileError, match="are compressed"):
        fm.MLP.load(saved)


class Canary:
    """Unpickled, it leaves a folder behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.fault(row=59)
@pytest.mark.parametrize("read", [fm.MLP.load, checkpoints.read], ids=["model", "checkpoint"])
@pytest.mark.parametrize("ending", ["npz", "safetensors", "npy", "pkl"])
def test_a_pickle_is_refused_and_not_run(ending, read, saved, tmp_path):
    canary = Canary(tmp_path / "canary")
    header, arrays = parts_of(saved)
    text = np.array(json.dumps(header))
    trap, raw, zipped_raw = np.array([canary], dtype=object), io.BytesIO(), io.BytesIO()
    np.save(raw, trap)
    with zipfile.ZipFile(zipped_raw, "w") as file:
        file.writestr("W0.npy", pickle.dumps(canary))
        file.writestr("header.npy", pickle.dumps(canary))
    contents = [pickle.dumps(canary), raw.getvalue(), zipped_raw.getvalue()]
    for members in (
        {"W0": trap},
        {"header": trap},
        {"header": text, **arrays, "extra": trap},
        {"header": text, **arrays, "W1": trap},
    ):
        buffer = io.BytesIO()
        np.savez(buffer, **members)
        contents.append(buffer.getvalue())
    if read is fm.MLP.load:
        contents.append(archive.pack(header, {**arrays, "W1": trap}))
    path = tmp_path / f"trap.{ending}"
    for content in contents:
        path.write_bytes(content)
        with pytest.raises(ModelFileError, match="trap"):
            read(path)
        assert not canary.path.exists()
    pickle.loads(contents[0])
    assert canary.path.exists()  # it would have been seen


def zipped(path, members):
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members:
            file.writestr(name, content)


def npy(shape, descr="<f4", body=b""):
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (63 - (len(header) + 10) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + body


@pytest.mark.fault(row=60)
@pytest.mark.parametrize(
    "members",
    {
        "terabytes declared": [("W0.npy", npy("(1000000, 1000000)"))],
        "product overflows": [("W0.npy", npy("(4294967296, 4294967296)"))],
        "negative shape": [("W0.npy", npy("(-1, 6)"))],
        "deep parentheses": [("W0.npy", npy("(" * 5000 + ")" * 5000))],
        "not an array": [("W0.npy", b"hello")],
        "another name": [("../W0.npy", npy("(1,)", body=b"1234"))],
        "many members": [(f"W{i}.npy", b"") for i in range(2000)],
        "nothing": [],
    }.values(),
)
def test_a_hostile_archive_is_refused(members, tmp_path):
    zipped(tmp_path / "hostile.npz", members)
    with pytest.raises(ModelFileError, match=r"hostile\.npz"):
        fm.MLP.load(tmp_path / "hostile.npz")


@pytest.mark.fault(row=60)
@properties(200)
@given(
    header=st.text(
        "{}()[]'\":,= descrfotanshpFTalsue<>f4i8O0123456789-+*\\\n\0#\u00e9", max_size=80
    )
)
def test_a_hostile_array_header_is_refused(header, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "header.npz"
    content = header.encode()
    for text in (content, b"{'descr': '<f4', 'fortran_order': False, 'shape': (" + content + b")}"):
        body = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text
        zipped(path, [("header.npy", body)])
        with pytest.raises(ModelFileError):
            fm.MLP.load(path)


@pytest.mark.fault(row=60)
def test_an_encrypted_archive_is_refused(saved):
    content = saved.read_bytes()
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = content.find(signature) + flags
        content = content[:at] + b"\x01" + content[at + 1 :]
    saved.write_bytes(content)
    seal(saved)
    with pytest.raises(ModelFileError, match="is encrypted"):
        fm.MLP.load(saved)


@pytest.mark.fault(row=60)
def test_two_members_of_one_name_are_refused_or_checked(saved, model):
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(saved, "a") as file:
        file.writestr("W0.npy", npy("(6, 5)", body=bytes(120)))
    loads_as_it_was_or_not_at_all(saved, model)


@pytest.mark.parametrize(
    "make",
    [os.mkdir, lambda path: None, make_pipe, lambda path: path.symlink_to("/dev/zero")],
    ids=["folder", "missing", "pipe", "device"],
)
def test_what_cannot_be_read_is_refused_by_name(make, tmp_path):
    make(tmp_path / "model.npz")
    with pytest.raises(ModelFileError, match=r"model\.npz"):
        fm.MLP.load(tmp_path / "model.npz")


@pytest.mark.fault(row=62)
def test_a_model_of_nan_is_not_saved_to_be_refused_later(saved, model):
    model.params[0][0][0, 0] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        model.save(saved)
    assert np.isfinite(fm.MLP.load(saved).params.flat).all()


def test_a_failed_save_leaves_the_old_file_and_no_other(saved, model, monkeypatch):
    def fail(file, **arrays):
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", fail)
    with pytest.raises(OSError, match="No space left"):
        fm.MLP(SIZES, seed=9).save(saved)
    assert list(saved.parent.iterdir()) == [saved]
    assert same(fm.MLP.load(saved), model)


def test_saving_into_no_folder_fails(model, tmp_path):
    with pytest.raises(FileNotFoundError):
        model.save(tmp_path / "nowhere" / "model.npz")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
def test_few_images_and_many_are_predicted_alike(dtype):
    model = fm.MLP([30, 20, 10], seed=0)
    X = np.random.default_rng(0).integers(0, 3, (200, 30)).astype(dtype)
    P = model.predict_proba(X)
    for few in (X[:0], X[:1], X[:63], X[:64]):
        assert np.array_equal(model.predict(few), P[: len(few)].argmax(axis=1))
        got = model.predict_proba(few)
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, P[: len(few)], rtol=1e-5)


def test_predicting_a_few_images_needs_no_numba():
    code = (
        "import sys, numpy as np, fastmnist as fm; "
        "fm.MLP([4, 3, 2]).predict(np.ones((1, 4))); assert 'numba' not in sys.modules"
    )
    processes.succeeds("-c", code)


def test_threads_are_checked_also_where_numpy_predicts(monkeypatch):
    monkeypatch.delitem(sys.modules, "fastmnist.kernels", raising=False)
    model = fm.MLP(SIZES)
    X = np.ones((2, 6), np.float32)
    np.testing.assert_array_equal(model.predict(X, threads=1), model.predict(X))
    with pytest.raises(ValueError, match="threads"):
        model.predict(X, threads=0)
    assert "fastmnist.kernels" not in sys.modules
