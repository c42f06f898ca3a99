"""kill -9 while an administrator moves messages: each persistent one is in one queue afterwards."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from random import Random

import pytest
from support.rawclient import RawClient, connect

from forkbroker.testing.broker import RunningBroker

COUNT = 3_000
REPLIES = "/temp-queue/answers"


def fill(broker: RunningBroker) -> None:
    """So many persistent dead letters of two queues, and as many other messages."""
    with connect(broker.port) as client:
        for number in range(COUNT):
            client.send("SEND", destination=f"/queue/{'ab'[number % 2]}", persistent="true", body=b"%d" % number)
        client.sync()
        client.publish("/queue/a", "last", persistent="true")


def ask(client: RawClient, verb: str, **args: object) -> None:
    client.send("SEND", destination=f"/control/{verb}", reply_to=REPLIES, body=json.dumps(args).encode())


@pytest.mark.parametrize("seed", range(4))
def test_each_message_is_in_one_place_whatever_is_killed(tmp_path: Path, seed: int) -> None:
    """The parent, or the store, at any instant of a move and a retry."""
    random = Random(seed)
    with RunningBroker("--queue-memory", "1MiB", store_directory=tmp_path) as broker:
        fill(broker)
        with connect(broker.port) as client:
            ask(client, "move", **{"from": "a", "to": "c", "all": True})
            ask(client, "retry", queue="b", to="c", all=True)
            ask(client, "move", **{"from": "c", "to": "d", "all": True})
            victim = broker.pid if seed % 2 else broker.store_pid
            answered = random.randint(0, 2)
            for _ in range(answered):
                assert b'"ok":true' in client.expect("MESSAGE").body
            os.kill(victim, signal.SIGKILL)
            if victim == broker.pid:
                broker.wait()
            else:
                # the next store goes on, and all is answered
                while answered < 3:
                    answered += b'"ok":true' in client.receive().body
    with RunningBroker(store_directory=tmp_path) as broker, connect(broker.port) as client:
        found = []
        for number, name in enumerate("abcd"):
            client.subscribe(f"/queue/{name}", number)
        while len(found) < COUNT + 1:
            found.append(client.receive().body)
        client.expect_nothing()

    assert sorted(found) == sorted([*(b"%d" % number for number in range(COUNT)), b"last"])


@pytest.mark.parametrize("seed", range(4))
def test_a_dead_letter_has_its_reason_whatever_is_killed(tmp_path: Path, seed: int) -> None:
    """The parent, or the store, at any instant: a message waits in its queue, or is a dead letter and says why."""
    random, count = Random(seed), 300
    with RunningBroker(store_directory=tmp_path) as broker, connect(broker.port) as client:
        for number in range(count):
            client.send("SEND", destination="/queue/a", persistent="true", body=b"%d" % number)
        client.sync()
        client.subscribe("/queue/a", ack="client-individual", prefetch_count=count)
        frames = [client.receive() for _ in range(count)]
        victim, last = (broker.pid if seed % 2 else broker.store_pid), random.randrange(count)
        for number, frame in enumerate(frames):
            client.send("NACK", id=frame["ack"], requeue="false", reason=f"reason {frame.body.decode()}")
            if number == last:
                os.kill(victim, signal.SIGKILL)
                break
        if victim == broker.pid:
            broker.wait()
        else:
            client.sync()
    with RunningBroker(store_directory=tmp_path) as broker, connect(broker.port) as client:
        client.subscribe("/queue/a", 1)
        client.subscribe("/queue/DLQ", 2)
        found = [client.receive() for _ in range(count)]
        client.expect_nothing()

    assert sorted(int(frame.body) for frame in found) == list(range(count))
    for frame in found:
        is_dead = frame["destination"] == "/queue/DLQ"
        assert frame.get("reject-reason") == (f"reason {frame.body.decode()}" if is_dead else "")
