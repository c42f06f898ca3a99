"""Not enough room: memory is used up and no store works, the disk is nearly full, or the store is far behind."""

from __future__ import annotations

import pytest

from forkbroker.routing.queues.policies import Full, Policy, QueuePolicy
from forkbroker.wire.details import Wishes
from forkbroker.wire.envelope import pack_settle
from forkbroker.wire.kinds import Kind, Outcome

from .simulation import Child, World, make, make_send
from .stock import Stock

A, TOPIC = b"/queue/a", b"/topic/t"
WHY = "no space left on /var"


def make_world(policy: QueuePolicy | None = None, *, memory: int = 1 << 26) -> tuple[World, Child]:
    world = World(Policy(queue=policy or QueuePolicy(), queue_memory=memory), slots=64, stock=Stock())
    return world, world.add_child()


def say_disk(world: World, *, is_short: bool) -> None:
    reason, room = (WHY.encode(), 0) if is_short else (b"", 1 << 40)
    world.router.receive_stored(make(Kind.DISK, token=int(is_short), block=reason, serial=room), 0.0)


# ---------------------------------------------------------------- memory without a store


def test_a_queue_that_memory_has_no_room_for_holds_its_producers() -> None:
    """Until there is a store that writes, or consumers have made room."""
    for is_opened in (True, False):
        world, child = make_world(memory=100_000)
        reader = world.add_child()
        world.kill_store(WHY)
        for number in range(9):
            world.send(child, A, [b"%-10000d" % number])
        assert world.answers(child) == [(Kind.HOLD, 0)]

        if is_opened:
            world.open_store()
            world.run_store()
        else:
            world.subscribe(reader, A)
            world.consume(reader)

        assert world.answers(child) == [(Kind.RESUME, 0)]


def test_a_queue_that_is_forgotten_at_once_holds_nobody() -> None:
    """What was sent to it waits for its time, and nothing leaves it that would let its producer go on."""
    world, producer = make_world(memory=100_000)
    reader = world.add_child()
    world.kill_store(WHY)
    world.subscribe(reader, A)
    world.send(world.add_child(), A, [bytes(200_000)])
    world.take_one(reader)
    assert world.router._queues.window.free < 0

    world.send(producer, b"/queue/b", [b"later"], wishes=Wishes(delay=1_000))

    assert world.answers(producer) == []
    assert [view.name for view in world.router.views()] == [A]


def test_the_spilled_messages_of_a_store_that_failed_are_not_lost() -> None:
    """What was told and not committed is told again, and comes in its order."""
    world, child = make_world(memory=100_000)
    reader = world.add_child()
    for number in range(12):
        world.send(child, A, [b"%-10000d" % number])
    world.deliver()
    world.stock.work(2)
    world.kill_store(WHY)
    for number in range(12, 15):
        world.send(child, A, [b"%-10000d" % number])
    world.open_store()
    world.subscribe(reader, A)

    assert list(map(int, world.consume(reader))) == list(range(15))
    assert world.router._queues.window.used == 0


@pytest.mark.parametrize("full", [Full.DROP_OLDEST, Full.DEAD_LETTER])
def test_a_queue_that_may_lose_messages_loses_what_there_is_no_room_for(full: Full) -> None:
    """It neither holds who sends, nor uses memory without bound; what it had stays."""
    world, child = make_world(QueuePolicy(full=full), memory=100_000)
    reader = world.add_child()
    world.kill_store(WHY)

    for number in range(30):
        world.send(child, A, [b"%-10000d" % number])

    assert world.answers(child) == []
    assert world.router._journal.octets == 0
    world.open_store()
    world.subscribe(reader, A)
    kept = list(map(int, world.consume(reader)))
    assert kept == list(range(len(kept)))
    assert world.router.counters.messages_dropped == 30 - len(kept) > 0


# ---------------------------------------------------------------- the disk


def test_a_disk_that_is_nearly_full_refuses_as_a_store_that_failed() -> None:
    """But it takes acknowledgements, which make room; and it says when there is room again."""
    world, child = make_world()
    worker = world.add_child()
    world.send(child, A, [b"1"], persistent=True)
    say_disk(world, is_short=True)

    world.send(child, A, [b"2"], persistent=True)
    assert world.refusal(child) == f"persistent messages cannot be stored now: {WHY}"
    world.subscribe(worker, A)
    assert world.consume(worker) == [b"1"]
    world.run_store()
    assert not world.stock.rows
    say_disk(world, is_short=False)
    world.send(child, A, [b"3"], persistent=True)

    assert world.answers(child) == []
    assert world.consume(worker) == [b"3"]


