"""Images as lines of text: the CSV form of Kaggle's digit-recognizer."""

from __future__ import annotations

import codecs
import itertools
import os
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from fastmnist.errors import DataError
from fastmnist.files import open_regular

PIXELS, SIDE, CLASSES = 784, 28, 10

# A pixel by its text, with quotes or without. Looking each cell up refuses whatever is not a whole
# number from 0 to 255, and reads 42,000 lines in 1.5 s (np.loadtxt: 0.6 s, and no line numbers).
_PIXELS = {f"{quote}{i}{quote}".encode(): i for i in range(256) for quote in ("", '"')}
_LABELS = {text: i for text, i in _PIXELS.items() if i < CLASSES}
_NOT_TEXT = (b"\x1f\x8b", b"PK", codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_LONGEST = 16 * 1024  # bytes of a line; 785 quoted cells with commas have at most 4,709


def read(path: str | os.PathLike[str]) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    """Read images, and labels where there are any, from a CSV file.

    Parameters
    ----------
    path : path-like
        Lines of ``label,pixel0,...,pixel783`` or ``pixel0,...,pixel783``, under a line of names
        or without one. Labels are 0 to 9, pixels 0 to 255, in rows from the top left.

    Returns
    -------
    images : (n, 28, 28) uint8
    labels : (n,) uint8, or None

    Raises
    ------
    DataError
        If the file cannot be read or is anything else; names the line and the column.
    """
    with open_regular(path) as file:
        cells, columns = _cells(file, str(path))
    rows = np.frombuffer(cells, np.uint8).reshape(-1, columns)
    images = rows[:, columns - PIXELS :].copy().reshape(-1, SIDE, SIDE)
    return images, rows[:, 0].copy() if columns > PIXELS else None


def _cells(file: BinaryIO, source: str) -> tuple[bytearray, int]:
    """All numbers of the file, one byte each, and how many a line has."""
    lines = _lines(file, source)
    where, first = next(lines, ("", []))
    if not first:
        raise DataError(f"{source} is empty")
    columns = _columns(first, where)
    cells = bytearray()
    if not _is_header(first):
        cells += _row(first, columns, where)
    for where, line in lines:
        cells += _row(line, columns, where)
    if not cells:
        raise DataError(f"{source} has a line of names and no images")
    return cells, columns


def _lines(file: BinaryIO, source: str) -> Iterator[tuple[str, list[bytes]]]:
    """Where each line that is not blank stands, and its cells."""
    for number in itertools.count(1):  # pragma: no branch: it has no end of its own
        where = f"{source}, line {number}"
        line = file.readline(_LONGEST + 1)
        if len(line) > _LONGEST:
            raise DataError(f"{where}: longer than {_LONGEST:,} bytes; this is not a CSV of images")
        if not line:
            return
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
            _check_text(line, source)
        line = line.rstrip(b"\r\n")
        if line:
            yield where, line.split(b",")


def _check_text(line: bytes, source: str) -> None:
    """Raise DataError with what the file is if its first line is not text with commas."""
    if b"\0" in line or line.startswith(_NOT_TEXT):
        raise DataError(
            f"{source} is not a CSV file in UTF-8: it is compressed, binary or UTF-16; "
            "unpack it or save it anew (if it is an IDX file, give the folder it is in)"
        )
    if line.count(b";") > line.count(b","):
        raise DataError(f"{source} has semicolons between its cells; save it with commas")


def _is_header(cells: list[bytes]) -> bool:
    return any(cell.strip(b'"')[:1].isalpha() for cell in (cells[0], cells[-1]))


def _columns(cells: list[bytes], where: str) -> int:
    """How many columns the file has, by its first line."""
    columns = len(cells)
    if columns not in (PIXELS, PIXELS + 1):
        raise DataError(
            f"{where}: {columns:,} columns; wanted a label and {PIXELS} pixels, or the pixels alone"
        )
    if _is_header(cells) and (columns > PIXELS) != (cells[0].strip(b'"').lower() == b"label"):
        raise DataError(
            f"{where}: {columns} columns, the first named {_show(cells[0])}; "
            f"wanted label and {PIXELS} pixels, or the pixels alone"
        )
    return columns


def _row(cells: list[bytes], columns: int, where: str) -> bytes:
    """The numbers of a line, one byte each."""
    if len(cells) != columns:
        raise DataError(f"{where}: {len(cells):,} columns, the lines before have {columns}")
    try:
        row = bytes(map(_PIXELS.__getitem__, cells))
    except KeyError:
        row = b"\xff"
    if columns > PIXELS and cells[0] not in _LABELS:
        raise DataError(f"{where}: label {_show(cells[0])}, wanted 0 to {CLASSES - 1}")
    if len(row) < columns:
        column = next(i for i, cell in enumerate(cells) if cell not in _PIXELS)
        raise DataError(
            f"{where}, column {column + 1}: pixel {_show(cells[column])}, wanted a "
            "whole number from 0 to 255"
        )
    return row


def _show(cell: bytes) -> str:
    return repr(cell[:40].decode("utf-8", "replace"))
