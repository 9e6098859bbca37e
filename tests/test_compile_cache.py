"""The cache of compiled kernels: never old code, never an error, whatever is on the disk."""

import hashlib
import importlib.util
import json
import os
import pickle
import shutil
import tempfile
import time
import warnings
from pathlib import Path

import filling
import numpy as np
import processes
import pytest

import fastmnist
from fastmnist.kernels import jit

pytestmark = pytest.mark.compiled

PACKAGE = Path(fastmnist.__file__).parent

SMALL = """
from fastmnist.kernels.jit import entry

@entry
def double(x):
    return 2 * x
"""


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """A cache folder of its own, as a new process would meet it; call it to run a kernel there."""
    monkeypatch.setenv("FASTMNIST_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(jit, "_warned", [])
    jit.folder.cache_clear()
    source = tmp_path / "small.py"
    source.write_text(SMALL, "utf-8")

    def run():
        """Hits and misses of the cache; a new import is to Numba what a new process is."""
        jit.folder.cache_clear()
        spec = importlib.util.spec_from_file_location("small", source)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        assert module.double(21) == 42
        stats = module.double.stats
        return sum(stats.cache_hits.values()), sum(stats.cache_misses.values())

    yield run
    jit.folder.cache_clear()


def cached():
    [path] = jit.folder().glob("small.double-*")
    return path


def test_a_kernel_is_compiled_once(fresh):
    assert fresh() == (0, 1)
    assert fresh() == (1, 0)


def test_the_folder_is_nobody_elses(fresh):
    fresh()
    assert jit.folder().stat().st_mode & 0o777 == 0o700
    assert jit.folder().is_relative_to(os.environ["FASTMNIST_CACHE"])


@pytest.mark.fault(row=90)
@pytest.mark.parametrize(
    "damage",
    {
        "empty": lambda content: b"",
        "cut to half": lambda content: content[: len(content) // 2],
        "cut by a byte": lambda content: content[:-1],
        "a bit turned": lambda content: (
            content[:-900] + bytes([content[-900] ^ 1]) + content[-899:]
        ),
        "garbage": lambda content: bytes(range(256)) * 9,
        "another pickle": lambda content: pickle.dumps({"version": 3}),
    }.items(),
    ids=lambda item: item[0],
)
def test_a_damaged_file_is_compiled_anew(fresh, damage):
    fresh()
    path = cached()
    path.write_bytes(damage[1](path.read_bytes()))
    assert fresh() == (0, 1)
    assert fresh() == (1, 0)


@pytest.mark.fault(row=90)
def test_a_missing_file_is_compiled_anew(fresh):
    fresh()
    cached().unlink()
    assert fresh() == (0, 1)
    assert fresh() == (1, 0)


@pytest.mark.fault(row=91)
def test_a_folder_that_vanishes_costs_a_compilation(fresh):
    fresh()
    folder = jit.folder()
    shutil.rmtree(folder)
    assert fresh() == (0, 1)


def test_a_file_in_the_folders_place_is_warned_of_once(fresh, tmp_path):
    (tmp_path / "cache").write_text("not a folder", "utf-8")
    with pytest.warns(UserWarning, match="compiled kernels cannot be kept") as caught:
        assert fresh() == (0, 1)
    assert len(caught) == 1
    assert "FASTMNIST_CACHE" in str(caught[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fresh() == (0, 1)


@pytest.mark.fault(row=91)
def test_a_disk_that_refuses_to_write_costs_a_compilation(fresh, monkeypatch):
    def full(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(jit, "atomic_write", full)
    with pytest.warns(UserWarning, match="No space left"):
        assert fresh() == (0, 1)


@pytest.mark.fault(row=94)
@pytest.mark.skipif(not hasattr(os, "getuid"), reason="modes mean nothing here")
@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_a_folder_that_others_can_write_is_not_used(fresh, mode):
    fresh()
    jit.folder().chmod(mode)
    with pytest.warns(UserWarning, match="can be written by others"):
        assert fresh() == (0, 1)


@pytest.mark.fault(row=94)
def test_a_doctored_file_where_others_can_write_is_not_run(fresh, tmp_path):
    canary = tmp_path / "canary"

    class Doctored:
        def __reduce__(self):
            return Path.touch, (canary,)

    fresh()
    content = pickle.dumps(Doctored())
    cached().write_bytes(hashlib.sha256(content).digest() + content)
    jit.folder().chmod(0o777)
    with pytest.warns(UserWarning, match="can be written by others"):
        fresh()
    assert not canary.exists()


# In processes of their own, on a copy of the package whose only kernels are two small ones.

CALLER = """
from fastmnist.kernels.callee import callee
from fastmnist.kernels.jit import entry

@entry
def caller(x):
    return callee(x) + 1
"""

CALLEE = """
from fastmnist.kernels.jit import jit

@jit
def callee(x):
    return {} * x
"""

REPORT = """
import json
from numba.core import event
with event.install_recorder("numba:compile") as recorder:
    {}
print(json.dumps([value, len(recorder.buffer)]))
"""

CALL = "from fastmnist.kernels.caller import caller; value = caller(20)"


@pytest.fixture
def copy(tmp_path):
    root = tmp_path / "copy"
    kernels = root / "fastmnist" / "kernels"
    kernels.mkdir(parents=True)
    hashed = ("counter_based.py", "parameters.py")
    for name in (
        "__init__.py",
        "files.py",
        "errors.py",
        "kernels/jit.py",
        "kernels/plain.py",
        "kernels/target.py",
        *hashed,
    ):
        shutil.copy(PACKAGE / name, root / "fastmnist" / name)
    (kernels / "__init__.py").write_text("", "utf-8")
    (kernels / "caller.py").write_text(CALLER, "utf-8")
    (kernels / "callee.py").write_text(CALLEE.format(2), "utf-8")
    return root


def start(root, statement, cache, *arguments, cwd=None, **variables):
    environment = processes.environment(
        PYTHONPATH=str(root), FASTMNIST_CACHE=cache and str(cache), **variables
    )
    return processes.start(
        *arguments, "-c", REPORT.format(statement), cwd=cwd or root, env=environment
    )


def finish(process, complaint=""):
    """What the statement gave as `value`, and whether anything was compiled."""
    done = processes.finish(process)
    assert done.returncode == 0, done.stderr
    if complaint:
        assert done.stderr.count("UserWarning: ") == done.stderr.count(complaint) == 1
    else:
        assert done.stderr == ""
    value, compilations = json.loads(done.stdout.splitlines()[-1])
    return value, compilations > 0


@pytest.mark.fault(row=93)
def test_an_edited_callee_in_another_file_is_not_forgotten(copy, tmp_path):
    cache = tmp_path / "cache"
    callee = copy / "fastmnist" / "kernels" / "callee.py"
    assert finish(start(copy, CALL, cache)) == (41, True)
    assert finish(start(copy, CALL, cache)) == (41, False)
    times = callee.stat().st_atime, callee.stat().st_mtime
    callee.write_text(CALLEE.format(3), "utf-8")  # as many bytes, and as old as it was
    os.utime(callee, times)
    assert finish(start(copy, CALL, cache)) == (61, True)
    callee.write_text(CALLEE.format(2), "utf-8")
    assert finish(start(copy, CALL, cache)) == (41, False)


@pytest.fixture
def kernels_of(copy, times):
    """Where there are kernels to compile, and how: two small ones, with --long all."""
    everything = "import fastmnist; fastmnist.warmup(); value = 41"
    return times((copy, CALL), (PACKAGE.parent, everything))


@pytest.mark.fault(row=92)
def test_processes_can_fill_a_cold_cache_together(kernels_of, tmp_path, times, figure):
    count, rounds = times(2, 8), times(1, 5)
    for number in range(rounds):
        cache = tmp_path / f"cache {number}"
        together = [start(*kernels_of, cache) for _ in range(count)]
        assert [finish(process)[0] for process in together] == [41] * count
        assert finish(start(*kernels_of, cache)) == (41, False)
    figure(f"{rounds} times {count} processes that fill one cache: all right, and the next")


HALF = """
from fastmnist.kernels.jit import entry

@entry
def half(x):
    return x / 2
"""

# Replaces files in turn with another process: before each it makes the file `tell` and waits for
# the file `awaited`. A process that replaces fewer files makes the others at its end.
IN_TURN = """
import atexit, os, pathlib, time

def in_turn(*steps, replace=os.replace):
    steps = [(pathlib.Path(tell), pathlib.Path(awaited)) for tell, awaited in steps]
    atexit.register(lambda: [tell.touch() for tell, _ in steps])
    def replaced(source, target):
        tell, awaited = steps.pop(0)
        tell.touch()
        while not awaited.exists():
            time.sleep(0.01)
        replace(source, target)
    os.replace = replaced
"""


@pytest.mark.fault(row=92)
def test_processes_that_save_at_once_keep_their_code_apart(copy, tmp_path):
    """In the order in which Numba's cache keeps the code for whole numbers as that for floats."""
    (copy / "fastmnist" / "kernels" / "half.py").write_text(HALF, "utf-8")
    call = "from fastmnist.kernels.half import half; value = half({})"
    steps = {
        "7": [("whole has read", "float has read"), ("whole has one file", "float is kept")],
        "7.5": [("float has read", "whole has one file"), ("float has one file", "whole has read")],
    }
    cache = tmp_path / "cache"
    cache.mkdir()
    whole, fraction = (
        start(copy, f"exec({IN_TURN!r}); in_turn(*{turns}); {call.format(x)}", cache, cwd=tmp_path)
        for x, turns in steps.items()
    )
    assert finish(fraction) == (3.75, True)
    (tmp_path / "float is kept").touch()
    assert finish(whole) == (3.5, True)
    assert finish(start(copy, call.format(7.5), cache)) == (3.75, False)
    assert finish(start(copy, call.format(7), cache)) == (3.5, False)


@pytest.mark.fault(row=92)
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
def test_processes_of_unlike_processors_fill_one_cache_together(tmp_path, times, figure):
    count, kernels = times(3, 50), times(2, len(filling.CHECKSUMS))
    variables = {"PYTHONPATH": str(processes.ROOT), "FASTMNIST_CACHE": str(tmp_path)}
    program = [filling.__file__, str(count), str(kernels)]
    unlike = [{}, {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}]
    expected, _ = filling.checksums(0, list(filling.CHECKSUMS)[:kernels])
    for each in (count, 1):  # and then as they were kept
        program[1] = str(each)
        together = [
            processes.start(*program, env=processes.environment(**variables, **processor))
            for processor in unlike
        ]
        for process in together:
            done = processes.finish(process, timeout=3000)
            assert (done.returncode, done.stderr) == (0, "")
            given = json.loads(done.stdout)
            assert [found for found, _ in given] == [expected] * each
    assert [compiled for _, compiled in given] == [0]
    assert len(list(tmp_path.glob("kernels/*"))) == len(unlike)
    figure(f"{2 * count} processes of two processors, one cache: {kernels} checksums right in each")


@pytest.mark.fault(row=92)
def test_a_process_killed_while_it_compiles_harms_no_other(kernels_of, tmp_path, times, figure):
    count, inside = times(1, 50), 0
    rng = np.random.default_rng()
    root, statement = kernels_of
    for number in range(count):
        cache = tmp_path / f"cache {number}"
        began = "import numba, fastmnist.kernels.jit; print('begins', flush=True)"
        killed = start(root, f"{began}; {statement}", cache)
        processes.wait_for_line(killed, "stdout", "begins")
        time.sleep(rng.uniform(0, times(0.5, 8)))
        killed.kill()
        inside += processes.finish(killed).returncode != 0
        assert finish(start(root, statement, cache))[0] == 41
        assert finish(start(root, statement, cache)) == (41, False)
    figure(f"{count} processes killed, {inside} of them while they compiled: all later ones right")


# An ordinary user: kernels are imported without the rights to write anywhere.
UNPRIVILEGED = """
import os, numba, numpy, platformdirs
numba.njit(lambda x: x + 1)(1)  # loads what is not to be read later
if os.getuid() == 0:
    os.setgroups([]), os.setgid(65534), os.setuid(65534)
"""


@pytest.mark.fault(row=89)
@pytest.mark.skipif(os.name != "posix", reason="users of POSIX")
def test_without_a_home_and_a_writable_package_kernels_are_compiled_each_time(copy):
    with tempfile.TemporaryDirectory() as folder:  # unlike pytest's, open to all
        root = Path(folder)
        shutil.copytree(copy, root, dirs_exist_ok=True)
        for path in [root, *root.rglob("*")]:
            path.chmod(0o555 if path.is_dir() else 0o444)
        before = sorted(root.rglob("*"))
        statement = f"exec({UNPRIVILEGED!r}); {CALL}"
        variables = {"HOME": "/proc/none", "XDG_CACHE_HOME": None}
        for _ in range(2):
            process = start(root, statement, None, "-B", **variables)
            assert finish(process, "cannot be kept on disk") == (41, True)
        assert sorted(root.rglob("*")) == before
        for path in [root, *root.rglob("*")]:
            path.chmod(0o755)


@pytest.mark.fault(row=89)
def test_without_a_place_for_kernels_it_trains(times):
    if not times(False, True):
        pytest.skip("compiles for 8 s what the test above does with two small kernels; with --long")
    statement = (
        "import numpy as np, fastmnist as fm; model = fm.MLP([4, 2]); data = fm.Dataset("
        "np.eye(4, dtype=np.uint8), np.arange(4) % 2); fm.fit(model, data, epochs=1); value = 41"
    )
    variables = {"HOME": "/proc/none", "XDG_CACHE_HOME": None, "NUMBA_OPT": "0"}  # soon compiled
    process = start(PACKAGE.parent, statement, None, **variables)
    assert finish(process, "cannot be kept on disk") == (41, True)


@pytest.mark.fault(row=91)
@pytest.mark.skipif(os.name != "posix", reason="limits of POSIX")
@pytest.mark.parametrize("limit", [0, 1000])
def test_a_disk_that_is_full_costs_a_compilation(copy, tmp_path, limit, times):
    if not times(limit, True):
        pytest.skip("three processes, as with some room; with --long")
    full = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))"
    cache = tmp_path / "cache"
    assert finish(start(copy, f"{full}; {CALL}", cache, "-B"), "File too large") == (41, True)
    assert finish(start(copy, CALL, cache, "-B")) == (41, True)
    assert finish(start(copy, CALL, cache, "-B")) == (41, False)


@pytest.mark.fault(row=91)
def test_a_folder_removed_while_a_process_runs_costs_a_compilation(copy, tmp_path):
    removed = "import shutil; from fastmnist.kernels.jit import folder; shutil.rmtree(folder())"
    process = start(copy, f"{CALL}; {removed}; value = caller(20.0)", tmp_path / "cache")
    assert finish(process) == (41.0, True)


def test_a_second_process_compiles_nothing():
    statement = (
        "import numpy as np, fastmnist as fm; "
        "data = fm.Dataset(np.eye(40, 784, dtype=np.uint8), np.arange(40) % 10); "
        "model = fm.MLP([784, 16, 10]); "
        "fm.fit(model, data, epochs=1, validation=10, threads=2); "
        "fm.evaluate(model, data); model.predict(data.images[:1]); "
        "value = len(model.predict_proba(data.images))"
    )
    cache = os.environ["FASTMNIST_CACHE"]
    root = PACKAGE.parent
    assert finish(start(root, statement, cache))[0] == 40
    assert finish(start(root, statement, cache)) == (40, False)


@pytest.mark.parametrize("distorted", [False, True])
def test_warmup_compiles_all_that_images_need(tmp_path, distorted):
    statement = (
        "import numpy as np, fastmnist as fm; from numba.core import event; "
        f"fm.warmup(augmentation={distorted}); recorder.buffer.clear(); "
        "images = np.eye(300, 784, dtype=np.uint8).reshape(300, 28, 28); "
        "data = fm.Dataset(images, np.arange(300) % 10); model = fm.MLP([784, 16, 10]); "
        f"augmentation = fm.Augmentation(shift=1) if {distorted} else None; "
        "fm.fit(model, data, epochs=1, validation=10, threads=2, augmentation=augmentation); "
        "model.predict(data.images[:1]); "
        "value = len(model.predict_proba(data.images))"
    )
    cache = os.environ["FASTMNIST_CACHE"]
    assert finish(start(PACKAGE.parent, statement, cache)) == (300, False)
