"""Every wait ends: for schedulers that are stopped or lost, workers that never come, lost hosts."""

import os
import signal
import sys
import threading
import time

import pytest
from test_cluster import elsewhere
from test_local_sgd import bits, fit, network
from test_search import search

pytest.importorskip("distributed")
pytest.importorskip("optuna")

import dask
import distributed
from distributed import Client, LocalCluster, Worker

from fastmnist.distributed import cluster as clusters
from fastmnist.distributed import connect, searching, tasks
from fastmnist.distributed.tasks import Tasks
from fastmnist.errors import ClusterError

HERE = {"processes": False, "threads_per_worker": 1, "dashboard_address": None}


@pytest.fixture
def empty():
    """A client of a cluster without workers, in this process."""
    with LocalCluster(n_workers=0, protocol="tcp", **HERE) as cluster, Client(cluster) as client:
        yield client


# Workers.


@pytest.fixture
def impatient(monkeypatch):
    """Short limits for what lasts minutes."""
    monkeypatch.setattr(tasks, "TICK", 0.1)
    monkeypatch.setattr(tasks, "QUIET", 0.3)
    monkeypatch.setattr(tasks, "NO_WORKERS", 0.5)


def test_a_search_without_workers_says_that_it_waits_and_ends(empty, impatient, tmp_path):
    path = tmp_path / "study.log"
    with (
        pytest.warns(UserWarning, match=r"has no workers: waiting up to 0.5 s for one; start some"),
        pytest.raises(ClusterError) as told,
    ):
        search(empty, study=path)
    assert str(told.value) == (
        f"the scheduler at {empty.scheduler.address} had no worker for 0.5 s, after 0 trials; "
        f"{path} has them: search again with it"
    )


@pytest.mark.filterwarnings("ignore:.* has no workers")
def test_a_training_without_workers_ends(empty, impatient):
    with pytest.raises(ClusterError, match=r"no worker for 0.5 s, after round 0; no checkpoint"):
        fit(empty)


@pytest.mark.filterwarnings("ignore:.* has no workers")
def test_the_limit_is_that_of_dasks_configuration(empty, impatient):
    with (
        dask.config.set({"distributed.scheduler.no-workers-timeout": "200ms"}),
        pytest.raises(ClusterError, match=r"had no worker for 0.2 s"),
    ):
        fit(empty)


@pytest.mark.filterwarnings("ignore:.* has no workers")
def test_a_search_whose_last_worker_is_lost_between_trials_ends_and_is_gone_on_with(
    empty, impatient, tmp_path
):
    path = tmp_path / "study.log"

    def leave(trial, trials):
        empty.cluster.scale(0)
        while empty.nthreads():
            time.sleep(0.01)

    empty.cluster.scale(1)
    empty.wait_for_workers(1)
    with pytest.raises(ClusterError, match=r"no worker for 0.5 s, after 1 trials; .*study.log has"):
        search(empty, study=path, callbacks=[leave])
    empty.cluster.scale(2)
    empty.wait_for_workers(2)
    assert len(search(empty, study=path).trials) == 4


@pytest.mark.filterwarnings("ignore:.* has no workers")
def test_adaptive_clusters_may_start_without_workers(empty, client):
    empty.cluster.adapt(minimum=0, maximum=2, interval="50ms")
    assert len(search(empty).trials) == 4
    assert bits(fit(empty)[0]) == bits(fit(client)[0])


both = threading.Barrier(2, timeout=60)


def together(*arguments, run_trial=searching.run_trial):
    """A trial that ends only if there is another at the same time."""
    both.wait()
    return run_trial(*arguments)


def test_workers_that_come_during_a_trial_get_another_at_once(empty, monkeypatch):
    monkeypatch.setattr(tasks, "TICK", 0.1)
    monkeypatch.setattr(searching, "run_trial", together)
    empty.cluster.scale(1)
    empty.wait_for_workers(1)
    timer = threading.Timer(0.5, empty.cluster.scale, [2])
    timer.start()
    assert len(search(empty).trials) == 4
    timer.join()


compiled_on, begun = [], threading.Event()


def compile_slowly(augmentation):
    compiled_on.append(distributed.get_worker().address.split(":")[1])
    begun.set()
    time.sleep(0.5)


@pytest.mark.skipif(sys.platform != "linux", reason="two addresses of this machine")
def test_compiling_goes_on_elsewhere_where_a_host_is_lost(empty, monkeypatch):
    """Dask forgets that others may do a task whose host has lost its last worker."""
    compiled_on.clear(), begun.clear()
    monkeypatch.setattr(tasks, "TICK", 0.1)
    monkeypatch.setattr(clusters, "_compile", compile_slowly)

    def only_worker_on(host):
        spec = {"cls": Worker, "options": {"nthreads": 1, "host": host}}
        empty.cluster.worker_spec = {host: spec}
        empty.cluster.scale(1)

    def replace():
        begun.wait()
        only_worker_on("127.0.0.1")

    only_worker_on("127.0.0.2")
    empty.wait_for_workers(1)
    thread = threading.Thread(target=replace)
    thread.start()
    clusters.compile_once(Tasks(empty), augmentation=False)
    thread.join()
    assert compiled_on == ["//127.0.0.2", "//127.0.0.1"]


# Schedulers.


def test_whatever_a_lost_scheduler_leads_to_is_a_cluster_error():
    with LocalCluster(n_workers=1, protocol="tcp", **HERE) as cluster:
        client = Client(cluster)
        lost = Tasks(client)
        future = lost.hold(1)
        lost.results([future])
        client.close()
    for call in (
        lost.threads,
        lost.hosts,
        lambda: lost.hold(1),
        lambda: lost.wait([future]),
        lambda: lost.results([future]),
        lambda: lost.wait_for_workers(1),
        lambda: lost.on_every_worker(bool),
    ):
        with pytest.raises(ClusterError, match=r"the scheduler at tcp://.* was lost"):
            call()


@pytest.mark.parametrize("error", [KeyError("workers"), AttributeError("comm"), OSError("closed")])
def test_errors_that_come_while_the_scheduler_answers_stay_as_they_are(error, client):
    with pytest.raises(type(error)) as told, Tasks(client)._translated():
        raise error
    assert told.value is error


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_scheduler_that_is_stopped_is_told_in_the_stated_time_and_goes_on_later(
    client, tmp_path, monkeypatch
):
    monkeypatch.setattr(tasks, "TICK", 0.1)
    path, study = tmp_path / "training.npz", tmp_path / "study.log"
    with elsewhere(tmp_path) as (scheduler, address):
        stopped = []

        def stop(*_):
            monkeypatch.setattr(tasks, "NO_ANSWER", 1.0)
            scheduler.send_signal(signal.SIGSTOP)
            stopped.append(time.perf_counter())

        with connect(address, timeout=60) as theirs:
            for run in (
                lambda **options: fit(theirs, checkpoint=path, **options),
                lambda **options: search(theirs, study=study, **options),
            ):
                with pytest.raises(ClusterError, match=r"has not answered for 1 s, after .* has "):
                    run(callbacks=[stop])
                took = time.perf_counter() - stopped[-1]
                scheduler.send_signal(signal.SIGCONT)
                monkeypatch.setattr(tasks, "NO_ANSWER", 30.0)
                assert took < 20  # 1.2 on an idle machine
            model, _ = fit(theirs, checkpoint=path, resume=True)
            found = search(theirs, study=study)
    assert bits(model) == bits(fit(client, model=network())[0])
    assert len(found.trials) == 4
