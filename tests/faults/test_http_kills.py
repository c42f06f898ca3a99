"""A child that dies between any two steps of a message that is taken over plain HTTP, or settled.

The message comes back, or is settled: it is never lost, and never both.
"""

from __future__ import annotations

import http.client
import os
import signal
from contextlib import closing

import pytest
from faults.conftest import StartBroker
from support.deadline import wait_until
from support.webclient import LISTEN
from support.webhttp import Events, ask_http, basic

from forkbroker.testing.broker import RunningBroker

VICTIM = {"Authorization": basic("victim", "")}
RESCUER = {"Authorization": basic("rescuer", "")}
KILLED = {
    "child.offer-received": "",
    "child.claimed": "2",
    "child.delivered": "2",
    "child.claim-told": "2",
    "child.parked": "2",
}
"""The delivery-count of the message that the next client gets, if the child of the first one dies there."""


def take(broker: RunningBroker, query: str, who: dict[str, str]) -> tuple[int, bytes, dict[str, str]]:
    status, body, headers = ask_http(broker, "GET", f"/queue/work?{query}", **who)
    return status, body, dict(headers)


@pytest.mark.row("A07")
@pytest.mark.parametrize("point", KILLED)
@pytest.mark.parametrize("persistent", ["true", "false"])
def test_whoever_dies_while_it_takes_costs_no_message(start: StartBroker, point: str, persistent: str) -> None:
    """The next client gets it, at once or when the lease is over, and settles it."""
    broker = start(*LISTEN, crash=f"{point}@victim")
    assert ask_http(broker, "POST", "/queue/work", b"precious", Persistent=persistent)[0] == 201

    with pytest.raises((http.client.HTTPException, ConnectionError)):
        take(broker, "wait=20&lease=0.5", VICTIM)
    status, body, headers = take(broker, "wait=20", RESCUER)

    assert (status, body) == (200, b"precious")
    assert headers.get("stomp-delivery-count", "") == KILLED[point]
    assert ask_http(broker, "DELETE", f"/queue/work?ack={headers['stomp-ack']}", **RESCUER)[0] == 204
    assert take(broker, "wait=0", RESCUER)[0] == 204


@pytest.mark.row("A07")
@pytest.mark.parametrize(("method", "query", "comes_back"), [("DELETE", "ack", False), ("POST", "nack", True)])
def test_whoever_dies_while_it_settles_has_settled(
    start: StartBroker, method: str, query: str, comes_back: bool
) -> None:
    """What the parent can read counts, and once: the client that asks again is told that it is done."""
    broker = start(*LISTEN, crash="child.settled@victim")
    assert ask_http(broker, "POST", "/queue/work", b"precious")[0] == 201
    _, _, headers = take(broker, "wait=20&lease=600", VICTIM)
    place = f"/queue/work?{query}={headers['stomp-ack']}"

    with pytest.raises((http.client.HTTPException, ConnectionError)):
        ask_http(broker, method, place, **VICTIM)
    assert take(broker, f"wait={20 * comes_back}", RESCUER)[0] == (200 if comes_back else 204)
    assert ask_http(broker, "DELETE", f"/queue/work?ack={headers['stomp-ack']}", **RESCUER)[0] == 410


def test_a_child_that_is_killed_afterwards_changes_nothing(start: StartBroker) -> None:
    """The delivery is its client's, not its."""
    broker = start(*LISTEN)
    assert ask_http(broker, "POST", "/queue/work", b"precious")[0] == 201
    _, _, headers = take(broker, "wait=20&lease=600", VICTIM)
    broker.wait_for_children(0)

    assert take(broker, "wait=0", RESCUER)[0] == 204
    assert ask_http(broker, "DELETE", f"/queue/work?ack={headers['stomp-ack']}", **VICTIM)[0] == 204


@pytest.mark.row("A07")
def test_events_of_a_child_that_is_killed_come_again(start: StartBroker) -> None:
    """All that the client had not seen, and what it had at most once more: nobody knows what the process has done."""
    broker = start(*LISTEN)
    path = "/topic/orders?durable=mine"
    with closing(Events(broker, path)) as events:
        for number in range(3):
            assert ask_http(broker, "POST", "/topic/orders", b"%d" % number)[0] == 201
        seen = [next(events) for _ in range(3)]
        wait_until(lambda: any("1 subscription" in title for _, title in broker.children()), "a title")
        [pid] = [pid for pid, title in broker.children() if "1 subscription" in title]
        os.kill(pid, signal.SIGKILL)
        broker.wait_for_log("ended by signal SIGKILL")
        assert ask_http(broker, "POST", "/topic/orders", b"3")[0] == 201
    with closing(Events(broker, path, f"Last-Event-ID: {seen[0]['id']}")) as events:
        found = [next(events)["data"]]
        while found[-1] != "3":
            found.append(next(events)["data"])

    assert found in (["1", "2", "3"], ["0", "1", "2", "3"])
