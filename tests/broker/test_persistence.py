"""What outlives the broker, as clients see it: ended in good order, or killed."""

from __future__ import annotations

import json
import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from support.deadline import stretched, wait_until
from support.rawclient import RawClient, connect

from forkbroker.testing.broker import RunningBroker

ENDS = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
"""How the first broker ends."""

Lives = Callable[..., RunningBroker]


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Lives]:
    """A broker on the test's store: `live()`, and after its end the next one, with other options if need be."""
    with ExitStack() as stack:

        def run(*options: str) -> RunningBroker:
            return stack.enter_context(RunningBroker(*options, store_directory=tmp_path / "store"))

        yield run


@pytest.fixture
def meet() -> Iterator[Callable[..., RawClient]]:
    """Connect clients, which leave with the test."""
    with ExitStack() as stack:

        def run(broker: RunningBroker, **headers: str) -> RawClient:
            return stack.enter_context(connect(broker.port, headers=headers))

        yield run


def end(broker: RunningBroker, number: int, *clients: RawClient) -> None:
    """Send this signal to the parent, and wait for the end of all processes; these clients leave when they see it."""
    if broker.is_running:
        broker.kill(number)
    for client in clients:
        client.drain()
        client.close()
    assert broker.wait() == (-number if number == signal.SIGKILL else 0)
    broker.stop()


def test_jobs_that_came_one_by_one_are_the_same_after_a_kill(live, meet) -> None:
    """Messages that were put together for an offer are in the store as they came; so are dead letters."""
    first = live()
    producers = [meet(first), meet(first)]
    for number in range(12):
        producers[number % 3 % 2].publish("/queue/a", f"m{number}", persistent="true", job=str(number))
    worker = meet(first)
    worker.subscribe("/queue/a", ack="client-individual", prefetch_count=10)
    seen = worker.expect_messages(*[f"m{number}" for number in range(10)])
    worker.ack(seen[0])
    for message in seen[1:4]:
        worker.nack(message, requeue="false")
    end(first, signal.SIGKILL, *producers, worker)

    second = meet(live())
    second.subscribe("/queue/a", ack="client-individual")
    again = second.expect_messages(*[f"m{number}" for number in range(4, 12)])
    second.subscribe("/queue/DLQ", 1)
    letters = second.expect_messages("m1", "m2", "m3")

    assert [message["message-id"] for message in [*letters, *again[:6]]] == [
        message["message-id"] for message in seen[1:]
    ]
    assert [message["job"] for message in [*letters, *again]] == [str(number) for number in range(1, 12)]
    assert len({message["message-id"] for message in again}) == 8


@pytest.mark.parametrize("mode", ["client-individual", "client", "transaction"])
def test_what_is_settled_while_the_broker_ends_does_not_come_again(live, meet, mode) -> None:
    """ACKs that come up to a second after SIGTERM count; with the last one the broker ends, long before its time."""
    first = live("--shutdown-timeout", "40 s")
    producer, idle, worker = meet(first), meet(first), meet(first)
    idle.subscribe("/queue/b", ack="client-individual")
    for place in range(4):
        producer.publish("/queue/a", f"m{place}", persistent="true")
    worker.subscribe("/queue/a", ack="client" if mode == "client" else "client-individual")
    messages = worker.expect_messages("m0", "m1", "m2", "m3")
    first.kill(signal.SIGTERM)
    began = time.monotonic()
    first.wait_for_log("shutdown: started, 3 clients")
    for pause_s, message in zip((0.02, 0.1, 0.3, 0.6), messages, strict=True):
        select.select([], [], [], pause_s)
        if mode == "transaction":
            worker.send("BEGIN", transaction=message["ack"])
            worker.send("ACK", id=message["ack"], transaction=message["ack"])
            worker.send("COMMIT", transaction=message["ack"], receipt=message.body.decode())
        else:
            worker.send("ACK", id=message["ack"], receipt=message.body.decode())
        worker.expect("RECEIPT", receipt_id=message.body.decode())
    worker.expect_error("shut")
    assert time.monotonic() - began < stretched(10)
    end(first, 0, producer, idle, worker)
    second = live()
    again = meet(second)
    again.subscribe("/queue/a")

    again.expect_nothing()


