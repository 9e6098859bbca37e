"""Photos and scans of one digit or several, read as images like MNIST's."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from fastmnist.errors import DataError
from fastmnist.files import open_regular
from fastmnist.placing import FRAME, place

try:
    from PIL import Image, ImageDraw, ImageFont, ImageOps, UnidentifiedImageError
except ImportError as error:
    raise ImportError(
        'reading pictures needs Pillow: pip install "fastmnist[images]"', name="PIL"
    ) from error

# Plain pixels only: to read EPS, for one, Pillow would start a program outside.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")

# A scan of a page at 600 dpi has 35 million pixels. JPEG files may have more: they are decoded
# smaller. What is more takes more than a second, and more than 1 GiB.
_MOST_PIXELS = 40_000_000
_LONGEST = 2**16 - 1  # pixels of a side; JPEG and GIF have no longer ones
_MOST_PIECES = 400  # of a picture; a page has fewer digits, and these take less than a second

_SIDE = 512  # pixels; more of them tell nothing about a digit of 20, and only cost time
_FAINTEST = 20  # grey levels of 255; what differs less from the paper is no ink
_SMALLEST = 0.03  # of the picture's longer side; what is smaller is no digit
_SPECK = 0.05  # of the heaviest piece's ink; a piece with less is dust
_PART = 0.35  # of the tallest digit's height; what is lower is a part of one, or dust
_TALL = 1.3  # of the tallest piece's height; a digit put together is no taller
_GAP = 0.25  # of that height, between the parts of a digit, one above the other, at most

_MARK = "#d55e00"

Plane = NDArray[np.float32]


def read_digit(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """Read the digit in a picture file: bright on 0, and placed as in MNIST.

    Paper and ink may have any two colours; the border of the picture shows which is the paper.
    Light may change slowly over it. A picture that is like MNIST's already, 28 x 28 and placed,
    whether dark on light or light on dark, keeps every bit.

    Parameters
    ----------
    path : path-like
        A PNG, JPEG, BMP, GIF, TIFF, WebP or PPM file of any size with one digit.

    Returns
    -------
    ndarray of shape (28, 28), uint8

    Raises
    ------
    DataError
        If the file cannot be read, is no such picture, is damaged or far too large, or shows no
        digit.
    """
    pixels = _pixels(path)
    border = _border(pixels)
    distance = np.abs(pixels - np.median(pixels[border], axis=0))
    plain: NDArray[np.uint8] = distance.max(axis=-1).astype(np.uint8)
    if plain.shape == (FRAME, FRAME) and plain.any() and np.array_equal(place(plain), plain):
        return plain
    ink = _without_specks(_ink(pixels, border))
    if not ink.any():
        raise DataError(f"{path} shows no digit; one digit on plain paper is wanted")
    return place(ink)


class Found(NamedTuple):
    """A digit found in a picture."""

    image: NDArray[np.uint8]  # (28, 28), placed as in MNIST
    box: tuple[float, float, float, float]  # left, top, right, bottom, as parts of the picture


def read_digits(path: str | os.PathLike[str]) -> list[Found]:
    """Find all digits of a picture, in the order in which one reads: lines, from left to right.

    Digits must not touch each other. Of a digit in several pieces, those above each other are put
    together.

    Parameters
    ----------
    path : path-like
        As of `read_digit`.

    Returns
    -------
    list of Found

    Raises
    ------
    DataError
        As of `read_digit`.
    """
    pixels = _pixels(path)
    ink = _ink(pixels, _border(pixels))
    labels = _pieces(_extreme(np.pad(ink, 1), 1, np.max) > 0)
    groups = _digits(labels, ink)
    if not groups:
        raise DataError(f"{path} shows no digit; digits on plain paper are wanted")
    height, width = ink.shape
    found = []
    for numbers, (left, top, right, bottom) in _in_order(groups):
        rows = slice(top, bottom)
        alone = np.where(np.isin(labels[rows], numbers), ink[rows], 0).astype(np.uint8)
        box = (left / width, top / height, right / width, bottom / height)
        found.append(Found(place(alone), box))
    return found


def marked(
    path: str | os.PathLike[str], found: Sequence[Found], names: Sequence[str]
) -> Image.Image:
    """The picture with a frame around each digit, and above it what it is read as."""
    with open_regular(path) as file:
        image = _upright(file).convert("RGB")
    draw = ImageDraw.Draw(image)
    width, height = image.size
    usual = np.median([(f.box[3] - f.box[1]) * height for f in found] or [0])
    size = max(12, round(0.4 * float(usual)))
    font = ImageFont.load_default(size)
    for digit, name in zip(found, names, strict=True):
        left, top, right, bottom = (
            side * of for side, of in zip(digit.box, (width, height) * 2, strict=True)
        )
        draw.rectangle((left - 3, top - 3, right + 3, bottom + 3), outline=_MARK, width=2)
        draw.text((left, max(size, top - 4)), name, fill=_MARK, font=font, anchor="lb")
    return image


Box = tuple[int, int, int, int]  # left, top, right, bottom


def _digits(labels: NDArray[np.intp], ink: NDArray[np.uint8]) -> list[tuple[list[int], Box]]:
    """The pieces of each digit, and their box; what is too small to be one is left out."""
    weights = np.bincount(labels.ravel(), ink.ravel())
    pieces: list[tuple[list[int], Box]] = []
    numbers = np.flatnonzero((weights >= _SPECK * weights.max(initial=0)) & (weights > 0))
    if len(numbers) > _MOST_PIECES:
        return []
    for number in numbers:
        rows, columns = np.nonzero(labels == number)
        left, top = int(columns.min()), int(rows.min())
        box: Box = (left, top, int(columns.max()) + 1, int(rows.max()) + 1)
        pieces.append(([int(number)], box))
    tallest = max((bottom - top for _, (_, top, _, bottom) in pieces), default=0)
    if tallest < _SMALLEST * max(ink.shape):
        return []
    apart: list[tuple[list[int], Box]] = []  # no two of these belong together
    while pieces:
        one = pieces.pop(0)
        for other in apart:
            if _belong_together(one[1], other[1], tallest):
                apart.remove(other)
                pieces.append((other[0] + one[0], _around(one[1], other[1])))
                break
        else:
            apart.append(one)
    return [(n, box) for n, box in apart if box[3] - box[1] >= _PART * tallest]


def _belong_together(one: Box, other: Box, tallest: int) -> bool:
    """Whether two boxes stand above each other, so near and so low that they are one digit."""
    across = min(one[2], other[2]) - max(one[0], other[0])
    narrower = min(one[2] - one[0], other[2] - other[0])
    apart = max(one[1], other[1]) - min(one[3], other[3])
    together = _around(one, other)
    low = together[3] - together[1] <= _TALL * tallest  # or they are digits of two lines
    return across > narrower / 2 and apart < _GAP * tallest and low


def _around(one: Box, other: Box) -> Box:
    return (
        *(min(one[0], other[0]), min(one[1], other[1])),
        *(max(one[2], other[2]), max(one[3], other[3])),
    )


def _in_order(groups: list[tuple[list[int], Box]]) -> list[tuple[list[int], Box]]:
    """Line by line: what begins above the middle of a line's first digit stands in it."""
    rest, ordered = sorted(groups, key=lambda group: group[1][1]), []
    while rest:
        middle = (rest[0][1][1] + rest[0][1][3]) / 2
        line = [group for group in rest if group[1][1] < middle]
        ordered += sorted(line, key=lambda group: group[1][0])
        rest = [group for group in rest if group[1][1] >= middle]
    return ordered


