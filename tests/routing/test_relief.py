"""Memory that holds in sum: what no consumer can have now is in the store alone, however many queues there are."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from forkbroker.routing.queues.policies import Policy, QueuePolicy
from forkbroker.wire.details import Wishes
from forkbroker.wire.kinds import Flag, Kind, Outcome

from .simulation import DLQ, Child, World
from .stock import Stock

A = b"/queue/a"
MEMORY = 200_000
LARGE = 60_000
QUEUES = [b"/queue/%02d" % number for number in range(20)]


def make_world(**rest: object) -> tuple[World, Child]:
    world = World(Policy(queue_memory=MEMORY, **rest), slots=64, stock=Stock())  # type: ignore[arg-type]
    return world, world.add_child()


def send(world: World, child: Child, name: bytes, *numbers: int, persistent: bool = False, **wishes: int) -> None:
    for number in numbers:
        body = b"%-*d" % (LARGE, number)
        world.send(child, name, [body], persistent=persistent, wishes=Wishes(**wishes))  # type: ignore[arg-type]


def settle_down(world: World) -> None:
    """All that follows from what was done has been done, by the broker and by the store."""
    for _ in range(4):
        world.turn()
        world.run_store()


def used(world: World) -> int:
    """What the queues say that they use, which must be what they have."""
    queues = world.router._queues
    for queue in queues.all():
        ready = sum(run.memory for lane in queue.lanes for run in lane.runs())
        assert queue.ready == sum(lane.ready for lane in queue.lanes)
        assert ready == sum(lane.memory for lane in queue.lanes) <= queue.memory
    assert queues.window.used == sum(queue.memory for queue in queues.all())
    return queues.window.used


def contents(world: World, name: bytes) -> list[int]:
    child = world.add_child()
    world.subscribe(child, name)
    found = list(map(int, world.consume(child)))
    world.end(child)
    return found


def assert_nothing_is_left(world: World) -> None:
    """No message anywhere, and all sums are zero."""
    settle_down(world)
    assert world.router.views() == []
    assert (used(world), world.router._queues.window.asked) == (0, 0)
    assert not (world.stock.rows or world.stock.spilled)


# ---------------------------------------------------------------- what comes


@pytest.mark.parametrize("persistent", [False, True])
def test_many_queues_without_consumers_keep_to_the_sum(persistent: bool) -> None:
    """Each has one large message, and more: beyond the sum nothing is in memory, and nothing is lost."""
    world, child = make_world()

    for name in QUEUES:
        send(world, child, name, 1, 2, persistent=persistent)
        assert used(world) <= MEMORY

    settle_down(world)
    assert [contents(world, name) for name in QUEUES] == [[1, 2]] * len(QUEUES)
    assert_nothing_is_left(world)


def test_one_message_larger_than_all_memory_waits_in_the_store() -> None:
    """And is delivered when somebody wants it."""
    world, child = make_world()

    world.send(child, A, [b"%-*d" % (5 * MEMORY, 7)])

    assert (used(world), world.view(A).paged) == (0, 1)
    assert contents(world, A) == [7]
    assert_nothing_is_left(world)


def test_what_a_consumer_can_have_at_once_needs_no_store() -> None:
    """Also when others use all the memory; the next one does, until the consumer has acknowledged."""
    world, child = make_world()
    for name in QUEUES:
        send(world, child, name, 1)
    settle_down(world)
    reader = world.add_child()
    world.subscribe(reader, A, credit=1)
    before = world.router.counters.messages_spilled

    world.send(child, A, [b"%-*d" % (MEMORY, 1)])
    offer = world.take_one(reader)
    world.send(child, A, [b"%-*d" % (MEMORY, 2)])

    assert int(offer.pieces()[0]) == 1
    assert (world.router.counters.messages_spilled - before, world.view(A).paged) == (1, 1)
    world.settle(reader, offer.serial)
    assert list(map(int, world.consume(reader))) == [2]


# ---------------------------------------------------------------- what came back from the store


def leave_after_page_in(world: World, reader: Child, name: bytes) -> None:
    """The consumer has credit, the store was asked, and the consumer is gone when the answer comes."""
    world.subscribe(reader, name, credit=1)
    world.turn()
    for offer in reader.inbox:
        world.answer(reader, Kind.PASSED, offer)
    world.unsubscribe(reader)


def leave_with_an_offer(world: World, reader: Child, name: bytes) -> None:
    """The consumer was offered a message, and didn't take it."""
    world.subscribe(reader, name, credit=1)
    settle_down(world)
    world.answer(reader, Kind.PASSED, world.read(reader, Kind.OFFER))
    world.hear(reader)
    world.unsubscribe(reader)


