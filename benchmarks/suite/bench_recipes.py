"""What the recipes give, over commits: seconds, and test images misclassified."""

import fastmnist as fm

from . import THREADS, workloads
from .workloads import MNIST, SYNTHETIC


class Recipe:
    version = "3"
    params = (["quick", "default"],)
    param_names = ("recipe",)
    timeout = 300
    number = 1
    rounds = 1
    warmup_time = 0
    source = SYNTHETIC

    def setup(self, name):
        from fastmnist.recipes import RECIPES

        self.recipe = RECIPES[name]
        self.train, self.test = workloads.data(self.source)
        few = self.train[:256]
        self.recipe.fit(self.recipe.model(few), few, epochs=1)  # compiles

    def time_fit(self, _):
        self._trained()

    # asv takes the smaller value for the better one, so it gets wrong answers, not right ones.
    def track_test_error(self, _):
        return round(100 * (1 - fm.evaluate(self._trained(), self.test).accuracy), 2)

    track_test_error.unit = "%"

    def _trained(self):
        model = self.recipe.model(self.train)
        self.recipe.fit(model, self.train, threads=THREADS)
        return model


class RecipeOnMNIST(Recipe):
    """Skipped where $FASTMNIST_DATA does not hold MNIST: nothing is downloaded."""

    source = MNIST

    def setup(self, name):
        if workloads.data_name() != MNIST:
            raise NotImplementedError
        super().setup(name)
