"""Named pipes, which a reader of files must not wait for."""

import os

import pytest


def make_pipe(path: str | os.PathLike) -> None:
    """Make one; where there are none, as on Windows, the test is skipped."""
    if not hasattr(os, "mkfifo"):
        pytest.skip("no named pipes here")
    os.mkfifo(path)
