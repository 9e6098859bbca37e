"""Dask's processes: workers that are killed, stall or come late, schedulers that are lost."""

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import processes
import psutil
import pytest
from test_cli import write_csv
from test_local_sgd import EVERYTHING, bits, fit, network
from test_search import search

pytest.importorskip("distributed")
pytest.importorskip("optuna")

import dask
import distributed

import fastmnist as fm
from fastmnist import cli, datasets
from fastmnist.distributed import cluster as clusters
from fastmnist.distributed.cluster import check_versions, connect
from fastmnist.distributed.tasks import Tasks
from fastmnist.errors import ClusterError

pytestmark = pytest.mark.filterwarnings("ignore:.* has no workers")  # where the machine is busy
SETTINGS = {"shards": 4, "rounds": 40, "optimizer": "adamw", **EVERYTHING}


@pytest.fixture(scope="module")
def workers():
    """A client of two worker processes."""
    with connect("local:2") as client:
        yield client


@pytest.fixture(scope="module")
def undisturbed(client):
    """The bits of a training, on other workers."""
    return bits(fit(client, **SETTINGS)[0])


# Workers.


def test_workers_have_one_thread_each(workers):
    assert set(workers.nthreads().values()) == {1}
    assert workers.dashboard_link.startswith("http://127.0.0.1:")


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_with_a_worker_killed_at_any_moment_the_bits_are_the_same(
    workers, undisturbed, times, figure
):
    chance = random.Random(1)
    count, killed = times(1, 50), 0
    while killed < count:
        workers.wait_for_workers(1)
        ended, sent = threading.Event(), []

        def kill(ended=ended, sent=sent):
            living = list(workers.run(os.getpid, on_error="ignore").values())
            if living and not ended.is_set():
                os.kill(chance.choice(living), signal.SIGKILL)
                sent.append(time.perf_counter())

        timer = threading.Timer(chance.uniform(0.05, 1), kill)
        timer.start()
        model, _ = fit(workers, **SETTINGS)
        ended.set()
        timer.join()
        assert bits(model) == undisturbed
        killed += bool(sent)
    figure(f"SIGKILL of a random worker at a random moment: {count} of {count} with the same bits")
    workers.wait_for_workers(2)  # they are back


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_with_all_workers_killed_at_once_work_goes_on_with_those_that_come(workers, monkeypatch):
    """While one compiles for all."""
    pid = list(workers.run(os.getpid).values())
    monkeypatch.setattr(clusters, "_compile", lambda augmentation: __import__("time").sleep(1))
    timer = threading.Timer(0.3, lambda: [os.kill(each, signal.SIGKILL) for each in pid])
    timer.start()
    clusters.compile_once(Tasks(workers), augmentation=False)
    timer.join()
    assert not {*pid} & {*workers.run(os.getpid).values()}
    workers.wait_for_workers(2, timeout=60)


def test_workers_that_dask_gives_up_are_replaced(workers):
    """As where one dies while it starts: its supervisor ends, too."""
    before = {*workers.run(os.getpid).values()}
    with dask.config.set({"distributed.deploy.lost-worker-timeout": "100ms"}):
        for supervisor in [*workers.cluster.workers.values()]:
            workers.sync(supervisor.close)
        workers.wait_for_workers(2, timeout=60)
    assert not before & {*workers.run(os.getpid).values()}


