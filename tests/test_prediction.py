"""The comparison of predicting: same network, same classes, a table."""

import sys

import numpy as np
import pytest

from benchmarks import prediction, timing, workloads
from benchmarks.peers.problem import Problem

NETWORK = "784-20-30-10"


@pytest.mark.compiled
def test_the_command_prints_a_row_for_each_number_of_images(monkeypatch, capsys):
    monkeypatch.setattr(timing, "REST", 0)
    monkeypatch.setattr(prediction, "PEERS", {})
    monkeypatch.setattr(sys, "argv", ["prediction", "--network", NETWORK, "--rounds", "1"])
    prediction.main()
    sentence, _, *table = capsys.readouterr().out.splitlines()
    assert NETWORK in sentence
    assert [line.split("|")[1].strip() for line in table[2:]] == ["1", "100", "10,000"]
    assert len({line.count("|") for line in table}) == 1


@pytest.mark.parametrize("name", prediction.PEERS)
@pytest.mark.parametrize("count", [1, 600])
def test_peers_predict_the_same(name, count):
    pytest.importorskip(prediction.PEERS[name][0])
    classes = {name: call() for name, call in prediction.prepare(NETWORK, count, [name]).items()}
    prediction.verify(classes)
    assert len(classes[name]) == count


def test_the_onnx_model_is_the_network():
    onnx = pytest.importorskip("onnx")
    from onnx.reference import ReferenceEvaluator

    from benchmarks.peers.with_onnx_runtime import graph

    model = onnx.load_from_string(graph(Problem(NETWORK, 32, 32).params))
    onnx.checker.check_model(model)
    (classes,) = ReferenceEvaluator(model).run(None, {"images": workloads.unseen(50)})
    assert np.array_equal(classes, workloads.predict(NETWORK, 50)())


def test_other_classes_are_refused():
    same = np.array([1, 2])
    prediction.verify({"fastmnist": same, "PyTorch": same.copy()})
    with pytest.raises(SystemExit, match="PyTorch predicts other classes"):
        prediction.verify({"fastmnist": same, "PyTorch": np.array([1, 3])})
