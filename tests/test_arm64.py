"""The emulated ARM machine: where it cannot be built, that is told."""

from pathlib import Path

import processes

PROGRAM = str(Path(__file__).with_name("arm64.py"))


def test_what_a_machine_lacks_to_emulate_another_is_told_at_once():
    done = processes.run(PROGRAM, env=processes.environment(PATH=""))
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("tests/arm64.py: ")
    assert "as root" in done.stderr or "apt-get install" in done.stderr
