import contextlib
import errno
import gzip
import hashlib
import http.server
import io
import os
import re
import shutil
import sys
import threading
import time
import warnings

import numpy as np
import processes
import programs
import pytest
from named_pipes import make_pipe
from patching import own

from fastmnist import download, files, idx
from fastmnist.errors import DataError, DownloadError

# As they are: the tests themselves have no mirrors (see conftest.py).
MIRRORS = [mirror for published in download.SETS.values() for mirror in published.mirrors]

IMAGES = np.random.default_rng(0).integers(0, 256, (20, 28, 28), dtype=np.uint8)
LABELS = np.arange(20, dtype=np.uint8) % 10
ARRAYS = (IMAGES, LABELS, IMAGES[:7], LABELS[:7])
ARCHIVES = {
    f"{file}.gz": gzip.compress(idx.encode(array), mtime=0)
    for file, array in zip(download.FILES, ARRAYS, strict=True)
}
DIGESTS = tuple("sha256:" + idx.sha256(array) for array in ARRAYS)


class Server(http.server.ThreadingHTTPServer):
    """A mirror on this machine. Its folders are the ways in which it behaves: /good/, /404/, ..."""

    daemon_threads = True
    block_on_close = False

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.stopped = threading.Event()
        self.asked = []

    def handle_error(self, request, client_address):
        """Say nothing about a client that hung up: most of these tests are about that."""

    def url(self, way="good"):
        return f"http://127.0.0.1:{self.server_port}/{way}/"


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        _, way, file = self.path.split("/")
        self.server.asked.append((way, file))
        content = ARCHIVES[file]
        if way.isdigit():
            self.answer(b"<html>no</html>", status=int(way))
        elif way == "loop":
            self.answer(b"", status=302, Location=self.path)
        elif way == "file":
            self.answer(b"", status=302, Location="file:///etc/passwd")
        elif way == "moved":
            self.answer(b"", status=302, Location=f"/good/{file}")
        elif way == "moved-other":
            self.answer(b"", status=302, Location=f"http://{self.headers['Host']}/other/{file}")
        elif way == "page":
            self.answer(b"<html>this domain is for sale</html>")
        elif way == "other":  # a true IDX file, but not the published one
            self.answer(gzip.compress(idx.encode(np.ones((20, 28, 28), np.uint8))))
        elif way == "cut":
            self.answer(content[: len(content) // 2], length=len(content))
        elif way == "short":  # the whole file, said to be shorter than it is
            self.answer(content, length=len(content) // 2)
        elif way == "noise":
            self.wfile.write(b"what is HTTP?\r\n\r\n")
        elif way == "silent":
            self.server.stopped.wait()
        elif way == "endless":
            self.stream(bytes(2**16), pause=0)
        elif way == "drip":
            self.stream(b"x", pause=0.02)
        elif way == "slow":
            self.stream(bytes(2**11), pause=0.02)
        elif way == "gentle":  # right, in pieces
            self.send_response(200)
            self.end_headers()
            for at in range(0, len(content), 1 + len(content) // 10):
                self.wfile.write(content[at : at + 1 + len(content) // 10])
                self.server.stopped.wait(0.005)
        else:
            self.answer(content)

    def answer(self, content, status=200, length=None, **headers):
        self.send_response(status)
        self.send_header("Content-Length", str(len(content) if length is None else length))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def stream(self, chunk, pause):
        self.send_response(200)
        self.end_headers()
        while not self.server.stopped.wait(pause):
            self.wfile.write(chunk)


@pytest.fixture
def server():
    with Server() as running:
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield running
        running.stopped.set()
        running.shutdown()


@pytest.fixture(autouse=True)
def _bounds(monkeypatch):
    """Limits that a test reaches soon."""
    monkeypatch.setattr(download, "SILENCE", 1.0)
    monkeypatch.setattr(download, "DEADLINE", 2.0)
    monkeypatch.setattr(download, "LIMIT", 2**20)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache folder, and no other place to find a set in."""
    monkeypatch.setenv("FASTMNIST_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("FASTMNIST_DATA", raising=False)
    return tmp_path / "cache" / "mnist"


@pytest.fixture
def published(monkeypatch):
    """Makes "mnist" a small set that these mirrors have."""

    def publish(*mirrors, digests=DIGESTS):
        small = download.Published("MNIST", mirrors, digests, tuple("0123456789"))
        monkeypatch.setitem(download.SETS, "mnist", small)

    return publish


def check(arrays):
    for array, wanted in zip(arrays, ARRAYS, strict=True):
        np.testing.assert_array_equal(array, wanted)


FAULTS = {
    "403": "403",
    "404": "404",
    "500": "500",
    "loop": "redirects",
    "file": "file:///etc/passwd",
    "moved-other": "is not MNIST's train-images-idx3-ubyte as published",
    "page": "an HTML page",
    "other": "is not MNIST's train-images-idx3-ubyte as published",
    "cut": "Connection broken|IncompleteRead|cut short",
    "short": "cut short",
    "noise": "what is HTTP",
    "silent": "no data for 1 s|timed out",
    "endless": "more than 1,048,576 bytes",
    "drip": "no data for 1 s",
    "slow": "not done in 2 s",
}


@pytest.mark.fault(row=19)
@pytest.mark.fault(row=20)
@pytest.mark.fault(row=21)
@pytest.mark.fault(row=27)
@pytest.mark.parametrize("fault", FAULTS)
def test_any_failure_goes_to_the_next_mirror(server, cache, published, fault):
    published(server.url(fault), server.url("good"))
    check(download.fetch("mnist"))
    assert server.asked.count((fault, f"{download.FILES[0]}.gz")) >= 1
    assert (fault, f"{download.FILES[1]}.gz") not in server.asked  # the good one is asked first now


@pytest.mark.fault(row=20)
@pytest.mark.fault(row=21)
@pytest.mark.fault(row=27)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_failure_is_told_and_leaves_nothing(server, cache, published, fault):
    published(server.url(fault))
    with pytest.raises(DownloadError) as error:
        download.fetch("mnist")
    missing, failed = str(error.value).splitlines()
    assert missing == f"{cache / download.FILES[0]} cannot be read: No such file or directory"
    assert failed.startswith(f"{server.url(fault)}{download.FILES[0]}.gz: ")
    assert re.search(FAULTS[fault], failed)
    assert not cache.exists()


@pytest.mark.fault(row=20)
def test_each_mirrors_failure_is_told(server, cache, published):
    ways = ["403", "404", "cut", "page", "file"]
    published(*map(server.url, ways))
    with pytest.raises(DownloadError) as error:
        download.fetch("mnist")
    _, *told = str(error.value).splitlines()
    for way, line in zip(ways, told, strict=True):
        assert line.startswith(f"{server.url(way)}{download.FILES[0]}.gz: ")
        assert re.search(FAULTS[way], line)


@pytest.mark.fault(row=19)
@pytest.mark.fault(row=21)
@pytest.mark.parametrize("fault", ["other", "cut", "404"])
def test_a_failure_leaves_the_old_cache_as_it_was(server, cache, published, fault):
    cache.mkdir(parents=True)
    old = {file: bytes([number]) * 9 for number, file in enumerate(download.FILES)}
    for file, content in old.items():
        (cache / file).write_bytes(content)
    published(server.url(fault))
    with pytest.raises(DownloadError):
        download.fetch("mnist")
    assert {file.name: file.read_bytes() for file in cache.iterdir()} == old


def test_mirrors_that_moved_are_followed(server, cache, published):
    published(server.url("moved"))
    check(download.fetch("mnist"))


def test_two_mirrors_may_each_have_what_the_other_lacks(server, cache, published, monkeypatch):
    published(server.url("good"), server.url("also"))
    files = [f"{file}.gz" for file in download.FILES]
    lacking = {f"{server.url('good')}{files[0]}", f"{server.url('also')}{files[1]}"}
    receive = download.receive

    def partly(address):
        return receive(address) if address not in lacking else b""

    monkeypatch.setattr(download, "receive", partly)
    check(download.fetch("mnist"))


def test_what_was_fetched_is_kept_unzipped_and_not_fetched_again(server, cache, published):
    published(server.url())
    check(download.fetch("mnist"))
    assert sorted(file.name for file in cache.iterdir()) == sorted(download.FILES)
    assert (cache / download.FILES[1]).read_bytes() == idx.encode(LABELS)
    server.asked.clear()
    check(download.fetch("mnist"))
    assert server.asked == []


def test_a_set_known_by_its_archives_is_kept_as_it_came(server, cache, published):
    digests = [f"md5:{hashlib.md5(archive).hexdigest()}" for archive in ARCHIVES.values()]
    published(server.url("other"), server.url(), digests=digests)
    check(download.fetch("mnist"))
    assert {file.name: file.read_bytes() for file in cache.iterdir()} == ARCHIVES
    server.asked.clear()
    check(download.fetch("mnist"))
    assert server.asked == []


@pytest.mark.fault(row=26)
def test_damage_in_the_cache_is_mended(server, cache, published):
    published(server.url())
    download.fetch("mnist")
    file = cache / download.FILES[0]
    content = bytearray(file.read_bytes())
    for damage in (b"", content[:-1], content[:100] + b"!" + content[101:], content + b"!"):
        file.write_bytes(damage)
        server.asked.clear()
        check(download.fetch("mnist"))
        assert server.asked == [("good", f"{download.FILES[0]}.gz")]
        assert file.read_bytes() == content


@pytest.mark.fault(row=26)
def test_any_damage_or_other_version_in_the_cache_is_mended(server, cache, published, times):
    published(server.url())
    download.fetch("mnist")
    rng = np.random.default_rng(0)
    contents = {file: (cache / file).read_bytes() for file in download.FILES}
    for _ in range(times(30, 1000)):
        file = download.FILES[rng.integers(4)]
        damaged = bytearray(contents[file])
        damaged[rng.integers(len(damaged))] ^= 1 << rng.integers(8)
        (cache / file).write_bytes(damaged)
        check(download.fetch("mnist"))
        assert (cache / file).read_bytes() == contents[file]
    for array, file in zip(ARRAYS, download.FILES, strict=True):  # sound files of another set
        (cache / file).write_bytes(idx.encode(array[::-1]))
    check(download.fetch("mnist"))
    assert {file.name: file.read_bytes() for file in cache.iterdir()} == contents


@pytest.mark.fault(row=26)
def test_damage_in_the_cache_is_told_when_it_cannot_be_mended(server, cache, published):
    published(server.url())
    download.fetch("mnist")
    (cache / download.FILES[2]).write_bytes(b"")
    published()
    with pytest.raises(DownloadError, match="t10k-images-idx3-ubyte is empty"):
        download.fetch("mnist")


@pytest.mark.fault(row=24)
@pytest.mark.parametrize("trouble", ["a file in its place", "no space", "a pipe in its place"])
def test_without_a_cache_the_data_comes_with_one_warning(
    server, cache, published, monkeypatch, trouble
):
    published(server.url())
    download._warn.cache_clear()
    cache.parent.mkdir()
    if trouble == "a file in its place":
        cache.write_bytes(b"")
    elif trouble == "a pipe in its place":
        make_pipe(cache)
    else:

        def full(*_):
            raise OSError(errno.ENOSPC, "No space left on device")

        own(monkeypatch, files, "os").fsync = full
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check(download.fetch("mnist"))
    assert [str(warning.message).split(":")[0] for warning in caught] == [
        f"downloads cannot be kept in {cache}"
    ]
    assert trouble != "no space" or list(cache.iterdir()) == []


LOAD = f"""
import os, sys, time, warnings
from fastmnist import download
download.SETS["mnist"] = download.Published("MNIST", (sys.argv[1],), {DIGESTS!r}, ())
def load():
    print(*map(download.idx.sha256, download.fetch("mnist")))
"""
LOADED = " ".join(digest.removeprefix("sha256:") for digest in DIGESTS)


def start(server, cache, code="load()", way="good"):
    environment = processes.environment(FASTMNIST_CACHE=str(cache.parent))
    return processes.start("-W", "error", "-c", LOAD + code, server.url(way), env=environment)


@pytest.mark.fault(row=23)
def test_many_processes_fill_one_cache(server, cache, times):
    for _ in range(times(1, 20)):
        for program in [start(server, cache) for _ in range(8)]:
            done = processes.finish(program)
            assert (done.stdout.strip(), done.stderr) == (LOADED, "")
        assert sorted(file.name for file in cache.iterdir()) == sorted(download.FILES)
        shutil.rmtree(cache)


@pytest.mark.fault(row=22)
def test_a_killed_download_leaves_nothing_in_the_way(
    server, cache, published, times, figure, monkeypatch
):
    slow_disk = """
sync = os.fsync
os.fsync = lambda file: (time.sleep(0.05), sync(file))
load()
"""
    published(server.url())
    rng, kills, in_a_write = np.random.default_rng(0), times(3, 50), 0
    for _ in range(kills):
        program = start(server, cache, slow_disk, "gentle")
        while not server.asked and program.poll() is None:
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.6))  # four files take so long
        program.kill()
        processes.finish(program)
        left = list(cache.glob(".*"))
        in_a_write += bool(left)
        for file in left:  # as a load will find them after more than an hour
            os.utime(file, (0, 0))
        check(download.fetch("mnist"))
        for file in download.FILES:
            (cache / file).unlink()
        check(download.fetch("mnist"))  # whatever was there, this one writes
        assert sorted(file.name for file in cache.iterdir()) == sorted(download.FILES)
        shutil.rmtree(cache)
        server.asked.clear()
    figure(f"killed downloads: {kills}, of which {in_a_write} in a write; all mended")


def told(server, code, **options):
    """What a program printed for the set it loaded, and for its warnings."""
    lines = programs.run(LOAD + WARNED + code, server.url(), **options).splitlines()
    assert lines[0] == LOADED
    return lines[1:]


WARNED = """
def load_and_tell():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load()
    for warning in caught:
        print(warning.message)
"""


@programs.linux
@pytest.mark.fault(row=24)
def test_without_room_for_files_the_data_comes_with_one_warning(server, cache):
    code = "limit(resource.RLIMIT_FSIZE, 2**10)\nload_and_tell()"
    [warning] = told(server, code, FASTMNIST_CACHE=str(cache.parent))
    assert warning == f"downloads cannot be kept in {cache}: {os.strerror(errno.EFBIG)}"
    # labels are small enough to be kept
    assert sorted(file.name for file in cache.iterdir()) == sorted(download.FILES[1::2])


@programs.linux
@pytest.mark.fault(row=24)
def test_on_a_full_disk_the_data_comes_with_one_warning(server, cache, published):
    cache.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(cache)]
    if shutil.which("mount") is None or processes.run_program(*mount).returncode:
        pytest.skip("a small disk cannot be mounted here")
    try:
        with contextlib.suppress(OSError), open(cache / "rest", "wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        published(server.url())
        download._warn.cache_clear()
        with pytest.warns(UserWarning, match="No space left") as caught:
            check(download.fetch("mnist"))
        assert len(caught) == 1
        assert [file.name for file in cache.iterdir()] == ["rest"]
    finally:
        assert processes.run_program("umount", cache).returncode == 0


@programs.linux
@pytest.mark.fault(row=25)
@pytest.mark.parametrize("user", [programs.NOBODY, 54321], ids=["nobody", "unknown"])
@pytest.mark.parametrize("place", ["read-only", "no home"])
def test_without_a_place_of_its_own_the_data_comes_with_one_warning(server, place, user):
    if user != programs.NOBODY and os.getuid():
        pytest.skip("only root can be another user")
    # imports first: Python itself may not be readable for an ordinary user
    first = f"download.receive(sys.argv[1] + '{download.FILES[1]}.gz')"
    code = f"{first}\nordinary_user({user})\nload_and_tell()"
    without = ("HOME", "XDG_CACHE_HOME", "FASTMNIST_CACHE")
    with programs.readable_folder() as folder:
        folder.chmod(0o555)
        if place == "read-only":
            [warning] = told(server, code, FASTMNIST_CACHE=str(folder))
            assert warning == f"downloads cannot be kept in {folder}/mnist: Permission denied"
        elif os.getuid() == 0:
            [warning] = told(server, code, without=without)
            assert warning.startswith("downloads cannot be kept in /")
        else:
            [warning] = told(server, code, without=without, HOME=str(folder))
            assert warning.startswith(f"downloads cannot be kept in {folder}")
        assert list(folder.iterdir()) == []


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_bar_is_drawn_on_a_terminal_only(server, cache, published, monkeypatch, capsys):
    published(server.url())
    download.fetch("mnist")
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    download.receive(f"{server.url()}{download.FILES[0]}.gz")
    assert download.FILES[0] in sys.stderr.getvalue()
    assert capsys.readouterr().out == ""


def test_only_the_known_mirrors_are_asked():
    assert all(
        mirror.startswith(("http://", "https://")) and mirror.endswith("/") for mirror in MIRRORS
    )
    assert not any("lecun" in mirror for mirror in MIRRORS)  # it answers with an error since 2024


def test_verified_names_the_file_and_the_way_out():
    other = idx.encode(np.zeros((3, 28, 28), np.uint8))
    with pytest.raises(DataError, match=r"my/file is not KMNIST's .* give their folder as a path"):
        download.verified(other, "kmnist", 0, "my/file")
