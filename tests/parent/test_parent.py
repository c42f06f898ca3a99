"""Children of a real parent: their lives, their ends, and what they may say."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest
from driven import Broker, Client, Starter, is_alive, wait_until
from parts import logger_of
from puppet import Switchboard

from forkbroker.parent.flow import FlowPolicy
from forkbroker.parent.parent import Parent
from forkbroker.parent.setup import ParentPolicy, Programs
from forkbroker.posix.loop import Loop
from forkbroker.routing.news import News


def test_each_client_has_a_process(start: Starter) -> None:
    """Two clients, two processes, neither of them the parent."""
    broker = start()
    first, second = broker.connect(), broker.connect()

    assert len({first.pid, second.pid, broker.pid}) == 3
    assert (first.peer, second.peer) == (1, 2)


def test_envelopes_travel_between_children(start: Starter) -> None:
    """What one child sends arrives at the one that it is for, untouched."""
    broker = start()
    alice, bob = broker.logged_in("alice"), broker.logged_in("bob")
    alice.tell(f"send {bob.peer} 100")

    assert bob.line() == "got SEND 0 149"


def test_an_envelope_of_many_reads_travels(start: Starter) -> None:
    """Five megabytes are forwarded like five octets."""
    broker = start()
    alice, bob = broker.logged_in("alice"), broker.logged_in("bob")
    alice.tell(f"send {bob.peer} 5000000")

    assert bob.line() == "got SEND 0 5000049"


def test_a_client_that_leaves_is_logged_with_its_figures(start: Starter) -> None:
    """One line tells who, why, how long, how much, and what it used."""
    broker = start()
    alice = broker.logged_in("alice")
    alice.close()

    who, used = r"client 1 127\.0\.0\.1:\d+ alice", r"cpu \d+\.\d s, peak \d+ MiB"
    broker.await_log(rf"^INFO {who}: disconnected, client sent DISCONNECT, \d+ s, 40,112 in, 118 out, {used}$")


def test_a_reason_that_needs_a_look_is_a_warning(start: Starter) -> None:
    """LEAVING with the warning flag raises the line's level."""
    broker = start()
    broker.logged_in("alice").tell("warn")

    broker.await_log(r"^WARNING client 1 \S+ alice: disconnected, memory is short, ")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("crash", "ended by signal SIGSEGV"),
        ("exit 3", "ended with exit status 3"),
        ("exit 0", "exited without reporting a reason"),
        ("leave-and-die", "ended by signal SIGKILL"),
    ],
)
def test_a_crash_is_logged_as_an_error(start: Starter, command: str, words: str) -> None:
    """The line has the signal or the status, and the use of resources."""
    broker = start()
    broker.logged_in("alice").tell(command)

    broker.await_log(rf"^ERROR client 1 \S+ alice: {words}, \d+ s, cpu \d+\.\d s, peak [1-9]\d* MiB$")
    broker.await_log("router: 1 ended")


def test_a_crash_costs_its_own_client_only(start: Starter) -> None:
    """The others go on, and the crashed child's client sees the end."""
    broker = start()
    alice, bob, carol = (broker.logged_in(name) for name in ("alice", "bob", "carol"))
    alice.tell("crash")

    assert alice.rest() == b""
    bob.tell(f"send {carol.peer} 10")
    assert carol.line() == "got SEND 0 59"


def test_the_end_of_the_process_before_the_end_of_the_channel(start: Starter) -> None:
    """What was said right before a kill is applied first: a claim that the router must know of."""
    broker = start()
    alice = broker.logged_in("alice")
    alice.tell("claim-and-die")

    broker.await_log("router: 1 ended")
    assert broker.log.index("router: CLAIMED of 1") < broker.log.index("router: 1 ended")


def test_the_end_of_the_channel_before_the_end_of_the_process(start: Starter) -> None:
    """EOF alone is no end: the router hears of it only when the process is reaped."""
    broker = start()
    alice, bob = broker.logged_in("alice"), broker.logged_in("bob")
    alice.tell("hang-up")
    assert alice.line() == "hung up"
    alice_pid = alice.pid
    bob.tell("send 1 10", f"send {bob.peer} 1")
    assert bob.line() == "got SEND 0 50"

    assert "router: 1 ended" not in broker.log
    os.kill(alice_pid, signal.SIGKILL)
    broker.await_log("router: 1 ended")


def test_a_process_that_closes_its_channel_and_stays_is_ended(start: Starter) -> None:
    """A child without a channel is of no use to anyone."""
    broker = start(ParentPolicy(flow=FlowPolicy(check_interval_s=0.05, stuck_checks=4)))
    alice = broker.logged_in("alice")
    alice.tell("hang-up")

    broker.await_log(r"^WARNING client 1 \S+ alice: killed, still running \d+ s after it closed its channel")
    broker.await_log("router: 1 ended")


