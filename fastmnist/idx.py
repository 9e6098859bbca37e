"""IDX, the format of MNIST's files: a header of big-endian integers, then the numbers.

A header is two zero bytes, a byte for the type (8: unsigned bytes), a byte for the number of
dimensions, and four bytes for each dimension.
"""

from __future__ import annotations

import hashlib
import math
import os
import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from fastmnist.errors import DataError
from fastmnist.files import open_regular

LIMIT = 2**30  # bytes; the largest set in use, EMNIST by class, has 547 MB of training images

_UNSIGNED_BYTE = 8
_TYPES = {9: "int8", 11: "int16", 12: "int32", 13: "float32", 14: "float64"}
_CONTENTS = {1: "labels", 3: "images"}
_GZIP = b"\x1f\x8b"
_WITH_CHECKSUM = 31  # zlib's number for: a gzip header and trailer, verified
_PIECE = 2**24  # bytes to unzip at a time: zlib's own buffers would take the whole size once more
_SURPLUS = 2**10  # bytes that are unzipped beyond what a header says, to tell how many they are
_OTHER_FORMATS = {
    b"PK": "a zip archive",
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"<": "an HTML page",
}


def read(path: str | os.PathLike[str], dimensions: int) -> NDArray[np.uint8]:
    """Read an IDX file, gzipped or not.

    Parameters
    ----------
    path : path-like
    dimensions : int
        3 for images of shape (n, height, width), 1 for labels of shape (n,).

    Returns
    -------
    ndarray of uint8

    Raises
    ------
    DataError
        If it cannot be read or is not such a file.
    """
    return decode(read_bytes(path), dimensions, str(path))


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """All bytes of a regular file, `LIMIT` at most.

    Raises
    ------
    DataError
        If there is no such file, it cannot be read, or it is a folder, a pipe or a device.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > LIMIT:
            raise DataError(f"{path} has {size:,} bytes, more than {LIMIT:,}")
        return file.read()


def decode(content: bytes | bytearray, dimensions: int, source: str) -> NDArray[np.uint8]:
    """The array in the bytes of an IDX file, gzipped or not; `source` is its name in errors."""
    size = 4 + 4 * dimensions
    if content.startswith(_GZIP):
        content = _unzip(content, dimensions, source)
    shape = _shape(content[:size], dimensions, source)
    body = memoryview(content)[size:]
    needed = math.prod(shape)
    if surplus := len(body) - needed:
        if surplus < 0:
            found = f"but there are only {len(body):,}"
        else:
            found = f"{'at least ' * (surplus >= _SURPLUS)}{surplus:,} bytes too many are there"
        raise DataError(
            f"{source}: {_describe(shape)} are {needed:,} bytes, {found}; get the file again"
        )
    array = np.frombuffer(body, np.uint8).reshape(shape)
    return array if array.flags.writeable else array.copy()


def header(shape: tuple[int, ...]) -> bytes:
    """The header of an IDX file of unsigned bytes."""
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, _UNSIGNED_BYTE, len(shape), *shape)


def encode(array: NDArray[np.uint8]) -> bytes:
    """The bytes of the IDX file that holds `array`, not gzipped."""
    return header(array.shape) + array.tobytes()


def sha256(array: NDArray[np.uint8]) -> str:
    """SHA-256, in hexadecimal, of the IDX file that holds `array`, not gzipped."""
    digest = hashlib.sha256(header(array.shape))
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _unzip(content: bytes | bytearray, dimensions: int, source: str) -> bytearray:
    """What is in a gzipped file, never more than `_SURPLUS` beyond what its header says."""
    size = 4 + 4 * dimensions
    stream = zlib.decompressobj(_WITH_CHECKSUM)
    try:
        head = zlib.decompressobj(_WITH_CHECKSUM).decompress(content, size)
        if len(head) == size:
            size += math.prod(_shape(head, dimensions, source))
        whole, left = bytearray(), size + _SURPLUS
        while left and (piece := stream.decompress(content, min(left, _PIECE))):
            whole += piece
            content, left = stream.unconsumed_tail, left - len(piece)
    except zlib.error as error:
        raise DataError(f"{source} is damaged ({error}); get the file again") from error
    if len(whole) <= size and not stream.eof:
        raise DataError(f"{source} is cut short inside its gzip stream; get the file again")
    if stream.unused_data.strip(b"\0"):  # zeros are padding, as of a tape
        raise DataError(f"{source}: there is something behind its gzip stream")
    return whole


def _shape(head: bytes | bytearray, dimensions: int, source: str) -> tuple[int, ...]:
    """The shape that a header tells, checked."""
    if head[:4] != header((0,) * dimensions)[:4]:
        raise DataError(f"{source} {_looks_like(head, dimensions)}")
    if len(head) < 4 + 4 * dimensions:
        raise DataError(f"{source} is cut short inside its header; get the file again")
    shape = struct.unpack(f">{dimensions}I", head[4:])
    if 0 in shape:
        raise DataError(f"{source} holds nothing: {_describe(shape)}")
    if math.prod(shape) > LIMIT:
        raise DataError(f"{source} claims {_describe(shape)}, more than {LIMIT:,} bytes")
    return shape


def _describe(shape: tuple[int, ...]) -> str:
    count, *image = shape
    size = f" of {' x '.join(map(str, image))}" if image else ""
    return f"{count:,} {_CONTENTS[len(shape)]}{size}"


def _looks_like(head: bytes | bytearray, dimensions: int) -> str:
    """What a file with a wrong beginning is, as the end of a sentence."""
    wanted = f"not IDX {_CONTENTS[dimensions]}"
    if not head:
        return "is empty"
    for beginning, name in _OTHER_FORMATS.items():
        if head.lstrip().startswith(beginning):
            return f"is {name}, {wanted}"
    if head[2:4] == b"\0\0" and head[1] == _UNSIGNED_BYTE:
        return f"has a byte-swapped (little-endian) header, {wanted}"
    if head[:2] != b"\0\0" or len(head) < 4:
        return f"begins with {head[:4].hex(' ')}, {wanted}"
    kind, found = head[2], head[3]
    if kind != _UNSIGNED_BYTE:
        return f"holds {_TYPES.get(kind, f'type 0x{kind:02x}')}, wanted uint8 (type 0x08)"
    holds = f"holds {_CONTENTS[found]}" if found in _CONTENTS else f"has {found} dimensions"
    return f"{holds}, wanted {_CONTENTS[dimensions]} ({dimensions} dimensions)"