def test_room_on_the_disk_lets_producers_go_on() -> None:
    """Those of deep queues, which the disk has held."""
    world, child = make_world(memory=100_000)
    say_disk(world, is_short=True)
    for number in range(9):
        world.send(child, A, [b"%-10000d" % number])
    assert world.answers(child) == [(Kind.HOLD, 0)]

    say_disk(world, is_short=False)

    assert world.answers(child) == [(Kind.RESUME, 0)]


def test_delayed_messages_that_are_not_persistent_need_no_store() -> None:
    """They are in memory."""
    world, child = make_world()
    reader = world.add_child()
    world.subscribe(reader, A)
    world.kill_store(WHY)
    world.send(child, A, [b"1"], wishes=Wishes(delay=1000))
    world.pass_time(1)

    assert world.consume(reader) == [b"1"]


def test_publishers_to_durable_subscriptions_are_held_when_the_store_is_far_behind() -> None:
    """Whatever the policy of the queue: what is told and not committed is in memory."""
    world, child = make_world(memory=1 << 30)
    reader = world.add_child()
    world.subscribe(reader, TOPIC, durable=b"/dsub/me")
    world.run_store()
    envelope = make_send(TOPIC, [b"x" * (1 << 20)], persistent=True)

    for _ in range(64):
        world.tell(child, envelope)

    assert world.answers(child) == [(Kind.HOLD, 0)]


def test_who_was_held_for_a_store_that_was_far_behind_goes_on_when_that_has_failed() -> None:
    """It can acknowledge again; what it sends is refused if it is persistent."""
    world, child = make_world(memory=1 << 30)
    envelope = make_send(A, [b"x" * (1 << 20)], persistent=True)
    for _ in range(64):
        world.tell(child, envelope)
    assert world.answers(child) == [(Kind.HOLD, 0)]

    world.kill_store(WHY)

    assert world.answers(child) == [(Kind.RESUME, 0)]


def test_who_settles_while_no_store_works_is_not_held_for_it() -> None:
    """Though what is told and not committed is too much already: nobody could let it go on."""
    world, child = make_world(memory=1 << 30)
    worker = world.add_child()
    for _ in range(64):
        world.tell(child, make_send(A, [b"x" * (1 << 20)], persistent=True))
    world.kill_store(WHY)
    world.subscribe(worker, A, credit=1)
    offer = world.take_one(worker)
    settle = pack_settle(1, [(offer.serial, 1, Outcome.ACKNOWLEDGED)])[0]

    world.tell(worker, make(Kind.TRANSACTION, count=1, payload=[settle]))

    assert world.answers(worker) == []


# ---------------------------------------------------------------- the room that is left


def say_room(world: World, octets: int) -> None:
    """The store has room for so much."""
    world.router.receive_stored(make(Kind.DISK, serial=octets), 0.0)


def test_producers_are_held_before_they_have_used_up_the_room() -> None:
    """By a quarter of it, as the store needs more than it is told, and knows nothing of what is on its way."""
    world, child = make_world()
    say_room(world, 400_000)

    world.send(child, A, [bytes(90_000)], persistent=True)
    assert world.answers(child) == []
    world.send(child, A, [bytes(10_000)], persistent=True)
    assert world.answers(child) == [(Kind.HOLD, 0)]
    world.run_store()

    assert world.answers(child) == [(Kind.RESUME, 0)]


def test_what_is_larger_than_the_room_is_refused() -> None:
    """Exactly so large it would fit; what is not persistent needs none."""
    world, child = make_world()
    octets = len(make_send(A, [bytes(90_000)], persistent=True).raw)

    say_room(world, octets - 1)
    world.send(child, A, [bytes(90_000)], persistent=True)
    assert f"room for {octets - 1:,} bytes" in world.refusal(child)
    world.send(child, A, [bytes(90_000)])
    say_room(world, octets)
    world.send(child, A, [bytes(90_000)], persistent=True)
    world.run_store()

    assert [kind for kind, _ in world.answers(child)] == [Kind.HOLD, Kind.RESUME]


def test_a_shortage_lets_go_who_was_held_for_the_store() -> None:
    """What it brings now is refused: that is better than silence."""
    world, child = make_world()
    say_room(world, 40_000)
    world.send(child, A, [bytes(20_000)], persistent=True)
    assert world.answers(child) == [(Kind.HOLD, 0)]

    world.router.receive_stored(make(Kind.DISK, token=1, block=WHY.encode()), 0.0)

    assert world.answers(child) == [(Kind.RESUME, 0)]
    world.send(child, A, [b"x"], persistent=True)
    assert world.refusal(child).endswith(WHY)
