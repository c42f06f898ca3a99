"""When a new store is started: a keeper whose store's processes are real, and whose clock is the test's."""

from __future__ import annotations

import errno
import logging
import os
import pwd
import resource
import select
import signal
import socket
import time
from collections.abc import Iterator, Sequence

import pantry
import pytest
from driven import PATIENCE_S, wait_until
from parts import logger_of, no_descriptors

from forkbroker.parent.keeper import Keeper, StoreEvents, StoreProgram
from forkbroker.parent.roster import Child
from forkbroker.posix import children
from forkbroker.posix.loop import Loop
from forkbroker.wire.envelope import Buffer, pack
from forkbroker.wire.kinds import Kind


def brief(end: socket.socket, is_fresh: bool) -> int:
    """A store that is opened, and ends."""
    end.sendall(b"".join(pack(Kind.OPENED, serial=1)))
    return 1


class Bench:
    """A keeper that nobody turns: the test tells it what happens."""

    def __init__(self, program: StoreProgram = brief) -> None:
        self.loop = Loop()
        self.lines: list[str] = []
        self.happened: list[str] = []
        self.child: Child | None = None
        self.told = 0
        events = StoreEvents(
            started=self._started,
            said=lambda envelope: self.happened.append(envelope.kind.name),
            opened=lambda: self.happened.append("opened"),
            closed=lambda child, reason: self.happened.append("closed"),
            send=self._send,
            failed=lambda reason, status: self.happened.append("failed"),
            is_applied=lambda: True,
            finished=lambda: self.happened.append("finished"),
            lost=lambda reason, status: self.happened.append("lost"),
        )
        logger: logging.Logger = logger_of(self.lines)
        self.keeper = Keeper(
            self.loop, program, events, logger, max_envelope=1000, high=1000, log_descriptors=lambda: ()
        )

    def _started(self, child: Child) -> None:
        self.child = child
        self.happened.append("started")

    def _send(self, child: Child, buffers: Sequence[Buffer]) -> None:
        self.told += 1
        child.channel.send(buffers)
        child.channel.flush()

    def end(self) -> None:
        """Wait for the end of the process, and tell the keeper."""
        reaped: list[children.Ended] = []

        def reap() -> bool:
            reaped.extend(children.reap())
            return bool(reaped)

        wait_until(reap, "the end of the store's process")
        assert [ended.pid for ended in reaped] == [self.keeper.pid]
        self.keeper.ended(reaped[0])

    def live(self) -> str:
        """A whole life of a store; the pause that the keeper makes after it, in seconds."""
        self.keeper.start()
        self.end()
        return self.lines[-1].rpartition("anew in ")[2]

    def close(self) -> None:
        if self.keeper.pid:
            self.keeper.kill()
            os.waitpid(self.keeper.pid, 0)
        if self.child is not None:
            self.child.channel.close()
        self.loop.close()


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.close()


def test_the_pause_doubles_up_to_five_seconds(bench: Bench) -> None:
    """It is bounded, as a disk may be back any time."""
    assert [bench.live() for _ in range(9)] == [
        "0.1 s",
        "0.2 s",
        "0.4 s",
        "0.8 s",
        "1.6 s",
        "3.2 s",
        "5.0 s",
        "5.0 s",
        "5.0 s",
    ]
    assert bench.happened == ["started", "OPENED", "opened", "closed"] + ["started", "OPENED", "closed"] * 8


def test_what_an_ended_store_said_against_the_contract_kills_nobody() -> None:
    """Its number is free again: whose it is by now is not known."""

    def lie(end: socket.socket, is_fresh: bool) -> int:
        end.sendall(b"".join(pack(Kind.FAILED, token=3)))
        return 1

    bench = Bench(lie)
    bench.keeper.start()
    bench.end()

    assert "FAILED with 3, which is no exit status" in bench.lines[0]
    assert bench.happened == ["started", "closed", "failed"]
    bench.close()


def test_a_store_that_worked_for_long_is_started_anew_soon(bench: Bench) -> None:
    """Earlier ends are forgotten after ten seconds of work."""
    for _ in range(4):
        bench.live()
    bench.keeper.start()
    bench.loop.now += 10.1
    bench.end()

    assert bench.lines[-1] == "store: ended, exit status 1; started anew in 0.1 s"


def test_a_new_one_is_started_when_the_pause_is_over(bench: Bench) -> None:
    """Not earlier: a turn of the loop in between starts none."""
    bench.live()
    bench.loop.call_at(bench.loop.now, lambda: None)
    bench.loop.turn()
    assert bench.keeper.pid == 0
    bench.loop.turn()

    assert bench.keeper.pid > 0
    assert bench.happened[-1] == "started"


