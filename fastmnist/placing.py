"""Placing a digit in its frame exactly as MNIST's digits were placed."""

import numpy as np
from numpy.typing import NDArray

FRAME = 28  # pixels: the side of a placed picture
DIGIT = 20  # pixels: the longer side of the digit in it
CENTRE = 14  # the index at which the centre of mass falls

Pictures = NDArray[np.uint8]
Whole = NDArray[np.int64]
Floats = NDArray[np.floating]


def place(picture: Pictures) -> Pictures:
    """Scale and move the ink of a picture as MNIST's digits were scaled and moved.

    The picture is cropped to its ink and scaled by area averaging, both directions alike, so
    that the longer side of the ink is 20 pixels; then it is moved by whole pixels so that its
    centre of mass, rounded to a whole pixel, falls at row 14 and column 14 of 28. What then lies
    outside of the frame is cut off.

    Every sum is one of whole numbers and therefore exact, so the result is the same to the last
    bit in any language and in any order of summation. Placing MNIST's own images gives them back
    unchanged (see ``tests/test_placing.py`` for the two of 70,000 that were placed otherwise).

    Parameters
    ----------
    picture : (..., height, width) uint8
        One picture of any size, or an array of them: bright ink on a background of zeros.

    Returns
    -------
    (..., 28, 28) uint8
        The placed digits. A picture without ink gives one without ink.

    Raises
    ------
    TypeError
        If the picture is not an array of uint8.
    ValueError
        If the picture has fewer than two dimensions or no pixels.
    """
    picture = np.asarray(picture)
    if picture.dtype != np.uint8:
        raise TypeError(f"picture must be uint8, 0 to 255, not {picture.dtype}")
    if picture.ndim < 2 or 0 in picture.shape[-2:]:
        raise ValueError(f"picture must be (..., height, width), not {picture.shape}")
    stack = picture.reshape(-1, *picture.shape[-2:])
    return _centre(_scale(stack)).reshape(*picture.shape[:-2], FRAME, FRAME)


def _scale(pictures: Pictures) -> Pictures:
    """Scale the ink of each of (n, height, width) pictures into the corner of a 20 x 20 box."""
    top, bottom = _extent(pictures.max(axis=2) > 0)
    left, right = _extent(pictures.max(axis=1) > 0)
    side = np.maximum(bottom - top, right - left)
    if pictures.shape[1:] == (FRAME, FRAME):
        # MNIST holds 16 digits whose 20th row or column fell off the frame: they are to stay.
        cut = (side == DIGIT - 1) & (np.maximum(bottom, right) == FRAME)
        side[cut] = DIGIT
    # float32 holds whole numbers up to 2^24 exactly: enough for 255 * side^2 up to this side
    exact = np.float32 if side.max(initial=0) <= 256 else np.float64
    rows = _overlap(top.astype(exact), side.astype(exact), pictures.shape[1])
    columns = _overlap(left.astype(exact), side.astype(exact), pictures.shape[2])
    total = rows @ pictures.astype(exact) @ columns.transpose(0, 2, 1)
    area = np.square(side, dtype=np.float64)[:, None, None]
    scaled: Pictures = np.floor(total / area + 0.5).astype(np.uint8)
    return scaled


def _extent(inked: NDArray[np.bool_]) -> tuple[Whole, Whole]:
    """First inked index, and the one after the last, of each row of (n, length); 0, 1 if none."""
    first = inked.argmax(axis=1)
    last = inked.shape[1] - inked[:, ::-1].argmax(axis=1)
    return first, np.where(inked.any(axis=1), last, 1)


def _overlap(first: Floats, side: Floats, length: int) -> Floats:
    """How much of each of `length` pixels falls into each of 20 cells: (n, 20, length).

    All in twentieths of a pixel: the cells, each `side` of them wide, stand in a row that begins
    where pixel number `first` begins.
    """
    begin = np.arange(DIGIT, dtype=side.dtype)[:, None] * side[:, None, None]
    edge = DIGIT * (np.arange(length + 1, dtype=side.dtype) - first[:, None])
    before_edge = np.clip(edge[:, None, :] - begin, 0, side[:, None, None])
    return np.diff(before_edge)


def _centre(digits: Pictures) -> Pictures:
    """Move each of (n, height, width) digits so that its centre of mass falls at 14, 14 of 28."""
    row = _shifted_indices(digits.sum(axis=2, dtype=np.int64))
    column = _shifted_indices(digits.sum(axis=1, dtype=np.int64))
    # one empty row and column around the digit, which every index outside of it reads
    framed = np.pad(digits, ((0, 0), (1, 1), (1, 1)))
    n = np.arange(len(digits))[:, None, None]
    return framed[n, row[:, :, None], column[:, None, :]]


def _shifted_indices(ink: Whole) -> Whole:
    """Which index of a padded digit each of the 28 in the frame reads, from its (n, length) ink.

    A centre of mass halfway between two pixels counts as the later one: so it is in MNIST.
    """
    mass = np.maximum(ink.sum(axis=1), 1)
    moment = ink @ np.arange(ink.shape[1])
    centre = (2 * moment + mass) // (2 * mass)
    source: Whole = np.arange(FRAME) - CENTRE + centre[:, None]
    return np.clip(source, -1, ink.shape[1]) + 1
