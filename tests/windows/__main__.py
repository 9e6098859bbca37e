"""``python -m tests.windows [ARGUMENTS OF PYTEST]``: the tests on Windows, simulated on Linux.

What is simulated, and what not, says ``sitecustomize.py``. Nobody has run the tests like this on a
real Windows, which the workflows do. Where the encoding of a text file is not named is an error.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
# What touches files, processes, signals, threads or the terminal.
SELECTION = [
    *("archive", "checkpoints", "cli", "csv_files", "datasets", "download"),
    *("exchange", "files", "idx", "model", "odd_terminals", "page", "pictures", "platforms"),
    *("records", "search", "system", "team", "terminal", "threads_and_processes", "training"),
]


def main(arguments):
    """Run pytest, by default on the tests of what differs between systems; its exit code."""
    tests = HERE.parent
    if not any(os.path.exists(argument.partition("::")[0]) for argument in arguments):
        arguments = [*arguments, *(str(tests / f"test_{name}.py") for name in SELECTION)]
    path = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-X", "warn_default_encoding", "-m", "pytest"]
    with tempfile.TemporaryDirectory() as cache:
        # a cache of its own: what is compiled here calls SwitchToThread
        simulated = os.environ | {"PYTHONPATH": path, "FASTMNIST_CACHE": cache}
        return subprocess.call([*command, *arguments], cwd=tests.parent, env=simulated)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
