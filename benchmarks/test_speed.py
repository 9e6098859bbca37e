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
    benchmark.group = f"forward, {images} images, {network}"
    benchmark(workloads.forward(network, backend, images))


def test_loss_and_gradients(benchmark, network, backend):
    benchmark.group = f"loss and gradients, {workloads.BATCH} images, {network}"
    benchmark(workloads.loss_and_gradients(network, backend))


def test_epoch(benchmark, network, backend):
    benchmark.group = f"epoch, {network}"
    once_each(benchmark, lambda: workloads.epoch(network, backend), rounds=9)


def test_training(benchmark, network, backend):
    benchmark.group = f"whole training, {network}"
    once_each(benchmark, lambda: workloads.training(network, backend), rounds=3)


def once_each(benchmark, workload, rounds):
    """Time a workload that changes its network: a new call, with a new network, each round."""
    benchmark.extra_info["data"] = workloads.data_name()
    benchmark.pedantic(lambda call: call(), setup=lambda: ((workload(),), {}), rounds=rounds)
