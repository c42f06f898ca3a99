"""Messages for later: when they come, how often, and where they wait."""

from __future__ import annotations

import pytest

from forkbroker.errors import EnvelopeError
from forkbroker.routing.policies import Full, Policy, QueuePolicy
from forkbroker.wire.details import Wishes
from forkbroker.wire.kinds import Flag, Kind

from .simulation import NOON, Child, World
from .stock import Stock

A = b"/queue/a"
NOON_MS = int(NOON * 1000)


def make_world(**policy: int) -> tuple[World, Child, Child]:
    world = World(Policy(**policy), stock=Stock())  # type: ignore[arg-type]
    producer, consumer = world.add_child(), world.add_child()
    world.subscribe(consumer, A)
    return world, producer, consumer


def send(world: World, child: Child, body: bytes, *, persistent: bool = False, **wishes: int | bytes) -> None:
    world.send(child, A, [body], persistent=persistent, wishes=Wishes(**wishes))  # type: ignore[arg-type]


def seconds_of(world: World, consumer: Child, until: int) -> list[int]:
    """In which seconds from now something comes."""
    found = []
    for second in range(until + 1):
        found += [second] * len(world.consume(consumer))
        world.pass_time(1)
    return found


# ---------------------------------------------------------------- once


def test_a_delayed_message_comes_when_its_time_has_come() -> None:
    """At that moment, which the router knows beforehand."""
    world, producer, consumer = make_world()
    send(world, producer, b"later", delay=3000)

    assert world.router.deadline() == pytest.approx(3.0)
    world.pass_time(2.999)
    assert world.consume(consumer) == []
    world.pass_time(0.001)

    assert world.consume(consumer) == [b"later"]
    assert world.router.deadline() is None


def test_delayed_messages_overtake_nothing_that_was_there_before_their_time() -> None:
    """They get their place when their time comes: among each other by their times."""
    world, producer, consumer = make_world()
    world.unsubscribe(consumer)
    send(world, producer, b"third", delay=2000)
    send(world, producer, b"second", delay=1000)
    world.send(producer, A, [b"first"])
    world.pass_time(2)
    world.turn()
    world.send(producer, A, [b"fourth"])
    world.subscribe(consumer, A)

    assert world.consume(consumer) == [b"first", b"second", b"third", b"fourth"]


def test_a_moment_is_a_moment_and_a_delay_is_added_to_it() -> None:
    """What is not in the future comes at once."""
    world, producer, consumer = make_world()
    send(world, producer, b"2", deliver_at=NOON_MS + 2000)
    send(world, producer, b"5", deliver_at=NOON_MS + 2000, delay=3000)
    send(world, producer, b"0", deliver_at=NOON_MS - 5000)

    assert seconds_of(world, consumer, 6) == [0, 2, 5]


def test_a_delayed_message_is_no_message_of_its_queue_yet() -> None:
    """Nobody can see it there, and a queue with nothing else is forgotten."""
    world, producer, consumer = make_world()
    world.unsubscribe(consumer)

    send(world, producer, b"later", delay=3000)
    assert world.router.views() == []
    assert [line for line in world.router.describe() if line.startswith("schedule: 1 messages")]
    world.pass_time(3)
    world.turn()

    assert world.view(A).ready == 1
    assert not [line for line in world.router.describe() if line.startswith("schedule")]


def test_what_waits_may_use_so_much_memory_and_no_more() -> None:
    """Then it is refused with the limit's name; what is not delayed is not concerned, and time makes room."""
    world, producer, consumer = make_world(max_delayed_bytes=10_000)
    send(world, producer, b"x" * 10_000, delay=1000)

    world.send(producer, A, [b"y"], fence=4, wishes=Wishes(delay=5))
    reason = world.refusal(producer)
    assert "1 delayed messages use 10," in reason
    assert reason.endswith("the limit (max-delayed-bytes) is 10,000")
    send(world, producer, b"now", priority=3)
    assert world.consume(consumer) == [b"now"]
    world.pass_time(1)
    world.consume(consumer)

    send(world, producer, b"y", delay=5)
    assert world.answers(producer) == []


# ---------------------------------------------------------------- again


def test_a_repeated_message_comes_so_many_times_more() -> None:
    """The first time after the delay, then a period apart."""
    world, producer, consumer = make_world()
    send(world, producer, b"again", delay=1000, period=2000, repeat=2)

    assert seconds_of(world, consumer, 12) == [1, 3, 5]
    assert world.router.deadline() is None


def test_a_repeated_message_without_a_delay_comes_at_its_own_pace() -> None:
    """Its child has told when it comes first; a period alone does not repeat."""
    world, producer, consumer = make_world()
    send(world, producer, b"once", period=2000)
    send(world, producer, b"never", repeat=3)

    assert seconds_of(world, consumer, 6) == [0, 0]


