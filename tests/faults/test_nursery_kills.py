"""SIGKILL of the nursery, of spares and of the parent at every step between an order and a served client."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack, suppress

import pytest
from faults.scene import Client, processes
from support.deadline import wait_until

from forkbroker.testing.broker import RunningBroker

LEAST, MOST = 17, 24
"""Spares when nothing happens."""


def _talk(client: Client) -> None:
    """See that this client has a process that works."""
    client.subscribe("/topic/own")
    client.publish("/topic/own", "hello")
    client.expect_messages("hello")


@pytest.mark.parametrize("point", ["nursery.ordered:4", "nursery.born:21", "nursery.told:4"])
def test_a_nursery_that_is_killed_at_any_step_costs_nobody_anything(start, connect, point) -> None:
    """Each nursery ends with its fourth order, the next one serves on, and who is connected notices nothing."""
    broker = start(crash=point)
    clients = [connect(broker) for _ in range(20)]
    for client in clients:
        _talk(client)

    broker.wait_for_log("error nursery: exited, signal SIGKILL; restarting in")
    assert len(broker.wait_for_children(20)) == 20
    assert broker.stop() == 0
    assert broker.survivors == []


def test_after_a_reload_the_same_nursery_has_what_was_changed(start, connect, tmp_path) -> None:
    """Nothing of what the parent has by then is inherited; opening the log again changes nothing for the nursery."""
    file = tmp_path / "broker.toml"
    file.write_text("max-headers = 30\n")
    broker = start("--config", file)
    before = connect(broker)
    nursery, spares = broker.wait_for_nursery(), broker.spares
    os.kill(broker.pid, signal.SIGUSR1)
    file.write_text("max-headers = 9\n")
    os.kill(broker.pid, signal.SIGHUP)
    broker.wait_for_log("reload: done")
    wait_until(lambda: len(broker.spares) >= LEAST and not set(spares) & set(broker.spares), "other spares")
    after = connect(broker)
    many = {f"header-{number}": "x" for number in range(20)}
    before.request("SEND", destination="/topic/a", **many)
    after.send("SEND", destination="/topic/a", **many)
    after.expect_error("too many headers")

    assert broker.wait_for_nursery() == nursery


def test_a_nursery_that_is_killed_while_it_learns_is_replaced_by_one_that_knows(start, connect, tmp_path) -> None:
    """Who connects meanwhile waits for it."""
    file = tmp_path / "broker.toml"
    file.write_text("max-headers = 30\n")
    broker = start("--config", file, crash="nursery.learning")
    nursery = broker.wait_for_nursery()
    file.write_text("max-headers = 9\n")
    os.kill(broker.pid, signal.SIGHUP)
    broker.wait_for_log("error nursery: exited, signal SIGKILL; restarting in")
    client = connect(broker)
    client.send("SEND", destination="/topic/a", **{f"header-{number}": "x" for number in range(20)})
    client.expect_error("too many headers")

    assert broker.wait_for_nursery() != nursery


def test_a_spare_that_is_killed_with_its_client_costs_that_client_alone(start, connect) -> None:
    """It sees the end of its connection; the log tells why; another one comes."""
    broker = start(crash="spare.handed@2")
    first = connect(broker)
    with Client(broker.port) as second:
        second.take_to_end()
    third = connect(broker)

    _talk(first)
    _talk(third)
    broker.wait_for_log(r"error client 2 \S+: ended by signal SIGKILL")
    wait_until(lambda: LEAST <= len(broker.spares) <= MOST, "all spares")


@pytest.mark.parametrize("point", ["parent.ordered:4", "parent.handed"])
def test_when_the_parent_is_killed_no_nursery_and_no_spare_stays(start, point) -> None:
    """When it has ordered more, and while it gives a client to a spare: who has connected sees the end."""
    broker = start(crash=point)
    with ExitStack() as stack:
        for _ in range(12):  # the first eight use up a lot
            with suppress(OSError):
                stack.enter_context(Client(broker.port))

        assert broker.wait() == -signal.SIGKILL
    wait_until(lambda: not processes(broker.pid), "the end of all processes")


def test_spares_that_are_killed_are_replaced(start, connect) -> None:
    """All of them at once: a client that comes then waits for a moment at most, or is told to come again."""
    broker = start()
    wait_until(lambda: LEAST <= len(broker.spares) <= MOST, "all spares")
    first = connect(broker)
    wait_until(lambda: LEAST <= len(broker.spares) <= MOST, "all spares again")
    dead = broker.spares
    for pid in dead:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: LEAST <= len(broker.spares) <= MOST and not set(dead) & set(broker.spares), "other spares")
    second = connect(broker)

    _talk(first)
    _talk(second)
    assert [line for line in broker.log if " error " in line] == []


def test_nursery_and_spares_are_gone_when_the_broker_has_stopped(start, connect) -> None:
    """By its own exit: nothing is left to init."""
    broker: RunningBroker = start()
    _talk(connect(broker))
    broker.wait_for_nursery()
    broker.kill(signal.SIGTERM)

    assert broker.wait() == 0
    assert processes(broker.pid) == []


def test_a_nursery_that_is_killed_over_and_over_stops_nobody(start, connect) -> None:
    """Spares suffice until the next one comes; what clients have is theirs."""
    broker = start()
    witness = connect(broker, "witness")
    witness.subscribe("/queue/work", ack="client-individual", prefetch_count=100)
    for number in range(5):
        pid = broker.wait_for_nursery()
        os.kill(pid, signal.SIGKILL)
        client = connect(broker)
        client.publish("/queue/work", f"m{number}")
        broker.wait_for_nursery(other_than=pid)

    witness.expect_messages(*(f"m{number}" for number in range(5)))
