"""Random kills, stops and restarts: a few of those that `tests.chaos` tries by the hundred."""

import sys

import pytest

pytest.importorskip("distributed")
pytest.importorskip("optuna")

from chaos import Chaos

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="processes that are stopped, and forked"),
    pytest.mark.filterwarnings("ignore:.* has no workers"),
]


@pytest.fixture(scope="module")
def chaos():
    return Chaos(embedded=False, undisturbed=1)


def test_whatever_is_killed_or_stopped_each_run_ends_right(chaos, times, figure):
    runs = [chaos.run(seed) for seed in range(times(2, 50))]
    assert [run for run in runs if not run.right] == []
    figure(f"random kills, stops and restarts of a cluster: {len(runs)} of {len(runs)} right")


def test_another_result_is_noticed(chaos, monkeypatch):
    monkeypatch.setattr(chaos, "_right", dict.fromkeys(chaos.seconds, "another"))
    assert not chaos.run(0).right
