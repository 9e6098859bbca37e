"""Pictures of several digits, some of them hard: ``python -m benchmarks.photos``.

Lines of MNIST's test digits, drawn as photos and then spoilt. Prints, for each kind, in how many
pictures all digits were found, and how many of those were read right, in the right order.
"""

from __future__ import annotations

import argparse
import io
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import fastmnist as fm
from benchmarks import workloads
from fastmnist.pictures import read_digits
from fastmnist.recipes import RECIPES

Generator = np.random.Generator
DIGITS = 5  # in a picture


def sheet(
    rows: list[list[np.ndarray]],
    rng: Generator,
    *,
    ink: tuple[int, int, int] = (40, 50, 90),
    paper: tuple[int, int, int] = (215, 205, 190),
) -> Image.Image:
    """A photo of digits in lines, each somewhere about its place: uneven light, noise."""
    height, width = 130 * len(rows) + 60, 110 * max(map(len, rows)) + 60
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    plane = np.zeros((height, width), np.float32)
    for line, digits in enumerate(rows):
        for column, digit in enumerate(digits):
            side = int(rng.integers(84, 100))
            top = 30 + 130 * line + int(rng.integers(0, 25))
            left = 30 + 110 * column + int(rng.integers(0, 8))
            large = Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC)
            there = plane[top : top + side, left : left + side]
            np.maximum(there, np.asarray(large, np.float32) / 255, out=there)
    mixed = plane[..., None] * np.array(ink) + (1 - plane[..., None]) * np.array(paper)
    mixed *= (0.75 + 0.25 * (x + y) / 2)[..., None]
    return _image(mixed + rng.normal(0, 4, mixed.shape))


def _image(levels: np.ndarray) -> Image.Image:
    return Image.fromarray(np.clip(levels, 0, 255).astype(np.uint8))


def faint(picture: Image.Image, rng: Generator) -> Image.Image:
    levels = np.asarray(picture, float)
    return _image(200 + 0.18 * (levels - levels.mean()) + rng.normal(0, 3, levels.shape))


def poor_jpeg(picture: Image.Image, rng: Generator) -> Image.Image:
    content = io.BytesIO()
    picture.save(content, format="JPEG", quality=15)
    return Image.open(content)


def inverted(picture: Image.Image, rng: Generator) -> Image.Image:
    return _image(255 - np.asarray(picture, float))


def shadow(picture: Image.Image, rng: Generator) -> Image.Image:
    levels = np.asarray(picture, float).copy()
    levels[:, : levels.shape[1] // 2] *= 0.55
    return _image(levels)


def ruled(picture: Image.Image, rng: Generator) -> Image.Image:
    lines = ImageDraw.Draw(picture)
    for y in range(10, picture.height, 24):
        lines.line((0, y, picture.width, y), fill=(120, 150, 200), width=1)
    return picture


def turned(picture: Image.Image, rng: Generator) -> Image.Image:
    return picture.rotate(12, expand=True, fillcolor=(190, 180, 165))


KINDS: dict[str, Callable[[Image.Image, Generator], Image.Image]] = {
    "uneven light, coloured ink and paper, noise": lambda picture, rng: picture,
    "the same, as faint as pencil": faint,
    "the same, as a poor JPEG": poor_jpeg,
    "the same, inverted": inverted,
    "the same, half of it in a hard shadow": shadow,
    "the same, on ruled paper": ruled,
    "the same, turned by 12 degrees": turned,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--pictures", type=int, default=40, help="of each kind (default: 40)")
    pictures = parser.parse_args().pictures
    train, test = workloads.data()
    model = RECIPES["default"].model(train)
    RECIPES["default"].fit(model, train)
    print(f"{pictures} pictures of {DIGITS} test digits each ({workloads.data_name()}).")
    print()
    print("| picture | all digits found in | of those, digits read right |")
    print("|---|---|---|")
    for name, spoil in KINDS.items():
        found, right = score(model, test, spoil, pictures)
        of_those = f"{100 * right / (DIGITS * found):.0f} %" if found else ""
        print(f"| {name} | {found} | {of_those} |", flush=True)


def score(
    model: fm.MLP,
    test: fm.Dataset,
    spoil: Callable[[Image.Image, Generator], Image.Image],
    pictures: int,
) -> tuple[int, int]:
    """In how many pictures all digits were found, and how many digits of those were read right."""
    found = right = 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "photo.png")
        for seed in range(pictures):
            rng = np.random.default_rng(seed)
            chosen = rng.integers(0, len(test), DIGITS)
            spoil(sheet([[test.images[i] for i in chosen]], rng), rng).save(path)
            try:
                digits = read_digits(path)
            except fm.DataError:
                continue
            if len(digits) == DIGITS:
                found += 1
                read = model.predict(np.array([digit.image for digit in digits]))
                right += int((read == test.labels[chosen]).sum())
    return found, right


if __name__ == "__main__":
    main()
