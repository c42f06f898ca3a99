"""What one client holds unsettled: bounded in bytes, and of persistent messages not in the parent's memory."""

from __future__ import annotations

import subprocess

from support.rawclient import RawClient

from forkbroker.testing.broker import RunningBroker

COUNT = 3000
BODY = bytes(20_000)


def fill(producer: RawClient, persistent: str) -> None:
    for number in range(COUNT):
        producer.send("SEND", destination="/queue/a", persistent=persistent, body=b"%06d %b" % (number, BODY))
    producer.sync()


def take(consumer: RawClient, count: int) -> tuple[list[int], dict[str, str]]:
    """The numbers of so many messages, and the headers of the last one."""
    frames = [consumer.expect("MESSAGE") for _ in range(count)]
    return [int(frame.body[:6]) for frame in frames], dict(frames[-1].headers)


def memory_mib(broker: RunningBroker) -> float:
    shown = subprocess.run(["ps", "-o", "rss=", "-p", str(broker.pid)], capture_output=True, text=True, check=True)
    return int(shown.stdout) / 1024


def test_a_client_that_never_acknowledges_gets_so_many_bytes(make_broker, join) -> None:
    """Whatever its prefetch count; the next ones come when it has acknowledged some."""
    broker = make_broker("--max-unsettled", "1 MiB")
    producer, consumer = join(broker), join(broker)
    for number in range(100):
        producer.send("SEND", destination="/queue/a", body=b"%06d %b" % (number, BODY))
    producer.sync()
    consumer.subscribe("/queue/a", ack="client", prefetch_count=1_000_000)

    numbers, headers = take(consumer, 25)
    consumer.expect_nothing()
    assert numbers == list(range(25))
    consumer.send("ACK", id=headers["ack"])
    assert take(consumer, 25)[0] == list(range(25, 50))


def test_persistent_messages_that_are_unsettled_are_in_the_store_alone(make_broker, join) -> None:
    """60 MB of them are no memory of the parent; a store that is killed meanwhile gives them again in their order."""
    broker = make_broker("--queue-memory", "1 MiB", "--max-unsettled", "1 GiB")
    producer, holder, other = join(broker), join(broker), join(broker)
    fill(producer, "true")
    holder.subscribe("/queue/a", ack="client", prefetch_count=1_000_000)
    assert take(holder, COUNT)[0] == list(range(COUNT))
    assert memory_mib(broker) < 60
    store = broker.wait_for_store()
    subprocess.run(["kill", "-KILL", str(store)], check=True)
    holder.close()
    other.subscribe("/queue/a", ack="client", prefetch_count=1_000_000)

    numbers, headers = take(other, COUNT)
    assert numbers == list(range(COUNT))
    assert (headers["redelivered"], headers["delivery-count"]) == ("true", "2")
    other.send("ACK", id=headers["ack"])
    other.sync()
    other.expect_nothing()
