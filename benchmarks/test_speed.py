"""The workloads under pytest-benchmark, each one for both backends in one group.

``python -m pytest benchmarks`` runs each of them once; with ``--benchmark-enable`` they are timed.
"""

from benchmarks import workloads


# Parametrised by this hook and not by a mark of pytest's: asv imports every module of this folder,
# and its environments have no pytest.
def pytest_generate_tests(metafunc):
    metafunc.parametrize("network", workloads.NETWORKS)
    metafunc.parametrize("backend", workloads.BACKENDS)
    if "images" in metafunc.fixturenames:
        metafunc.parametrize("images", (1, 10_000))


def test_forward(benchmark, network, backend, images):
    benchmark.group = group(f"forward, {images} images", network)
    benchmark(workloads.forward(network, backend, images))


def test_loss_and_gradients(benchmark, network, backend):
    benchmark.group = group(f"loss and gradients, {workloads.BATCH} images", network)
    benchmark(workloads.loss_and_gradients(network, backend))


def test_epoch(benchmark, network, backend):
    benchmark.group = group("epoch", network)
    once_each(benchmark, lambda: workloads.epoch(network, backend), rounds=9)


def test_training(benchmark, network, backend):
    benchmark.group = group("whole training", network)
    once_each(benchmark, lambda: workloads.training(network, backend), rounds=3)


def group(work, network):
    """Both backends stand in one group; figures from different data never do."""
    return f"{work}, {network}, {workloads.data_name()}"


def once_each(benchmark, workload, rounds):
    """Time a workload that changes its network: a new call, with a new network, each round."""
    benchmark.pedantic(lambda call: call(), setup=lambda: ((workload(),), {}), rounds=rounds)