def test_no_zombie_stays(start: Starter) -> None:
    """Whatever the end, the process is reaped while the parent runs."""
    broker = start()
    clients = [broker.logged_in(f"user{number}") for number in range(12)]
    for client, command in zip(clients, ["crash", "exit 0", "exit 5", "leave-and-die"] * 3, strict=True):
        client.tell(command)

    for client in clients:
        broker.await_log(f"router: {client.peer} ended")
        wait_until(lambda pid=client.pid: not is_alive(pid), f"the end of process {client.pid}")


def test_a_kill_from_outside_is_an_end_like_others(start: Starter) -> None:
    """An administrator's SIGKILL is logged and harms nobody else."""
    broker = start()
    alice, bob = broker.logged_in("alice"), broker.logged_in("bob")
    os.kill(alice.pid, signal.SIGKILL)

    broker.await_log(r"^ERROR client 1 \S+ alice: ended by signal SIGKILL")
    bob.tell(f"send {bob.peer} 1")
    assert bob.line() == "got SEND 0 50"


def test_no_descriptor_leaks(start: Starter) -> None:
    """After many clients, ends of every kind, large and unread envelopes, the parent has as many as before."""
    broker = start()
    broker.logged_in("first").close()
    broker.await_log("router: 1 ended")
    before = broker.measure()["descriptors"]
    for command in ["crash", "exit 1", "garbage", "huge", "kind OFFER", f"send {2} 300000"] * 3:
        client = broker.logged_in("someone")
        client.tell(command)
        if command.startswith("send"):
            client.close()
        broker.await_log(f"router: {client.peer} ended")

    assert broker.measure()["descriptors"] == before


def test_a_child_has_only_its_own_descriptors(start: Starter) -> None:
    """The tenth child holds no more of them than the first: no sibling's channel or client."""
    broker = start()
    clients = [broker.connect() for _ in range(10)]
    numbers = []
    for client in (clients[0], clients[-1]):
        client.tell("descriptors")
        numbers.append(client.line())

    assert numbers[0] == numbers[1]


def test_a_client_behind_a_dead_sibling_sees_the_end(start: Starter) -> None:
    """No later child holds a copy of an earlier client's socket."""
    broker = start()
    first = broker.connect()
    for _ in range(3):
        broker.connect()
    os.kill(first.pid, signal.SIGKILL)

    assert first.rest() == b""


@pytest.mark.parametrize(
    ("commands", "problem"),
    [
        (["garbage"], "an envelope of 4294967295 bytes"),
        (["huge"], "permitted"),
        (["kind OFFER"], "OFFER is not permitted to a child that is connected"),
        (["kind CONNECTED"], "CONNECTED is not permitted to a child that is connected"),
        (["kind SUBSCRIBE"], "peer 1 is not to subscribe"),
    ],
)
def test_who_breaks_the_contract_is_ended(start: Starter, commands: list[str], problem: str) -> None:
    """Garbage, a kind of the parent's, a lie: the line says what, and nobody else notices."""
    broker = start()
    alice, bob = broker.logged_in("alice"), broker.logged_in("bob")
    alice.tell(*commands)

    broker.await_log(rf"^ERROR client 1 \S+ alice: killed, sent an invalid envelope: .*{problem}")
    broker.await_log(r"^INFO client 1 \S+ alice: ended by signal SIGKILL")
    broker.await_log("router: 1 ended")
    bob.tell(f"send {bob.peer} 1")
    assert bob.line() == "got SEND 0 50"


def test_who_has_not_logged_in_may_not_send(start: Starter) -> None:
    """A child that is starting may say CONNECTED or LEAVING, nothing else."""
    broker = start()
    broker.connect().tell("send all 10")

    broker.await_log("envelope: SEND is not permitted to a child that is starting")


def test_what_came_before_a_breach_is_applied(start: Starter) -> None:
    """Envelopes that were in order reach their receivers, though the same read brought garbage after them."""
    broker = start()
    alice, bob = broker.logged_in("alice"), broker.logged_in("bob")
    alice.tell(f"send {bob.peer} 10", "kind OFFER", f"send {bob.peer} 20")

    assert bob.line() == "got SEND 0 59"
    broker.await_log("router: 1 ended")
    bob.tell(f"send {bob.peer} 30")
    assert bob.line() == "got SEND 0 79"


def test_what_is_sent_to_a_child_that_ended_is_dropped(start: Starter) -> None:
    """A router that is late may name a peer that is gone."""
    broker = start()
    alice, bob = broker.logged_in("alice"), broker.logged_in("bob")
    alice.close()
    broker.await_log("router: 1 ended")
    bob.tell(f"send {alice.peer} 10", f"send {bob.peer} 20")

    assert bob.line() == "got SEND 0 69"


def test_fences_are_answered_in_order(start: Starter) -> None:
    """A thousand small envelopes, a thousand answers."""
    broker = start()
    alice = broker.logged_in("alice")
    alice.tell("kind FENCE 1000")

    assert [alice.line() for _ in range(1000)] == ["got FENCED 0 48"] * 1000


def test_the_router_gets_its_time(start: Starter) -> None:
    """A deadline of the router is met though nothing else happens."""
    broker = start()
    broker.logged_in("alice").tell("kind READY")

    broker.await_log("router: tick")


