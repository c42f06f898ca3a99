"""What jobs need, between real clients: when messages come, how often, in which order, and where they end."""

from __future__ import annotations

import os
import signal
import time
from itertools import pairwise

import pytest
from support.deadline import wait_until
from support.rawclient import RawClient

from forkbroker.testing.broker import RunningBroker

DELAY_MS = 200
DELAYS = [
    {"AMQ_SCHEDULED_DELAY": "200"},
    {"x-delay": "200"},
    {"AMQ_SCHEDULED_TIME": "+200"},
    {"deliver-at": "+200"},
    {"deliver-at": "+100", "x-delay": "100"},
]
"""What delays by DELAY_MS; a plus stands for now."""
SPANS = ["expiration", "ttl"]


def now_ms() -> int:
    """Of the day, in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def pass_time(milliseconds: int) -> None:
    """Until the clock by which messages expire has gone so far."""
    end = now_ms() + milliseconds
    wait_until(lambda: now_ms() > end, f"{milliseconds} ms")


def kill_child_of(broker: RunningBroker, client: RawClient, number: int) -> None:
    """Let the process of this client die by a signal, and wait until the broker knows."""
    name = f"client {client.address} "
    pid = wait_until(lambda: [pid for pid, title in broker.children() if name in f"{title} "], f"a process {name}")[0]
    os.kill(pid, number)
    client.expect_eof()
    wait_until(lambda: pid not in dict(broker.children()), f"the end of process {pid}")


# -- order


@pytest.mark.row("J02")
@pytest.mark.parametrize("persistent", ["true", "false"])
def test_the_highest_priority_comes_first(shared_broker, join_shared, persistent) -> None:
    """Of what waits; without the header it is 4, above 9 it is 9, and what comes later overtakes."""
    queue, client = f"/queue/priority-{persistent}", join_shared()
    for place, priority in enumerate(("1", "9", "", "0", "255", "4", "1")):
        headers = {"priority": priority} if priority else {}
        client.request("SEND", headers, b"%d" % place, destination=queue, persistent=persistent)
    client.subscribe(queue, ack="client-individual", prefetch_count=1)
    client.ack(client.expect("MESSAGE", "1"))
    client.ack(client.expect("MESSAGE", "4"))
    client.expect("MESSAGE", "2")
    client.publish(queue, "late", priority=9)
    client.request("UNSUBSCRIBE", id=0)
    client.subscribe(queue, 1)

    client.expect_messages("late", "2", "5", "0", "6", "3")


# -- expiry


@pytest.mark.row("J03", "J04")
@pytest.mark.parametrize("header", [*SPANS, "expires"])
def test_what_has_expired_is_not_delivered(shared_broker, join_shared, header) -> None:
    """It is gone at its time; what has not expired says when it does."""
    queue, client = f"/queue/{header}", join_shared()
    began, base = now_ms(), now_ms() if header == "expires" else 0
    client.request("SEND", {header: str(base + 100)}, b"short", destination=queue)
    client.request("SEND", {header: str(base + 60_000)}, b"long", destination=queue, persistent="true")
    client.request("SEND", {header: "0"}, b"for ever", destination=queue)
    pass_time(150)
    client.subscribe(queue)

    long, for_ever = client.expect_messages("long", "for ever")
    assert began + 60_000 <= int(long["expires"]) <= now_ms() + 60_000
    assert for_ever.get("expires", "0") == "0"
    client.expect_nothing()


@pytest.mark.row("J03")
def test_of_a_moment_and_a_span_the_earlier_one_counts(shared_broker, join_shared) -> None:
    """As a sender who wants all brokers to understand gives both."""
    client = join_shared()
    client.publish("/queue/both", "one", expires=now_ms() + 60_000, ttl=1)
    client.publish("/queue/both", "two", expires=now_ms() - 1_000, ttl=60_000)
    client.publish("/queue/both", "three", expires=now_ms() + 60_000, ttl=60_000)
    pass_time(100)  # more than the clocks of two processes can differ
    client.subscribe("/queue/both")

    client.expect_messages("three")
    client.expect_nothing()


def test_what_a_consumer_holds_does_not_expire_under_its_hands(shared_broker, join_shared) -> None:
    """But when it is given back after its time."""
    client = join_shared()
    client.subscribe("/queue/held", ack="client-individual")
    client.publish("/queue/held", "kept", ttl=500)
    client.publish("/queue/held", "returned", ttl=500)
    kept, returned = client.expect_messages("kept", "returned")
    pass_time(600)
    client.ack(kept)
    client.nack(returned)

    client.expect_nothing(0.2)


# -- delay


@pytest.mark.row("J05")
@pytest.mark.parametrize("headers", DELAYS, ids=[" ".join(headers) for headers in DELAYS])
@pytest.mark.parametrize("persistent", ["true", "false"])
def test_a_delayed_message_comes_when_it_is_due(shared_broker, join_shared, request, headers, persistent) -> None:
    """And not before; its receipt does not wait for that, and others overtake it."""
    queue, client = f"/queue/{request.node.name.encode().hex()}", join_shared()
    client.subscribe(queue)
    began = now_ms()
    given = {name: str(began + int(value)) if value[0] == "+" else value for name, value in headers.items()}
    client.request("SEND", given, b"late", destination=queue, persistent=persistent)
    client.publish(queue, "at once")
    client.expect_messages("at once", "late")

    assert now_ms() - began >= DELAY_MS - 1


@pytest.mark.row("J05")
def test_many_delayed_messages_come_in_the_order_of_their_times(shared_broker, join_shared) -> None:
    """Those of one time in the order of sending."""
    client = join_shared()
    due = now_ms() + 150
    for place in range(30):
        client.send("SEND", body=b"%d" % place, destination="/queue/many", deliver_at=due + 20 * (place % 3))
    client.sync()
    client.subscribe("/queue/many")

    bodies = [client.expect("MESSAGE").body.decode() for _ in range(30)]
    assert [str(place) for rest in range(3) for place in range(30) if place % 3 == rest] == bodies


@pytest.mark.row("J05")
def test_a_delay_to_a_topic_is_an_error(shared_broker, join_shared) -> None:
    """Who would get it?"""
    client = join_shared()
    client.send("SEND", body=b"late", destination="/topic/a", x_delay=100)

    client.expect_error("queue")


@pytest.mark.row("J06")
def test_a_message_with_repetitions_comes_so_often_and_no_more(shared_broker, join_shared) -> None:
    """A period apart, each with an id of its own."""
    client = join_shared()
    client.subscribe("/queue/again")
    began = now_ms()
    client.request(
        "SEND",
        {"AMQ_SCHEDULED_DELAY": "50", "AMQ_SCHEDULED_PERIOD": "100", "AMQ_SCHEDULED_REPEAT": "2"},
        b"tick",
        destination="/queue/again",
        persistent="true",
    )
    frames = client.expect_messages("tick", "tick", "tick")
    took = now_ms() - began
    client.expect_nothing(0.25)

    assert 249 <= took < 2500
    assert len({frame["message-id"] for frame in frames}) == 3


@pytest.mark.row("J07")
def test_a_cron_line_that_is_none_is_an_error(shared_broker, join_shared) -> None:
    """With what is wrong with it."""
    client = join_shared()
    client.send("SEND", {"AMQ_SCHEDULED_CRON": "61 * * * *"}, b"tick", destination="/queue/cron")

    client.expect_error("AMQ_SCHEDULED_CRON")


# -- failure


@pytest.mark.row("J09")
def test_a_dead_letter_says_where_and_why_it_failed(make_broker, join) -> None:
    """After its last delivery, or at once when it is rejected; how often it was delivered as well."""
    broker = make_broker("--max-deliveries", "2")
    client, grave = join(broker), join(broker)
    grave.subscribe("/queue/DLQ", ack="client-individual")
    client.subscribe("/queue/a", ack="client-individual")
    for body, requeue, reason in (("tried", "true", "deliveries"), ("refused", "false", "rejected")):
        client.publish("/queue/a", body, colour="red")
        client.nack(client.expect("MESSAGE", body), requeue=requeue)
        if requeue == "true":
            client.nack(client.expect("MESSAGE", body))
        frame = grave.expect("MESSAGE", body, original_destination="/queue/a", dead_letter_reason=reason, colour="red")
        grave.ack(frame)
    client.expect_nothing()


def test_redelivery_waits_longer_each_time(make_broker, join) -> None:
    """The first time not at all, then --redelivery-delay, then twice as long; others are not held up."""
    broker = make_broker("--redelivery-delay", "150ms", "--max-deliveries", "0")
    client = join(broker)
    client.subscribe("/queue/a", ack="client-individual", prefetch_count=1)
    client.publish("/queue/a", "bad")
    moments = []
    for _ in range(4):
        frame = client.expect("MESSAGE", "bad")
        moments.append(time.monotonic())
        client.nack(frame)
    client.publish("/queue/a", "good")
    client.ack(client.expect("MESSAGE", "good"))

    waits = [after - before for before, after in pairwise(moments)]
    assert waits[0] < 0.14
    assert waits[1] >= 0.149
    assert waits[2] >= 0.299


@pytest.mark.parametrize("persistent", ["true", "false"])
def test_a_message_that_crashes_its_consumers_is_set_aside(make_broker, join, persistent) -> None:
    """After the third process that crashed with it; what else they held goes on, and the log names the cause."""
    broker = make_broker()
    producer, grave = join(broker), join(broker)
    grave.subscribe("/queue/DLQ")
    producer.publish("/queue/a", "poison", persistent=persistent)
    for count in ("", "2", "3"):
        victim = join(broker)
        victim.subscribe("/queue/a", ack="client-individual", prefetch_count=1)
        assert victim.expect("MESSAGE", "poison").get("delivery-count") == count
        kill_child_of(broker, victim, signal.SIGSEGV)
    producer.publish("/queue/a", "harmless", persistent=persistent)
    worker = join(broker)
    worker.subscribe("/queue/a")

    worker.expect_messages("harmless")
    grave.expect("MESSAGE", "poison", original_destination="/queue/a", dead_letter_reason="poison")
    broker.wait_for_log(r"queue /queue/a: message \S+ moved to /queue/DLQ, 3 child processes crashed .*SIGSEGV")


def test_a_lease_that_runs_out_gives_the_job_to_another(make_broker, join) -> None:
    """Although the first worker's connection lives. It gets no other job before its late ACK, which is no fault."""
    broker = make_broker("--policy", "/queue/a lease=700ms")
    slow, quick, producer = join(broker), join(broker), join(broker)
    slow.subscribe("/queue/a", ack="client-individual", prefetch_count=1)
    began = time.monotonic()
    producer.publish("/queue/a", "job")
    held = slow.expect("MESSAGE", "job")
    quick.subscribe("/queue/a", ack="client-individual", prefetch_count=1)
    again = quick.expect("MESSAGE", "job", redelivered="true", delivery_count="2")
    took = time.monotonic() - began
    quick.ack(again)
    for job in ("second", "third"):
        producer.publish("/queue/a", job)
        quick.ack(quick.expect("MESSAGE", job))
    quick.request("UNSUBSCRIBE", id=0)
    producer.publish("/queue/a", "last")
    slow.expect_nothing()
    slow.ack(held)

    slow.ack(slow.expect("MESSAGE", "last"))
    slow.sync()
    assert took >= 0.69


