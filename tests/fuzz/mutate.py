"""Files made wrong: anywhere, or inside their structure with checksums that fit.

A checksum turns nearly every change away at the door; what is behind it is reached by changes to
the parts of a file, put together again as a writer would.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from random import Random
from typing import Any

Mutate = Callable[[bytes, Random], bytes]

LONGEST = 2**14  # bytes of a file; a longer one shows no more

_NUMBERS = (0, 1, 2, 3, 7, 8, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1)
_VALUES: tuple[Any, ...] = (
    *(None, True, False, -1, 0, 1, 2, 3, 2**31, 2**63, 2**64, 10**400, 0.5, -0.0, 1e308),
    *(float("nan"), float("inf"), "", "0", "x", "\0", "\ud800", "sgd", "adam", [], {}, [[]], [1]),
    *([2**30, 1], [1, 2**30], [4, 3], {"a": {}}),
)
_NPY = (
    *(b"(", b")", b",", b"1,", b"-1", b"0", b"4294967296", b"1000000000000", b"1e9", b"True"),
    *(b"'<f4'", b"'>f4'", b"'<f8'", b"'|O'", b"'|V0'", b"'<U0'", b"'<U9'", b"'|b1'", b"'<M8[s]'"),
    *(b"'descr'", b"'shape'", b"[('a', '<f4')]", b"('<f4', (2,))", b"((" * 99, b"-" * 999),
)


def anywhere(content: bytes, rng: Random, tokens: tuple[bytes, ...] = ()) -> bytes:
    """One to four changes to bytes, whatever they mean."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(len(data) + 1)
        some = slice(at, at + rng.choice((1, 2, 4, 8, rng.randrange(1, 64))))
        match rng.randrange(9 if tokens else 8):
            case 0 | 1 if at < len(data):
                data[at] ^= 1 << rng.randrange(8)
            case 2 if at < len(data):
                data[at] = rng.randrange(256)
            case 3:
                del data[some]
            case 4:
                data[at:at] = rng.randbytes(rng.choice((1, 2, 4, 16)))
            case 5:
                data[at:at] = data[some]
            case 6:
                order, size = rng.choice("<>"), rng.choice("HI")
                data[at : at + struct.calcsize(size)] = _packed(order + size, rng.choice(_NUMBERS))
            case 7 if rng.random() < 0.2:
                del data[at:]
            case 8:
                token = rng.choice(tokens)
                data[at : at + rng.choice((0, len(token)))] = token
    return bytes(data[:LONGEST])


def _packed(form: str, number: int) -> bytes:
    return struct.pack(form, number % 2 ** (8 * struct.calcsize(form)))


def inside_gzip(content: bytes, rng: Random) -> bytes:
    """What is compressed, changed and compressed again; or the file, anywhere."""
    try:
        inner = gzip.decompress(content) if rng.random() < 0.6 else None
    except (OSError, EOFError, zlib.error):
        inner = None
    if inner is None:
        return anywhere(content, rng)
    return gzip.compress(anywhere(inner[:LONGEST], rng), rng.choice((0, 1, 9)), mtime=0)[:LONGEST]


def cells(content: bytes, rng: Random) -> bytes:
    """Cells and lines of a CSV file, exchanged."""
    tokens = (
        *(b",", b"\n", b"\r\n", b'"', b'""', b";", b"\0", b"\xef\xbb\xbf", b"\xff\xfe", b"label"),
        *(b"-1", b"256", b"3.5", b"nan", b"inf", b"1e9", b"\xd9\xa3", b" 7", b"07", b"+7", b"1_0"),
        *(b"," * 784, b"0," * 784, b"0," * 784 + b"0\n", b"9" * 5000),
    )
    if rng.random() < 0.5:
        return anywhere(content, rng, tokens)
    lines = content.split(b"\n")
    row = rng.randrange(len(lines))
    line = lines[row].split(b",")
    line[rng.randrange(len(line))] = rng.choice((*tokens, b"%d" % rng.randrange(300)))
    lines[row] = b",".join(line)
    if rng.random() < 0.2:
        lines.insert(row, rng.choice(lines))
    return b"\n".join(lines)[:LONGEST]


def inside_archive(content: bytes, rng: Random) -> bytes:
    """The members of an archive of arrays, changed; its checksums fit, mostly."""
    if rng.random() < 0.1:
        return anywhere(content, rng)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = [[member.filename, archive.read(member)] for member in archive.infolist()]
            comment = archive.comment
    except Exception:
        members, comment = [], b""
    if not members:
        return sealed(anywhere(content, rng))
    _change_members(members, rng)
    buffer = io.BytesIO()
    kind = zipfile.ZIP_DEFLATED if rng.random() < 0.05 else zipfile.ZIP_STORED
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", kind) as archive:
        warnings.simplefilter("ignore")  # two members of one name
        for name, part in members:
            archive.writestr(name, part)
        archive.comment = comment
    whole = buffer.getvalue()
    if rng.random() < 0.3:  # what the archive says of its members
        start = whole.rfind(b"PK\x01\x02") if rng.random() < 0.7 else 0
        whole = whole[:start] + anywhere(whole[start:], rng)
    return sealed(whole[:LONGEST]) if rng.random() < 0.9 else whole[:LONGEST]


def sealed(content: bytes) -> bytes:
    """The same with the checksum at its end that fits; see `fastmnist.archive`."""
    body = content[:-64]
    return body + hashlib.sha256(body).hexdigest().encode()


