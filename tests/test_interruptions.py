"""Processes that are interrupted, terminated, killed, stopped, or have no disk left."""

import os
import random
import signal
import sys
import threading
import time

import numpy as np
import processes
import pytest
from patching import own
from test_cli import write_csv

import fastmnist as fm
from fastmnist import checkpoints, datasets, training
from fastmnist.datasets import Dataset

pytestmark = [
    pytest.mark.compiled,  # its networks are as large as it takes to interrupt compiled code
    pytest.mark.skipif(os.name != "posix", reason="signals of POSIX"),
]
EPOCHS = 12

# Trains, or goes on where the file is there already, and prints a hash of the parameters.
# What happens in the given epoch: "kill" within the save, before or after the file is in place;
# "full": no file may grow any more.
TRAINING = f"""
import faulthandler, os, resource, signal, sys
from hashlib import sha256
faulthandler.dump_traceback_later(100, exit=True)
import numpy as np
import fastmnist as fm
from fastmnist.datasets import Dataset
path, fault, at = sys.argv[1], sys.argv[2], int(sys.argv[3])
generator = np.random.default_rng(0)
images = generator.integers(0, 256, (640, 8, 8), np.uint8)
data = Dataset(images, images.reshape(640, -1).argmax(axis=1) % 10)
model = fm.MLP([64, 96, 10], seed=1)

def kill(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def write_and_kill(path, flags, mode, open=os.open):
    os.write(open(path, flags, mode), b"half of it")
    kill()

def replace_and_kill(old, new, replace=os.replace):
    replace(old, new)
    kill()

def after(model, epoch):
    after.epochs += 1
    if after.epochs != at:
        return
    if fault == "in write":
        os.open = write_and_kill
    elif fault == "in fsync":
        os.fsync = kill
    elif fault == "before replace":
        os.replace = kill
    elif fault == "after replace":
        os.replace = replace_and_kill
    elif fault == "disk full":
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

after.epochs = 0
fm.warmup(prediction=False)
print("ready", flush=True)
fm.fit(model, data, epochs={EPOCHS}, batch_size=32, optimizer="adam", dropout=0.1, seed=3,
       checkpoint=path, resume=os.path.exists(path), callbacks=[after])
print(sha256(model.params.flat.tobytes()).hexdigest())
"""
FAULTS = ("in write", "in fsync", "before replace", "after replace", "disk full")


def start(program, *arguments, **options):
    return processes.start("-c", program, *map(str, arguments), **options)


def begun(program, *arguments, **options):
    """The same, and wait until it says that it is ready."""
    process = start(program, *arguments, **options)
    processes.wait_for_line(process, "stdout", "ready")
    return process


def trained(path, fault="none", at=0):
    """What a training says, and its exit code."""
    done = processes.finish(start(TRAINING, path, fault, at))
    return done.returncode, done.stdout.removeprefix("ready\n").strip(), done.stderr


def same_file_or_none(folder, name):
    """The one file of a folder; what a killed process has left begins with a dot."""
    return [file for file in os.listdir(folder) if not file.startswith(".")] in ([], [name])


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    code, digest, err = trained(tmp_path_factory.mktemp("undisturbed") / "training.npz")
    assert (code, err) == (0, "")
    return digest


@pytest.mark.fault(row=72)
def test_killed_at_any_moment_a_training_is_resumed_to_the_same_bits(
    undisturbed, tmp_path, times, figure
):
    chance = random.Random(1)
    path, count = tmp_path / "training.npz", times(1, 120)
    for _ in range(count):
        process = begun(TRAINING, path, "none", 0)
        time.sleep(chance.uniform(0, 0.15))  # undisturbed it takes as long
        process.kill()
        processes.finish(process)
        assert same_file_or_none(tmp_path, path.name)
        assert trained(path) == (0, undisturbed, "")
        assert os.listdir(tmp_path) == [path.name]  # and what was left is gone
        path.unlink()
    figure(f"SIGKILL at random moments, resumed to the same bits: {count} of {count}")


