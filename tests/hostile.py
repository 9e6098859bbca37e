"""Files made to take time or memory, to run code or to write elsewhere, for the readers of models.

``python tests/hostile.py FOLDER`` reads those of a folder, one after the other: each in a second of
processor time, and with 64 MiB of memory beyond its own size, in a process that has held little.
"""

from __future__ import annotations

import io
import json
import struct
import sys
import time
import warnings
import zipfile
from pathlib import Path

import numpy as np
from fuzz import mutate, readers


def npy(shape: str, descr: str = "'<f4'", body: bytes = b"") -> bytes:
    """An array's file, as its header has it: true or not."""
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (63 - (len(header) + 10) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + body


def array(values: object) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.asarray(values))
    return buffer.getvalue()


def header(**told: object) -> tuple[str, bytes]:
    return "header.npy", array(json.dumps({"version": 2, "sizes": [3, 2], **told}))


OUTSIDE = "/tmp/outside of a hostile file"
PARAMS = [("W0.npy", array(np.ones((3, 2), "f4"))), ("b0.npy", array(np.ones(2, "f4")))]


def archive(members: list[tuple[str, bytes]], *, sealed: bool = True) -> bytes:
    """An archive with a checksum that fits, as `fastmnist.archive` would write it."""
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w") as file:
        warnings.simplefilter("ignore")  # two members of one name
        for name, content in members:
            file.writestr(name, content)
        file.comment = b"sha256:" + b"0" * 64 if sealed else b""
    return mutate.sealed(buffer.getvalue()) if sealed else buffer.getvalue()


def version_1(arrays: list[tuple[str, bytes]], told: str = "0" * 64) -> bytes:
    return archive([header(version=1, sha256=told), *arrays], sealed=False)


def many(count: int, content: bytes, *, apart: bool) -> bytes:
    """An archive of one member many times over: each at a place of its own, or all at one."""
    one = archive([("W00000.npy", content)])
    start, end = one.index(b"PK\x01\x02"), one.index(b"PK\x05\x06")
    member, entry, rest = one[:start], bytearray(one[start:end]), bytearray(one[end:])
    members, entries = bytearray(), bytearray()
    for i in range(count):
        name = b"W%05d" % i
        if apart or not i:
            members += member.replace(b"W00000", name)
        struct.pack_into("<I", entry, 42, i * len(member) if apart else 0)
        entries += entry.replace(b"W00000", name)
    struct.pack_into("<HHII", rest, 8, *[count % 2**16] * 2, len(entries), len(members))
    return mutate.sealed(bytes(members + entries + rest))


def bomb() -> bytes:
    """128 MiB of zeros, compressed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(*header())
        file.writestr("W0.npy", npy("(16384, 2048)", body=bytes(2**27)))
        file.comment = b"sha256:" + b"0" * 64
    return mutate.sealed(buffer.getvalue())


def encrypted() -> bytes:
    content = bytearray(archive([header(), *PARAMS]))
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + flags] |= 1
    return mutate.sealed(bytes(content))


def tensors(told: object, body: bytes = b"", size: int | None = None) -> bytes:
    head = told if isinstance(told, bytes) else json.dumps(told).encode()
    return struct.pack("<Q", len(head) if size is None else size) + head + body


def tensor(shape: list[int], end: int, kind: str = "F32") -> dict[str, object]:
    return {"dtype": kind, "shape": shape, "data_offsets": [0, end]}


ARCHIVES = {
    "4 TB declared": lambda: archive([header(), ("W0.npy", npy("(1000000, 1000000)"))]),
    "4 TB of nothing declared": lambda: archive(
        [header(), ("W0.npy", npy("(1000000000000,)", "'<U0'"))]
    ),
    "4 TB of nothing in version 1": lambda: version_1(
        [("W0.npy", npy("(1000000000000,)", "'<U0'"))]
    ),
    "text in version 1": lambda: version_1([("W0.npy", array("abc")), PARAMS[1]]),
    "a product that overflows": lambda: archive([("W0.npy", npy("(4294967296, 4294967296)"))]),
    "sizes of 64 GB declared": lambda: archive([header(sizes=[2**30, 1]), *PARAMS]),
    "a million sizes": lambda: archive([header(sizes=[1] * 1_000_000), *PARAMS]),
    "an endless array header": lambda: archive([("W0.npy", npy("(" * 30_000))]),
    "deep parentheses": lambda: archive([("W0.npy", npy("(" * 4000 + ")" * 4000))]),
    "many signs": lambda: archive([("W0.npy", npy("-" * 9000 + "1"))]),
    "a deep header": lambda: archive([("header.npy", array("[" * 100_000)), *PARAMS]),
    "a header of arrays": lambda: archive([("header.npy", array("[" + "[]," * 10**5 + "[]]"))]),
    "a bomb": bomb,
    "members over one another": lambda: many(1000, array(np.zeros(100_000, "f4")), apart=False),
    "100,000 members": lambda: many(100_000, PARAMS[1][1], apart=True),
    "10,000 arrays of nothing": lambda: many(10_000, npy("(0,)"), apart=True),
    "two members of one name": lambda: archive([header(), *PARAMS, PARAMS[0]]),
    "two names that are one": lambda: archive([header(), *PARAMS, ("W0", PARAMS[0][1])]),
    "a name outside": lambda: archive([header(), *PARAMS, ("../outside.npy", PARAMS[1][1])]),
    "an absolute name": lambda: archive([header(), *PARAMS, (f"{OUTSIDE}.npy", PARAMS[1][1])]),
    "no array": lambda: archive([header(), ("W0", b"hello"), PARAMS[1]]),
    "encrypted": encrypted,
}

TENSORS = {
    "4 TB declared": lambda: tensors({"0.weight": tensor([10**6, 10**6], 4 * 10**12)}),
    "a product that overflows": lambda: tensors({"0.weight": tensor([2**32, 2**32], 0)}),
    "an endless header": lambda: tensors(b"{}", size=2**63),
    "deep parentheses": lambda: tensors(b"[" * 100_000),
    "deep metadata": lambda: tensors(b'{"__metadata__":' + b'{"":' * 50_000),
    "100,000 tensors": lambda: tensors({f"{i}.weight": tensor([0], 0) for i in range(100_000)}),
    "two tensors over one another": lambda: tensors(
        {"0.weight": tensor([1, 1], 4), "0.bias": tensor([1], 4)}, bytes(4)
    ),
    "a name outside": lambda: tensors({"../outside": tensor([1], 4)}, bytes(4)),
}


def main(folder: Path) -> None:
    """Read each file of a folder whose name begins with its reader; print what came of it."""
    read = Path(folder, "read")
    for name in ("npz", "checkpoint", "safetensors"):  # imports what is imported late
        reader = readers.READERS[name]
        assert readers.execute(reader, reader.seeds()[0], read.with_suffix(reader.ending))
    for kept in sorted(folder.glob("* *")):
        content = kept.read_bytes()
        reader = readers.READERS[kept.name.partition(" ")[0]]
        reader = reader._replace(memory=2**26 + len(content))
        before, begun = readers.peak(anew=True), time.process_time()
        try:
            accepted = readers.execute(reader, content, read.with_suffix(reader.ending))
            outcome = "accepted" if accepted else "refused"
        except (Exception, readers.TooSlow, readers.TooLarge) as error:
            outcome = repr(error)
        taken = {"seconds": time.process_time() - begun, "bytes": readers.peak() - before}
        print(json.dumps({"file": kept.name, "outcome": outcome, **taken}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
