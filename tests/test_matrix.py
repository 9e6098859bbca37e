"""docs/faults.md: every row is told, and has a test."""

import re
from pathlib import Path

HERE = Path(__file__).parent
ROWS = set(range(1, 106))


def test_every_fault_is_described():
    table = (HERE.parent / "docs" / "faults.md").read_text("utf-8")
    described = re.findall(r"^\| (\d+) \| .+ \| .+ \|$", table, re.MULTILINE)
    assert sorted(map(int, described)) == sorted(ROWS)


def test_every_fault_has_a_test():
    sources = [path.read_text("utf-8") for path in HERE.glob("test_*.py")]
    marked = re.findall(r"mark\.fault\(row=(\d+)\)", "\n".join(sources))
    assert set(map(int, marked)) == ROWS