@pytest.mark.parametrize("settled", [0, 1])
def test_what_nobody_settles_keeps_the_broker_for_half_of_its_time(live, meet, settled) -> None:
    """Then it ends as ever, and what was not settled comes again; nothing new was delivered meanwhile."""
    first = live("--shutdown-timeout", "3 s")
    producer, worker = meet(first), meet(first)
    for place in range(3):
        producer.publish("/queue/a", f"m{place}", persistent="true")
    worker.subscribe("/queue/a", ack="client-individual", prefetch_count=2)
    messages = worker.expect_messages("m0", "m1")
    first.kill(signal.SIGTERM)
    first.wait_for_log("shutdown: started")
    began = time.monotonic()
    for message in messages[:settled]:
        worker.send("ACK", id=message["ack"])
    worker.expect_error("shut")
    took_s = time.monotonic() - began
    end(first, 0, producer, worker)
    again = meet(live())
    again.subscribe("/queue/a")

    again.expect_messages(*["m0", "m1", "m2"][settled:])
    assert 1.0 < took_s < stretched(3)


@ENDS
@pytest.mark.row("J01", "R02", "J10")
def test_persistent_messages_outlive_the_broker_and_others_do_not(live, meet, number) -> None:
    """In their order; marked if the broker was killed, as nobody knows who has seen them."""
    broker = live()
    producer = meet(broker)
    for place in range(20):
        producer.publish("/queue/a", f"m{place}", persistent="true" if place % 2 else "false", colour="red")
    end(broker, number, producer)
    consumer = meet(live())
    consumer.subscribe("/queue/a", ack="client-individual", prefetch_count=100)

    frames = consumer.expect_messages(*(f"m{place}" for place in range(1, 20, 2)))
    consumer.expect_nothing()
    assert {frame.get("redelivered") for frame in frames} == {"" if number == signal.SIGTERM else "true"}
    assert {frame["colour"] for frame in frames} == {"red"}
    assert {frame["destination"] for frame in frames} == {"/queue/a"}
    assert len({frame["message-id"] for frame in frames}) == len(frames)


@ENDS
@pytest.mark.row("J01", "R02")
def test_what_was_acknowledged_with_a_receipt_does_not_come_back(live, meet, number) -> None:
    """What was not, and what was rejected, comes back and says so."""
    broker = live()
    client = meet(broker)
    for place in range(4):
        client.publish("/queue/a", f"m{place}", persistent="true")
    client.subscribe("/queue/a", ack="client-individual", prefetch_count=4)
    frames = client.expect_messages("m0", "m1", "m2", "m3")
    client.ack(frames[0])
    client.ack(frames[2])
    end(broker, number, client)
    consumer = meet(live())
    consumer.subscribe("/queue/a", ack="client-individual", prefetch_count=100)

    frames = consumer.expect_messages("m1", "m3")
    consumer.expect_nothing()
    assert {frame["redelivered"] for frame in frames} == {"true"}
    if number == signal.SIGTERM:
        assert {frame["delivery-count"] for frame in frames} == {"2"}


@ENDS
@pytest.mark.row("T04", "T05")
def test_transactions_outlive_the_broker_as_a_whole_or_not_at_all(live, meet, number) -> None:
    """What was committed with a receipt, messages and acknowledgements; nothing of what was open."""
    broker = live()
    client = meet(broker)
    client.publish("/queue/a", "done", persistent="true")
    client.publish("/queue/a", "open", persistent="true")
    client.subscribe("/queue/a", ack="client-individual", prefetch_count=2)
    done, still_open = client.expect_messages("done", "open")
    for name, frame in (("t", done), ("u", still_open)):
        client.send("BEGIN", transaction=name)
        client.send("ACK", id=frame["ack"], transaction=name)
        for place in range(3):
            client.request(
                "SEND",
                body=b"%b%d" % (name.encode(), place),
                destination="/queue/b",
                persistent="true",
                transaction=name,
            )
    client.request("COMMIT", transaction="t")
    end(broker, number, client)
    consumer = meet(live())
    consumer.subscribe("/queue/a", "a")
    consumer.expect_messages("open")
    consumer.subscribe("/queue/b", "b")
    consumer.expect_messages("t0", "t1", "t2")
    consumer.expect_nothing()


