"""Models in the formats of other tools: safetensors and ONNX.

Which format a file has is told by its ending; `fastmnist.MLP.save` and `load` come here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

Layers = Sequence[tuple[NDArray[Any], NDArray[Any]]]

_SHA256, _NO_DIGEST = "fastmnist.sha256", "0" * 64
_LONGEST_HEADER = 2**20  # bytes: 5,000 layers; 100,000 tensors take more than a second to read

OPSET, IR_VERSION = 17, 8  # which every ONNX Runtime since 1.15 reads


def to_safetensors(params: Layers) -> bytes:
    """A network as PyTorch's `nn.Sequential` of `nn.Linear` and `nn.ReLU` would name it.

    ``0.weight`` of shape (outputs, inputs), ``0.bias``, ``2.weight``, ...: layers are numbered by
    twos, since ReLUs stand between them. The metadata holds SHA-256 of the file, computed where it
    has 64 zeros in its place.
    """
    tensors = {}
    for layer, (W, b) in enumerate(params):
        tensors[f"{2 * layer}.weight"] = np.ascontiguousarray(W.T)
        tensors[f"{2 * layer}.bias"] = np.ascontiguousarray(b)
    metadata = {"format": "pt", "fastmnist": "1", _SHA256: _NO_DIGEST}
    content: bytes = _needed("safetensors.numpy").save(tensors, metadata)
    _header_end(content)
    return content.replace(_NO_DIGEST.encode(), _digest(content).encode(), 1)


def from_safetensors(content: bytes) -> Layers:
    """What `to_safetensors`, or PyTorch, has written.

    Raises
    ------
    ValueError
        If it is damaged, or holds anything else than such layers.
    """
    _check_digest(content)
    tensors = _needed("safetensors.numpy").load(content)
    count = len(tensors) // 2
    names = [f"{2 * layer}.{kind}" for layer in range(count) for kind in ("weight", "bias")]
    if not names or set(names) != set(tensors):
        found = f"{len(tensors):,}: {sorted(tensors)[:4]}"
        raise ValueError(f"wanted tensors 0.weight, 0.bias, 2.weight, ..., found {found}")
    layers: list[tuple[NDArray[Any], NDArray[Any]]] = []
    for weight, bias in zip(names[::2], names[1::2], strict=True):
        W, b = tensors[weight], tensors[bias]
        inputs = len(layers[-1][1]) if layers else "inputs"
        if W.ndim != 2 or b.shape != W.shape[:1] or (layers and W.shape[1] != inputs):
            raise ValueError(
                f"{weight} of shape {W.shape} and {bias} of shape {b.shape} do not fit; "
                f"wanted (outputs, {inputs}) and (outputs,)"
            )
        layers.append((W.T, b))
    return layers


def _check_digest(content: bytes) -> None:
    """Raise ValueError where a file of this package is not as it was written."""
    end = _header_end(content)
    metadata = json.loads(content[8:end]).get("__metadata__", {})
    if metadata.keys() & {"fastmnist", _SHA256}:  # either: a bit of the other's name may be wrong
        found = str(metadata.get(_SHA256))
        blank = content[:end].replace(found.encode(), _NO_DIGEST.encode(), 1)
        if _digest(blank, memoryview(content)[end:]) != found:
            raise ValueError("damaged: the checksum does not fit; take another copy")


def _header_end(content: bytes) -> int:
    """Where the tensors begin; ValueError if that is farther than thousands of layers need."""
    end = 8 + int.from_bytes(content[:8], "little")
    if end > _LONGEST_HEADER:
        raise ValueError(f"a header of {end:,} bytes, more than {_LONGEST_HEADER:,}")
    return end


def _digest(*parts: bytes | memoryview) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def to_onnx(params: Layers) -> bytes:
    """A network from uint8 images of shape (n, height, width) to probabilities (n, classes).

    Scaling by 1/255 is a part of it, and n may be any number.
    """
    onnx = _needed("onnx")
    helper, array = onnx.helper, onnx.numpy_helper.from_array
    constants = [array(np.float32(255), "white")]
    nodes = [
        helper.make_node("Flatten", ["images"], ["rows"], axis=1),
        helper.make_node("Cast", ["rows"], ["pixels"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Div", ["pixels", "white"], ["A0"]),
    ]
    for i, (W, b) in enumerate(params):
        constants += [
            array(np.ascontiguousarray(W), f"W{i}"),
            array(np.ascontiguousarray(b), f"b{i}"),
        ]
        nodes.append(helper.make_node("Gemm", [f"A{i}", f"W{i}", f"b{i}"], [f"Z{i}"]))
        nodes.append(helper.make_node("Relu", [f"Z{i}"], [f"A{i + 1}"]))
    nodes[-1] = helper.make_node("Softmax", [f"Z{i}"], ["probabilities"], axis=1)
    kind, shape = onnx.TensorProto, ["n", "height", "width"]
    network = helper.make_graph(
        nodes,
        "fastmnist",
        [helper.make_tensor_value_info("images", kind.UINT8, shape)],
        [helper.make_tensor_value_info("probabilities", kind.FLOAT, ["n", len(b)])],
        constants,
    )
    model = helper.make_model(
        network, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION,
        producer_name="fastmnist",
    )  # fmt: skip
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


def _needed(module: str) -> Any:
    """The module; ImportError with the command that installs it where it is missing."""
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ImportError(
            f'this format needs {package}: pip install "fastmnist[export]"', name=package
        ) from error
