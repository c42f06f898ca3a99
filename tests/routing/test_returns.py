"""What becomes of messages that nobody has acknowledged."""

from __future__ import annotations

import pytest

from forkbroker.config.policy_keys import KEYS
from forkbroker.config.values import milliseconds
from forkbroker.routing.jobs.returns import MOST_TOLD
from forkbroker.routing.queues.policies import Full, Policy, QueuePolicy, QueueRule
from forkbroker.wire.details import Reason, Wishes
from forkbroker.wire.envelope import Envelope
from forkbroker.wire.kinds import Kind, Outcome

from .simulation import DLQ, Child, World
from .stock import Stock

A, B = b"/queue/a", b"/queue/b"
GRAVE = b"/queue/grave"


def make_world(policy: QueuePolicy | None = None, **rules: dict[str, object]) -> tuple[World, Child, Child]:
    """`rules`: by the last level of a queue's name."""
    found = tuple(QueueRule(b"/queue/%s" % name.encode(), changes) for name, changes in rules.items())
    world = World(Policy(queue=policy or QueuePolicy(), rules=found), slots=64, stock=Stock())
    producer, consumer = world.add_child(), world.add_child()
    world.subscribe(consumer, A, credit=1)
    return world, producer, consumer


def letters(world: World, name: bytes = DLQ) -> list[Envelope]:
    """What is taken from the dead letters."""
    child = world.add_child()
    world.subscribe(child, name)
    return world.consume_offers(child)


def fail(world: World, consumer: Child, outcome: Outcome = Outcome.RELEASED, reason: bytes = b"") -> Envelope:
    """One delivery in vain."""
    offer = world.take_one(consumer)
    world.settle(consumer, offer.serial, offer.count, outcome, reason=reason)
    world.hear(consumer)
    return offer


# ---------------------------------------------------------------- back


def test_the_first_redelivery_is_at_once_and_each_later_one_waits_longer() -> None:
    """Up to a limit; meanwhile others in the queue are delivered."""
    world, producer, consumer = make_world(QueuePolicy(redelivery_delay=1000, redelivery_delay_max=3000))
    world.send(producer, A, [b"1"])
    waits = []
    for _ in range(6):
        fail(world, consumer)
        before = world.now
        while not world.turn():
            deadline = world.router.deadline()
            assert deadline is not None
            world.now = deadline
        waits.append(world.now - before)

    assert waits == pytest.approx([0, 1, 2, 3, 3, 3])
    world.consume(consumer)


def test_a_message_that_waits_is_overtaken_and_then_is_the_first() -> None:
    """Its old place is before all that came later."""
    world, producer, consumer = make_world(QueuePolicy(redelivery_delay=1000))
    world.send(producer, A, [b"1", b"2", b"3"])
    fail(world, consumer)
    fail(world, consumer)
    assert (world.view(A).ready, world.view(A).unsettled) == (2, 1)
    offer = world.take_one(consumer)
    assert bytes(offer.pieces()[0]) == b"2"
    world.pass_time(1)
    world.settle(consumer, offer.serial)

    assert world.consume(consumer) == [b"1", b"3"]


def test_a_queue_with_a_message_that_waits_is_not_forgotten() -> None:
    """Though nothing can be taken, and nobody consumes."""
    world, producer, consumer = make_world(QueuePolicy(redelivery_delay=1000))
    world.send(producer, A, [b"1"])
    fail(world, consumer)
    fail(world, consumer)
    world.unsubscribe(consumer)
    world.pass_time(1)
    world.turn()

    assert world.view(A).ready == 1


def test_the_store_is_told_of_each_delivery_in_vain() -> None:
    """So that a restart doesn't give a message all its deliveries again."""
    world, producer, consumer = make_world()
    world.send(producer, A, [b"1"], persistent=True)
    for _ in range(3):
        fail(world, consumer)
        consumer.inbox.clear()
    world.run_store()

    (row,) = world.stock.rows.values()
    assert row.deliveries == 3


def test_what_never_reached_the_client_counts_as_no_delivery() -> None:
    """And the store is not told."""
    world, producer, consumer = make_world(QueuePolicy(max_deliveries=1))
    world.send(producer, A, [b"1"], persistent=True)
    world.run_store()

    for _ in range(3):
        assert fail(world, consumer, Outcome.UNTOUCHED).deliveries == 0

    assert not [envelope for envelope in world.stock.told if envelope.number]
    assert world.router.counters.messages_requeued == 0


