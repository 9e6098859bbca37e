"""The comparison with other libraries, as far as it goes without them."""

import json
import sys
from dataclasses import replace

import pytest

from benchmarks.peers import __main__ as peers
from benchmarks.peers import report
from benchmarks.peers.problem import Problem
from benchmarks.peers.turns import contenders

pytestmark = pytest.mark.compiled

SECONDS = {
    "fastmnist kernels": [0.02, 0.01, 0.03],
    "fastmnist reference": [0.1, 0.1, 0.1],
    "PyTorch, usual": [0.03, 0.03, 0.03],
    "JAX": [0.05, 0.06, 0.04],
    "scikit-learn": [0.2, 0.2, 0.2],
}
ROW = report.Row("784-10", 128, 0.19, 0.5, flops=1e9, peak=1e11, seconds=SECONDS)


def test_ratios_are_of_medians_and_against_the_fastest_peer():
    assert ROW.median("fastmnist kernels") == 0.02
    assert ROW.fastest_peer == "JAX"  # PyTorch as most people use it is only shown
    assert ROW.ratio("JAX") == pytest.approx(2.5)


def test_each_has_its_share_of_the_dense_peak():
    shares = ROW.as_dict()["shares_of_peak"]
    assert shares["fastmnist kernels"] == pytest.approx(0.5)
    assert shares["JAX"] == pytest.approx(0.2)


def test_a_row_has_a_cell_for_every_column_and_marks_the_fastest():
    names = ["fastmnist kernels", "PyTorch compiled", "JAX"]
    line = ROW.markdown(names)
    assert line.count("|") == report.header(names).splitlines()[0].count("|")
    assert "**20.0 (10.0 to 30.0)** |  | 50.0 (40.0 to 60.0) | 2.5 | 4.0 | 0.50 |" in line


def test_operations_are_those_of_dense_products():
    # 784-10: forward and gradient of W; 784-20-10: and backward through the second layer
    assert Problem("784-10", 32, 100).flops == 100 * 2 * 2 * 784 * 10
    assert Problem("784-20-10", 32, 100).flops == 100 * 2 * (2 * 784 * 20 + 3 * 20 * 10)


def test_random_pixels_have_the_density_asked_for():
    X = Problem("784-10", 32, 200, 0.5).pixels
    assert X.shape == (200, 784)
    assert (X != 0).mean() == pytest.approx(0.5, abs=0.01)


def test_who_reaches_another_loss_is_named_before_anything_is_timed():
    problem = Problem("784-10", 32, 100)
    peers.verify(problem, {"fastmnist kernels": 1.0, "fastmnist reference": 1.0005})
    with pytest.raises(SystemExit, match=r"JAX reaches loss 1\.1"):
        peers.verify(problem, {"fastmnist kernels": 1.0, "fastmnist reference": 1.0, "JAX": 1.1})


def test_a_contender_that_fails_is_named():
    with (
        pytest.raises(SystemExit, match=r"fastmnist kernels: .*hidden"),
        contenders(["fastmnist kernels"], Problem("784-hidden-10", 32, 100)),
    ):
        pass


@pytest.mark.parametrize("only", [("fastmnist kernels",), ("fastmnist reference",)])
def test_any_choice_is_shown_beside_the_kernels(monkeypatch, tmp_path, capsys, only):
    seen = []

    def compare(problem, names, rounds):
        seen.extend(names)
        return replace(ROW, seconds={name: SECONDS[name] for name in names})

    monkeypatch.setattr(peers, "compare", compare)
    one = ["--networks", "784-10", "--batches", "128", "--only", *only, "--output", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["peers", *one])
    peers.main()
    assert seen == list(dict.fromkeys(["fastmnist kernels", *only]))
    *_, last = capsys.readouterr().out.splitlines()
    saved = [path.name for path in sorted(tmp_path.iterdir())]
    assert last == f"Saved in {tmp_path}: {', '.join(saved)}"
    assert ("peers.png" in saved) == (len(seen) > 1)


def test_the_command_saves_numbers_table_and_picture(monkeypatch, tmp_path, capsys):
    only = ["fastmnist kernels", "fastmnist reference"]
    arguments = ["--networks", "784-10-10", "--batches", "32", "--rounds", "2", "--images", "200"]
    monkeypatch.setattr(
        sys, "argv", ["peers", *arguments, "--only", *only, "--output", str(tmp_path)]
    )
    peers.main()

    out = capsys.readouterr().out
    saved = json.loads((tmp_path / "peers.json").read_text("utf-8"))
    assert [len(seconds) for seconds in saved["rows"][0]["seconds"].values()] == [2, 2]
    assert saved["conditions"]["threads"] == 2
    title, _, table = (tmp_path / "peers.md").read_text("utf-8").partition("\n\n")
    assert title.startswith("# ")
    assert table.strip() in out
    assert (tmp_path / "peers.png").read_bytes().startswith(b"\x89PNG")
