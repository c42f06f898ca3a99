"""The store's process: started first, heard always, started anew when it ends, and ended last."""

from __future__ import annotations

import os
import re
import select
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pantry
import pytest
from driven import PATIENCE_S, Starter, is_alive, wait_until
from parts import logger_of, turn_until
from puppet import Switchboard

from forkbroker.errors import Exit
from forkbroker.parent import keeper
from forkbroker.parent.channels import Channels
from forkbroker.parent.flow import FlowPolicy
from forkbroker.parent.helpers import Helpers
from forkbroker.parent.keeper import Keeper, StoreProgram
from forkbroker.parent.processes import Forge
from forkbroker.parent.setup import ParentPolicy
from forkbroker.posix import children
from forkbroker.posix.crashpoints import CrashPoints
from forkbroker.posix.loop import Loop
from forkbroker.wire.envelope import Buffer, Envelope, pack
from forkbroker.wire.kinds import Flag, Kind, Role
from forkbroker.wire.receive_memory import ReceiveMemory


def test_nobody_is_accepted_before_the_store_is_open(start: Starter, tmp_path: Path) -> None:
    """Who connects waits in the backlog, and nobody is told that the broker is ready."""
    path = tmp_path / "open"
    broker = start(store=pantry.opened_when(path), is_awaited=False)
    early = broker.dial()
    broker.store_pid()
    broker.measure()
    assert "ready" not in broker.log
    assert select.select([early.socket], [], [], 0) == ([], [], [])
    path.touch()

    broker.await_log("ready")
    assert early.greeted().peer == 1


def test_a_store_that_cannot_be_opened_is_a_failed_start(start: Starter) -> None:
    """With its reason, and the exit status that it names."""
    broker = start(store=pantry.failing("the shelves are rotten", 65), is_awaited=False)

    assert broker.wait() == 65
    assert "ERROR cannot start: the store cannot be opened: the shelves are rotten" in broker.log
    assert "ready" not in broker.log


def test_a_status_that_is_none_of_ours_is_not_believed(start: Starter) -> None:
    """It breaks the contract, as anything else would."""
    broker = start(store=pantry.failing("the shelves are rotten", 3), is_awaited=False)

    assert broker.wait() == 70
    assert "store: killed, sent an invalid envelope: FAILED with 3, which is no exit status" in broker.log
    assert "Traceback" not in broker.log


@pytest.mark.parametrize(
    ("program", "words"),
    [
        (lambda end, is_fresh: os.kill(os.getpid(), signal.SIGKILL), "signal SIGKILL"),
        (lambda end, is_fresh: 0, "exit status 0"),
    ],
)
def test_a_store_that_ends_before_it_is_open_is_a_failed_start(start: Starter, program: object, words: str) -> None:
    """How it ended is the reason, where it gave none."""
    broker = start(store=program, is_awaited=False)

    assert broker.wait() == 70
    assert f"the store cannot be opened: {words}" in broker.log


def test_a_store_that_is_killed_is_started_anew(start: Starter) -> None:
    """Clients notice nothing; the router is told of both."""
    broker = start()
    alice = broker.logged_in("alice")
    first = broker.store_pid()
    os.kill(first, signal.SIGKILL)
    broker.await_log("INFO router: the store ended: no reason")
    second = broker.store_pid(other_than=first)
    broker.await_log("INFO store: open again")

    assert broker.log.count("router: OPENED") == 2
    assert broker.log.count("ready") == 1
    assert re.search(r"ERROR store: exited, signal SIGKILL; restarting in 0\.1 s", broker.log)
    assert is_alive(second)
    alice.tell("send 1 10", "kind SETTLE")
    assert alice.line() == "got SEND 0 59"
    broker.await_log("router: COMMITTED 1 of the store")


def test_a_parent_that_is_killed_when_it_hears_of_a_commit(start: Starter, monkeypatch: pytest.MonkeyPatch) -> None:
    """The point at which tests of faults end it: behind the word of the store, and not before."""
    monkeypatch.setattr(keeper, "crash", CrashPoints("parent.committed"))
    broker = start()
    alice = broker.logged_in("alice")
    alice.tell("kind SETTLE")

    assert broker.wait() == -signal.SIGKILL
    assert "router: OPENED 0 of the store" in broker.log
    assert "router: COMMITTED 1 of the store" in broker.log


