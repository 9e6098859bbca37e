"""Training beside other threads and processes: the same bits, and nothing that hangs."""

import asyncio
import multiprocessing
import os
import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import processes
import pytest
from trained import EVERYTHING, trained

import fastmnist as fm

HERE = Path(__file__).parent
THREADS = (1, 2, 3, 4, 7, 8, 16)

NETWORKS = {
    "plain": {"sizes": (784, 10), "optimizer": "sgd"},
    "deep": {"sizes": (784, 129, 65, 10), "optimizer": "nesterov", "batch_size": 150},
    "everything": EVERYTHING,
    "distorted": {"optimizer": "adam", "augmentation": fm.Augmentation(shift=1, elastic=20)},
}


def start(statements, **variables):
    """Start a program that may use `trained`."""
    path = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))
    environment = processes.environment(PYTHONPATH=path, **variables)
    return processes.start("-c", f"from trained import trained\n{statements}", env=environment)


def ended(process):
    """What it printed; it must end well, and say nothing else."""
    done = processes.finish(process)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


@pytest.mark.fault(row=80)
@pytest.mark.compiled
def test_any_number_of_threads_gives_one_hash(times, figure):
    repeats = times(1, 5)
    for name, options in NETWORKS.items():
        hashes = {trained(threads, **options) for threads in THREADS for _ in range(repeats)}
        figure(f"{name}: {len(hashes)} hash of {repeats * len(THREADS)} trainings, 1 to 16 threads")
        assert len(hashes) == 1


@pytest.mark.fault(row=81)
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity here")
def test_more_threads_than_processors_give_the_same_bits():
    code = "from fastmnist.kernels import thread_count; print(thread_count(), trained(5))"
    one = next(iter(os.sched_getaffinity(0)))
    pinned = ended(start(f"import os; os.sched_setaffinity(0, {{{one}}}); {code}"))
    assert pinned.split() == ["1", trained()]


# After a fit, a process starts others.

CHILD = """
import multiprocessing, sys
if __name__ == "__main__":
    here = trained()
    context = multiprocessing.get_context("{method}")
    with context.Pool(1) as pool:
        print(here, *pool.map(trained, [1, 2, 3]))
"""

LOKY = """
from joblib import Parallel, delayed
here = trained()
print(here, *Parallel(2, "loky")(delayed(trained)(threads) for threads in (1, 2, 3)))
"""


@pytest.mark.compiled
@pytest.mark.fault(row=82)
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver", "loky"])
def test_a_child_trains_after_its_parent_has(method):
    if method == "loky":
        pytest.importorskip("joblib")
    elif method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} here")
    printed = ended(start(LOKY if method == "loky" else CHILD.format(method=method)))
    assert printed.split() == [trained()] * 4


@pytest.mark.fault(row=83)
def test_this_package_never_forks_and_the_manual_says_when_others_should_not():
    # A fork while another thread compiles hangs the child, whatever is compiled: Numba's lock.
    sources = [path.read_text("utf-8") for path in Path(fm.__file__).parent.rglob("*.py")]
    assert not re.search(r"os\.fork|import multiprocessing|preexec_fn", "\n".join(sources))
    assert "fm.warmup()" in (processes.ROOT / "docs" / "faults.md").read_text("utf-8")


@pytest.mark.compiled
@pytest.mark.fault(row=84)
def test_two_threads_train_two_networks_at_once():
    wanted = trained(optimizer="sgd"), trained(optimizer="adam")
    with ThreadPoolExecutor(2) as pool:
        for _ in range(5):
            at_once = [pool.submit(trained, optimizer=name) for name in ("sgd", "adam")]
            assert tuple(future.result() for future in at_once) == wanted


@pytest.mark.compiled
@pytest.mark.fault(row=85)
def test_it_trains_in_a_coroutine_and_in_a_thread_of_one():
    async def both():
        return trained(), await asyncio.to_thread(trained)

    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert asyncio.run(both()) == (trained(), trained())
    assert handlers == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]


DAEMON = """
import threading
begun = threading.Event()
options = {"epochs": 10**6, "callbacks": [lambda *_: begun.set()]}
threading.Thread(target=trained, kwargs=options, daemon=True).start()
begun.wait()
print("end", flush=True)
"""


@pytest.mark.fault(row=87)
def test_the_interpreter_ends_while_a_daemon_trains(times, figure):
    count, waited = times(1, 20), []
    for _ in range(count):
        process = start(DAEMON)
        processes.wait_for_line(process, "stdout", "end")
        began = time.perf_counter()
        assert ended(process) == ""  # the rest of what it printed
        waited.append(time.perf_counter() - began)
    figure(f"{count} ends during a daemon's training: longest {1e3 * max(waited):.0f} ms")


@pytest.mark.fault(row=88)
def test_variables_of_others_change_nothing():
    others = {"NUMBA_THREADING_LAYER": "x", "NUMBA_NUM_THREADS": "1", "OMP_NUM_THREADS": "abc"}
    assert ended(start("print(trained())", **others)).strip() == trained()


@pytest.mark.kernels
@pytest.mark.fault(row=88)
@pytest.mark.parametrize("value", ["0", "-1"])
def test_variables_that_numba_refuses_are_told(value, tmp_path):
    environment = processes.environment(NUMBA_NUM_THREADS=value)
    train = ("-m", "fastmnist", "train", "--data", "generated", "--backend", "numba")
    done = processes.run(
        *train, cwd=tmp_path, env=environment | {"PYTHONPATH": str(processes.ROOT)}
    )
    assert done.returncode == 1
    assert re.fullmatch("fastmnist: Numba does not start: .* NUMBA_.*\n", done.stderr)
