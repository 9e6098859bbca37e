"""The workloads under pytest-benchmark, each one for both backends in one group.

``python -m pytest benchmarks`` runs each of them once; with ``--benchmark-enable`` they are timed.
The images stand in each name, so that figures from different data never meet in one comparison.
"""

import pytest

from benchmarks import workloads
from benchmarks.suite.workloads import MNIST, SYNTHETIC

pytestmark = [
    pytest.mark.parametrize("network", workloads.NETWORKS),
    pytest.mark.parametrize("backend", workloads.BACKENDS),  # the last one changes the fastest
]
synthetic = pytest.mark.parametrize("source", [SYNTHETIC])


@synthetic
@pytest.mark.parametrize("images", [1, 10_000])
def test_forward(benchmark, network, backend, images, source):
    benchmark.group = group(f"forward, {images} images", network, source)
    benchmark(workloads.forward(network, backend, images, source))


@synthetic
def test_loss_and_gradients(benchmark, network, backend, source):
    benchmark.group = group(f"loss and gradients, {workloads.BATCH} images", network, source)
    benchmark(workloads.loss_and_gradients(network, backend, source=source))


@pytest.mark.parametrize("source", [SYNTHETIC, MNIST])
def test_epoch(benchmark, network, backend, source):
    if source == MNIST != workloads.data_name():
        pytest.skip("needs MNIST: set FASTMNIST_DATA")
    benchmark.group = group("epoch", network, source)
    once_each(benchmark, lambda: workloads.epoch(network, backend, source=source), rounds=9)


@synthetic
def test_training(benchmark, network, backend, source):
    benchmark.group = group("whole training", network, source)
    once_each(benchmark, lambda: workloads.training(network, backend, source=source), rounds=3)


def group(work, network, source):
    """Both backends stand in one group."""
    return f"{work}, {network}, {source}"


def once_each(benchmark, workload, rounds):
    """Time a workload that changes its network: a new call, with a new network, each round."""
    benchmark.pedantic(lambda call: call(), setup=lambda: ((workload(),), {}), rounds=rounds)
