"""The team of threads: it starts together, stops together and never hangs."""

import contextlib
import threading
import time

import numpy as np
import pytest
from agreement import UNCOMPILED
from patching import own

from fastmnist import kernels
from fastmnist.dropout import Dropout
from fastmnist.kernels import epoch, team
from fastmnist.kernels.barrier import (
    ABANDONED,
    ARRIVED,
    CANCEL,
    CLAIMED,
    fetch_add,
    new_words,
    wait_for_all,
)
from fastmnist.kernels.jit import entry
from fastmnist.parameters import Parameters


@entry
def count_together(words, members, rounds, taken):
    """Each round the members share 100 pieces of work; `taken` counts who took how many."""
    for _ in range(rounds):
        while fetch_add(words, CLAIMED, 1) < 100:
            taken[0] += 1
        if wait_for_all(words, members):
            return


def members_of(count, rounds):
    return [(count, rounds, np.zeros(8, np.int64)) for _ in range(count)]


@pytest.fixture
def no_thread_stays():
    before = set(threading.enumerate())  # other packages may have left some
    yield
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize("count", [1, 2, 5, 16])
def test_all_work_is_done_once(count, no_thread_stays):
    members = members_of(count, 50)
    team.run(count_together, members)
    assert sum(taken[0] for *_, taken in members) == 50 * 100


def test_an_interpreter_that_ends_does_not_wait_for_members(monkeypatch):
    monkeypatch.setattr(team, "compiled", lambda kernel, *arguments: kernel)
    daemons = []
    team.run(lambda words: daemons.append(threading.current_thread().daemon), [(), ()])
    assert daemons == [True, True]


@pytest.mark.fault(row=77)
def test_a_member_that_fails_stops_all(monkeypatch, no_thread_stays):
    words = new_words()
    monkeypatch.setattr(team, "new_words", lambda: words)
    monkeypatch.setattr(team, "compiled", lambda kernel, *arguments: kernel)
    turns = iter(range(10))

    def kernel(words, members, rounds, taken):
        if next(turns) == 1:
            raise RuntimeError("one fell over")
        count_together(words, members, rounds, taken)

    with pytest.raises(RuntimeError, match="one fell over"):
        team.run(kernel, members_of(3, 10))
    assert words[ABANDONED]


@pytest.mark.fault(row=77)
def test_to_cancel_before_all_have_begun_leaves_none_waiting(monkeypatch, no_thread_stays):
    monkeypatch.setattr(team, "compiled", lambda kernel, *arguments: kernel)

    def kernel(words, members, rounds, taken):
        words[CANCEL] = 1  # as if Ctrl-C came when this one had begun, and others had not
        count_together(words, members, rounds, taken)

    for _ in range(20):
        members = members_of(5, 10**9)
        running = threading.Thread(target=team.run, args=(kernel, members), daemon=True)
        running.start()
        running.join(20)
        assert not running.is_alive()


@pytest.mark.fault(row=77)
def test_a_thread_that_never_starts_leaves_none_waiting(monkeypatch):
    started = []

    class Failing(threading.Thread):
        def start(self):
            if len(started) == 2:
                raise RuntimeError("can't start new thread")
            started.append(self)
            super().start()

    own(monkeypatch, team, "threading").Thread = Failing
    with pytest.raises(RuntimeError, match="can't start"):
        team.run(count_together, members_of(4, 10))
    assert not any(thread.is_alive() for thread in started)


class Injected(Exception):
    pass


def run_with(fault, size, chosen, meetings):
    """Run a team without an end, of which one member fails at its start or after some meetings."""
    turns = iter(range(size))

    def kernel(words, members, rounds, taken):
        if fault != "never starts" and next(turns) == chosen:
            count_together(words, members, meetings, taken)
            if fault == "raises":
                raise Injected
            words[CANCEL] = 1
        count_together(words, members, rounds, taken)

    class Thread(threading.Thread):
        def start(self):
            if fault == "never starts" and next(turns) == chosen:
                raise Injected
            super().start()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(team, "compiled", lambda kernel, *arguments: kernel)
        own(patch, team, "threading").Thread = Thread
        team.run(kernel, members_of(size, 10**9))


@pytest.mark.fault(row=77)
def test_no_team_hangs_whatever_fails_and_when(times, figure, no_thread_stays):
    count, longest = times(100, 1000), 0.0
    rng = np.random.default_rng()
    for number in range(count):
        fault = ["raises", "never starts", "cancels"][number % 3]
        size, meetings = rng.integers(1, 9), rng.integers(30)
        ends = contextlib.nullcontext() if fault == "cancels" else pytest.raises(Injected)
        began = time.perf_counter()
        with ends:
            run_with(fault, int(size), rng.integers(size), int(meetings))
        longest = max(longest, time.perf_counter() - began)
    figure(f"{count} teams with a fault injected: 0 hang, longest {1e3 * longest:.0f} ms")


def test_to_cancel_stops_all_at_the_next_meeting(monkeypatch):
    words = new_words()
    monkeypatch.setattr(team, "new_words", lambda: words)
    members = members_of(3, 10**9)
    threading.Timer(0.2, lambda: words.__setitem__(CANCEL, 1)).start()
    team.run(count_together, members)
    assert words[ARRIVED] == 0
    assert sum(taken[0] for *_, taken in members) % 100 == 0  # all left after the same round


@pytest.mark.skipif(not UNCOMPILED, reason="compiled code calls what it was compiled with")
@pytest.mark.parametrize("dropout", [Dropout(), Dropout(0, 0.2)], ids=["prepared", "made anew"])
def test_an_epoch_ends_at_whichever_meeting_says_so(monkeypatch, dropout):
    X, y = np.ones((20, 5), np.float32), np.zeros(20, int)
    meetings = 2 + (dropout.inputs > 0)
    for last in range(2 * meetings):
        params, answers = Parameters((5, 4, 3)), iter([False] * last + [True])
        monkeypatch.setattr(epoch, "wait_for_all", lambda *_, answers=answers: next(answers))
        kernels.train_epoch(params, X, y, batch_size=10, dropout=dropout, threads=1)
        assert next(answers, None) is None
        assert params.flat.any() == (last >= meetings)  # the first step comes after the meetings