def leave_with_a_message(world: World, reader: Child, name: bytes) -> None:
    """The consumer has a message, and gives it back."""
    world.subscribe(reader, name, credit=1)
    settle_down(world)
    offer = world.read(reader, Kind.OFFER)
    assert world.claim(reader, offer)
    world.settle(reader, offer.serial, 1, Outcome.RELEASED)
    world.hear(reader)
    world.unsubscribe(reader)


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("leave", [leave_after_page_in, leave_with_an_offer, leave_with_a_message])
def test_what_a_consumer_leaves_goes_back_to_the_store(
    leave: Callable[[World, Child, bytes], None], persistent: bool
) -> None:
    """In its order, once each, with the number of its deliveries; however many queues are left like that."""
    world, child = make_world()
    for name in QUEUES:
        send(world, child, name, 1, 2, 3, persistent=persistent)
    reader = world.add_child()

    for name in QUEUES:
        leave(world, reader, name)
        reader.inbox.clear()
        settle_down(world)
        assert used(world) <= MEMORY

    expected = [int(leave is leave_with_a_message), 0, 0]
    for name in QUEUES:
        other = world.add_child()
        world.subscribe(other, name)
        offers = world.consume_offers(other)
        assert [int(piece) for offer in offers for piece in offer.pieces()] == [1, 2, 3]
        assert [offer.deliveries for offer in offers for _ in offer.pieces()] == expected
        world.end(other)
    assert_nothing_is_left(world)


def fill_memory(world: World, child: Child) -> Child:
    """Nothing is free any more: a consumer, which is returned, holds a message that is larger than all memory."""
    hoarder = world.add_child()
    world.subscribe(hoarder, b"/queue/hoard", credit=1)
    world.send(child, b"/queue/hoard", [b"x" * 2 * MEMORY])
    world.take_one(hoarder)
    return hoarder


@pytest.mark.parametrize("settled", [0, 1, 2, 3])
@pytest.mark.parametrize("persistent", [False, True])
def test_what_was_settled_out_of_its_order_does_not_come_again(settled: int, persistent: bool) -> None:
    """The store may still have it when the others go back there."""
    world, child = make_world()
    for number in range(4):
        world.send(child, A, [b"%d" % number], persistent=persistent)
    for number in range(4, 8):
        send(world, child, A, number, persistent=persistent)
    reader = world.add_child()
    world.subscribe(reader, A, credit=4)
    settle_down(world)
    serials = []
    for offer in world.offers(reader):
        assert world.claim(reader, offer)
        serials += range(offer.serial, offer.serial + offer.count)
    world.settle(reader, serials[settled])
    world.hear(reader)
    fill_memory(world, child)

    world.end(reader)
    settle_down(world)

    assert (world.view(A).paged, world.view(A).ready) == (7, 7)
    assert contents(world, A) == [number for number in range(8) if number != settled]


@pytest.mark.parametrize("credit", [1, 2, 3])
def test_what_has_expired_does_not_come_again_when_all_others_are_persistent(credit: int) -> None:
    """The store still has it in the part that lasts until the broker ends: it would stand for one that is younger."""
    world, child = make_world()
    hoarder = fill_memory(world, child)
    for number in range(10):
        send(world, child, A, number, persistent=number not in (1, 3), ttl=1000 * (number in (1, 3)))
    settle_down(world)
    assert world.view(A).paged == 10
    world.settle(hoarder, 1)
    world.hear(hoarder)
    reader = world.add_child()
    world.subscribe(reader, A, credit=credit)
    settle_down(world)
    world.pass_time(2)
    settle_down(world)
    fill_memory(world, child)

    world.end(reader)
    settle_down(world)

    assert contents(world, A) == [number for number in range(10) if number not in (1, 3)]


def test_a_message_that_came_in_a_batch_keeps_its_place_in_it() -> None:
    """A part of one that was not persistent goes back as what it is: nothing is lost with the beginning."""
    world, child = make_world()
    world.send(child, A, [b"%d" % number for number in range(6)])
    fill_memory(world, child)
    reader = world.add_child()
    world.subscribe(reader, A, credit=2)
    offer = world.take_one(reader)
    assert offer.count == 2
    world.settle(reader, offer.serial + 1)
    world.end(reader)

    settle_down(world)

    assert (world.view(A).ready, world.view(A).paged) == (5, 5)
    assert contents(world, A) == [0, 2, 3, 4, 5]


