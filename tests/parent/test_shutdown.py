"""The end of the broker: in good order, at once, and always in bounded time."""

from __future__ import annotations

import os
import signal
import time

import pytest
from driven import PATIENCE_S, Starter, is_alive

from forkbroker.parent.parent import ParentPolicy


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
    assert broker.log.count("gone, the broker is shutting down") == 2


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
    assert [bob.line()[:11] for _ in range(2)] == ["got QUIESCE", "got CLOSE 0"]
    assert broker.wait() == 0
    assert broker.log.count("gone, the broker is shutting down") == 2


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
    assert "WARNING 2 clients had not ended after 0.8 s, killed" in broker.log
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
    broker.await_log("shutting down, 1 client")
    broker.signal(second)

    assert broker.wait() == 0
    assert "WARNING shutting down at once, 1 client killed" in broker.log
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
    broker.await_log("shutting down, 1 client")
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
