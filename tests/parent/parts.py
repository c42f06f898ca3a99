"""What tests of single parts of the parent need, which run in the test's own process."""

from __future__ import annotations

import logging
import os
import resource
import socket
import time
from collections.abc import Callable, Iterator, Sized
from contextlib import contextmanager, suppress

from driven import PATIENCE_S
from support.spares import ClientProgram

from forkbroker.parent.control.broker import ParentStatus
from forkbroker.parent.listener import Connection
from forkbroker.parent.processes import Forge
from forkbroker.posix import children
from forkbroker.posix.loop import Loop
from forkbroker.posix.semaphores import SemaphorePool
from forkbroker.routing.peers import Peer
from forkbroker.routing.queues.policies import Policy
from forkbroker.routing.router import Router
from forkbroker.wire.channel import Channel
from forkbroker.wire.envelope import Envelope, pack
from forkbroker.wire.kinds import Kind


def logger_of(lines: list[str]) -> logging.Logger:
    """A logger that collects its lines."""
    logger = logging.Logger("test")
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logger.addHandler(handler)
    return logger


class OwnChildren:
    """A source of clients' children that the test's own process forks when they are wanted."""

    def __init__(self, program: ClientProgram, forge: Forge) -> None:
        self._program = program
        self._forge = forge

    def give(self, client: Connection, peer: Peer) -> tuple[int, Channel]:
        def serve(end: socket.socket) -> int:
            return self._program(end, client.socket, client.address, peer)

        return self._forge.fork(serve, [client.socket.fileno()])

    def closed(self, pid: int) -> None:
        """They are reaped here."""

    def kill(self, pid: int) -> None:
        children.kill(pid)


@contextmanager
def no_descriptors() -> Iterator[None]:
    """All descriptors that this process may have are taken."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, limits[1]))
    hoard = []
    try:
        with suppress(OSError):
            while True:
                hoard.append(os.dup(0))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for fd in hoard:
            os.close(fd)


def open_router(semaphores: SemaphorePool, now: float) -> Router:
    """A router whose store is open and has nothing."""
    router = Router(Policy(max_queues=20_000), semaphores, time.time)
    for said in (pack(Kind.OPENING, serial=1), pack(Kind.OPENED)):
        router.receive_stored(Envelope(b"".join(said)), now)
    return router


def make_status(clients: Sized, set_log_level: Callable[[str], None] = lambda _: None) -> ParentStatus:
    """What a parent with these clients shows of itself."""
    return ParentStatus(
        phase=lambda: "running",
        listening=lambda: ["127.0.0.1:1"],
        clients=lambda: len(clients),
        max_clients=lambda: 100,
        processes=lambda: {"clients": len(clients)},
        octets=lambda: (1, 2),
        started=1_800_000_000.0,
        latencies=lambda: None,
        list_processes=lambda: iter([{"role": "parent", "pid": 1}]),
        set_log_level=set_log_level,
        reloading=None,
    )


def turn_until(loop: Loop, condition: Callable[[], object]) -> None:
    """Turns of the loop until this is so; if that takes too long, the test has failed."""
    deadline = loop.call_at(time.monotonic() + PATIENCE_S, _give_up)
    while not condition():
        loop.turn()
    deadline.cancel()


def pass_time(loop: Loop, until: float) -> None:
    """Do what is due until then, without any waiting."""
    while loop._deadlines and loop._deadlines[0][0] <= until + 1e-6:
        loop.now = loop._deadlines[0][0]
        loop._call_due()
    loop.now = until


def _give_up() -> None:
    raise AssertionError(f"nothing has happened for {PATIENCE_S:.0f} s")
