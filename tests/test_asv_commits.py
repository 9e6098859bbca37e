"""asv in environments that it builds itself: the commit that changed a figure is the one it names.

With --long: an environment takes a minute, and its packages come from an index.
"""

import json
import shutil
from pathlib import Path

import processes
import pytest

pytestmark = pytest.mark.compiled

ROOT = Path(__file__).parent.parent

SLOW = """

_quick = loss_and_gradients


def loss_and_gradients(*args, **options):
    from time import perf_counter

    started = perf_counter()
    result = _quick(*args, **options)
    until = started + 1.5 * (perf_counter() - started)
    while perf_counter() < until:
        pass
    return result
"""
SOME = r"(LossAndGradients|Forward.time_one).*'784-128-10'"
WASTE = """
_waste = b"x" * 300_000_000
"""


class Clone:
    """Of this repository, with commits of its own."""

    def __init__(self, folder):
        self.folder = folder / "clone"
        self.environment = processes.environment(
            HOME=str(folder),  # where asv notes what this machine is
            **{f"GIT_{who}_{what}": "a@b.example" for who in ("AUTHOR", "COMMITTER")
               for what in ("NAME", "EMAIL")},
        )  # fmt: skip
        self.git("clone", "-q", ROOT, self.folder, cwd=ROOT)
        self.asv("machine", "--yes")

    def git(self, *arguments, cwd=None):
        options = {"cwd": cwd or self.folder, "env": self.environment}
        done = processes.run_program("git", *arguments, **options)
        assert done.returncode == 0, done.stderr

    def commit(self, message, file="fastmnist/__init__.py", end=""):
        """Change the end of a file, beginning from the commit that was cloned."""
        self.git("checkout", "-q", "--detach", "origin/HEAD")
        path = self.folder / file
        path.write_text(path.read_text(encoding="utf-8") + end, encoding="utf-8")
        self.git("commit", "-q", "--all", "--allow-empty", "--message", message)

    def asv(self, *arguments):
        return processes.run(
            "-m", "asv", *arguments, timeout=3000, cwd=self.folder, env=self.environment
        )

    def changed(self, bench):
        """Names that asv calls slower or larger in the last commit; all results are there."""
        shutil.rmtree(self.folder / ".asv" / "results", ignore_errors=True)
        options = ("--interleave-rounds", "--show-stderr", "--bench", bench)
        done = self.asv("continuous", *options, "HEAD~1", "HEAD")
        files = list(self.folder.glob(".asv/results/*/*-*.json"))
        assert len(files) == 2, done.stdout
        for path in files:
            for result, *_ in json.loads(path.read_text("utf-8"))["results"].values():
                assert any(result), done.stdout
        rows = [row.split("|") for row in done.stdout.splitlines() if row.startswith("| +")]
        assert done.returncode == (1 if rows else 0), done.stdout
        return {row[5].strip() for row in rows}


@pytest.fixture(scope="module")
def clone(request, tmp_path_factory):
    pytest.importorskip("asv")
    if not request.config.getoption("--long"):
        pytest.skip("takes minutes, and an index of packages; with --long")
    return Clone(tmp_path_factory.mktemp("asv"))


@pytest.mark.timeout(6000)
def test_a_kernel_that_takes_one_and_a_half_times_as_long_is_named(clone):
    clone.commit("Slow", "fastmnist/kernels/__init__.py", SLOW)
    [name] = clone.changed(SOME)
    assert "LossAndGradients" in name
    assert "'numba'" in name


@pytest.mark.timeout(6000)
def test_a_commit_that_changes_nothing_is_not_named(clone):
    clone.commit("Nothing")
    assert clone.changed(SOME) == set()


@pytest.mark.timeout(6000)
def test_memory_is_blamed_on_the_commit_that_wastes_it(clone):
    clone.commit("Waste", end=WASTE)
    assert clone.changed("Result.track_peak_memory") == {"bench_start.Result.track_peak_memory"}
    clone.commit("Nothing")
    assert clone.changed("Result.track_peak_memory") == set()
