"""Whatever the package waits for has a bound, or a comment that says why it needs none."""

import ast

import processes
import pytest

PACKAGE = processes.ROOT / "fastmnist"
FILES = sorted(str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py"))
WAITS = {
    "accept",
    "acquire",
    "communicate",
    "get",
    "join",
    "recv",
    "result",
    "serve_forever",
    "wait",
}


def unexplained(source):
    """The lines that wait without a bound: a call without arguments, and without a comment."""
    lines = source.splitlines()
    return [
        lines[node.lineno - 1].strip()
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in WAITS
        and not (node.args or node.keywords)
        and not ("#" in lines[node.lineno - 1] or lines[node.lineno - 2].lstrip().startswith("#"))
    ]


@pytest.mark.parametrize("file", FILES)
def test_every_wait_has_a_bound_or_a_reason(file):
    assert unexplained((PACKAGE / file).read_text("utf-8")) == []


def test_a_wait_without_either_is_found():
    source = (
        "thread.join()\nevent.wait(1)\nevent.wait()  # it is set\n# it has ended\nother.wait()\n"
    )
    assert unexplained(source) == ["thread.join()"]
