"""What several test files share."""

import os

import hypothesis
import pytest

from fastmnist import datasets, download
from fastmnist.errors import DownloadError

# A busy machine is no error, and neither is the first call of a kernel, which compiles it.
hypothesis.settings.register_profile("fastmnist", deadline=None)
hypothesis.settings.load_profile("fastmnist")


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