def _pixels(path: str | os.PathLike[str]) -> Plane:
    """Pixels of shape (height, width, 3), 0 to 255, upright and at most 512 a side."""
    with open_regular(path) as file, warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            rgba = np.asarray(_upright(file), np.float32)
        except UnidentifiedImageError:
            known = ", ".join(FORMATS)
            raise DataError(f"{path} is not a picture of a known kind ({known})") from None
        except (_TooLarge, Image.DecompressionBombWarning, Image.DecompressionBombError):
            raise DataError(f"{path} is too large a picture; make it smaller first") from None
        except Exception as error:  # Pillow's decoders raise whatever they stumble over
            raise DataError(f"{path} is a damaged picture ({error})") from error
    colour, alpha = rgba[..., :3], rgba[..., 3:] / np.float32(255)
    # What is drawn on nothing gets the paper that shows it: white, or black under bright ink.
    bright = (colour * alpha).mean() > 127.5 * alpha.mean()
    pixels: Plane = colour * alpha + (1 - alpha) * np.float32(0 if bright else 255)
    return pixels


class _TooLarge(Exception):
    pass


def _upright(file: BinaryIO) -> Image.Image:
    image: Image.Image = Image.open(file, formats=FORMATS)
    image.draft(None, (_SIDE, _SIDE))  # lets JPEG decode no more detail than is needed
    if image.width * image.height > _MOST_PIXELS or max(image.size) > _LONGEST:
        raise _TooLarge
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith("I"):  # 16 or 32 bits, of which any part may be in use
        image = image.convert("I")
        image.thumbnail((_SIDE, _SIDE), Image.Resampling.BOX)
        levels = np.asarray(image, np.float64)
        spread = max(1, levels.max() - levels.min())
        image = Image.fromarray(((levels - levels.min()) * (255 / spread)).astype(np.uint8))
    image = image.convert("RGBA")
    image.thumbnail((_SIDE, _SIDE), Image.Resampling.BOX)
    return image


