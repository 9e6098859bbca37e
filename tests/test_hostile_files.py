"""Files of models and checkpoints that want time, memory, or another file: refused, and soon."""

import json
import os
import signal
from pathlib import Path

import hostile
import numpy as np
import processes
import pytest

import fastmnist as fm
from fastmnist import checkpoints
from fastmnist.errors import ModelFileError

pytestmark = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no limit of time here")
FILES = [
    *((reader, name) for name in hostile.ARCHIVES for reader in ("npz", "checkpoint")),
    *(("safetensors", name) for name in hostile.TENSORS),
]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """What came of each file, all of them read in one process."""
    pytest.importorskip("safetensors")
    folder = tmp_path_factory.mktemp("hostile")
    for name, make in hostile.ARCHIVES.items():
        content = make()
        for reader in ("npz", "checkpoint"):
            (folder / f"{reader} {name}").write_bytes(content)
    for name, make in hostile.TENSORS.items():
        (folder / f"safetensors {name}").write_bytes(make())
    before = set(folder.parent.rglob("*"))
    # what measures coverage takes time and memory, too
    measured = [name for name in os.environ if name.startswith("COVERAGE_")]
    unmeasured = processes.environment(**dict.fromkeys(measured))
    done = processes.run(hostile.__file__, folder, cwd=folder, env=unmeasured)
    assert done.returncode == 0, f"{done.stdout[-500:]}\n{done.stderr[-2000:]}"
    assert {path.name for path in set(folder.parent.rglob("*")) - before} <= {
        "read.npz",
        "read.safetensors",
    }
    assert not list(Path("/tmp").glob("outside of*"))
    read = [json.loads(line) for line in done.stdout.splitlines()]
    return {outcome["file"]: outcome for outcome in read}


@pytest.mark.fault(row=60)
@pytest.mark.parametrize(("reader", "name"), FILES, ids=[f"{r}: {n}" for r, n in FILES])
def test_a_hostile_file_is_refused_in_a_second_and_64_mib(reader, name, outcomes):
    assert outcomes[f"{reader} {name}"]["outcome"] == "refused"


@pytest.mark.fault(row=60)
def test_what_they_took(outcomes, figure):
    slowest = max(outcomes.values(), key=lambda outcome: outcome["seconds"])
    largest = max(outcomes.values(), key=lambda outcome: outcome["bytes"])
    assert len(outcomes) == len(FILES)
    figure(f"hostile files: at most {slowest['seconds']:.2f} s ({slowest['file']})")
    figure(f"hostile files: at most {largest['bytes'] / 2**20:.0f} MiB ({largest['file']})")


def test_the_ways_of_the_hostile_make_files_that_are_read(tmp_path):
    """Else all of theirs might be refused for a slip in how they are put together."""
    path = tmp_path / "model.npz"
    path.write_bytes(hostile.archive([hostile.header(), *hostile.PARAMS]))
    assert fm.MLP.load(path).sizes == (3, 2)
    path.write_bytes(hostile.many(10, hostile.array(np.zeros(1)), apart=True))
    with pytest.raises(ModelFileError, match="'header'"):  # all arrays were read
        fm.MLP.load(path)
    path = tmp_path / "model.safetensors"
    tensor = hostile.tensor
    told = {"0.weight": tensor([1, 2], 8), "0.bias": tensor([1], 12) | {"data_offsets": [8, 12]}}
    path.write_bytes(hostile.tensors(told, bytes(12)))
    assert fm.MLP.load(path).sizes == (2, 1)


@pytest.mark.fault(row=60)
def test_the_reasons_are_the_hostile_ones(tmp_path):
    path = tmp_path / "file.npz"
    for name, reason in {
        "a bomb": "compressed",
        "members over one another": "lie over one another",
        "100,000 members": "more than 10,000 members",
        "two members of one name": "two members 'W0'",
        "two names that are one": "two members 'W0'",
        "a name outside": r"does not have: \['\.\./outside'\]",
        "encrypted": "encrypted",
        "deep parentheses": "parentheses|memory|nested|recursion|parse",
        "sizes of 64 GB declared": r"need [\d,]{13,} bytes of parameters",
        "text in version 1": "equiv",
    }.items():
        path.write_bytes(hostile.ARCHIVES[name]())
        with pytest.raises(ModelFileError, match=reason):
            fm.MLP.load(path)
        with pytest.raises(ModelFileError):
            checkpoints.read(path)
