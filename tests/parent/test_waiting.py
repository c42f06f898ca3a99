"""Connections that have no process yet."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from dataclasses import replace

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
    """Those in capitals are suspects."""
    waiting = Waiting()
    for name in names:
        waiting.add(name[0].lower(), replace(make(name), is_suspect=name[0].isupper()))
    return waiting


def take_all_in_turn(waiting: Waiting) -> list[str]:
    return [waiting.take(next(iter(waiting))).address for _ in range(len(waiting))]


def test_each_origin_has_its_turn(make: Make) -> None:
    """Within an origin they go in order."""
    waiting = fill(make, "a1", "a2", "a3", "b1", "c1", "c2")

    assert take_all_in_turn(waiting) == ["a1", "b1", "c1", "a2", "c2", "a3"]
    assert len(waiting) == 0
    assert list(waiting) == []


def test_suspects_have_one_turn_in_four(make: Make) -> None:
    """And all that are left by others; an origin may have become one."""
    waiting = fill(make, "a1", "A2", "B1", "C1", "c0", "a3", "a4", "C2")

    assert take_all_in_turn(waiting) == ["a1", "c0", "a3", "A2", "a4", "B1", "C1", "C2"]


def find_excess(waiting: Waiting, origin: str, *, is_suspect: bool = False) -> str:
    excess = waiting.take_excess(origin, is_suspect=is_suspect)
    return "" if excess is None else excess.address


def test_the_excess_is_the_newest_of_the_origin_that_has_the_most(make: Make) -> None:
    """Nothing is gained by it for an origin that would have as many then."""
    waiting = fill(make, "a1", "a2", "b1", "a3")

    assert find_excess(waiting, "b") == "a3"
    assert (len(waiting), waiting.count("a"), waiting.count("b"), waiting.count("c")) == (3, 2, 1, 0)
    assert [find_excess(waiting, origin) for origin in "abcc"] == ["", "", "a2", ""]
    assert find_excess(Waiting(), "a") == ""


def test_suspects_go_first_and_are_equal_among_themselves(make: Make) -> None:
    """For one that is none, even if it has more than they have."""
    waiting = fill(make, "a1", "a2", "a3", "B1", "B2", "C1")

    assert find_excess(waiting, "c", is_suspect=True) == ""
    assert find_excess(waiting, "d", is_suspect=True) == "B2"
    assert find_excess(waiting, "d", is_suspect=True) == ""
    assert [find_excess(waiting, "a") for _ in range(3)] == ["B1", "C1", ""]
    assert find_excess(waiting, "d", is_suspect=True) == ""
    assert len(waiting) == 3


def test_all_can_be_taken(make: Make) -> None:
    """At the end of the broker."""
    waiting = fill(make, "a1", "B1")

    assert {connection.address for connection in waiting.take_all()} == {"a1", "B1"}
    assert len(waiting) == 0
