"""The model: what it draws and predicts, and a file format that accepts nothing damaged."""

import copy
import io
import json
import os
import pickle
import re
import subprocess
import sys
import zipfile

import numpy as np
import programs
import pytest
from agreement import EPS, flat, properties
from hypothesis import given
from hypothesis import strategies as st

import fastmnist as fm
from fastmnist import model as model_module
from fastmnist import reference
from fastmnist.errors import ModelFileError

SIZES = (6, 5, 3)


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
    for path in (tmp_path / "model.npz", str(tmp_path / "no suffix")):
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


def test_a_cut_file_is_refused(saved, tmp_path):
    content, cut = saved.read_bytes(), tmp_path / "cut.npz"
    step = max(1, len(content) // 50)
    for length in (*range(0, len(content), step), *range(len(content) - 100, len(content))):
        cut.write_bytes(content[:length])
        with pytest.raises(ModelFileError, match=r"cut\.npz"):
            fm.MLP.load(cut)


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


@properties(400)
@given(data=st.data())
def test_flipped_bits_change_no_parameter(data, tmp_path_factory):
    folder = tmp_path_factory.getbasetemp() / "flipped bits"
    model, path = fm.MLP.uniform(SIZES, seed=1), folder / "model.npz"
    folder.mkdir(exist_ok=True)
    model.save(path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    loads_as_it_was_or_not_at_all(path, model)


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


def write(path, header, arrays, save=np.savez):
    """A file like those of `save`, its checksum right whatever is in it."""
    header = {"sha256": model_module._digest(arrays)} | header
    save(path, header=np.array(json.dumps(header)), **arrays)


def test_the_tests_way_of_writing_is_accepted(saved, model):
    header, arrays = parts_of(saved)
    del header["sha256"]
    write(saved, header, arrays)
    assert same(fm.MLP.load(saved), model)


@pytest.mark.parametrize(
    ("change", "message"),
    {
        "newer version": (lambda h, a: h.update(version=2), "install a newer fastmnist"),
        "older than any version": (lambda h, a: h.update(version=0), "version"),
        "no version": (lambda h, a: h.pop("version"), "version"),
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
        "NaN": (lambda h, a: a["W0"].__setitem__((2, 3), np.nan), "'W0' holds NaN"),
        "infinity": (lambda h, a: a["b1"].__setitem__(0, -np.inf), "'b1' holds NaN or infinite"),
        "wrong checksum": (lambda h, a: h.update(sha256="0" * 64), "checksum"),
        "swapped arrays": (lambda h, a: None, None),
    }.values(),
)
def test_a_file_that_is_no_such_model_is_refused(change, message, saved):
    header, arrays = parts_of(saved)
    if message is None:
        a, b = arrays["W1"][:, 0].copy(), arrays["W1"][:, 1].copy()
        arrays["W1"][:, 0], arrays["W1"][:, 1], message = b, a, "checksum"
    else:
        del header["sha256"]
        change(header, arrays)
    write(saved, header, arrays)
    with pytest.raises(ModelFileError, match=message) as caught:
        fm.MLP.load(saved)
    assert "model.npz" in str(caught.value)


@pytest.mark.parametrize("header", [b"[]", b"3", b"null", b"{", b"\xff\xfe", b"[" * 100_000])
def test_a_header_that_is_none_is_refused(header, saved):
    _, arrays = parts_of(saved)
    np.savez(saved, header=np.array(header), **arrays)
    with pytest.raises(ModelFileError):
        fm.MLP.load(saved)


def test_a_file_without_a_header_is_refused(saved):
    np.savez(saved, **parts_of(saved)[1])
    with pytest.raises(ModelFileError, match="header"):
        fm.MLP.load(saved)


def test_big_endian_arrays_are_loaded_or_refused_but_never_misread(saved, model):
    header, arrays = parts_of(saved)
    np.savez(
        saved,
        header=np.array(json.dumps(header)),
        **{k: a.astype(">f4") for k, a in arrays.items()},
    )
    loads_as_it_was_or_not_at_all(saved, model)


def test_a_compressed_file_is_refused(saved):
    # One that unpacks to gigabytes would be one of these.
    write(saved, *parts_of(saved), save=np.savez_compressed)
    with pytest.raises(ModelFileError, match="compressed"):
        fm.MLP.load(saved)


class Canary:
    """Unpickled, it leaves a folder behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_pickle_is_refused_and_not_run(saved, tmp_path):
    canary = Canary(tmp_path / "canary")
    header, arrays = parts_of(saved)
    trap = np.array([canary], dtype=object)

    def members():
        yield {"W0": trap}
        yield {"header": trap}
        yield {"header": np.array(json.dumps(header)), **arrays, "extra": trap}

    for content in members():
        with open(saved, "wb") as file:
            np.savez(file, **content)
        with pytest.raises(ModelFileError):
            fm.MLP.load(saved)
    saved.write_bytes(pickle.dumps(canary))
    with pytest.raises(ModelFileError):
        fm.MLP.load(saved)
    raw = io.BytesIO()
    np.save(raw, trap)
    saved.write_bytes(raw.getvalue())
    with pytest.raises(ModelFileError):
        fm.MLP.load(saved)
    assert not canary.path.exists()


def archive(path, members):
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members:
            file.writestr(name, content)


def npy(shape, descr="<f4", body=b""):
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (63 - (len(header) + 10) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + body


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
    archive(tmp_path / "hostile.npz", members)
    with pytest.raises(ModelFileError, match=r"hostile\.npz"):
        fm.MLP.load(tmp_path / "hostile.npz")


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
        archive(path, [("header.npy", body)])
        with pytest.raises(ModelFileError):
            fm.MLP.load(path)


def test_an_encrypted_archive_is_refused(saved):
    content = saved.read_bytes()
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = content.find(signature) + flags
        content = content[:at] + b"\x01" + content[at + 1 :]
    saved.write_bytes(content)
    with pytest.raises(ModelFileError, match="encrypted"):
        fm.MLP.load(saved)


def test_two_members_of_one_name_are_refused_or_checked(saved, model):
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(saved, "a") as file:
        file.writestr("W0.npy", npy("(6, 5)", body=bytes(120)))
    loads_as_it_was_or_not_at_all(saved, model)


@pytest.mark.parametrize(
    "make",
    [os.mkdir, lambda path: None, os.mkfifo, lambda path: path.symlink_to("/dev/zero")],
    ids=["folder", "missing", "pipe", "device"],
)
def test_what_cannot_be_read_is_refused_by_name(make, tmp_path):
    make(tmp_path / "model.npz")
    with pytest.raises(ModelFileError, match=r"model\.npz"):
        fm.MLP.load(tmp_path / "model.npz")


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
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
