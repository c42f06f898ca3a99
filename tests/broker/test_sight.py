"""What a running broker says of itself, to any STOMP client that may hear it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support.rawclient import RawClient

from forkbroker.testing.broker import RunningBroker

from .conftest import Join

SYS = "/topic/$SYS/"


def next_event(client: RawClient, event: str, **details: Any) -> dict[str, Any]:
    """The next one of this kind that says this; other clients of the same broker come and go."""
    while True:
        message = client.expect("MESSAGE", content_type="application/json")
        body: dict[str, Any] = json.loads(message.body)
        assert message["destination"] == f"{SYS}events/{body['event']}"
        if body["event"] == event and all(body[name] == value for name, value in details.items()):
            return body


def test_clients_are_told_of_when_they_come_and_go(join: Join, make_broker: Callable[..., RunningBroker]) -> None:
    """With the reason; in every version of STOMP."""
    broker = make_broker()
    watchers = [join(broker, version) for version in ("1.0", "1.1", "1.2")]
    for watcher in watchers:
        watcher.subscribe(f"{SYS}events/connect", 1)
        watcher.subscribe(f"{SYS}events/disconnect", 2)
        watcher.sync()
    with RawClient(broker.port) as guest:
        guest.login(login="guest")
        address = guest.address
        guest.send("DISCONNECT", receipt="bye")
        guest.expect("RECEIPT")
    for watcher in watchers:
        came = next_event(watcher, "connect", login="guest")
        went = next_event(watcher, "disconnect", login="guest")
        assert (came["address"], came["client"], came["pid"]) == (address, went["client"], went["pid"])
        assert (went["reason"], went["crashed"], went["dropped"]) == ("client sent DISCONNECT", False, 0)


def test_a_crash_is_told_with_its_signal(join: Join, make_broker: Callable[..., RunningBroker]) -> None:
    """The child process of a client is killed."""
    broker = make_broker()
    watcher = join(broker)
    watcher.subscribe(f"{SYS}events/*", 1)
    watcher.sync()
    victim = join(broker, headers={"login": "victim"})
    os.kill(next_event(watcher, "connect", login="victim")["pid"], signal.SIGKILL)

    went = next_event(watcher, "disconnect", login="victim")
    assert went["crashed"] and "SIGKILL" in went["reason"]
    victim.expect_eof()


def test_queues_and_dead_letters_are_told_of(join_shared: Join) -> None:
    """From the making on."""
    watcher, client = join_shared(), join_shared()
    watcher.subscribe(f"{SYS}events/>", 1)
    watcher.sync()
    client.subscribe("/queue/told", 1, ack="client-individual")
    client.publish("/queue/told", "1")
    client.nack(client.expect("MESSAGE"), requeue="false")

    assert next_event(watcher, "queue-made", name="/queue/told")["missed"] == 0
    dead = next_event(watcher, "dead-letter", queue="/queue/told")
    assert (dead["to"], dead["reason"], dead["count"]) == ("/queue/DLQ", "rejected", 1)


def test_figures_come_once_a_second(join_shared: Join) -> None:
    """Those of the broker, and those of one queue."""
    watcher, client = join_shared(), join_shared()
    client.publish("/queue/figures", "1")
    client.sync()
    watcher.subscribe(f"{SYS}status", 1)
    watcher.subscribe(f"{SYS}queues/queue/figures", 2)
    status = json.loads(watcher.expect("MESSAGE", subscription=1).body)
    row = json.loads(watcher.expect("MESSAGE", subscription=2).body)
    again = json.loads(watcher.expect("MESSAGE", subscription=1).body)

    assert status["clients"] >= 2 and status["processes"]["helpers"] >= 2
    assert status["octets"]["received"] < again["octets"]["received"] or status["seconds"] < again["seconds"]
    assert (row["name"], row["waiting"], row["entered"]) == ("/queue/figures", 1, 1)


def test_a_pattern_for_all_topics_does_not_mean_what_the_broker_says(join_shared: Join) -> None:
    """Only one that says so."""
    watcher, listener = join_shared(), join_shared()
    watcher.subscribe("/topic/>", 1)
    watcher.subscribe("/topic/*/events/queue-made", 2)
    listener.subscribe(f"{SYS}events/queue-made", 1)
    for client in (watcher, listener):
        client.sync()
    listener.publish("/queue/not-by-accident", "1")
    next_event(listener, "queue-made", name="/queue/not-by-accident")
    listener.publish("/topic/$other", "hidden as well")
    listener.publish("/topic/a.$b", "seen")

    watcher.expect("MESSAGE", body="seen", subscription=1)


def test_nobody_sends_there(join_shared: Join) -> None:
    """The ERROR says so, whatever prefix was written."""
    for name in (f"{SYS}events/connect", "/exchange/amq.topic/$SYS/x", "jms.topic.$SYS/x"):
        client = join_shared()
        client.send("SEND", destination=name, body=b"I am the broker")
        client.expect_error("is the broker's own")


def test_nothing_of_it_is_kept_for_a_durable_subscription(join_shared: Join) -> None:
    """It is refused."""
    client = join_shared(headers={"client-id": "me"})
    client.send("SUBSCRIBE", destination=f"{SYS}events/>", id=1, persistent="true")
    client.expect_error("is what the broker says of itself")


def test_reading_needs_the_right_monitor(join: Join, make_broker: Callable[..., RunningBroker], tmp_path: Path) -> None:
    """The right read for everything is not enough."""
    config = tmp_path / "forkbroker.toml"
    config.write_text(
        '[permissions.anonymous]\nread = ["/>"]\nwrite = ["/>"]\ncreate = ["/>"]\nmonitor = ["/topic/$SYS/events/>"]\n'
    )
    broker = make_broker("--config", str(config))
    client = join(broker)
    client.subscribe(f"{SYS}events/>", 1)
    client.sync()
    client.send("SUBSCRIBE", destination=f"{SYS}status", id=2)

    client.expect_error("lacks the right monitor")


def test_a_drain_is_told_of(join_shared: Join) -> None:
    """Its beginning, and its end."""
    watcher, admin = join_shared(), join_shared()
    watcher.subscribe(f"{SYS}events/phase", 1)
    watcher.sync()
    for verb, phase in (("drain", "draining"), ("undrain", "running")):
        admin.send("SEND", destination=f"/control/{verb}", reply_to="/temp-queue/answers")
        assert next_event(watcher, "phase")["phase"] == phase


def test_the_end_of_the_broker_is_told(join: Join, make_broker: Callable[..., RunningBroker]) -> None:
    """Before its clients are disconnected."""
    broker = make_broker()
    watcher = join(broker)
    watcher.subscribe(f"{SYS}events/phase", 1)
    watcher.sync()
    os.kill(broker.pid, signal.SIGTERM)

    assert next_event(watcher, "phase")["phase"] == "settling"