# ---------------------------------------------------------------- dead letters


@pytest.mark.parametrize("persistent", [False, True])
def test_a_dead_letter_tells_where_it_failed_and_why(persistent: bool) -> None:
    """And how often it was delivered; its body and header block are what they were."""
    world, producer, consumer = make_world(QueuePolicy(max_deliveries=2))
    world.send(producer, A, [b"1"], persistent=persistent, wishes=Wishes(priority=7, ttl=60_000))
    world.send(producer, A, [b"2"], persistent=persistent)
    fail(world, consumer)
    fail(world, consumer)
    fail(world, consumer, Outcome.REJECTED)

    found = [(bytes(e.pieces()[0]), e.details.reason, e.deliveries, e.details.origin) for e in letters(world)]

    assert found == [(b"1", Reason.DELIVERIES, 2, A), (b"2", Reason.REJECTED, 1, A)]
    assert not world.stock.rows


def test_a_dead_letter_does_not_expire() -> None:
    """Somebody is to look at it, whenever that is; its priority stays."""
    world, producer, consumer = make_world()
    world.send(producer, A, [b"1"], wishes=Wishes(priority=7, ttl=1000))
    fail(world, consumer, Outcome.REJECTED)
    world.pass_time(5)

    (letter,) = letters(world)
    assert (letter.details.expires, letter.details.priority) == (0, 7)


def test_each_queue_has_the_dead_letters_that_its_policy_names() -> None:
    """The others go on to the common ones."""
    world, producer, consumer = make_world(a={"dead_letter": GRAVE})
    other = world.add_child()
    world.subscribe(other, B, credit=1)
    for child, name in ((consumer, A), (other, B)):
        world.send(producer, name, [name])
        fail(world, child, Outcome.REJECTED)

    assert [bytes(letter.pieces()[0]) for letter in letters(world, GRAVE)] == [A]
    assert [bytes(letter.pieces()[0]) for letter in letters(world)] == [B]


def test_a_persistent_dead_letter_moves_in_the_store() -> None:
    """It is neither in both queues nor in none, and a receipt waits for that."""
    world, producer, consumer = make_world()
    world.send(producer, A, [b"1"], persistent=True)
    world.run_store()
    fail(world, consumer, Outcome.REJECTED)
    world.deliver()

    (change,) = world.stock.told
    assert (change.kind, change.destination) == (Kind.MOVE, DLQ)
    world.run_store()
    (row,) = world.stock.rows.values()
    assert (row.queue, row.details.reason, row.details.origin, row.deliveries) == (DLQ, Reason.REJECTED, A, 1)
    (letter,) = letters(world)
    assert letter.serial == row.serial


def test_a_message_stays_where_it_is_when_its_dead_letters_are_full() -> None:
    """They refuse or hold; it waits as it would after any delivery."""
    world, producer, consumer = make_world(DLQ={"max_length": 1, "full": Full.REFUSE})
    world.send(producer, A, [b"1", b"2"])
    fail(world, consumer, Outcome.REJECTED)
    fail(world, consumer, Outcome.REJECTED)

    assert world.view(DLQ).ready == 1
    assert fail(world, consumer, Outcome.REJECTED).deliveries == 1
    letters(world)
    fail(world, consumer, Outcome.REJECTED)
    assert world.view(DLQ).ready == 1


def test_dead_letters_that_drop_their_oldest_are_never_full() -> None:
    """The newest are kept."""
    world, producer, consumer = make_world(DLQ={"max_length": 2, "full": Full.DROP_OLDEST})
    world.send(producer, A, [b"1", b"2", b"3"], persistent=True)
    for _ in range(3):
        fail(world, consumer, Outcome.REJECTED)

    assert [bytes(letter.pieces()[0]) for letter in letters(world)] == [b"2", b"3"]
    assert not world.stock.rows


def test_two_queues_may_be_each_others_dead_letters() -> None:
    """A message that fails in both goes to and fro, and is never lost or twice."""
    world, producer, consumer = make_world(a={"dead_letter": B}, b={"dead_letter": A})
    world.subscribe(consumer, B, token=2, credit=1)
    world.send(producer, A, [b"1"], persistent=True)
    for token in (1, 2, 1, 2):
        (offer,) = world.offers(consumer)
        assert (offer.token, world.claim(consumer, offer)) == (token, True)
        world.settle(consumer, offer.serial, 1, Outcome.REJECTED, token=token)

    assert world.consume(consumer) == [b"1"]
    assert not world.stock.rows


