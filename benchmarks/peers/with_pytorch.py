"""PyTorch: training, three ways, and predicting.

To train, data stand in tensors beforehand, as float32 in [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks import THREADS
from benchmarks.peers.problem import RATE, Problem


def usual(problem: Problem) -> Callable[[], float]:
    """As tutorials do it: a Dataset, a DataLoader, modules, an optimiser, loss.item() each step."""
    torch, model, X, y = _ready(problem)
    data = torch.utils.data.TensorDataset(X, y)
    loader = torch.utils.data.DataLoader(
        data, batch_size=problem.batch, sampler=problem.order.tolist()
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    criterion = torch.nn.CrossEntropyLoss()

    def epoch() -> float:
        total = 0.0
        for images, labels in loader:
            optimizer.zero_grad()
            loss = criterion(model(images), labels)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(images)
        return total / problem.images

    return epoch


def eager(problem: Problem) -> Callable[[], float]:
    """Without a DataLoader, with the fused optimiser, and the loss added up in a tensor."""
    torch, model, X, y = _ready(problem)
    order = torch.from_numpy(problem.order)
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, fused=True)

    def epoch() -> float:
        total = torch.zeros(())
        for chosen in order.split(problem.batch):
            loss = torch.nn.functional.cross_entropy(model(X[chosen]), y[chosen])
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            total += loss.detach() * len(chosen)
        return total.item() / problem.images

    return epoch


def compiled(problem: Problem) -> Callable[[], float]:
    """The whole step, with gathering, gradient and update, in one graph of torch.compile."""
    torch, model, X, y = _ready(problem)
    order = torch.from_numpy(problem.order)
    params = {name: value.detach() for name, value in model.named_parameters()}

    def loss_of(params: dict, images: object, labels: object) -> object:
        logits = torch.func.functional_call(model, params, (images,))
        return torch.nn.functional.cross_entropy(logits, labels)

    @torch.compile(fullgraph=True, dynamic=False)
    def step(params: dict, X: object, y: object, chosen: object, total: object) -> None:
        gradients, loss = torch.func.grad_and_value(loss_of)(params, X[chosen], y[chosen])
        for name, value in params.items():
            value.sub_(gradients[name], alpha=RATE)
        total.add_(loss * len(chosen))

    def epoch() -> float:
        total = torch.zeros(())
        with torch.no_grad():
            for chosen in order.split(problem.batch):
                step(params, X, y, chosen, total)
        return total.item() / problem.images

    return epoch


def classes(problem: Problem, images: np.ndarray) -> Callable[[], np.ndarray]:
    """Predict the classes of uint8 images."""
    torch, model = _model(problem)
    # one image is done before a second thread could be woken
    torch.set_num_threads(THREADS if len(images) > 1 else 1)
    with torch.no_grad():
        model[0].weight /= 255  # which spares a pass over all pixels

    def call() -> np.ndarray:
        with torch.inference_mode():
            return model(torch.from_numpy(images).float()).argmax(1).numpy()

    return call


def _ready(problem: Problem):
    torch, model = _model(problem)
    return torch, model, torch.from_numpy(problem.features), torch.from_numpy(problem.labels)


def _model(problem: Problem):
    import torch

    torch.set_num_threads(THREADS)
    layers: list[torch.nn.Module] = []
    for W, b in problem.params:
        linear = torch.nn.Linear(*W.shape)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(W.T.copy()))
            linear.bias.copy_(torch.from_numpy(b))
        layers += [linear, torch.nn.ReLU()]
    return torch, torch.nn.Sequential(*layers[:-1])
