"""Queues by name: limits, dead letters, temporary ones. Through the router, as children see them."""

from __future__ import annotations

import pytest

from forkbroker.errors import EnvelopeError
from forkbroker.routing.queues.policies import Full, Policy, QueuePolicy
from forkbroker.routing.queues.runs import make_run
from forkbroker.wire.details import Wishes
from forkbroker.wire.kinds import Flag, Kind, Outcome

from .simulation import APART, DLQ, Child, World, make, make_send
from .twins import hand_over

A, B = b"/queue/a", b"/queue/b"
REPLY = b"/reply-queue/7-x"
BODY = b"x" * 1000
SMALL = Policy(queue=QueuePolicy(max_bytes=10_000))


def names_of(world: World) -> list[bytes]:
    return [view.name for view in world.router.views()]


def kinds_for(world: World, child: Child) -> list[Kind]:
    world.turn()
    kinds = [envelope.kind for envelope in child.inbox]
    child.inbox.clear()
    return kinds


def fill(world: World, producer: Child, name: bytes = A) -> None:
    """Up to the limit and a little above."""
    for _ in range(10):
        world.send(producer, name, [BODY], wishes=APART)


# ---------------------------------------------------------------- their life


def test_a_queue_lives_while_somebody_needs_it() -> None:
    """Made by SEND or SUBSCRIBE, forgotten without messages and consumers."""
    world = World()
    producer, consumer = world.add_child(), world.add_child()

    world.subscribe(consumer, A)
    assert names_of(world) == [A]
    world.send(producer, A, [b"1"])
    offer = world.take_one(consumer)
    world.settle(consumer, offer.serial)
    world.turn()
    assert names_of(world) == [A]
    world.unsubscribe(consumer)
    assert names_of(world) == []


def test_messages_wait_without_a_consumer() -> None:
    """A backlog outlives producers and consumers."""
    world = World()
    producer, consumer = world.add_child(), world.add_child()

    world.send(producer, A, [b"1", b"2"])
    world.end(producer)
    world.subscribe(consumer, A)
    world.unsubscribe(consumer)

    assert [(view.name, view.ready, view.consumers) for view in world.router.views()] == [(A, 2, 0)]


def test_a_queue_that_nobody_waits_for_is_not_looked_at() -> None:
    """No offer has become possible; a consumer that comes sees what is there."""
    world = World()
    producer, consumer = world.add_child(), world.add_child()

    world.send(producer, A, [b"1"])
    assert not world.router._queues.changed
    world.subscribe(consumer, A)
    assert world.router._queues.changed
    assert world.take_one(consumer).serial == 1


def test_too_many_queues_are_refused() -> None:
    """To SEND as to SUBSCRIBE; what is there goes on."""
    world = World(Policy(max_queues=1))
    child = world.add_child()
    world.subscribe(child, A)

    world.send(child, B, [b"1"], fence=5)
    refused = world.deliver()[-1][1]
    assert (refused.kind, refused.number) == (Kind.REFUSED, 5)
    assert refused.block == b"queue /queue/b does not exist, and there are 1 already, the limit (max-queues)"
    world.subscribe(child, B, token=2)
    refused = world.deliver()[-1][1]
    assert (refused.kind, refused.number) == (Kind.REFUSED, 0)
    world.send(child, A, [b"1"])
    assert [kind for _, envelope in world.turn() for kind in [envelope.kind]] == [Kind.OFFER]
    world.unsubscribe(child, 2)
    assert world.router.counters.messages_refused == 1


# ---------------------------------------------------------------- limits


def test_a_full_queue_holds_its_producer_back() -> None:
    """Once; what was under way is accepted; at four fifths it may go on."""
    world = World(SMALL)
    producer, consumer = world.add_child(), world.add_child()

    fill(world, producer)
    assert kinds_for(world, producer) == [Kind.HOLD]
    world.subscribe(consumer, A)
    serials = []
    while not kinds_for(world, producer):
        offer = world.read(consumer, Kind.OFFER)
        world.claim(consumer, offer)
        world.settle(consumer, offer.serial, offer.count)
        serials.append(offer.serial)

    (view,) = world.router.views()
    assert 6_000 < view.octets < 8_000
    assert world.router.counters.producers_held == 1


