"""The kernels on ARM processors, emulated: ``python tests/arm64.py``, or ``nox -s arm``.

Builds an arm64 Debian with Python and the package in a folder and runs there, for each processor:
packing, the agreement of every shape, threads, files, digits, and trainings whose hashes must be
those of this machine. What it computes is what a processor computes; how long it takes, 20 times as
long or more, says nothing. As root, on Debian:

    apt-get install debootstrap qemu-user-static binfmt-support
    python tests/arm64.py                                         # all three processors
    python tests/arm64.py --cpu neoverse-n1 --root /var/tmp/arm64 # keeps the machine for next time
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

PROJECT = Path(__file__).parent.parent
PROCESSORS = ("neoverse-v1", "neoverse-n1", "apple-m1")  # SVE; NEON; Apple's
HANDLER = Path("/proc/sys/fs/binfmt_misc/qemu-aarch64")
PROGRAMS = ("apt-get", "debootstrap", "dpkg-deb", "chroot")
FOR_TESTS = ("hypothesis", "pytest", "pytest-benchmark", "pytest-timeout")

PYTEST = ["-m", "pytest", "-q", "-o", "timeout=3600", "-p", "no:cacheprovider"]
TESTS = [
    "tests/test_plain.py",
    "tests/test_kernels.py::test_every_shape_agrees",
    "tests/test_kernels.py::test_any_number_of_threads_gives_the_same_bits",
    "tests/test_kernels.py::test_compressed_rows_are_packed_as_they_would_be",
    "tests/test_archive.py",
    "tests/test_model.py::test_a_saved_model_is_loaded_bit_for_bit",
    "tests/test_model.py::test_files_of_every_version_are_read",
    "tests/test_exchange.py::test_safetensors_come_back_bit_for_bit",
    "tests/test_digits.py::test_every_processor_draws_the_same_bits",
]

HASHES = """
import json
from trained import EVERYTHING, trained
print(json.dumps({
    "784-10": trained(sizes=(784, 10)),
    "784-40-10": trained(),
    "784-128-33-10": trained(sizes=(784, 128, 33, 10)),
    "everything": trained(**EVERYTHING),
}))
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cpu", nargs="+", default=PROCESSORS, metavar="CPU")
    parser.add_argument("--root", type=Path, help="a folder for the machine, which is kept")
    arguments = parser.parse_args()
    if why := hindrance():
        print(f"tests/arm64.py: {why}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="arm64-") as folder:
        root = (arguments.root or Path(folder, "root")).absolute()
        if not (root / "opt/site").exists():
            timed("machine", build, root)
        copy_project(root)
        failed = [cpu for cpu in arguments.cpu if not check(root, cpu)]
        return int(bool(failed))


def hindrance() -> str | None:
    """What this machine lacks, and what to do about it; None if it can emulate another."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "only root may make a machine; run it as root, on Debian"
    if missing := [name for name in PROGRAMS if shutil.which(name) is None]:
        return f"{', '.join(missing)} missing; apt-get install debootstrap binfmt-support"
    if not HANDLER.exists():
        return f"no {HANDLER}; apt-get install qemu-user-static, update-binfmts --enable"
    return None


def timed(what, function, *arguments):
    print(f"{what} ...", flush=True)
    begin = time.perf_counter()
    result = function(*arguments)
    print(f"{what}: {time.perf_counter() - begin:.0f} s", flush=True)
    return result


def build(root: Path) -> None:
    """An arm64 Debian of this machine's own release and mirror; Python's packages are wheels."""
    targets = subprocess.check_output(
        ["apt-get", "indextargets", "--format", "$(CODENAME) $(REPO_URI)"], text=True
    )
    release, mirror = re.search(r"^([a-z]+) (\S+/debian/?)$", targets, re.MULTILINE).groups()
    command = ["debootstrap", "--arch=arm64", "--foreign", "--variant=minbase"]
    run([*command, "--include=python3", release, str(root), mirror])
    for package in (root / "var/cache/apt/archives").glob("*.deb"):
        run(["dpkg-deb", "-x", str(package), str(root)])  # its own way takes 11 minutes, emulated
    for name, minor in (("null", 3), ("urandom", 9)):
        device = root / "dev" / name
        device.unlink(missing_ok=True)
        os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(1, minor))
    [python] = (root / "usr/lib").glob("python3.*")
    install(root / "opt/site", python.name.removeprefix("python"))
    packages = root / "usr/local/lib" / python.name / "dist-packages"
    packages.mkdir(parents=True, exist_ok=True)
    (packages / "site.pth").write_text("/opt/site\n/opt/project\n/opt/project/tests\n")


def install(target: Path, python: str) -> None:
    """The wheels for arm64 of what the package, its files and these tests need."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
    needed = [*project["project"]["dependencies"]]
    for extra in ("kernels", "export"):
        needed += project["project"]["optional-dependencies"][extra]
    tests = [need for need in project["dependency-groups"]["test"] if isinstance(need, str)]
    needed += [need for need in tests if re.match(r"[\w-]+", need)[0] in FOR_TESTS]
    platforms = ["--platform=manylinux2014_aarch64"]
    platforms += [f"--platform=manylinux_2_{minor}_aarch64" for minor in range(17, 36)]
    wheels = [f"--target={target}", "--only-binary=:all:", f"--python-version={python}"]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--root-user-action=ignore"]
    run([*pip, *wheels, *platforms, *needed])


def copy_project(root: Path) -> None:
    project = root / "opt/project"
    shutil.rmtree(project, ignore_errors=True)
    for name in ("fastmnist", "tests", "benchmarks"):
        shutil.copytree(PROJECT / name, project / name)
    shutil.copy(PROJECT / "pyproject.toml", project)


def check(root: Path, cpu: str) -> bool:
    """Whether tests and hashes are right on an emulated processor; says so."""
    passed = timed(f"{cpu}, tests", emulated, root, cpu, [*PYTEST, *TESTS]).returncode == 0
    done = timed(f"{cpu}, trainings", emulated, root, cpu, ["-c", HASHES], subprocess.PIPE)
    here = subprocess.check_output([sys.executable, "-c", HASHES], cwd=PROJECT / "tests", text=True)
    equal = done.returncode == 0 and json.loads(done.stdout) == json.loads(here)
    print(
        f"{cpu}: tests {'passed' if passed else 'FAILED'}, hashes of trained parameters "
        f"{'equal to' if equal else 'UNLIKE'} this machine's",
        flush=True,
    )
    return passed and equal


def emulated(root, cpu, arguments, output=None):
    environment = {
        "HOME": "/root",
        "PATH": "/usr/bin",
        "LANG": "C.UTF-8",
        "FASTMNIST_CACHE": "/tmp/cache",
        "NUMBA_CPU_NAME": cpu,
        "NUMBA_CPU_FEATURES": "",  # those of its name, not those of the emulator
    }
    inside = [
        shutil.which("chroot"),
        str(root),
        "sh",
        "-c",
        'cd /opt/project && exec python3 "$@"',
        "python3",
    ]
    return subprocess.run([*inside, *arguments], env=environment, stdout=output, text=True)


def run(command):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    raise SystemExit(main())
