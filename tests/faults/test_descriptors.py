"""Each process holds its own descriptors and no other's: else nobody sees the end of anything."""

from __future__ import annotations

from pathlib import Path

import pytest
from faults.scene import Client, child_of
from support.deadline import wait_until

from forkbroker.parent.spares import LOT

needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs a mounted /proc with descriptors")

OWN = 8
"""Standard streams, channel, client, and what a log or a selector may need."""


def _count(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def _wait_for_descriptors(pid: int, number: int) -> None:
    """Wait until the parent has so many, or nearly: it has one of each spare, and orders these in lots."""
    wait_until(lambda: abs(_count(pid) - number) < LOT, f"{number} descriptors again")


@needs_proc
def test_a_child_holds_only_its_own(start, connect) -> None:
    """However many siblings it has: no socket of theirs, no listener, no pidfile."""
    broker = start("--listen", "127.0.0.1:0")
    clients = [connect(broker) for _ in range(50)]
    children = [child_of(broker, clients[0]), *(pid for pid, _ in broker.wait_for_children(50))]
    sockets = {
        pid: [link for link in map(Path.readlink, Path(f"/proc/{pid}/fd").iterdir()) if "socket" in str(link)]
        for pid in children
    }

    assert max(map(_count, children)) <= OWN
    # its channel and its client: what a signal wakes it by it gets when its client does more than connect
    assert {len(found) for found in sockets.values()} == {2}
    assert _count(broker.pid) >= 50


@needs_proc
def test_two_hundred_clients_that_came_and_went_leave_no_descriptor(start, connect) -> None:
    """In the parent; half of them left without a word."""
    broker = start("--fork-rate", 10_000)
    witness = connect(broker, "witness")
    before = _count(broker.pid)
    for number in range(200):
        with Client(broker.port) as client:
            client.login()
            if number % 2:
                client.request("DISCONNECT")
    broker.wait_for_children(1)
    witness.publish("/topic/news")

    _wait_for_descriptors(broker.pid, before)


@needs_proc
def test_refused_clients_leave_no_descriptor_either(start, connect) -> None:
    """Who is refused lingers in the parent for a second."""
    broker = start("--max-clients", 1)
    connect(broker, "witness")
    before = _count(broker.pid)
    for _ in range(100):
        with Client(broker.port) as client:
            client.expect("ERROR")

    _wait_for_descriptors(broker.pid, before)


def test_a_client_sees_its_end_although_others_came_after_it(start, connect) -> None:
    """Nobody else holds its socket: EOF comes when its process is done."""
    broker = start()
    first = connect(broker, "first")
    for _ in range(10):
        connect(broker)
    first.send("DISCONNECT", receipt="bye")
    first.expect("RECEIPT", receipt_id="bye")

    first.expect_eof()