def test_priorities_stay_apart() -> None:
    """Each one goes back by itself, and comes again in its turn."""
    world, child = make_world()
    for priority in (2, 7):
        for number in range(3):
            world.send(child, A, [b"%d" % (priority * 10 + number)], wishes=Wishes(priority=priority))
    fill_memory(world, child)
    reader = world.add_child()
    leave_with_an_offer(world, reader, A)
    settle_down(world)

    assert world.view(A).paged == 6
    assert contents(world, A) == [70, 71, 72, 20, 21, 22]


def test_what_a_consumer_still_has_keeps_its_queue_in_memory() -> None:
    """Until it is settled or given back: only then is it known what the store is to have."""
    world, child = make_world()
    world.send(child, A, [b"1"])
    world.send(child, A, [b"2"])
    fill_memory(world, child)
    reader = world.add_child()
    world.subscribe(reader, A, credit=1)
    offer = world.take_one(reader)
    settle_down(world)
    assert (world.view(A).ready, world.view(A).paged) == (1, 0)

    world.settle(reader, offer.serial)
    world.hear(reader)
    world.unsubscribe(reader)
    settle_down(world)

    assert (world.view(A).ready, world.view(A).paged) == (1, 1)
    assert contents(world, A) == [2]


def test_while_memory_has_room_nothing_goes_back() -> None:
    """A consumer that left may come again."""
    world, child = make_world()
    world.send(child, A, [b"1"])
    reader = world.add_child()
    leave_with_a_message(world, reader, A)
    settle_down(world)

    assert world.view(A).paged == 0
    assert world.router.counters.messages_spilled == 0


@pytest.mark.parametrize("how", ["ended", "short"])
def test_while_the_store_takes_nothing_all_stays(how: str) -> None:
    """It could not be consumed otherwise."""
    world, child = make_world()
    world.send(child, A, [b"1"])
    fill_memory(world, child)
    if how == "ended":
        world.kill_store()
    else:
        world.stock.say(Kind.DISK, token=1, block=b"disk is full")
        world.hear_store()
    reader = world.add_child()
    world.subscribe(reader, A, credit=1)
    world.unsubscribe(reader)
    world.turn()

    assert (world.view(A).ready, world.view(A).paged) == (1, 0)
    assert contents(world, A) == [1]


def test_a_store_that_dies_meanwhile_doubles_and_loses_nothing() -> None:
    """Between any two words of it."""
    for steps in range(12):
        world, child = make_world()
        for number in range(3):
            world.send(child, A, [b"%d" % number])
        fill_memory(world, child)
        reader = world.add_child()
        leave_with_a_message(world, reader, A)
        for step in range(12):
            world.turn()
            if step == steps:
                world.kill_store(heard=step % 2)
                world.turn()
                world.open_store()
            world.stock.work(1)
            world.hear_store(1)
        settle_down(world)

        assert contents(world, A) == [0, 1, 2]
        settle_down(world)
        assert not world.stock.spilled


# ---------------------------------------------------------------- a start, and expiry


def test_a_start_looks_at_each_queue_and_keeps_to_the_sum() -> None:
    """The first message of each is read, as somebody has to see it expire; none stays beyond the sum."""
    world, child = make_world()
    for name in QUEUES:
        send(world, child, name, 1, 2, persistent=True)
    settle_down(world)
    world.stock.kill()
    anew = World(Policy(queue_memory=MEMORY), slots=64)
    anew.stock = world.stock
    anew.open_store(is_fresh=True)

    settle_down(anew)

    assert used(anew) <= MEMORY
    assert [contents(anew, name) for name in QUEUES] == [[1, 2]] * len(QUEUES)
    assert_nothing_is_left(anew)


@pytest.mark.parametrize("persistent", [False, True])
def test_messages_expire_that_are_in_the_store_alone(persistent: bool) -> None:
    """Nobody consumes, and no memory is free: they go at their time, and those behind them as well."""
    world, child = make_world()
    fill_memory(world, child)
    send(world, child, A, 1, 2, persistent=persistent, ttl=5_000)
    send(world, child, A, 3, persistent=persistent)
    settle_down(world)
    reader = world.add_child()
    leave_with_an_offer(world, reader, A)
    settle_down(world)
    assert (world.view(A).ready, world.view(A).paged) == (3, 3)

    world.pass_time(5.2)
    settle_down(world)
    world.pass_time(0.2)
    settle_down(world)

    assert world.router.counters.messages_expired == 2
    assert contents(world, A) == [3]


