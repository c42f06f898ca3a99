"""Requests and replies over temporary destinations, as RabbitMQ's and as ActiveMQ's clients do it."""

from __future__ import annotations

import pytest


def serve(worker, answer: str) -> str:
    """Answer the next request; where to."""
    request = worker.expect("MESSAGE")
    worker.publish(request["reply-to"], answer, correlation_id=request.get("correlation-id"))
    return request["reply-to"]


def test_naming_a_temporary_queue_in_reply_to_is_enough(broker, join) -> None:
    """RabbitMQ's custom: the answer comes with the queue's name as its subscription."""
    asker, worker = join(broker), join(broker)
    worker.subscribe("/queue/work", 1)
    for number in range(3):
        asker.publish("/queue/work", "question", reply_to="/temp-queue/answers", correlation_id=number)
        serve(worker, f"answer {number}")

        asker.expect("MESSAGE", f"answer {number}", subscription="/temp-queue/answers", correlation_id=number)
    asker.expect_nothing()


@pytest.mark.parametrize("kind", ["queue", "topic"])
def test_a_temporary_destination_that_was_subscribed_to_gets_the_answers(broker, join, kind) -> None:
    """ActiveMQ's custom: the subscription has the id that its client gave it."""
    asker, worker = join(broker), join(broker)
    worker.subscribe("/queue/work", 1)
    asker.subscribe(f"/temp-{kind}/answers", "mine", ack="client")
    asker.publish("/queue/work", "question", reply_to=f"/temp-{kind}/answers")
    where = serve(worker, "answer")

    asker.ack(asker.expect("MESSAGE", "answer", subscription="mine"))
    assert where.startswith(f"/reply-{kind}/")
    asker.expect_nothing()


def test_two_clients_with_the_same_name_have_two_queues(broker, join) -> None:
    """Each gets its own answers."""
    first, second, worker = (join(broker) for _ in range(3))
    worker.subscribe("/queue/work", 1)
    for asker, answer in ((first, "one"), (second, "two")):
        asker.publish("/queue/work", "question", reply_to="/temp-queue/answers")
        serve(worker, answer)

    first.expect_messages("one")
    second.expect_messages("two")
    for asker in (first, second):
        asker.expect_nothing()


def test_a_client_sends_to_its_own_temporary_queue(broker, join) -> None:
    """Under the name that it knows."""
    client = join(broker)
    client.subscribe("/temp-queue/own", 1)
    client.publish("/temp-queue/own", "note to myself")

    client.expect_messages("note to myself")


def test_a_temporary_queue_is_gone_with_its_owner(broker, join) -> None:
    """What is sent to it then goes nowhere, and costs the worker nothing; the next client finds an empty one."""
    asker, worker = join(broker), join(broker)
    worker.subscribe("/queue/work", 1)
    asker.publish("/queue/work", "question", reply_to="/temp-queue/answers")
    asker.close()
    broker.wait_for_children(1)
    where = serve(worker, "too late")
    worker.sync()
    heir = join(broker)
    heir.subscribe("/temp-queue/answers", 1)

    heir.expect_nothing()
    heir.send("SUBSCRIBE", destination=where, id="2")
    heir.expect_error("another client's")


def test_nobody_else_may_listen_to_the_answers(broker, join) -> None:
    """The name in reply-to is for sending."""
    asker, worker = join(broker), join(broker)
    worker.subscribe("/queue/work", 1)
    asker.publish("/queue/work", "question", reply_to="/temp-queue/answers")
    where = worker.expect("MESSAGE")["reply-to"]
    worker.send("SUBSCRIBE", destination=where, id="2", receipt="r")

    assert worker.expect_error("another client's")["receipt-id"] == "r"
