"""Transactions count against limits with all that they bring: one message too much, and nothing of them is applied."""

from __future__ import annotations

import pytest

from forkbroker.routing.jobs.planning import NOTHING_PLANNED, TransactionPlan, octets_before_last
from forkbroker.routing.queues.policies import Full, Policy, QueuePolicy, QueueRule
from forkbroker.routing.queues.runs import make_run
from forkbroker.wire.details import Wishes
from forkbroker.wire.envelope import Envelope
from forkbroker.wire.kinds import Flag, Kind

from .simulation import Child, World, make, make_send
from .stock import Stock

A, B, TOPIC = b"/queue/a", b"/queue/b", b"/topic/t"
LATER = Wishes(delay=1000)


def make_world(policy: Policy) -> tuple[World, Child]:
    world = World(policy, stock=Stock())
    return world, world.add_child()


def refusing(**limits: int) -> Policy:
    return Policy(queue=QueuePolicy(full=Full.REFUSE, **limits), durable=QueuePolicy(full=Full.REFUSE, **limits))


def commit(world: World, child: Child, *parts: Envelope) -> str | None:
    """The reason of the refusal, if it was refused."""
    raw = [part.raw for part in parts]
    world.tell(child, make(Kind.TRANSACTION, count=len(raw), payload=raw, flags=Flag.FENCE, number=7))
    world.run_store()
    answer = child.inbox.pop()
    assert answer.number == 7
    return answer.block.decode() if answer.kind is Kind.REFUSED else None


def batches(name: bytes, count: int, most: int = 256, body: bytes = b"x") -> list[Envelope]:
    """So many messages, as a child packs them."""
    return [make_send(name, [body] * min(most, count - start)) for start in range(0, count, most)]


# ---------------------------------------------------------------- lengths


@pytest.mark.parametrize("most", [256, 3, 1])
@pytest.mark.parametrize("before", [0, 4])
@pytest.mark.parametrize(("count", "is_permitted"), [(10, True), (11, False), (900, False)])
def test_a_transaction_may_fill_a_queue_exactly(count: int, is_permitted: bool, before: int, most: int) -> None:
    """In whatever batches it comes, whether the queue exists or not."""
    world, child = make_world(refusing(max_length=10))
    for _ in range(before):
        world.send(child, A, [b"x"])

    reason = commit(world, child, *batches(A, count - before, most))

    assert (reason is None) is is_permitted
    if is_permitted:
        assert world.view(A).ready == 10
        return
    assert reason == "queue /queue/a would have more messages than its limit, 10 (max-queue-length, or a policy)"
    assert [view.ready for view in world.router.views()] == [before] * (before > 0)
    assert world.router.counters.messages_refused == count - before


def test_queues_are_counted_each_by_itself() -> None:
    """And what the transaction brings to topics counts nowhere."""
    world, child = make_world(refusing(max_length=2))

    assert commit(world, child, *batches(A, 2), *batches(B, 2), *batches(TOPIC, 9)) is None
    assert (
        commit(world, child, *batches(A, 1))
        == "queue /queue/a is full: 2 messages, the limit is 2 (max-queue-length, or a policy)"
    )


def test_what_is_dropped_anyway_counts_nowhere() -> None:
    """The temporary queue of a client that is gone is never full."""
    world, child = make_world(refusing(max_length=2))

    assert commit(world, child, *batches(b"/reply-queue/7-x", 9)) is None
    assert world.router.counters.messages_dropped == 9


def test_what_was_refused_is_not_counted_next_time() -> None:
    """A plan lives as long as its transaction."""
    world, child = make_world(refusing(max_length=2))
    assert commit(world, child, *batches(A, 3)) is not None

    assert commit(world, child, *batches(A, 2)) is None


# ---------------------------------------------------------------- octets


def test_octets_count_until_the_limit_is_reached() -> None:
    """The message that reaches it is the last one, as without a transaction."""
    memory = make_run(make_send(A, [b"x" * 1000]), 1).memory
    world, child = make_world(refusing(max_bytes=3 * memory))
    alone = [make_send(A, [b"x" * 1000])]

    assert commit(world, child, *alone * 4) == (
        f"queue /queue/a would have more bytes than its limit, {3 * memory:,} (max-queue-bytes, or a policy)"
    )
    assert world.router.views() == []
    assert commit(world, child, *alone * 3) is None


def test_one_message_larger_than_the_limit_is_taken_as_it_is_without_a_transaction() -> None:
    """By an empty queue."""
    world, child = make_world(refusing(max_bytes=1000))

    assert commit(world, child, make_send(A, [b"x" * 5000])) is None