def test_what_is_wrong_with_the_first_one_is_not_tried_again() -> None:
    """A start that fails is an end; there is no pause and no second process."""
    bench = Bench(lambda end, is_fresh: 1)
    bench.keeper.start()
    bench.end()

    assert bench.happened == ["started", "closed", "failed"]
    assert bench.lines == []
    bench.close()


def test_without_descriptors_a_store_is_started_later(bench: Bench) -> None:
    """A parent at its limit is no reason to end: one line, and another try."""
    with no_descriptors():
        bench.keeper.start()
    assert bench.lines == ["cannot fork a process for the store: Too many open files"]
    assert bench.keeper.pid == 0
    bench.loop.turn()

    assert bench.keeper.pid > 0


def test_without_room_for_a_process_a_store_is_started_later() -> None:
    """The same when fork itself fails, and no descriptor stays."""
    pid = os.fork()
    if pid == 0:
        status = 99
        try:
            status = _be_denied()
        finally:
            os._exit(status)
    reaped: list[children.Ended] = []

    def reap() -> bool:
        reaped.extend(children.reap())
        return bool(reaped)

    wait_until(reap, "the end of the test's process")

    assert [(ended.pid, ended.status) for ended in reaped] == [(pid, 0)]


def _be_denied() -> int:
    """Be somebody who may have no more processes, and then may: 0 if the keeper takes it well."""
    if os.getuid() == 0:
        # root's processes are not counted
        os.setuid(pwd.getpwnam("nobody").pw_uid)
    limits = resource.getrlimit(resource.RLIMIT_NPROC)
    bench = Bench(pantry.plain)
    before = os.dup(0)
    os.close(before)
    resource.setrlimit(resource.RLIMIT_NPROC, (0, limits[1]))
    bench.keeper.start()
    resource.setrlimit(resource.RLIMIT_NPROC, limits)
    after = os.dup(0)
    os.close(after)
    if bench.lines != [f"cannot fork a process for the store: {os.strerror(errno.EAGAIN)}"] or after != before:
        return 1
    bench.loop.turn()
    bench.close()
    return 0 if bench.happened == ["started"] else 2


def test_close_is_told_once_the_store_is_open() -> None:
    """`finish` before OPENED waits for it, and for what the router makes of it."""
    bench = Bench(pantry.plain)
    bench.keeper.start()
    bench.keeper.finish(PATIENCE_S)
    assert bench.child is not None
    assert select.select([bench.child.fd], [], [], PATIENCE_S)[0]
    bench.keeper.read()
    bench.loop.turn()
    bench.end()

    assert bench.happened == ["started", "OPENING", "OPENED", "opened", "closed", "finished"]
    bench.close()


def test_close_is_not_told_to_a_store_that_is_gone_again() -> None:
    """It was open for a moment only; the next one is told."""
    bench = Bench()
    bench.keeper.start()
    bench.keeper.finish(PATIENCE_S)
    assert bench.child is not None
    while "closed" not in bench.happened:
        assert select.select([bench.child.fd], [], [], PATIENCE_S)[0]
        bench.keeper.read()
    bench.loop.turn()
    bench.end()

    assert bench.told == 0
    assert bench.happened == ["started", "OPENED", "opened", "closed"]
    bench.close()


def test_whom_a_kill_does_not_end_is_waited_for_in_bounded_time() -> None:
    """One that waits for a dead disk is left to init. (Here nobody tells the keeper of its end.)"""
    bench = Bench(pantry.deaf)
    bench.keeper.start()
    bench.keeper.finish(0.0)
    bench.loop.turn()
    assert bench.lines == ["store: has not ended in time, killed"]
    assert "finished" not in bench.happened
    began = time.monotonic()
    bench.loop.turn()

    assert bench.happened[-1] == "finished"
    assert 4.0 < time.monotonic() - began < 6.0
    bench.close()


def test_a_kill_without_a_store_is_none(bench: Bench) -> None:
    """Between two stores there is nothing to kill."""
    bench.live()
    bench.keeper.kill()

    assert bench.keeper.pid == 0


def test_a_store_without_a_word_is_described_by_its_end() -> None:
    """The signal is all that is known."""

    def crash(end: socket.socket, is_fresh: bool) -> int:
        brief(end, is_fresh)
        os.kill(os.getpid(), signal.SIGBUS)
        return 0

    bench = Bench(crash)
    bench.live()

    assert bench.lines == ["store: ended, signal SIGBUS; started anew in 0.1 s"]
    bench.close()
