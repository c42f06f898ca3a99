"""The sockets that accept: what an accepted connection is, and the one switch that makes them all wait."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from parts import logger_of, no_descriptors, turn_until

from forkbroker.parent.listener import ACCEPT_AT_ONCE, Connection, Listeners
from forkbroker.posix.loop import Loop


class Bench:
    """A listener on a port and one on a path, whose clients are accepted when the loop turns."""

    def __init__(self, path: Path) -> None:
        self.loop, self.lines, self.accepted = Loop(), list[str](), list[Connection]()
        self.then: Callable[[], None] = lambda: None
        self.closed: list[socket.socket] = []
        self.port = socket.create_server(("127.0.0.1", 0))
        self.path = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.path.bind(str(path))
        self.path.listen()
        self.clients: list[socket.socket] = []
        self.listeners = Listeners(
            self.loop,
            [self.port, self.path],
            accepted=self._accept,
            close=self._close,
            logger=logger_of(self.lines),
        )
        self.listeners.open()

    def _accept(self, client: Connection) -> None:
        self.accepted.append(client)
        self.then()

    def _close(self, listener: socket.socket) -> None:
        self.closed.append(listener)
        listener.close()

    def connect(self, listener: socket.socket | None = None) -> socket.socket:
        listener = listener or self.port
        client = socket.socket(listener.family)
        client.connect(listener.getsockname())
        self.clients.append(client)
        return client

    def turn(self) -> None:
        """A turn that waits for nothing."""
        self.loop.call_at(self.loop.now, lambda: None)
        self.loop.turn()

    def close(self) -> None:
        self.listeners.close()
        for one in self.clients + [client.socket for client in self.accepted]:
            one.close()
        self.loop.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path / "socket")
    yield made
    made.close()


def test_a_connection_comes_with_what_is_known_of_it(bench: Bench) -> None:
    """Its address for people, and its host; a Unix socket has none."""
    mine = bench.connect()
    bench.connect(bench.path)
    bench.turn()
    port = mine.getsockname()[1]

    assert [(client.host, client.socket.getblocking()) for client in bench.accepted] == [
        ("127.0.0.1", False),
        ("", False),
    ]
    assert bench.accepted[0].address == f"127.0.0.1:{port}"


def test_a_turn_accepts_a_few(bench: Bench) -> None:
    """Each costs a fork, in which nothing is routed."""
    for _ in range(ACCEPT_AT_ONCE + 1):
        bench.connect()
    bench.turn()
    assert len(bench.accepted) == ACCEPT_AT_ONCE
    bench.turn()

    assert len(bench.accepted) == ACCEPT_AT_ONCE + 1


def test_the_end_of_the_listeners_may_come_with_a_connection(bench: Bench) -> None:
    """The next one of the same turn is left to the backlog, and that is no error."""
    bench.connect()
    bench.connect()
    bench.then = bench.listeners.close
    bench.turn()

    assert len(bench.accepted) == 1
    assert bench.lines == []


def test_who_has_left_without_a_word_is_closed(bench: Bench) -> None:
    """What another one has sent before it left counts."""
    bench.connect().close()
    quick = bench.connect()
    quick.sendall(b"CONNECT")
    quick.shutdown(socket.SHUT_WR)
    bench.turn()

    assert [client.socket.recv(100) for client in bench.accepted] == [b"CONNECT"]


def test_accepting_pauses_when_the_system_has_no_descriptors(bench: Bench) -> None:
    """One line, no spinning, and accepting goes on by itself."""
    bench.connect()
    with no_descriptors():
        bench.loop.turn()
    assert not bench.accepted
    assert bench.lines == ["cannot accept connections: Too many open files, raise the limit of open files"]
    began, turns = time.monotonic(), 0

    def look() -> bool:
        nonlocal turns
        turns += 1
        return bool(bench.accepted)

    turn_until(bench.loop, look)

    assert time.monotonic() - began < 1.0
    assert turns <= 10
    assert len(bench.lines) == 1


def test_a_closed_listener_is_its_owners_to_remove(bench: Bench) -> None:
    """Its path may be another process's; nobody is accepted any more, and a second time changes nothing."""
    names, address = bench.listeners.names, bench.port.getsockname()
    bench.listeners.close()
    bench.listeners.close()

    assert names[0].startswith("127.0.0.1:")
    assert bench.closed == [bench.port, bench.path]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)


def test_listeners_can_be_exchanged(bench: Bench) -> None:
    """One that is given up is closed, a new one accepts; while all wait, it waits as well."""
    fresh = socket.create_server(("127.0.0.1", 0))
    bench.listeners.change([fresh], [bench.port])
    bench.connect(fresh)
    bench.turn()
    assert bench.closed == [bench.port]
    assert len(bench.accepted) == 1
    assert len(bench.listeners.names) == 2

    late = socket.create_server(("127.0.0.1", 0))
    bench.connect(fresh)
    with no_descriptors():
        bench.loop.turn()
    bench.listeners.change([late], [])
    bench.connect(late)
    bench.turn()
    assert len(bench.accepted) == 1
    turn_until(bench.loop, lambda: len(bench.accepted) == 3)


def test_a_listener_that_comes_before_the_beginning_waits_for_it(bench: Bench, tmp_path: Path) -> None:
    """The store is not open yet."""
    accepted: list[Connection] = []
    listeners = Listeners(
        bench.loop,
        [],
        accepted=accepted.append,
        close=socket.socket.close,
        logger=logger_of([]),
    )
    fresh = socket.create_server(("127.0.0.1", 0))
    listeners.change([fresh], [])
    bench.connect(fresh)
    bench.turn()
    assert accepted == []
    listeners.open()
    bench.turn()
    assert len(accepted) == 1
    accepted[0].socket.close()
    listeners.close()
