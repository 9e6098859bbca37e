"""Links between hosts that are all this machine: TCP relays that limit and delay what passes.

Each worker is a host with a link to a hub, where scheduler and driver are. All of a worker's
connections pass its link and the hub's, each way by itself.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

CHUNK = 16 * 1024  # bytes that pass a link at a time


@dataclass(frozen=True)
class Host:
    """Ports of this machine that play one worker's host."""

    worker: int  # where the worker listens
    contact: int  # where others reach it
    scheduler: int  # where it reaches the scheduler


@dataclass
class Links:
    """How all links are, and what has passed the hub's; shared with the process that relays."""

    rate: Any = field(default_factory=lambda: multiprocessing.Value("d", 0))  # bytes a second
    delay: Any = field(default_factory=lambda: multiprocessing.Value("d", 0))  # seconds, one way
    passed: Any = field(default_factory=lambda: multiprocessing.Value("q", 0))  # bytes, both ways

    def set(self, bits: float, delay: float) -> None:
        """Bits a second, 0 for no limit, and seconds."""
        self.rate.value, self.delay.value = bits / 8, delay


class _Way:
    """One way of a link: when it has passed on all that it was given."""

    def __init__(self) -> None:
        self.free = 0.0

    def passes(self, size: int, rate: float) -> float:
        """When `size` bytes that come now will be through."""
        self.free = max(self.free, time.monotonic()) + (size / rate if rate else 0)
        return self.free


@contextmanager
def relayed(scheduler: int, hosts: Sequence[Host]) -> Iterator[Links]:
    """Relay for these hosts, in a process of its own, as long as the block lasts."""
    links = Links()
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
    hub = _Way(), _Way()  # to it, from it
    for host in hosts:
        own = _Way(), _Way()  # from it, to it
        up, down = (own[0], hub[0]), (hub[1], own[1])
        await _listen(host.scheduler, scheduler, up, down, links)
        await _listen(host.contact, host.worker, down, up, links)
    await asyncio.Event().wait()


async def _listen(port: int, target: int, there: Any, back: Any, links: Links) -> None:
    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", target)
        except OSError:
            writer.close()
            return
        await asyncio.gather(
            _pump(reader, far_writer, there, links), _pump(far_reader, writer, back, links)
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
            with links.passed.get_lock():
                links.passed.value += len(chunk)
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
