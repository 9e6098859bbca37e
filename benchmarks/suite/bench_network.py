"""What a network does, over commits: speed, memory and quality, for both backends."""

import fastmnist as fm

from . import workloads
from .workloads import SYNTHETIC

# asv runs `setup` again between any two calls that it makes, and what they need is no longer in the
# processor's caches then: one call of 24 µs took 104. So what is that short is called in a loop.
CALLS = 200


class _Network:
    params = (list(workloads.NETWORKS), list(workloads.BACKENDS))
    param_names = ("network", "backend")
    timeout = 300  # seconds; a first compilation is part of `setup`
    number = 1  # call for each `setup`


class Forward(_Network):
    version = "3"

    def setup(self, network, backend):
        self.one = workloads.forward(network, backend, 1, SYNTHETIC)
        self.many = workloads.forward(network, backend, 10_000, SYNTHETIC)

    def time_one_200_times(self, *_):
        for _ in range(CALLS):
            self.one()

    def time_10000(self, *_):
        self.many()


class LossAndGradients(_Network):
    version = "3"

    def setup(self, network, backend):
        self.call = workloads.loss_and_gradients(network, backend, source=SYNTHETIC)

    def time_batch_20_times(self, *_):
        for _ in range(20):
            self.call()


class Epoch(_Network):
    version = "3"
    warmup_time = 0  # `setup` has compiled, and training goes on from where a call has stopped

    def setup(self, network, backend):
        self.call = workloads.epoch(network, backend, source=SYNTHETIC)

    def time_epoch(self, *_):
        self.call()


class Training(_Network):
    version = "3"
    rounds = 1
    repeat = (3, 5, 10.0)  # samples: at least, at most, for how many seconds
    warmup_time = 0

    def setup_cache(self):
        """Compile in a process of its own, so that the compiler's memory is not counted below."""
        workloads.training("784-10-10", "numba", source=SYNTHETIC)

    def setup(self, network, backend):
        self.call = workloads.training(network, backend, source=SYNTHETIC)

    def time_fit(self, *_):
        self.call()

    def peakmem_fit(self, *_):
        self.call()

    def track_test_loss(self, *_):
        return round(self._report().loss, 5)

    track_test_loss.unit = "nats"

    # asv takes the smaller value for the better one, so it gets wrong answers, not right ones.
    def track_test_error(self, *_):
        return round(100 * (1 - self._report().accuracy), 2)

    track_test_error.unit = "%"

    def _report(self):
        return fm.evaluate(self.call(), workloads.data(SYNTHETIC)[1])