def test_the_last_message_of_a_batch_does_not_count_against_itself() -> None:
    """Of different sizes as of like ones."""
    for bodies in ([b"x" * 10, b"y" * 70, b"z" * 500], [b"x" * 10] * 3, [b"z" * 500]):
        run = make_run(make_send(A, bodies), 1)

        assert octets_before_last(run) == run.memory - run.overhead - len(bodies[-1])


# ---------------------------------------------------------------- other limits


def test_queues_that_a_transaction_makes_count() -> None:
    """Each once."""
    world, child = make_world(Policy(max_queues=2))

    assert commit(world, child, *batches(A, 1), *batches(B, 1), *batches(b"/queue/c", 1)) == (
        "queue /queue/c does not exist, and there are 2 already, the limit (max-queues)"
    )
    assert world.router.views() == []
    assert commit(world, child, *batches(A, 1), *batches(B, 1), *batches(A, 1)) is None


def test_delayed_messages_of_a_transaction_count() -> None:
    """Against the memory of all of them."""
    part = make_send(A, [b"x" * 1000], wishes=LATER)
    memory = make_run(part, 1).memory
    world, child = make_world(Policy(max_delayed_bytes=3 * memory))

    assert "the limit (max-delayed-bytes)" in (commit(world, child, *[part] * 4) or "")
    assert world.router.counters.messages_delayed == 0
    assert commit(world, child, *[part] * 3) is None
    assert world.router.counters.messages_delayed == 3


def test_durable_subscriptions_that_refuse_count_too() -> None:
    """Each what its own topics bring."""
    world, child = make_world(refusing(max_length=2))
    world.subscribe(child, TOPIC, durable=b"/dsub/one", credit=0)
    world.subscribe(child, b"/topic/#", durable=b"/dsub/all", token=2, credit=0)

    assert commit(world, child, *batches(TOPIC, 1), *batches(b"/topic/u", 2)) == (
        "durable subscription /dsub/all would have more messages than its limit, 2 (max-queue-length, or a policy)"
    )
    assert [view.ready for view in world.router.views()] == [0, 0]
    assert commit(world, child, *batches(TOPIC, 1), *batches(b"/topic/u", 1)) is None


def test_a_queue_that_holds_takes_all_of_it_unless_its_producer_consumes_from_it() -> None:
    """The producer waits afterwards; one that could not acknowledge then is refused instead."""
    world, child = make_world(Policy(queue=QueuePolicy(max_length=3)))
    assert commit(world, child, *batches(A, 5)) is None
    assert [envelope.kind for envelope in child.inbox] == [Kind.HOLD]

    world.subscribe(child, B, credit=0)
    assert commit(world, child, *batches(B, 4)) == (
        "queue /queue/b would have more messages than its limit, 3 (max-queue-length, or a policy)"
    )


@pytest.mark.parametrize("full", [Full.DROP_OLDEST, Full.DEAD_LETTER])
def test_a_queue_that_makes_room_takes_all_of_it(full: Full) -> None:
    """And keeps the newest."""
    world, child = make_world(Policy(rules=(QueueRule(A, {"full": full, "max_length": 2}),)))

    assert commit(world, child, *batches(A, 5, most=2)) is None
    assert world.view(A).ready == 2


def test_what_memory_has_no_room_for_is_refused_while_the_store_takes_nothing() -> None:
    """All of it counts, not only what was there before."""
    world, child = make_world(Policy(queue_memory=100_000, queue=QueuePolicy(full=Full.REFUSE)))
    world.router.receive_stored(make(Kind.DISK, token=1, block=b"disk is full"), 0.0)

    assert commit(world, child, *batches(A, 20, most=1, body=b"x" * 10_000)) == (
        "queue /queue/a accepts no more messages: disk is full"
    )
    assert commit(world, child, *batches(A, 5, most=1, body=b"x" * 10_000)) is None


def test_a_plan_starts_empty() -> None:
    """And knows each queue by its name."""
    for plan in (NOTHING_PLANNED, TransactionPlan()):
        assert (plan.made, plan.delayed_octets, plan.repeating) == (set(), 0, 0)
        assert (plan.messages(A), plan.octets(A)) == (0, 0)
    plan = TransactionPlan()
    plan.add(A, make_run(make_send(A, [b"1", b"2"]), 1))

    assert (plan.messages(A), plan.messages(B), plan.octets(B)) == (2, 0, 0)
    assert plan.octets(A) == make_run(make_send(A, [b"1", b"2"]), 1).memory
