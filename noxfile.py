"""Everything that can be checked on one machine: ``nox --list`` names the sessions."""

import shlex
import shutil
import tempfile
from pathlib import Path

import nox

nox.needs_version = ">=2025.10.14"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = False  # a session for one of them is skipped
nox.options.sessions = ["lint", "tests", "docs"]

PYTHONS = nox.project.python_versions(nox.project.load_toml("pyproject.toml"))
DIST = Path("dist")
# musl has no wheels of Numba, and the newest Python has some late.
WITHOUT_NUMBA = (
    ("x86_64-unknown-linux-musl", "3.11"),
    ("x86_64-unknown-linux-musl", "3.13"),
    ("aarch64-unknown-linux-musl", "3.13"),
    ("aarch64-pc-windows-msvc", "3.11"),
    ("x86_64-unknown-linux-gnu", "3.15"),
)
BENCHMARKS = (
    "pytest --quiet benchmarks",
    "benchmarks.peers --only 'fastmnist kernels' 'fastmnist reference'"
    " --rounds 1 --images 2000 --output {output}/peers",
    "benchmarks.prediction --rounds 1",
    "benchmarks.optimizers --rounds 1 --images 2000",
    "benchmarks.phases --rounds 1 --images 2000",
    "benchmarks.denormals --rounds 1 --images 2000",
    "benchmarks.start --rounds 1 --images 2000 --compilations 1",
    "benchmarks.estimators --seeds 1 --epochs 1 --images 2000",
    "benchmarks.exchange",
    "benchmarks.photos --pictures 1",
    "benchmarks.ablations --rounds 1 --images 2000",
    "benchmarks.processors --processors native --rounds 1 --images 2000",
    "benchmarks.records --seeds 1 --epochs 1 --recipes quick best",
    "benchmarks.search --rounds 1 --trials 2 --epochs 1 --images 2000",
    "benchmarks.rounds --seeds 1 --samples 20000 --steps 2 --shards 1 2 --rounds 2"
    " --output {output}/rounds",
    "benchmarks.communication --rounds 2 --steps 2 --workers 1 2 --networks 784-10-10 784-128-10"
    " --output {output}/communication",
    "benchmarks.race --only fastmnist --rounds 1 --epochs 1 --images 2000 --output {output}/race",
    "benchmarks.growth --rounds 1 --images 1000 --output {output}/growth",
    "benchmarks.density --rounds 1 --images 1000 --output {output}/density",
)
ASV_BENCHMARKS = "784-10-10', 'numba'|Recipe|Start|Result|Predict|Optimizers|Threads|Densities"


def install(session, *groups):
    """Install the package from this folder with every extra, and dependency groups."""
    session.install("--editable", ".[all]", *(f"--group={group}" for group in groups))


def pytest(session, *arguments):
    """Run pytest with these arguments, or with those that follow ``--`` on nox's command line."""
    session.run("python", "-m", "pytest", *(session.posargs or arguments))


@nox.session
def lint(session):
    """Style, types, spelling, the workflow files, and the metadata for those who cite or report."""
    install(session, "lint")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    for platform in ("linux", "win32", "darwin"):  # finds what a system does not have
        session.run("mypy", "--platform", platform)
    session.run("codespell")
    session.run("actionlint")
    session.run("zizmor", "--offline", "--quiet", ".github")
    check = ("check-jsonschema", "--quiet", "--builtin-schema")
    session.run(*check, "vendor.citation-file-format", "CITATION.cff")
    session.run(*check, "vendor.github-issue-forms", ".github/ISSUE_TEMPLATE/bug.yml")


@nox.session(python=[*PYTHONS, "3.14t"])
def tests(session):
    """The tests, on every Python that is installed."""
    install(session, "test")
    pytest(session, "-n", "auto")


@nox.session(python=PYTHONS[0], venv_backend="uv")
def minimum(session):
    """The tests, with the lowest release of every dependency that pyproject.toml allows."""
    session.install("--resolution=lowest-direct", "--editable", ".[all]", "--group=test")
    pytest(session, "-n", "auto")


@nox.session
def arm(session):
    """As root on Debian: an emulated ARM machine, and what must be right there; half an hour."""
    install(session, "test")
    session.install("pip")  # fetches wheels for it
    session.run("python", "tests/arm64.py", *session.posargs)


