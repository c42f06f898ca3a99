"""Which message is blamed when child processes are killed, or die of what they are offered."""

from __future__ import annotations

import signal

import pytest
from faults.crowd import Crowd
from faults.scene import Client, kill_child_of

MESSAGES = 400


def test_random_kills_make_no_dead_letters(start) -> None:
    """SIGKILL for eight workers with prefetch 5, again and again: every job is done in the end, none set aside."""
    broker = start("--max-deliveries", 0)
    crowd = Crowd(broker, "/queue/work", [("client-individual", 5)] * 8, 77)
    try:
        for _ in range(MESSAGES // 10):
            crowd.produce(10)
            crowd.turn()
            present = [consumer for consumer in crowd.consumers if consumer.client is not None]
            crowd.losses += 1
            crowd.chance.choice(present).drop(crowd.kill)
        crowd.finish()
    finally:
        crowd.close()

    assert crowd.losses == MESSAGES // 10
    assert crowd.ledger.find_unsettled() == []
    assert "moved to /queue/DLQ" not in broker.log


def test_poison_is_found_among_what_was_held_with_it(start, connect) -> None:
    """One crash in company, and three alone: then it is a dead letter, and the others are delivered."""
    broker = start()
    producer, grave = connect(broker), connect(broker)
    grave.subscribe("/queue/DLQ")
    bodies = ["good 1", "good 2", "poison", "good 3", "good 4"]
    for body in bodies:
        producer.publish("/queue/work", body)
    delivered: list[str] = []
    held_at_crashes: list[list[str]] = []
    while len(delivered) < 4:
        worker = connect(broker)
        worker.subscribe("/queue/work", ack="client-individual", prefetch_count=5)
        work(broker, worker, delivered, held_at_crashes, expected=5 if not held_at_crashes else 1)

    assert held_at_crashes == [bodies, ["poison"], ["poison"], ["poison"]]
    assert sorted(delivered) == ["good 1", "good 2", "good 3", "good 4"]
    grave.expect("MESSAGE", "poison", dead_letter_reason="poison")


def work(broker, worker: Client, delivered: list[str], crashes: list[list[str]], *, expected: int) -> None:
    """Acknowledge one message after the other; die of poison, with all that came with it."""
    while len(delivered) < 4:
        held = [worker.expect("MESSAGE") for _ in range(expected)]
        texts = [frame.body.decode() for frame in held]
        if "poison" in texts:
            crashes.append(texts)
            kill_child_of(broker, worker, signal.SIGSEGV)
            worker.expect_eof()
            return
        for frame in held:
            worker.ack(frame)
            delivered.append(frame.body.decode())


@pytest.mark.parametrize("persistent", ["false", "true"])
def test_a_message_that_kills_before_it_is_claimed_is_set_aside(start, connect, persistent) -> None:
    """As one does that is too large for its consumers' processes: after the third one the next message is delivered."""
    broker = start(crash="child.offer-received@victim")
    producer, grave = connect(broker), connect(broker)
    producer.publish("/queue/work", "large", persistent=persistent)
    producer.publish("/queue/work", "small", persistent=persistent)
    for number in range(3, 6):
        victim = connect(broker, "victim")
        victim.send("SUBSCRIBE", id=1, destination="/queue/work", ack="client-individual", prefetch_count=1)
        victim.take_to_end()
        # its client hears of the end before the parent does: the next one would be offered the other message
        broker.wait_for_log(rf"client {number} \S+ victim: ended by signal SIGKILL")
    worker = connect(broker)
    worker.subscribe("/queue/work")

    worker.expect("MESSAGE", "small")
    worker.expect_nothing()
    broker.wait_for_log(r"queue /queue/work: message \S+ moved to /queue/DLQ, 3 child processes crashed")
    grave.subscribe("/queue/DLQ")
    letter = grave.expect("MESSAGE", "large", dead_letter_reason="poison")
    assert "redelivered" not in letter
