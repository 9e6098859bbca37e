"""``fastmnist plot``: pictures of data, predictions, weights and training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fastmnist import metrics
from fastmnist.cli.files import check_picture, load_data, record_of, trained_with, write_picture
from fastmnist.cli.options import (
    AUTO,
    DEFAULT_MODEL,
    Backend,
    Data,
    DataDir,
    Model,
    Picture,
    TrainedData,
    augmentation_of,
    known,
)
from fastmnist.model import MLP
from fastmnist.recipes import RECIPES
from fastmnist.records import Record

plot = typer.Typer(
    no_args_is_help=True, help="Draw pictures of data, predictions, weights and training."
)


@plot.command("data")
def plot_data(
    data: Data = AUTO,
    data_dir: DataDir = None,
    output: Picture = Path("fastmnist-data.png"),
) -> None:
    """Draw the first images of a data set with their labels."""
    from fastmnist import plots

    check_picture(output)
    _, split = load_data(data, data_dir)
    write_picture(plots.data(split.train), output)
    print(f"Picture: {output}")


@plot.command("augmented")
def plot_augmented(
    data: Data = AUTO,
    data_dir: DataDir = None,
    recipe: Annotated[
        str,
        typer.Option(
            metavar="NAME", callback=known("recipe", RECIPES), help="Whose distortions to draw."
        ),
    ] = "best",
    augmentation: Annotated[
        str | None, typer.Option(metavar="NAME=X,...", help="Others, as for train.")
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Of the training.")] = 0,
    output: Picture = Path("fastmnist-augmented.png"),
) -> None:
    """Draw images as a training sees them, distorted in each epoch anew."""
    from fastmnist import plots

    wanted = RECIPES[recipe].augmentation
    if augmentation is not None:
        wanted = augmentation_of(augmentation)
    if wanted is None:
        raise typer.BadParameter("there is nothing to distort", param_hint="--recipe")
    check_picture(output)
    _, split = load_data(data, data_dir)
    write_picture(plots.augmented(split.train, wanted, seed=seed), output)
    print(f"Picture: {output}")


@plot.command("predictions")
def plot_predictions(
    model: Model = DEFAULT_MODEL,
    data: TrainedData = None,
    data_dir: DataDir = None,
    backend: Backend = AUTO,
    output: Picture = Path("fastmnist-predictions.png"),
) -> None:
    """Draw test images with what the network reads in them, mistakes marked."""
    from fastmnist import plots

    check_picture(output)
    network = MLP.load(model)
    _, split = load_data(data or trained_with(model), data_dir)
    probabilities = network.predict_proba(split.test.images, backend=backend)
    write_picture(plots.predictions(split.test, probabilities), output)
    print(f"Picture: {output}")


@plot.command("weights")
def plot_weights(
    model: Model = DEFAULT_MODEL, output: Picture = Path("fastmnist-weights.png")
) -> None:
    """Draw the weights of the first layer, an image for each unit."""
    from fastmnist import plots

    check_picture(output)
    write_picture(plots.weights(MLP.load(model)), output)
    print(f"Picture: {output}")


@plot.command("saliency")
def plot_saliency(
    model: Model = DEFAULT_MODEL,
    data: TrainedData = None,
    data_dir: DataDir = None,
    output: Picture = Path("fastmnist-saliency.png"),
) -> None:
    """Draw which pixels of test images speak for what the network reads in them."""
    from fastmnist import plots

    check_picture(output)
    network = MLP.load(model)
    _, split = load_data(data or trained_with(model), data_dir)
    write_picture(plots.saliency(split.test, network), output)
    print(f"Picture: {output}")


@plot.command("confusion")
def plot_confusion(
    model: Model = DEFAULT_MODEL,
    data: TrainedData = None,
    data_dir: DataDir = None,
    backend: Backend = AUTO,
    output: Picture = Path("fastmnist-confusion.png"),
) -> None:
    """Draw how often each class of the test images is taken for each other one."""
    from fastmnist import plots

    check_picture(output)
    network = MLP.load(model)
    _, split = load_data(data or trained_with(model), data_dir)
    report = metrics.evaluate(network, split.test, backend=backend)
    write_picture(plots.confusion(report.confusion, split.test.class_names or None), output)
    print(f"Picture: {output}")


@plot.command("history")
def plot_history(
    model: Model = DEFAULT_MODEL, output: Picture = Path("fastmnist-history.png")
) -> None:
    """Draw the training curve that train has recorded beside the model."""
    from fastmnist import plots

    check_picture(output)
    write_picture(plots.history(Record.load(record_of(model)).epochs), output)
    print(f"Picture: {output}")
