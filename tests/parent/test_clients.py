"""The lives of clients' children: whom a birth or an end is told to, and how loudly."""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator

import pytest
from driven import wait_until
from parts import OwnChildren, logger_of, turn_until
from puppet import Switchboard
from support.spares import ClientProgram

from forkbroker.identity import Identity
from forkbroker.parent.admission import Admission, AdmissionPolicy
from forkbroker.parent.channels import Channels
from forkbroker.parent.clients import Clients
from forkbroker.parent.entitling import Entitling
from forkbroker.parent.flow import FlowPolicy
from forkbroker.parent.listener import Connection
from forkbroker.parent.processes import Forge
from forkbroker.parent.roster import Client
from forkbroker.permissions import Permissions
from forkbroker.posix import children
from forkbroker.posix.loop import Loop
from forkbroker.routing.peers import Peer
from forkbroker.wire.envelope import pack
from forkbroker.wire.kinds import ChildState, Kind
from forkbroker.wire.receive_memory import ReceiveMemory


class Counting(Admission):
    """Tells which crashes it was told of."""

    def __init__(self) -> None:
        super().__init__(AdmissionPolicy(), str, 0.0)
        self.crashes: list[int] = []

    def crashed(self, peer: int, now: float) -> None:  # type: ignore[override]
        self.crashes.append(peer)


class House:
    """Children of which the test is the parent."""

    def __init__(self, program: ClientProgram) -> None:
        self.loop, self.lines, self.admission = Loop(), list[str](), Counting()
        self.quiet: list[Client] = []
        self.logger = logger_of(self.lines)
        budget = ReceiveMemory(1000)
        self.channels = Channels(self.loop, Switchboard(self.logger), FlowPolicy(), budget)
        source = OwnChildren(program, Forge(1000, lambda: (), budget))
        self.entitling = Entitling(Permissions(), str)
        self.clients = Clients(self.channels, self.admission, source, self.entitling, self.quiet.append, self.logger)

    def start(self, state: ChildState = ChildState.STARTING) -> Client:
        ours, theirs = socket.socketpair()
        self.clients.start(Connection(ours, "unix", "192.0.2.1"))
        theirs.close()
        child = self.clients.all[-1]
        child.state = state
        return child

    def reap(self) -> None:
        for ended in children.reap():
            self.clients.reaped(ended)

    def await_end(self, child: Client) -> None:
        def look() -> bool:
            self.reap()
            return child not in self.clients.all

        wait_until(look, "the end of a child")


@pytest.fixture
def house() -> Iterator[Callable[..., House]]:
    """Houses whose children are all gone at the end."""
    made: list[House] = []

    def make(program: ClientProgram) -> House:
        made.append(House(program))
        return made[-1]

    yield make
    for one in made:
        one.clients.kill_all()
        for child in one.clients.all:
            one.await_end(child)
        assert one.admission.clients == 0
        one.loop.close()


def leave(_end: socket.socket, _client: socket.socket, _address: str, _peer: int) -> int:
    return 0


