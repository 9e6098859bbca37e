"""Every block of Python in the README and in docs/ runs, on a few digits in MNIST's place."""

import contextlib
import importlib.util
import re
from pathlib import Path

import pytest

import fastmnist as fm
from fastmnist import datasets

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.compiled  # it trains as long as it says
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
@pytest.mark.filterwarnings("ignore::UserWarning")  # scikit-learn's, that few epochs are too few
def test_blocks_of_python_run(page, monkeypatch, tmp_path, request):
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)
    if any("connect(" in block for block in blocks):
        client = request.getfixturevalue("client")  # in place of processes, which start in seconds
        monkeypatch.setattr(fm.distributed, "connect", lambda _: contextlib.nullcontext(client))
    if any("sklearn" in block for block in blocks):
        pytest.importorskip("sklearn")
    few = datasets.Split(datasets.generate(6000, seed=0), datasets.generate(500, seed=1))
    monkeypatch.setattr(fm, "load", lambda name: few)
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "__main__"}
    for block in blocks:
        code = compile(block, page.name, "exec")
        used = re.findall(r"^(?:from|import) (\w+)", block, re.M)
        if all(importlib.util.find_spec(package) for package in used):
            exec(code, namespace)


def test_links_and_pictures_are_there():
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)#:]+)\)", text):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_commands_named_in_the_readme_exist():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in re.findall(r"python -m benchmarks\.(\w+)", text):
        found = ROOT / "benchmarks" / name
        assert found.is_dir() or found.with_suffix(".py").exists(), name


def test_commands_named_for_security_run_tests():
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    commands = re.findall(r"python -m pytest (tests/\w+\.py)(?: -k \"?([\w ]+)\"?)?", text)
    assert len(commands) >= 8
    for file, words in commands:
        names = re.findall(r"def (test_\w+)", (ROOT / file).read_text(encoding="utf-8"))
        for word in words.split(" or "):
            assert any(word in name for name in names), f"{file} -k {word}"
