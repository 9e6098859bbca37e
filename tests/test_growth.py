"""How time grows with the work: the cases, what perfect means, and what is saved."""

import json
import sys

import pytest

from benchmarks import growth, timing, workloads

pytestmark = pytest.mark.compiled

IMAGES = 320


def test_the_work_is_that_of_one_thread():
    panels = growth.panels(IMAGES)
    batch = panels["samples in a batch"].cases
    assert len({case.work for case in batch.values()}) == 1
    images = panels["images"].cases
    assert images[IMAGES].work == pytest.approx(32 * images[IMAGES // 32].work)
    assert growth.Case(threads=1).work == 4 * growth.Case(threads=4).work
    assert panels["hidden layers of 128"].cases[0].network == "784-10"
    assert panels["hidden layers of 128"].cases[2].network == "784-128-128-10"


def test_perfect_is_in_proportion_to_the_work(monkeypatch):
    monkeypatch.setattr(timing, "REST", 0)
    cases = {n: growth.Case("784-10", images=n, batch=32, threads=1) for n in (64, 128)}
    small, large = growth.measured(growth.Panel(cases, 128), rounds=1)
    assert large.perfect == pytest.approx(large.taken.median)
    assert small.perfect == pytest.approx(large.perfect / 2)


def test_the_command_prints_a_table_and_saves_figures_and_picture(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(timing, "REST", 0)
    monkeypatch.setattr(growth, "WIDTHS", (16, 128))
    monkeypatch.setattr(growth, "DEPTHS", (0, 1))
    monkeypatch.setattr(growth, "BATCHES", (64, workloads.BATCH))
    arguments = ["--rounds", "1", "--images", str(IMAGES), "--output", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["growth", *arguments])
    growth.main()
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    saved = json.loads((tmp_path / "growth.json").read_text("utf-8"))["panels"]
    assert len(saved) == 6
    assert len(table) == 2 + sum(map(len, saved.values()))
    assert len({line.count("|") for line in table}) == 1
    assert saved["images"][-1]["value"] == IMAGES
    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")