@ENDS
@pytest.mark.row("J02")
def test_priorities_outlive_the_broker(live, meet, number) -> None:
    """The highest first, those of one priority in their order."""
    broker = live()
    producer = meet(broker)
    for place, priority in enumerate((4, 0, 9, 4, 9, 0)):
        producer.publish("/queue/a", f"{priority}-{place}", persistent="true", priority=priority)
    end(broker, number, producer)
    consumer = meet(live())
    consumer.subscribe("/queue/a")

    consumer.expect_messages("9-2", "9-4", "4-0", "4-3", "0-1", "0-5")


@ENDS
@pytest.mark.row("J05", "J03")
def test_delays_and_expiry_outlive_the_broker(live, meet, number) -> None:
    """What is due comes when it is due, also when that was meanwhile; what has expired is gone."""
    broker = live()
    producer = meet(broker)
    producer.publish("/queue/a", "expired", persistent="true", ttl=1)
    producer.publish("/queue/a", "later", persistent="true", x_delay=600)
    producer.publish("/queue/a", "sooner", persistent="true", x_delay=1)
    producer.publish("/queue/a", "much later", persistent="true", x_delay=600_000)
    end(broker, number, producer)
    consumer = meet(live())
    consumer.subscribe("/queue/a")

    consumer.expect_messages("sooner", "later")
    consumer.expect_nothing()


@ENDS
@pytest.mark.row("J05", "J10")
def test_a_delayed_message_that_was_not_due_is_not_marked_in_the_next_life(live, meet, number) -> None:
    """However the broker ended: nobody can have seen it. One that had come may have been delivered."""
    broker = live()
    client = meet(broker)
    client.publish("/queue/a", "came", persistent="true", deliver_after="0")
    client.publish("/queue/a", "later", persistent="true", x_delay=int(stretched(3) * 1000))
    end(broker, number, client)
    client = meet(live())
    client.subscribe("/queue/a", ack="client-individual", prefetch_count=10)

    came, later = client.expect_messages("came", "later")
    assert came.get("redelivered") == ("" if number == signal.SIGTERM else "true")
    assert later.get("redelivered") == ""


@ENDS
@pytest.mark.row("J06")
def test_repetitions_go_on_in_the_next_life_with_ids_of_their_own(live, meet, number) -> None:
    """Whoever remembers the message-ids that it has seen takes none of them for an old one."""
    broker = live()
    client = meet(broker)
    again = {"AMQ_SCHEDULED_DELAY": "1", "AMQ_SCHEDULED_PERIOD": "100", "AMQ_SCHEDULED_REPEAT": "-1"}
    client.request("SEND", again, b"tick", destination="/queue/a", persistent="true")
    seen = set()
    for _ in range(2):
        client.subscribe("/queue/a", ack="client-individual")
        for _ in range(4):
            frame = client.expect("MESSAGE", "tick")
            assert frame["message-id"] not in seen
            seen.add(frame["message-id"])
            client.ack(frame)
        end(broker, number, client)
        broker = live()
        client = meet(broker)


@ENDS
@pytest.mark.row("J08")
def test_a_dedup_id_is_remembered_over_the_end_of_the_broker(live, meet, number) -> None:
    """So that who has no receipt may send again, to whichever broker it is."""
    broker = live()
    producer = meet(broker)
    producer.publish("/queue/a", "first", persistent="true", dedup_id="x")
    end(broker, number, producer)
    client = meet(live())
    client.publish("/queue/a", "second", persistent="true", dedup_id="x")
    client.publish("/queue/a", "third", persistent="true", dedup_id="y")
    client.subscribe("/queue/a")

    client.expect_messages("first", "third")
    client.expect_nothing()


