"""What several test files share."""

import os
import sys

import hypothesis
import pytest
from unchanged import watched

from fastmnist import datasets, download
from fastmnist.errors import DownloadError

# A busy machine is no error, and neither is the first call of a kernel, which compiles it.
hypothesis.settings.register_profile("short", deadline=None)
hypothesis.settings.register_profile("long", deadline=None, max_examples=5000)


def pytest_addoption(parser):
    parser.addoption(
        "--long",
        action="store_true",
        help="try as often as docs/promises.md says: hours, not minutes",
    )


def pytest_configure(config):
    hypothesis.settings.load_profile("long" if config.getoption("--long") else "short")


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


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory):
    """Keep the tests, and the programs they start, out of the user's cache folder."""
    with pytest.MonkeyPatch.context() as patch:
        if not os.environ.get("FASTMNIST_CACHE"):
            patch.setenv("FASTMNIST_CACHE", str(tmp_path_factory.mktemp("cache")))
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
