"""Messages whose time is over."""

from __future__ import annotations

import pytest

from forkbroker.routing.queues.policies import Expired, Full, Policy, QueuePolicy
from forkbroker.routing.timers import BUDGET
from forkbroker.wire.details import Reason, Wishes
from forkbroker.wire.kinds import Kind, Outcome

from .simulation import DLQ, NOON, Child, World
from .stock import Stock
from .twins import hand_over

A = b"/queue/a"
NOON_MS = int(NOON * 1000)


def make_world(policy: QueuePolicy | None = None, *, memory: int = 1 << 26) -> tuple[World, Child, Child]:
    world = World(Policy(queue=policy or QueuePolicy(), queue_memory=memory), slots=64, stock=Stock())
    return world, world.add_child(), world.add_child()


def send(world: World, child: Child, body: bytes, *, persistent: bool = False, **wishes: int) -> None:
    world.send(child, A, [body], persistent=persistent, wishes=Wishes(**wishes))  # type: ignore[arg-type]


def wait(world: World, seconds: float) -> None:
    world.pass_time(seconds)
    world.turn()
    world.run_store()


# ---------------------------------------------------------------- when


def test_a_message_expires_at_its_moment() -> None:
    """Not before it, and without anybody asking for it: the router knows when."""
    world, producer, _ = make_world()
    send(world, producer, b"1", ttl=2000)
    assert world.router.deadline() == pytest.approx(2.0)

    wait(world, 1.999)
    assert world.view(A).ready == 1
    wait(world, 0.001)

    assert world.router.views() == []
    assert world.router.counters.messages_expired == 1
    assert world.router.deadline() is None


@pytest.mark.parametrize(
    ("wishes", "expires_in"),
    [
        ({"ttl": 5000}, 5000),
        ({"expires": NOON_MS + 7000}, 7000),
        ({"expires": NOON_MS + 7000, "ttl": 5000}, 5000),
        ({"expires": NOON_MS + 3000, "ttl": 5000}, 3000),
        ({"expires": NOON_MS + 90_000}, 90_000),
        ({"priority": 5}, 10_000),
    ],
)
def test_the_earlier_wish_counts_and_the_policy_where_there_is_none(wishes: dict[str, int], expires_in: int) -> None:
    """The policy is no limit for what its sender has said."""
    world, producer, consumer = make_world(QueuePolicy(ttl=10_000))
    world.send(producer, A, [b"1"], wishes=Wishes(**wishes))  # type: ignore[arg-type]
    world.subscribe(consumer, A)

    assert world.take_one(consumer).details.expires == NOON_MS + expires_in


def test_what_nobody_asked_to_expire_does_not() -> None:
    """A section with a priority alone is no wish."""
    world, producer, consumer = make_world()
    send(world, producer, b"1", priority=3)
    world.send(producer, A, [b"2"])

    wait(world, 10.0**9)

    world.subscribe(consumer, A)
    assert world.consume(consumer) == [b"2", b"1"]


def test_what_has_expired_on_arrival_is_not_delivered() -> None:
    """Its moment is over already."""
    world, producer, consumer = make_world()
    world.subscribe(consumer, A)
    send(world, producer, b"old", expires=NOON_MS - 1)
    send(world, producer, b"new", expires=NOON_MS + 1)

    assert world.consume(consumer) == [b"new"]


def test_many_that_expire_at_many_times_are_looked_for_now_and_then() -> None:
    """Each queue ten times a second at most: each look goes through all of it."""
    world, producer, _ = make_world()
    for number in range(100):
        send(world, producer, b"x", ttl=1000 + number)

    looks = 0
    while (deadline := world.router.deadline()) is not None:
        before = world.router.counters.messages_expired
        wait(world, deadline - world.now + 0.001)
        looks += world.router.counters.messages_expired > before

    assert world.router.counters.messages_expired == 100
    assert looks <= 3


# ---------------------------------------------------------------- whose


def test_what_a_consumer_has_does_not_expire() -> None:
    """It is delivered; when it comes back, it does."""
    world, producer, consumer = make_world()
    world.subscribe(consumer, A, credit=1)
    send(world, producer, b"1", ttl=1000)
    offer = world.take_one(consumer)

    wait(world, 5)
    assert world.view(A).unsettled == 1
    world.settle(consumer, offer.serial, 1, Outcome.RELEASED)
    world.hear(consumer)
    world.turn()

    assert (world.view(A).ready, world.view(A).unsettled) == (0, 0)
    assert world.router.counters.messages_expired == 1
    assert not [envelope for envelope in consumer.inbox if envelope.kind is Kind.OFFER]


