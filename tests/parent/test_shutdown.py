"""The end of the broker: in good order, at once, and always in bounded time."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence

import pytest
from driven import PATIENCE_S, Starter, is_alive
from parts import logger_of, pass_time
from puppet import Switchboard

from forkbroker.parent.channels import Channels
from forkbroker.parent.flow import FlowPolicy
from forkbroker.parent.roster import Client, Process
from forkbroker.parent.setup import ParentPolicy
from forkbroker.parent.shutdown import Shutdown
from forkbroker.posix.loop import Loop
from forkbroker.routing.peers import Peer
from forkbroker.wire.channel import Channel, open_pair
from forkbroker.wire.envelope import Buffer, Envelope
from forkbroker.wire.receive_memory import ReceiveMemory


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_without_clients_it_ends_at_once(start: Starter, number: int) -> None:
    """Nobody has to be waited for."""
    broker = start()
    broker.signal(number)

    assert broker.wait() == 0
    assert "INFO stopping" in broker.log
    assert broker.log.endswith("INFO ended\n")


def test_children_send_up_what_they_have_before_they_say_goodbye(start: Starter) -> None:
    """QUIESCE to all first, CLOSE when all have answered; what came up in between is delivered."""
    broker = start(ParentPolicy(shutdown_timeout_s=60.0))
    alice, bob = broker.logged_in("alice"), broker.logged_in("bob")
    alice.tell("refuse-quiesce")
    alice.tell("count")
    alice.line()
    broker.signal(signal.SIGTERM)
    assert bob.line().startswith("got QUIESCE ")
    assert alice.line().startswith("got QUIESCE ")
    alice.tell(f"send {bob.peer} 10", "kind QUIESCED")

    assert bob.line() == "got SEND 0 59"
    assert bob.line().startswith("got CLOSE ")
    assert alice.line().startswith("got CLOSE ")
    assert broker.wait() == 0
    assert broker.log.count("disconnected, the broker is shutting down") == 2


def test_nobody_is_accepted_any_more(start: Starter) -> None:
    """The listeners are closed as soon as the end begins."""
    broker = start(ParentPolicy(shutdown_timeout_s=60.0))
    alice = broker.logged_in("alice")
    alice.tell("refuse-quiesce", "count")
    alice.line()
    broker.signal(signal.SIGTERM)
    assert alice.line().startswith("got QUIESCE ")

    with pytest.raises(ConnectionRefusedError):
        broker.dial()
    alice.tell("kind QUIESCED")
    assert broker.wait() == 0


def test_who_has_not_settled_at_half_time_is_to_read_no_more(start: Starter) -> None:
    """QUIESCE with token 1, then 0 to those that have not answered; a tenth later CLOSE is sent to all."""
    broker = start(ParentPolicy(shutdown_timeout_s=2.0))
    alice, bob = broker.logged_in("alice"), broker.logged_in("bob")
    alice.tell("refuse-quiesce", "count")
    alice.line()
    broker.signal(signal.SIGTERM)
    began = time.monotonic()

    assert [alice.line()[:13] for _ in range(2)] == ["got QUIESCE 1", "got QUIESCE 0"]
    assert 0.9 < time.monotonic() - began < 1.1 * PATIENCE_S
    assert alice.line().startswith("got CLOSE ")
    assert [bob.line()[:11] for _ in range(2)] == ["got QUIESCE", "got CLOSE 3"]
    assert broker.wait() == 0
    assert broker.log.count("disconnected, the broker is shutting down") == 2


def test_nothing_is_offered_any_more(start: Starter) -> None:
    """The router is told so, once, before the children are."""
    broker = start()
    alice = broker.logged_in("alice")
    alice.tell("refuse-quiesce", "count")
    alice.line()
    broker.signal(signal.SIGTERM)
    assert alice.line().startswith("got QUIESCE 1")
    assert broker.log.count("router: no more offers") == 1
    broker.signal(signal.SIGTERM)

    assert broker.wait() == 0
    assert broker.log.count("router: no more offers") == 1


def test_who_leaves_meanwhile_is_not_waited_for(start: Starter) -> None:
    """LEAVING is an answer: it says that nothing more comes."""
    broker = start(ParentPolicy(shutdown_timeout_s=60.0))
    alice, bob = broker.logged_in("alice"), broker.logged_in("bob")
    alice.tell("refuse-quiesce", "count")
    alice.line()
    broker.signal(signal.SIGTERM)
    assert alice.line().startswith("got QUIESCE 1")
    assert bob.line().startswith("got QUIESCE 1")
    alice.tell("leave-and-wait")

    assert bob.line().startswith("got CLOSE ")
    alice.tell("exit 0")
    assert broker.wait() == 0


def test_who_does_not_end_is_killed_when_the_time_is_up(start: Starter) -> None:
    """One line with the number, and the exit status is still 0."""
    broker = start(ParentPolicy(shutdown_timeout_s=1.0))
    clients = [broker.logged_in(name) for name in ("alice", "bob", "carol")]
    clients[0].tell("stop")
    clients[1].tell("refuse-close")
    assert clients[0].line() == "stopping"
    broker.signal(signal.SIGTERM)

    assert broker.wait() == 0
    assert "WARNING shutdown: 2 clients killed, still running after 0.8 s" in broker.log
    assert not any(is_alive(client.pid) for client in clients)
    assert "ERROR" not in broker.log


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_a_second_signal_ends_it_at_once(start: Starter, second: int) -> None:
    """Who is in a hurry doesn't wait for children that don't answer."""
    broker = start(ParentPolicy(shutdown_timeout_s=60.0))
    alice = broker.logged_in("alice")
    alice.tell("stop")
    assert alice.line() == "stopping"
    broker.signal(signal.SIGTERM)
    broker.await_log("shutdown: started, 1 client")
    broker.signal(second)

    assert broker.wait() == 0
    assert "WARNING shutdown: at once, 1 client killed" in broker.log
    assert not is_alive(alice.pid)


def test_quit_ends_it_at_once(start: Starter) -> None:
    """SIGQUIT kills the children without a goodbye, and reaps them."""
    broker = start(ParentPolicy(shutdown_timeout_s=60.0))
    clients = [broker.logged_in(f"user{number}") for number in range(5)]
    broker.signal(signal.SIGQUIT)

    assert broker.wait() == 0
    assert not any(is_alive(client.pid) for client in clients)
    assert broker.log.count("ended by signal SIGKILL") == 5


def test_a_child_that_dies_meanwhile_is_not_waited_for(start: Starter) -> None:
    """An end counts as an answer."""
    broker = start(ParentPolicy(shutdown_timeout_s=60.0))
    alice = broker.logged_in("alice")
    alice.tell("stop")
    assert alice.line() == "stopping"
    broker.signal(signal.SIGTERM)
    broker.await_log("shutdown: started, 1 client")
    os.kill(alice.pid, signal.SIGKILL)

    assert broker.wait() == 0


def test_a_client_that_has_not_logged_in_is_told_too(start: Starter) -> None:
    """QUIESCE and CLOSE are for children of every state."""
    broker = start(ParentPolicy(shutdown_timeout_s=60.0))
    client = broker.connect()
    broker.signal(signal.SIGTERM)

    assert client.line().startswith("got QUIESCE ")
    assert client.line().startswith("got CLOSE ")
    assert broker.wait() == 0


class Noting(Channels):
    """Notes what is sent, so that the order of all that happens can be seen."""

    def __init__(self, loop: Loop, router: Switchboard, happened: list[str]) -> None:
        super().__init__(loop, router, FlowPolicy(), ReceiveMemory(0))
        self.happened = happened

    def send(self, process: Process, buffers: Sequence[Buffer]) -> None:
        envelope = Envelope(buffers[0])
        self.happened.append(f"{envelope.kind.name} {envelope.token} to {process.peer}")


class Committing(Switchboard):
    """Has committed everything when the test says so."""

    is_committed = True


class Bench:
    """A shutdown whose children and store are the test's, and whose clock, too."""

    def __init__(self, logins: int = 2, timeout_s: float = 10.0) -> None:
        self.loop, self.lines, self.happened = Loop(), list[str](), list[str]()
        self.began = self.loop.now
        self.pairs = [open_pair() for _ in range(logins)]
        self.all = [
            Client(
                peer=Peer(number),
                pid=number,
                channel=Channel(ours, max_envelope=1000),
                address="unix",
                host="",
                started=0.0,
            )
            for number, (ours, _) in enumerate(self.pairs, 1)
        ]
        logger = logger_of(self.lines)
        self.router = Committing(logger)
        self.shutdown = Shutdown(
            Noting(self.loop, self.router, self.happened),
            self,  # type: ignore[arg-type]
            timeout_s=timeout_s,
            begin=lambda: self.happened.append("begin"),
            finish=lambda left_s: self.happened.append(f"finish {left_s:.1f}"),
            logger=logger,
        )

    def kill_all(self) -> None:
        """As `Clients` does."""
        self.happened.append("kill")

    def end(self, child: Client) -> None:
        """A child is gone."""
        self.all.remove(child)
        self.shutdown.quiet(child)

    def take(self) -> list[str]:
        taken = list(self.happened)
        self.happened.clear()
        return taken

    def pass_time(self, until_s: float) -> list[str]:
        """What happens until so many seconds after the beginning."""
        pass_time(self.loop, self.began + until_s)
        return self.take()

    def close(self) -> None:
        for pair in self.pairs:
            for end in pair:
                end.close()
        self.loop.close()


