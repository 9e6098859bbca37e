"""What the kernels do, over commits, as one thing at a time is changed."""

import fastmnist as fm

from . import workloads
from .bench_network import CALLS
from .workloads import NETWORK, SYNTHETIC

OPTIMIZERS = {  # made when they are needed: asv imports this module with the oldest commits, too
    "sgd": lambda: fm.SGD(),
    "momentum": lambda: fm.SGD(momentum=0.9),
    "nesterov": lambda: fm.SGD(momentum=0.9, nesterov=True),
    "adam": lambda: fm.Adam(),
    "adamw": lambda: fm.Adam(weight_decay=0.01, decoupled=True),
}


class _Epoch:
    timeout = 300  # seconds; a first compilation is part of `setup`
    number = 1  # call for each `setup`
    warmup_time = 0  # `setup` has compiled, and training goes on from where a call has stopped

    def time_epoch(self, *_):
        self.call()


class Batches(_Epoch):
    version = "3"
    params = (list(workloads.NETWORKS), list(workloads.BATCHES))
    param_names = ("network", "batch")

    def setup(self, network, batch):
        self.call = workloads.epoch(network, batch=batch, source=SYNTHETIC)


class Optimizers(_Epoch):
    version = "3"
    params = (list(OPTIMIZERS),)
    param_names = ("optimizer",)

    def setup(self, optimizer):
        self.call = workloads.epoch(NETWORK, optimizer=OPTIMIZERS[optimizer](), source=SYNTHETIC)


class Threads(_Epoch):
    version = "3"
    params = ([1, 2],)
    param_names = ("threads",)

    def setup(self, threads):
        self.call = workloads.epoch(NETWORK, threads=threads, source=SYNTHETIC)


class Densities(_Epoch):
    """Random pixels."""

    version = "3"
    params = ([0.5, 1.0],)
    param_names = ("density",)

    def setup(self, density):
        rows = fm.kernels.prepare(workloads.random_pixels(density))
        self.call = workloads.epoch(NETWORK, rows=rows, source=SYNTHETIC)


class Predict:
    """As a user asks for it, by `MLP.predict`."""

    version = "3"
    timeout = 300
    number = 1

    def setup(self):
        self.one = workloads.predict(NETWORK, 1, SYNTHETIC)
        self.many = workloads.predict(NETWORK, 10_000, SYNTHETIC)

    def time_one_200_times(self):
        for _ in range(CALLS):
            self.one()

    def time_10000(self):
        self.many()