def _border(pixels: Plane) -> NDArray[np.bool_]:
    """A mask of the margin of the picture: paper, or nearly all of it."""
    margin = max(1, min(pixels.shape[:2]) // 20)
    border = np.ones(pixels.shape[:2], bool)
    border[margin:-margin, margin:-margin] = False
    return border


def _direction(pixels: Plane, border: NDArray[np.bool_]) -> Plane:
    """In which direction of colour ink differs from paper, a vector of length 1 (or 0 if none)."""
    height, width = border.shape
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    surface = np.stack([np.ones_like(x), x, y, x * y], axis=-1)  # light changes over the paper
    paper = np.linalg.lstsq(surface[border], pixels[border], rcond=None)[0]
    away = pixels - surface @ paper
    distance = np.linalg.norm(away, axis=-1, keepdims=True)
    direction = (away * distance**3).sum(axis=(0, 1))  # the farthest pixels decide
    return np.asarray(direction / (np.linalg.norm(direction) or 1), np.float32)


def _ink(pixels: Plane, border: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """How inked each pixel is, 0 to 255, with light and noise of the paper taken away."""
    plane = pixels @ _direction(pixels, border)
    plane -= _ground(plane)
    plane -= np.median(plane)
    noise = 6 * np.median(np.abs(plane))  # four standard deviations of normal noise
    strong = plane[plane > max(noise, _FAINTEST)]
    full = np.quantile(strong, 0.75) if strong.size else np.inf
    low, high = max(noise, 0.25 * full), 0.8 * full
    if not low < high:
        return np.zeros(plane.shape, np.uint8)
    # A slope instead of a step keeps the soft edges that MNIST's digits have.
    ink: NDArray[np.uint8] = np.rint(np.clip((plane - low) / (high - low), 0, 1) * 255).astype(
        np.uint8
    )
    return ink


def _ground(plane: Plane) -> Plane:
    """The paper under the ink: what is left of bright strokes narrower than a window (opening)."""
    height, width = plane.shape
    shrink = min(1, 64 / max(height, width))
    size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
    small = np.asarray(Image.fromarray(plane).resize(size, Image.Resampling.BOX))
    radius = min(size) // 6
    # Odd reflection carries the slope of the light on over the edge.
    wide = np.pad(small, 2 * radius, mode="reflect", reflect_type="odd")
    opened = _extreme(_extreme(wide, radius, np.min), radius, np.max)
    return np.asarray(Image.fromarray(opened).resize((width, height), Image.Resampling.BILINEAR))


def _without_specks(ink: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Keep the heaviest piece, if it is as large as a digit, and what is not dust beside it."""
    grown = _extreme(np.pad(ink, 1), 1, np.max)  # by a pixel, to bridge thin gaps
    labels = _pieces(grown > 0)
    weights = np.bincount(labels.ravel(), ink.ravel())
    rows, columns = np.nonzero(labels == weights.argmax())
    if max(np.ptp(rows), np.ptp(columns)) < _SMALLEST * max(ink.shape):
        return np.zeros_like(ink)
    return np.where((weights >= _SPECK * weights.max())[labels], ink, 0).astype(np.uint8)


def _pieces(mask: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Number the connected pieces of a mask; 0 is the rest."""
    labels = np.where(mask, np.arange(1, mask.size + 1).reshape(mask.shape), 0)
    while True:  # a label runs along rows, then columns, then to wherever it has come from
        spread = _level_runs(_level_runs(labels, mask).T, mask.T).T
        spread = np.where(mask, spread.ravel()[spread - 1], 0)  # what its namesake is called now
        if np.array_equal(spread, labels):
            return labels
        labels = spread


def _level_runs(labels: NDArray[np.intp], mask: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Give each run of True or False in a row the largest of its labels."""
    starts = np.flatnonzero(np.diff(mask, axis=1, prepend=~mask[:, :1]))
    largest = np.maximum.reduceat(labels.ravel(), starts)
    return np.repeat(largest, np.diff(starts, append=mask.size)).reshape(mask.shape)


def _extreme(
    plane: NDArray[Any], radius: int, extreme: Callable[..., NDArray[Any]]
) -> NDArray[Any]:
    """Smallest or largest value in each whole square of that radius; a margin of it is lost."""
    for axis in (0, 1):
        plane = extreme(sliding_window_view(plane, 2 * radius + 1, axis), axis=-1)
    return plane
