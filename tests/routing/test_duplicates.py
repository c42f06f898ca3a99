"""Messages that are sent twice."""

from __future__ import annotations

import pytest

from forkbroker.routing.jobs.duplicates import MAX_REMEMBERED, Duplicates
from forkbroker.routing.queues.policies import Full, Policy, QueuePolicy
from forkbroker.wire.details import Wishes
from forkbroker.wire.kinds import Flag, Kind

from .simulation import Child, World, make, make_send
from .stock import Stock
from .twins import carry, hand_over

A, B = b"/queue/a", b"/queue/b"
ONCE = Wishes(dedup_id=b"once")


def make_world(policy: QueuePolicy | None = None) -> tuple[World, Child, Child]:
    world = World(Policy(queue=policy or QueuePolicy()), slots=64, stock=Stock())
    return world, world.add_child(), world.add_child()


def contents(world: World, consumer: Child, name: bytes = A) -> list[bytes]:
    token = max(consumer.tokens, default=0) + 1
    world.subscribe(consumer, name, token=token)
    return world.consume(consumer)


# ---------------------------------------------------------------- which is the same


def test_the_first_one_counts_and_the_others_have_their_receipts() -> None:
    """Whoever sends them, and whatever is in them."""
    world, producer, other = make_world()
    world.send(producer, A, [b"1"], wishes=ONCE, fence=1)
    world.send(producer, A, [b"2"], wishes=ONCE, fence=2)
    world.send(other, A, [b"3"], wishes=ONCE, fence=3)

    assert world.answers(producer) == [(Kind.FENCED, 1), (Kind.FENCED, 2)]
    assert world.answers(other) == [(Kind.FENCED, 3)]
    assert contents(world, other) == [b"1"]
    assert world.router.counters.messages_deduplicated == 2


def test_the_same_id_elsewhere_or_another_id_here_is_another_message() -> None:
    """Ids belong to their destination; no id is never the same."""
    world, producer, consumer = make_world()
    world.send(producer, A, [b"1"], wishes=ONCE)
    world.send(producer, B, [b"2"], wishes=ONCE)
    world.send(producer, A, [b"3"], wishes=Wishes(dedup_id=b"another"))
    world.send(producer, A, [b"4"])
    world.send(producer, A, [b"4"])

    assert contents(world, consumer) == [b"1", b"3", b"4", b"4"]
    assert contents(world, consumer, B) == [b"2"]


def test_an_id_is_remembered_after_its_message_is_done() -> None:
    """For the window of its queue; a message that was not accepted doesn't prolong it."""
    world, producer, consumer = make_world(QueuePolicy(dedup_window=10_000))
    world.subscribe(consumer, A)
    found = []
    for _ in range(25):
        world.send(producer, A, [b"x"], wishes=ONCE)
        found.append(len(world.consume(consumer)))
        world.pass_time(1)

    assert [second for second, count in enumerate(found) if count] == [0, 10, 20]


def test_of_a_transaction_too_the_first_one_counts() -> None:
    """Within it as well."""
    world, producer, consumer = make_world()
    parts = [make_send(A, [body], wishes=ONCE, persistent=True).raw for body in (b"1", b"2")]

    for number in (7, 8):
        world.tell(producer, make(Kind.TRANSACTION, count=2, payload=parts, flags=Flag.FENCE, number=number))

    world.run_store()
    assert world.answers(producer) == [(Kind.FENCED, 7), (Kind.FENCED, 8)]
    assert contents(world, consumer) == [b"1"]


def test_what_was_refused_is_not_remembered() -> None:
    """It may be sent again."""
    world, producer, consumer = make_world(QueuePolicy(max_length=1, full=Full.REFUSE))
    world.send(producer, A, [b"1"])
    world.send(producer, A, [b"2"], wishes=ONCE)
    assert world.answers(producer) == [(Kind.REFUSED, 0)]
    assert contents(world, consumer) == [b"1"]
    world.send(producer, A, [b"2"], wishes=ONCE)

    assert world.consume(consumer) == [b"2"]