def test_a_queue_whose_consumer_has_left_is_not_read_again_and_again() -> None:
    """What went back stays there until somebody wants it."""
    world, child = make_world()
    world.send(child, A, [b"1"])
    fill_memory(world, child)
    reader = world.add_child()
    leave_with_a_message(world, reader, A)
    settle_down(world)

    for _ in range(5):
        world.pass_time(1)
        world.turn()

    assert not world.stock.told
    assert world.router.counters.messages_spilled == 1


# ---------------------------------------------------------------- what the store is asked for


def test_many_consumers_at_once_share_what_is_free() -> None:
    """What the store was asked for and has not brought is not free; each gets one message at least."""
    world, child = make_world()
    for name in QUEUES:
        for number in range(30):
            world.send(child, name, [b"%-10000d" % number])
    settle_down(world)
    reader = world.add_child()
    for token, name in enumerate(QUEUES, 1):
        world.subscribe(reader, name, token=token, credit=1)

    world.router.tick(world.now)
    asked = [envelope.count for _, envelope in world.deliver() if envelope.kind is Kind.FETCH]

    assert len(asked) > 10
    assert sum(asked) <= MEMORY + 65_536 * len(asked)
    assert world.router._queues.window.asked == sum(asked)
    settle_down(world)
    assert world.router._queues.window.asked == 0


@pytest.mark.parametrize("how", ["the queue", "the store"])
def test_what_was_asked_for_and_will_not_come_is_free_again(how: str) -> None:
    """As whoever it was for is gone, or whoever was to bring it."""
    world, child = make_world(queue=QueuePolicy(persistent=True))
    for number in range(10):
        send(world, child, b"/reply-queue/7-x" if how == "the queue" else A, number)
    owner = world.add_child()
    if how == "the queue":
        world.subscribe(owner, b"/reply-queue/7-x", flags=Flag.TEMPORARY, credit=0)
        send(world, child, b"/reply-queue/7-x", *range(9))
        world.subscribe(owner, b"/reply-queue/7-x", flags=Flag.TEMPORARY, token=2)
    else:
        world.subscribe(owner, A, token=2)
    world.run_store()
    world.router.tick(world.now)
    for offer in world.offers(owner)[:1]:
        assert world.claim(owner, offer)
        world.settle(owner, offer.serial, offer.count, token=2)
    world.hear(owner)
    world.router.tick(world.now)
    assert world.router._queues.window.asked > 0

    world.end(owner) if how == "the queue" else world.kill_store()

    assert world.router._queues.window.asked == 0
    if how == "the queue":
        world.run_store()
        assert world.router._queues.window.asked == 0


@pytest.mark.parametrize("persistent", [False, True])
def test_a_dead_letter_queue_that_is_made_while_no_memory_is_free_has_its_first_message(persistent: bool) -> None:
    """It is in the store alone, and is found there: the queue was made before the message got its serial."""
    world, child = make_world()
    world.send(child, A, [b"1"], persistent=persistent)
    fill_memory(world, child)
    reader = world.add_child()
    world.subscribe(reader, A, credit=1)
    (offer,) = world.offers(reader)
    assert world.claim(reader, offer)

    world.settle(reader, offer.serial, 1, Outcome.REJECTED)
    world.hear(reader)
    settle_down(world)

    assert (world.view(DLQ).ready, world.view(DLQ).paged) == (1, 1)
    assert contents(world, DLQ) == [1]


def test_the_store_first_forgets_what_may_have_been_settled() -> None:
    """Also where only persistent messages go back: others stood between them, and would come again."""
    world, child = make_world()
    send(world, child, A, 0, persistent=True)
    settle_down(world)
    queue = world.router._queues.all()[0]
    (lane,) = queue.lanes
    assert lane.told < lane.last
    fill_memory(world, child)
    world.router._queues.changed[queue] = None
    world.turn()
    assert (world.view(A).paged, lane.is_fetching) == (0, True)
    settle_down(world)

    assert (world.view(A).paged, lane.told, lane.last) == (1, 0, 0)
    assert contents(world, A) == [0]