@nox.session(name="without-numba", venv_backend="uv")
def without_numba(session):
    """The package without Numba: what it needs has wheels elsewhere, and the tests pass."""
    wheels_only = ("uv", "pip", "compile", "--quiet", "--only-binary=:all:", "--no-header")
    for platform, python in WITHOUT_NUMBA:
        target = (f"--python-platform={platform}", f"--python-version={python}")
        session.run(*wheels_only, *target, "pyproject.toml", silent=True)
    with tempfile.TemporaryDirectory() as scratch:
        session.run("uv", "build", "--quiet", "--wheel", f"--out-dir={scratch}")
        (wheel,) = Path(scratch).glob("*.whl")
        session.install(f"{wheel}[distributed,export,images,plots,sklearn]", "--group=test")
        train = ("fastmnist", "train", "--data", "generated", "--epochs", "1", "--recipe", "quick")
        session.run(*train, "-o", f"{scratch}/model.npz")
    pytest(session, "-n", "auto")


@nox.session(python=PYTHONS)
def soak(session):
    """The tests again and again in random orders beside busy processes: ``-- --runs 20``."""
    install(session, "test")
    session.run("python", "-m", "tests.soak", *session.posargs)


@nox.session
def asv(session):
    """In an environment that asv builds itself: its checks, and one benchmark of HEAD."""
    session.install("--group=asv")
    environment = {"HOME": session.create_tmp()}  # where it notes what this machine is
    session.run("asv", "machine", "--yes", env=environment, silent=True)
    session.run("asv", "check", env=environment)
    one = ("--bench", "LossAndGradients.*784-10-10', 'numba'")
    session.run("asv", "run", "--quick", "--show-stderr", *one, "HEAD^!", env=environment)


@nox.session
def chaos(session):
    """Searches and trainings on clusters that are killed, stopped and restarted at random."""
    install(session, "test")
    session.run("python", "-m", "tests.chaos", *session.posargs)


@nox.session
def processors(session):
    """The kernels compiled for other processors, and their tests as those that this one can be."""
    install(session, "test")
    session.run("python", "-m", "tests.processors", *session.posargs)


@nox.session
def docs(session):
    """The site, in ``site/html``; a warning is an error."""
    install(session, "docs")
    session.run("python", "-m", "sphinx", "-W", "--quiet", "docs", "site/html")


@nox.session
def notebook(session):
    """The notebook, cell by cell."""
    install(session, "notebook", "test")
    pytest(session, "--quiet", "--nbmake", "examples")


@nox.session
def benchmarks(session):
    """Every benchmark once, on as little as it takes to see that it works; nothing is timed."""
    install(session, "test", "asv")
    with tempfile.TemporaryDirectory() as output:
        session.env["HOME"] = output  # where asv notes what this machine is
        for command in BENCHMARKS:
            arguments = shlex.split(command.format(output=output))
            session.run("python", "-m", *arguments)
        session.run("asv", "machine", "--yes")
        once = ("--quick", "--dry-run", "--environment=existing", "--show-stderr")
        session.run("asv", "run", *once, "--bench", ASV_BENCHMARKS)


@nox.session
def windows(session):
    """The tests of files, processes, signals and the terminal on Windows, simulated on Linux."""
    install(session, "test")
    session.run("python", "-m", "tests.windows", *(session.posargs or ["-n", "auto"]))


@nox.session
def fuzz(session):
    """Damaged and hostile files, for every reader; led by coverage where the group `fuzz` is."""
    install(session, "test")
    session.run("python", "-m", "tests.fuzz", *(session.posargs or ["--executions", "20000"]))


@nox.session(venv_backend="uv")
def package(session):
    """What is released, in ``dist``: the sources test themselves, the wheel alone trains."""
    shutil.rmtree(DIST, ignore_errors=True)
    session.run("uv", "build", "--quiet")
    (sources,), (wheel,) = DIST.glob("*.tar.gz"), DIST.glob("*.whl")
    session.install("--group=package")
    session.run("twine", "check", "--strict", sources, wheel)
    session.run("check-wheel-contents", "--package", "fastmnist", wheel)

    with tempfile.TemporaryDirectory() as scratch:
        alone = ("uvx", "--isolated", "--from", f"fastmnist[kernels] @ {wheel.resolve().as_uri()}")
        train = ("fastmnist", "train", "--data", "generated", "--epochs", "1")
        session.run(*alone, *train, "-o", f"{scratch}/model.npz")

        shutil.unpack_archive(sources, scratch)
        with session.chdir(Path(scratch, sources.name.removesuffix(".tar.gz"))):
            session.install(".[all]", "--group=test")
            pytest(session, "-n", "auto")
