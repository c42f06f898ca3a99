"""Who is not served, how he is told, and what the parent does when the system has no more."""

from __future__ import annotations

import os
import signal
import socket
import struct
import time

from driven import Starter, wait_until
from parts import logger_of

from forkbroker.parent.admission import AdmissionPolicy
from forkbroker.parent.refusals import LINGERING_MAX, Refusals
from forkbroker.parent.setup import ParentPolicy
from forkbroker.posix.loop import Loop


def limited(**limits: float) -> ParentPolicy:
    return ParentPolicy(admission=AdmissionPolicy(**limits))  # type: ignore[arg-type]


def test_too_many_clients_are_told_so(start: Starter) -> None:
    """The ERROR arrives whole although the client has sent something that nobody read, and then the end."""
    broker = start(limited(max_clients=2))
    broker.connect(), broker.connect()
    third = broker.dial()
    third.socket.sendall(b"CONNECT\naccept-version:1.2\n\n\0" + bytes(30_000))

    assert third.rest() == b"ERROR too many clients, 2 are connected and max-clients is 2\n"
    broker.await_log(r"^WARNING client 127\.0\.0\.1:\d+: refused, too many clients, 2 are connected")


def test_a_place_that_gets_free_is_taken(start: Starter) -> None:
    """After a client's end another one is served."""
    broker = start(limited(max_clients=1))
    first = broker.connect()
    first.close()
    broker.await_log("client 1 .*: disconnected, client sent DISCONNECT")

    assert broker.connect().peer == 2


def test_refusals_are_logged_once_and_then_counted(start: Starter) -> None:
    """A flood of refused clients makes one line, not a flood of lines."""
    broker = start(limited(max_clients=0))
    for _ in range(30):
        assert broker.dial().rest().startswith(b"ERROR too many clients")

    assert broker.log.count("refused") == 1


def test_a_refused_client_that_stays_is_closed(start: Starter) -> None:
    """After a second the parent doesn't wait any longer."""
    broker = start(limited(max_clients=0))
    before = broker.measure()["descriptors"]
    client = broker.dial()
    assert client.rest().startswith(b"ERROR")

    wait_until(lambda: broker.measure()["descriptors"] == before, "the parent's closing")


def test_faster_than_the_fork_rate_waits_in_the_backlog(start: Starter) -> None:
    """Everybody is served in the end, but not at once."""
    broker = start(limited(fork_rate=20.0, fork_burst=2))
    began = time.monotonic()
    clients = [broker.dial() for _ in range(8)]
    for client in clients:
        client.greeted()

    assert time.monotonic() - began > 0.25
    assert "refused" not in broker.log


def test_crashes_before_login_slow_forking_down(start: Starter) -> None:
    """A child that can't work is not forked again and again as fast as the machine can: ten times a second."""

    def fail(end: socket.socket, client: socket.socket, peer: int, address: str) -> int:
        return 1

    broker = start(program=fail)
    began = time.monotonic()
    for number in range(1, 8):
        assert broker.dial().rest() == b""
        broker.await_log(f"router: {number} ended")

    assert time.monotonic() - began > 0.3


def test_who_does_not_log_in_makes_room_for_others(start: Starter) -> None:
    """The oldest of those of its address is told why, after its time; those that have logged in stay."""
    broker = start(limited(max_pending_logins=2))
    member = broker.logged_in("member")
    first, second = broker.connect(), broker.connect()
    began = time.monotonic()
    late = broker.connect()

    assert time.monotonic() - began > 1.5
    assert first.line().startswith("got CLOSE ")
    broker.await_log(r"client 2 \S+: disconnected, not logged in, and other clients wait: max-pending-logins")
    for client in (member, second, late):
        assert client.count() == 0


def test_who_left_before_its_turn_costs_no_process(start: Starter) -> None:
    """A client that waits behind it is served at once; one that has sent something before it left has its process."""
    broker = start()
    os.kill(broker.pid, signal.SIGSTOP)
    gone = [broker.dial() for _ in range(50)]
    for client in gone[:25]:
        client.close()
    for client in gone[25:]:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
    quick = broker.dial()
    quick.tell("exit 0")
    quick.socket.shutdown(socket.SHUT_WR)
    clean = broker.dial()
    os.kill(broker.pid, signal.SIGCONT)

    assert clean.greeted().peer == 2
    assert quick.greeted().peer == 1


def test_no_descriptors_for_a_child_refuse_the_client(start: Starter) -> None:
    """EMFILE after accept: the client is told, the parent lives, and serves others once it can."""
    broker = start(descriptor_limit=40)
    lines = []
    while not lines or lines[-1].startswith("peer"):
        lines.append(broker.dial().line())

    assert lines[-1] == "ERROR the broker has no room for a process: Too many open files"
    broker.await_log(r"^ERROR client \S+: cannot fork a child process: Too many open files")
    for client in broker.clients:
        client.close()
    wait_until(lambda: broker.log.count(" ended\n") == len(lines) - 1, "the ends of the children")
    # a spare that was ordered before may be refused its descriptor once more
    wait_until(lambda: broker.dial().line().startswith("peer"), "a process for a client")


def test_only_so_many_refused_clients_are_kept() -> None:
    """The oldest goes when there are more than 64: refusing doesn't cost what accepting would."""
    loop, lines = Loop(), list[str]()
    refusals = Refusals(loop, lambda reason, *_: reason.encode(), logger_of(lines))
    pairs = [socket.socketpair() for _ in range(LINGERING_MAX + 5)]
    for ours, _ in pairs:
        refusals.refuse(ours, "192.0.2.1:7", "no room")

    assert [ours.fileno() for ours, _ in pairs[:5]] == [-1] * 5
    assert pairs[5][0].fileno() != -1
    assert lines == ["client 192.0.2.1:7: refused, no room"]
    assert {theirs.recv(100) for _, theirs in pairs} == {b"no room"}
    refusals.close()
    for _, theirs in pairs:
        theirs.close()
    loop.close()


def test_a_summary_follows_ten_seconds_later() -> None:
    """What was not logged is at least counted."""
    loop, lines = Loop(), list[str]()
    refusals = Refusals(loop, lambda reason, *_: reason.encode(), logger_of(lines))
    loop.now -= 10.1
    for _ in range(3):
        ours, theirs = socket.socketpair()
        theirs.close()
        refusals.refuse(ours, "unix", "no room")
    loop.turn()

    assert lines == ["client unix: refused, no room", "2 more clients refused within 10 s"]
    refusals.close()
    loop.close()