def test_what_is_wrong_with_a_store_reaches_the_router(start: Starter) -> None:
    """Who sends what is to survive can be told why it can't; the others go on."""
    broker = start(store=pantry.failing_later("the disk is full"))
    alice, bob = broker.logged_in("alice"), broker.logged_in("bob")
    alice.tell("kind SETTLE")

    broker.await_log("INFO router: the store ended: the disk is full")
    broker.await_log("ERROR store: exited, the disk is full; restarting in")
    bob.tell("send 1 10")
    assert alice.line() == "got SEND 0 59"
    broker.await_log("INFO store: open again")


def test_a_broker_that_has_lost_its_store_ends(start: Starter) -> None:
    """With the reason and the status that the store gives, and without another try; its clients' processes end, too."""
    broker = start(store=pantry.losing("another broker has it"))
    alice = broker.logged_in("alice")
    alice.tell("kind SETTLE")

    assert broker.wait() == 69
    assert "ERROR store: lost, the broker exits at once: another broker has it" in broker.log
    assert "restarting" not in broker.log
    assert alice.line() == ""


def test_the_pause_before_a_new_one_grows(start: Starter) -> None:
    """A store that ends again and again keeps nobody busy."""
    broker = start()
    pid = 0
    for pause in ("0.1", "0.2", "0.4"):
        pid = broker.store_pid(other_than=pid)
        os.kill(pid, signal.SIGKILL)
        broker.await_log(f"restarting in {pause} s")


@pytest.mark.parametrize(
    ("octets", "problem"),
    [
        (pack(Kind.READY), "READY is not the store's to say"),
        (pack(Kind.CLOSE), "CLOSE is not the store's to say"),
        (pack(Kind.COMMITTED, number=7), "7 is committed, 1 were told"),
        ([b"\xff" * 64], "an envelope of 4294967295 bytes, "),
    ],
)
def test_a_store_that_breaks_the_contract_is_killed(start: Starter, octets: list[Buffer], problem: str) -> None:
    """A kind of others, a lie, garbage: a fault of ours, which harms no client."""
    broker = start(store=pantry.lying(octets))
    alice = broker.logged_in("alice")
    alice.tell("kind SETTLE")
    broker.await_log(f"ERROR store: killed, sent an invalid envelope: {problem}")
    broker.await_log("ERROR store: exited, signal SIGKILL; restarting in 0.1 s")
    broker.await_log("INFO store: open again")

    alice.tell("send 1 10")
    assert alice.line() == "got SEND 0 59"


def test_a_store_that_closes_its_channel_and_does_not_end_is_killed(start: Starter) -> None:
    """It may have a lock that its successor needs."""
    broker = start(store=pantry.lingering)
    broker.logged_in("alice").tell("kind SETTLE")

    broker.await_log("ERROR store: killed, still running after it closed its channel")
    broker.await_log("INFO store: open again")


def test_no_descriptor_of_a_dead_store_stays(start: Starter) -> None:
    """The parent has as many after three stores as with the first."""
    broker = start()
    before, pid = broker.measure()["descriptors"], 0
    for count in range(1, 4):
        pid = broker.store_pid(other_than=pid)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda count=count: broker.log.count("store: open again") == count, "a new store")  # type: ignore[misc]

    assert broker.measure()["descriptors"] == before


def test_a_store_has_only_its_own_descriptors(start: Starter) -> None:
    """A store that is started anew holds no client's socket, whose end would otherwise not be seen."""
    broker = start()
    alice, first = broker.connect(), broker.store_pid()
    os.kill(first, signal.SIGKILL)
    broker.await_log("INFO store: open again")
    os.kill(alice.pid, signal.SIGKILL)

    assert alice.rest() == b""