def _change_members(members: list[list[Any]], rng: Random) -> None:
    at = rng.randrange(len(members))
    name, part = members[at]
    match rng.randrange(12):
        case 0:
            del members[at]
        case 1:
            members.append([rng.choice((name, "../" + name, "/x.npy", "W9.npy", "x")), part])
        case 2:
            members[at][0] = rng.choice(members)[0]
        case 3:
            members[at][1] = rng.choice(members)[1]
        case 4:
            members[at][1] = anywhere(part, rng, _NPY)
        case 5 | 6 | 7:  # what NumPy says of the array
            end = 10 + int.from_bytes(part[8:10], "little")
            head = anywhere(part[10:end].rstrip(), rng, _NPY)
            members[at][1] = part[:8] + struct.pack("<H", len(head)) + head + part[end:]
        case _:
            header = next((m for m in members if m[0] == "header.npy"), members[at])
            header[1] = _text_array(header[1], rng)


def _text_array(part: bytes, rng: Random) -> bytes:
    """A text in an array without dimensions, its JSON changed."""
    end = 10 + int.from_bytes(part[8:10], "little")
    try:
        text = part[end:].decode("utf-32-le")
        text = json.dumps(_other_value(json.loads(text), rng))
    except (ValueError, RecursionError):
        return anywhere(part, rng)
    if rng.random() < 0.2:
        text = anywhere(text.encode(), rng, (b"[" * 2000, b'{"":' * 500)).decode("utf-8", "ignore")
    head = f"{{'descr': '<U{len(text)}', 'fortran_order': False, 'shape': (), }}\n".encode()
    body = text.encode("utf-32-le", "surrogatepass")
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + body


def _other_value(value: Any, rng: Random) -> Any:
    """A value of JSON with one place in it exchanged, added or left out."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        match rng.randrange(6):
            case 0:
                return {k: v for k, v in value.items() if k != key}
            case 1:
                return value | {rng.choice(("version", "sha256", "training", "x")): _any(rng)}
            case _:
                return value | {key: _other_value(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.7:
        at = rng.randrange(len(value))
        new = [] if rng.random() < 0.2 else [_other_value(value[at], rng)] * rng.choice((1, 1, 2))
        return value[:at] + new + value[at + 1 :]
    if isinstance(value, int) and rng.random() < 0.5:
        return value + rng.choice((-1, 1, 10**9))
    return _any(rng)


def _any(rng: Random) -> Any:
    return rng.choice(_VALUES)


def inside_tensors(content: bytes, rng: Random) -> bytes:
    """The header or the tensors of a .safetensors file; length and checksum fit, mostly."""
    end = 8 + int.from_bytes(content[:8], "little")
    if rng.random() < 0.1 or end > len(content):
        return anywhere(content, rng)
    head, body = content[8:end], content[end:]
    choice = rng.random()
    try:
        header = json.loads(head)
    except (ValueError, RecursionError):
        choice, header = 0.5, {}
    if choice < 0.4:
        head = json.dumps(_other_value(header, rng)).encode()
    elif choice < 0.8:
        head = anywhere(head, rng, (b'"F32"', b'"BF16"', b'"F64"', b"[0,0]", b"[" * 999, b"1e9"))
    else:
        body = anywhere(body, rng)
    head = head[:LONGEST]
    try:
        digest = str(json.loads(head)["__metadata__"]["fastmnist.sha256"]).encode()
    except (ValueError, TypeError, LookupError, RecursionError):
        digest = b""
    size = struct.pack("<Q", len(head))
    if digest and rng.random() < 0.95:
        blank = size + head.replace(digest, b"0" * 64, 1)
        fitting = hashlib.sha256(blank + body).hexdigest().encode()
        head = head.replace(digest, fitting, 1)
    return size + head + body[:LONGEST]


def inside_picture(content: bytes, rng: Random) -> bytes:
    """The chunks of a PNG file, unpacked where they are packed; or any picture, anywhere."""
    if not content.startswith(b"\x89PNG") or rng.random() < 0.2:
        return anywhere(content, rng)
    chunks, at = [], 8
    while at + 12 <= len(content):
        size = int.from_bytes(content[at : at + 4], "big")
        chunks.append([content[at + 4 : at + 8], content[at + 8 : at + 8 + size]])
        at += 12 + size
    if not chunks:
        return anywhere(content, rng)
    chosen = rng.randrange(len(chunks))
    name, part = chunks[chosen]
    match rng.randrange(6):
        case 0:
            chunks.insert(rng.randrange(len(chunks)), [name, part])
        case 1:
            del chunks[chosen]
        case 2:
            chunks[chosen][0] = rng.choice((b"IHDR", b"PLTE", b"tRNS", b"eXIf", b"zTXt", b"iCCP"))
        case _:
            chunks[chosen][1] = _repacked(part, rng) if name == b"IDAT" else anywhere(part, rng)
    return (content[:8] + b"".join(_chunk(*chunk) for chunk in chunks))[:LONGEST]


def _repacked(part: bytes, rng: Random) -> bytes:
    try:
        return zlib.compress(anywhere(zlib.decompressobj().decompress(part, LONGEST), rng))
    except zlib.error:
        return anywhere(part, rng)


def _chunk(name: bytes, part: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(name + part))
    return struct.pack(">I", len(part)) + name + part + checksum
