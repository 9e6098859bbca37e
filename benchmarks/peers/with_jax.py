"""JAX: a whole epoch is one compiled scan over the batches, its parameters updated in place."""

from __future__ import annotations

from collections.abc import Callable

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
