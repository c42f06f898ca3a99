"""A queue at its limit: its producers are held back or refused, and nobody else."""

from __future__ import annotations

FULL = ("--max-queue-bytes", "200 KiB")
BODY = b"x" * 2000


def test_producers_of_a_full_queue_are_held_until_there_is_room(make_broker, join) -> None:
    """Nothing is lost, whoever sends elsewhere goes on, and when the queue is drained so does the producer."""
    broker = make_broker(*FULL)
    producer, other, consumer = join(broker), join(broker), join(broker)
    blocks = [producer.encode("SEND", destination="/queue/a", body=b"%05d" % number + BODY) for number in range(20_000)]
    sent = producer.send_until_held(blocks)
    other.publish("/queue/b", "not held")
    consumer.subscribe("/queue/a", 1)

    whole = sent // len(blocks[0])
    assert whole < len(blocks)
    assert [b"%05d" % number for number in range(whole)] == [consumer.expect("MESSAGE").body[:5] for _ in range(whole)]
    producer.send_raw(blocks[whole][sent - whole * len(blocks[0]) :])
    producer.publish("/queue/a", "after")
    assert consumer.expect("MESSAGE").body[:5] == b"%05d" % whole
    consumer.expect_messages("after")


def test_a_held_producer_that_leaves_has_sent_what_it_had_sent(make_broker, join) -> None:
    """What its process had read counts; the queue is not blocked by it."""
    broker = make_broker(*FULL)
    producer, consumer, later = join(broker), join(broker), join(broker)
    blocks = [producer.encode("SEND", destination="/queue/a", body=b"%05d" % number + BODY) for number in range(20_000)]
    producer.send_until_held(blocks, 0.3)
    producer.reset()
    consumer.subscribe("/queue/a", 1)
    later.publish("/queue/a", "last")

    received = []
    while (body := consumer.expect("MESSAGE").body) != b"last":
        received.append(int(body[:5]))
    assert received == list(range(len(received)))
    assert len(received) >= 100


def test_with_refuse_the_producer_gets_an_error_that_names_the_limit(make_broker, join) -> None:
    """What was accepted before has its receipt and is delivered; another queue is not concerned."""
    broker = make_broker(*FULL, "--queue-full", "refuse")
    producer, consumer = join(broker), join(broker)
    accepted = 0
    for number in range(1000):
        producer.send("SEND", destination="/queue/a", body=BODY, receipt=number)
        frame = producer.receive()
        if frame.command == "ERROR":
            break
        accepted += 1
    producer.expect_eof()

    assert "max-queue-bytes" in frame.body.decode()
    assert frame["receipt-id"] == str(accepted)
    assert 20 < accepted <= 103
    consumer.publish("/queue/b", "elsewhere")
    consumer.subscribe("/queue/a", 1)
    consumer.expect_messages(*[BODY.decode()] * accepted)
    consumer.publish("/queue/a", "room again")
    consumer.expect_messages("room again")
