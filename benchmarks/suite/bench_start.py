"""What comes before the first step: imports, compilation, kernels from the disk."""

from pathlib import Path

from . import programs, workloads

EMPTY_CACHE = """
import os, tempfile
folder = tempfile.TemporaryDirectory()
os.environ["FASTMNIST_CACHE"] = folder.name
"""


class Start:
    """Each sample is taken in a new interpreter."""

    version = "3"
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
    version = "3"
    timeout = 300

    def setup_cache(self):
        import fastmnist

        fastmnist.warmup()

    def timeraw_first_step(self):
        """Import and first call, when an earlier process has compiled the kernels."""
        return "import fastmnist; fastmnist.warmup()"


class Result:
    """From nothing to a result: import, data, an epoch and its evaluation in a new process."""

    version = "3"
    timeout = 300

    def setup_cache(self):
        """Compile, and bring the data into their cache; asv keeps the folder it is run in."""
        source = workloads.saved(Path.cwd(), workloads.SYNTHETIC)
        programs.peak_memory(programs.result(source))
        return source

    def timeraw_result(self, source):
        return programs.result(source)

    def track_peak_memory(self, source):
        return programs.peak_memory(programs.result(source))

    track_peak_memory.unit = "MB"