def crash(_end: socket.socket, _client: socket.socket, _address: str, _peer: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def sleep(_end: socket.socket, _client: socket.socket, _address: str, _peer: int) -> int:
    signal.pause()
    return 0


def hang_up(end: socket.socket, _client: socket.socket, _address: str, _peer: int) -> int:
    end.close()
    signal.pause()
    return 0


def test_a_child_gets_its_client_and_its_number(house) -> None:
    """The parent keeps no copy of the client's socket."""

    def tell(_end: socket.socket, client: socket.socket, address: str, peer: int) -> int:
        client.sendall(f"{address} {peer}".encode())
        return 0

    one = house(tell)
    ours, theirs = socket.socketpair()
    theirs.settimeout(10.0)
    one.clients.start(Connection(ours, "192.0.2.1:7", "192.0.2.1"))

    assert ours.fileno() == -1
    assert theirs.recv(100) == b"192.0.2.1:7 1"
    theirs.close()


@pytest.mark.parametrize(
    ("state", "crashes"), [(ChildState.STARTING, [1]), (ChildState.CONNECTED, []), (ChildState.LEAVING, [])]
)
def test_only_crashes_before_the_login_count_against_new_clients(house, state, crashes) -> None:
    """A client that has logged in shows that children work."""
    one = house(crash)
    one.await_end(one.start(state))

    assert one.admission.crashes == crashes


def test_who_is_killed_by_the_parent_has_not_crashed(house) -> None:
    """The parent has had its reason, and has logged it."""
    one = house(sleep)
    child = one.start()
    one.clients.kill_all()
    one.await_end(child)

    assert one.admission.crashes == []
    assert one.lines == [one.lines[0], "router: 1 ended"]


def test_a_client_is_counted_until_process_and_channel_have_ended(house) -> None:
    """The channel may be the first; then nobody finds the child any more."""
    one = house(hang_up)
    child = one.start()
    child.checks_without_progress = 9
    turn_until(one.loop, lambda: child.is_closed)
    counted = one.admission.clients, one.clients.all, one.clients.find(child.peer)
    # that it has not read for so long does not shorten the time that it has for its end
    assert child.checks_without_progress == 0
    os.kill(child.pid, signal.SIGKILL)
    one.await_end(child)

    assert counted == (1, [child], None)
    assert one.admission.clients == 0
    assert one.quiet == [child]


def test_who_has_left_and_waits_for_its_client_has_nothing_any_more(house) -> None:
    """The router hears of it with the end of the channel, once; nothing more may come from it only later."""
    one = house(hang_up)
    child = one.start(ChildState.LEAVING)
    turn_until(one.loop, lambda: child.is_closed)
    told, quiet = list(one.lines), list(one.quiet)
    os.kill(child.pid, signal.SIGKILL)
    one.await_end(child)

    assert (told, quiet) == (["router: 1 ended"], [])
    assert one.lines.count("router: 1 ended") == 1


def test_peers_are_never_numbered_twice(house) -> None:
    """A late report can't be taken for another child's."""
    one = house(crash)
    for _ in range(3):
        one.await_end(one.start())

    assert [child.peer for child in one.quiet] == [1, 2, 3]


@pytest.mark.parametrize(
    ("program", "has_connected", "wants_attention", "is_killed", "level"),
    [
        (leave, True, False, False, logging.INFO),
        (leave, False, False, False, logging.DEBUG),
        (leave, False, True, False, logging.WARNING),
        (leave, True, True, False, logging.WARNING),
        (crash, True, False, False, logging.ERROR),
        (crash, True, True, False, logging.ERROR),
        (crash, False, False, False, logging.ERROR),
        (sleep, True, False, True, logging.INFO),
    ],
)
def test_the_end_of_a_client_is_as_loud_as_it_is_bad(
    house, program, has_connected, wants_attention, is_killed, level
) -> None:
    """A crash is an error, but not if the parent has killed the child: that was logged with its reason.

    One that only looks whether the port is open is no news at all.
    """
    one = house(program)
    levels: list[int] = []
    one.logger.addFilter(lambda record: not (record.msg.startswith("router") or levels.append(record.levelno)))
    child = one.start(ChildState.LEAVING)
    child.wants_attention, child.has_connected = wants_attention, has_connected
    if is_killed:
        one.clients.kill_all()
    one.await_end(child)

    assert levels == [level]


def test_a_fault_of_ours_ends_the_child_whose_words_met_it(house) -> None:
    """The line has the traceback; the loop goes on."""

    def speak(end: socket.socket, _client: socket.socket, _address: str, _peer: int) -> int:
        end.sendall(b"".join(pack(Kind.SEND, destination=b"no number")))
        signal.pause()
        return 0

    one = house(speak)
    child = one.start(ChildState.CONNECTED)
    turn_until(one.loop, lambda: child.is_closed)
    one.await_end(child)

    assert one.lines[0] == "client 1 unix: killed, unexpected exception while its envelope was applied"
    assert child.killed


@pytest.mark.parametrize(
    ("were_proven", "expelled"), [(True, ["bob"]), (False, ["alice", "bob", "starting"])], ids=["others", "users"]
)
def test_clients_that_are_no_users_any_more_are_told_to_go(house, were_proven: bool, expelled: list[str]) -> None:
    """Without users before, a login was only a name; so is one that is still to come."""
    one = house(sleep)
    told: list[str] = []
    one.channels.send = lambda child, buffers: told.append(child.login or child.state.value)
    for login in ("alice", "bob", "", "starting", "gone"):
        child = one.start(ChildState.CONNECTED)
        child.login, child.identity, child.has_connected = login, Identity(login), True
        if login == "starting":
            child.state, child.login, child.has_connected = ChildState.STARTING, "", False
    one.clients.find = lambda peer: None if peer == 5 else peer  # whose channel has ended
    one.admission.adopt(AdmissionPolicy(users={"alice": "h", "": ""}))
    one.clients.expel(were_proven=were_proven)

    assert told == expelled


def test_a_dead_letter_by_nack_is_logged_for_its_client(house) -> None:
    """By its name, as long as the client is known; by its number later. Each is told once."""
    one = house(hang_up)
    child = one.start(ChildState.CONNECTED)
    child.login = "alice"
    turn_until(one.loop, lambda: one.clients.find(child.peer) is None)
    rejected = one.channels.router.rejected
    rejected += [(child.peer, "message 1 rejected"), (Peer(77), "message 2 rejected")]
    one.clients.log_rejected()

    assert one.lines == ["client 1 unix alice: message 1 rejected", "client 77: message 2 rejected"]
    assert rejected == []


def test_too_many_failed_logins_of_an_address_end_all_that_are_on_their_way_there(house) -> None:
    """But not those that have logged in, and nobody from elsewhere: a storm costs no more than its first logins."""
    one = house(sleep)
    told: list[tuple[int, bytes]] = []
    one.channels.send = lambda child, buffers: told.append((child.peer, b"".join(buffers)))
    for _ in range(6):
        one.start()
    one.admission.connected(Peer(5))
    one.admission.move(Peer(6), "192.0.2.2", one.loop.now)
    for number in range(1, 5):
        one.clients._login_failed(one.clients.find(Peer(number)))
        assert bool(told) == (number == 4)

    assert [peer for peer, _ in told] == [1, 2, 3]
    assert all(b"too many failed logins, connect again in 1.0 s" in octets for _, octets in told)


def expel_all(clients: Clients, admission: Admission) -> None:
    admission.adopt(AdmissionPolicy(users={"carol": "h"}))
    clients.expel(were_proven=True)


def fail_logins(clients: Clients, admission: Admission) -> None:
    for child in clients.all:
        for _ in range(4):
            clients._login_failed(child)


@pytest.mark.parametrize("tell", [expel_all, fail_logins])
def test_who_is_told_to_go_and_does_not_is_killed(house, tell) -> None:
    """For whatever reason: its process may be stopped."""
    one = house(sleep)
    children = [one.start(ChildState.CONNECTED if tell is expel_all else ChildState.STARTING) for _ in range(2)]
    for child in children:
        child.has_connected = tell is expel_all
    tell(one.clients, one.admission)
    one.channels.end_turn()
    checks = 0
    while not one.lines:
        checks += 1
        one.clients.check()

    assert checks == 11
    assert sorted(one.lines) == [f"{child.name}: killed, did not end within 10 s" for child in children]
    for child in children:
        one.await_end(child)


def test_who_was_told_to_go_and_is_not_read_has_its_time(house) -> None:
    """What it has sent up, and that it leaves, may wait in its channel."""
    one = house(sleep)
    child = one.start(ChildState.CONNECTED)
    one.clients.kick(child, "enough")
    one.channels.end_turn()
    one.channels.flow.overtaxed(child)
    for _ in range(20):
        one.clients.check()
    assert one.lines == []
    one.channels.flow.caught_up(child)
    for _ in range(11):
        one.clients.check()

    assert one.lines == [f"{child.name}: killed, did not end within 10 s"]


def test_who_has_gone_as_it_was_told_is_forgotten(house) -> None:
    """Whether its process ends soon is watched otherwise."""
    one = house(hang_up)
    child = one.start(ChildState.LEAVING)
    one.clients.kick(child, "enough")
    turn_until(one.loop, lambda: one.clients.find(child.peer) is None)

    assert one.clients._kicked == {}
