"""The nursery as the parent has it: spares at hand, clients given to them, and ends, whoever tells them."""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator

import pytest
from driven import Broker, Starter, is_alive, wait_until
from parts import logger_of, no_descriptors
from puppet import Switchboard
from support.spares import spare_for

from forkbroker.child import nursery
from forkbroker.errors import Exit
from forkbroker.parent.admission import AdmissionPolicy
from forkbroker.parent.channels import Channels
from forkbroker.parent.flow import FlowPolicy
from forkbroker.parent.helpers import HelperProgram, Helpers
from forkbroker.parent.listener import Connection
from forkbroker.parent.nursing import Nursing
from forkbroker.parent.processes import Forge
from forkbroker.parent.reaper import Reaper
from forkbroker.parent.setup import ParentPolicy
from forkbroker.parent.spares import LOT, SPARES, Spares
from forkbroker.posix import births, children
from forkbroker.posix.loop import Loop
from forkbroker.routing.peers import Peer
from forkbroker.wire import descriptors
from forkbroker.wire.channel import Channel
from forkbroker.wire.envelope import pack
from forkbroker.wire.kinds import Kind, Role
from forkbroker.wire.receive_memory import ReceiveMemory

IS_SIBLING = births.METHOD is births.Method.SIBLING


def greet(end: socket.socket, client: socket.socket, address: str, peer: int) -> int:
    client.sendall(f"{address} {peer}".encode())
    signal.pause()
    return 0


def plain(end: socket.socket) -> int:
    return nursery.main(end, lambda _: spare_for(greet))


class House:
    """A nursery, whose parent turns when the test says so."""

    def __init__(self, program: HelperProgram, most: int) -> None:
        self.loop, self.lines = Loop(), list[str]()
        self.begun = self.changes = 0
        self.ends: list[children.Ended] = []
        self.orphans: set[int] = set()
        self.lost: list[str] = []
        self.given: list[Channel] = []
        logger = logger_of(self.lines)
        channels = Channels(self.loop, Switchboard(logger), FlowPolicy(), ReceiveMemory(0))
        at_turn_end = self.loop.at_turn_end
        at_turn_end(channels.end_turn)
        self.helpers = Helpers(channels, Forge(100_000, lambda: ()), self._lose, logger)
        reaper = Reaper(self.helpers, self.ends.append, self.orphans.update)
        self.stock = Spares(self.helpers, Forge(1000, lambda: ()), reaper, most=most, changed=self._change)
        self.nursery = Nursing(self.helpers, program, self.stock, reaper, self._begin, logger)
        self.nursery.start()

    def _begin(self) -> None:
        self.begun += 1

    def _change(self) -> None:
        self.changes += 1

    def _lose(self, role: Role, reason: str, status: Exit) -> None:
        self.lost.append(f"{role.value}: {reason}")

    @property
    def pid(self) -> int:
        process = self.helpers.find(Role.NURSERY)
        return 0 if process is None else process.pid

    @property
    def spares(self) -> list[int]:
        return list(self.stock._spares)

    def turn_until(self, condition: Callable[[], object]) -> None:
        def look() -> object:
            self.loop.call_at(self.loop.now + 0.01, lambda: None)
            self.loop.turn()
            for ended in children.reap():
                self.helpers.reaped(ended)
                self.nursery.reaped(ended)
                self.ends.append(ended)
            return condition()

        wait_until(look, "what the nursery does")

    def give(self) -> tuple[socket.socket, int]:
        """A client's socket, and the process that serves it."""
        client, served = socket.socketpair()
        client.settimeout(10.0)
        try:
            pid, channel = self.stock.give(Connection(served, "192.0.2.1:7", "192.0.2.1"), Peer(7))
        except OSError:
            client.close()
            raise
        finally:
            served.close()
        self.given.append(channel)
        return client, pid

    def close(self) -> None:
        ended: list[bool] = []
        self.nursery.stop()
        self.nursery.finish()
        self.nursery.await_end(lambda: ended.append(True))
        self.turn_until(lambda: ended)
        self.stock.close()
        for channel in self.given:
            channel.close()
        self.loop.close()


