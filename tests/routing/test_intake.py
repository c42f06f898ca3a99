"""What comes into queues, what does not, and in which order the reasons of a refusal count."""

from __future__ import annotations

import pytest

from forkbroker.errors import EnvelopeError
from forkbroker.routing.jobs.intake import _judge
from forkbroker.routing.queues.policies import Full, Policy, QueuePolicy
from forkbroker.wire.details import Wishes
from forkbroker.wire.kinds import Flag, Kind

from .simulation import Child, World, make, make_send
from .stock import Stock

A, B = b"/queue/a", b"/queue/b"
REPLY = b"/reply-queue/7-x"
ONCE = Wishes(dedup_id=b"once")


def make_world(queue: QueuePolicy | None = None, **policy: int) -> tuple[World, Child]:
    world = World(Policy(queue=queue or QueuePolicy(), **policy), slots=64, stock=Stock())  # type: ignore[arg-type]
    return world, world.add_child()


def refused(world: World, child: Child) -> bool:
    """Whether the last thing that the child heard is a refusal."""
    return Kind.REFUSED in [kind for kind, _ in world.answers(child)]


# ---------------------------------------------------------------- what is accepted


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("wishes", [Wishes(), Wishes(delay=1000), ONCE])
def test_what_is_sent_to_a_reply_queue_of_nobody_makes_no_queue(persistent: bool, wishes: Wishes) -> None:
    """It is dropped, counted and fenced, and nothing stays of it, in memory, in the schedule or in the store."""
    world, producer = make_world()
    world.send(producer, REPLY, [b"1", b"2"], persistent=persistent, wishes=wishes, fence=3)
    world.run_store()

    assert world.answers(producer) == [(Kind.FENCED, 3)]
    assert world.router.views() == []
    assert world.router.counters.messages_dropped == 2
    assert (len(world.router._timers), len(world.router._jobs.intake._duplicates), world.stock.rows) == (0, 0, {})


def test_a_send_that_cannot_be_decoded_makes_no_queue() -> None:
    """Its child ends by it."""
    world, producer = make_world()
    send = make(Kind.SEND, destination=A, count=3, block=b"-s-1\n\n", payload=[b"\0\0\0\1"])

    with pytest.raises(EnvelopeError):
        world.tell(producer, send)
    assert world.router.views() == []


def test_what_is_sent_twice_is_counted_and_leaves_no_queue_behind() -> None:
    """Neither is it an error for its sender, nor does it hold it."""
    world, producer = make_world(QueuePolicy(max_length=1, full=Full.DROP_OLDEST))
    for number in range(3):
        world.send(producer, A, [b"1"], wishes=ONCE, fence=number + 1)

    assert world.answers(producer) == [(Kind.FENCED, 1), (Kind.FENCED, 2), (Kind.FENCED, 3)]
    assert world.router.counters.messages_deduplicated == 2
    assert world.view(A).ready == 1


def test_an_id_of_a_message_that_is_not_persistent_waits_for_no_change_of_the_store() -> None:
    """Its second sender is answered at once, whatever else is being written."""
    world, producer = make_world()
    other = world.add_child()
    world.send(other, B, [b"x"], persistent=True)
    world.send(producer, A, [b"1"], wishes=ONCE)
    world.send(producer, A, [b"1"], wishes=ONCE, fence=2)

    assert world.answers(producer) == [(Kind.FENCED, 2)]


# ---------------------------------------------------------------- what is refused


def test_a_persistent_message_is_refused_while_the_store_fails_and_others_are_not() -> None:
    """Unless its queue is temporary: nothing is persistent there."""
    world, producer = make_world()
    world.subscribe(producer, REPLY, flags=Flag.TEMPORARY)
    world.kill_store("the disk is gone")
    for name, persistent, expected in ((A, True, True), (A, False, False), (REPLY, True, False)):
        world.send(producer, name, [b"x"], persistent=persistent)

        assert refused(world, producer) is expected, (name, persistent)


def test_a_queue_that_makes_all_its_messages_persistent_refuses_them_all_then() -> None:
    """Whatever their senders say."""
    world, producer = make_world(QueuePolicy(persistent=True))
    world.kill_store("the disk is gone")
    world.send(producer, A, [b"x"])

    assert world.refusal(producer) == "persistent messages cannot be stored now: the disk is gone"
    assert world.router.views() == []


def test_the_limit_of_queues_is_for_new_ones() -> None:
    """What is sent to one that exists is accepted, delayed or not; one that is planned counts once."""
    world, producer = make_world(max_queues=2)
    world.subscribe(producer, A)
    parts = [make_send(B, [b"x"]).raw, make_send(B, [b"y"]).raw, make_send(A, [b"z"]).raw]
    world.tell(producer, make(Kind.TRANSACTION, count=3, payload=parts, flags=Flag.FENCE, number=1))

    assert world.answers(producer) == [(Kind.FENCED, 1)]
    world.send(producer, b"/queue/c", [b"x"])
    assert refused(world, producer)
    world.send(producer, A, [b"x"], wishes=Wishes(delay=1000))
    assert not refused(world, producer)


def test_a_transaction_that_would_make_too_many_queues_makes_none() -> None:
    """Delayed ones count as well."""
    world, producer = make_world(max_queues=2)
    wishes = Wishes(delay=1000)
    parts = [make_send(b"/queue/%d" % number, [b"x"], wishes=wishes).raw for number in range(3)]
    world.tell(producer, make(Kind.TRANSACTION, count=3, payload=parts))

    assert world.refusal(producer).endswith("the limit (max-queues)")
    assert (world.router.views(), len(world.router._timers)) == ([], 0)


def test_what_is_delayed_is_not_refused_for_memory_that_others_use() -> None:
    """The limit of delayed messages is theirs: a priority alone is no delay."""
    world, producer = make_world(max_delayed_bytes=5000)
    world.send(producer, A, [b"x" * 5000], wishes=Wishes(delay=1000))
    world.send(producer, A, [b"x"], wishes=Wishes(priority=7))
    assert not refused(world, producer)

    world.send(producer, A, [b"x"], wishes=Wishes(delay=1))
    assert refused(world, producer)


@pytest.mark.parametrize(
    ("wishes", "expires_s"),
    [(Wishes(), 3), (Wishes(ttl=5000), 5), (Wishes(ttl=1000), 1)],
    ids=["none", "longer", "shorter"],
)
def test_the_ttl_of_a_queue_is_for_messages_that_say_nothing(wishes: Wishes, expires_s: int) -> None:
    """What a sender asks for counts, also where it is longer."""
    details = _judge(wishes, QueuePolicy(ttl=3000), 100_000, persistent=False)

    assert details.expires == 100_000 + 1000 * expires_s
