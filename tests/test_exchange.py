"""Models in other formats, read and run by the tools they are for."""

import numpy as np
import pytest

import fastmnist as fm
from fastmnist import ModelFileError, exchange, reference

EPS = float(np.finfo(np.float32).eps)
SIZES = [(784, 10), (784, 128, 10), (784, 33, 17, 5)]


def images(count=50):
    rng = np.random.default_rng(0)
    ink = rng.integers(1, 256, (count, 28, 28)) * (rng.random((count, 28, 28)) < 0.2)
    return ink.astype(np.uint8)


def with_biases(sizes):
    model = fm.MLP(sizes, seed=1)
    for layer, (W, b) in enumerate(model.params):
        model.params[layer] = (W, np.linspace(-1, 1, len(b)))
    return model


@pytest.mark.parametrize("sizes", SIZES)
def test_onnx_runtime_computes_the_same(sizes, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    model = with_biases(sizes)
    model.save(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    exact = [(W.astype(np.float64), b.astype(np.float64)) for W, b in model.params]
    for count in (1, 2, 50):
        [P] = session.run(None, {"images": images(count)})
        wanted = reference.forward(exact, images(count))
        assert P.dtype == np.float32
        assert np.abs(P - wanted).max() <= 64 * EPS
        assert np.abs(P - model.predict_proba(images(count))).max() <= 64 * EPS


@pytest.mark.parametrize("sizes", SIZES)
def test_safetensors_come_back_bit_for_bit(sizes, tmp_path):
    pytest.importorskip("safetensors")
    model = with_biases(sizes)
    model.save(tmp_path / "model.safetensors")
    again = fm.MLP.load(tmp_path / "model.safetensors")
    assert again.sizes == model.sizes
    np.testing.assert_array_equal(again.params.flat, model.params.flat)


def test_pytorch_loads_them_as_they_are(tmp_path):
    torch = pytest.importorskip("torch")
    load_file = pytest.importorskip("safetensors.torch").load_file
    model = with_biases((784, 128, 10))
    model.save(tmp_path / "model.safetensors")
    network = torch.nn.Sequential(
        torch.nn.Linear(784, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10)
    )
    network.load_state_dict(load_file(tmp_path / "model.safetensors"))
    with torch.no_grad():
        rows = torch.from_numpy(images().reshape(50, 784) / np.float32(255))
        P = network(rows).softmax(dim=1).numpy()
    assert np.abs(P - model.predict_proba(images())).max() <= 64 * EPS


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_safetensors_that_others_have_written_are_read(metadata, tmp_path):
    numpy = pytest.importorskip("safetensors.numpy")
    rng = np.random.default_rng(0)
    layers = {"0.weight": (4, 3), "0.bias": (4,), "2.weight": (2, 4), "2.bias": (2,)}
    tensors = {name: rng.normal(size=shape).astype(np.float32) for name, shape in layers.items()}
    (tmp_path / "model.safetensors").write_bytes(numpy.save(tensors, metadata))
    model = fm.MLP.load(tmp_path / "model.safetensors")
    assert model.sizes == (3, 4, 2)
    for layer, (W, b) in enumerate(model.params):
        np.testing.assert_array_equal(W, tensors[f"{2 * layer}.weight"].T)
        np.testing.assert_array_equal(b, tensors[f"{2 * layer}.bias"])


def test_weights_that_look_like_the_checksums_place_stay_as_they_are(tmp_path):
    pytest.importorskip("safetensors")
    model = fm.MLP((8, 4))
    model.params[0][0][...] = np.frombuffer(b"0000", np.float32)
    model.save(tmp_path / "model.safetensors")
    again = fm.MLP.load(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(again.params.flat, model.params.flat)


@pytest.mark.parametrize("change", [(b"fastmnist.sha256", b"fastmnist.sha255"), (b'"1"', b'"2"')])
def test_safetensors_whose_metadata_are_changed_are_refused(change, tmp_path):
    pytest.importorskip("safetensors")
    content = exchange.to_safetensors(fm.MLP((4, 2)).params)
    assert content.count(change[0]) == 1
    (tmp_path / "model.safetensors").write_bytes(content.replace(*change))
    with pytest.raises(ModelFileError, match="damaged: the checksum does not fit"):
        fm.MLP.load(tmp_path / "model.safetensors")


@pytest.mark.fault(row=61)
@pytest.mark.fault(row=62)
def test_what_is_no_such_network_is_refused(tmp_path):
    numpy = pytest.importorskip("safetensors.numpy")
    path = tmp_path / "model.safetensors"
    W, b = np.zeros((3, 4), np.float32), np.zeros(3, np.float32)
    for tensors, message in (
        ({"w": W}, "wanted tensors 0.weight"),
        ({}, "wanted tensors"),
        ({"0.weight": W, "0.bias": b, "more": b}, "wanted tensors"),
        ({"0.weight": W, "0.bias": b, "1.weight": W, "1.bias": b}, "wanted tensors"),
        ({"0.weight": W, "0.bias": b[:2]}, "do not fit"),
        ({"0.weight": W[:2], "0.bias": b}, "do not fit"),
        ({"0.weight": W[0], "0.bias": np.zeros((), np.float32)}, "do not fit"),
        ({"0.weight": W.reshape(2, 2, 3), "0.bias": np.zeros((2, 2), np.float32)}, "do not fit"),
        ({"0.weight": W, "0.bias": b, "2.weight": W, "2.bias": b}, "do not fit"),
        ({"0.weight": W, "0.bias": b, "2.weight": W[:, :2], "2.bias": b}, "do not fit"),
        ({"0.weight": W.astype(np.float64), "0.bias": b}, "is float64"),
        ({"0.weight": np.full_like(W, np.nan), "0.bias": b}, "NaN"),
        (
            {"0.weight": W, "0.bias": b, "2.weight": W[:, :3].astype(np.float64), "2.bias": b},
            r"'2\.weight' is float64",
        ),
        ({"0.weight": W}, "wanted tensors"),
        ({"0.weight": W, "0.bias": b, "extra": b}, r"wanted tensors.* 3: .*'extra'"),
        (
            {"0.weight": W, "0.bias": b[:2]},
            r"0.weight of shape \(3, 4\) and 0.bias of shape \(2,\) do not fit",
        ),
        (
            {"0.weight": W, "0.bias": b, "2.weight": W, "2.bias": b},
            r"2.weight of shape \(3, 4\) .* wanted \(outputs, 3\)",
        ),
        ({"0.weight": W.astype(np.float64), "0.bias": b}, "is float64"),
        ({"0.weight": np.full_like(W, np.nan), "0.bias": b}, "NaN"),
        ({"0.weight": W, "0.bias": np.full_like(b, np.inf)}, "'0.bias' holds NaN or infinite"),
    ):
        path.write_bytes(numpy.save(tensors))
        with pytest.raises(ModelFileError, match=message):
            fm.MLP.load(path)
    whole = exchange.to_safetensors([(W.T, b)])
    for content in (b"", b"hello", whole[:-1], whole + b"x", b"\xff" * 100):
        path.write_bytes(content)
        with pytest.raises(ModelFileError, match="not a network"):
            fm.MLP.load(path)


def test_onnx_is_for_others_to_read(tmp_path):
    pytest.importorskip("onnx")
    fm.MLP((4, 2)).save(tmp_path / "model.onnx")
    with pytest.raises(ModelFileError, match=r"load the \.npz"):
        fm.MLP.load(tmp_path / "model.onnx")


@pytest.mark.parametrize("ending", ["onnx", "safetensors"])
def test_a_missing_package_is_named_with_the_command(ending, monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, ending, None)
    monkeypatch.setitem(__import__("sys").modules, "safetensors.numpy", None)
    with pytest.raises(ImportError, match=r"pip install .fastmnist\[export\]"):
        fm.MLP((4, 2)).save(tmp_path / f"model.{ending}")
    assert not list(tmp_path.iterdir())


def test_reading_without_the_package_names_the_command(monkeypatch, tmp_path):
    fm.MLP((4, 2)).save(tmp_path / "model.safetensors")
    monkeypatch.setitem(__import__("sys").modules, "safetensors", None)
    monkeypatch.setitem(__import__("sys").modules, "safetensors.numpy", None)
    with pytest.raises(ImportError, match=r"pip install .fastmnist\[export\]"):
        fm.MLP.load(tmp_path / "model.safetensors")