def test_each_phase_has_its_part_of_the_time(bench: Bench) -> None:
    """Half for settling, a tenth for what was read, a fifth for goodbyes, a fifth for the store."""
    bench.shutdown.ask()
    assert sorted(bench.take()) == ["QUIESCE 1 to 1", "QUIESCE 1 to 2", "begin"]
    assert bench.pass_time(4.9) == []
    assert sorted(bench.pass_time(5.0)) == ["QUIESCE 0 to 1", "QUIESCE 0 to 2"]
    assert bench.pass_time(5.9) == []
    assert bench.pass_time(6.0) == ["CLOSE 3 to 1", "CLOSE 3 to 2"]
    assert bench.pass_time(7.9) == []
    assert bench.pass_time(8.0) == ["kill"]
    for child in list(bench.all):
        bench.end(child)

    assert bench.take() == ["finish 2.0"]
    assert bench.pass_time(60.0) == []
    assert bench.lines == ["shutdown: started, 2 clients", "shutdown: 2 clients killed, still running after 8.0 s"]


def test_who_ends_without_an_answer_is_not_waited_for(bench: Bench) -> None:
    """The others hear CLOSE at once when they have answered."""
    first, second = bench.all
    bench.shutdown.ask()
    bench.shutdown.quiet(second)
    bench.take()
    bench.end(first)

    assert bench.take() == ["CLOSE 3 to 2"]


