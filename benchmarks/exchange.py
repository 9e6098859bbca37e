"""How well other tools agree with the reference in float64: ``python -m benchmarks.exchange``.

A network trained by the quick recipe, exported, and run on the test images by whatever is installed
of ONNX Runtime, PyTorch and Chromium. Prints the largest difference of probabilities.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

import fastmnist as fm
from benchmarks import workloads
from benchmarks.conditions import machine
from fastmnist import reference
from fastmnist.page import page
from fastmnist.recipes import RECIPES


def main() -> None:
    train, test = workloads.data()
    model = RECIPES["quick"].model(train)
    RECIPES["quick"].fit(model, train)
    exact = [(W.astype(np.float64), b.astype(np.float64)) for W, b in model.params]
    wanted = reference.forward(exact, test.images)
    print(
        f"Largest difference of a probability, {len(test):,} images ({workloads.data_name()}). "
        f"{machine('onnxruntime', 'torch', 'playwright')}"
    )
    print()
    print("| | largest difference | in rounding steps of 1 |")
    print("|---|---|---|")
    eps = np.finfo(np.float32).eps
    for name, run in RUNNERS.items():
        try:
            difference = np.abs(run(model, test.images) - wanted).max()
        except ImportError as error:
            print(f"| {name} | not installed: {error.name} | |")
            continue
        print(f"| {name} | {difference:.1e} | {difference / eps:.1f} |", flush=True)


def kernels(model: fm.MLP, images: np.ndarray) -> np.ndarray:
    return model.predict_proba(images)


def onnx_runtime(model: fm.MLP, images: np.ndarray) -> np.ndarray:
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder, "model.onnx"))
        session = onnxruntime.InferenceSession(Path(folder, "model.onnx"))
        return session.run(None, {"images": images})[0]


def pytorch(model: fm.MLP, images: np.ndarray) -> np.ndarray:
    import torch
    from safetensors.torch import load

    from fastmnist.exchange import to_safetensors

    layers: list[torch.nn.Module] = []
    for W, _ in model.params:
        layers += [torch.nn.Linear(*W.shape), torch.nn.ReLU()]
    network = torch.nn.Sequential(*layers[:-1])
    network.load_state_dict(load(to_safetensors(model.params)))
    with torch.no_grad():
        rows = torch.from_numpy(images.reshape(len(images), -1) / np.float32(255))
        return network(rows).softmax(dim=1).numpy()


def browser(model: fm.MLP, images: np.ndarray) -> np.ndarray:
    from playwright.sync_api import sync_playwright

    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
    if path is None:
        raise ImportError("no browser", name="chromium")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        tab = started.new_page()
        tab.set_content(page(model))
        rows = images.reshape(len(images), -1)
        blocks = [rows[i : i + 500].tolist() for i in range(0, len(rows), 500)]
        found = [tab.evaluate("rows => rows.map(probabilities)", block) for block in blocks]
        started.close()
    return np.concatenate(found)


RUNNERS: dict[str, Callable[[fm.MLP, np.ndarray], np.ndarray]] = {
    "kernels": kernels,
    "ONNX Runtime, from .onnx": onnx_runtime,
    "PyTorch, from .safetensors": pytorch,
    "Chromium, from .html": browser,
}


if __name__ == "__main__":
    main()
