"""Fork, count, reap: with real processes, and the parent's part played by the test."""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator

import pytest
from driven import wait_until
from parts import logger_of

from forkbroker.parent.admission import Admission, AdmissionPolicy
from forkbroker.parent.roster import Child
from forkbroker.parent.supervisor import ClientProgram, Events, Supervisor
from forkbroker.posix.loop import Loop
from forkbroker.wire.budget import Budget
from forkbroker.wire.kinds import State


class Counting(Admission):
    """Tells which crashes it was told of."""

    def __init__(self) -> None:
        super().__init__(AdmissionPolicy(), str, 0.0)
        self.crashes: list[int] = []

    def crashed(self, peer: int, now: float) -> None:  # type: ignore[override]
        self.crashes.append(peer)


class House:
    """A supervisor and its children."""

    def __init__(self, program: ClientProgram, logs: list[int]) -> None:
        self.loop, self.lines, self.admission = Loop(), list[str](), Counting()
        self.started: list[Child] = []
        self.gone: list[Child] = []
        events = Events(self.started.append, self.drain, self.gone.append)
        self.supervisor = Supervisor(
            self.loop,
            program,
            self.admission,
            events,
            logger_of(self.lines),
            max_envelope=1000,
            budget=Budget(1000),
            high=1000,
            log_descriptors=lambda: logs,
        )

    def drain(self, child: Child) -> None:
        self.supervisor.close_channel(child)

    def start(self, state: State = State.STARTING) -> Child:
        ours, theirs = socket.socketpair()
        self.supervisor.start(ours, "unix", "192.0.2.1")
        theirs.close()
        self.started[-1].state = state
        return self.started[-1]

    def await_end(self, child: Child) -> None:
        def look() -> bool:
            self.supervisor.reap()
            return child in self.gone

        wait_until(look, "the end of a child")


@pytest.fixture
def house() -> Iterator[Callable[..., House]]:
    """Houses whose children are all gone at the end."""
    made: list[House] = []

    def make(program: ClientProgram, logs: list[int] | None = None) -> House:
        made.append(House(program, logs or []))
        return made[-1]

    yield make
    for one in made:
        one.supervisor.kill_all()
        for child in one.supervisor.children:
            one.await_end(child)
        assert one.admission.clients == 0
        one.loop.close()


def leave(_end: socket.socket, _client: socket.socket, _peer: int, _address: str) -> int:
    return 0


def crash(_end: socket.socket, _client: socket.socket, _peer: int, _address: str) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def sleep(_end: socket.socket, _client: socket.socket, _peer: int, _address: str) -> int:
    signal.pause()
    return 0


@pytest.mark.parametrize(("state", "crashes"), [(State.STARTING, [1]), (State.CONNECTED, []), (State.LEAVING, [])])
def test_only_crashes_before_the_login_count_against_new_clients(house, state, crashes) -> None:
    """A client that has logged in shows that children work."""
    one = house(crash)
    one.await_end(one.start(state))

    assert one.admission.crashes == crashes


def test_who_is_killed_by_the_parent_has_not_crashed(house) -> None:
    """The parent has had its reason, and has logged it."""
    one = house(sleep)
    child = one.start()
    one.supervisor.kill(child)
    one.await_end(child)

    assert one.admission.crashes == []
    assert len(one.lines) == 1


def test_a_child_can_write_into_the_log(house) -> None:
    """Its descriptor is kept open over the fork, and no other one is."""
    reading, writing = os.pipe()
    other = os.dup(writing)

    def speak(_end: socket.socket, _client: socket.socket, _peer: int, _address: str) -> int:
        os.write(writing, b"a line of the child's own\n")
        try:
            os.write(other, b"somebody else's descriptor\n")
        except OSError:
            os.write(writing, b"closed\n")
        return 0

    one = house(speak, [writing])
    one.await_end(one.start())
    os.close(writing)
    os.close(other)
    said = os.read(reading, 1000)
    os.close(reading)

    assert said == b"a line of the child's own\nclosed\n"


def test_a_client_is_counted_until_process_and_channel_have_ended(house) -> None:
    """In whichever order these come."""
    one = house(sleep)
    child = one.start()
    one.supervisor.close_channel(child)
    counted = one.admission.clients, one.supervisor.children
    os.kill(child.pid, signal.SIGKILL)
    one.await_end(child)

    assert counted == (1, [child])
    assert one.admission.clients == 0
    assert one.supervisor.children == []


def test_peers_are_never_numbered_twice(house) -> None:
    """A late report can't be taken for another child's."""
    one = house(crash)
    for _ in range(3):
        one.await_end(one.start())

    assert [child.peer for child in one.gone] == [1, 2, 3]


@pytest.mark.parametrize(
    ("program", "wants_attention", "is_killed", "level"),
    [
        (leave, False, False, logging.INFO),
        (leave, True, False, logging.WARNING),
        (crash, False, False, logging.ERROR),
        (crash, True, False, logging.ERROR),
        (sleep, False, True, logging.INFO),
    ],
)
def test_the_end_of_a_client_is_as_loud_as_it_is_bad(house, program, wants_attention, is_killed, level) -> None:
    """A crash is an error, but not if the parent has killed the child: that was logged with its reason."""
    one = house(program)
    levels: list[int] = []
    one.supervisor._logger.addFilter(lambda record: not levels.append(record.levelno))
    child = one.start(State.LEAVING)
    child.wants_attention = wants_attention
    if is_killed:
        one.supervisor.kill(child)
    one.await_end(child)

    assert levels == [level]


def test_who_was_reaped_is_not_killed_any_more(house) -> None:
    """Its number may be another process's by now."""
    one = house(leave)
    child = one.start()
    one.await_end(child)
    ended, child.pid = child.ended, os.getpid()
    one.supervisor.kill(child)

    assert ended is not None
    assert child.killed


def test_a_process_that_serves_no_client_is_told_to_others(house) -> None:
    """The store's, which the keeper knows."""
    one = house(leave)
    told: list[int] = []
    one.supervisor._events = Events(
        one.started.append, one.drain, one.gone.append, lambda ended: told.append(ended.pid)
    )
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    wait_until(lambda: one.supervisor.reap() or told, "the end of a process")

    assert told == [pid]
    assert one.gone == []