def test_nothing_is_closed_before_all_is_committed(bench: Bench) -> None:
    """And it is closed as soon as it is; once."""
    bench.router.is_committed = False
    bench.shutdown.ask()
    for child in bench.all:
        bench.shutdown.quiet(child)
    bench.shutdown.go_on()
    bench.take()
    bench.router.is_committed = True
    bench.shutdown.go_on()
    bench.shutdown.go_on()

    assert bench.take() == ["CLOSE 3 to 1", "CLOSE 3 to 2"]
    assert bench.pass_time(7.9) == []


def test_the_end_is_finished_once(bench: Bench) -> None:
    """Whatever is told afterwards: a commit, the end of the time, another signal."""
    last = bench.all[-1]
    bench.shutdown.ask()
    for child in list(bench.all):
        bench.end(child)
    bench.shutdown.go_on()
    bench.shutdown.quiet(last)
    bench.pass_time(3.0)
    bench.shutdown.ask()
    bench.pass_time(60.0)

    assert [said for said in bench.take() if said.startswith("finish")] == []
    assert bench.lines[-1] == "shutdown: at once, 0 clients killed"


def test_at_once_is_at_once_for_once(bench: Bench) -> None:
    """Further signals change nothing, and log nothing."""
    bench.shutdown.at_once()
    bench.shutdown.at_once()
    bench.shutdown.ask()

    assert bench.take() == ["begin", "kill"]
    assert bench.lines == ["shutdown: at once, 2 clients killed"]


def test_what_not_even_a_kill_ends_is_left_behind_in_time(bench: Bench) -> None:
    """At the end of the time, a second after the kill at the least, five at the most; its numbers are logged."""
    bench.shutdown.ask()
    assert "kill" in bench.pass_time(9.9)

    assert bench.pass_time(10.0) == ["finish 0.0"]
    assert bench.lines[-1] == "shutdown: processes [1, 2] still running after SIGKILL, not waiting for them"


def test_no_time_at_all_kills_and_is_no_endless_wait() -> None:
    """What is left behind is told after a second."""
    bench = Bench(timeout_s=0.0)
    bench.shutdown.ask()

    assert bench.pass_time(0.0)[-1] == "kill"
    assert bench.pass_time(0.9) == []
    assert bench.pass_time(1.0) == ["finish 0.0"]
    bench.close()


def test_before_the_end_begins_nothing_follows_from_ends_and_commits(bench: Bench) -> None:
    """Clients come and go, and the store commits."""
    bench.shutdown.go_on()
    bench.shutdown.quiet(bench.all[0])
    for child in list(bench.all):
        bench.end(child)

    assert bench.take() == []


def test_pages_are_disconnected_one_after_the_other() -> None:
    """Five in a tenth of a second, or as many as it takes to be done in time; other clients at once."""
    bench = Bench(logins=12)
    for child in bench.all[1:]:
        child.is_web = True
    bench.shutdown.ask()
    bench.take()
    for child in bench.all:
        bench.shutdown.quiet(child)

    assert bench.take() == [f"CLOSE 3 to {number}" for number in range(1, 7)]
    assert bench.pass_time(0.15) == [f"CLOSE 3 to {number}" for number in range(7, 12)]
    assert bench.pass_time(0.25) == ["CLOSE 3 to 12"]
    bench.close()
