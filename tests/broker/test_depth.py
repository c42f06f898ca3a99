"""Queues that are deeper than memory: bounded, in order, and quick."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable

import pytest
from support.rawclient import RawClient

from forkbroker.testing.broker import RunningBroker

COUNT = 100_000
BODY = b"x" * 1016
MEMORY = "8MiB"
BOUND_MIB = 70
"""For the parent and the store each: an interpreter with what it has imported, what waits in channels, 8 MiB; and far
less than the 100 MiB and more that all these messages would take."""
WINDOW = 1000


def rss_mib(pids: Iterable[int]) -> float:
    """The largest of these processes."""
    shown = subprocess.run(
        ["ps", "-o", "rss=", "-p", ",".join(map(str, pids))], capture_output=True, text=True, check=True
    ).stdout
    return max(map(int, shown.split())) / 1024


def fill(producer: RawClient, broker: RunningBroker, persistent: str) -> float:
    """Send COUNT numbered messages; the most memory that parent or store had meanwhile, in MiB."""
    most = 0.0
    for first in range(0, COUNT, WINDOW):
        producer.send_raw(
            b"".join(
                b"SEND\ndestination:/queue/deep\npersistent:%b\ncontent-length:1024\n\n%08d%b\0"
                % (persistent.encode(), number, BODY)
                for number in range(first, first + WINDOW)
            )
        )
        producer.sync()
        if first % (10 * WINDOW) == 0:
            most = max(most, rss_mib([broker.pid, broker.store_pid]))
    return most


def drain(consumer: RawClient, broker: RunningBroker) -> tuple[list[int], float]:
    """Take them all, acknowledging in blocks; their numbers, and the memory as above."""
    consumer.send("SUBSCRIBE", destination="/queue/deep", id=0, ack="client", prefetch_count=2 * WINDOW)
    numbers: list[int] = []
    most = 0.0
    while len(numbers) < COUNT:
        frame = consumer.expect("MESSAGE")
        numbers.append(int(frame.body[:8]))
        if len(numbers) % WINDOW == 0:
            consumer.send("ACK", id=frame["ack"])
            if len(numbers) % (10 * WINDOW) == 0:
                most = max(most, rss_mib([broker.pid, broker.store_pid]))
    consumer.sync()
    return numbers, most


@pytest.mark.parametrize("persistent", ["true", "false"])
def test_a_deep_queue_is_not_in_memory_and_comes_out_in_order(make_broker, join, persistent) -> None:
    """100,000 messages of 1 KiB with 8 MiB of memory; memory of parent and store is looked at all the while."""
    broker = make_broker("--queue-memory", MEMORY)
    with join(broker) as producer:
        filling = fill(producer, broker, persistent)
    numbers, draining = drain(join(broker), broker)

    assert numbers == list(range(COUNT))
    print(f"{filling:.0f} MiB while filling, {draining:.0f} MiB while draining")
    assert filling < BOUND_MIB
    assert draining < BOUND_MIB


@pytest.mark.parametrize("persistent", ["true", "false"])
def test_the_order_holds_while_a_deep_queue_is_filled_and_emptied_at_once(make_broker, join, persistent) -> None:
    """With rejected messages that go back to a place before what is in the store alone, and priorities."""
    broker = make_broker("--queue-memory", "1 MiB", "--max-deliveries", "0")
    producer, consumer = join(broker), join(broker)
    body = "x" * 2000
    sent = 0
    for _ in range(1000):
        producer.send("SEND", body=f"{sent} {body}".encode(), destination="/queue/a", persistent=persistent)
        sent += 1
    producer.sync()
    consumer.subscribe("/queue/a", ack="client-individual", prefetch_count=20)
    done: list[int] = []
    rejected: set[int] = set()
    while len(done) < 3000:
        frame = consumer.expect("MESSAGE")
        number = int(frame.body.split()[0])
        if number % 50 == 0 and number not in rejected:
            rejected.add(number)
            consumer.send("NACK", id=frame["ack"])
            continue
        done.append(number)
        consumer.send("ACK", id=frame["ack"])
        if sent < 3000:
            for _ in range(min(3, 3000 - sent)):
                producer.send("SEND", body=f"{sent} {body}".encode(), destination="/queue/a", persistent=persistent)
                sent += 1
    producer.sync()

    assert sorted(done) == list(range(3000))
    plain = [number for number in done if number % 50]
    assert plain == sorted(plain)
    consumer.expect_nothing()


@pytest.mark.row("J02")
def test_a_higher_priority_overtakes_what_is_in_the_store_alone(make_broker, join) -> None:
    """Wherever the messages are, for a consumer that takes one after the other."""
    client = join(make_broker("--queue-memory", "1 MiB"))
    for place in range(200):
        client.send("SEND", body=b"%d %b" % (place, bytes(20_000)), destination="/queue/a", priority=place % 3)
    client.sync()
    client.subscribe("/queue/a", ack="client-individual", prefetch_count=1)
    numbers = []
    for _ in range(200):
        frame = client.expect("MESSAGE")
        numbers.append(int(frame.body.partition(b" ")[0]))
        client.ack(frame)

    assert [place for rest in (2, 1, 0) for place in range(200) if place % 3 == rest] == numbers


def test_what_is_spilled_outlives_the_store_but_not_the_broker(tmp_path, join) -> None:
    """Messages that are not persistent, in the store only because there are so many."""
    with RunningBroker("--queue-memory", "1 MiB", store_directory=tmp_path) as broker:
        client = join(broker)
        for place in range(300):
            client.send("SEND", body=b"%d %b" % (place, bytes(20_000)), destination="/queue/a")
        client.sync()
        store = broker.wait_for_store()
        subprocess.run(["kill", "-KILL", str(store)], check=True)
        broker.wait_for_store(other_than=store)
        client.subscribe("/queue/a", ack="client-individual", prefetch_count=10)
        for place in range(100):
            frame = client.expect("MESSAGE")
            assert frame.body.startswith(b"%d " % place)
            client.send("ACK", id=frame["ack"])
        client.sync()
        client.close()
    with RunningBroker("--queue-memory", "1 MiB", store_directory=tmp_path) as broker:
        client = join(broker)
        client.subscribe("/queue/a")
        client.expect_nothing()
