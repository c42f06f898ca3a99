"""What becomes of an accepted connection."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator

import pytest
from driven import wait_until
from parts import OwnChildren, logger_of, no_descriptors
from puppet import Switchboard

from forkbroker.parent.admission import Admission, AdmissionPolicy
from forkbroker.parent.clients import Clients
from forkbroker.parent.entitling import Entitling
from forkbroker.parent.exchange import Exchange
from forkbroker.parent.flow import FlowPolicy
from forkbroker.parent.listener import Connection
from forkbroker.parent.processes import Forge
from forkbroker.parent.reception import Reception
from forkbroker.parent.refusals import Refusals
from forkbroker.permissions import Permissions
from forkbroker.posix import children
from forkbroker.posix.loop import Loop
from forkbroker.routing.peers import Peer
from forkbroker.wire.budget import Budget


def sleep(_end: socket.socket, _client: socket.socket, _address: str, _peer: int) -> int:
    signal.pause()
    return 0


class Desk:
    """A reception with room for two clients, one of which may not have logged in."""

    def __init__(self) -> None:
        self.loop, self.lines = Loop(), list[str]()
        logger = logger_of(self.lines)
        exchange = Exchange(self.loop, Switchboard(logger), FlowPolicy(), Budget(0))
        policy = AdmissionPolicy(max_clients=2, max_pending_logins=1)
        self.admission = Admission(policy, str, self.loop.now)
        self.refusals = Refusals(self.loop, lambda reason, _: reason.encode(), logger)
        self.clients = Clients(
            exchange,
            self.admission,
            OwnChildren(sleep, Forge(1000, lambda: ())),
            Entitling(Permissions(), str),
            lambda _: None,
            logger,
        )
        self.reception = Reception(exchange, self.admission, self.clients, self.refusals, logger)
        self.theirs: list[socket.socket] = []

    def connect(self) -> socket.socket:
        """The client's end."""
        ours, theirs = socket.socketpair()
        theirs.settimeout(10.0)
        self.theirs.append(theirs)
        self.reception.accepted(Connection(ours, "unix", ""))
        return theirs

    def close(self) -> None:
        self.clients.kill_all()

        def reap() -> bool:
            for ended in children.reap():
                self.clients.reaped(ended)
            return not self.clients.all

        wait_until(reap, "the ends of all children")
        self.refusals.close()
        for end in self.theirs:
            end.close()
        self.loop.close()


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    yield made
    made.close()


def test_a_client_gets_a_process(desk: Desk) -> None:
    """And nothing is said."""
    desk.connect()

    assert [child.peer for child in desk.clients.all] == [1]
    assert desk.lines == []


def test_at_the_limit_it_is_told_why_it_gets_none(desk: Desk) -> None:
    """In the words of the rules."""
    for _ in range(2):
        desk.connect()
    words = desk.connect().recv(100)

    assert words == b"too many clients, 2 are connected and max-clients is 2"
    assert desk.lines == ["client unix: refused, too many clients, 2 are connected and max-clients is 2"]
    assert len(desk.clients.all) == 2


def test_the_oldest_without_a_login_makes_room(desk: Desk) -> None:
    """It is told to end, and counts no more; one that has logged in is left alone."""
    desk.connect()
    desk.connect()
    first, second = desk.clients.all

    assert (first.channel.pending > 0, second.channel.pending) == (True, 0)


def test_one_that_has_logged_in_makes_no_room(desk: Desk) -> None:
    """Its place is its own."""
    desk.connect()
    desk.admission.connected(Peer(1))
    desk.connect()

    assert [child.channel.pending for child in desk.clients.all] == [0, 0]


def test_without_room_for_a_process_it_is_told_so(desk: Desk) -> None:
    """Nobody else is accepted for a second."""
    ours, theirs = socket.socketpair()
    desk.theirs.append(theirs)
    with no_descriptors():
        desk.reception.accepted(Connection(ours, "unix", ""))

    assert theirs.recv(100) == b"the broker has no room for a process: Too many open files"
    assert desk.lines[0] == "client unix: cannot fork a child process: Too many open files"
    assert desk.admission.opens_at(desk.loop.now) == pytest.approx(desk.loop.now + 1.0)
    assert desk.clients.all == []
