"""Where files are kept, and that none is ever half written."""

import errno
import os
import stat
import unicodedata
from pathlib import Path

import filelock
import processes
import psutil
import pytest
from named_pipes import make_pipe

from fastmnist.errors import DataError
from fastmnist.files import atomic_write, cache_dir, locked, open_regular

POSIX = pytest.mark.skipif(os.name != "posix", reason="files of POSIX")


def test_the_cache_folder_can_be_named(monkeypatch, tmp_path):
    monkeypatch.setenv("FASTMNIST_CACHE", str(tmp_path))
    assert cache_dir() == tmp_path
    monkeypatch.setenv("FASTMNIST_CACHE", "")
    assert cache_dir().name == "fastmnist"


def test_without_a_home_folder_nothing_is_kept(monkeypatch):
    monkeypatch.setenv("FASTMNIST_CACHE", "~nobody of this name/cache")
    assert cache_dir() == Path(os.devnull, "no home folder")


def test_a_file_appears_whole(tmp_path):
    path = tmp_path / "file"
    with atomic_write(path) as file:
        file.write(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def interrupted():
        with atomic_write(path) as file:
            file.write(b"half of")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.fault(row=65)
def test_mode_and_link_are_kept(tmp_path):
    path, link = tmp_path / "file", tmp_path / "link"
    path.write_bytes(b"old")
    path.chmod(0o640)
    link.symlink_to(path)
    with atomic_write(link) as file:
        file.write(b"new")
    assert link.is_symlink()
    assert path.read_bytes() == b"new"
    assert os.name != "posix" or stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_new_file_has_the_mode_that_any_program_gives(tmp_path):
    with atomic_write(tmp_path / "ours") as file:
        file.write(b"")
    (tmp_path / "theirs").write_bytes(b"")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "theirs").stat().st_mode


@pytest.mark.fault(row=66)
def test_a_writer_that_is_killed_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    program = (
        "import os, sys\nfrom fastmnist.files import atomic_write\n"
        "with atomic_write(sys.argv[1]) as file:\n"
        "    file.write(b'half of')\n    file.flush()\n    os.kill(os.getpid(), 9)\n"
    )
    done = processes.run("-c", program, path)
    assert done.returncode in (-9, 9)  # as POSIX and Windows tell it
    assert path.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 2
    with atomic_write(path):
        assert len(list(tmp_path.iterdir())) == 2  # ours: what the other has left is gone
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_names_the_file_not_its_temporary_name(tmp_path):
    def fail():
        with atomic_write(tmp_path / "file"):
            raise OSError(28, "No space left on device")

    for write, path in (
        (fail, tmp_path / "file"),
        (
            lambda: atomic_write(tmp_path / "nowhere" / "file").__enter__(),
            tmp_path / "nowhere/file",
        ),
    ):
        with pytest.raises(OSError) as caught:
            write()
        assert caught.value.filename == str(path)


def test_an_error_about_another_file_keeps_its_name(tmp_path):
    with pytest.raises(FileNotFoundError) as caught, atomic_write(tmp_path / "file"):
        (tmp_path / "other").read_bytes()
    assert caught.value.filename == str(tmp_path / "other")


def test_two_writers_of_one_file_do_not_disturb_each_other(tmp_path):
    path = tmp_path / "file"
    with atomic_write(path) as outer:
        outer.write(b"outer")
        with atomic_write(path) as inner:
            inner.write(b"inner")
        assert path.read_bytes() == b"inner"
    assert path.read_bytes() == b"outer"
    assert list(tmp_path.iterdir()) == [path]


WRITER = """
import sys, time
from fastmnist.files import atomic_write
with atomic_write(sys.argv[1]) as file:
    print("writing", flush=True)
    time.sleep(60)
"""


def test_what_another_process_is_writing_stays_until_it_is_killed(tmp_path):
    path = tmp_path / "file"
    other = processes.start("-c", WRITER, path)
    processes.wait_for_line(other, "stdout", "writing")
    with atomic_write(path):
        pass
    assert len(list(tmp_path.iterdir())) == 2
    other.kill()
    other.communicate()
    with atomic_write(path):
        pass
    assert list(tmp_path.iterdir()) == [path]


