"""Windows, as far as Linux can play it (``tests/windows``), and what no source may do there."""

import ast
import os
import sys
from pathlib import Path

import processes
import pytest

import fastmnist

HERE = Path(__file__).parent
SOURCES = sorted(Path(fastmnist.__file__).parent.rglob("*.py"))
simulated = pytest.mark.skipif(sys.platform != "linux", reason="simulated on Linux")

# What Windows lacks; and what it has, but does something else there: os.kill ends a process.
# What other names of `os` and `signal` it lacks, mypy knows: --platform win32.
MODULES = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}
CALLS = {"os.fork", "os.kill", "os.killpg", "os.rename", "os.umask", "os.uname", "signal.alarm"}
CALLS |= {"signal.pthread_kill", "signal.pthread_sigmask", "resource_tracker.ensure_running"}
FOLDERS = ("/dev/", "/proc/", "/sys/", "/tmp/")


def posix_only(source):
    """Line and name of what has no counterpart on Windows, outside of `if sys.platform ...`."""
    found = []

    def visit(node, guarded):
        guard = isinstance(node, ast.If | ast.IfExp) and "sys.platform" in ast.unparse(node.test)
        if not (guarded or guard):
            found.extend((node.lineno, name) for name in names_of(node) if is_posix_only(name))
        leaves = False
        for child in ast.iter_child_nodes(node):
            visit(child, guarded or guard or leaves)
            leaves = leaves or leaves_on_windows(child)

    visit(ast.parse(source), False)
    return found


def leaves_on_windows(node):
    """Whether what follows in the block runs elsewhere only."""
    return (
        isinstance(node, ast.If)
        and ast.unparse(node.test) == "sys.platform == 'win32'"
        and isinstance(node.body[-1], ast.Return)
    )


def names_of(node):
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
    if isinstance(node, ast.Attribute):
        return [ast.unparse(node)]
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value]
    return []


def is_posix_only(name):
    return name in MODULES | CALLS or name.startswith(FOLDERS)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_no_source_uses_what_only_posix_has(path):
    found = posix_only(path.read_text("utf-8"))
    if path.name == "threads.py":  # read where it is there
        found = [(line, name) for line, name in found if name != "/sys/fs/cgroup"]
    assert not found


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("import fcntl", ["fcntl"]),
        ("from os import kill", ["os.kill"]),
        ("def f():\n    os.kill(1, 2)", ["os.kill"]),
        ("if sys.platform == 'win32':\n    f()\nelse:\n    os.kill(1, 2)", []),
        ("def f():\n    if sys.platform == 'win32':\n        return\n    os.fork()", []),
        ("def f():\n    if sys.platform == 'win32':\n        g()\n    os.fork()", ["os.fork"]),
        ("open('/dev/null')", ["/dev/null"]),
    ],
)
def test_it_would_be_found(source, names):
    assert [name for _, name in posix_only(source)] == names


def environment(cache=None):
    path = os.pathsep.join([str(HERE / "windows"), str(processes.ROOT)])
    changes = {} if cache is None else {"FASTMNIST_CACHE": str(cache)}
    return processes.environment(PYTHONPATH=path, **changes)


@simulated
def test_files_and_the_terminal_on_windows():
    tests = ["tests/test_files.py", "tests/test_terminal.py", "tests/test_records.py"]
    done = processes.run("-m", "tests.windows", "-q", "-p", "no:cacheprovider", *tests)
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout


READ = """
import sys, threading, time
from fastmnist.files import atomic_write
reader = open(sys.argv[1], "rb")
timer = threading.Timer(float(sys.argv[2]), reader.close)
timer.daemon = True
timer.start()
began = time.monotonic()
try:
    with atomic_write(sys.argv[1]) as file:
        file.write(b"new")
finally:
    print(f"{time.monotonic() - began:.3f}")
"""


@simulated
def test_a_file_that_somebody_reads_is_replaced_when_he_has_read_it(tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    program = ["-c", READ, str(tmp_path / "file"), "0.3"]
    assert float(processes.succeeds(*program, env=environment())) > 0.3
    assert (tmp_path / "file").read_bytes() == b"new"


@simulated
def test_a_file_that_somebody_keeps_open_stays_and_nothing_else_does(tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    done = processes.run("-c", READ, str(tmp_path / "file"), "60", env=environment())
    assert "PermissionError" in done.stderr
    assert 1 < float(done.stdout) < 60
    assert (tmp_path / "file").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


YIELD = """
import numba
from fastmnist.kernels import barrier
print(barrier._yield.symbol, numba.njit(lambda: barrier._yield())())
"""


@simulated
@pytest.mark.compiled
def test_a_thread_that_waits_gives_its_processor_away(tmp_path):
    printed = processes.succeeds("-c", YIELD, env=environment(tmp_path))
    assert printed == "SwitchToThread 0\n"


# No signal interrupts a wait of the main thread on Windows. Here that is so where the main thread
# blocks it, and another one takes it.
CTRL_C = """
import os, signal, sys, threading, time
import numpy as np
import fastmnist as fm
from fastmnist.terminal import run
X = np.random.default_rng(0).integers(0, 256, (60_000, 28, 28), np.uint8)
data = fm.Dataset(X, np.arange(len(X)) % 10)
model = fm.MLP([784, 800, 800, 10])

def press():
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    time.sleep(2)  # the images are packed by then
    pressed.append(time.monotonic())
    signal.raise_signal(signal.SIGINT)
    time.sleep(60)

def train():
    fm.fit(model, data, epochs=1, batch_size=1)  # minutes

pressed = []
fm.fit(model, data[:2], epochs=1, batch_size=1)  # compiles
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
threading.Thread(target=press, daemon=True).start()
code = run(train)
print(f"{time.monotonic() - pressed[0]:.3f}")
sys.exit(code)
"""


@simulated
@pytest.mark.compiled
def test_ctrl_c_ends_a_training_though_it_interrupts_no_wait(figure):
    done = processes.run("-c", CTRL_C)
    assert (done.returncode, done.stderr) == (130, "fastmnist: interrupted\n")
    assert float(done.stdout) < 10  # of minutes
    figure(f"Ctrl-C that interrupts no wait: {1e3 * float(done.stdout):.0f} ms")


BREAK = """
import signal, sys, threading
from fastmnist.terminal import run
def work():
    threading.Timer(0.1, signal.raise_signal, [signal.SIGTTIN]).start()  # 21, as SIGBREAK is
    while not threading.Event().wait(0.05):
        pass
sys.exit(run(work))
"""


@simulated
def test_ctrl_break_and_a_console_that_is_closed_terminate():
    done = processes.run("-c", BREAK, env=environment())
    assert (done.returncode, done.stderr) == (143, "fastmnist: terminated\n")
