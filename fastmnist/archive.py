"""Arrays, a header and a checksum in one file: the form of models and checkpoints.

It is an .npz file, which NumPy reads alone: arrays as they are, not compressed, and `header`, a
text in JSON. The zip archive's comment holds SHA-256 of every byte before it, so that no flipped
bit goes unnoticed, not even one that means nothing.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmnist import checks
from fastmnist.errors import DataError, ModelFileError
from fastmnist.files import atomic_write, open_regular

VERSION = 2  # 1 had the checksum in the header, of the arrays alone

_MOST = 10_000  # arrays: a checkpoint of a thousand layers; 100,000 take seconds to read
_SEAL = b"sha256:"
_DIGITS = 64

Arrays = dict[str, NDArray[Any]]


def write(path: str | os.PathLike[str], header: Mapping[str, Any], arrays: Arrays) -> None:
    """Write a file, whole or not at all.

    Raises
    ------
    OSError
        If it cannot be written; a file that was there before is then unchanged.
    ValueError
        If there are more than 10,000 arrays.
    """
    content = pack(header, arrays)
    with atomic_write(path) as file:
        file.write(content)


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Any], Arrays]:
    """Header and arrays of a file that `write` has written; nothing in it is executed.

    Raises
    ------
    ModelFileError
        If the file cannot be read, is damaged, of a newer version, or no such file.
    """
    return unpack(read_bytes(path), str(path))


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """All bytes of a regular file; ModelFileError if it cannot be read."""
    try:
        with open_regular(path) as file:
            return file.read()
    except DataError as error:
        raise ModelFileError(str(error)) from None


def pack(header: Mapping[str, Any], arrays: Arrays) -> bytes:
    """The bytes of a file; ValueError if it were one that is not read again."""
    if len(arrays) > _MOST:
        raise ValueError(f"{len(arrays):,} arrays are too many for a file, which has {_MOST:,}")
    buffer = io.BytesIO()
    text = json.dumps({"version": VERSION, **header})
    np.savez(buffer, header=np.array(text), **arrays)  # type: ignore[arg-type]
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.comment = _SEAL + b"0" * _DIGITS
    body = buffer.getvalue()[:-_DIGITS]
    return body + hashlib.sha256(body).hexdigest().encode()


def unpack(content: bytes, source: str) -> tuple[dict[str, Any], Arrays]:
    """Header and arrays in the bytes of a file; `source` is its name in errors."""
    sealed = content.endswith(_SEAL, 0, -_DIGITS)
    digest = hashlib.sha256(memoryview(content)[:-_DIGITS]).hexdigest().encode()
    if sealed and digest != content[-_DIGITS:]:
        raise ModelFileError(_damaged(source))
    try:
        arrays = _arrays_in(content)
        header = json.loads(str(arrays.pop("header")))
        version = checks.whole("version", header["version"], 1)
        intact = sealed if version > 1 else header.get("sha256") == _digest(arrays)
    except Exception as error:  # zipfile and NumPy raise whatever they stumble over
        reason = str(error).partition("\n")[0]  # NumPy goes on with advice for other files
        raise ModelFileError(f"{source}: not a readable fastmnist file: {reason}") from error
    if version > VERSION:
        raise ModelFileError(
            f"{source}: file format {version}, this fastmnist reads up to {VERSION}; "
            "install a newer fastmnist"
        )
    if not intact:
        raise ModelFileError(_damaged(source))
    return header, arrays


def _damaged(source: str) -> str:
    return f"{source}: damaged: the checksum does not fit; take another copy, or make it again"


def _arrays_in(content: bytes) -> Arrays:
    """All arrays of an .npz file whose members are stored, not compressed, and hold no objects."""
    if content.count(b"PK\1\2") > _MOST + 1:  # how each member's entry in the directory begins
        raise ValueError(f"it has more than {_MOST:,} members")
    arrays: Arrays = {}
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = archive.infolist()
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise ValueError("its members are compressed")
        if sum(member.file_size for member in members) > len(content):
            raise ValueError("its members lie over one another")
        for member in members:
            name = member.filename.removesuffix(".npy")
            if name in arrays:
                raise ValueError(f"it has two members {name!r}")
            with archive.open(member) as file:
                arrays[name] = np.lib.format.read_array(file, allow_pickle=False)
    return arrays


def _digest(arrays: Arrays) -> str:
    """SHA-256 of arrays, as version 1 has it in the header."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].shape} ".encode())
        # Only the order of bytes may differ: another type could need far more memory as float32.
        digest.update(arrays[name].astype("<f4", casting="equiv").tobytes())
    return digest.hexdigest()
