"""What zeros are worth: the forms that are forced, where curves cross, and what is saved."""

import json
import sys

import numpy as np
import pytest

from benchmarks import density, timing, workloads
from benchmarks.timing import Taken
from fastmnist.kernels import packed

pytestmark = pytest.mark.compiled


def test_each_form_is_what_it_is_called():
    threshold = packed.DENSE
    for share in (0.05, 1.0):
        X = workloads.random_pixels(share, 20)
        for kind in (X, X / np.float32(255)):
            assert isinstance(density.in_form("packed", kind), packed.Packed)
            assert isinstance(density.in_form("dense", kind), packed.Dense)
            wanted = packed.Dense if share == 1 else packed.Packed
            assert isinstance(density.in_form("chosen", kind), wanted)
    assert threshold == packed.DENSE


def test_random_pixels_have_the_density_asked_for():
    X = workloads.random_pixels(0.3, 300)
    assert X.shape == (300, 784)
    assert (X != 0).mean() == pytest.approx(0.3, abs=0.01)


def test_curves_cross_where_straight_lines_do():
    curves = {
        "packed": [Taken([seconds]) for seconds in (1.0, 2.0, 4.0)],
        "dense": [Taken([seconds]) for seconds in (3.0, 3.0, 3.0)],
    }
    [(first, second, x, seconds)] = density.crossings([0.1, 0.2, 0.4], curves)
    assert (first, second) == ("packed", "dense")
    assert x == pytest.approx(0.3)
    assert seconds == pytest.approx(3)


def test_the_command_prints_a_table_and_saves_figures_and_picture(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(timing, "REST", 0)
    arguments = ["--densities", "0.05", "1", "--rounds", "1", "--images", "150"]
    monkeypatch.setattr(sys, "argv", ["density", *arguments, "--output", str(tmp_path)])
    density.main()
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(table) == 2 + 2 * 2
    assert len({line.count("|") for line in table}) == 1
    seconds = json.loads((tmp_path / "density.json").read_text("utf-8"))["seconds"]
    assert {kind: set(curves) for kind, curves in seconds.items()} == {
        kind: {"chosen", "packed", "dense"} for kind in ("uint8", "float32")
    }
    assert (tmp_path / "density.png").read_bytes().startswith(b"\x89PNG")


def test_jax_can_stand_beside_them():
    pytest.importorskip("jax")
    epochs = density.epochs(1.0, "uint8", 150, jax=True)
    assert epochs["JAX"]()() == pytest.approx(2.3, abs=0.5)