def test_what_was_left_is_found_where_names_are_decomposed(tmp_path, monkeypatch):
    """As by macOS's HFS+: the name is another sequence of characters than the one asked for."""
    with atomic_write(tmp_path / "zürich"):
        [ours] = os.listdir(tmp_path)
    monkeypatch.setattr(psutil, "pid_exists", lambda process: process == os.getpid())
    left = tmp_path / unicodedata.normalize("NFD", ours.replace(f"-{os.getpid()}.", "-1."))
    left.touch()
    with atomic_write(tmp_path / "zürich"):
        pass
    assert not left.exists()


NO_LOCKS = ["ENOSYS", "ENOLCK", "ENOTSUP", "EOPNOTSUPP"]


def without_locks(monkeypatch, name):
    """What `lock_descriptor` raises on Lustre, on NFS, and elsewhere."""

    def lock_descriptor(descriptor, *, blocking):
        raise OSError(getattr(errno, name), "locks are not supported")

    monkeypatch.setattr(filelock, "lock_descriptor", lock_descriptor)


@pytest.mark.parametrize("name", NO_LOCKS)
def test_without_locks_there_is_a_warning_and_nothing_stays(name, tmp_path, monkeypatch):
    without_locks(monkeypatch, name)
    with pytest.warns(UserWarning, match="has no locks; .* write file"), locked(tmp_path / "file"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_another_error_of_a_lock_is_raised(tmp_path, monkeypatch):
    def lock_descriptor(descriptor, *, blocking):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(filelock, "lock_descriptor", lock_descriptor)
    with pytest.raises(OSError, match="Input/output"), locked(tmp_path / "file"):
        pass


LOCKER = """
import sys, time
from fastmnist.files import locked
with locked(sys.argv[1]):
    print("locked", flush=True)
    time.sleep(60)
"""


@pytest.mark.fault(row=74)
def test_a_lock_keeps_others_away_until_its_owner_is_gone(tmp_path):
    path = tmp_path / "file"
    owner = processes.start("-c", LOCKER, path)
    processes.wait_for_line(owner, "stdout", "locked")
    with pytest.raises(DataError, match=f"process {owner.pid}"), locked(path):
        pass
    [lock] = tmp_path.iterdir()
    assert int(lock.read_bytes()[1:]) == owner.pid  # the first byte cannot be read on Windows
    owner.kill()
    owner.communicate()
    with locked(path), pytest.raises(DataError, match=f"process {os.getpid()}"), locked(path):
        pass
    assert list(tmp_path.iterdir()) == []


@POSIX  # Windows removes no file that is open
@pytest.mark.parametrize("made_anew", [False, True])
def test_a_lock_that_was_removed_while_we_opened_it_is_none(made_anew, tmp_path, monkeypatch):
    usual = filelock.lock_descriptor

    def late(descriptor, *, blocking):
        monkeypatch.setattr(filelock, "lock_descriptor", usual)
        [lock] = tmp_path.iterdir()
        lock.unlink()
        if made_anew:
            lock.touch()
        return usual(descriptor, blocking=blocking)

    monkeypatch.setattr(filelock, "lock_descriptor", late)
    with locked(tmp_path / "file"), pytest.raises(DataError), locked(tmp_path / "file"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_regular_file_opens(tmp_path):
    (tmp_path / "file").write_bytes(b"content")
    with open_regular(tmp_path / "file") as file:
        assert file.read() == b"content"


@pytest.mark.parametrize(
    "make",
    [
        lambda path: None,
        os.mkdir,
        make_pipe,
        lambda path: path.symlink_to("/dev/zero"),
    ],
    ids=["missing", "folder", "pipe", "device"],
)
def test_anything_else_is_refused_at_once(make, tmp_path):
    make(tmp_path / "file")
    with pytest.raises(DataError, match="file"), open_regular(tmp_path / "file"):
        pass


def test_the_systems_reason_is_in_the_error(tmp_path):
    with (
        pytest.raises(DataError, match=r"missing cannot be read: No such file or directory$"),
        open_regular(tmp_path / "missing"),
    ):
        pass