def test_a_store_ends_with_its_parent(start: Starter) -> None:
    """It sees the end of its channel: the fixture finds no process left."""
    broker = start()
    broker.signal(signal.SIGKILL)

    assert broker.wait() == -signal.SIGKILL


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("crash", ", crashed: ended by signal SIGSEGV"),
        ("exit 3", ", crashed: ended with exit status 3"),
        ("exit 0", ", crashed: exited without reporting a reason"),
        ("warn", ""),
        ("leave-and-die", ""),
        ("kind OFFER", ""),
    ],
)
def test_the_router_is_told_how_a_child_crashed(start: Starter, how: str, words: str) -> None:
    """So it knows which messages are suspect: not those of a child that left, or that the parent killed."""
    broker = start()
    broker.logged_in("alice").tell(how)

    broker.await_log(f"router: 1 ended{words}$")


def test_what_the_router_notes_is_logged_once(start: Starter) -> None:
    """However often the parent asks."""
    broker = start(ParentPolicy(flow=FlowPolicy(check_interval_s=0.02)))
    alice = broker.logged_in("alice")
    alice.tell("kind TRANSACTION")
    broker.await_log("WARNING something happened")
    alice.close()
    broker.await_log("status: 0 clients")
    broker.connect()
    broker.await_log("status: 1 client$")

    assert broker.log.count("something happened") == 1


def test_what_the_router_notes_last_is_logged_too(start: Starter) -> None:
    """The end does not wait for the next check."""
    broker = start(ParentPolicy(flow=FlowPolicy(check_interval_s=60.0)))
    alice = broker.logged_in("alice")
    alice.tell("kind TRANSACTION", "kind FENCE")
    assert alice.line().startswith("got FENCED")
    assert "something" not in broker.log
    broker.signal(signal.SIGTERM)

    assert broker.wait() == 0
    assert "WARNING something happened" in broker.log


def test_who_gives_a_store_too_much_is_held_and_let_go(start: Starter, tmp_path: Path) -> None:
    """What waits for a store that is slow stays near the mark, others go on, and it ends when there is room."""
    path = tmp_path / "room"
    broker = start(store=pantry.heeding_when(path))
    alice, bob = broker.logged_in("alice"), broker.logged_in("bob")
    alice.tell("quiet", "flood store 10000")
    wait_until(lambda: broker.measure()["pending"] > 1 << 20, "the store's channel to fill")
    samples = [broker.measure()["pending"] for _ in range(20)]
    assert max(samples) < 3 << 20
    bob.tell(f"send {bob.peer} 10")
    assert bob.line() == "got SEND 0 59"
    alice.tell("calm", f"send {bob.peer} 20")
    alice.count()
    assert select.select([bob.socket], [], [], 0) == ([], [], [])
    path.touch()

    assert bob.line() == "got SEND 0 69"
    wait_until(lambda: broker.measure()["pending"] == 0, "the store to read everything")


def test_who_is_held_for_a_store_that_dies_goes_on(start: Starter, tmp_path: Path) -> None:
    """Nobody waits for a process that is gone."""
    path = tmp_path / "never while it lives"
    broker = start(store=pantry.heeding_when(path))
    alice = broker.logged_in("alice")
    alice.tell("flood store 10000")
    wait_until(lambda: broker.measure()["pending"] > 1 << 20, "the store's channel to fill")
    alice.tell("calm", "kind FENCE")
    os.kill(broker.store_pid(), signal.SIGKILL)

    assert alice.line().startswith("got FENCED")
    path.touch()


def test_a_store_is_heard_although_a_child_is_slow(start: Starter) -> None:
    """What it has for a stopped child keeps nobody else from the word that waits behind."""
    broker = start(store=pantry.lavish)
    alice, bob = broker.logged_in("alice"), broker.logged_in("bob")
    bob.tell("stop")
    assert bob.line() == "stopping"
    for number in (1, 2):
        alice.tell("kind SETTLE")
        broker.await_log(f"router: COMMITTED {number} of the store")

    assert broker.measure()["pending"] > 1 << 20
    os.kill(bob.pid, signal.SIGCONT)


