"""A process that works for long: its memory and its open files do not grow."""

import sys

import processes
import pytest

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
    pytest.mark.compiled,
]

# The first hundred fill what Python, Numba and the allocator keep for later; after that, the
# median over the last tenth is held against that over the first.
REPEATED = """
import contextlib, os, statistics
from pathlib import Path
import numpy as np
import fastmnist as fm

def resident():
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")

def repeat(times, work):
    for _ in range(100):
        work()
    files, memory = len(os.listdir("/proc/self/fd")), []
    for _ in range(times):
        work()
        memory.append(resident())
    tenth = times // 10
    grown = statistics.median(memory[-tenth:]) - statistics.median(memory[:tenth])
    print(int(grown), len(os.listdir("/proc/self/fd")) - files)
"""

FITS = """
data = fm.Dataset(np.eye(200, 784, dtype=np.uint8) * 255, np.arange(200) % 10)

def work():
    model = fm.MLP([784, 32, 10])
    fm.fit(model, data, epochs=1, validation=50, threads=2, optimizer="adam", dropout=0.1)
"""

FAILED_LOADS = """
whole = Path("whole.npz")
fm.MLP([784, 32, 10]).save(whole)
Path("cut.npz").write_bytes(whole.read_bytes()[:5000])
Path("bad.csv").write_text("1,2,3\\n" * 100)
Path("idx").mkdir()
for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
    Path(f"idx/{name}-ubyte").write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 9]) * 1000)

def work():
    for load, path in [(fm.MLP.load, "cut.npz"), (fm.load, "bad.csv"), (fm.load, "idx")]:
        try:
            load(path)
        except (fm.DataError, fm.ModelFileError):
            continue
        raise SystemExit(f"{path} was read")
"""


@pytest.mark.fault(row=79)
@pytest.mark.parametrize(("work", "name"), [(FITS, "trainings"), (FAILED_LOADS, "failed loads")])
def test_memory_and_open_files_do_not_grow(tmp_path, times, figure, work, name):
    count = times(200, 1000)
    program = f"{REPEATED}{work}repeat({count}, work)"
    # One arena, or on a busy machine threads open new ones now and then, of half a MiB each.
    environment = processes.environment(MALLOC_ARENA_MAX="1")
    printed = processes.succeeds("-c", program, cwd=tmp_path, env=environment)
    grown, files = map(int, printed.split())
    figure(f"{count} {name}: memory grew by {grown / 2**20:.2f} MiB, open files by {files}")
    assert grown < 2**20
    assert files == 0
