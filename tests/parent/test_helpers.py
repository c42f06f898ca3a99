"""The table of helpers: whatever is a helper is forked, heard, and what its end means happens."""

from __future__ import annotations

import errno
import os
import pwd
import resource
import signal
import socket
from dataclasses import replace

import pytest
from driven import wait_until
from parts import logger_of, no_descriptors, pass_time, turn_until
from puppet import Switchboard

from forkbroker.errors import Exit
from forkbroker.parent.channels import Channels
from forkbroker.parent.flow import FlowPolicy
from forkbroker.parent.helpers import Helper, HelperProgram, Helpers, Meaning
from forkbroker.parent.processes import Forge
from forkbroker.posix import children
from forkbroker.posix.loop import Loop
from forkbroker.routing.peers import METRICS, STORE, Peer
from forkbroker.wire.envelope import Buffer, Envelope, pack
from forkbroker.wire.kinds import SENT_BY, Flag, Kind, Role
from forkbroker.wire.receive_memory import ReceiveMemory

ROLE = Role.STORE
"""Whatever it is: nothing here knows what it is for."""


def brief(end: socket.socket) -> int:
    """A helper that says that it works, and ends."""
    end.sendall(b"".join(pack(Kind.OPENED)))
    return 1


def deaf(_end: socket.socket) -> int:
    """A helper that neither reads nor ends."""
    signal.pause()
    return 0


def saying(*octets: Buffer) -> HelperProgram:
    """A helper that says this, and ends."""

    def program(end: socket.socket) -> int:
        end.sendall(b"".join(octets))
        return 1

    return program


class Bench:
    """A table of one helper, whose clock is the test's, and whose parent turns when the test says so."""

    def __init__(self) -> None:
        self.loop, self.lines, self.happened = Loop(), list[str](), list[str]()
        self.meaning = Meaning.RESTART
        self.may_wait = True
        logger = logger_of(self.lines)
        self.router = Switchboard(logger)
        channels = Channels(self.loop, self.router, FlowPolicy(), ReceiveMemory(0))
        self.helpers = Helpers(channels, Forge(1000, lambda: ()), self._shutdown, logger)

    def row(self, program: HelperProgram) -> Helper:
        return Helper(
            role=ROLE,
            peer=STORE,
            program=program,
            handlers=dict.fromkeys(SENT_BY[ROLE] - {Kind.FAILED}, self._said),
            closed=lambda reason: self.happened.append(f"closed {reason}".rstrip()),
            may_wait=lambda: self.may_wait,
            means=self._judge,
        )

    def _said(self, envelope: Envelope) -> None:
        self.happened.append(envelope.kind.name)
        # the router has something for the helper itself
        self.router.receive(Peer(1), Envelope(pack(Kind.SETTLE)[0]), self.loop.now)

    def _judge(self, status: int) -> Meaning:
        self.happened.append(f"ended {os.waitstatus_to_exitcode(status)}")
        return self.meaning

    def _shutdown(self, role: Role, reason: str, status: Exit) -> None:
        self.happened.append(f"shutdown for the {role.value}: {reason}, {status}")

    @property
    def pid(self) -> int:
        """Of the process; 0: there is none just now."""
        process = self.helpers.find(ROLE)
        return 0 if process is None else process.pid

    def start(self, program: HelperProgram = brief) -> None:
        self.helpers.start(self.row(program))

    def end(self) -> None:
        """Wait for the end of the process."""
        pid = self.pid

        def reap() -> bool:
            for ended in children.reap():
                self.helpers.reaped(ended)
            return self.pid != pid

        wait_until(reap, "the end of the helper's process")

    def pass_time(self, seconds: float) -> None:
        """What is due meanwhile is done, without any waiting."""
        pass_time(self.loop, self.loop.now + seconds)

    def pause(self) -> float:
        """The pause that follows from the last end, by the log; it is over afterwards."""
        words = self.lines[-1].rpartition("restarting in ")[2]
        assert self.pid == 0
        self.pass_time(float(words.removesuffix(" s")))
        assert self.pid
        return float(words.removesuffix(" s"))

    def close(self) -> None:
        self.meaning = Meaning.NOTHING
        if self.pid:
            self.helpers.kill(ROLE)
            self.end()
        self.loop.close()


# -- what an end means


def test_one_that_has_ended_may_be_killed_because_another_one_has(bench: Bench) -> None:
    """Both have ended before the parent looks: what follows from the first end may be the kill of the second."""
    bench.meaning = Meaning.NOTHING
    handlers = dict.fromkeys(SENT_BY[Role.METRICS] - {Kind.FAILED}, bench._said)
    metrics = replace(bench.row(deaf), role=Role.METRICS, peer=METRICS, handlers=handlers)

    def judge(status: int) -> Meaning:
        bench.helpers.kill(Role.METRICS)
        return bench._judge(status)

    bench.helpers.start(replace(bench.row(deaf), means=judge))
    bench.helpers.start(metrics)
    for role in (ROLE, Role.METRICS):
        process = bench.helpers.find(role)
        assert process is not None
        os.kill(process.pid, signal.SIGKILL)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    bench.end()

    assert bench.happened == ["closed", "ended -9", "closed", "ended -9"]


