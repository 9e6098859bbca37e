"""What commands tell of a trained network: in words, and in a picture beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmnist import datasets
from fastmnist.cli.files import class_name, record_of, write_picture
from fastmnist.history import History
from fastmnist.metrics import Report
from fastmnist.model import MLP
from fastmnist.records import Record
from fastmnist.terminal import say


def save_result(
    network: MLP,
    record: Record,
    report: Report,
    test: datasets.Dataset,
    output: Path,
    *,
    backend: str,
    threads: int | None = None,
    as_json: bool,
    **more: Any,
) -> None:
    """Save a network with its record and its picture, and print what it can do.

    `more` is printed, too, where that is JSON.
    """
    if report.accuracy <= report.confusion.sum(axis=1).max() / len(test):
        say(
            "the network reads no more than guessing would: try a lower --learning-rate, above all "
            "for images whose background is not 0"
        )
    network.save(output)
    record.save(record_of(output))
    history = History(record.epochs)
    predicted = network.predict(test.images, backend=backend, threads=threads)
    picture = draw_result(predicted, test, history, output.with_suffix(".png"))
    if as_json:
        saved = {"model": str(output), "picture": picture and str(picture)}
        print(json.dumps(record.as_dict() | saved | more))
        return
    print_report(report, test)
    print(f"Trained for {record.train_seconds:.2f} s")
    print(f"Model: {output}")
    if picture:
        print(f"Picture: {picture}")


def draw_result(
    predicted: NDArray[np.int64], test: datasets.Dataset, history: History, path: Path
) -> Path | None:
    """The picture of a training; None, and how to get one, without Matplotlib."""
    try:
        from fastmnist import plots
    except ImportError as error:
        say(f"no picture: {error}")
        return None
    write_picture(plots.training(test, predicted, history), path)
    return path


def draw_mistakes(
    network: MLP, test: datasets.Dataset, report: Report, path: Path, backend: str
) -> Path | None:
    """The picture of the worst mistakes; None without any, or without Matplotlib."""
    if not len(report.worst):
        return None
    try:
        from fastmnist import plots
    except ImportError as error:
        say(f"no picture: {error}")
        return None
    probabilities = network.predict_proba(test.images, backend=backend)
    write_picture(plots.mistakes(test, probabilities, report.worst), path)
    return path


def print_report(report: Report, test: datasets.Dataset) -> None:
    """What the network read of the test images, and what it confused."""
    wrong = len(test) - int(report.confusion.trace())
    print(
        f"Test accuracy: {percent(report.accuracy)} on {test.name}, "
        f"{wrong:,} of {len(test):,} misread; loss {report.loss:.4f}, "
        f"calibration error {percent(report.calibration_error, 1)}"
    )
    confused = [
        f"{class_name(test.class_names, y)} taken for {class_name(test.class_names, p)} ({count})"
        for y, p, count in report.mistakes()
    ]
    if confused:
        print(f"Confused most: {', '.join(confused)}")


def described(dataset: datasets.Dataset) -> str:
    """A data set in one line."""
    size = " x ".join(map(str, dataset.images.shape[1:]))
    return f"{dataset.name}: {len(dataset):,} images of {size}"


def shape(network: MLP) -> str:
    """Its layers, such as 784-128-10."""
    return "-".join(map(str, network.sizes))


def percent(share: float, digits: int = 2) -> str:
    """A share of 1 as text."""
    return f"{100 * share:.{digits}f} %"
