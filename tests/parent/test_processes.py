"""The mechanism of all processes: forked, heard to the end, reaped; what goes wrong ends the one that caused it."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable

import pytest
from driven import wait_until
from parts import logger_of, no_descriptors, turn_until
from puppet import Switchboard

from forkbroker.errors import EnvelopeError
from forkbroker.parent.channels import Channels
from forkbroker.parent.flow import FlowPolicy
from forkbroker.parent.processes import Forge, Life, Processes
from forkbroker.parent.roster import Process
from forkbroker.posix import children
from forkbroker.posix.loop import Loop
from forkbroker.routing.peers import Peer
from forkbroker.wire.envelope import pack
from forkbroker.wire.kinds import Kind, Role
from forkbroker.wire.receive_memory import ReceiveMemory

Program = Callable[[socket.socket], int]


class Bench:
    """Processes whose owner notes what it is told."""

    def __init__(self) -> None:
        self.loop, self.lines, self.happened = Loop(), list[str](), list[str]()
        self.fault: BaseException | None = None
        self.logs: list[int] = []
        self.budget = ReceiveMemory(1000)
        logger = logger_of(self.lines)
        self.channels = Channels(self.loop, Switchboard(logger), FlowPolicy(), self.budget)
        self.forge = Forge(100_000, lambda: self.logs, self.budget)
        life = Life(self._heed, self._closed, self._gone, blamed_for=(ZeroDivisionError,))
        self.processes: Processes[Process] = Processes(self.channels, life, logger)

    def _heed(self, process: Process) -> None:
        self.happened.extend(envelope.kind.name for envelope in process.channel.receive())
        if self.fault is not None:
            raise self.fault

    def _closed(self, process: Process) -> None:
        assert self.processes.find(process.peer) is None
        self.happened.append("closed")

    def _gone(self, process: Process, ended: children.Ended) -> None:
        assert process not in self.processes.all
        self.happened.append(f"gone {os.waitstatus_to_exitcode(ended.status)}")

    def start(self, program: Program, keep: tuple[int, ...] = ()) -> Process:
        pid, channel = self.forge.fork(program, keep)
        process = Process(role=Role.STORE, peer=Peer(7), pid=pid, channel=channel, started=self.loop.now)
        self.processes.add(process)
        return process

    def await_end(self, process: Process) -> None:
        def look() -> bool:
            for ended in children.reap():
                self.processes.reaped(ended)
            return process not in self.processes.all

        wait_until(look, "the end of a process")

    def close(self) -> None:
        for process in self.processes.all:
            self.processes.kill(process)
            self.await_end(process)
        self.loop.close()


def speak(end: socket.socket) -> int:
    end.sendall(b"".join(pack(Kind.FENCE)))
    signal.pause()
    return 0


def speak_and_end(end: socket.socket) -> int:
    end.sendall(b"".join(pack(Kind.FENCE)))
    return 3


def hang_up(end: socket.socket) -> int:
    end.close()
    signal.pause()
    return 0


def test_a_process_has_its_channel_and_what_is_to_be_kept(bench: Bench) -> None:
    """The log's descriptor, its client's, and no other one."""
    reading, writing = os.pipe()
    kept, other = os.dup(writing), os.dup(writing)
    bench.logs = [writing]

    def write(_end: socket.socket) -> int:
        os.write(writing, b"to the log ")
        os.write(kept, b"to the client ")
        try:
            os.write(other, b"to somebody else ")
        except OSError:
            os.write(writing, b"closed")
        return 0

    bench.await_end(bench.start(write, (kept,)))
    for fd in (writing, kept, other):
        os.close(fd)
    said = os.read(reading, 1000)
    os.close(reading)

    assert said == b"to the log to the client closed"


def test_without_descriptors_there_is_no_process(bench: Bench) -> None:
    """And nothing stays of the try."""
    before = os.dup(0)
    os.close(before)
    with no_descriptors(), pytest.raises(OSError, match="Too many open files"):
        bench.forge.fork(speak)
    after = os.dup(0)
    os.close(after)

    assert after == before


def test_the_channel_may_end_before_the_process(bench: Bench) -> None:
    """Its owner hears of both, and the process is known until it is reaped."""
    process = bench.start(hang_up)
    turn_until(bench.loop, lambda: process.is_closed)
    assert bench.happened == ["closed"]
    assert bench.processes.all == [process]
    os.kill(process.pid, signal.SIGKILL)
    bench.await_end(process)

    assert bench.happened == ["closed", "gone -9"]


def test_the_process_may_end_before_the_channel(bench: Bench) -> None:
    """What it said before is heeded first, as it may be a claim."""
    process = bench.start(speak_and_end)
    bench.await_end(process)

    assert bench.happened == ["FENCE", "closed", "gone 3"]
    assert process.channel.fileno() == -1


def test_what_has_no_room_yet_is_received_to_the_end_all_the_same(bench: Bench) -> None:
    """The process has ended: nothing more than this will come, and it may be a claim."""

    def speak_much(end: socket.socket) -> int:
        large = pack(Kind.SEND, destination=b"7", payload=[bytes(90_000)])
        octets = b"".join([*large, *pack(Kind.FENCE)])
        end.sendall(octets[:100])
        os.read(gate, 1)
        end.sendall(octets[100:])
        return 0

    gate, opened = os.pipe()
    bench.budget.ask("somebody else", 1000)
    bench.logs = [gate]
    process = bench.start(speak_much)
    turn_until(bench.loop, lambda: process.channel.is_waiting)
    os.write(opened, b"x")
    bench.await_end(process)
    os.close(gate)
    os.close(opened)

    assert bench.happened == ["SEND", "FENCE", "closed", "gone 0"]


def test_a_channel_that_somebody_else_holds_open_is_not_waited_for(bench: Bench) -> None:
    """The process had a child of its own."""
    reading, writing = os.pipe()
    bench.logs = [reading]

    def fork(_end: socket.socket) -> int:
        if os.fork() == 0:
            os.read(reading, 1)
            os._exit(0)
        return 0

    process = bench.start(fork)
    bench.await_end(process)
    os.close(writing)
    os.close(reading)

    assert bench.happened == ["closed", "gone 0"]


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        (EnvelopeError("nonsense"), "store: killed, sent an invalid envelope: nonsense"),
        (AssertionError("a lie"), "store: killed, sent an invalid envelope: a lie"),
        (MemoryError(), "store: killed, no memory for a message from it"),
        (ZeroDivisionError(), "store: killed, unexpected exception while its envelope was applied"),
    ],
)
def test_what_goes_wrong_is_the_end_of_who_has_sent_it(bench: Bench, fault: Exception, line: str) -> None:
    """With one line; nothing of it is heeded any more."""
    process = bench.start(speak)
    bench.fault = fault
    turn_until(bench.loop, lambda: process.is_closed)
    bench.await_end(process)

    assert bench.lines == [line]
    assert bench.happened == ["FENCE", "closed", "gone -9"]
    assert process.killed


def test_other_exceptions_are_the_parents_own(bench: Bench) -> None:
    """They end it: a router in an unknown state could lose messages."""
    process = bench.start(speak)
    bench.fault = KeyError("unknown")

    with pytest.raises(KeyError):
        turn_until(bench.loop, lambda: process.is_closed)
    bench.fault = None

    assert not process.killed


def test_who_is_found_out_later_is_ended_too(bench: Bench) -> None:
    """In the same words."""
    process = bench.start(speak)
    bench.processes.convict(process, "it was found out later")
    bench.await_end(process)

    assert bench.lines == ["store: killed, sent an invalid envelope: it was found out later"]
    assert bench.happened == ["closed", "gone -9"]


def test_who_was_reaped_is_not_killed_any_more(bench: Bench) -> None:
    """Its number may be another process's by now."""
    process = bench.start(speak_and_end)
    bench.await_end(process)
    process.pid = os.getpid()
    bench.processes.kill(process)

    assert process.ended is not None
    assert process.killed


def test_the_end_of_somebody_elses_process_is_nothing(bench: Bench) -> None:
    """Each owner is told of all ends."""
    process = bench.start(speak)
    bench.processes.reaped(children.Ended(os.getpid(), 0, 0.0, 0))

    assert bench.processes.all == [process]
    assert bench.processes.find(Peer(7)) is process
    assert bench.happened == []