@pytest.mark.row("J08")
def test_a_message_that_was_done_at_once_is_not_sent_again_in_the_next_life(live, meet) -> None:
    """Its id was written, although the message never had to be."""
    broker = live()
    client = meet(broker)
    client.subscribe("/queue/a", ack="client-individual")
    client.send("SEND", body=b"first", destination="/queue/a", persistent="true", dedup_id="x", receipt="r")
    client.ack(next(frame for frame in (client.receive(), client.receive()) if frame.command == "MESSAGE"))
    end(broker, signal.SIGKILL)
    again = meet(live())
    again.publish("/queue/a", "second", persistent="true", dedup_id="x")
    again.subscribe("/queue/a")

    again.expect_nothing()


@ENDS
@pytest.mark.row("J09")
def test_dead_letters_outlive_the_broker_with_their_reason(live, meet, number) -> None:
    """And their origin."""
    broker = live()
    client = meet(broker)
    client.publish("/queue/a", "bad", persistent="true")
    client.subscribe("/queue/a", ack="client-individual")
    client.nack(client.expect("MESSAGE", "bad"), requeue="false")
    end(broker, number, client)
    grave = meet(live())
    grave.subscribe("/queue/DLQ")

    grave.expect("MESSAGE", "bad", original_destination="/queue/a", dead_letter_reason="rejected")


def test_all_messages_to_queues_are_persistent_if_the_administrator_says_so(live, meet) -> None:
    """With --persistent queues, or a policy for some; also what was sent with persistent:false."""
    broker = live("--persistent", "queues")
    meet(broker).publish("/queue/a", "one", persistent="false")
    end(broker, signal.SIGKILL)
    broker = live("--policy", "/queue/b persistent=true")
    client = meet(broker)
    client.publish("/queue/a", "two")
    client.publish("/queue/b", "three")
    end(broker, signal.SIGKILL)
    consumer = meet(live())
    consumer.subscribe("/queue/a", "a")
    consumer.expect_messages("one")
    consumer.subscribe("/queue/b", "b")
    consumer.expect_messages("three")
    consumer.expect_nothing()


def test_the_store_in_memory_forgets(live, meet) -> None:
    """For those who want no disk: `--store memory:`."""
    broker = live("--store", "memory:")
    producer = meet(broker)
    producer.publish("/queue/a", "one", persistent="true")
    end(broker, signal.SIGTERM, producer)
    consumer = meet(live("--store", "memory:"))
    consumer.subscribe("/queue/a")

    consumer.expect_nothing()


def test_topics_and_temporary_queues_are_not_kept(live, meet) -> None:
    """Whatever the message says: there is nobody to keep it for."""
    broker = live()
    client = meet(broker)
    client.publish("/topic/a", "one", persistent="true")
    client.subscribe("/temp-queue/mine", "mine", ack="client-individual")
    client.publish("/temp-queue/mine", "two", persistent="true")
    end(broker, signal.SIGKILL)
    broker = live()
    consumer = meet(broker)
    consumer.subscribe("/topic/a", "a")
    consumer.subscribe("/temp-queue/mine", "mine")

    consumer.expect_nothing()
    assert re_opened(broker) == 0


def test_a_second_broker_is_refused_with_the_number_of_the_first(live, meet) -> None:
    """And leaves the store alone."""
    first = live()
    with pytest.raises(Exception, match=f"process {first.pid} "):
        live()
    client = meet(first)
    client.publish("/queue/a", "one", persistent="true")
    client.subscribe("/queue/a")

    client.expect_messages("one")


@pytest.mark.row("J01")
def test_stompy_sends_and_finds_again_after_a_restart(live) -> None:
    """The most used client, with what it calls transactions."""
    stomp = pytest.importorskip("stomp")
    broker = live()
    connection = stomp.Connection12([(broker.host, broker.port)])
    connection.connect(wait=True)
    transaction = connection.begin()
    for place in range(3):
        connection.send("/queue/a", f"m{place}", persistent="true", transaction=transaction)
    waiting = stomp.listener.WaitingListener("committed")
    connection.set_listener("waiting", waiting)
    connection.commit(transaction, receipt="committed")
    waiting.wait_on_receipt()
    connection.disconnect()
    end(broker, signal.SIGKILL)
    with connect(live().port) as consumer:
        consumer.subscribe("/queue/a")
        consumer.expect_messages("m0", "m1", "m2")


def re_opened(broker: RunningBroker) -> int:
    """How many messages the broker has found in its store."""
    return int(broker.wait_for_log(r"open, ([\d,]+) message")[1].replace(",", ""))


