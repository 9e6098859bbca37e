"""What comes before the first step: imports, compilation, kernels from the disk."""

from benchmarks import workloads

EMPTY_CACHE = """
import os, tempfile
folder = tempfile.TemporaryDirectory()
os.environ["FASTMNIST_CACHE"] = folder.name
"""


class Start:
    """Each sample is taken in a new interpreter."""

    version = workloads.VERSION
    timeout = 300

    def timeraw_import(self):
        return "import fastmnist"

    def timeraw_import_kernels(self):
        return "import fastmnist.kernels"

    def timeraw_compile(self):
        return "fastmnist.warmup()", EMPTY_CACHE + "import fastmnist.kernels"

    timeraw_compile.repeat = (2, 3, 10.0)
    timeraw_compile.warmup_time = 0


class WarmStart:
    version = workloads.VERSION
    timeout = 300

    def setup_cache(self):
        import fastmnist

        fastmnist.warmup()

    def timeraw_first_step(self):
        """Import and first call, when an earlier process has compiled the kernels."""
        return "import fastmnist; fastmnist.warmup()"