def test_a_delayed_message_is_remembered_from_its_sending_on() -> None:
    """And its repetitions are not the same message."""
    world, producer, consumer = make_world()
    wishes = Wishes(dedup_id=b"once", delay=1000, period=1000, repeat=2)
    world.send(producer, A, [b"x"], wishes=wishes)
    world.send(producer, A, [b"y"], wishes=wishes)
    world.subscribe(consumer, A)

    found = []
    for _ in range(5):
        world.pass_time(1)
        found += world.consume(consumer)

    assert found == [b"x", b"x", b"x"]


def test_a_duplicate_makes_no_queue() -> None:
    """The first one was consumed, and the queue forgotten."""
    world, producer, consumer = make_world()
    world.send(producer, A, [b"1"], wishes=ONCE)
    assert contents(world, consumer) == [b"1"]
    world.unsubscribe(consumer)

    world.send(producer, A, [b"1"], wishes=ONCE)

    assert world.router.views() == []


def test_each_durable_subscription_remembers_for_itself() -> None:
    """One that was made later has not had the message."""
    world, producer, one = make_world()
    two = world.add_child()
    world.subscribe(one, b"/topic/t", durable=b"/dsub/one")
    world.send(producer, b"/topic/t", [b"1"], wishes=ONCE)
    world.subscribe(two, b"/topic/t", durable=b"/dsub/two")
    world.send(producer, b"/topic/t", [b"1"], wishes=ONCE)

    assert (world.consume(one), world.consume(two)) == ([b"1"], [b"1"])


# ---------------------------------------------------------------- the store


def test_the_receipt_of_a_duplicate_says_that_the_first_one_is_written() -> None:
    """Not that it was heard; who sends it waits as who sent the first one."""
    world, producer, other = make_world()
    world.send(producer, A, [b"1"], wishes=ONCE, persistent=True, fence=1)
    world.deliver()

    world.send(other, A, [b"1"], wishes=ONCE, persistent=True, fence=2)
    assert world.answers(other) == []
    world.run_store()

    assert world.answers(other) == [(Kind.FENCED, 2)]
    world.send(other, A, [b"1"], wishes=ONCE, persistent=True, fence=3)
    assert world.answers(other) == [(Kind.FENCED, 3)]


def test_the_receipt_of_a_duplicate_waits_for_the_transaction_that_sent_the_first_one() -> None:
    """Its number is not given before its end."""
    world, producer, other = make_world()
    world.send(producer, B, [b"0"], persistent=True)
    world.run_store()
    part = make_send(A, [b"1"], wishes=ONCE, persistent=True).raw
    world.tell(producer, make(Kind.TRANSACTION, count=1, payload=[part]))

    world.send(other, A, [b"1"], wishes=ONCE, persistent=True, fence=2)
    assert world.answers(other) == []
    world.run_store()

    assert world.answers(other) == [(Kind.FENCED, 2)]


@pytest.mark.parametrize("is_committed", [True, False])
def test_after_a_restart_an_id_is_remembered_if_its_message_is_there(is_committed: bool) -> None:
    """Both or none: else the second one would be lost, or the message be there twice."""
    world, producer, _ = make_world()
    world.send(producer, A, [b"1"], wishes=ONCE, persistent=True)
    world.deliver()
    if is_committed:
        world.run_store()
    world.stock.kill()
    world = World(stock=world.stock)
    producer, consumer = world.add_child(), world.add_child()

    world.send(producer, A, [b"1"], wishes=ONCE, persistent=True)

    assert contents(world, consumer) == [b"1"]
    assert world.router.counters.messages_deduplicated == is_committed


# ---------------------------------------------------------------- memory


def test_ids_whose_time_is_over_use_no_memory() -> None:
    """They go when others come."""
    duplicates = Duplicates()
    for number in range(100):
        duplicates.remember(A, b"%d" % number, until_ms=number + 10, number=0, now_ms=number)

    assert len(duplicates) == 10
    assert duplicates.find(A, b"99", 108) == 0
    assert duplicates.find(A, b"99", 109) is None