def test_a_message_may_come_without_end() -> None:
    """`repeat` is -1."""
    world, producer, consumer = make_world()
    send(world, producer, b"tick", delay=1000, period=1000, repeat=-1)

    assert seconds_of(world, consumer, 50) == list(range(1, 51))


def test_each_repetition_is_a_message_of_its_own() -> None:
    """With its own serial and its own number in the message-id, so that each can be acknowledged."""
    world, producer, consumer = make_world()
    world.send(producer, A, [b"a", b"b"], wishes=Wishes(delay=1000, period=1000, repeat=2))
    world.pass_time(1)
    offers = world.consume_offers(consumer)
    world.pass_time(1)
    offers += world.consume_offers(consumer)

    first, second = offers
    assert second.serial >= first.serial + 2
    assert (first.index, second.index) == (0, 2)
    assert first.details.period == first.details.repeat == first.details.due == 0


@pytest.mark.parametrize("persistent", [False, True])
def test_what_was_missed_is_not_made_up_for(persistent: bool) -> None:
    """The broker stood still for a while: one comes, and then the next one in its old rhythm."""
    world, producer, consumer = make_world()
    send(world, producer, b"tick", delay=1000, period=10_000, repeat=5, persistent=persistent)

    world.pass_time(35)

    assert seconds_of(world, consumer, 60) == [0, 6, 16]


def test_a_cron_line_names_the_times() -> None:
    """Each minute here, and without end."""
    world, producer, consumer = make_world()
    send(world, producer, b"tick", cron=b"* * * * *")
    start = int(60 - NOON % 60)

    assert seconds_of(world, consumer, 200) == [start, start + 60, start + 120]


def test_a_cron_line_that_cannot_be_read_is_its_childs_fault() -> None:
    """The child should have checked it."""
    world, producer, _ = make_world()

    with pytest.raises(EnvelopeError, match="fields"):
        send(world, producer, b"tick", cron=b"* * *")
    assert world.router.deadline() is None


# ---------------------------------------------------------------- in the store


def test_a_persistent_delayed_message_waits_in_the_store_and_moves_to_its_queue() -> None:
    """One WRITE, one MOVE, one DELETE."""
    world, producer, consumer = make_world()
    send(world, producer, b"later", delay=3000, persistent=True)
    world.run_store()
    ((serial, row),) = world.stock.rows.items()
    assert row.details.due == NOON_MS + 3000
    world.pass_time(3)
    world.turn()
    world.stock.work()
    ((new_serial, moved),) = world.stock.rows.items()

    assert new_serial > serial
    assert (moved.details.due, moved.queue, moved.body) == (0, A, b"later")
    world.hear_store()
    (offer,) = world.consume_offers(consumer)
    assert offer.serial == new_serial
    assert not world.stock.rows


def test_a_repetition_and_its_next_time_are_one_change() -> None:
    """Whatever the store dies of, there is neither a second copy nor none."""
    world, producer, _ = make_world()
    send(world, producer, b"tick", delay=1000, period=1000, repeat=-1, persistent=True)
    world.run_store()

    world.pass_time(1)
    world.turn()

    changes = [envelope.kind for envelope in world.stock.told if envelope.kind is not Kind.FETCH]
    assert changes == [Kind.WRITE, Kind.MOVE, Kind.TOGETHER]
    world.run_store()
    assert sorted(row.details.due for row in world.stock.rows.values()) == [0, NOON_MS + 2000]
    assert sorted(row.index for row in world.stock.rows.values()) == [0, 1]


def test_delayed_messages_that_come_heed_the_limit_of_their_queue() -> None:
    """One that drops its oldest messages does so then."""
    policy = Policy(queue=QueuePolicy(max_length=2, full=Full.DROP_OLDEST))
    world = World(policy)
    producer, consumer = world.add_child(), world.add_child()
    for number in range(4):
        send(world, producer, b"%d" % number, delay=1000)
    world.pass_time(1)
    world.turn()
    world.subscribe(consumer, A)

    assert world.consume(consumer) == [b"2", b"3"]


def test_a_delayed_message_may_expire_meanwhile() -> None:
    """It is dropped when it comes, not delivered."""
    world, producer, consumer = make_world()
    world.send(producer, A, [b"late"], wishes=Wishes(delay=3000, ttl=1000))
    world.send(producer, A, [b"good"], wishes=Wishes(delay=3000, ttl=9000))
    world.pass_time(3)

    assert world.consume(consumer) == [b"good"]
    assert world.router.counters.messages_expired == 1


def test_what_is_delayed_for_a_temporary_queue_that_has_ended_is_dropped() -> None:
    """It is no queue that a message makes."""
    world, producer, consumer = make_world()
    name = b"/reply-queue/7-x"
    world.subscribe(consumer, name, token=2, flags=Flag.TEMPORARY)
    world.send(producer, name, [b"late"], wishes=Wishes(delay=1000))
    world.unsubscribe(consumer, 2)
    world.pass_time(1)
    world.turn()

    assert [view.name for view in world.router.views()] == [A]
