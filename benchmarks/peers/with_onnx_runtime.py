"""ONNX Runtime, which only predicts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks import THREADS
from benchmarks.peers.problem import Problem

BLOCK = 250  # images at a time, which the caches hold (10,000 at once: 1.2 times as long)


def classes(problem: Problem, images: np.ndarray) -> Callable[[], np.ndarray]:
    """The classes of uint8 images, by one session."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # one image is done before a second thread could be woken
    options.intra_op_num_threads = THREADS if len(images) > 1 else 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    session = onnxruntime.InferenceSession(
        graph(problem.params), options, providers=["CPUExecutionProvider"]
    )
    blocks = [images[i : i + BLOCK] for i in range(0, len(images), BLOCK)]
    if len(blocks) == 1:
        return lambda: session.run(None, {"images": images})[0]
    return lambda: np.concatenate([session.run(None, {"images": X})[0] for X in blocks])


def graph(params: list[tuple[np.ndarray, np.ndarray]]) -> bytes:
    """The network as an ONNX model, from uint8 images to the most probable class.

    1/255 stands in the first layer's weights, which spares a pass over all pixels.
    """
    from onnx import TensorProto, helper, numpy_helper

    nodes = [helper.make_node("Cast", ["images"], ["A0"], to=TensorProto.FLOAT)]
    constants = []
    for i, (W, b) in enumerate(params):
        scaled = W / np.float32(255) if i == 0 else W
        constants += [numpy_helper.from_array(scaled, f"W{i}"), numpy_helper.from_array(b, f"b{i}")]
        nodes.append(helper.make_node("Gemm", [f"A{i}", f"W{i}", f"b{i}"], [f"Z{i}"]))
        nodes.append(helper.make_node("Relu", [f"Z{i}"], [f"A{i + 1}"]))
    nodes[-1] = helper.make_node("ArgMax", [f"Z{i}"], ["classes"], axis=1, keepdims=0)
    network = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, [None, len(params[0][0])])],
        [helper.make_tensor_value_info("classes", TensorProto.INT64, [None])],
        constants,
    )
    # versions that every release of ONNX Runtime since 1.15 reads
    opset = helper.make_opsetid("", 17)
    return helper.make_model(network, opset_imports=[opset], ir_version=8).SerializeToString()