def test_so_many_ids_are_remembered_and_no_more() -> None:
    """The oldest ones are forgotten before their time."""
    duplicates = Duplicates()
    for number in range(MAX_REMEMBERED + 5):
        duplicates.remember(A, b"%d" % number, until_ms=10**15, number=number, now_ms=0)

    assert len(duplicates) == MAX_REMEMBERED
    assert duplicates.find(A, b"4", 0) is None
    assert duplicates.find(A, b"5", 0) == 5


def test_an_id_that_comes_again_after_its_time_is_young_again() -> None:
    """It stands behind those that came in between."""
    duplicates = Duplicates()
    duplicates.remember(A, b"x", until_ms=10, number=1, now_ms=0)
    duplicates.remember(A, b"y", until_ms=100, number=2, now_ms=5)
    duplicates.remember(A, b"x", until_ms=300, number=3, now_ms=20)
    duplicates.remember(A, b"z", until_ms=400, number=4, now_ms=150)

    assert duplicates.find(A, b"x", 200) == 3
    assert len(duplicates) == 2


def test_several_ids_whose_time_is_over_go_at_once() -> None:
    """When another one comes; the last of all goes as well, if its own time is over already."""
    duplicates = Duplicates()
    for number in range(5):
        duplicates.remember(A, b"%d" % number, until_ms=10, number=1, now_ms=0)
    assert len(duplicates) == 5
    duplicates.remember(A, b"x", until_ms=50, number=1, now_ms=20)
    assert len(duplicates) == 1

    duplicates.remember(A, b"y", until_ms=60, number=1, now_ms=60)
    assert len(duplicates) == 0


def test_without_a_window_nothing_is_the_same() -> None:
    """`dedup-window=0`: each message is accepted, whatever its id."""
    world, producer, consumer = make_world(QueuePolicy(dedup_window=0))
    for body in (b"1", b"2"):
        world.send(producer, A, [body], wishes=ONCE)

    assert contents(world, consumer) == [b"1", b"2"]
    assert len(world.router._jobs.intake._duplicates) == 0


def test_a_long_name_costs_no_more_memory_than_a_short_one() -> None:
    """A client chooses both: 200,000 ids of queues with 9 KiB names would be 1.9 GiB."""
    duplicates = Duplicates()
    for number in range(100):
        name = b"/queue/%s%d" % (b"x" * 9000, number)
        duplicates.remember(name, b"i" * 255, until_ms=100, number=number, now_ms=0)

    assert sum(map(len, duplicates._ids)) <= 100 * 32
    assert duplicates.find(b"/queue/%s7" % (b"x" * 9000), b"i" * 255, 0) == 7


def test_a_name_and_an_id_are_not_taken_for_another_name_and_another_id() -> None:
    """Though side by side they are the same octets."""
    duplicates = Duplicates()
    duplicates.remember(b"/queue/a", b"bc", until_ms=100, number=1, now_ms=0)

    assert duplicates.find(b"/queue/ab", b"c", 0) is None
    assert duplicates.find(b"/queue/a", b"bc", 0) == 1


# ---------------------------------------------------------------- in another router


def test_ids_are_remembered_in_another_router() -> None:
    """For as long as they would have been, and with the change that has to be committed for a receipt."""
    duplicates = Duplicates()
    duplicates.remember(A, b"one", 1_000, 7, 0)
    duplicates.remember(B, b"two", 2_000, 0, 0)

    duplicates = carry(duplicates, Duplicates())

    assert (duplicates.find(A, b"one", 999), duplicates.find(A, b"one", 1_000)) == (7, None)
    assert (duplicates.find(B, b"two", 1_999), duplicates.find(B, b"one", 0)) == (0, None)


def test_a_message_that_is_sent_again_to_another_router_is_the_same() -> None:
    """Its receipt waits for the first one to be committed."""
    world, producer, _ = make_world()
    world.send(producer, A, [b"1"], wishes=ONCE, persistent=True)

    hand_over(world)
    world.send(producer, A, [b"2"], wishes=ONCE, persistent=True, fence=1)

    assert (world.answers(producer), world.view(A).ready) == ([], 1)
    world.run_store()
    assert world.answers(producer) == [(Kind.FENCED, 1)]