def test_workers_that_come_late_or_leave_change_no_bit(workers, undisturbed):
    seen = []

    def change(model, epoch):
        seen.append(len(workers.nthreads()))
        if len(seen) == 3:
            workers.cluster.scale(3)
            workers.wait_for_workers(3, timeout=60)
        if len(seen) == 20:
            workers.cluster.scale(1)
            while len(workers.nthreads()) > 1:
                time.sleep(0.01)

    model, _ = fit(workers, **SETTINGS, callbacks=[change])
    assert bits(model) == undisturbed
    assert (seen[3], seen[-1]) == (3, 1)
    workers.cluster.scale(2)
    workers.wait_for_workers(2, timeout=60)


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_worker_that_stalls_is_replaced_and_the_bits_are_the_same(undisturbed, times, figure):
    if not times(False, True):
        pytest.skip("takes 20 s; with --long")
    waits = []
    for _ in range(5):
        with connect("local:2", stalled=5) as client:
            stopped = []

            def stop(model, epoch, client=client, stopped=stopped):
                if not stopped:
                    stopped.extend(client.run(os.getpid).values())
                    os.kill(stopped[0], signal.SIGSTOP)

            began = time.perf_counter()
            model, _ = fit(client, **SETTINGS, callbacks=[stop])
            waits.append(time.perf_counter() - began)
            assert bits(model) == undisturbed
            assert stopped[0] not in client.run(os.getpid).values()
    figure(f"SIGSTOP of a worker: 5 of 5 with the same bits, the longest in {max(waits):.0f} s")


def test_a_worker_that_takes_long_to_end_loses_no_result(monkeypatch):
    """As it does on a busy machine, after it has been killed."""
    kill = distributed.Nanny.kill

    async def kill_and_wait(self, **options):
        await kill(self, **options)
        raise TimeoutError

    with connect("local:1") as client:
        monkeypatch.setattr(distributed.Nanny, "kill", kill_and_wait)
        pid = list(client.run(os.getpid).values())
    assert not psutil.pid_exists(pid[0])


def test_errors_come_from_other_processes_as_they_are(workers):
    model = network()
    with pytest.raises(fm.DivergedError, match="round 1, shard") as told:
        fit(workers, model=model, learning_rate=1e20, schedule="constant", steps=20)
    assert told.value.epoch == 1
    assert bits(model) == bits(network())
    with pytest.raises(ValueError, match="wanted 0 to 2"):
        fit(workers, model=fm.MLP([64, 3]))


def test_a_signal_while_a_cluster_starts_comes_when_it_is_there():
    done, usual = [], signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), clusters._signals_wait():  # noqa: PT012
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
        done.append("all of it")
    assert done == ["all of it"]
    assert signal.getsignal(signal.SIGINT) is usual
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_in_another_thread_signals_are_left_alone():
    def start():
        with clusters._signals_wait():
            seen.append(signal.getsignal(signal.SIGINT))

    seen = []
    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGINT)]


# Schedulers.


@contextlib.contextmanager
def elsewhere(folder, *, workers=1):
    """A scheduler and its workers as users start them; yields its process and its address."""
    told = folder / "scheduler.json"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": os.getcwd()}
    common = ("--no-dashboard", "--scheduler-file", str(told))

    def start(name, *arguments):
        return processes.start("-m", f"distributed.cli.dask_{name}", *arguments, *common, **quiet)

    started = [start("scheduler", "--host", "127.0.0.1", "--port", "0")]
    started += [start("worker", "--nthreads", "1", "--no-nanny") for _ in range(workers)]
    try:
        while not (told.exists() and told.read_text("utf-8").endswith("}")):
            assert started[0].poll() is None
            time.sleep(0.02)
        address = json.loads(told.read_text("utf-8"))["address"]
        with distributed.Client(address) as client:
            client.wait_for_workers(workers)
        yield started[0], address
    finally:
        for process in started:
            process.kill()
            process.wait()


def test_a_lost_scheduler_is_told_and_another_goes_on_to_the_same_bits(
    client, undisturbed, tmp_path, capfd
):
    path, model, kept = tmp_path / "training.npz", network(), []
    with elsewhere(tmp_path) as (scheduler, address):
        began = []

        def kill(model, epoch):
            kept.append(bits(model))
            if len(kept) == 3:
                scheduler.kill()
                began.append(time.perf_counter())

        with (
            pytest.raises(ClusterError) as told,
            connect(address, timeout=3) as theirs,
        ):
            fit(theirs, model=model, checkpoint=path, callbacks=[kill], **SETTINGS)
        assert time.perf_counter() - began[0] < 60
    assert str(told.value) == (
        f"the scheduler at {address} was lost, after round 3; {path} has all of it: resume"
    )
    assert bits(model) == kept[-1]
    assert capfd.readouterr().err == ""

    model, history = fit(client, checkpoint=path, resume=True, **SETTINGS)

    assert bits(model) == undisturbed
    assert len(history) == 40


