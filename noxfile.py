"""Everything that can be checked on one machine: ``nox --list`` names the sessions."""

import nox

nox.needs_version = ">=2025.10.14"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = False
nox.options.sessions = ["lint", "tests", "docs"]

# 3.11 to the newest that pyproject.toml names. A session for one that is not installed is skipped.
PYTHONS = nox.project.python_versions(nox.project.load_toml("pyproject.toml"))


def install(session, *groups):
    """Install the package from this folder with every extra, and dependency groups."""
    session.install("--editable", ".[all]", *(f"--group={group}" for group in groups))


@nox.session
def lint(session):
    """Style, types and spelling."""
    install(session, "lint")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    for platform in ("linux", "win32", "darwin"):  # finds what a system does not have
        session.run("mypy", "--platform", platform)
    session.run("codespell")


@nox.session(python=PYTHONS)
def tests(session):
    """The tests, on every Python that is installed; arguments go to pytest."""
    install(session, "test")
    session.run("python", "-m", "pytest", *(session.posargs or ["-n", "auto"]))


@nox.session(python=PYTHONS)
def soak(session):
    """The tests again and again in random orders beside busy processes: ``-- --runs 20``."""
    install(session, "test")
    session.run("python", "-m", "tests.soak", *session.posargs)


@nox.session
def docs(session):
    """The site, in ``site/html``; a warning is an error."""
    install(session, "docs")
    session.run("python", "-m", "sphinx", "-W", "--quiet", "docs", "site/html")
