"""When consumers see persistent messages: at once, or when the store has committed them."""

from __future__ import annotations

from forkbroker.routing.queues.policies import Full, Policy, QueuePolicy, QueueRule, Visible
from forkbroker.wire.details import Wishes
from forkbroker.wire.kinds import Flag, Kind, Outcome

from .simulation import Child, World, make, make_send
from .stock import Stock

A, B = b"/queue/a", b"/queue/b"
TOPIC, ME = b"/topic/t", b"/dsub/me"
COMMITTED = QueuePolicy(visible=Visible.COMMITTED)


def make_world(queue: QueuePolicy = COMMITTED, **policy: int) -> tuple[World, Child, Child]:
    world = World(Policy(queue=queue, durable=queue, **policy), slots=64, stock=Stock())  # type: ignore[arg-type]
    producer, consumer = world.add_child(), world.add_child()
    world.subscribe(consumer, A)
    return world, producer, consumer


def seen(world: World, child: Child) -> list[bytes]:
    """What the child is offered, takes and acknowledges, while the store does nothing: the bodies."""
    world.turn()
    bodies = []
    for offer in [envelope for envelope in child.inbox if envelope.kind is Kind.OFFER]:
        child.inbox.remove(offer)
        if world.claim(child, offer):
            bodies += [bytes(piece) for piece in offer.pieces()]
            world.settle(child, offer.serial, offer.count, token=offer.token)
    world.hear(child)
    return bodies


# ---------------------------------------------------------------- by policy


def test_by_default_a_persistent_message_is_offered_before_it_is_committed() -> None:
    """It costs no consumer any time."""
    world, producer, consumer = make_world(QueuePolicy())
    world.send(producer, A, [b"1"], persistent=True)

    assert seen(world, consumer) == [b"1"]


def test_by_policy_a_persistent_message_is_offered_when_it_is_committed() -> None:
    """And not before; until then it counts as waiting."""
    world, producer, consumer = make_world()
    world.send(producer, A, [b"1", b"2"], persistent=True)

    assert seen(world, consumer) == []
    assert (world.view(A).ready, world.view(A).unsettled) == (2, 0)
    world.run_store()
    assert seen(world, consumer) == [b"1", b"2"]


def test_what_comes_behind_one_that_waits_waits_as_well() -> None:
    """Of the same priority, persistent or not: the order is that of sending."""
    world, producer, consumer = make_world()
    world.send(producer, A, [b"1"])
    world.send(producer, A, [b"2"], persistent=True)
    world.send(producer, A, [b"3"])

    assert seen(world, consumer) == [b"1"]
    world.run_store()
    assert seen(world, consumer) == [b"2", b"3"]


def test_each_change_shows_what_it_has_written() -> None:
    """Not what comes later."""
    world, producer, consumer = make_world()
    for body in (b"1", b"2"):
        world.send(producer, A, [body], persistent=True)
    world.deliver()
    world.stock.work(1)
    world.hear_store()

    assert seen(world, consumer) == [b"1"]
    world.run_store()
    assert seen(world, consumer) == [b"2"]


def test_other_priorities_and_other_queues_do_not_wait() -> None:
    """A lower priority may be first: the higher one is not there yet."""
    world, producer, consumer = make_world()
    world.subscribe(consumer, B, token=2)
    world.send(producer, A, [b"high"], persistent=True, wishes=Wishes(priority=9))
    world.send(producer, A, [b"low"])
    world.send(producer, B, [b"other"])

    assert sorted(seen(world, consumer)) == [b"low", b"other"]


def test_what_comes_back_is_committed_already() -> None:
    """A second delivery waits for nothing."""
    world, producer, consumer = make_world()
    world.send(producer, A, [b"1"], persistent=True)
    world.run_store()
    offer = world.take_one(consumer)
    world.settle(consumer, offer.serial, 1, Outcome.RELEASED)

    assert seen(world, consumer) == [b"1"]


def test_the_messages_of_a_transaction_are_seen_when_all_of_it_is_committed() -> None:
    """In all of its queues."""
    world, producer, consumer = make_world()
    world.subscribe(consumer, B, token=2)
    parts = [make_send(A, [b"1"], persistent=True), make_send(B, [b"2"], persistent=True)]
    world.tell(producer, make(Kind.TRANSACTION, count=2, payload=[part.raw for part in parts]))

    assert seen(world, consumer) == []
    world.run_store()
    assert sorted(seen(world, consumer)) == [b"1", b"2"]


def test_a_store_that_dies_before_the_commit_delays_it() -> None:
    """The next one is told again."""
    world, producer, consumer = make_world()
    world.send(producer, A, [b"1"], persistent=True)
    world.deliver()
    world.kill_store()
    assert seen(world, consumer) == []

    world.open_store()
    world.run_store()

    assert seen(world, consumer) == [b"1"]


def test_a_rule_makes_it_so_for_some_queues() -> None:
    """Others go on as ever; dead letters follow the policy of their own queue."""
    rule = QueueRule(B, {"visible": Visible.COMMITTED})
    world = World(Policy(queue=QueuePolicy(dead_letter=B), rules=(rule,)), stock=Stock())
    producer, consumer = world.add_child(), world.add_child()
    world.subscribe(consumer, A)
    world.subscribe(consumer, B, token=2)
    world.send(producer, A, [b"1"], persistent=True)
    offer = world.take_one(consumer)
    world.settle(consumer, offer.serial, 1, Outcome.REJECTED)

    assert seen(world, consumer) == []
    world.run_store()
    assert seen(world, consumer) == [b"1"]


