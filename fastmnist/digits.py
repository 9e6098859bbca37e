"""Digits drawn by the package itself: for every machine without a network and without MNIST.

Each digit is a chain of plain steps: a skeleton of pen strokes, its points moved at random, a
curve through them, a soft pen along the curve, and MNIST's own placement of the picture.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastmnist import checks
from fastmnist.placing import FRAME, place

# Processors differ in the order of sums and in exponentials: between x86 and ARM 8 of 1,568,000
# pixels were one grey level apart when all was computed in float32; in float64, none.
Floats = NDArray[np.float64]

# How people write the ten digits, as strokes of a pen; each digit has several forms, all equally
# likely, and a form that is written more often stands here more than once.
# A stroke is a row of points "x,y" joined by a smooth curve: x to the right, y down, 20 units high
# like the digits of MNIST. A point written twice is a sharp corner; "|" lifts the pen.
SKELETONS: tuple[tuple[str, ...], ...] = (
    (  # 0: begun at the top; at the top right; with a tail; open; a slim one
        "7,0 3,3 1,10 3,17 7,20 11,17 13,10 11,3 7,0",
        "10,1 5,1 1,9 3,18 8,20 13,14 13,5 9,0 5,2",
        "8,0 2,4 0,11 4,18 10,20 16,15 17,8 13,2 6,1",
        "12,3 7,0 2,5 1,13 5,19 11,18 14,11 12,3 8,3 6,6",
        "6,1 2,6 1,14 5,20 11,18 14,11 13,4 9,0",
        "7,0 4,5 3,13 5,19 8,20 11,14 11,6 8,0",
        "11,2 6,0 1,6 1,14 6,20 12,17 14,9 10,1 5,3 3,6",
    ),
    (  # 1: a bar, straight or bent; with a flag; with a foot too
        "7,0 7,7 7,14 7,20",
        "7,0 7,7 7,14 7,20",
        "7,0 7,7 7,14 7,20",
        "7,0 7,7 7,14 7,20",
        "7,0 6,7 7,14 9,20",
        "5,0 7,5 8,12 7,20",
        "4,3 8,0 8,0 8,10 8,20",
        "2,5 7,0 7,0 7,10 7,20 | 2,20 7,20 12,20",
        "0,5 7,0 7,0 7,10 7,20 | 0,20 7,20 15,20",
    ),
    (  # 2: angled foot; with a loop, small or large; a round belly; flat; like a Z
        "2,5 4,1 9,0 12,4 9,11 2,19 2,19 8,19 14,19",
        "1,4 5,0 11,1 12,6 8,13 1,19 1,19 7,18 14,20",
        "2,4 6,0 11,3 10,10 5,17 1,19 1,16 5,15 9,19 15,18",
        "1,3 6,0 12,3 10,11 4,18 0,18 2,15 7,17 15,20",
        "2,1 7,0 13,1 13,1 8,9 1,19 1,19 8,19 15,18",
        "3,4 8,0 13,4 12,12 6,19 1,19 0,16 4,13 10,15 16,20",
        "4,2 10,0 14,4 12,13 6,20 0,20 0,15 5,13 11,17 20,16",
        "2,6 4,1 8,0 9,5 7,12 2,20 2,20 7,19 11,20",
        "0,6 6,3 14,5 10,12 2,18 2,18 12,17 22,18",
    ),
    (  # 3: two bows; flat top; a small loop in the middle; a large lower bow; a small one
        "2,3 6,0 11,2 10,7 5,9 5,9 11,11 12,16 7,20 1,18",
        "1,1 6,0 11,1 9,6 4,9 4,9 10,11 12,15 8,19 0,19",
        "1,1 6,1 12,1 12,1 5,8 5,8 11,10 12,16 7,20 1,18",
        "2,2 8,0 12,3 8,8 4,9 6,9 12,12 11,18 5,20 0,17",
        "3,2 8,0 11,3 8,7 4,8 9,8 13,12 11,18 5,20 1,17",
        "1,3 6,0 12,2 12,7 6,11 6,11 11,12 12,17 7,20 1,19",
        "1,2 7,0 12,3 9,8 5,9 5,10 9,9 13,14 9,19 2,19",
        "0,3 7,0 12,4 7,10 12,14 9,19 0,20",
        "1,2 8,1 15,2 9,7 4,9 4,9 12,10 16,14 11,19 0,20",
    ),
    (  # 4: open, square or round; closed; a short bar; a stem that starts in the corner
        "3,0 2,6 1,11 1,11 6,11 13,10 | 11,0 10,7 9,13 9,20",
        "4,1 2,6 2,10 5,11 10,10 | 11,0 11,6 10,13 9,20",
        "9,0 5,5 0,12 0,12 7,12 14,12 | 9,0 9,7 9,13 9,20",
        "2,0 1,5 2,9 6,10 11,8 | 12,1 12,7 11,13 11,20",
        "3,1 1,7 0,12 0,12 6,12 14,11 | 10,2 9,8 8,14 7,20",
        "2,1 2,5 2,9 2,9 7,9 12,8 | 12,0 12,7 12,13 12,20",
        "4,0 1,6 3,10 8,9 12,2 | 12,0 10,7 8,14 6,20",
        "3,2 1,8 1,12 6,13 15,11 | 9,6 8,11 7,15 7,20",
        "10,0 5,5 1,10 1,10 7,10 11,9 | 10,0 10,7 10,13 10,20",
        "1,1 3,6 5,9 9,8 13,4 | 13,0 11,7 9,13 8,20",
        "0,3 0,9 3,12 9,11 18,9 | 11,0 10,7 10,13 10,20",
    ),
    (  # 5: joined top; detached top; like an S; a small belly; a long top
        "13,0 9,0 4,1 4,1 3,5 2,9 2,9 8,8 12,12 10,18 5,20 0,18",
        "3,1 3,5 2,9 2,9 8,7 12,11 11,17 6,20 1,18 | 3,1 8,1 13,0",
        "14,0 9,0 6,1 4,5 4,8 8,10 11,14 8,19 3,20 0,18",
        "14,1 6,1 6,1 4,8 4,8 9,8 11,13 8,18 0,19",
        "4,3 3,7 3,10 8,9 12,13 10,19 5,20 0,18 | 5,3 11,2 18,1",
        "2,1 2,5 2,8 2,8 8,7 14,9 14,15 9,19 0,20 | 2,1 9,1 15,1",
        "18,0 11,1 6,2 6,2 5,6 4,9 9,11 11,15 7,19 0,20",
        "9,1 6,3 5,8 9,11 10,16 6,20 1,19 | 9,1 13,0 18,1",
        "15,2 9,1 4,2 4,2 4,6 4,10 4,10 10,10 14,13 12,18 7,20 1,17",
    ),
    (  # 6: round belly; straight back; narrow loop; wide loop; a spiral
        "9,0 4,5 1,11 2,17 6,20 11,18 11,13 7,11 2,14",
        "6,0 3,6 1,13 3,19 8,20 11,16 9,12 4,13 2,16",
        "12,0 6,3 1,11 2,18 7,20 12,17 10,12 5,12 2,16",
        "5,0 2,7 1,14 4,20 10,19 13,14 9,11 4,14 3,17",
        "9,0 5,5 2,12 3,18 8,20 15,18 15,13 9,12 4,17",
        "7,0 3,7 1,14 3,19 7,20 9,17 8,14 5,15 3,18",
        "8,0 3,5 0,12 3,19 10,20 15,16 13,11 7,11 5,14 7,17",
        "11,2 7,0 2,5 1,12 3,19 9,20 13,15 10,10 5,10 1,13",
    ),
    (  # 7: angled; curved; with a bar; with a serif; drooping
        "0,2 6,1 12,1 12,1 8,9 5,20",
        "0,1 6,1 13,0 13,0 10,6 7,12 6,20",
        "0,2 6,1 12,1 12,1 8,9 5,20 | 3,10 8,10 13,9",
        "1,4 1,1 1,1 6,1 12,0 12,0 9,8 7,20",
        "0,3 4,1 10,1 12,4 9,11 6,20",
        "0,6 2,2 7,3 12,0 12,0 9,9 5,20",
        "1,5 2,1 8,1 12,3 11,9 9,14 8,20",
        "0,1 8,2 15,1 15,1 10,8 7,14 6,20 | 4,11 9,10 15,11",
        "0,3 5,2 10,0 10,0 8,10 8,20",
        "0,4 6,2 14,1 16,3 11,10 4,20",
    ),
    (  # 8: begun at the top right; in the middle; two circles; open at the top; slim
        "11,2 6,0 2,3 5,8 10,12 11,17 6,20 1,17 3,12 9,8 12,3 9,1",
        "12,2 7,0 3,3 5,8 9,13 9,18 5,20 2,17 4,12 9,7 12,2",
        "7,9 2,6 3,1 8,0 12,3 10,8 7,9 2,13 2,18 7,20 12,17 11,12 7,9",
        "12,2 6,0 2,4 6,9 11,14 8,20 3,18 4,13 9,8 14,3",
        "9,1 6,0 4,3 6,8 9,13 9,18 6,20 4,17 6,12 9,7 10,3 8,0",
        "14,2 9,1 4,3 6,8 9,12 8,18 4,20 1,17 4,12 10,8 14,3 12,1",
        "8,1 3,3 4,8 10,11 14,15 10,19 4,19 1,15 5,11 10,8 12,3 8,1",
        "10,4 8,0 4,1 3,5 7,10 12,15 9,20 3,19 2,14 7,10 10,5",
        "15,0 8,2 3,4 7,8 10,13 6,19 2,18 3,13 9,8 16,2",
    ),
    (  # 9: straight stem; hooked; curved; a round head, or a small or an open one
        "11,2 6,0 1,4 2,9 7,9 11,3 11,3 10,9 9,15 9,20",
        "11,3 7,0 2,3 2,8 6,10 11,6 11,3 11,9 9,16 4,20 1,18",
        "12,1 6,0 1,5 3,9 8,8 11,2 11,2 9,10 5,20",
        "11,6 10,1 5,0 1,4 4,9 9,7 11,4 11,10 10,15 9,20",
        "11,3 8,0 4,2 3,6 6,8 10,5 11,2 11,8 9,14 8,20",
        "10,1 4,2 1,6 3,9 8,7 12,2 12,2 10,10 6,20",
        "9,1 3,1 1,6 5,9 10,8 11,3 8,0 12,5 12,12 11,20",
        "10,0 5,2 2,7 5,10 10,8 | 12,1 11,8 10,14 9,20",
        "10,4 8,0 4,1 3,5 7,7 10,4 10,10 9,16 6,20 2,20",
    ),
)

# How hands differ. Each number was chosen by how many of MNIST's first 20,000 training images a
# 784-128-10 network reads that has seen generated digits only: 94.2 %. "Spread" is a standard
# deviation; units are those of the skeletons.
SLANT, SLANT_SPREAD = 0.15, 0.25  # units to the right for each unit up; SLANT 0.25: 93.9 %
TURN_SPREAD = 0.12  # radians
WIDTH_SPREAD = 0.2  # of the logarithm of the width
BEND_SPREAD = 0.7  # units at the edge of a skeleton: the whole digit bends smoothly
WOBBLE_SPREAD = 1.4  # units: each point of a skeleton moves by itself; 1.0: 93.2 %

# Pens, in pixels of the canvas from the middle of a line to its edge.
PEN, PEN_SPREAD = 1.9, 0.28  # the usual one; spread of the logarithm
FINEST, BROADEST = 1, 3.5  # a finer pen leaves dots and grey paper, a broader one blots

CANVAS, INK = 34, 30  # pixels: the picture before placing, and the longer side of its ink
LEVEL = 0.4  # the edge of a line is where ink falls to this share of the ink on its middle
PIECES = 64  # straight pieces in a digit's curves together: about 1.2 pixels each
BLOCK = 256  # digits drawn together: few enough for the cache, and NumPy's overhead is small


class Shapes(NamedTuple):
    """All skeletons as arrays, so that a block of mixed digits is one product of matrices."""

    first: NDArray[np.int64]  # (11,): the forms of digit d are first[d] to first[d + 1]
    points: Floats  # (forms, points, 2): the pen's points, zeros after the last
    middles: Floats  # (forms, PIECES, points): points to the middles of the pieces
    steps: Floats  # (forms, PIECES, points): points to the pieces as vectors


def draw(
    count: int, seed: int = 0, *, threads: int | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw digits as people write them.

    Parameters
    ----------
    count : int
        How many digits, 0 or more.
    seed : int
        Key of the random numbers, 0 to 2**63 - 1. Digit i depends on the seed and on i alone, on
        x86 and ARM alike: a pixel could differ only if it were within 1e-11 grey levels of the
        middle between two, which is unlikely even in 60,000 digits.
    threads : int, optional
        By default one for each processor.

    Returns
    -------
    images : (count, 28, 28) uint8
        Bright ink on 0, placed as MNIST's digits are.
    labels : (count,) uint8
        The digit that each image shows; all ten are equally likely.

    Raises
    ------
    TypeError, ValueError
        If an argument is not a whole number or is out of its range.
    """
    count = checks.whole("count", count, 0)
    seed = checks.whole("seed", seed, 0, 2**63 - 1)
    images = np.empty((count, FRAME, FRAME), np.uint8)
    labels = np.empty(count, np.uint8)

    def draw_block(start: int) -> None:
        part = slice(start, start + BLOCK)  # of the last block only as much as is wanted
        drawn, shown = _block(seed, start // BLOCK)
        images[part], labels[part] = drawn[: count - start], shown[: count - start]

    # NumPy lets other threads work: two are 1.9 times as fast. More than there are processors
    # would only keep other processes from working.
    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        list(pool.map(draw_block, range(0, count, BLOCK)))
    return images, labels


def _block(seed: int, number: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Block `number` of the digits of a seed, always whole: so no bit depends on the count."""
    random = np.random.Generator(np.random.Philox(key=[seed, number]))
    shapes = _shapes()
    labels = random.integers(len(SKELETONS), size=BLOCK)
    forms = random.integers(shapes.first[labels], shapes.first[labels + 1])
    points = _moved(shapes.points[forms], random)
    middles, steps = shapes.middles[forms] @ points, shapes.steps[forms] @ points
    pens = PEN * np.exp(PEN_SPREAD * _normal(random, BLOCK, 1, 1))
    ink = _inked(middles, steps, np.clip(pens, FINEST, BROADEST))
    return place(ink), labels.astype(np.uint8)


def _normal(random: np.random.Generator, *shape: int) -> Floats:
    return random.standard_normal(shape, np.float32).astype(np.float64)


def _moved(points: Floats, random: np.random.Generator) -> Floats:
    """Move the points (n, points, 2) of skeletons as another hand would have set them."""
    count = len(points)
    offset = points - np.array([7, 10])  # from the middle of a skeleton
    u, v = offset[..., 0] / 8, offset[..., 1] / 10  # about -1 to 1
    bends = np.stack([u, u * u, u * v, v * v, v * v * v], axis=2)
    offset += bends @ (BEND_SPREAD * _normal(random, count, 5, 2))
    offset += WOBBLE_SPREAD * _normal(random, *offset.shape)
    moved: Floats = offset @ _hand(_normal(random, 3, count))
    return moved


def _hand(normal: Floats) -> Floats:
    """Matrices (n, 2, 2) that widen, slant and turn rows (x, y), from (3, n) normal numbers."""
    width = np.exp(WIDTH_SPREAD * normal[0])
    slant = SLANT + SLANT_SPREAD * normal[1]
    cos, sin = np.cos(TURN_SPREAD * normal[2]), np.sin(TURN_SPREAD * normal[2])
    x = width * np.stack([cos, sin])
    y = np.stack([-slant * cos - sin, -slant * sin + cos])
    return np.stack([x, y]).transpose(2, 0, 1)


def _inked(middles: Floats, steps: Floats, pens: Floats) -> NDArray[np.uint8]:
    """Draw the pieces of n digits with pens of those radii: pictures (n, CANVAS, CANVAS).

    Every piece of a line leaves a round spot of ink whose density is a normal distribution. So the
    ink is a sum of products of one factor along x and one along y: a product of matrices.
    """
    low, high = middles.min(axis=1, keepdims=True), middles.max(axis=1, keepdims=True)
    scale = (INK - 2 * pens) / (high - low).max(axis=2, keepdims=True)
    middles = (middles - (low + high) / 2) * scale + CANVAS / 2
    lengths = np.linalg.norm(steps, axis=2, keepdims=True) * scale

    edge = np.sqrt(-2 * np.log(LEVEL))  # where a normal curve falls to LEVEL
    sigma = pens / edge
    pixels = np.arange(CANVAS) + 0.5
    across = np.exp(-np.square((pixels - middles[..., :1]) / sigma) / 2)
    down = np.exp(-np.square((pixels - middles[..., 1:]) / sigma) / 2)
    down *= lengths / (sigma * np.sqrt(2 * np.pi))  # so a long line has ink 1 within
    ink = down.transpose(0, 2, 1) @ across
    # At a line's edge the ink falls by LEVEL * edge / sigma a pixel: within one, white turns black.
    light = 0.5 + (ink - LEVEL) * (sigma / (LEVEL * edge))
    grey: NDArray[np.uint8] = (np.clip(light, 0, 1) * 255 + 0.5).astype(np.uint8)
    return grey


@cache
def _shapes() -> Shapes:
    forms = [_form(text) for digit in SKELETONS for text in digit]
    most = max(len(points) for points, _, _ in forms)
    points = np.zeros((len(forms), most, 2))
    middles = np.zeros((len(forms), PIECES, most))
    steps = np.zeros((len(forms), PIECES, most))
    for i, (own, middle, step) in enumerate(forms):
        points[i, : len(own)] = own
        middles[i, :, : len(own)] = middle
        steps[i, :, : len(own)] = step
    first = np.cumsum([0] + [len(digit) for digit in SKELETONS])
    return Shapes(first, points, middles, steps)


def _form(text: str) -> tuple[Floats, Floats, Floats]:
    """Points (k, 2) of a skeleton, middles (PIECES, k) and steps (PIECES, k) of its curves."""
    strokes = [stroke.split() for stroke in text.split("|")]
    names = list(dict.fromkeys(point for stroke in strokes for point in stroke))
    points = np.array([name.split(",") for name in names], np.float64)
    chosen = np.eye(len(names))
    curves = [_curve(chosen[[names.index(point) for point in stroke]]) for stroke in strokes]
    lengths = [_along(curve @ points) for curve in curves]
    nodes = [
        _even(curve, length, pieces)
        for curve, length, pieces in zip(
            curves, lengths, _shares([length[-1] for length in lengths]), strict=True
        )
    ]
    middles = np.vstack([(node[1:] + node[:-1]) / 2 for node in nodes])
    return points, middles, np.vstack([np.diff(node, axis=0) for node in nodes])


def _curve(points: Floats) -> Floats:
    """64 nodes for each stretch of a Catmull-Rom spline through (k, m) points, and the last point.

    References
    ----------
    E. Catmull and R. Rom, "A class of local interpolating splines", 1974.
    """
    ends = 2 * points[:1] - points[1:2], 2 * points[-1:] - points[-2:-1]
    p = np.vstack([ends[0], points, ends[1]])[:, None]
    p0, p1, p2, p3 = p[:-3], p[1:-2], p[2:-1], p[3:]
    t = np.arange(0, 1, 1 / 64)[:, None]
    curve = p1 + 0.5 * t * (
        (p2 - p0) + t * (2 * p0 - 5 * p1 + 4 * p2 - p3 + t * (3 * p1 - p0 - 3 * p2 + p3))
    )
    return np.vstack([curve.reshape(-1, points.shape[1]), points[-1:]])


def _along(nodes: Floats) -> Floats:
    """The length of a line of (k, 2) nodes up to each of them."""
    return np.concatenate([[0], np.linalg.norm(np.diff(nodes, axis=0), axis=1).cumsum()])


def _shares(lengths: list[float]) -> list[int]:
    """How many of all PIECES each stroke gets: at least one, and in proportion to its length."""
    pieces = [max(1, int(PIECES * length / sum(lengths))) for length in lengths]
    pieces[int(np.argmax(lengths))] += PIECES - sum(pieces)
    return pieces


def _even(curve: Floats, along: Floats, pieces: int) -> Floats:
    """The nodes that divide a curve of (k, m) nodes into pieces of one length: (pieces + 1, m)."""
    wanted = np.linspace(0, along[-1], pieces + 1)
    return np.stack([np.interp(wanted, along, weight) for weight in curve.T], axis=1)
