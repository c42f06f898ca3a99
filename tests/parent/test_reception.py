"""What becomes of an accepted connection."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator

import pytest
from driven import wait_until
from parts import OwnChildren, logger_of, no_descriptors, turn_until
from puppet import Switchboard

from forkbroker.parent.admission import Admission, AdmissionPolicy
from forkbroker.parent.channels import Channels
from forkbroker.parent.clients import Clients
from forkbroker.parent.entitling import Entitling
from forkbroker.parent.flow import FlowPolicy
from forkbroker.parent.listener import Connection
from forkbroker.parent.processes import Forge
from forkbroker.parent.reception import Reception
from forkbroker.parent.refusals import Refusals
from forkbroker.permissions import Permissions
from forkbroker.posix import children
from forkbroker.posix.loop import Loop
from forkbroker.routing.peers import Peer
from forkbroker.wire.receive_memory import ReceiveMemory


def sleep(_end: socket.socket, _client: socket.socket, _address: str, _peer: int) -> int:
    signal.pause()
    return 0


class Desk:
    """A reception with room for two clients, `most_pending` of which may not have logged in."""

    def __init__(self, most_pending: int = 1) -> None:
        self.loop, self.lines = Loop(), list[str]()
        logger = logger_of(self.lines)
        self.channels = channels = Channels(self.loop, Switchboard(logger), FlowPolicy(), ReceiveMemory(0))
        policy = AdmissionPolicy(max_clients=2, max_pending_logins=most_pending)
        self.admission = Admission(policy, str, self.loop.now)
        self.refusals = Refusals(self.loop, lambda reason, *_: reason.encode(), logger)
        self.clients = Clients(
            channels,
            self.admission,
            OwnChildren(sleep, Forge(1000, lambda: ())),
            Entitling(Permissions(), str),
            lambda _: None,
            logger,
        )
        self.reception = Reception(channels, self.admission, self.clients, self.refusals, logger)
        self.theirs: list[socket.socket] = []

    def connect(self, host: str = "") -> socket.socket:
        """The client's end."""
        ours, theirs = socket.socketpair()
        theirs.settimeout(10.0)
        ours.setblocking(False)
        self.theirs.append(theirs)
        self.reception.accepted(Connection(ours, "unix", host))
        return theirs

    def close(self) -> None:
        self.clients.kill_all()

        def reap() -> bool:
            for ended in children.reap():
                self.clients.reaped(ended)
            return not self.clients.all

        wait_until(reap, "the ends of all children")
        self.reception.close()
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
    """In the words of the rules. Who waits counts."""
    desk.connect()
    desk.connect()
    words = desk.connect().recv(100)

    assert words == b"too many clients, 2 are connected and max-clients is 2"
    assert desk.lines == ["client unix: refused, too many clients, 2 are connected and max-clients is 2"]
    assert len(desk.clients.all) == 1


def test_who_waits_has_a_turn_when_there_is_a_place(desk: Desk) -> None:
    """The next one of the same origin, as soon as the first one has logged in."""
    desk.connect()
    desk.connect()
    assert len(desk.clients.all) == 1
    desk.admission.connected(Peer(1))
    turn_until(desk.loop, lambda: len(desk.clients.all) == 2)


def test_the_oldest_of_another_origin_makes_room_at_once(desk: Desk) -> None:
    """It is told to end, and counts no more."""
    desk.connect("192.0.2.1")
    desk.connect("192.0.2.2")
    first, second = desk.clients.all

    assert (first.channel.pending > 0, second.channel.pending) == (True, 0)


def test_one_that_was_to_make_room_and_does_not_is_killed(desk: Desk) -> None:
    """It reads nothing, as a process that is stopped: it has its ten seconds."""
    desk.connect("192.0.2.1")
    desk.connect("192.0.2.2")
    first, _ = desk.clients.all
    desk.channels.end_turn()
    for _ in range(11):
        desk.clients.check()

    assert desk.lines == [f"{first.name}: killed, did not end within 10 s"]


def test_where_all_places_are_taken_one_origin_makes_room_for_another(desk: Desk) -> None:
    """By a connection that waits, or by a client that has not logged in, whose end is then waited for."""
    desk.connect("192.0.2.1")
    desk.connect("192.0.2.1")
    desk.connect("192.0.2.2")
    first, second = desk.clients.all
    assert (first.channel.pending > 0, second.channel.pending, desk.lines) == (True, 0, [])
    desk.clients.kick(first, "enough")
    os.kill(first.pid, signal.SIGKILL)

    def has_turn() -> bool:
        for ended in children.reap():
            desk.clients.reaped(ended)
        return [child.host for child in desk.clients.all] == ["192.0.2.1", "192.0.2.2"]

    turn_until(desk.loop, has_turn)


def test_who_waits_is_told_at_the_end_of_the_broker(desk: Desk) -> None:
    """It would see the end of the connection alone otherwise."""
    desk.connect()
    waiting = desk.connect()
    desk.reception.close()

    assert waiting.recv(100) == b"the broker is shutting down"


def test_who_has_left_when_its_turn_comes_gets_no_process(desk: Desk) -> None:
    """It has said nothing, and is gone."""
    desk.connect()
    waiting = desk.connect()
    waiting.close()
    desk.admission.connected(Peer(1))
    turn_until(desk.loop, lambda: len(desk.reception._waiting) == 0)

    assert len(desk.clients.all) == 1


def test_a_lower_limit_holds_for_those_that_wait(desk: Desk) -> None:
    """They have no place any more."""
    desk.connect()
    waiting = desk.connect()
    desk.admission.adopt(AdmissionPolicy(max_clients=1, max_pending_logins=1))
    desk.reception.go_on()

    assert waiting.recv(100) == b"too many clients, 1 are connected and max-clients is 1"


def test_one_that_has_logged_in_makes_no_room(desk: Desk) -> None:
    """Its place is its own."""
    desk.connect()
    desk.admission.connected(Peer(1))
    desk.connect()

    assert [child.channel.pending for child in desk.clients.all] == [0, 0]


def test_without_room_for_a_process_it_is_told_so(desk: Desk) -> None:
    """Nobody else is accepted for a second."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    desk.theirs.append(theirs)
    with no_descriptors():
        desk.reception.accepted(Connection(ours, "unix", ""))

    assert theirs.recv(100) == b"the broker has no room for a process: Too many open files"
    assert desk.lines[0] == "client unix: cannot fork a child process: Too many open files"
    assert desk.admission.opens_at(desk.loop.now) == pytest.approx(desk.loop.now + 1.0)
    assert desk.clients.all == []