def test_delayed_messages_that_are_overdue_at_the_start_cost_no_other_message(live, meet) -> None:
    """Fifty messages in one queue, three thousand for another one that became due while no broker ran."""
    broker = live()
    producer = meet(broker)
    for place in range(50):
        producer.publish("/queue/keep", f"k{place}", persistent="true")
    due_ms = int(time.time() * 1000 + stretched(4) * 1000)
    headers = {"destination": "/queue/late", "persistent": "true", "deliver-at": str(due_ms)}
    producer.send_raw(b"".join(producer.encode("SEND", headers, b"x" * 1024) for _ in range(3000)))
    producer.sync()
    end(broker, signal.SIGTERM, producer)
    wait_until(lambda: time.time() * 1000 > due_ms, "the time of delivery")
    consumer = meet(live())
    consumer.subscribe("/queue/keep", ack="auto", prefetch_count=100)
    consumer.expect_messages(*(f"k{place}" for place in range(50)))
    consumer.subscribe("/queue/late", id=1, ack="auto", prefetch_count=100)

    for _ in range(3000):
        consumer.expect("MESSAGE", b"x" * 1024)
    consumer.expect_nothing()


@ENDS
def test_the_reason_of_a_nack_stays_with_the_dead_letter_and_is_logged(live, meet, number) -> None:
    """The line has the client, its user, the message-id, the queue and the reason, and is one line."""
    reason = "disk full\nclient 1 root: all is well"
    first = live()
    client = meet(first, login="alice")
    client.subscribe("/queue/a", ack="client-individual")
    client.publish("/queue/a", "refused", persistent="true")
    frame = client.expect("MESSAGE", "refused")
    client.nack(frame, requeue="false", reason=reason)
    client.sync()
    first.wait_for_log(
        rf"client \d+ {client.address} alice: message {frame['message-id']} of /queue/a rejected, moved to /queue/DLQ, "
        r"reason: disk full\\x0aclient 1 root: all is well\n"
    )
    end(first, number, client)
    grave = meet(live())
    grave.subscribe("/queue/DLQ")

    grave.expect("MESSAGE", "refused", dead_letter_reason="rejected", reject_reason=reason)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, 0], ids=["SIGTERM", "SIGKILL", "store"])
def test_a_queue_that_is_held_stays_so(live, meet, number) -> None:
    """Whatever ends, until it is released; one whose time is over meanwhile is released at the start."""
    first = live()
    admin = meet(first)
    for name in ("held", "timed"):
        admin.publish(f"/queue/{name}", name, persistent="true")
    ask(admin, "hold", queue="/queue/held")
    assert ask(admin, "hold", queue="/queue/timed", **{"for": 1}) == {
        "queue": "/queue/timed", "changed": True, "waiting": 1, "stored": True,
    }  # fmt: skip
    ask(admin, "hold", queue="/queue/empty", **{"for": 1000})
    if number:
        end(first, number, admin)
        admin = meet(first := live())
    else:
        store = first.store_pid
        os.kill(store, signal.SIGKILL)
        first.wait_for_store(other_than=store)
    reader = meet(first)
    for name in ("held", "timed"):
        reader.subscribe(f"/queue/{name}", name)
    reader.expect("MESSAGE", "timed")
    reader.expect_nothing()
    rows = {row["name"]: row for row in ask(admin, "queues", rows=True)}
    assert (rows["/queue/held"]["held"], rows["/queue/held"]["held-for"]) == (True, None)
    assert 0 < rows["/queue/empty"]["held-for"] <= 1000
    assert "/queue/timed" not in rows or not rows["/queue/timed"]["held"]
    ask(admin, "release", queue="/queue/held")
    reader.expect("MESSAGE", "held")


def ask(client: RawClient, verb: str, *, rows: bool = False, **args: object) -> Any:
    """A request to the broker itself, and its answer."""
    client.send("SEND", destination=f"/control/{verb}", reply_to="/temp-queue/answers", body=json.dumps(args).encode())
    answer = json.loads(client.expect("MESSAGE").body)
    assert answer["ok"], answer
    return answer["rows" if rows else "result"]