def test_restart_another_one_is_started(bench: Bench) -> None:
    """After a pause: a turn of the loop before its end starts none."""
    bench.start()
    bench.end()
    assert bench.lines == ["store: exited, exit status 1; restarting in 0.1 s"]
    bench.pass_time(0.09)
    assert bench.pid == 0
    bench.pass_time(0.01)

    assert bench.pid > 0
    assert bench.happened == ["OPENED", "closed", "ended 1"]


def test_restart_the_pause_doubles_up_to_five_seconds(bench: Bench) -> None:
    """It is bounded, as a disk may be back any time."""
    pauses = []
    bench.start()
    for _ in range(9):
        bench.end()
        pauses.append(bench.pause())

    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]


def test_restart_one_that_worked_for_long_is_started_anew_soon(bench: Bench) -> None:
    """Earlier ends are forgotten after ten seconds of work; not before."""
    bench.start()
    for _ in range(4):
        bench.end()
        bench.pause()
    bench.loop.now += 9.9
    bench.end()
    assert bench.pause() == 1.6
    bench.loop.now += 10.1
    bench.end()

    assert bench.pause() == 0.1


def test_shutdown_the_broker_ends(bench: Bench) -> None:
    """With how it ended, and the status for a fault of ours, as it has told no other one; there is no second try."""
    bench.meaning = Meaning.SHUTDOWN
    bench.start()
    bench.end()
    bench.pass_time(60.0)

    assert bench.happened == ["OPENED", "closed", "ended 1", "shutdown for the store: exit status 1, 70"]
    assert bench.lines == []
    assert bench.pid == 0


def test_shutdown_with_the_reason_and_the_status_that_it_gave(bench: Bench) -> None:
    """Its own words are better than what is known of its end."""
    bench.meaning = Meaning.SHUTDOWN
    bench.start(saying(*pack(Kind.FAILED, token=Exit.IOERR, block=b"the shelves are rotten")))
    bench.end()

    assert bench.happened == [
        "closed the shelves are rotten",
        "ended 1",
        "shutdown for the store: the shelves are rotten, 74",
    ]


def test_nothing_nothing_follows(bench: Bench) -> None:
    """It has done what it was there for."""
    bench.meaning = Meaning.NOTHING
    bench.start()
    bench.end()
    bench.pass_time(60.0)

    assert bench.happened == ["OPENED", "closed", "ended 1"]
    assert bench.lines == []
    assert bench.pid == 0


def test_no_other_one_is_started_if_none_will_do_better(bench: Bench) -> None:
    """FAILED with FINAL: what means RESTART otherwise is a SHUTDOWN."""
    bench.start(saying(*pack(Kind.FAILED, flags=Flag.FINAL, token=Exit.UNAVAILABLE, block=b"another broker has it")))
    bench.end()
    bench.pass_time(60.0)

    assert bench.happened[-1] == "shutdown for the store: another broker has it, 69"
    assert bench.pid == 0


def test_what_one_said_is_not_the_next_ones_word(bench: Bench) -> None:
    """Its reason and its status were its own."""
    words = list(pack(Kind.FAILED, token=Exit.IOERR, block=b"the disk is full"))

    def speak(end: socket.socket) -> int:
        return saying(*words)(end)

    bench.start(speak)
    words.clear()
    bench.end()
    assert bench.lines == ["store: exited, the disk is full; restarting in 0.1 s"]
    bench.pause()
    bench.meaning = Meaning.SHUTDOWN
    bench.end()

    assert bench.happened[-1] == "shutdown for the store: exit status 1, 70"


# -- what it may say


def test_a_row_has_a_handler_for_each_kind_of_its_role(bench: Bench) -> None:
    """A kind without one, or one of others, is a mistake in the table, and shows at once."""
    row = bench.row(brief)
    wrong = dict(row.handlers)
    del wrong[Kind.PAGE]
    for handlers in (wrong, {**row.handlers, Kind.SEND: bench._said}):
        with pytest.raises(AssertionError, match="the store may send other kinds than there are handlers for"):
            bench.helpers.start(replace(row, handlers=handlers))


def test_nobody_is_the_cause_of_what_follows_from_its_words(bench: Bench) -> None:
    """It is queued at once: what a child says in the same turn did not cause it, and the child is not held for it."""
    bench.start(saying(*pack(Kind.OPENED)))
    process = bench.helpers.find(ROLE)
    assert process is not None
    turn_until(bench.loop, lambda: bench.happened)

    assert process.channel.pending > 0