# ---------------------------------------------------------------- topics


def test_subscribers_of_a_topic_wait_for_nothing() -> None:
    """A topic keeps nothing for them; a durable subscription is a queue, and has its policy."""
    world, producer, consumer = make_world()
    subscriber = world.add_child()
    world.subscribe(subscriber, TOPIC)
    world.subscribe(consumer, TOPIC, durable=ME, token=2)
    world.run_store()
    world.send(producer, TOPIC, [b"1"], persistent=True)

    assert seen(world, consumer) == []
    assert [envelope.kind for envelope in subscriber.inbox] == [Kind.SEND]
    world.run_store()
    assert seen(world, consumer) == [b"1"]


def test_a_durable_subscription_that_is_deleted_before_the_commit_shows_nothing() -> None:
    """Nor does it leave anything."""
    world, producer, consumer = make_world()
    world.subscribe(consumer, TOPIC, durable=ME, token=2)
    world.send(producer, TOPIC, [b"1"], persistent=True)
    world.delete_durable(consumer, ME, token=2)
    world.run_store()

    assert seen(world, consumer) == []
    assert world.router._queues.window.used == 0
    assert not world.stock.rows


# ---------------------------------------------------------------- delayed messages


def test_a_persistent_delayed_message_is_always_seen_when_its_firing_is_committed() -> None:
    """Whatever the policy: what is in the schedule of the store was never delivered."""
    world, producer, consumer = make_world(QueuePolicy())
    world.send(producer, A, [b"late"], persistent=True, wishes=Wishes(delay=1000))
    world.run_store()
    world.pass_time(1)
    world.turn()
    world.send(producer, A, [b"behind"])

    assert seen(world, consumer) == []
    world.run_store()
    assert seen(world, consumer) == [b"late", b"behind"]


def test_a_repetition_is_seen_when_it_is_committed() -> None:
    """With it, its next time is."""
    world, producer, consumer = make_world(QueuePolicy())
    world.send(producer, A, [b"tick"], persistent=True, wishes=Wishes(delay=1000, period=1000, repeat=-1))
    world.run_store()
    world.pass_time(1)

    assert seen(world, consumer) == []
    world.run_store()
    assert seen(world, consumer) == [b"tick"]


def test_a_delayed_message_that_is_not_persistent_waits_for_no_store() -> None:
    """There is nothing that could be committed."""
    world, producer, consumer = make_world()
    world.send(producer, A, [b"late"], wishes=Wishes(delay=1000))
    world.pass_time(1)

    assert seen(world, consumer) == [b"late"]


# ---------------------------------------------------------------- limits, memory, expiry


def test_a_queue_that_loses_its_oldest_messages_does_so_when_they_are_committed() -> None:
    """Not others in their place, of a higher priority."""
    world, producer, consumer = make_world(QueuePolicy(visible=Visible.COMMITTED, max_length=2, full=Full.DROP_OLDEST))
    world.unsubscribe(consumer)
    world.send(producer, A, [b"high"], wishes=Wishes(priority=9))
    for body in (b"1", b"2", b"3"):
        world.send(producer, A, [body], persistent=True)
    assert world.view(A).ready == 4
    world.run_store()

    assert world.view(A).ready == 2
    world.subscribe(consumer, A)
    assert seen(world, consumer) == [b"high", b"3"]


def test_what_waits_for_its_commit_uses_memory_and_what_has_no_room_is_paged() -> None:
    """And comes back in its order, with all counts even."""
    world, producer, consumer = make_world(queue_memory=10_000)
    world.unsubscribe(consumer)
    for number in range(20):
        world.send(producer, A, [b"%-2000d" % number], persistent=True)
    assert world.router._queues.window.used <= 10_000
    assert world.view(A).paged > 10
    world.run_store()
    world.subscribe(consumer, A)

    assert [int(body) for body in world.consume(consumer)] == list(range(20))
    assert (world.view(A).octets, world.router._queues.window.used) == (0, 0)


def test_what_expires_before_its_commit_is_not_delivered() -> None:
    """It is dropped behind the commit, from the store as well."""
    world, producer, consumer = make_world()
    world.send(producer, A, [b"1"], persistent=True, wishes=Wishes(ttl=1000))
    world.pass_time(2)
    assert seen(world, consumer) == []
    world.run_store()

    assert seen(world, consumer) == []
    world.run_store()
    assert world.router.counters.messages_expired == 1
    assert not world.stock.rows


def test_a_temporary_queue_waits_for_nothing() -> None:
    """Nothing in it is persistent."""
    world, producer, consumer = make_world()
    world.subscribe(consumer, b"/reply-queue/7-x", token=2, flags=Flag.TEMPORARY)
    world.send(producer, b"/reply-queue/7-x", [b"1"], persistent=True)

    assert seen(world, consumer) == [b"1"]


def test_one_turn_shows_so_many_and_the_next_one_goes_on() -> None:
    """In the order of the changes; what is not committed stays hidden."""
    world, producer, _ = make_world()
    for _ in range(5):
        world.send(producer, A, [b"x"], persistent=True)
    custody, journal = world.router._keeping.custody, world.router._journal
    queue = world.router._queues.find(A)
    assert queue is not None
    shown = []
    for number, most in ((0, 9), (4, 3), (4, 0), (4, 9), (5, 9)):
        journal.committed = number
        custody.commit(number, most)
        shown.append((queue.ready, custody.has_hidden()))

    assert shown == [(0, False), (3, True), (3, True), (4, False), (5, False)]
