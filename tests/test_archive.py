"""The form of models and checkpoints on disk: what `tests/test_model.py` does not ask about."""

import hashlib
import io
import json

import numpy as np
import pytest

from fastmnist import archive
from fastmnist.errors import ModelFileError

ARRAYS = {"b0": np.arange(3, dtype=np.float32), "W0": np.ones((2, 3), np.float32)}


def test_what_is_packed_is_unpacked():
    header, arrays = archive.unpack(archive.pack({"sizes": [2, 3]}, ARRAYS), "file")
    assert header == {"version": 2, "sizes": [2, 3]}
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], array)


def test_more_arrays_than_are_read_are_not_packed():
    with pytest.raises(ValueError, match="10,001 arrays are too many for a file"):
        archive.pack({}, {str(number): ARRAYS["b0"] for number in range(10_001)})


def version_1(arrays, sha256):
    """A file as the package wrote it before the checksum covered every byte."""
    buffer = io.BytesIO()
    header = {"version": 1, "sizes": [2, 3], "sha256": sha256}
    np.savez(buffer, header=np.array(json.dumps(header)), **arrays)
    return buffer.getvalue()


def test_version_1_is_read_if_its_checksum_fits():
    digest = hashlib.sha256()
    for name, shape in (("W0", "(2, 3)"), ("b0", "(3,)")):
        digest.update(f"{name} {shape} ".encode() + ARRAYS[name].tobytes())
    content = version_1(ARRAYS, digest.hexdigest())
    _, arrays = archive.unpack(content, "file")
    np.testing.assert_array_equal(arrays["b0"], [0, 1, 2])

    changed = ARRAYS | {"b0": np.array([0, 1, 3], np.float32)}
    with pytest.raises(ModelFileError, match="file: damaged"):
        archive.unpack(version_1(changed, digest.hexdigest()), "file")


def test_the_smallest_file_is_read():
    assert archive.unpack(archive.pack({}, {}), "file") == ({"version": 2}, {})


def test_version_2_needs_its_seal():
    buffer = io.BytesIO()
    np.savez(buffer, header=np.array(json.dumps({"version": 2})), **ARRAYS)
    with pytest.raises(ModelFileError, match="file: damaged"):
        archive.unpack(buffer.getvalue(), "file")