def test_a_silent_candidate_is_ended(start: Starter) -> None:
    """Whom the router names as owing an answer for too long keeps it from the others: it is killed."""
    broker = start(ParentPolicy(flow=FlowPolicy(check_interval_s=0.05, stuck_checks=4)))
    alice, bob = broker.logged_in("alice"), broker.logged_in("bob")
    alice.tell("kind UNSUBSCRIBE")
    bob.tell("kind UNSUBSCRIBE", "kind PASSED")

    broker.await_log(r"^WARNING client 1 \S+ alice: killed, has not answered an offer for \d+ s")
    broker.await_log("router: 1 ended")
    assert is_alive(bob.pid)


def test_clients_of_a_unix_socket(start: Starter, tmp_path: Path) -> None:
    """They are served like others, and named by what they are."""
    broker = start(unix=tmp_path / "socket")
    broker.logged_in("alice")

    assert broker.family == socket.AF_UNIX
    broker.await_log("client 1 unix alice: connected")


def test_the_status_follows_the_number_of_clients(start: Starter) -> None:
    """The service manager is told when it has changed."""
    broker = start(ParentPolicy(flow=FlowPolicy(check_interval_s=0.02)))
    broker.await_log("status: 0 clients")
    broker.connect()
    broker.await_log("status: 1 client$")
    second = broker.connect()
    broker.await_log("status: 2 clients")
    second.close()
    wait_until(lambda: broker.log.count("status: 1 client\n") == 2, "the status after the second client's end")

    assert broker.log.count("status: 0 clients") == 1


def test_sigusr2_lists_what_there_is(start: Starter) -> None:
    """In the log, as the router tells it."""
    broker = start()
    broker.signal(signal.SIGUSR2)

    broker.await_log("router: 0 changes told")


def test_the_log_is_opened_again_when_somebody_asks(start: Starter) -> None:
    """Programs that rotate logs send SIGUSR1; here the hook tells the parent's figures."""
    broker = start()
    broker.await_log("ready")
    broker.signal(signal.SIGUSR1)

    broker.await_log("measured:")
    assert broker.connect().peer == 1


def test_nobody_has_to_hear_of_its_life() -> None:
    """Without hooks nothing is told; that is no error."""
    loop = Loop()
    programs = Programs(lambda *_: 0, lambda *_: 0, lambda reason: reason.encode())
    Parent(loop, [], Switchboard(logger_of([])), programs, ParentPolicy())
    loop.close()


def test_a_broken_router_ends_the_broker(start: Starter) -> None:
    """An exception outside of any child's doing ends parent and children, with sysexits' EX_SOFTWARE."""
    broker = start(router=_Broken)
    client = broker.connect()

    assert broker.wait() == 70
    assert "RuntimeError: out of order" in broker.log
    assert client.rest() == b""


class _Broken:
    """A router that fails once it has something to do with a peer."""

    def __init__(self, logger: object) -> None:
        self._is_broken = False
        self.waiting: dict[int, object] = {}
        self.culprits: dict[int, str] = {}
        self.rejected: list[tuple[int, str]] = []
        self.out: list[object] = []
        self.asked: list[object] = []
        self.sights = SimpleNamespace(store=(True, "", 0))
        self.moving = self.holding = self.delays = None
        self.news = News()
        self.is_behind = self.awaits_commit = False

    def note_time(self, now: float) -> None:
        """A second more."""

    def add_peer(self, peer: int) -> None:
        self._is_broken = True

    def receive_stored(self, envelope: object, now: float) -> None:
        """It is open."""

    def allotted(self) -> list[str]:
        return []

    def take_notes(self) -> list[str]:
        return []

    def take_events(self) -> list[str]:
        return []

    def describe(self) -> list[str]:
        return []

    def find_silent(self, since: float) -> set[int]:
        return set()

    def tick(self, now: float) -> bool:
        if self._is_broken:
            raise RuntimeError("out of order")
        return False

    def deadline(self) -> None:
        return None

    def take(self) -> list[tuple[int, list[bytes]]]:
        return []


def test_children_end_with_their_parent(start: Starter) -> None:
    """SIGKILL of the parent leaves no orphan: each child sees the end of its channel."""
    broker = start()
    clients: list[Client] = [broker.logged_in(f"user{number}") for number in range(3)]
    broker.signal(signal.SIGKILL)

    assert broker.wait() == -signal.SIGKILL
    for client in clients:
        assert client.rest() == b""


def test_a_program_that_raises_is_a_crash_of_its_own(start: Starter) -> None:
    """An exception in a child's program ends that child, and the next one starts as if nothing had been."""

    def fail_first(_end: socket.socket, _client: socket.socket, _address: str, _peer: int) -> int:
        raise ValueError("on purpose")

    broker: Broker = start(program=fail_first)
    broker.dial()
    broker.dial()

    broker.await_log(r"^ERROR client 1 127\.0\.0\.1:\d+: ended with exit status 70")
    broker.await_log(r"^ERROR client 2 127\.0\.0\.1:\d+: ended with exit status 70")
