"""Files made to take time or memory, to run code or to write elsewhere, for the readers of models.

``python tests/hostile.py FOLDER`` reads them all, one after the other, under the limits of
`fuzz.readers`, in a process that has held little memory before.
"""

from __future__ import annotations

import hashlib
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

MEMORY = 2**26  # bytes beyond the file's own size


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


PARAMS = [("W0.npy", array(np.ones((3, 2), "f4"))), ("b0.npy", array(np.ones(2, "f4")))]


def archive(
    members: list[tuple[str, bytes]], *, sealed: bool = True, kind: int = zipfile.ZIP_STORED
) -> bytes:
    """An archive with a checksum that fits, as `fastmnist.archive` would write it."""
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", kind) as file:
        warnings.simplefilter("ignore")  # two members of one name
        for name, content in members:
            file.writestr(name, content)
        file.comment = b"sha256:" + b"0" * 64 if sealed else b""
    return mutate.sealed(buffer.getvalue()) if sealed else buffer.getvalue()


def version_1(arrays: list[tuple[str, bytes]], told: str = "0" * 64) -> bytes:
    return archive([header(version=1, sha256=told), *arrays], sealed=False)


def overlapping() -> bytes:
    """A directory with one large member, a thousand times."""
    content = archive([("W0.npy", array(np.zeros(100_000, "f4")))])
    start = content.index(b"PK\x01\x02")
    end = content.index(b"PK\x05\x06")
    entry, rest = content[start:end], bytearray(content[end:])
    names = [entry.replace(b"W0.npy", b"%06d" % i) for i in range(1000)]
    rest[8:16] = struct.pack("<HHI", 1000, 1000, 1000 * len(entry))
    return mutate.sealed(content[:start] + b"".join(names) + bytes(rest))


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
    "deep parentheses": lambda: archive([("W0.npy", npy("(" * 5000 + ")" * 5000))]),
    "many signs": lambda: archive([("W0.npy", npy("-" * 9000 + "1"))]),
    "a deep header": lambda: archive([("header.npy", array("[" * 100_000)), *PARAMS]),
    "a header of arrays": lambda: archive([("header.npy", array("[" + "[]," * 10**5 + "[]]"))]),
    "a bomb of 1 GiB": lambda: archive(
        [header(), ("W0.npy", npy("(16384, 16384)", body=bytes(2**30)))], kind=zipfile.ZIP_DEFLATED
    ),
    "members over one another": overlapping,
    "100,000 empty members": lambda: archive([(f"W{i}.npy", b"") for i in range(100_000)]),
    "100,000 arrays": lambda: archive([(f"W{i}.npy", PARAMS[1][1]) for i in range(100_000)]),
    "two members of one name": lambda: archive([header(), *PARAMS, PARAMS[0]]),
    "two names that are one": lambda: archive([header(), *PARAMS, ("W0", PARAMS[0][1])]),
    "a name outside": lambda: archive([header(), *PARAMS, ("../outside.npy", PARAMS[1][1])]),
    "an absolute name": lambda: archive([header(), *PARAMS, ("/tmp/outside.npy", PARAMS[1][1])]),
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


def hostile() -> list[tuple[str, str, bytes]]:
    """The reader, the name and the bytes of each file."""
    files = [(r, name, make()) for name, make in ARCHIVES.items() for r in ("npz", "checkpoint")]
    return [*files, *(("safetensors", name, make()) for name, make in TENSORS.items())]


def main(folder: Path) -> None:
    path = folder / "file"
    for name in ("npz", "checkpoint", "safetensors"):  # what is imported once
        reader = readers.READERS[name]
        assert readers.execute(reader, reader.seeds()[0], path.with_suffix(reader.ending))
    files = folder / "hostile"
    for kept in sorted(files.iterdir()):
        name = kept.name.partition(" ")[0]
        content = kept.read_bytes()
        reader = readers.READERS[name]._replace(memory=MEMORY + len(content))
        before, begun = readers._peak(), time.process_time()
        accepted = readers.execute(reader, content, path.with_suffix(reader.ending))
        print(
            json.dumps(
                {
                    "file": kept.name,
                    "accepted": accepted,
                    "seconds": time.process_time() - begun,
                    "memory": readers._peak() - before,
                }
            )
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