def test_clients_of_a_stopped_store_go_on(start: Starter) -> None:
    """SIGSTOP of the store costs only those who wait for it."""
    broker = start(ParentPolicy(flow=FlowPolicy(check_interval_s=0.02, stuck_checks=2)))
    alice, pid = broker.logged_in("alice"), broker.store_pid()
    os.kill(pid, signal.SIGSTOP)
    alice.tell("kind SETTLE", "send 1 10")

    assert alice.line() == "got SEND 0 59"
    os.kill(pid, signal.SIGCONT)
    broker.await_log("router: COMMITTED 1 of the store")
    assert broker.store_pid() == pid


def test_a_client_is_served_by_a_parent_whose_store_is_away(start: Starter) -> None:
    """Connections are accepted although no store is open just now."""
    broker = start(store=pantry.opened_only_once)
    broker.logged_in("alice").tell("kind SETTLE")
    broker.await_log("ERROR store: exited, the shelves are rotten; restarting in 0.2 s")

    bob = broker.logged_in("bob")
    bob.tell("send 2 10")
    assert bob.line() == "got SEND 0 59"
    broker.signal(signal.SIGKILL)
    broker.wait()


class Noting(Switchboard):
    """Notes what it is told of the store."""

    def __init__(self, lines: list[str], happened: list[str]) -> None:
        super().__init__(logger_of(lines))
        self.happened = happened

    def receive_stored(self, envelope: Envelope, now: float) -> None:
        self.happened.append(envelope.kind.name)

    def store_ended(self, reason: str) -> None:
        self.happened.append("closed")


class Bench:
    """A keeper whose store's processes are real, and that turns when the test says so."""

    def __init__(self, program: StoreProgram) -> None:
        self.loop, self.lines, self.happened = Loop(), list[str](), list[str]()
        logger = logger_of(self.lines)
        self.channels = Channels(self.loop, Noting(self.lines, self.happened), FlowPolicy(), ReceiveMemory(0))
        self.helpers = Helpers(self.channels, Forge(1000, lambda: ()), self._shutdown, logger)
        self.keeper = Keeper(
            self.channels,
            self.helpers,
            program,
            lambda: self.happened.append("opened"),
            lambda: self.happened.append("finished"),
            logger,
        )
        self.keeper.start()

    def _shutdown(self, _role: Role, reason: str, status: Exit) -> None:
        self.happened.append(f"shutdown: {reason}, {status}")

    @property
    def pid(self) -> int:
        process = self.helpers.find(Role.STORE)
        return 0 if process is None else process.pid

    def turn_until(self, what: str) -> None:
        """Turn the loop, and write what was queued, until this has happened."""
        self.loop.call_at(self.loop.now + PATIENCE_S, lambda: self.happened.append("too late"))
        while what not in self.happened:
            self.loop.turn()
            self.channels.end_turn()
            assert "too late" not in self.happened

    def end(self) -> None:
        """Wait for the end of the process."""
        pid = self.pid

        def reap() -> bool:
            for ended in children.reap():
                self.helpers.reaped(ended)
            return self.pid != pid

        wait_until(reap, "the end of the store's process")

    def close(self) -> None:
        if self.pid:
            self.helpers.kill(Role.STORE)
            self.end()
        self.loop.close()


@pytest.fixture
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    made = Bench(request.param)
    yield made
    made.close()


def brief(end: socket.socket, is_fresh: bool) -> int:
    """A store that is opened, and ends."""
    end.sendall(b"".join(pack(Kind.OPENED, serial=1)))
    return 0


def lost(end: socket.socket, is_fresh: bool) -> int:
    """A store that is opened, and then another broker's."""
    end.sendall(b"".join([*pack(Kind.OPENED), *pack(Kind.FAILED, flags=Flag.FINAL, token=69, block=b"taken")]))
    return 69


@pytest.mark.parametrize(
    ("bench", "happened", "line"),
    [
        (lambda end, is_fresh: 0, ["closed", "shutdown: exit status 0, 70"], ""),
        (pantry.failing("rotten", 65), ["closed", "shutdown: rotten, 65"], ""),
        (lost, ["OPENED", "opened", "closed", "shutdown: taken, 69"], ""),
        (brief, ["OPENED", "opened", "closed"], "store: exited, exit status 0; restarting in 0.1 s"),
    ],
    indirect=["bench"],
)
def test_what_an_end_of_the_store_means(bench: Bench, happened: list[str], line: str) -> None:
    """Before it was open, and when it is lost, the broker ends; else there is another one."""
    bench.end()

    assert bench.happened == happened
    assert bench.lines == [line] * bool(line)


