"""What a network does, over commits: speed, memory and quality, for both backends."""

import fastmnist as fm
from benchmarks import workloads

# The data stand in every result's name, so that figures from MNIST and from the synthetic images
# never meet in one comparison.
DATA = [workloads.data_name()]


class _Network:
    params = (DATA, list(workloads.NETWORKS), list(workloads.BACKENDS))
    param_names = ("data", "network", "backend")
    version = workloads.VERSION
    timeout = 300  # seconds; a first compilation is part of `setup`


class Forward(_Network):
    def setup(self, _, network, backend):
        self.one = workloads.forward(network, backend, 1)
        self.many = workloads.forward(network, backend, 10_000)

    def time_one(self, *_):
        self.one()

    time_one.number = 200  # calls in a sample: one takes some tens of microseconds

    def time_10000(self, *_):
        self.many()


class LossAndGradients(_Network):
    number = 20

    def setup(self, _, network, backend):
        self.call = workloads.loss_and_gradients(network, backend)

    def time_batch(self, *_):
        self.call()


class Epoch(_Network):
    number = 1  # one call for each `setup`: training goes on from where the last call stopped
    warmup_time = 0  # `setup` has compiled

    def setup(self, _, network, backend):
        self.call = workloads.epoch(network, backend)

    def time_epoch(self, *_):
        self.call()


class Training(_Network):
    number = 1
    rounds = 1
    repeat = (3, 5, 10.0)  # samples: at least, at most, for how many seconds
    warmup_time = 0

    def setup_cache(self):
        """Compile in a process of its own, so that the compiler's memory is not counted below."""
        workloads.training("784-10-10", "numba")

    def setup(self, _, network, backend):
        self.call = workloads.training(network, backend)

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
        return fm.evaluate(self.call(), workloads.data()[1])
