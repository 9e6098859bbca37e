"""What several test files share."""

import faulthandler
import importlib.util
import os
import signal
import sys
import tempfile

import hypothesis
import patching
import processes
import pytest
from unchanged import watched

from fastmnist import datasets, download
from fastmnist.errors import DownloadError

UNCOMPILED = os.environ.get("NUMBA_DISABLE_JIT", "0") != "0"
NUMBA = importlib.util.find_spec("numba") is not None

# Without Numba these are not even imported: they test the kernels, or measure them.
if not NUMBA:
    collect_ignore = [
        "test_benchmarks.py",
        "test_compile_cache.py",
        "test_density.py",
        "test_environment.py",
        "test_growth.py",
        "test_kernels.py",
        "test_peers.py",
        "test_plain.py",
        "test_start.py",
        "test_team.py",
    ]

# A busy machine is no error, and neither is the first call of a kernel, which compiles it.
PATIENT = {"deadline": None, "suppress_health_check": [hypothesis.HealthCheck.too_slow]}
hypothesis.settings.register_profile("short", **PATIENT)
hypothesis.settings.register_profile("long", **PATIENT, max_examples=5000)


def pytest_addoption(parser):
    parser.addoption(
        "--long",
        action="store_true",
        help="try as often as docs/promises.md says: hours, not minutes",
    )


STDERR = pytest.StashKey[int]()


def pytest_configure(config):
    patching.refuse_changes_of_the_process()
    hypothesis.settings.load_profile("long" if config.getoption("--long") else "short")
    config.stash[STDERR] = os.dup(2)  # before pytest keeps to itself what tests print
    # A shell lets what it starts in the background ignore Ctrl-C, which tests press.
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ["PYTHONFAULTHANDLER"] = "1"  # of the programs that tests start: see processes.py
    if not NUMBA:  # the warning has tests of its own
        config.addinivalue_line("filterwarnings", "ignore:using NumPy")
        os.environ["PYTHONWARNINGS"] = "ignore:using NumPy"
    # Tests, and the programs they start, keep out of the user's cache folder; those that run in
    # parallel share one folder, so that what one has compiled the others find.
    if not os.environ.get("FASTMNIST_CACHE"):
        folder = tempfile.TemporaryDirectory(prefix="fastmnist-tests-")
        os.environ["FASTMNIST_CACHE"] = folder.name
        config.add_cleanup(folder.cleanup)


# In parallel, each process takes tests that stand side by side, until it takes some of another's:
# what a file's tests share is then made once, not by every process.


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    from xdist.scheduler import WorkStealingScheduling

    chosen = config.getoption("dist") != "load"  # what -n alone means
    return None if chosen else WorkStealingScheduling(config, log)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config):
    """Compile what tests of most files need, or all their processes begin with the same."""
    if config.option.file_or_dir or UNCOMPILED or not NUMBA:
        return
    with processes.none_left():
        programs = [
            processes.start("-c", f"import fastmnist; fastmnist.warmup(augmentation={distorted})")
            for distorted in (False, True)
        ]
        for program in programs:
            processes.finish(program, timeout=600)  # it takes 13 s, alone


def pytest_make_parametrize_id(val):
    """Bytes by their number: what gzip makes holds the time, and tests would change their names."""
    return f"{len(val)} bytes" if isinstance(val, bytes) else None


# A hang ends the process, after it has told where every thread stands. pytest-timeout's own ways
# need the main thread to run Python, but a team that hangs is waited for; and in parallel runs
# they are silent.


def pytest_timeout_set_timer(item, settings):
    seconds = settings.timeout * (12 if item.config.getoption("--long") else 1)
    faulthandler.dump_traceback_later(seconds, file=item.config.stash[STDERR], exit=True)
    return True


def pytest_timeout_cancel_timer(item):
    faulthandler.cancel_dump_traceback_later()
    return True


def pytest_enter_pdb():
    faulthandler.cancel_dump_traceback_later()


def pytest_collection_modifyitems(items):
    for item in items:
        compiled = item.get_closest_marker("compiled")
        if compiled and UNCOMPILED:
            item.add_marker(pytest.mark.skip(reason="compilation is off"))
        elif (compiled or item.get_closest_marker("kernels")) and not NUMBA:
            item.add_marker(pytest.mark.skip(reason="there is no Numba"))


def pytest_terminal_summary(terminalreporter, config):
    figures = [
        text
        for reports in terminalreporter.stats.values()
        for report in reports
        for name, text in getattr(report, "user_properties", ())
        if name == "figure" and report.when == "call"
    ]
    if figures:
        terminalreporter.section("figures")
        for text in figures:
            terminalreporter.line(text)


@pytest.fixture
def times(request):
    """How often a test that depends on luck tries: ``times(5, 200)`` is 200 with --long."""
    return lambda few, many: many if request.config.getoption("--long") else few


@pytest.fixture
def figure(record_property):
    """Note what was measured, for the end of the report: ``figure("longest wait 12 ms")``."""
    return lambda text: record_property("figure", text)


@pytest.fixture(autouse=True)
def _no_process_is_left():
    with processes.none_left():
        yield


@pytest.fixture(autouse=True)
def _no_downloads(monkeypatch):
    """A test downloads from nowhere unless it names a mirror of its own."""
    for name, published in download.SETS.items():
        monkeypatch.setitem(download.SETS, name, published._replace(mirrors=()))


@pytest.fixture(autouse=True)
def _arguments_stay_as_they_are(monkeypatch):
    """In every test, what a backend is given is the same afterwards, byte by byte."""
    for name in ("fastmnist.reference", "fastmnist.kernels"):
        if backend := sys.modules.get(name):
            for function in ("forward", "logits", "loss_and_gradients", "train_epoch"):
                monkeypatch.setattr(backend, function, watched(getattr(backend, function)))


@pytest.fixture(scope="session")
def client():
    """Of a Dask scheduler and two workers in this process: they start at once, and can be spied on.

    All that a task is given and returns is serialised, as between processes.
    """
    dask, distributed = map(pytest.importorskip, ("dask", "distributed"))
    pytest.importorskip("optuna")
    # 2 % of a processor while nothing is to be done, for 5
    quiet = {"distributed.worker.profile.enabled": False, "distributed.admin.tick.interval": "1s"}
    with (
        dask.config.set(quiet),
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=False,
            dashboard_address="127.0.0.1:0",
            scheduler_kwargs={"dashboard": False},  # it takes 1 s to load
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.fixture(scope="session")
def mnist():
    """The real MNIST, from $FASTMNIST_DATA or the cache; never downloaded.

    Without it a test is skipped, or fails where FASTMNIST_REQUIRE_MNIST=1.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(download.SETS, "mnist", download.SETS["mnist"]._replace(mirrors=()))
        try:
            return datasets.load("mnist")
        except DownloadError:
            if os.environ.get("FASTMNIST_REQUIRE_MNIST") == "1":
                pytest.fail("MNIST is required here: set FASTMNIST_DATA")
            pytest.skip("MNIST is not on this machine; set FASTMNIST_DATA")
