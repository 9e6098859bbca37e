"""Taking turns, and how what they took is printed."""

from benchmarks import timing


def test_a_turn_is_of_so_many_calls_and_of_each_once_before_the_next_round(monkeypatch):
    monkeypatch.setattr(timing, "REST", 0)
    called = []
    taken = timing.in_turns({n: lambda n=n: lambda: called.append(n) or n for n in "ab"}, 2, 3)
    assert "".join(called) == 2 * "aaabbb"
    assert [taken[n].results for n in "ab"] == [["a", "a"], ["b", "b"]]
    assert len(taken["a"].seconds) == 2


def test_a_spread_is_the_median_the_fastest_and_the_slowest():
    taken = timing.Taken([0.003, 0.001, 0.002])
    assert taken.spread() == "2.0 ms (1.0 to 3.0)"
    assert taken.spread("µs") == "2000.0 µs (1000.0 to 3000.0)"
