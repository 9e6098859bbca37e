"""Links between hosts that are all this machine: TCP relays that limit and delay what passes.

Each worker is a host with a link, and so is the hub, where scheduler and driver are. A connection
passes the links of its two ends, each way by itself.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil

CHUNK = 16 * 1024  # bytes that pass a link at a time


@dataclass(frozen=True)
class Host:
    """Ports of this machine that play one worker's host."""

    worker: int  # where the worker listens
    contact: int  # where others reach it
    scheduler: int  # where it reaches the scheduler


class Links:
    """How all links are, and what has passed each; shared with the process that relays."""

    def __init__(self, hosts: int) -> None:
        self.rate = multiprocessing.Value("d", 0)  # bytes a second
        self.delay = multiprocessing.Value("d", 0)  # seconds, one way
        self._passed = multiprocessing.Array("q", 2 * (1 + hosts))  # of the hub first

    def passed(self) -> np.ndarray:
        """Bytes over each link so far: of shape (1 + hosts, 2), the hub first, out and in."""
        return np.array(self._passed[:]).reshape(-1, 2)

    def count(self, way: _Way, size: int) -> None:
        with self._passed.get_lock():
            self._passed[way.number] += size

    def set(self, bits: float, delay: float) -> None:
        """Bits a second, 0 for no limit, and seconds."""
        self.rate.value, self.delay.value = bits / 8, delay


class _Way:
    """One way of a link: when it has passed on all that it was given."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.free = 0.0

    def passes(self, size: int, rate: float) -> float:
        """When `size` bytes that come now will be through."""
        self.free = max(self.free, time.monotonic()) + (size / rate if rate else 0)
        return self.free


@contextmanager
def relayed(scheduler: int, hosts: Sequence[Host]) -> Iterator[Links]:
    """Relay for these hosts, in a process of its own, as long as the block lasts."""
    links = Links(len(hosts))
    context = multiprocessing.get_context("fork")  # no thread runs in here yet
    process = context.Process(target=_relay, args=(scheduler, hosts, links), daemon=True)
    process.start()
    try:
        yield links
    finally:
        process.terminate()
        process.join()


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _relay(scheduler: int, hosts: Sequence[Host], links: Links) -> None:
    asyncio.run(_serve(scheduler, hosts, links))


async def _serve(scheduler: int, hosts: Sequence[Host], links: Links) -> None:
    hub, *own = [(_Way(2 * i), _Way(2 * i + 1)) for i in range(1 + len(hosts))]  # out, in
    for host, ways in zip(hosts, own, strict=True):
        # a worker connects to the scheduler; the driver, the scheduler and workers to a worker
        await _listen(host.scheduler, scheduler, lambda _, ways=ways: (ways, hub), links)

        def ends(port: int, host: Host = host, ways: Any = ways) -> Any:
            from_worker = _worker_connected_from(port, host.contact, hosts)
            return hub if from_worker is None else own[from_worker], ways

        await _listen(host.contact, host.worker, ends, links)
    await asyncio.Event().wait()


def _worker_connected_from(port: int, to: int, hosts: Sequence[Host]) -> int | None:
    """Which worker's process has that end of a connection; None of the driver and scheduler."""
    sockets = psutil.net_connections("tcp4")
    process = next(c.pid for c in sockets if c.raddr and (c.laddr[1], c.raddr[1]) == (port, to))
    listening = {c.laddr[1] for c in sockets if c.pid == process and c.status == "LISTEN"}
    return next((i for i, host in enumerate(hosts) if host.worker in listening), None)


async def _listen(port: int, target: int, ends: Callable[[int], Any], links: Links) -> None:
    """Relay to that port; `ends` gives the ways of both ends, by the port of the one."""

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            near, far = await asyncio.to_thread(ends, writer.get_extra_info("peername")[1])
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", target)
        except (OSError, StopIteration, RuntimeError):  # it is closed already
            writer.close()
            return
        await asyncio.gather(
            _pump(reader, far_writer, (near[0], far[1]), links),
            _pump(far_reader, writer, (far[0], near[1]), links),
        )

    await asyncio.start_server(relay, "127.0.0.1", port)


async def _pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ways: Any, links: Links
) -> None:
    """Pass on what is read, each chunk when it is through all ways, and the delay is over."""
    waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def write() -> None:
        while True:
            when, chunk = await waiting.get()
            if (wait := when - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            if not chunk:
                break
            writer.write(chunk)
            await writer.drain()

    writing = asyncio.create_task(write())
    try:
        while True:
            chunk = await reader.read(CHUNK)
            for way in ways:
                links.count(way, len(chunk))
            rate = links.rate.value
            through = max(way.passes(len(chunk), rate) for way in ways)
            waiting.put_nowait((through + links.delay.value, chunk))
            if not chunk:
                break
            if (ahead := through - time.monotonic()) > 0.05:  # so that little waits in here
                await asyncio.sleep(ahead - 0.05)
        await writing
    except OSError:
        pass
    finally:
        writing.cancel()
        writer.close()