@pytest.mark.fault(row=72)
@pytest.mark.fault(row=73)
def test_killed_while_saving_or_without_disk_a_training_is_resumed_to_the_same_bits(
    undisturbed, tmp_path, times, figure
):
    chance = random.Random(2)
    path, faults = tmp_path / "training.npz", times(FAULTS[-2:], FAULTS * 16)
    for fault in faults:
        code, digest, err = trained(path, fault, chance.randint(1, EPOCHS))
        assert digest == ""
        if fault == "disk full":
            assert code == 1
            assert f"File too large: '{path}'" in err.splitlines()[-1]
            assert os.listdir(tmp_path) == [path.name]
        else:
            assert code == -signal.SIGKILL
        assert trained(path) == (0, undisturbed, "")
        assert os.listdir(tmp_path) == [path.name]
        path.unlink()
    count = len(faults)
    figure(f"SIGKILL while saving or disk full, resumed to the same bits: {count} of {count}")


@pytest.mark.fault(row=78)
def test_a_training_that_is_stopped_for_a_while_gives_the_same_bits(undisturbed, tmp_path, times):
    for _ in range(times(1, 20)):
        process = begun(TRAINING, tmp_path / "training.npz", "none", 0)
        for _ in range(3):
            process.send_signal(signal.SIGSTOP)
            time.sleep(0.05)
            process.send_signal(signal.SIGCONT)
            time.sleep(0.02)
        done = processes.finish(process)
        assert (done.stdout, done.stderr) == (f"{undisturbed}\n", "")
        os.unlink(tmp_path / "training.npz")


@pytest.mark.fault(row=78)
def test_a_clock_that_is_set_back_changes_no_bit(monkeypatch):
    def bits():
        model = fm.MLP([64, 16, 10], seed=1)
        fm.fit(model, images(200), epochs=2)
        return model.params.flat.tobytes()

    usual = bits()
    ticks = iter(range(10**9, 0, -1000))
    clocks = own(monkeypatch, training, "time")
    clocks.time = clocks.monotonic = clocks.perf_counter = lambda: next(ticks)
    assert bits() == usual


def images(count, side=8):
    pixels = np.random.default_rng(0).integers(0, 256, (count, side, side), np.uint8)
    return Dataset(pixels, pixels.reshape(count, -1).argmax(axis=1) % 10)


@pytest.mark.fault(row=69)
def test_ctrl_c_at_any_moment_leaves_the_last_whole_epoch_at_once(
    times, figure, tmp_path, monkeypatch
):
    """In the main thread of this process, as it is for whoever types.

    Where Python drops it, in a destructor, it is pressed once more, as by the command line.
    """
    chance = random.Random(3)
    data, options = images(4000, 28), {"epochs": 8, "batch_size": 128, "optimizer": "adam"}
    whole = [fm.MLP([784, 400, 10]).params.flat.copy()]
    fm.fit(
        fm.MLP([784, 400, 10]),
        data,
        callbacks=[lambda model, epoch: whole.append(model.params.flat.copy())],
        **options,
    )

    def index_of(model):
        """After how many epochs the training has these parameters; an error if after none."""
        return [np.array_equal(model.params.flat, params) for params in whole].index(True)

    waits = []
    window = threading.Event()

    def interrupt(*_):
        if window.is_set():  # else it has ended before
            window.clear()
            raise KeyboardInterrupt

    usual = signal.signal(signal.SIGINT, interrupt)
    try:
        while len(waits) < times(5, 100):
            model, path = fm.MLP([784, 400, 10]), tmp_path / "training.npz"
            sent = []

            def press(sent=sent):
                sent.append(time.perf_counter())
                signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

            def press_again(dropped, press=press):
                assert dropped.exc_type is KeyboardInterrupt
                window.set()
                threading.Timer(0.05, press).start()

            monkeypatch.setattr(sys, "unraisablehook", press_again)
            timer = threading.Timer(chance.uniform(0, 0.3), press)
            window.set()
            try:
                timer.start()  # in here: it may press before it has come back
                fm.fit(model, data, checkpoint=path, **options)
                window.clear()
            except KeyboardInterrupt:
                waits.append(time.perf_counter() - sent[0])
            timer.join()
            done = index_of(model)
            if path.exists():
                assert index_of(fm.MLP.load(path)) in (done, done - 1)
                path.unlink()
    finally:
        signal.signal(signal.SIGINT, usual)
    figure(
        f"Ctrl-C at random moments: {len(waits)} of {len(waits)} as of a whole epoch; "
        f"longest wait {1000 * max(waits):.0f} ms, median {1000 * np.median(waits):.1f}"
    )


