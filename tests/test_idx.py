import gzip
import os
import struct
import tracemalloc
import zlib

import numpy as np
import programs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from named_pipes import make_pipe
from programs import linux

from fastmnist import idx
from fastmnist.errors import DataError

IMAGES = np.arange(60, dtype=np.uint8).reshape(5, 4, 3)
PLAIN = idx.encode(IMAGES)
ZIPPED = gzip.compress(PLAIN, mtime=0)


def refused(content, dimensions=3):
    """The message with which a file's content is refused."""
    with pytest.raises(DataError) as error:
        idx.decode(content, dimensions, "some/file")
    assert str(error.value).startswith("some/file")
    assert "\n" not in str(error.value)
    return str(error.value)


def test_the_bytes_are_those_of_the_published_format():
    header = bytes.fromhex("00000803 00000005 00000004 00000003")
    assert idx.encode(IMAGES) == header + bytes(range(60))
    assert idx.encode(np.array([7, 2], np.uint8)) == bytes.fromhex("00000801 00000002 0702")


@pytest.mark.parametrize("zipped", [False, True])
@given(array=arrays(np.uint8, array_shapes(min_dims=3, max_dims=3, max_side=6)))
def test_what_is_written_is_read(array, zipped):
    content = gzip.compress(idx.encode(array)) if zipped else idx.encode(array)
    read = idx.decode(content, 3, "file")
    assert read.dtype == np.uint8
    assert read.flags.writeable
    np.testing.assert_array_equal(read, array)


def test_gzip_may_repeat_what_was_long_before():
    once = np.random.default_rng(0).integers(0, 256, (1, 150, 200), np.uint8)
    twice = np.concatenate([once, once])
    content = gzip.compress(idx.encode(twice))
    assert len(content) < 1.1 * once.size
    np.testing.assert_array_equal(idx.decode(content, 3, "file"), twice)


def test_read_takes_a_file_by_its_content_not_by_its_name(tmp_path):
    (tmp_path / "plain.gz").write_bytes(PLAIN)
    (tmp_path / "zipped").write_bytes(ZIPPED)
    np.testing.assert_array_equal(idx.read(tmp_path / "plain.gz", 3), IMAGES)
    np.testing.assert_array_equal(idx.read(str(tmp_path / "zipped"), 3), IMAGES)


@pytest.mark.fault(row=1)
@pytest.mark.parametrize("end", range(len(ZIPPED)))
def test_a_cut_gzip_file_is_refused(end):
    message = {0: "is empty", 1: "begins with 1f"}.get(end, "cut short")
    assert message in refused(ZIPPED[:end])


@pytest.mark.fault(row=1)
@pytest.mark.parametrize(
    ("end", "message"),
    [
        (0, "is empty"),
        (3, "begins with"),
        (9, "cut short"),
        (15, "cut short"),
        (16, "only 0"),
        (-1, "only 59"),
    ],
)
def test_a_cut_plain_file_is_refused(end, message):
    assert message in refused(PLAIN[:end])


@pytest.mark.fault(row=2)
@pytest.mark.parametrize("back", range(1, 9))
def test_a_wrong_checksum_or_length_of_gzip_is_refused(back):
    damaged = bytearray(ZIPPED)
    damaged[-back] ^= 1
    assert "damaged" in refused(bytes(damaged))