@pytest.mark.parametrize("bench", [pantry.plain], indirect=True)
def test_close_is_told_once_the_store_is_open(bench: Bench) -> None:
    """`finish` before OPENED waits for it, and for what the router makes of it. That end means nothing more."""
    bench.keeper.finish(PATIENCE_S)
    bench.turn_until("closed")
    bench.end()

    assert bench.happened == ["OPENING", "OPENED", "opened", "closed", "finished"]
    assert bench.lines == []


@pytest.mark.parametrize("bench", [pantry.plain], indirect=True)
def test_a_store_that_does_not_answer_is_told_of_once(bench: Bench) -> None:
    """Only if something waits for it that could be written; it is not killed."""
    router = bench.channels.router
    assert isinstance(router, Noting)
    bench.turn_until("opened")
    for _ in range(20):
        bench.keeper.check()
    assert bench.lines == []
    router._told = 1
    for _ in range(9):
        bench.keeper.check()
    assert bench.lines == []
    for _ in range(3):
        bench.keeper.check()
    assert bench.lines == ["store: has not answered for 10 s, receipts wait for it"]
    router._committed = 1
    bench.keeper.check()
    assert bench.lines[1:] == ["store: answers again, after 12 s"]

    router._told = 2
    for _ in range(9):
        bench.keeper.check()
    process = bench.helpers.find(Role.STORE)
    assert process is not None
    process.channel.taken += 1  # it has said something
    for _ in range(10):
        bench.keeper.check()
    assert bench.lines[2:] == []
    bench.keeper._receive_disk(Envelope(b"".join(pack(Kind.DISK, token=1, block=b"full"))))
    for _ in range(20):
        bench.keeper.check()
    assert bench.lines[2:] == []


@pytest.mark.parametrize("bench", [brief], indirect=True)
def test_close_is_not_told_to_a_store_that_is_gone_again(bench: Bench) -> None:
    """It was open for a moment only, and ended with status 0; the next one is told."""
    bench.keeper.finish(PATIENCE_S)
    process = bench.helpers.find(Role.STORE)
    assert process is not None
    while "closed" not in bench.happened:
        assert select.select([process.fd], [], [], PATIENCE_S)[0]
        bench.loop._watched[process.fd].readable()  # type: ignore[misc]
    bench.loop.turn()
    bench.end()

    assert bench.happened == ["OPENED", "opened", "closed"]
    assert bench.lines == ["store: exited, exit status 0; restarting in 0.1 s"]


def killed_at_the_end(end: socket.socket, is_fresh: bool) -> int:
    """A store that is killed while it closes; its successors end before they are open."""
    return pantry.dying_at_the_end(end, is_fresh) if is_fresh else 0


@pytest.mark.parametrize("bench", [killed_at_the_end], indirect=True)
def test_close_was_told_to_one_store_alone(bench: Bench) -> None:
    """The next one's end with status 0 is not the last one if it was not told."""
    bench.keeper.finish(PATIENCE_S)
    bench.turn_until("closed")
    bench.end()
    turn_until(bench.loop, lambda: bench.pid)
    bench.end()

    assert "finished" not in bench.happened
    assert bench.lines == [
        "store: exited, signal SIGKILL; restarting in 0.1 s",
        "store: exited, exit status 0; restarting in 0.2 s",
    ]


@pytest.mark.parametrize("bench", [pantry.deaf], indirect=True)
def test_whom_a_kill_does_not_end_is_waited_for_in_bounded_time(bench: Bench) -> None:
    """One that waits for a dead disk is left to init. (Here nobody tells the keeper of its end.)"""
    bench.keeper.finish(0.0)
    bench.loop._call_due()
    assert bench.lines == ["store: killed, still running at the end of --shutdown-timeout"]
    assert "finished" not in bench.happened
    when = bench.loop._deadlines[0][0]
    assert when - bench.loop.now == pytest.approx(5.0)
    bench.loop.now = when
    bench.loop._call_due()

    assert bench.happened == ["finished"]