def test_empty_messages_fill_a_queue_too() -> None:
    """The limit is one of memory."""
    world = World(SMALL)
    producer = world.add_child()

    for _ in range(20):
        world.send(producer, A, [b""])

    assert kinds_for(world, producer) == [Kind.HOLD]


def test_by_setting_a_full_queue_refuses_its_producers() -> None:
    """With queue, size and limit in the reason."""
    world = World(Policy(queue=QueuePolicy(max_bytes=10_000, full=Full.REFUSE)))
    producer = world.add_child()

    fill(world, producer)
    world.send(producer, A, [BODY], fence=9)
    refused = [envelope for _, envelope in world.turn()]

    assert {envelope.kind for envelope in refused} == {Kind.REFUSED}
    assert [envelope.number for envelope in refused][-1] == 9
    assert refused[-1].block.startswith(b"queue /queue/a is full: 1")
    assert refused[-1].block.endswith(b"bytes, the limit is 10,000 (max-queue-bytes, or a policy)")


@pytest.mark.parametrize(("flags", "expected"), [(0, Kind.REFUSED), (Flag.AUTO, Kind.HOLD)])
def test_who_settles_messages_of_the_queue_is_refused_and_not_held(flags: int, expected: Kind) -> None:
    """Held, it could not acknowledge, and would wait for ever; an auto consumer doesn't acknowledge."""
    world = World(SMALL)
    child = world.add_child()
    world.subscribe(child, A, credit=0, flags=flags)

    fill(world, child)

    assert set(kinds_for(world, child)) == {expected}


def test_a_producer_resumes_when_its_full_queue_ends() -> None:
    """A temporary queue takes its holds with it."""
    world = World(SMALL)
    producer, owner = world.add_child(), world.add_child()
    world.subscribe(owner, REPLY, credit=0, flags=Flag.TEMPORARY)
    fill(world, producer, REPLY)
    assert kinds_for(world, producer) == [Kind.HOLD]

    world.end(owner)

    assert kinds_for(world, producer) == [Kind.RESUME]
    assert world.router.counters.messages_dropped == 10


# ---------------------------------------------------------------- temporary queues


def test_a_reply_queue_is_its_owners() -> None:
    """Others send to it, and may not consume from it."""
    world = World()
    owner, other = world.add_child(), world.add_child()

    world.subscribe(other, REPLY, fence=3)
    assert world.deliver()[-1][1].block == b"/reply-queue/7-x is a temporary queue: only its owner may consume"
    world.subscribe(owner, REPLY, flags=Flag.TEMPORARY)
    world.subscribe(owner, REPLY, token=2, flags=Flag.TEMPORARY)
    for token, flags in ((5, 0), (6, Flag.TEMPORARY)):
        world.subscribe(other, REPLY, token=token, flags=flags)
        assert world.deliver()[-1][1].kind is Kind.REFUSED
    world.send(other, REPLY, [b"1"])
    assert world.take_one(owner).destination == REPLY


def test_a_reply_queue_ends_with_its_owners_last_subscription() -> None:
    """With all that is in it, wherever that is; later messages are dropped and counted."""
    world = World(slots=16)
    owner, other = world.add_child(), world.add_child()
    world.subscribe(owner, REPLY, credit=2, flags=Flag.TEMPORARY)
    for _ in range(3):
        world.send(other, REPLY, [b"1"], wishes=APART)
    world.take_one(owner)
    unanswered = world.read(owner, Kind.OFFER)

    world.unsubscribe(owner)
    world.answer(owner, Kind.PASSED, unanswered)
    world.turn()

    assert names_of(world) == []
    assert world.router.counters.messages_dropped == 3
    world.send(other, REPLY, [b"1", b"2"], fence=4)
    assert kinds_for(world, other) == [Kind.FENCED]
    assert world.router.counters.messages_dropped == 5
    assert names_of(world) == []
    assert world.semaphores.values == [0] * 16


def test_only_reply_queues_are_temporary() -> None:
    """Anything else is nonsense of the child."""
    world = World()
    child = world.add_child()

    with pytest.raises(EnvelopeError, match="temporary"):
        world.subscribe(child, A, flags=Flag.TEMPORARY)
    assert names_of(world) == []


# ---------------------------------------------------------------- dead letters