def test_what_expires_makes_room_for_its_producers() -> None:
    """As an acknowledgement would."""
    world, producer, _ = make_world(QueuePolicy(max_length=2))
    send(world, producer, b"1", ttl=1000)
    send(world, producer, b"2", ttl=1000)
    assert world.answers(producer) == [(Kind.HOLD, 0)]

    wait(world, 1)

    assert world.answers(producer) == [(Kind.RESUME, 0)]


def test_a_new_message_of_shorter_life_expires_first() -> None:
    """Wherever it stands, and whatever its priority."""
    world, producer, consumer = make_world()
    send(world, producer, b"long", ttl=60_000)
    send(world, producer, b"short", ttl=1000, priority=9)
    send(world, producer, b"low", ttl=2000, priority=0)

    wait(world, 1)
    assert world.router.counters.messages_expired == 1
    wait(world, 1)
    assert world.router.counters.messages_expired == 2

    world.subscribe(consumer, A)
    assert world.consume(consumer) == [b"long"]


# ---------------------------------------------------------------- where to


@pytest.mark.parametrize("persistent", [False, True])
def test_by_default_what_has_expired_is_gone(persistent: bool) -> None:
    """From the store as well."""
    world, producer, _ = make_world()
    send(world, producer, b"1", ttl=1000, persistent=persistent)
    world.run_store()

    wait(world, 1)

    assert world.router.views() == []
    assert not world.stock.rows


@pytest.mark.parametrize("persistent", [False, True])
def test_by_setting_what_has_expired_is_a_dead_letter(persistent: bool) -> None:
    """With the reason, and no expiry of its own any more."""
    world, producer, consumer = make_world(QueuePolicy(expired=Expired.DEAD_LETTER))
    send(world, producer, b"1", ttl=1000, persistent=persistent)

    wait(world, 1)

    assert [row.queue for row in world.stock.rows.values()] == [DLQ] * persistent
    world.subscribe(consumer, DLQ)
    (letter,) = world.consume_offers(consumer)
    assert (letter.details.reason, letter.details.expires, letter.deliveries) == (Reason.EXPIRED, 0, 0)


def test_what_has_expired_does_not_wait_for_a_full_grave() -> None:
    """It was to go anyway."""
    world, producer, _ = make_world(QueuePolicy(expired=Expired.DEAD_LETTER, max_length=1, full=Full.REFUSE))
    world.send(producer, DLQ, [b"full"])
    send(world, producer, b"1", ttl=1000)

    wait(world, 1)

    assert [(view.name, view.ready) for view in world.router.views()] == [(DLQ, 1)]
    assert world.router.counters.messages_dropped == 1


# ---------------------------------------------------------------- deep queues


def test_what_has_expired_in_the_store_is_not_delivered() -> None:
    """It is found when it comes to memory."""
    world, producer, consumer = make_world(memory=100_000)
    for number in range(60):
        ttl = 1000 if number % 3 else 0
        send(world, producer, b"%-5000d" % number, ttl=ttl, persistent=True)
    world.run_store()
    wait(world, 2)
    world.subscribe(consumer, A, credit=5)

    found = list(map(int, world.consume(consumer)))

    assert found == list(range(0, 60, 3))
    assert world.router.counters.messages_expired == 40
    assert not world.stock.rows


@pytest.mark.parametrize("at_once", [1, 1000])
def test_a_deep_queue_that_nobody_consumes_expires_as_a_whole(at_once: int) -> None:
    """Else it fills the disk, and holds its producers for ever; however slowly the store is heard."""
    world, producer, _ = make_world(QueuePolicy(ttl=1000, max_length=60), memory=100_000)
    for number in range(60):
        send(world, producer, b"%-5000d" % number, persistent=True)
    world.run_store()
    assert world.answers(producer) == [(Kind.HOLD, 0)]

    for _ in range(300):
        world.pass_time(1)
        world.turn()
        world.stock.work()
        world.hear_store(at_once)

    assert world.answers(producer) == [(Kind.RESUME, 0)]
    assert not world.stock.rows


def test_another_router_goes_on_with_what_has_expired() -> None:
    """One turn was too short for all of it; and what expires later expires then."""
    world, producer, _ = make_world()
    for _ in range(BUDGET + 50):
        send(world, producer, b"x", ttl=1000)
    send(world, producer, b"x", ttl=2000)
    world.pass_time(1)
    world.turn()
    assert world.router.counters.messages_expired < BUDGET + 50

    hand_over(world)
    assert world.router.deadline() == world.now
    world.turn()
    assert world.router.counters.messages_expired == BUDGET + 50
    hand_over(world)
    wait(world, 1)

    assert world.router.views() == []
