"""Tasks on Dask's workers. Every call to Dask goes through here, and every wait of it ends.

A call ends in a result, in the error of the task, or in a ClusterError. Dask itself waits for ever
for a scheduler that is stopped, or for workers that never come; and where a scheduler is lost it
raises whatever comes first: CancelledError, CommClosedError, KeyError, AttributeError, and others.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import math
import time
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, Literal

import dask
from dask.utils import parse_timedelta
from distributed import CancelledError, Client, Future, KilledWorker, wait
from distributed.comm.addressing import get_address_host
from distributed.comm.core import CommClosedError
from distributed.scheduler import NoWorkerError

from fastmnist.errors import ClusterError

TICK = 1.0  # seconds of waiting after which the scheduler is asked whether it is there
NO_ANSWER = 30.0  # seconds after which a scheduler that is connected but silent counts as lost
NO_WORKERS = 300.0  # seconds to wait for a worker, unless Dask's configuration has another limit
QUIET = 5.0  # seconds without a worker before there is a warning: a lost one is replaced in 1 to 3


class TaskLost(ClusterError):
    """Each worker that tried a task was lost with it."""


class Tasks:
    """The tasks of one training or search.

    Parameters
    ----------
    client : distributed.Client
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        # A client that has lost its scheduler may connect again, even to another scheduler with
        # the same address; but all tasks and results are gone then.
        self._connection = client.scheduler_comm
        self._address = client.scheduler and client.scheduler.address
        self._without_workers = 0.0  # seconds

    def submit(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Future[Any]:
        """The future of a pure function's result, of arguments that may be as large as a data set.

        It is recomputed when the worker that holds it is lost. Dask's own keys would be a hash of
        all arguments; each call gets a new one. `options` are those of `Client.submit`.
        """
        with (
            self._translated(),
            dask.config.set({"distributed.admin.large-graph-warning-threshold": "1TB"}),
        ):
            return self._client.submit(function, *arguments, pure=False, **options)

    def hold(self, value: Any) -> Future[Any]:
        """The future of the value itself, for tasks that share it: it travels to each once."""
        return self.submit(_held, value)

    def nthreads(self) -> dict[str, int]:
        """Of each worker, by its address, as the scheduler answers."""
        with self._translated():
            for _ in range(2):  # it may be this process that was stopped for half of it
                with contextlib.suppress(TimeoutError):
                    return dict(self._client.nthreads(callback_timeout=NO_ANSWER / 2))
            raise ClusterError(
                f"the scheduler at {self._address} has not answered for {NO_ANSWER:g} s"
            )

    def hosts(self) -> set[str]:
        """Those that have workers now."""
        return {get_address_host(worker) for worker in self.nthreads()}

    def threads(self) -> int:
        """How many tasks run at a time on the workers that are there now."""
        return sum(self.nthreads().values())

    def wait(
        self,
        futures: Collection[Future[Any]],
        return_when: Literal["ALL_COMPLETED", "FIRST_COMPLETED"] = "ALL_COMPLETED",
    ) -> bool:
        """Whether all tasks, or one of them, have ended within a second.

        A task may take as long as it needs, so wait again where they have not; ClusterError if the
        scheduler does not answer, or there has been no worker for too long.
        """
        with self._translated(), self._client.as_current():
            try:
                wait(list(futures), TICK, return_when)  # of a dict it would take the values
            except TimeoutError:
                self._check_workers()
                return False
        self._without_workers = 0.0
        return True

    def results(self, futures: Sequence[Future[Any]]) -> list[Any]:
        """What came of tasks, in their order; the first error is raised.

        Waited for beforehand: `gather` that is interrupted while it waits complains on the
        terminal.
        """
        while not self.wait(futures):
            pass
        return list(self._call(self._client.gather, futures, asynchronous=True))

    def wait_for_workers(self, timeout: float) -> None:
        """ClusterError if there is none so many seconds later."""
        wanted = self.hold(None)  # adaptive clusters start workers for tasks that wait
        deadline = time.monotonic() + timeout
        while not self.nthreads():
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"the scheduler at {self._address} has no workers; start some with: "
                    f"dask worker {self._address}"
                )
            time.sleep(0.05)
        wanted.release()

    def on_every_worker(self, function: Callable[[], Any]) -> dict[str, Any]:
        """What it returns on each, or its error, by address; the first call may import for long."""
        options = {"on_error": "return", "asynchronous": True}
        return dict(self._call(self._client.run, function, limit=NO_WORKERS, **options))

    def _call(
        self, function: Callable[..., Any], *arguments: Any, limit: float = math.inf, **options: Any
    ) -> Any:
        """What a call gives, however long it takes: as the connection or the limit allows."""
        with self._translated():

            async def call() -> Any:
                return await function(*arguments, **options)

            loop: Any = self._client.loop
            coroutine, waited = call(), 0.0
            try:
                running = asyncio.run_coroutine_threadsafe(coroutine, loop.asyncio_loop)
            except RuntimeError:  # a closed client has a closed loop
                coroutine.close()
                raise
            try:
                while running not in concurrent.futures.wait([running], TICK).done:
                    self._check_workers()
                    waited += TICK
                    if waited >= limit:
                        raise ClusterError(
                            f"a worker of the scheduler at {self._address} has not answered for "
                            f"{limit:g} s: is it stopped?"
                        )
                return running.result()  # it is done
            finally:
                running.cancel()

    def _check_workers(self) -> None:
        """Called once in each tick of waiting: this process may have been stopped for longer."""
        if self.nthreads():
            self._without_workers = 0.0
            return
        configured = dask.config.get("distributed.scheduler.no-workers-timeout", None)
        limit = float(parse_timedelta(configured or NO_WORKERS))
        self._without_workers += TICK
        if self._without_workers >= limit:
            raise ClusterError(f"the scheduler at {self._address} had no worker for {limit:g} s")
        if self._without_workers >= QUIET > self._without_workers - TICK:
            warnings.warn(
                f"the scheduler at {self._address} has no workers: waiting up to {limit:g} s for "
                f"one; start some with: dask worker {self._address}",
                stacklevel=2,
            )

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """ClusterError for whatever Dask raises where a task or the scheduler is lost."""
        try:
            yield
        except ClusterError:
            raise
        except KilledWorker as error:
            raise TaskLost(
                f"a task was lost with {error.allowed_failures + 1} workers, one after the other: "
                f"are they short of memory, or stopped from outside? ({error.last_worker})"
            ) from error
        except NoWorkerError as error:  # where Dask's configuration has a limit
            raise ClusterError(
                f"the scheduler at {self._address} had no worker for {error.timeout:g} s"
            ) from error
        except Exception as error:
            if isinstance(error, (CancelledError, CommClosedError)) or not self._connected():
                raise ClusterError(f"the scheduler at {self._address} was lost") from error
            raise

    def _connected(self) -> bool:
        """Whether the scheduler that was given these tasks still has them."""
        try:
            client = self._client
            client.nthreads(callback_timeout=NO_ANSWER)
            return client.status == "running" and client.scheduler_comm is self._connection
        except Exception:  # whatever Dask raises
            return False


def _held(value: Any) -> Any:
    return value
