"""How many threads a process may use."""

import os

import pytest
from patching import own

from fastmnist import threads


def test_thread_count_where_the_system_tells_no_affinity(monkeypatch):
    vars(own(monkeypatch, threads, "os")).pop("sched_getaffinity", None)
    assert 1 <= threads.thread_count() <= os.cpu_count()


def test_a_part_of_a_processor_is_one_thread(monkeypatch):
    monkeypatch.setattr(threads, "_container_quota", lambda: 0.5)
    assert threads.thread_count() == 1


def test_thread_count():
    assert threads.thread_count(3) == 3
    assert 1 <= threads.thread_count() <= os.cpu_count()
    for wrong in (0, -1, 10**6):
        with pytest.raises(ValueError, match="threads"):
            threads.thread_count(wrong)
    for wrong in ("2", 1.5, True):
        with pytest.raises(TypeError, match="threads"):
            threads.thread_count(wrong)


@pytest.mark.fault(row=81)
@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"cpu.max": "150000 100000"}, 1.5),
        ({"cpu.max": "max 100000"}, float("inf")),
        ({"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 0.5),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, float("inf")),
        ({"cpu.max": "150000 0"}, float("inf")),
        ({}, float("inf")),
    ],
)
def test_the_quota_of_a_container(monkeypatch, tmp_path, files, quota):
    (tmp_path / "cpu").mkdir()
    for file, text in files.items():
        (tmp_path / file).write_text(text, "utf-8")
    monkeypatch.setattr(threads, "Path", lambda _: tmp_path)
    assert threads._container_quota.__wrapped__() == quota