def test_a_rejected_message_is_a_dead_letter() -> None:
    """With its queue as origin, a place at the end, and its deliveries."""
    world = World()
    producer, consumer, undertaker = (world.add_child() for _ in range(3))
    world.send(producer, A, [b"1", b"2"])
    world.subscribe(consumer, A)
    world.subscribe(undertaker, DLQ)
    offer = world.take_one(consumer)

    world.settle(consumer, offer.serial, 1, Outcome.REJECTED)
    letter = world.take_one(undertaker)

    assert [bytes(piece) for piece in letter.pieces()] == [b"1"]
    assert (letter.details.origin, letter.destination, letter.deliveries) == (A, DLQ, 1)
    assert letter.serial > offer.serial + 1
    assert world.router.counters.messages_dead_lettered == 1


@pytest.mark.parametrize("by_end", [True, False])
def test_the_last_permitted_delivery_makes_a_dead_letter(by_end: bool) -> None:
    """Released or lost with its child."""
    world = World(Policy(queue=QueuePolicy(max_deliveries=2)))
    producer = world.add_child()
    world.send(producer, A, [b"1"])
    for deliveries in range(2):
        consumer = world.add_child()
        world.subscribe(consumer, A)
        offer = world.take_one(consumer)
        assert offer.deliveries == deliveries
        if by_end:
            world.end(consumer)
        else:
            world.settle(consumer, offer.serial, 1, Outcome.RELEASED)
            world.hear(consumer)
            world.unsubscribe(consumer)

    assert [(view.name, view.ready) for view in world.router.views()] == [(DLQ, 1)]


@pytest.mark.parametrize("outcome", [Outcome.REJECTED, Outcome.RELEASED])
def test_a_dead_letter_that_fails_goes_back_to_its_place(outcome: Outcome) -> None:
    """There is no worse place."""
    world = World(Policy(queue=QueuePolicy(max_deliveries=1)))
    child = world.add_child()
    world.send(child, DLQ, [b"1"])
    world.subscribe(child, DLQ)

    for deliveries in range(3):
        offer = world.take_one(child)
        assert (offer.deliveries, offer.details.origin) == (deliveries, b"")
        world.settle(child, offer.serial, 1, outcome)
    world.turn()

    assert world.router.counters.messages_requeued == 3


def test_without_room_for_dead_letters_messages_stay_where_they_are() -> None:
    """Neither is one lost nor does the dead letter queue grow without bound."""
    world = World(SMALL)
    producer, consumer = world.add_child(), world.add_child()
    fill(world, producer, DLQ)
    world.send(producer, A, [b"1"])
    world.subscribe(consumer, A)

    offer = world.take_one(consumer)
    world.settle(consumer, offer.serial, 1, Outcome.REJECTED)

    assert world.take_one(consumer).deliveries == 1
    assert world.router.counters.messages_dead_lettered == 0


def test_without_a_limit_deliveries_are_only_counted() -> None:
    """`max_deliveries` 0."""
    world = World(Policy(queue=QueuePolicy(max_deliveries=0)))
    child = world.add_child()
    world.send(child, A, [b"1"])
    world.subscribe(child, A)

    for deliveries in range(40):
        offer = world.take_one(child)
        assert offer.deliveries == deliveries
        world.settle(child, offer.serial, 1, Outcome.RELEASED)


def test_a_broken_envelope_leaves_no_queue_behind() -> None:
    """Decoded before anything is made."""
    world = World()
    child = world.add_child()

    with pytest.raises(EnvelopeError):
        world.tell(child, make(Kind.SEND, destination=A, count=1))
    assert names_of(world) == []
    assert make_send(A, [b"1"]).count == 1


# ---------------------------------------------------------------- exact limits, and what stays of those that have ended


def test_exactly_four_fifths_of_the_octets_are_no_room_yet() -> None:
    """As with messages: who was held goes on below that."""
    size = make_run(make_send(A, [b"x"]), 1).memory
    world = World(Policy(queue=QueuePolicy(max_bytes=5 * size)))
    producer, consumer = world.add_child(), world.add_child()
    for _ in range(5):
        assert world.answers(producer) == []
        world.send(producer, A, [b"x"])
    assert world.answers(producer) == [(Kind.HOLD, 0)]

    world.subscribe(consumer, A, credit=1)
    said = []
    for _ in range(2):
        world.settle(consumer, world.take_one(consumer).serial)
        world.hear(consumer)
        said.append(world.answers(producer))

    assert said == [[], [(Kind.RESUME, 0)]]