# -- sent again


@pytest.mark.row("J08")
@pytest.mark.parametrize("header", ["dedup-id", "uniqkey", "_AMQ_DUPL_ID", "MessageDeduplicationId"])
@pytest.mark.parametrize("persistent", ["true", "false"])
def test_what_is_sent_again_is_one_message(shared_broker, join_shared, header, persistent) -> None:
    """In the same queue; each has its receipt. By whom it was sent, or what became of it, does not matter."""
    queue, one, other = f"/queue/dedup-{header}-{persistent}", join_shared(), join_shared()
    one.request("SEND", {header: "x"}, b"first", destination=queue, persistent=persistent)
    other.request("SEND", {header: "x"}, b"again", destination=queue, persistent=persistent)
    other.request("SEND", {header: "x"}, b"elsewhere", destination=f"{queue}-2", persistent=persistent)
    one.subscribe(queue, 1, ack="client-individual")
    one.subscribe(f"{queue}-2", 2, ack="client-individual")
    one.ack(one.expect("MESSAGE", "first"))
    one.ack(one.expect("MESSAGE", "elsewhere"))
    other.request("SEND", {header: "x"}, b"after its end", destination=queue, persistent=persistent)

    one.expect_nothing()


@pytest.mark.row("J08")
def test_after_the_window_the_same_id_is_another_message(make_broker, join) -> None:
    """With --dedup-window."""
    client = join(make_broker("--dedup-window", "1s"))
    client.publish("/queue/a", "first", dedup_id="x")
    client.publish("/queue/a", "again", dedup_id="x")
    pass_time(1_200)
    client.publish("/queue/a", "another", dedup_id="x")
    client.subscribe("/queue/a")

    client.expect_messages("first", "another")
    client.expect_nothing()


def test_delayed_messages_have_a_limit(make_broker, join) -> None:
    """They are in memory: --max-delayed-bytes; what is due at once is not concerned."""
    client, other = (join(broker) for broker in [make_broker("--max-delayed-bytes", "10 KiB")] * 2)
    accepted = 0
    client.send("SEND", body=bytes(1000), destination="/queue/a", x_delay=60_000, receipt="r")
    while (frame := client.receive()).command == "RECEIPT":
        accepted += 1
        client.send("SEND", body=bytes(1000), destination="/queue/a", x_delay=60_000, receipt="r")
    assert "max-delayed-bytes" in frame.body.decode()
    assert 5 <= accepted <= 10
    other.publish("/queue/a", bytes(20_000))
    other.subscribe("/queue/a")

    other.expect("MESSAGE")