@pytest.mark.fault(row=3)
@given(bit=st.integers(0, 8 * len(ZIPPED) - 1))
def test_no_flipped_bit_changes_what_is_read(bit):
    flipped = bytearray(ZIPPED)
    flipped[bit // 8] ^= 1 << bit % 8
    try:
        read = idx.decode(bytes(flipped), 3, "file")
    except DataError:
        return
    np.testing.assert_array_equal(read, IMAGES)  # the bit was in the name or the date


@pytest.mark.fault(row=3)
@given(bit=st.integers(0, 8 * len(PLAIN) - 1))
def test_the_digest_notices_a_flipped_bit(bit):
    flipped = bytearray(PLAIN)
    flipped[bit // 8] ^= 1 << bit % 8
    try:
        read = idx.decode(bytes(flipped), 3, "file")
    except DataError:
        return
    assert idx.sha256(read) != idx.sha256(IMAGES)


def test_the_message_says_what_should_be_there():
    assert "some/file: 5 images of 4 x 3 are 60 bytes" in refused(PLAIN[:-1])
    labels = idx.encode(np.zeros(1200, np.uint8))
    assert "some/file: 1,200 labels are 1,200 bytes" in refused(labels[:-1], dimensions=1)


@pytest.mark.fault(row=5)
def test_extra_bytes_are_refused():
    for count in (1, 2, 1000):
        told = f"60 bytes, {count:,} bytes too many are there"
        assert told in refused(PLAIN + bytes(count))
        assert told in refused(gzip.compress(PLAIN + bytes(count)))
    assert "60 bytes, at least 1,024 bytes too many" in refused(gzip.compress(PLAIN + bytes(5000)))


@pytest.mark.fault(row=6)
def test_only_zeros_may_follow_a_gzip_stream():
    np.testing.assert_array_equal(idx.decode(ZIPPED + bytes(512), 3, "file"), IMAGES)
    assert "behind its gzip stream" in refused(ZIPPED + b"garbage")
    assert "behind its gzip stream" in refused(ZIPPED + ZIPPED)


@pytest.mark.fault(row=4)
def test_a_bomb_is_unpacked_no_further_than_its_header_says():
    packer = zlib.compressobj(wbits=31)
    bomb = packer.compress(PLAIN) + packer.compress(bytes(2**26)) + packer.flush()
    tracemalloc.start()
    message = refused(bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "at least 1,024 bytes too many" in message
    assert peak < 2**20  # the bomb itself has 64 KiB, and unpacks to 64 MiB


def bomb(size, claimed):
    """A gzip file with the header of an IDX file, and zeros; which are packed once, repeated."""
    head, body = zlib.compressobj(wbits=31), zlib.compressobj(wbits=-15)
    head = head.compress(idx.header(claimed)) + head.flush(zlib.Z_FULL_FLUSH)
    return head + size // 2**22 * (body.compress(bytes(2**22)) + body.flush(zlib.Z_FULL_FLUSH))


@linux
@pytest.mark.fault(row=4)
@pytest.mark.fault(row=11)
def test_bombs_and_giants_take_no_more_memory_than_they_may(tmp_path, figure):
    claims = {
        "small": (5, 4, 3),
        "large": (2**17, 32, 32),  # 128 MiB
        "wrapped": (2**32 - 1, 2**32 - 1, 2**32 - 1),
        "zero": (2**31, 2**31, 4),
    }
    for name, claimed in claims.items():
        (tmp_path / f"{name}.gz").write_bytes(bomb(2**30, claimed))
        (tmp_path / name).write_bytes(idx.header(claimed) + bytes(59))
    code = """
import sys
from pathlib import Path
from fastmnist import DataError, idx
limit(resource.RLIMIT_AS, 2**29)
for path in sorted(Path(sys.argv[1]).iterdir()):
    reset_peak()
    before = peak()
    try:
        idx.read(path, 3)
    except DataError as error:
        print(path.name, peak() - before, error, sep=": ")
"""
    lines = programs.run(code, tmp_path).splitlines()
    taken = {line.split(": ")[0]: int(line.split(": ")[1]) for line in lines if "gz" in line}
    assert len(lines) == 8
    assert (tmp_path / "small.gz").stat().st_size < 2**20 + 2**17
    figure(f"a bomb of 1 GiB: {taken['small.gz'] / 2**20:.1f} MiB above what it claims at most")
    for name, memory in taken.items():
        allowed = 2**27 if name == "large.gz" else 0
        assert memory < allowed + 2**26
    for line in lines:
        assert ("claims" in line) == line.startswith(("wrapped", "zero"))


@pytest.mark.fault(row=7)
@pytest.mark.fault(row=8)
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (gzip.compress(b""), "is empty"),
        (b"<!DOCTYPE html><title>403</title>", "an HTML page"),
        (b"\n <html>", "an HTML page"),
        (b"PK\x03\x04rest of it, long enough", "a zip archive"),
        (b"\x89PNG\r\n\x1a\n0000IHDR", "a PNG picture"),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF", "a JPEG picture"),
        (b"label,pixel0,pixel1", "begins with 6c 61 62 65, not IDX images"),
        (idx.encode(np.zeros(20, np.uint8)), "holds labels, wanted images"),
        (struct.pack("<4I", 2051, 5, 4, 3) + bytes(60), "byte-swapped"),
        (gzip.compress(struct.pack("<4I", 2051, 5, 4, 3) + bytes(60)), "byte-swapped"),
    ],
)
def test_the_message_says_what_a_wrong_file_is(content, message):
    assert message in refused(content)


def test_a_header_of_four_bytes_tells_the_type():
    assert "holds int8, wanted uint8" in refused(bytes([0, 0, 9, 3]))


def test_a_header_that_is_like_a_byte_swapped_one_is_not_called_so():
    assert "holds type 0x00" in refused(bytes(16))
    assert "begins with 03 08, not" in refused(bytes([3, 8]))
    for head in ([1, 8, 8, 3], [0, 8, 8, 3], [0, 9, 0, 0]):
        assert f"begins with {bytes(head).hex(' ')}, not" in refused(bytes(head) + PLAIN[4:])


def test_the_largest_set_in_use_is_within_the_limit():
    emnist_by_class = (697_932, 28, 28)
    at_the_limit = (2**20, 2**5, 2**5)
    for shape in (emnist_by_class, at_the_limit):
        assert "bytes, but there are only 0" in refused(idx.header(shape))


@pytest.mark.fault(row=7)
def test_images_given_as_labels_are_named():
    assert "holds images, wanted labels (1 dimensions)" in refused(PLAIN, dimensions=1)


@pytest.mark.fault(row=9)
@pytest.mark.parametrize("code", [code for code in range(256) if code != 8])
def test_every_other_type_is_refused(code):
    content = bytes([0, 0, code, 3]) + PLAIN[4:]
    names = {9: "int8", 11: "int16", 12: "int32", 13: "float32", 14: "float64"}
    assert f"holds {names.get(code, f'type 0x{code:02x}')}, wanted uint8" in refused(content)


@pytest.mark.fault(row=9)
@pytest.mark.parametrize("dimensions", [0, 2, 4, 255])
def test_every_other_number_of_dimensions_is_refused(dimensions):
    assert f"has {dimensions} dimensions" in refused(bytes([0, 0, 8, dimensions]) + PLAIN[4:])


@pytest.mark.fault(row=10)
@pytest.mark.parametrize("shape", [(0, 4, 3), (5, 0, 3), (5, 4, 0)])
def test_a_dimension_of_zero_is_refused(shape):
    assert "holds nothing" in refused(idx.header(shape))


@pytest.mark.fault(row=11)
@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize(
    "shape", [(2**32 - 1,) * 3, (2**31, 2**31, 4), (2**16, 2**16, 2**16), (2**20, 2**10, 2)]
)
def test_a_giant_is_refused_before_memory_is_asked_for(shape, zipped):
    content = idx.header(shape) + bytes(60)  # the second product is 0 modulo 2**64
    content = gzip.compress(content) if zipped else content
    tracemalloc.start()
    message = refused(content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert f"claims {shape[0]:,} images" in message
    assert peak < 2**18


@pytest.mark.fault(row=17)
@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", ["missing", "folder", "pipe", "dangling", "/dev/zero"])
def test_what_is_not_a_file_is_refused_at_once(tmp_path, kind):
    path = tmp_path / "file"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        make_pipe(path)
    elif kind == "dangling":
        path.symlink_to(tmp_path / "nowhere")
    elif kind == "/dev/zero":
        path.symlink_to(kind)
    with pytest.raises(DataError, match=r"regular file|No such file") as error:
        idx.read(path, 3)
    assert str(path) in str(error.value)


@pytest.mark.fault(row=18)
@pytest.mark.skipif(os.name != "posix", reason="users of POSIX")
def test_files_and_folders_without_permission_are_named():
    code = """
import sys
from fastmnist import DataError, idx, load
ordinary_user(65534)
for path in sys.argv[1:]:
    try:
        idx.read(path, 3) if path.endswith("gz") else load(path)
    except DataError as error:
        print(error)
"""
    with programs.readable_folder() as folder:
        file, closed = folder / "file.gz", folder / "closed"
        (closed / "digits").mkdir(parents=True)
        (closed / "digits" / "digits.gz").write_bytes(ZIPPED)
        file.write_bytes(ZIPPED)
        paths = [file, closed / "digits", closed / "digits" / "digits.gz"]
        file.chmod(0)
        closed.chmod(0)
        told = programs.run(code, *paths).splitlines()
        closed.chmod(0o700)
    assert told == [f"{path} cannot be read: Permission denied" for path in paths]


def test_a_file_over_the_limit_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(idx, "LIMIT", 59)
    (tmp_path / "file").write_bytes(PLAIN)
    with pytest.raises(DataError, match="has 76 bytes, more than 59"):
        idx.read(tmp_path / "file", 3)
    monkeypatch.setattr(idx, "LIMIT", 76)
    np.testing.assert_array_equal(idx.read(tmp_path / "file", 3), IMAGES)
