"""JAX: a whole epoch is one compiled scan over the batches, its parameters updated in place."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks.peers.course import Course
from benchmarks.peers.problem import RATE, Problem


def scanned(problem: Problem) -> Callable[[], float]:
    """Epochs of SGD; the last batch, where it is smaller, is a step after the scan."""
    import jax
    import jax.numpy as jnp

    X, y = jnp.asarray(problem.features), jnp.asarray(problem.labels)
    state = [[(jnp.asarray(W), jnp.asarray(b)) for W, b in problem.params]]
    whole = problem.images // problem.batch * problem.batch
    batches = jnp.asarray(problem.order[:whole].reshape(-1, problem.batch))
    rest = jnp.asarray(problem.order[whole:])

    def loss_of(params, images, labels):
        for W, b in params[:-1]:
            images = jax.nn.relu(images @ W + b)
        W, b = params[-1]
        logs = jax.nn.log_softmax(images @ W + b)
        return -jnp.take_along_axis(logs, labels[:, None], axis=1).mean()

    def epoch_of(params, X, y):
        def step(params, chosen):
            loss, gradients = jax.value_and_grad(loss_of)(params, X[chosen], y[chosen])
            params = jax.tree.map(lambda p, g: p - RATE * g, params, gradients)
            return params, loss * len(chosen)

        params, losses = jax.lax.scan(step, params, batches)
        total = losses.sum()
        if len(rest):
            params, loss = step(params, rest)
            total += loss
        return params, total / problem.images

    compiled = jax.jit(epoch_of, donate_argnums=0)

    def epoch() -> float:
        state[0], loss = compiled(state[0], X, y)
        return float(loss)

    return epoch


def train(course: Course, note: Callable[[list], None]) -> Callable[[], None]:
    """A training by a recipe, an epoch a compiled scan, distortions included.

    `note` gets the parameters after each epoch.
    """
    import jax
    import jax.numpy as jnp

    recipe, momentum = course.recipe, 0.9  # Nesterov's
    height, width = course.train.images.shape[1:]
    X = jnp.asarray(course.train.images / np.float32(255))
    y = jnp.asarray(course.train.labels.astype(np.int32))
    smooth = jnp.asarray(course.smoothing(height)) if recipe.augmentation else None
    whole = course.images_used // recipe.batch_size * recipe.batch_size

    def loss_of(params, images, labels):
        A = images.reshape(len(images), -1)
        for W, b in params[:-1]:
            A = jax.nn.relu(A @ W + b)
        W, b = params[-1]
        logs = jax.nn.log_softmax(A @ W + b)
        of_label = jnp.take_along_axis(logs, labels[:, None], axis=1).mean()
        smoothing = recipe.label_smoothing
        return -(1 - smoothing) * of_label - smoothing * logs.mean()

    def distorted(image, u, noise):
        a = recipe.augmentation
        angle = u[2] * np.pi / 180 * a.rotation
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        wide, high = 1 / (1 + u[3] * a.scale), 1 / (1 + u[4] * a.scale)
        slant = -u[5] * a.shear * wide * high
        moved = jnp.floor(u[:2] * (a.shift + 0.5) + 0.5)
        y, x = jnp.mgrid[:height, :width]
        x, y = x - (width - 1) / 2 - moved[0], y - (height - 1) / 2 - moved[1]
        from_x = (wide * cos - slant * sin) * x + (wide * sin + slant * cos) * y + (width - 1) / 2
        from_y = -high * sin * x + high * cos * y + (height - 1) / 2
        if a.elastic:
            bend_x, bend_y = smooth @ noise @ smooth.T
            from_x, from_y = from_x + bend_x, from_y + bend_y
        return jax.scipy.ndimage.map_coordinates(image, [from_y, from_x], order=1)

    def step(state, batch):
        params, velocity, key = state
        chosen, rate = batch
        key, now = jax.random.split(key)
        images = X[chosen]
        if recipe.augmentation:
            now, later = jax.random.split(now)
            u = jax.random.uniform(now, (len(chosen), 6), minval=-1, maxval=1)
            shape = (len(chosen), 2 if recipe.augmentation.elastic else 0, height, width)
            noise = jax.random.uniform(later, shape, minval=-1, maxval=1)
            images = jax.vmap(distorted)(images, u, noise)
        gradients = jax.grad(loss_of)(params, images, y[chosen])
        velocity = jax.tree.map(lambda v, g: momentum * v + g, velocity, gradients)
        params = jax.tree.map(
            lambda p, g, v: p - rate * (g + momentum * v), params, gradients, velocity
        )
        return (params, velocity, key), None

    def epoch_of(state, order, rates):
        batches = order[:whole].reshape(-1, recipe.batch_size)
        state, _ = jax.lax.scan(step, state, (batches, rates[: len(batches)]))
        if whole < len(order):
            state, _ = step(state, (order[whole:], rates[-1]))
        return state

    def start():
        params = [(jnp.array(W), jnp.array(b)) for W, b in course.params]
        return params, jax.tree.map(jnp.zeros_like, params), jax.random.key(course.seed)

    def arguments(number):
        return jnp.asarray(course.order(number)), jnp.asarray(course.rates[number])

    epoch = jax.jit(epoch_of, donate_argnums=0).lower(start(), *arguments(0)).compile()

    def call() -> None:
        state = start()
        for number in range(course.count):
            state = epoch(state, *arguments(number))
            note([(np.asarray(W), np.asarray(b)) for W, b in state[0]])

    return call
