"""Dask's scheduler and its workers: embedded in this process, or a cluster of others."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import re
import signal
import sys
import threading
from collections.abc import Iterator
from multiprocessing import resource_tracker
from typing import Any

from distributed import Client, Future, LocalCluster
from distributed.utils import silence_logging_cmgr
from tornado.ioloop import PeriodicCallback

from fastmnist import __version__
from fastmnist.checks import whole
from fastmnist.distributed.tasks import Tasks
from fastmnist.errors import ClusterError
from fastmnist.threads import thread_count

STALLED = 15.0  # seconds without a sign of life after which an embedded worker is replaced
SILENT = logging.CRITICAL


@contextlib.contextmanager
def connect(
    address: str = "local", *, timeout: float = 10.0, stalled: float = STALLED
) -> Iterator[Client]:
    """Dask workers to train on, for as long as the block lasts.

    Parameters
    ----------
    address : str
        "local" is an embedded scheduler with a worker process for each processor that this process
        may use, "local:2" one with two. "tcp://host:8786" is a scheduler that runs elsewhere, with
        workers of its own, each with this version of the package installed.
    timeout : float
        Seconds to wait for that scheduler, and for its first worker.
    stalled : float
        Seconds after which an embedded worker that gives no sign of life is replaced, at least 5.
        Elsewhere that is Dask's ``distributed.scheduler.worker-ttl``.

    Yields
    ------
    distributed.Client
        Each worker does as many tasks at a time as it has threads, each task on one thread; an
        embedded one has one. `client.dashboard_link` shows what they do.

    Raises
    ------
    ValueError
        If the address is of no such form.
    ClusterError
        If there is no scheduler, it has no worker, or a worker has no or another fastmnist.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(silence_logging_cmgr(SILENT))  # what matters is raised
        if local := re.fullmatch(r"local(?::(\d+))?", address):
            workers = whole("workers", int(local[1] or thread_count()), 1)
            client = stack.enter_context(_embedded(workers, stalled))
        elif re.match(r"\w+://", address):
            client = stack.enter_context(_elsewhere(address, timeout))
        else:
            raise ValueError(
                f"a cluster is local, local:N or the address of a scheduler such as "
                f"tcp://host:8786; got {address!r}"
            )
        check_versions(Tasks(client))
        yield client


@contextlib.contextmanager
def _embedded(workers: int, stalled: float) -> Iterator[Client]:
    with contextlib.ExitStack() as stack:
        with _signals_wait():
            embedded = LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                dashboard_address="127.0.0.1:0",  # seen from this machine only, on any free port
                silence_logs=SILENT,
                # Imported in the first task, seconds on a busy machine, no heartbeat would be sent:
                # such a worker would count as stalled, be replaced, and so on.
                preload=["fastmnist.distributed"],
                scheduler_kwargs={"worker_ttl": f"{stalled}s"},
            )
            cluster = stack.enter_context(_closing(embedded))
            client = stack.enter_context(_closing(Client(cluster)))
        # Dask starts a worker that is lost again, but gives it up if that fails or takes long.
        again = PeriodicCallback(lambda: cluster.scale(len(cluster.worker_spec)), 1000)
        client.loop.add_callback(again.start)
        stack.callback(client.loop.add_callback, again.stop)
        yield client


@contextlib.contextmanager
def _elsewhere(address: str, timeout: float) -> Iterator[Client]:
    try:
        client = Client(address, timeout=timeout)
    except (OSError, ValueError) as error:
        raise ClusterError(
            f"no scheduler answers at {address}: {error}; start one there with: dask scheduler"
        ) from error
    with _closing(client):
        Tasks(client).wait_for_workers(timeout)
        yield client


@contextlib.contextmanager
def _closing(opened: Any) -> Iterator[Any]:
    """Close a client or a cluster at the end, without losing what came of the block.

    On a busy machine processes take longer to end than Dask waits for them. They have been killed.
    """
    try:
        yield opened
    finally:
        with contextlib.suppress(TimeoutError):
            opened.close()


@contextlib.contextmanager
def _signals_wait() -> Iterator[None]:
    """Ctrl-C and SIGTERM come after this block, or half a cluster would be left.

    Ctrl-C never comes to the workers that are started in it: it is for this process to close them.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    usual = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for each in usual:
        signal.signal(each, lambda number, _: came.append(number))
    _block_ctrl_c(True)
    try:
        yield
    finally:
        _block_ctrl_c(False)
        for each, handler in usual.items():
            signal.signal(each, handler)
        if came:
            signal.raise_signal(came[0])


def _block_ctrl_c(block: bool) -> None:
    """Block Ctrl-C or not, for this thread and the processes and threads that it starts."""
    if sys.platform == "win32":  # ignored meanwhile, not deferred
        ctypes.windll.kernel32.SetConsoleCtrlHandler(None, block)
    else:
        resource_tracker.ensure_running()  # its start would undo the mask in the thread that forks
        signal.pthread_sigmask(signal.SIG_BLOCK if block else signal.SIG_UNBLOCK, {signal.SIGINT})


def check_client(client: Any) -> None:
    """Raise TypeError if it is none."""
    if not isinstance(client, Client):
        raise TypeError(
            "client must be that of `with fastmnist.distributed.connect() as client`, "
            f"got {client!r}"
        )


def check_versions(tasks: Tasks) -> None:
    """Raise ClusterError unless every worker answers, with this version of the package."""
    for address, version in tasks.on_every_worker(_version).items():
        if isinstance(version, OSError):
            continue  # lost meanwhile
        if isinstance(version, ModuleNotFoundError):
            version = "no fastmnist"
        if version != __version__:
            raise ClusterError(
                f"the worker at {address} has {version}, this is fastmnist {__version__}; install "
                f'the same on all: pip install "fastmnist[distributed,kernels]=={__version__}"'
            )


def _version() -> str:
    from fastmnist import __version__

    return __version__


def _compile(augmentation: bool) -> None:
    from fastmnist.kernels import warmup  # Numba, only now

    warmup(augmentation=augmentation)


def compile_once(tasks: Tasks, *, augmentation: bool) -> None:
    """Compile the kernels on one worker of each host; the others load them from its disk.

    Hosts, not workers: a worker that is lost is seldom the last one of its host.
    """

    def compile_on(*hosts: str) -> Future[Any]:
        options = {"workers": list(hosts), "allow_other_workers": True} if hosts else {}
        return tasks.submit(_compile, augmentation, **options)

    futures = {host: compile_on(host) for host in tasks.hosts()} or {"any": compile_on()}
    while not tasks.wait(list(futures.values())):
        # A task for a host waits for ever where all workers of that are lost, though others may
        # do it: Dask forgets this in the state "no-worker".
        for host in futures.keys() - {"any"} - tasks.hosts():
            del futures[host]
            futures["any"] = compile_on()
    try:
        tasks.results(list(futures.values()))
    except ImportError as error:
        raise ClusterError(f"a worker cannot use the kernels: {error}") from error
