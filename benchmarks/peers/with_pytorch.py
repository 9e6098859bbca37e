"""PyTorch: training, three ways, and predicting.

To train, data stand in tensors beforehand, as float32 in [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks import THREADS
from benchmarks.peers.course import Course
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


def train(course: Course, note: Callable[[list], None]) -> Callable[[], None]:
    """A training by a recipe, each step in one graph of torch.compile, distortions included.

    `note` gets the parameters after each epoch.
    """
    torch, model = _model(course)
    recipe, height = course.recipe, course.train.images.shape[1]
    X = torch.from_numpy(course.train.images / np.float32(255))[:, None]
    y = torch.from_numpy(course.train.labels.astype(np.int64))
    names = [name for name, _ in model.named_parameters()]
    smooth = torch.from_numpy(course.smoothing(height)) if recipe.augmentation else None
    momentum = 0.9  # Nesterov's
    generator = torch.Generator().manual_seed(course.seed)

    def loss_of(params: dict, images: object, labels: object) -> object:
        logits = torch.func.functional_call(model, params, (images.flatten(1),))
        return torch.nn.functional.cross_entropy(
            logits, labels, label_smoothing=recipe.label_smoothing
        )

    def distorted(images: object, u: object) -> object:
        a = recipe.augmentation
        angle = u[:, 2] * np.pi / 180 * a.rotation
        cos, sin = angle.cos(), angle.sin()
        wide, high = 1 / (1 + u[:, 3] * a.scale), 1 / (1 + u[:, 4] * a.scale)
        slant = -u[:, 5] * a.shear * wide * high
        moved = (u[:, :2] * (a.shift + 0.5) + 0.5).floor() * 2 / height  # in halves of the image
        rows = torch.stack([wide * cos - slant * sin, wide * sin + slant * cos,
                            -high * sin, high * cos], 1).view(-1, 2, 2)  # fmt: skip
        back = torch.cat([rows, -rows @ moved[:, :, None]], 2)
        grid = torch.nn.functional.affine_grid(back, images.shape, align_corners=False)
        if a.elastic:
            noise = 2 * torch.rand(len(images), 2, height, height) - 1
            grid = grid + (smooth @ noise @ smooth.T).permute(0, 2, 3, 1) * 2 / height
        return torch.nn.functional.grid_sample(images, grid, align_corners=False)

    @torch.compile(fullgraph=True, dynamic=False)
    def step(params: dict, velocity: dict, chosen: object, u: object, rate: object) -> None:
        images = X[chosen]
        if recipe.augmentation:
            images = distorted(images, u)
        gradients = torch.func.grad(loss_of)(params, images, y[chosen])
        for name, value in params.items():
            velocity[name].mul_(momentum).add_(gradients[name])
            value.sub_(rate * (gradients[name] + momentum * velocity[name]))

    def epoch(params: dict, velocity: dict, number: int) -> None:
        batches = torch.from_numpy(course.order(number)).split(recipe.batch_size)
        with torch.no_grad():
            for chosen, rate in zip(batches, torch.from_numpy(course.rates[number]), strict=True):
                u = 2 * torch.rand(len(chosen), 6, generator=generator) - 1
                step(params, velocity, chosen, u, rate)

    def start() -> tuple[dict, dict]:
        params = {name: value.detach().clone() for name, value in model.named_parameters()}
        return params, {name: torch.zeros_like(value) for name, value in params.items()}

    def call() -> None:
        params, velocity = start()
        for number in range(course.count):
            epoch(params, velocity, number)
            arrays = [params[name].numpy() for name in names]
            note([(W.T, b) for W, b in zip(arrays[::2], arrays[1::2], strict=True)])

    with torch.no_grad():  # compiles, for both sizes of a batch
        for count in {recipe.batch_size, course.images_used % recipe.batch_size} - {0}:
            few = torch.arange(count)
            step(*start(), few, torch.zeros(count, 6), torch.tensor(0.0))
    return call


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


def _model(problem: Problem | Course):
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
