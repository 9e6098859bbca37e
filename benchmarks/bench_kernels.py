"""What the kernels do, over commits, as one thing at a time is changed."""

import fastmnist as fm
from benchmarks import workloads
from benchmarks.bench_network import DATA
from fastmnist.optimizers import OPTIMIZERS


class _Epoch:
    version = workloads.VERSION
    timeout = 300  # seconds; a first compilation is part of `setup`
    number = 1  # one call for each `setup`: training goes on from where the last call stopped
    warmup_time = 0  # `setup` has compiled

    def time_epoch(self, *_):
        self.call()


class Batches(_Epoch):
    params = (DATA, list(workloads.NETWORKS), list(workloads.BATCHES))
    param_names = ("data", "network", "batch")

    def setup(self, _, network, batch):
        self.call = workloads.epoch(network, batch=batch)


class Optimizers(_Epoch):
    params = (DATA, list(OPTIMIZERS))
    param_names = ("data", "optimizer")

    def setup(self, _, optimizer):
        self.call = workloads.epoch(workloads.NETWORK, optimizer=OPTIMIZERS[optimizer])


class Threads(_Epoch):
    params = (DATA, [1, 2])
    param_names = ("data", "threads")

    def setup(self, _, threads):
        self.call = workloads.epoch(workloads.NETWORK, threads=threads)


class Densities(_Epoch):
    """Random pixels, the same ones with and without MNIST."""

    params = ([0.5, 1.0],)
    param_names = ("density",)

    def setup(self, density):
        rows = fm.kernels.prepare(workloads.random_pixels(density))
        self.call = workloads.epoch(workloads.NETWORK, rows=rows)


class Predict:
    """As a user asks for it, by `MLP.predict`."""

    params = (DATA,)
    param_names = ("data",)
    version = workloads.VERSION
    timeout = 300

    def setup(self, _):
        self.one = workloads.predict(workloads.NETWORK, 1)
        self.many = workloads.predict(workloads.NETWORK, 10_000)

    def time_one(self, _):
        self.one()

    time_one.number = 200  # calls in a sample: one takes some tens of microseconds

    def time_10000(self, _):
        self.many()