def test_a_search_whose_scheduler_is_lost_keeps_its_study(client, tmp_path, capfd):
    path, told = tmp_path / "study.log", []
    with elsewhere(tmp_path) as (scheduler, address):

        def kill(trial, trials):
            told.append(trial)
            if len(told) == 2:
                scheduler.kill()

        with (
            pytest.raises(ClusterError, match=f"the scheduler at {address} was lost"),
            connect(address, timeout=3) as theirs,
        ):
            search(theirs, study=path, callbacks=[kill])
    assert capfd.readouterr().err == ""
    found = search(client, study=path)
    assert len(found.trials) == 4
    assert {repr(trial) for trial in told} <= {repr(trial) for trial in found.trials}


def test_without_a_checkpoint_it_is_told_that_none_was_asked_for(client):
    def lose(model, epoch):
        raise ClusterError("lost")

    with pytest.raises(ClusterError, match="lost, after round 1; no checkpoint was asked for"):
        fit(client, callbacks=[lose])


def test_a_task_that_no_worker_survives_is_told(client):
    killed = distributed.KilledWorker("task", "tcp://host:1", 3)
    with (
        pytest.raises(ClusterError, match=r"lost with 4 workers.*short of memory.*tcp://host:1"),
        Tasks(client)._translated(),
    ):
        raise killed


@pytest.mark.parametrize("address", ["", "locale", "local:", "local:x", "host:8786", "local:2:3"])
def test_an_address_that_is_none_is_an_error(address):
    with (
        pytest.raises(ValueError, match="a cluster is local, local:N or the address"),
        connect(address),
    ):
        pass


def test_no_worker_is_too_few():
    with pytest.raises(ValueError, match="workers must be from 1"), connect("local:0"):
        pass


NOBODY = "tcp://127.0.0.1:9"


def test_no_scheduler_is_told_with_what_to_do():
    with (
        pytest.raises(ClusterError, match=f"no scheduler answers at {NOBODY}.*dask scheduler"),
        connect(NOBODY, timeout=0.3),
    ):
        pass


def test_a_scheduler_without_workers_is_told_with_what_to_do():
    with (
        distributed.LocalCluster(
            n_workers=0, processes=False, protocol="tcp", dashboard_address="127.0.0.1:0"
        ) as empty,
        pytest.raises(ClusterError, match="has no workers; start some with: dask worker tcp://"),
        connect(empty.scheduler_address, timeout=0.3),
    ):
        pass


def test_workers_with_another_version_are_told(client, monkeypatch):
    monkeypatch.setattr(clusters, "__version__", "9.9")
    with pytest.raises(ClusterError, match=r"has 0.*this is fastmnist 9.9; .*,kernels\]==9.9"):
        check_versions(Tasks(client))


def absent():
    raise ModuleNotFoundError("No module named 'fastmnist'", name="fastmnist")


def test_workers_without_the_package_are_told(client, monkeypatch):
    monkeypatch.setattr(clusters, "_version", absent)
    with pytest.raises(ClusterError, match="has no fastmnist, this is"):
        check_versions(Tasks(client))


@pytest.mark.parametrize("module", ["distributed", "optuna"])
def test_without_the_extra_the_message_names_it(module):
    program = f"import sys; sys.modules[{module!r}] = None; import fastmnist.distributed"
    done = processes.run("-c", program)
    assert done.stderr.splitlines()[-1].startswith("ImportError: ")
    assert 'pip install "fastmnist[distributed]"' in done.stderr


# The command line.


@pytest.fixture(scope="module")
def csv(tmp_path_factory):
    """280 generated digits, of which the last 40 are to test with."""
    return write_csv(tmp_path_factory.mktemp("data") / "digits.csv", datasets.generate(280, seed=0))