def find_spares() -> set[int]:
    """Children of this process that are shown as spares; the nursery, too, while it forks."""
    shown = subprocess.run(["ps", "-A", "-o", "ppid=,pid=,comm="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in shown.splitlines()]
    return {int(pid) for ppid, pid, name in rows if int(ppid) == os.getpid() and name == "stomp-spare"}


Make = Callable[..., House]


@pytest.fixture
def make() -> Iterator[Make]:
    """Houses of which no process stays."""
    made: list[House] = []

    def make_one(program: HelperProgram = plain, most: int = 3) -> House:
        made.append(House(program, most))
        return made[-1]

    yield make_one
    for one in made:
        one.close()
    wait_until(lambda: not list(children.reap()), "all ends")


def test_so_many_spares_are_kept_at_hand(make: Make) -> None:
    """As there may be clients; clients take them, and others come when a lot is used up."""
    one = make(most=3)
    one.turn_until(lambda: len(one.spares) == 3)
    first = one.spares[0]
    client, pid = one.give()

    assert pid == first
    assert client.recv(100) == b"192.0.2.1:7 7"
    one.turn_until(lambda: len(one.spares) == 3)
    assert (one.begun, first in one.spares) == (1, False)
    assert (SPARES, LOT) == (24, 8)
    one.stock.kill(pid)
    client.close()


def test_a_spare_that_is_killed_is_made_up_for(make: Make) -> None:
    """Before or after the parent has learned of it, a client is given to one that lives."""
    one = make()
    one.turn_until(lambda: len(one.spares) == 3)
    dead = one.spares[:2]
    for pid in dead:
        os.kill(pid, signal.SIGKILL)
    ends = [one.stock._spares[pid].fileno() for pid in dead]
    wait_until(lambda: len(select.select(ends, [], [], 0)[0]) == 2, "the ends of two")
    client, pid = one.give()

    assert pid not in dead
    assert client.recv(100) == b"192.0.2.1:7 7"
    one.turn_until(lambda: len(one.spares) == 3 and not set(dead) & set(one.spares))
    one.stock.kill(pid)
    client.close()


@pytest.mark.skipif(not IS_SIBLING, reason="the nursery's own children are the nursery's to reap")
def test_a_spare_that_ended_before_it_was_told_of_is_none(make: Make) -> None:
    """It was reaped, so its number may be another process's by now; another one is made."""
    one = make(most=1)
    one.turn_until(lambda: one.spares)
    client, served = one.give()
    mine = {one.pid, served}
    wait_until(lambda: find_spares() - mine, "a spare that the parent knows nothing of")
    [early] = find_spares() - mine
    os.kill(early, signal.SIGKILL)
    os.waitpid(early, 0)
    one.turn_until(lambda: one.spares)

    assert early not in one.spares
    one.stock.kill(served)
    client.close()


def test_without_a_spare_nobody_can_be_answered(make: Make) -> None:
    """Until there is one again: `changed` tells."""
    one = make(most=1)
    one.turn_until(lambda: one.spares)
    assert one.stock.can_answer
    client, pid = one.give()
    changes = one.changes
    assert not one.stock.can_answer
    one.turn_until(lambda: one.stock.can_answer)

    assert one.changes == changes + 1
    one.stock.kill(pid)
    client.close()


def test_a_nursery_that_is_killed_is_replaced(make: Make) -> None:
    """Spares that it has made stay if they are the parent's own, and new ones come."""
    one = make()
    one.turn_until(lambda: len(one.spares) == 3)
    old, spares = one.pid, one.spares
    os.kill(old, signal.SIGKILL)
    one.turn_until(lambda: one.pid not in (0, old) and len(one.spares) == 3)

    assert one.begun == 1
    assert (one.spares == spares) is IS_SIBLING
    assert one.orphans == (set() if IS_SIBLING else set(spares))
    client, pid = one.give()
    assert client.recv(100) == b"192.0.2.1:7 7"
    one.turn_until(lambda: len(one.spares) == 3)
    one.stock.kill(pid)
    client.close()
    assert one.lines == ["nursery: exited, signal SIGKILL; restarting in 0.1 s"]


def test_what_waits_is_renewed_when_children_are_given_something_else(make: Make) -> None:
    """No spare of before gets a client any more; who is served goes on, and nothing is logged."""
    one = make()
    one.turn_until(lambda: len(one.spares) == 3)
    client, served = one.give()
    old, spares = one.pid, one.spares
    one.nursery.equip(b"")
    assert not one.stock.can_answer
    one.turn_until(lambda: one.pid not in (0, old) and len(one.spares) == 3)

    assert not set(spares) & set(one.spares)
    assert client.recv(100) == b"192.0.2.1:7 7"
    assert one.lines == []
    one.stock.kill(served)
    client.close()


def test_spares_are_renewed_for_another_log_and_the_nursery_is_not(make: Make) -> None:
    """No client gets one that was forked, or ordered, before."""
    levels = ["info"]

    def tell(end: socket.socket, client: socket.socket, address: str, peer: int) -> int:
        client.sendall(levels[-1].encode())
        return 0

    one = make(lambda end: nursery.main(end, lambda _: spare_for(tell), levels.append))
    one.turn_until(lambda: len(one.spares) == 3)
    pid, before = one.pid, set(one.spares)
    first, served = one.give()
    assert one.stock.count == 3, "one is ordered again"
    one.nursery.follow_log("debug")
    assert not one.stock.can_answer
    one.turn_until(lambda: one.stock.can_answer)
    second, _ = one.give()
    one.turn_until(lambda: {ended.pid for ended in one.ends} >= before - {served})

    assert first.recv(100) == b"info"
    assert second.recv(100) == b"debug"
    assert one.pid == pid
    assert one.lines == []
    first.close()
    second.close()


def test_a_nursery_learns_what_children_are_given(make: Make) -> None:
    """It stays, and so inherits nothing that this process has by now; no spare of before gets a client any more."""
    told = [b""]

    def equip(news: bytes) -> nursery.SpareProgram:
        told.append(news)

        def tell(end: socket.socket, client: socket.socket, address: str, peer: int) -> int:
            client.sendall(b",".join(told))
            return 0

        return spare_for(tell)

    one = make(lambda end: nursery.main(end, equip))
    one.turn_until(lambda: len(one.spares) == 3)
    pid, spares = one.pid, one.spares
    one.nursery.equip(b"much")
    one.nursery.equip(b"more")
    assert not one.stock.can_answer
    one.turn_until(lambda: len(one.spares) == 3)
    client, _ = one.give()

    assert client.recv(100) == b",,much,more"
    assert one.pid == pid
    assert not set(spares) & set(one.spares)
    assert one.lines == []
    client.close()


def test_a_nursery_that_is_killed_before_it_has_learnt_is_replaced(make: Make) -> None:
    """By one that has it from its fork."""
    one = make()
    one.turn_until(lambda: len(one.spares) == 3)
    old, spares = one.pid, one.spares
    os.kill(old, signal.SIGSTOP)
    one.nursery.equip(b"more")
    one.loop.call_at(one.loop.now, lambda: None)
    one.loop.turn()
    os.kill(old, signal.SIGKILL)
    one.turn_until(lambda: one.pid not in (0, old) and len(one.spares) == 3)

    assert not set(spares) & set(one.spares)
    assert one.lines == ["nursery: exited, signal SIGKILL; restarting in 0.1 s"]


@pytest.mark.parametrize("octets", [4, 5_000_000])
def test_a_nursery_that_does_not_learn_is_killed(make: Make, monkeypatch: pytest.MonkeyPatch, octets: int) -> None:
    """It is stopped, for one: the spares that are ordered behind that have ten seconds, also if it takes no order."""
    one = make()
    one.turn_until(lambda: len(one.spares) == 3)
    old = one.pid
    os.kill(old, signal.SIGSTOP)
    one.nursery.equip(bytes(octets))
    one.nursery.check()
    assert one.lines == []
    for module in ("nursing", "spares"):
        monkeypatch.setattr(f"forkbroker.parent.{module}.PATIENCE_S", -1.0)
    one.nursery.check()
    monkeypatch.undo()
    one.turn_until(lambda: one.pid not in (0, old) and len(one.spares) == 3)

    assert one.lines[0] == "nursery: killed, has not answered an order for -1 s"


@pytest.mark.skipif(not IS_SIBLING, reason="the nursery's own children are not the parent's to kill")
def test_spares_that_do_not_end_are_killed(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are stopped: after a reload they have ten seconds."""
    one = make()
    one.turn_until(lambda: len(one.spares) == 3)
    stopped = one.spares[0]
    os.kill(stopped, signal.SIGSTOP)
    one.nursery.equip(b"")
    one.turn_until(lambda: len(one.spares) == 3 and set(one.stock._dismissed) == {stopped})
    one.nursery.check()
    assert one.lines == []
    monkeypatch.setattr("forkbroker.parent.nursing.PATIENCE_S", -1.0)
    one.nursery.check()
    one.turn_until(lambda: not one.stock._dismissed)
    assert one.lines == ["spares: 1 killed, did not end within -1 s"]


def test_a_spare_that_is_stopped_is_not_left_behind(make: Make) -> None:
    """Whoever has forked it kills it at the end of the broker."""
    one = make()
    one.turn_until(lambda: len(one.spares) == 3)
    stopped = one.spares[0]
    os.kill(stopped, signal.SIGSTOP)
    ended: list[bool] = []
    one.nursery.stop()
    one.nursery.finish()
    one.nursery.await_end(lambda: ended.append(True))
    one.turn_until(lambda: ended)

    one.turn_until(lambda: not is_alive(stopped))


def test_spares_are_renewed_also_while_there_is_no_nursery(make: Make) -> None:
    """What they were given is of before: a user that was removed must not get one."""
    one = make()
    one.turn_until(lambda: len(one.spares) == 3)
    old, spares = one.pid, one.spares
    os.kill(old, signal.SIGKILL)
    one.turn_until(lambda: one.pid == 0)
    one.nursery.equip(b"")
    assert not one.stock.can_answer
    one.turn_until(lambda: one.pid not in (0, old) and len(one.spares) == 3)

    assert not set(spares) & set(one.spares)


def test_a_nursery_that_never_begins_is_lost(make: Make) -> None:
    """The broker can't start without one."""
    one = make(lambda _: 3)
    one.turn_until(lambda: one.lost)

    assert one.lost == ["nursery: exit status 3"]


def test_the_end_of_a_child_is_told(make: Make) -> None:
    """By the kernel or by the nursery: its status, and what it used."""
    one = make()
    one.turn_until(lambda: one.spares)
    client, pid = one.give()
    assert client.recv(100)
    os.kill(pid, signal.SIGSEGV)
    client.close()
    one.stock.closed(pid)
    one.turn_until(lambda: pid in [ended.pid for ended in one.ends])
    [ended] = [ended for ended in one.ends if ended.pid == pid]

    assert os.WTERMSIG(ended.status) == signal.SIGSEGV
    assert ended.peak_kib > 1000


def test_a_child_that_is_stopped_can_be_killed(make: Make) -> None:
    """Before and after its channel has ended."""
    one = make()
    one.turn_until(lambda: len(one.spares) == 3)
    pids = []
    for is_asked in (False, True):
        client, pid = one.give()
        assert client.recv(100)
        os.kill(pid, signal.SIGSTOP)
        if is_asked:
            one.stock.closed(pid)
        one.stock.kill(pid)
        if not is_asked:
            one.stock.closed(pid)
        client.close()
        pids.append(pid)
    one.turn_until(lambda: set(pids) <= {ended.pid for ended in one.ends})

    assert [os.WTERMSIG(ended.status) for ended in one.ends if ended.pid in pids] == [signal.SIGKILL] * 2


@pytest.mark.parametrize(
    "words",
    [
        pack(Kind.BORN, number=99, count=1, payload=[bytes(4)]),
        pack(Kind.BORN, number=99, count=1, payload=[bytes(3)]),
        pack(Kind.UNBORN, number=99),
        pack(Kind.ENDED, number=1),
        pack(Kind.COMMITTED, number=1),
    ],
)
def test_a_nursery_that_lies_is_killed(make: Make, words: list[bytes]) -> None:
    """Also one that reports what it was not asked for."""

    def lie(end: socket.socket) -> int:
        end.sendall(b"".join([*pack(Kind.REHEARSED), *words]))
        signal.pause()
        return 0

    one = make(lie)
    one.turn_until(lambda: one.lines)

    assert one.lines[0].startswith("nursery: killed, sent an invalid envelope: ")


def test_no_room_for_a_process_is_told_to_who_comes(make: Make) -> None:
    """When no spare is left, once: who comes next waits for what is tried a second later."""

    def refuse(end: socket.socket) -> int:
        end.setblocking(True)
        end.sendall(b"".join(pack(Kind.REHEARSED)))
        descriptors.receive(end)
        end.sendall(b"".join([*pack(Kind.BORN, number=1), *pack(Kind.UNBORN, block=b"the house is full")]))
        signal.pause()
        return 0

    one = make(refuse)
    one.turn_until(lambda: one.stock.can_answer)
    with pytest.raises(OSError, match="the house is full") as raised:
        one.give()

    assert raised.value.errno == errno.EAGAIN
    assert not one.stock.can_answer
    one.turn_until(lambda: one.stock._ordered)
    os.kill(one.pid, signal.SIGKILL)


def test_no_room_for_a_channel_is_told_as_well(make: Make) -> None:
    """In the system's words."""
    one = make()
    one.turn_until(lambda: len(one.spares) == 3)
    client, served = socket.socketpair()
    with served, no_descriptors():
        pids = []
        with pytest.raises(OSError, match="Too many open files"):
            while True:
                pid, channel = one.stock.give(Connection(served, "unix", ""), Peer(8))
                one.given.append(channel)
                pids.append(pid)

    assert len(pids) == 3
    assert not one.stock.can_answer
    one.turn_until(lambda: len(one.spares) == 3)
    for pid in pids:
        one.stock.kill(pid)
    client.close()


def test_a_nursery_that_does_not_answer_is_killed(make: Make) -> None:
    """It may be stopped, or in an endless loop: after ten seconds with an order the next one gets it."""

    def sleep(end: socket.socket) -> int:
        end.sendall(b"".join(pack(Kind.REHEARSED)))
        signal.pause()
        return 0

    one = make(sleep)
    one.turn_until(lambda: one.stock._ordered)
    one.nursery.check()
    assert one.lines == []
    one.loop.now += 10.1
    one.nursery.check()

    assert one.lines == ["nursery: killed, has not answered an order for 10 s"]
    one.turn_until(lambda: not one.pid)


def test_a_stopped_nursery_does_not_stop_the_end(start: Starter) -> None:
    """It is killed when the broker is done."""
    broker = start(ParentPolicy(shutdown_timeout_s=2.0))
    client = broker.logged_in("alice")
    pid = nursery_of(broker)
    os.kill(pid, signal.SIGSTOP)
    broker.signal(signal.SIGTERM)

    assert client.rest().endswith(b"")
    assert broker.wait() == 0
    wait_until(lambda: not is_alive(pid), "the end of the nursery")


def nursery_of(broker: Broker, other_than: int = 0) -> int:
    """The number of the nursery's process; waits until there is one, and not this one."""

    seen: list[int] = []

    def find() -> bool:
        shown = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,comm="], capture_output=True, text=True, check=True)
        rows = (line.split(None, 2) for line in shown.stdout.splitlines())
        found = [int(pid) for pid, parent, name in rows if int(parent) == broker.pid and name == "stomp-nursery"]
        seen.extend(pid for pid in found if pid != other_than)
        return bool(seen)

    # asked once: it is called a spare while it forks some
    wait_until(find, "a nursery")
    return seen[0]


@pytest.mark.parametrize("most", [1, 2000])
def test_clients_wait_in_the_backlog_while_there_is_no_nursery(start: Starter, most: int) -> None:
    """And are served by what the next one forks. Who is connected notices nothing."""
    broker = start(ParentPolicy(admission=AdmissionPolicy(max_clients=most + 1)))
    alice = broker.logged_in("alice")
    old = nursery_of(broker)
    os.kill(old, signal.SIGKILL)
    clients = [broker.dial() for _ in range(min(most, SPARES + 4))]
    for client in clients:
        client.greeted()

    assert alice.count() == 0
    assert nursery_of(broker, other_than=old)
    broker.await_log("^ERROR nursery: exited, signal SIGKILL; restarting in 0.1 s")