def test_nothing_holds_a_producer_that_has_ended() -> None:
    """Neither its queue nor the router knows it any more, so nothing is told to it when there is room."""
    world = World(Policy(queue=QueuePolicy(max_length=1)))
    producer, consumer = world.add_child(), world.add_child()
    world.send(producer, A, [b"x"])
    queue = world.router._queues.find(A)
    assert queue is not None
    assert queue.held == {producer.peer}

    world.end(producer)

    assert (queue.held, world.router._queues.holds._queues) == (set(), {})
    world.subscribe(consumer, A)
    assert world.consume(consumer) == [b"x"]


@pytest.mark.parametrize(("memory", "is_over"), [(800, False), (799, True)])
def test_consumers_have_caught_up_below_four_fifths_of_what_is_free(memory: int, is_over: bool) -> None:
    """Not at it."""
    world = World()
    world.send(world.add_child(), A, [b"x"])
    queues = world.router._queues
    queue = queues.find(A)
    assert queue is not None
    queues.window.limit, queue.memory, queue.catching_up_until = queues.window.used + 1000, memory, 7.0

    queues.tidy(queue)

    assert queue.catching_up_until == (0.0 if is_over else 7.0)


def test_a_queue_is_expiring_from_the_moment_of_its_first_message_on() -> None:
    """To the millisecond; and until all that has expired was taken out."""
    world = World()
    producer = world.add_child()
    for ttl in (2000, 1000):
        world.send(producer, A, [b"x"], wishes=Wishes(ttl=ttl))
    queues = world.router._queues
    queue = queues.find(A)
    assert queue is not None
    found = []
    for seconds in (0, 0.999, 0.001):
        world.pass_time(seconds)
        found.append(queues.is_expiring(queue))
    assert found == [False, False, True]

    queues.take_expired(queue, 9)
    assert not queues.is_expiring(queue)
    queues.expiring[queue] = None
    assert queues.is_expiring(queue)


# ---------------------------------------------------------------- in another router


def test_queues_are_the_same_in_another_router() -> None:
    """Their owners, their limits and their serials, and that something waits for a name."""
    world = World(Policy(max_queues=3))
    owner, other = world.add_child(), world.add_child()
    world.subscribe(owner, REPLY, flags=Flag.TEMPORARY)
    world.send(other, A, [b"1"])
    world.send(other, B, [b"later"], wishes=Wishes(delay=1_000))

    hand_over(world)
    assert names_of(world) == [REPLY, A]
    world.send(other, b"/queue/c", [b"x"])
    assert "there are 3 already" in world.refusal(other)
    world.subscribe(other, REPLY, flags=Flag.TEMPORARY)
    assert "only its owner may consume" in world.refusal(other)
    world.subscribe(owner, A, token=2)
    world.send(other, A, [b"2"])
    assert [offer.serial for offer in world.consume_offers(owner)] == [1, 3]
    world.end(owner)

    assert names_of(world) == []


def test_who_is_held_by_a_full_queue_goes_on_in_another_router() -> None:
    """When there is room; HOLD was said before, and is not said again."""
    world = World(SMALL)
    producer, consumer = world.add_child(), world.add_child()
    fill(world, producer)
    assert kinds_for(world, producer) == [Kind.HOLD]

    hand_over(world)
    world.send(producer, A, [BODY])
    assert kinds_for(world, producer) == []
    world.subscribe(consumer, A)
    world.consume(consumer)

    assert kinds_for(world, producer) == [Kind.RESUME]


def test_a_queue_that_is_gone_takes_its_memory_with_it_in_another_router() -> None:
    """What was offered of it comes back, and is dropped."""
    world = World()
    owner = world.add_child()
    world.subscribe(owner, REPLY, flags=Flag.TEMPORARY)
    world.send(owner, REPLY, [BODY])
    world.turn()
    offer = world.read(owner, Kind.OFFER)
    world.unsubscribe(owner)

    hand_over(world)
    assert world.router._queues.window.used > 0
    world.answer(owner, Kind.PASSED, offer)
    world.turn()

    assert (world.router._queues.window.used, world.router.counters.messages_dropped) == (0, 1)