@pytest.fixture(autouse=True)
def _somewhere_else(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def train(csv, workers):
    """Train on the workers by the command line."""
    address = workers.scheduler.address
    usual = ("--data", csv, "--hidden", "16", "--epochs", "6", "--batch-size", "20")
    return lambda *options: cli.main(
        ["train", *usual, "--cluster", address, "--shards", "3", *options]
    )


def test_train_on_a_cluster_is_fit(train, workers, csv, capsys):
    assert train("--rounds", "4", "--seed", "5", "--json") == 0
    out, err = capsys.readouterr()
    record = json.loads(out)
    data = datasets.load(csv).train
    expected = fm.MLP([784, 16, 10], seed=5)
    history = fm.distributed.fit(
        expected,
        data,
        workers,
        shards=3,
        rounds=4,
        steps=6,  # of 4 batches in each of 6 epochs
        batch_size=20,
        learning_rate=0.3,
        label_smoothing=0.1,
        augmentation=fm.Augmentation(shift=1),
        seed=5,
    )
    model = fm.MLP.load("fastmnist-model.npz")
    assert np.array_equal(model.params.flat, expected.params.flat)
    assert [epoch["loss"] for epoch in record["epochs"]] == history.loss
    lines = err.splitlines()
    assert f"2 workers, 2 tasks at a time; dashboard: {workers.dashboard_link}" in lines
    assert [line[:10] for line in lines if line.startswith("round")] == [
        f"round {number}/4:" for number in range(1, 5)
    ]


def test_train_on_a_cluster_is_resumed_to_the_same_bits(train, tmp_path, capsys, monkeypatch):
    assert train("--rounds", "5", "-o", "whole.npz") == 0

    def interrupt(self, model, epoch, call=cli.Progress.__call__):
        call(self, model, epoch)
        if self._done == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(cli.Progress, "__call__", interrupt)
        assert train("--rounds", "5", "-o", "two.npz", "--checkpoint", "c.npz") == 130
    assert capsys.readouterr().err.splitlines()[-2:] == [
        "kept as it was after round 2; to go on: fastmnist train --resume c.npz",
        "fastmnist: interrupted",
    ]

    assert cli.main(["train", "--resume", "c.npz"]) == 0

    assert "going on after round 2" in capsys.readouterr().err.splitlines()
    whole, two = (fm.MLP.load(name).params.flat for name in ("whole.npz", "two.npz"))
    assert np.array_equal(whole, two)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train", "--cluster", "locale"], "--cluster"),
        (["train", "--cluster", "local:0"], "--cluster"),
        (["train", "--cluster", "local:2", "--threads", "2"], "--cluster"),
        (["train", "--cluster", "local:2", "--shards", "0"], "--shards"),
        (["train", "--cluster", "local:2", "--rounds", "0"], "--rounds"),
        (["search"], "--vary"),
        (["search", "--vary", "hiddn=8"], "--vary.*did you mean 'hidden'"),
        (["search", "--vary", "hidden=8..4"], "--vary.*goes up to a larger number"),
        (["search", "--vary", "dropout=2,3"], "--vary.*dropout must be in"),
        (["search", "--vary", "hidden=8", "--trials", "0"], "--trials"),
        (["search", "--vary", "hidden=8", "--cluster", "host"], "--cluster"),
        (["search", "--vary", "hidden=8", "--recipe", "dfault"], "--recipe.*'default'"),
        (["search", "--vary", "hidden=8", "--validation", "240"], "--validation"),
    ],
)
def test_wrong_usage_names_the_option(arguments, said, csv, capsys):
    assert cli.main([*arguments, "--data", csv]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.search(said, err)
    assert os.listdir() == []


@pytest.mark.parametrize("command", [["train"], ["search", "--vary", "hidden=8,16"]])
def test_no_scheduler_at_the_address_is_an_error_with_advice(command, csv, capsys, monkeypatch):
    monkeypatch.setattr(clusters.connect.__wrapped__, "__kwdefaults__", QUICK)
    options = ["--data", csv, "--cluster", NOBODY, "--validation", "40"]
    assert cli.main([*command, *options]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"fastmnist: no scheduler answers at {NOBODY}")
    assert last.endswith("start one there with: dask scheduler")


QUICK = {"timeout": 0.3, "stalled": 15.0}


@pytest.mark.parametrize(
    "command", [["train", "--cluster", "local:1"], ["search", "--vary", "hidden=8"]]
)
def test_without_the_extra_the_command_line_names_it(command, csv):
    hidden = "import sys; sys.modules['distributed'] = None; from fastmnist.cli import main"
    done = processes.run("-c", f"{hidden}; sys.exit(main())", *command, "--data", csv)
    assert done.returncode == 1
    assert 'pip install "fastmnist[distributed]"' in done.stderr.splitlines()[-1]


def wait_until_gone(session):
    """Wait for the end of all processes of a session; those that are dead do not count."""

    def running():
        for number in filter(str.isdigit, os.listdir("/proc")):
            with (
                contextlib.suppress(OSError),
                open(f"/proc/{number}/stat", encoding="utf-8") as stat,
            ):
                state, _, _, theirs = stat.read().rpartition(")")[2].split()[:4]
                if int(theirs) == session and state != "Z":
                    yield number

    end = time.monotonic() + 30
    while left := list(running()):
        assert time.monotonic() < end, left
        time.sleep(0.05)


TRAINING = ("train", "--hidden", "16", "--epochs", "15", "--shards", "2")
SEARCH = ("search", "--vary", "hidden=8..64", "--validation", "80", "--trials", "9999")


@pytest.mark.skipif(sys.platform != "linux", reason="/proc of Linux")
@pytest.mark.parametrize(
    ("number", "code", "said"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
)
@pytest.mark.parametrize(
    ("command", "begun", "go_on"),
    [
        (TRAINING, "round", r"kept as it was after round \d+; .*: fastmnist train --resume"),
        (SEARCH, "trial", "trials that have ended are kept in study.log; to go on: the same"),
        (TRAINING, "network", None),
    ],
    ids=["train", "search", "start"],
)
def test_a_signal_to_all_processes_ends_them_in_peace(
    command, begun, go_on, number, code, said, csv, workers, times, figure
):
    """As a terminal sends Ctrl-C: to the workers, too. The training goes on to the same bits."""
    if not times(command is SEARCH and number == signal.SIGINT, True):
        pytest.skip("takes up to 10 s; with --long")
    chance, count = random.Random(8), times(1, 3)
    training = command is TRAINING
    keep = ("--checkpoint", "training.npz") if training else ("--study", "study.log")
    theirs = ("--cluster", workers.scheduler.address)
    if training and go_on:
        assert cli.main([*TRAINING, "--data", csv, *theirs, "-o", "whole.npz"]) == 0
    for _ in range(count):
        process = processes.start(
            *("-m", "fastmnist", *command, "--data", csv, "--cluster", "local:2", *keep),
            cwd=os.getcwd(),
        )
        processes.wait_for_line(process, "stderr", begun)
        time.sleep(chance.uniform(0, 0.2 if go_on else 2))
        os.killpg(process.pid, number)
        done = processes.finish(process)
        lines = done.stderr.splitlines()
        assert (done.returncode, done.stdout) == (code, "")
        assert lines.pop() == f"fastmnist: {said}"
        if go_on:
            assert re.match(go_on, lines.pop())
        assert all(line.startswith(("round", "trial", "2 workers")) for line in lines), lines
        wait_until_gone(process.pid)
        if training and go_on:
            assert cli.main(["train", "--resume", "training.npz", *theirs]) == 0
            whole, resumed = map(fm.MLP.load, ("whole.npz", "fastmnist-model.npz"))
            assert bits(resumed) == bits(whole)
            os.unlink("training.npz")
    figure(f"{signal.Signals(number).name} to a cluster ({begun}): {count} of {count} in peace")