def test_what_was_taken_from_a_queue_that_is_gone_is_no_dead_letter() -> None:
    """A temporary queue ends with its owner: what it held is dropped."""
    world, producer, consumer = make_world(QueuePolicy(max_deliveries=1))
    name = b"/reply-queue/7-x"
    world.subscribe(consumer, name, token=2, flags=64)
    world.send(producer, name, [b"1", b"2"])
    (offer,) = world.offers(consumer)
    world.claim(consumer, offer)
    world.hear(consumer)
    world.unsubscribe(consumer, 2)
    world.turn()

    assert [view.name for view in world.router.views()] == [A]
    assert world.router.counters.messages_dropped == 2


def test_the_longest_wait_and_the_largest_factor_overflow_nothing() -> None:
    """However often a message has come back."""
    longest = milliseconds(0)("10000000000")
    policy = QueuePolicy(redelivery_delay=longest, redelivery_backoff=KEYS["redelivery-backoff"]("1000"))  # type: ignore[arg-type]

    assert {policy.redelivery_wait(deliveries) for deliveries in (3, 66, 100_000)} == {policy.redelivery_delay_max}


@pytest.mark.parametrize("persistent", [False, True])
def test_a_dead_letter_keeps_what_its_consumer_has_said(persistent: bool) -> None:
    """With the NACK that made it one; what was said before is not kept, and a retry forgets it."""
    world, producer, consumer = make_world(QueuePolicy(max_deliveries=2))
    for body in (b"1", b"2", b"3"):
        world.send(producer, A, [body], persistent=persistent)
    fail(world, consumer, reason=b"first")
    fail(world, consumer, reason=b"second")
    fail(world, consumer, Outcome.REJECTED, b"broken")
    fail(world, consumer, reason=b"only once")
    fail(world, consumer)
    world.run_store()
    rows = sorted((row.details.reject_reason, row.deliveries) for row in world.stock.rows.values())

    found = [(e.details.reason, e.details.reject_reason) for e in letters(world)]
    assert found == [(Reason.DELIVERIES, b"second"), (Reason.REJECTED, b"broken"), (Reason.DELIVERIES, b"")]
    assert rows == ([(b"", 2), (b"broken", 1), (b"second", 2)] if persistent else [])


def test_each_dead_letter_by_nack_has_a_line_that_says_whose_it_is_and_why() -> None:
    """With the message-id. What cannot go to the dead letters has none."""
    world, producer, consumer = make_world(QueuePolicy(max_deliveries=2), DLQ={"max_length": 2, "full": Full.REFUSE})
    for body in (b"1", b"2", b"3"):
        world.send(producer, A, [body])
    fail(world, consumer, Outcome.REJECTED, b"disk full" + b"!" * 200)
    fail(world, consumer)
    fail(world, consumer)
    fail(world, consumer, Outcome.REJECTED, b"too late")
    told, world.router.rejected[:] = list(world.router.rejected), []
    peers = {peer for peer, _ in told}

    assert peers == {consumer.peer}
    first, second = (text for _, text in told)
    assert first.endswith(f"of /queue/a rejected, moved to /queue/DLQ, reason: disk full{'!' * 191}…")
    assert second.endswith("of /queue/a rejected, moved to /queue/DLQ, no reason given")
    assert first.startswith("message 0-") and second != first


def test_many_dead_letters_by_nack_are_counted() -> None:
    """After so many lines in a second: those of each queue are told together in the next one."""
    world = World(Policy(), stock=Stock())
    child = world.add_child()
    world.subscribe(child, A)
    for number in range(MOST_TOLD + 2):
        world.send(child, A, [b"%d" % number])
        offer = world.take_one(child)
        world.settle(child, offer.serial, 1, Outcome.REJECTED)
        world.turn()
    assert len(world.router.rejected) == MOST_TOLD
    world.router.rejected.clear()
    world.router.note_time(world.now)
    assert world.router.take_events() == ["queue /queue/a: 2 more messages rejected by consumers, moved to /queue/DLQ"]

    world.router.note_time(world.now)
    assert world.router.take_events() == []
    world.send(child, A, [b"x", b"y"])
    offer = world.take_one(child)
    world.settle(child, offer.serial, 2, Outcome.REJECTED)
    world.turn()
    ((_, text),) = world.router.rejected
    assert " and 1 more of /queue/a rejected" in text
