"""Connections that have no process yet."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import pytest

from forkbroker.parent.listener import Connection
from forkbroker.parent.waiting import Waiting

Make = Callable[[str], Connection]


@pytest.fixture
def make() -> Iterator[Make]:
    """Connections with a name."""
    sockets: list[socket.socket] = []

    def run(name: str) -> Connection:
        sockets.append(socket.socket())
        return Connection(sockets[-1], name, name[0])

    yield run
    for one in sockets:
        one.close()


def fill(make: Make, *names: str) -> Waiting:
    waiting = Waiting()
    for name in names:
        waiting.add(name[0], make(name))
    return waiting


def test_each_origin_has_its_turn(make: Make) -> None:
    """Within an origin they go in order."""
    waiting = fill(make, "a1", "a2", "a3", "b1", "c1", "c2")
    taken = [waiting.take(next(iter(waiting))).address for _ in range(len(waiting))]

    assert taken == ["a1", "b1", "c1", "a2", "c2", "a3"]
    assert len(waiting) == 0
    assert list(waiting) == []


def test_the_excess_is_the_newest_of_the_origin_that_has_the_most(make: Make) -> None:
    """Nothing is gained by it for an origin that would have as many then."""
    waiting = fill(make, "a1", "a2", "b1", "a3")
    excess = waiting.take_excess("b")

    assert excess is not None
    assert excess.address == "a3"
    assert (len(waiting), waiting.count("a"), waiting.count("b"), waiting.count("c")) == (3, 2, 1, 0)
    assert waiting.take_excess("a") is None
    assert waiting.take_excess("b") is None
    assert waiting.take_excess("c") is not None
    assert waiting.take_excess("c") is None
    assert Waiting().take_excess("a") is None


def test_all_can_be_taken(make: Make) -> None:
    """At the end of the broker."""
    waiting = fill(make, "a1", "b1")

    assert {connection.address for connection in waiting.take_all()} == {"a1", "b1"}
    assert len(waiting) == 0