@pytest.mark.parametrize("kind", [Kind.SEND, Kind.CLOSE, Kind.LEAVING])
def test_what_is_not_its_to_say_is_its_end(bench: Bench, kind: Kind) -> None:
    """What it said before is heeded; and its end means what it always means."""
    bench.start(saying(*pack(Kind.OPENED), *pack(kind), *pack(Kind.OPENED)))
    bench.end()

    assert bench.lines[0] == f"store: killed, sent an invalid envelope: {kind.name} is not the store's to say"
    assert bench.lines[1].endswith("restarting in 0.1 s")
    assert bench.happened[:2] == ["OPENED", "closed"]


def test_a_status_that_is_none_of_ours_is_not_believed(bench: Bench) -> None:
    """It breaks the contract, as anything else would."""
    bench.start(saying(*pack(Kind.FAILED, token=3)))
    bench.end()

    assert bench.lines[0].endswith("envelope: FAILED with 3, which is no exit status")


# -- what it may not make others wait for


def test_one_that_has_closed_its_channel_and_does_not_end_is_killed(bench: Bench) -> None:
    """It may have a lock that its successor needs. It has two seconds."""

    def lingering(end: socket.socket) -> int:
        end.close()
        signal.pause()
        return 0

    bench.start(lingering)
    turn_until(bench.loop, lambda: bench.happened)
    bench.pass_time(1.9)
    assert bench.lines == []
    bench.pass_time(0.1)
    assert bench.lines == ["store: killed, still running after it closed its channel"]
    bench.end()

    assert bench.happened == ["closed", "ended -9"]


def test_one_that_was_killed_already_is_not_complained_about(bench: Bench) -> None:
    """Who has killed it has said why; a process that waits for a dead disk takes its time."""

    def lie(end: socket.socket) -> int:
        end.sendall(b"".join(pack(Kind.LEAVING)))
        signal.pause()
        return 0

    bench.start(lie)
    turn_until(bench.loop, lambda: bench.lines)
    bench.pass_time(5.0)

    assert bench.lines == ["store: killed, sent an invalid envelope: LEAVING is not the store's to say"]


def test_one_that_has_ended_in_time_is_not_killed(bench: Bench) -> None:
    """Two seconds after the end of its channel its successor runs, and goes on."""
    bench.start()
    bench.end()
    bench.pause()
    pid = bench.pid
    bench.pass_time(5.0)

    assert bench.pid == pid
    assert len(bench.lines) == 1


def test_without_descriptors_it_is_started_later(bench: Bench) -> None:
    """A parent at its limit is no reason to end: one line, and another try."""
    with no_descriptors():
        bench.start()
    assert bench.lines == ["store: cannot fork its process: Too many open files"]
    assert bench.pid == 0
    bench.pass_time(0.1)

    assert bench.pid > 0


def test_without_room_for_one_that_the_broker_cannot_wait_for_the_broker_ends(bench: Bench) -> None:
    """With the status for what the system does not have."""
    bench.may_wait = False
    with no_descriptors():
        bench.start()

    assert bench.happened == ["shutdown for the store: cannot fork its process: Too many open files, 71"]


def test_without_room_for_a_process_it_is_started_later() -> None:
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
    """Be somebody who may have no more processes, and then may: 0 if the table takes it well."""
    if os.getuid() == 0:
        # root's processes are not counted
        os.setuid(pwd.getpwnam("nobody").pw_uid)
    limits = resource.getrlimit(resource.RLIMIT_NPROC)
    bench = Bench()
    before = os.dup(0)
    os.close(before)
    resource.setrlimit(resource.RLIMIT_NPROC, (0, limits[1]))
    bench.start(deaf)
    resource.setrlimit(resource.RLIMIT_NPROC, limits)
    after = os.dup(0)
    os.close(after)
    if bench.lines != [f"store: cannot fork its process: {os.strerror(errno.EAGAIN)}"] or after != before:
        return 1
    bench.pass_time(0.1)
    is_there = bench.pid > 0
    bench.close()
    return 0 if is_there else 2


def test_a_kill_without_a_process_is_none(bench: Bench) -> None:
    """Between two of them there is nothing to kill."""
    bench.start()
    bench.end()
    bench.helpers.kill(ROLE)

    assert bench.pid == 0


def test_one_without_a_word_is_described_by_its_end(bench: Bench) -> None:
    """The signal is all that is known."""

    def crash(_end: socket.socket) -> int:
        os.kill(os.getpid(), signal.SIGBUS)
        return 0

    bench.start(crash)
    bench.end()

    assert bench.lines == ["store: exited, signal SIGBUS; restarting in 0.1 s"]