@pytest.fixture(scope="module")
def csv(tmp_path_factory):
    return write_csv(tmp_path_factory.mktemp("data") / "digits.csv", datasets.generate(280, seed=0))


def started(csv, path, *options):
    """The command line, training on and on; waits until it has begun."""
    process = processes.start(
        *("-m", "fastmnist", "train", "--data", csv),
        *("--hidden", "300", "--epochs", "2000", "--checkpoint", path, *options),
        cwd=path.parent,
    )
    processes.wait_for_line(process, "stderr", "epoch")
    return process


@pytest.mark.fault(row=69)
@pytest.mark.fault(row=71)
@pytest.mark.parametrize(
    ("number", "code", "said"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
)
def test_a_signal_ends_a_training_that_can_be_resumed(
    number, code, said, csv, tmp_path, times, figure
):
    chance = random.Random(4)
    path, count = tmp_path / "my training.npz", times(1, 50)
    for _ in range(count):
        process = started(csv, path)
        time.sleep(chance.uniform(0, 0.3))
        process.send_signal(number)
        done = processes.finish(process)
        assert done.returncode == code
        epoch = len(checkpoints.read(path).progress.history)
        assert done.stderr.splitlines()[-2:] == [
            f"kept as it was after epoch {epoch}; to go on: fastmnist train --resume '{path}'",
            f"fastmnist: {said}",
        ]
        assert done.stdout == ""
        assert "Traceback" not in done.stderr
        assert os.listdir(tmp_path) == [path.name]
        path.unlink()
    figure(f"{signal.Signals(number).name} to the command line: exit {code}, {count} of {count}")


@pytest.mark.fault(row=70)
def test_the_second_ctrl_c_ends_at_once_and_the_file_is_whole(csv, tmp_path, times):
    chance = random.Random(5)
    path = tmp_path / "training.npz"
    for _ in range(times(1, 20)):
        process = started(csv, path)
        process.send_signal(signal.SIGINT)
        time.sleep(chance.uniform(0, 0.004))
        process.send_signal(signal.SIGINT)
        assert processes.finish(process).returncode in (130, -signal.SIGINT)
        assert checkpoints.read(path).progress.history
        path.unlink()


# As the command line does it: Python itself may drop a Ctrl-C that comes in a destructor.
SAVING = """
import sys, fastmnist as fm
from fastmnist.terminal import run
models = [fm.MLP([64, 50, 10], seed=seed) for seed in (1, 2)]
def save():
    models[0].save(sys.argv[1])
    print("ready", flush=True)
    while True:
        for model in models:
            model.save(sys.argv[1])
sys.exit(run(save))
"""
INTERRUPTED = "fastmnist: interrupted\n"


def is_one_of_two(path):
    found = fm.MLP.load(path).params.flat
    return any(np.array_equal(found, fm.MLP([64, 50, 10], seed=s).params.flat) for s in (1, 2))


@pytest.mark.fault(row=66)
@pytest.mark.fault(row=70)
@pytest.mark.parametrize("name", ["SIGKILL", "SIGINT"])
def test_a_save_that_is_cut_short_leaves_a_whole_file(name, tmp_path, times, figure):
    number = getattr(signal, name)  # Windows has no SIGKILL
    chance = random.Random(6)
    path, count = tmp_path / "model.npz", times(3, 200)
    fm.MLP([64, 50, 10], seed=1).save(path)
    for _ in range(count):
        process = begun(SAVING, path)
        time.sleep(chance.uniform(0, 0.02))
        process.send_signal(number)
        done = processes.finish(process)
        assert is_one_of_two(path)
        if number == signal.SIGINT:
            assert (done.returncode, done.stderr) == (130, INTERRUPTED)
            assert os.listdir(tmp_path) == [path.name]
    fm.MLP([64, 50, 10], seed=1).save(path)
    assert os.listdir(tmp_path) == [path.name]
    figure(f"{name} in a save: {count} of {count} files whole")


@pytest.mark.fault(row=67)
def test_two_processes_that_save_to_one_path_leave_one_whole_file(tmp_path, times):
    path = tmp_path / "model.npz"
    for _ in range(times(1, 50)):
        both = [start(SAVING, path) for _ in range(2)]
        for process in both:
            processes.wait_for_line(process, "stdout", "ready")
        for _ in range(20):
            time.sleep(0.005)
            if path.exists():
                assert is_one_of_two(path)
        for process in both:
            process.send_signal(signal.SIGINT)
        for process in both:
            assert processes.finish(process).stderr == INTERRUPTED
        assert is_one_of_two(path)
        assert os.listdir(tmp_path) == [path.name]


@pytest.mark.fault(row=70)
def test_ctrl_c_while_compiling_leaves_a_cache_that_works(tmp_path, times):
    chance = random.Random(7)
    program = (
        "import sys; import fastmnist as fm; from fastmnist.terminal import run\n"
        "print('ready', flush=True)\n"
        "sys.exit(run(lambda: fm.warmup() or print('done', flush=True) or 0))"
    )
    environment = processes.environment(FASTMNIST_CACHE=str(tmp_path))
    for _ in range(times(1, 20)):
        process = begun(program, env=environment)
        time.sleep(chance.uniform(0.5, times(1, 6)))
        process.send_signal(signal.SIGINT)
        done = processes.finish(process)
        if done.stdout != "done\n":  # else the interpreter may have been about to leave
            assert (done.returncode, done.stderr) == (130, INTERRUPTED)
    if times(False, True):  # it takes 10 s
        program = "import fastmnist as fm; fm.warmup(); print('compiled')"
        assert processes.succeeds("-c", program, env=environment) == "compiled\n"


@pytest.mark.fault(row=65)
def test_without_disk_a_save_leaves_the_old_file_and_names_it(tmp_path):
    path = tmp_path / "model.npz"
    fm.MLP([64, 50, 10], seed=1).save(path)
    program = (
        "import resource, sys, fastmnist as fm\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "fm.MLP([64, 50, 10], seed=2).save(sys.argv[1])"
    )
    done = processes.run("-c", program, path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith(f"File too large: '{path}'")
    assert np.array_equal(fm.MLP.load(path).params.flat, fm.MLP([64, 50, 10], seed=1).params.flat)
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.fault(row=65)
def test_a_folder_that_cannot_be_written_is_named_and_nothing_is_left(tmp_path):
    path = tmp_path / "model.npz"
    fm.MLP([64, 50, 10], seed=1).save(path)
    kept = path.read_bytes()
    tmp_path.chmod(0o555)
    program = (
        "import os, sys, fastmnist as fm\n"
        "from fastmnist import archive\n"
        "archive.pack({}, {})  # imports what nobody may not be able to read\n"
        "model = fm.MLP([64, 50, 10], seed=2)\n"
        "os.getuid() or os.setuid(65534)\n"
        "model.save(sys.argv[1])"
    )
    for folder in (path.parents[1], path.parents[2]):
        folder.chmod(folder.stat().st_mode | 0o005)
    try:
        _, err = start(program, path).communicate(timeout=60)
    finally:
        tmp_path.chmod(0o755)
    assert err.splitlines()[-1] == f"PermissionError: [Errno 13] Permission denied: '{path}'"
    assert path.read_bytes() == kept
    assert os.listdir(tmp_path) == [path.name]
