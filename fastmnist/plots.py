"""Pictures of data, predictions, weights and training, drawn with Matplotlib.

Every function draws into the Axes it is given, or into those of a figure of its own, and returns
them; ``ax.figure`` is the figure, to be shown or saved. Figures are made without pyplot, so nothing
needs a display and nothing is left open. A grid of images is best drawn in a figure of its own: it
has the size that makes captions legible.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

try:
    from matplotlib.axes import Axes
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator
except ImportError as error:
    raise ImportError(
        'drawing pictures needs Matplotlib: pip install "fastmnist[plots]"', name="matplotlib"
    ) from error

from fastmnist import reference

if TYPE_CHECKING:
    from fastmnist.augment import Augmentation
    from fastmnist.datasets import Dataset
    from fastmnist.history import Epoch
    from fastmnist.model import MLP

INK, GREY, RULE = "#20242c", "#6b7280", "#cfd3da"
ACCENT, BLUE = "#d55e00", "#0072b2"  # told apart with every kind of colour vision (Okabe, Ito)
_SIGNED = LinearSegmentedColormap.from_list("signed", [BLUE, "#ffffff", ACCENT])
_COUNTS = LinearSegmentedColormap.from_list("counts", ["#ffffff", ACCENT])
_DPI = 160


def digits(
    images: ArrayLike,
    captions: Sequence[str] | None = None,
    *,
    marked: ArrayLike | None = None,
    columns: int | None = None,
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """A grid of images, row by row, each pixel a crisp square.

    Parameters
    ----------
    images : array_like of shape (n, height, width) or (n, side * side)
        Bright on dark, as in MNIST; drawn as ink on paper.
    captions : sequence of str, optional
        One for each image, of one line or more.
    marked : array_like of bool, shape (n,), optional
        Images to be set off by a heavy frame and a bold caption.
    columns : int, optional
        Images in a row; as many as make a wide rectangle by default.
    title : str
        Written above the grid.
    ax : matplotlib Axes, optional
        Where to draw; in a figure of its own (``ax.figure``) by default.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If there is no image, or features are not the pixels of a square.
    """
    pictures = as_images(images)
    return _Grid(pictures, captions, marked, columns or _wide(len(pictures)), title).draw(ax)


def data(dataset: Dataset, *, count: int = 40, ax: Axes | None = None) -> Axes:
    """The first images of a dataset, captioned with their labels where it has labels."""
    shown = dataset[:count]
    captions = None
    if shown.labels is not None:
        captions = [f"Label: {_class(dataset, label)}" for label in shown.labels]
    title = f"{dataset.name}: the first {len(shown)} of {len(dataset):,} images"
    return digits(shown.images, captions, columns=8, title=title, ax=ax)


def predictions(
    dataset: Dataset, predicted: ArrayLike, *, count: int = 32, ax: Axes | None = None
) -> Axes:
    """Images captioned with prediction and label: the first ones, then mistakes, marked.

    Parameters
    ----------
    dataset : Dataset
        Images with labels.
    predicted : array_like of int, shape (n,), or of float, shape (n, classes)
        The class predicted for each image; or probabilities, and then the largest is shown.
    count : int
        Images shown in all; a quarter of them are mistakes, as far as there are any.

    Returns
    -------
    matplotlib.axes.Axes
    """
    return _judged(dataset, np.asarray(predicted), count, columns=8).draw(ax)


def mistakes(
    dataset: Dataset, probabilities: ArrayLike, worst: ArrayLike, *, ax: Axes | None = None
) -> Axes:
    """Images that are misread, captioned with label, prediction and its probability.

    Parameters
    ----------
    dataset : Dataset
        Images with labels.
    probabilities : array_like of shape (n, classes)
        As `fastmnist.MLP.predict_proba` gives them for the dataset.
    worst : array_like of int
        Which to draw, in this order; such as ``evaluate(...).worst``.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If there is none.
    """
    places, P = np.asarray(worst, int), np.asarray(probabilities)
    labels = cast("NDArray[Any]", dataset.labels)
    captions = [
        f"{_class(dataset, labels[i])}, read as\n{_class(dataset, P[i].argmax())}: {P[i].max():.1%}"
        for i in places
    ]
    title = f"{dataset.name}: what the network is most wrong about"
    return digits(dataset.images[places], captions, columns=8, title=title, ax=ax)


def augmented(
    dataset: Dataset, augmentation: Augmentation, *, seed: int = 0, ax: Axes | None = None
) -> Axes:
    """A few images, each as it is and as ten epochs of a training would see it."""
    from fastmnist.augment import augmented as distorted

    shown = dataset.images[:8]
    epochs = [distorted(shown, augmentation, seed=seed, epoch=epoch) for epoch in range(10)]
    rows = np.stack([shown, *epochs], axis=1).reshape(-1, *shown.shape[1:])
    first = np.arange(len(rows)) % 11 == 0
    title = f"{dataset.name}: images as they are (framed), and as epochs 1 to 10 see them"
    return digits(rows, marked=first, columns=11, title=title, ax=ax)


def training(dataset: Dataset, predicted: ArrayLike, epochs: Sequence[Epoch]) -> Figure:
    """Test images with their predictions, mistakes marked, beside the training curve."""
    grid = _judged(dataset, np.asarray(predicted), 24, columns=6, least_height=3.6)
    width, height = grid.size
    figure = Figure(figsize=(width + height, height), dpi=_DPI)
    panels = figure.subfigures(1, 2, width_ratios=(width, height))
    left, right = cast("NDArray[Any]", panels)
    grid.draw(left.add_axes((0, 0, 1, 1)))
    bottom, top = 0.55 / height, grid.top / height
    history(epochs, ax=right.add_axes((0.15, bottom, 0.79, top - bottom)))
    return figure


def history(epochs: Sequence[Epoch], *, ax: Axes | None = None) -> Axes:
    """Loss after each epoch, of the training and (where measured) of the validation samples.

    Parameters
    ----------
    epochs : History or sequence of Epoch
        What `fit` returned.
    ax : matplotlib Axes, optional
        Where to draw; in a figure of its own (``ax.figure``) by default.

    Raises
    ------
    ValueError
        If there is no epoch.
    """
    if not epochs:
        raise ValueError("there is no epoch to draw: the history is empty")
    ax = ax or _axes((6.4, 4.4))
    numbers = np.arange(1, len(epochs) + 1)
    marker = "o" if len(epochs) <= 30 else ""
    style: dict[str, Any] = {"marker": marker, "markersize": 4}
    ax.plot(numbers, [epoch.loss for epoch in epochs], color=INK, label="training", **style)
    validation = [epoch.validation_loss for epoch in epochs if epoch.validation_loss is not None]
    if len(validation) == len(epochs):
        ax.plot(numbers, validation, "--", color=BLUE, label="validation", **style)
        ax.legend(edgecolor="none", framealpha=1)
    ax.set_ylim(bottom=0)
    if len(epochs) == 1:
        ax.set_xlim(0, 2)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("Epoch")
    ax.set_ylabel("Loss (nats per image)")
    ax.grid(axis="y", color=RULE, linewidth=0.6)
    _heading(ax, "Training curve")
    return _quiet(ax)


def weights(model: MLP, *, ax: Axes | None = None) -> Axes:
    """The first layer's weights, one image for each unit: what makes it fire, what silences it.

    Raises
    ------
    ValueError
        If the inputs are not the pixels of a square.
    """
    pictures = as_images(model.params[0][0].T)
    captions = [str(unit) for unit in range(len(pictures))] if len(model.sizes) == 2 else None
    limit = float(np.quantile(np.abs(pictures), 0.999))
    grid = _Grid(
        pictures,
        captions,
        None,
        _wide(len(pictures)),
        f"Weights of the {len(pictures)} units of the first layer (up to {limit:.2f})\n"
        "vermilion: ink here speaks for the unit; blue: against it",
    )
    return grid.draw(ax, cmap=_SIGNED, vmin=-limit, vmax=limit)


def saliency(dataset: Dataset, model: MLP, *, count: int = 12, ax: Axes | None = None) -> Axes:
    """What speaks for the prediction: the first images, each above its gradient.

    Parameters
    ----------
    dataset : Dataset
        Images, of any size that fits the network.
    model : MLP
    count : int
        Images shown.

    Returns
    -------
    matplotlib.axes.Axes
    """
    shown = dataset.images[:count]
    predicted = model.predict(shown)
    gradients = reference.input_gradients(model.params, shown, predicted)
    maps = as_images(gradients).astype(np.float32)
    maps /= np.abs(maps).max(axis=(1, 2), keepdims=True)  # each to its own largest
    inked = as_images(shown).astype(np.float32) / (255 if shown.dtype == np.uint8 else 1)
    columns = min(6, len(inked))
    rows, captions = [], []
    for first in range(0, len(inked), columns):
        part = slice(first, first + columns)
        padding = [np.zeros_like(inked[0])] * (columns - len(inked[part]))
        rows += [*inked[part], *padding, *maps[part], *padding]
        names = [f"Read as: {_class(dataset, c)}" for c in predicted[part]]
        captions += [*names, *[""] * len(padding), *[""] * columns]
    title = (
        f"{dataset.name}: images, and what speaks for what is read in them\n"
        "vermilion: more ink here would speak for it; blue: against it"
    )
    grid = _Grid(np.array(rows), captions, None, columns, title)
    return grid.draw(ax, cmap=_SIGNED, vmin=-1, vmax=1)


def confusion(
    matrix: ArrayLike, class_names: Sequence[str] | None = None, *, ax: Axes | None = None
) -> Axes:
    """How often each class was taken for each other one; the mistakes are coloured.

    Parameters
    ----------
    matrix : array_like of int, shape (C, C)
        Rows are true labels, columns predictions, as in `Report.confusion`.
    class_names : sequence of str, optional
        Names of the classes; their numbers by default.
    ax : matplotlib Axes, optional
        Where to draw; in a figure of its own (``ax.figure``) by default.
    """
    counts = np.asarray(matrix)
    classes = len(counts)
    names = list(class_names or map(str, range(classes)))
    longest = max(map(len, names))
    side = max(3.6, 0.5 * classes) + 1.4 + 0.1 * longest  # inches; the title needs the first 3.6
    ax = ax or _axes((side, side))
    mistakes = np.where(np.eye(classes, dtype=bool), 0, counts)
    ax.imshow(mistakes, cmap=_COUNTS, vmin=0, vmax=max(1, mistakes.max()))
    for row, column in np.argwhere(counts):
        on_diagonal = row == column
        ax.text(
            column,
            row,
            f"{counts[row, column]}",
            ha="center",
            va="center",
            fontsize=8,
            color=GREY if on_diagonal else INK,
        )
    slanted = 0 if longest <= 2 else 45
    ax.set_xticks(range(classes), names, rotation=slanted, ha="right" if slanted else "center")
    ax.set_yticks(range(classes), names)
    ax.set_xlabel("Prediction")
    ax.set_ylabel("Label")
    share = np.trace(counts) / max(1, counts.sum())
    _heading(ax, f"{100 * share:.2f} % of {counts.sum():,} read right; mistakes coloured")
    return _quiet(ax)


def as_images(rows: ArrayLike) -> NDArray[np.generic]:
    """Images of shape (n, height, width); rows of features are taken as square images."""
    images = np.asarray(rows)
    if not images.size:
        raise ValueError("there is no image to draw")
    if images.ndim == 3:
        return images
    side = math.isqrt(images.shape[-1])
    if images.ndim != 2 or side * side != images.shape[1]:
        raise ValueError(f"features of shape {images.shape} are not square images to be drawn")
    return images.reshape(-1, side, side)


@dataclass
class _Grid:
    """Images in rows and columns, measured in inches so that every grid looks alike."""

    pictures: NDArray[np.generic]
    captions: Sequence[str] | None
    marked: ArrayLike | None
    columns: int
    title: str
    least_height: float = 0.0

    SIDE, GAP, MARGIN = 0.9, 0.18, 0.32
    FONT, LINE, LETTER = 8.5, 0.15, 0.069  # points; a line and an average bold letter in inches
    TITLE_FONT, TITLE_LINE, TITLE_LETTER = 11, 0.22, 0.085

    def __post_init__(self) -> None:
        self.columns = min(self.columns, len(self.pictures))
        captions = self.captions or [""]
        below = max(len(caption.splitlines()) for caption in captions)
        self.across = max(self.SIDE, self.LETTER * max(map(_longest, captions))) + self.GAP
        self.down = self.SIDE + self.GAP + below * self.LINE
        head = self.TITLE_LINE * len(self.title.splitlines()) + (0.12 if self.title else 0)
        rows = -(-len(self.pictures) // self.columns)
        width = max(self.columns * self.across - self.GAP, self.TITLE_LETTER * _longest(self.title))
        height = rows * self.down - self.GAP + head
        self.size = (width + 2 * self.MARGIN, max(height + 2 * self.MARGIN, self.least_height))
        self.top = self.size[1] - self.MARGIN - head

    def draw(self, ax: Axes | None = None, **style: Any) -> Axes:
        """Fill `ax`, or those of a new figure of `size` inches."""
        width, height = self.size
        if ax is None:
            ax = Figure(figsize=self.size, dpi=_DPI).add_axes((0, 0, 1, 1))
        ax.set_axis_off()
        if self.pictures.dtype == np.uint8:  # else each picture is stretched to its own range
            style = {"vmin": 0, "vmax": 255} | style
        style = {"cmap": "gray_r"} | style
        heavy = [False] * len(self.pictures) if self.marked is None else np.asarray(self.marked)
        ax.text(
            self.MARGIN / width,
            1 - self.MARGIN / height,
            self.title,
            transform=ax.transAxes,
            va="top",
            fontsize=self.TITLE_FONT,
            color=INK,
            linespacing=1.4,
        )
        for index, picture in enumerate(self.pictures):
            row, column = divmod(index, self.columns)
            left = self.MARGIN + column * self.across
            bottom = self.top - self.SIDE - row * self.down
            cell = ax.inset_axes(
                (left / width, bottom / height, self.SIDE / width, self.SIDE / height)
            )
            cell.imshow(picture, interpolation="nearest", **style)
            cell.set(xticks=[], yticks=[])
            cell.spines[:].set(color=ACCENT if heavy[index] else RULE)
            cell.spines[:].set(linewidth=2.5 if heavy[index] else 0.8)
            if self.captions:
                cell.text(
                    0,
                    -0.07,
                    self.captions[index],
                    transform=cell.transAxes,
                    va="top",
                    fontsize=self.FONT,
                    color=ACCENT if heavy[index] else INK,
                    weight="bold" if heavy[index] else "normal",
                )
        return ax


def _judged(
    dataset: Dataset,
    predicted: NDArray[Any],
    count: int,
    columns: int,
    least_height: float = 0.0,
) -> _Grid:
    """The first images, then the first mistakes among the others."""
    if dataset.labels is None:
        raise ValueError(f"{dataset.name} has no labels to compare with")
    sure = [""] * len(predicted)
    if predicted.ndim == 2:
        sure = [f" ({share:.0%})" for share in predicted.max(axis=1)]
        predicted = predicted.argmax(axis=1)
    wrong = predicted != dataset.labels
    later = np.flatnonzero(wrong)
    later = later[later >= count - count // 4][: count // 4]
    chosen = np.concatenate([np.arange(min(count - len(later), len(dataset))), later])
    captions = [
        f"Prediction: {_class(dataset, predicted[i])}{sure[i]}\n"
        f"Label: {_class(dataset, dataset.labels[i])}"
        for i in chosen
    ]
    title = f"{dataset.name}: {100 * np.mean(~wrong):.2f} % of {len(dataset):,} images read right"
    if len(later):
        title += f"; the last {len(later)} shown are mistakes"
    pictures = as_images(dataset[chosen].images)
    return _Grid(pictures, captions, wrong[chosen], columns, title, least_height)


def _longest(text: str) -> int:
    return max(map(len, text.splitlines()), default=0)


def _wide(count: int) -> int:
    """Columns of a wide rectangle, the last row as full as can be."""
    fewest, most = math.ceil(math.sqrt(count)), math.ceil(math.sqrt(2.5 * count))
    return min(range(fewest, most + 1), key=lambda columns: -count % columns)


def _class(dataset: Dataset, label: int) -> str:
    names = dataset.class_names
    return names[label] if label < len(names) else str(label)


def _axes(size: tuple[float, float]) -> Axes:
    return Figure(figsize=size, dpi=_DPI, layout="tight").add_subplot()


def _heading(ax: Axes, text: str) -> None:
    ax.set_title(text, loc="left", fontsize=11, color=INK, pad=13)  # as high as a grid's title


def _quiet(ax: Axes) -> Axes:
    """Leave no line or tick in the picture that carries no meaning."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(RULE)
    ax.tick_params(colors=GREY, length=0)
    ax.xaxis.label.set_color(INK)
    ax.yaxis.label.set_color(INK)
    return ax
