"""Queues that are deeper than memory: their heads are there, the rest is in the store, and the order stays."""

from __future__ import annotations

import pytest

from forkbroker.routing.queues.lanes import Lane
from forkbroker.routing.queues.policies import Policy, QueuePolicy
from forkbroker.routing.queues.runs import ENVELOPE_OVERHEAD
from forkbroker.routing.queues.window import FETCH, Window
from forkbroker.wire.details import Wishes
from forkbroker.wire.kinds import Flag, Kind, Outcome

from .simulation import Child, World, make, make_send
from .stock import Stock
from .twins import hand_over

A, B, REPLY = b"/queue/a", b"/queue/b", b"/reply-queue/7-x"
MEMORY = 200_000
ROOM = 9
"""Messages of 10,000 octets that one queue keeps: half of the memory is free for others then."""


def make_world(*, persistent: bool = False) -> tuple[World, Child]:
    policy = Policy(queue_memory=MEMORY, queue=QueuePolicy(persistent=persistent))
    world = World(policy, slots=64, stock=Stock())
    return world, world.add_child()


def bodies(*numbers: int) -> list[bytes]:
    return [b"%-10000d" % number for number in numbers]


def send(world: World, child: Child, *numbers: int, name: bytes = A, priority: int = 4) -> None:
    for body in bodies(*numbers):
        world.send(child, name, [body], wishes=Wishes(priority=priority))


def numbers(found: list[bytes]) -> list[int]:
    return list(map(int, found))


def told(world: World, kind: Kind) -> int:
    """How many envelopes of this kind the store has been told and not read."""
    world.deliver()
    return [envelope.kind for envelope in world.stock.told].count(kind)


def used(world: World) -> int:
    return world.router._queues.window.used


# ---------------------------------------------------------------- what is where


def test_memory_has_the_head_and_the_store_the_rest() -> None:
    """What memory keeps the store is not told; what it doesn't keep the store is told once."""
    world, child = make_world()

    send(world, child, *range(20))

    assert (world.view(A).ready, world.view(A).paged) == (20, 20 - ROOM)
    assert told(world, Kind.SPILL) == 20 - ROOM
    assert used(world) < MEMORY // 2
    assert world.router.counters.messages_spilled == 20 - ROOM


def test_persistent_messages_are_told_once_whether_memory_keeps_them_or_not() -> None:
    """WRITE is enough for both."""
    world, child = make_world(persistent=True)

    send(world, child, *range(20))

    assert (world.view(A).paged, told(world, Kind.WRITE), told(world, Kind.SPILL)) == (20 - ROOM, 20, 0)


def test_each_of_many_deep_queues_has_its_share_of_memory() -> None:
    """The later ones get less, and all together keep to the limit."""
    world, child = make_world()

    for number in range(4):
        send(world, child, *range(12), name=b"/queue/%d" % number)
    assert used(world) < MEMORY
    for number in range(4, 12):
        send(world, child, *range(12), name=b"/queue/%d" % number)

    kept = [view.ready - view.paged for view in world.router.views()]
    assert kept == sorted(kept, reverse=True)
    assert used(world) <= MEMORY


def test_one_message_larger_than_all_memory_is_kept() -> None:
    """It could not be delivered otherwise."""
    world, child = make_world()
    consumer = world.add_child()
    world.subscribe(consumer, A)

    world.send(child, A, [b"x" * 2 * MEMORY])

    assert [len(body) for body in world.consume(consumer)] == [2 * MEMORY]
    assert used(world) == 0


# ---------------------------------------------------------------- the way back


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("credit", [1, 7, 1000])
def test_a_deep_queue_is_consumed_in_order(persistent: bool, credit: int) -> None:
    """Nothing twice, nothing lost, nothing left in memory or in the store."""
    world, child = make_world(persistent=persistent)
    send(world, child, *range(100))
    consumer = world.add_child()
    world.subscribe(consumer, A, credit=credit)

    assert numbers(world.consume(consumer)) == list(range(100))

    assert used(world) == 0
    assert (world.view(A).octets, world.view(A).paged) == (0, 0)
    assert not (world.stock.rows or world.stock.spilled)


def test_what_arrives_while_the_store_has_the_rest_goes_there_too() -> None:
    """Although there is room in memory again: the order stays."""
    world, child = make_world()
    consumer = world.add_child()
    send(world, child, *range(20))
    world.subscribe(consumer, A, credit=5)
    (offer, *rest) = world.offers(consumer)
    for each in (offer, *rest):
        world.claim(consumer, each)
        world.settle(consumer, each.serial, each.count)

    send(world, child, *range(20, 40))

    assert numbers(world.consume(consumer)) == list(range(5, 40))


def test_released_messages_stand_before_what_the_store_has() -> None:
    """They are the older ones."""
    world, child = make_world()
    consumer = world.add_child()
    send(world, child, *range(30))
    world.subscribe(consumer, A, credit=12)
    held = world.offers(consumer)
    for offer in held:
        world.claim(consumer, offer)
    for offer in reversed(held):
        world.settle(consumer, offer.serial, offer.count, Outcome.RELEASED)

    assert numbers(world.consume(consumer)) == list(range(30))


def test_messages_that_come_in_while_pages_are_on_their_way_are_not_lost() -> None:
    """PAGED says that there are no more, and means those that were told before the FETCH."""
    world, child = make_world()
    consumer = world.add_child()
    send(world, child, *range(ROOM + 3))
    world.subscribe(consumer, A)
    world.turn()
    for offer in consumer.inbox:
        world.claim(consumer, offer)
        world.settle(consumer, offer.serial, offer.count)
    consumer.inbox.clear()
    world.turn()
    assert told(world, Kind.FETCH) == 1
    send(world, child, 100, 101)
    world.stock.work(len(world.stock.told) - 2)
    world.hear_store()
    world.deliver()

    assert numbers(world.consume(consumer)) == [*range(ROOM, ROOM + 3), 100, 101]


def test_a_batch_that_the_store_had_is_delivered_as_one() -> None:
    """Octet by octet the same, in one offer."""
    world, child = make_world()
    consumer = world.add_child()
    send(world, child, *range(12))
    world.send(child, A, [b"one", b"two", b"", b"four"])
    world.subscribe(consumer, A, credit=1000)

    *_, last = world.consume_offers(consumer)

    assert [bytes(piece) for piece in last.pieces()] == [b"one", b"two", b"", b"four"]
    assert (last.index, last.block) == (0, b"-session-1\n\n")


# ---------------------------------------------------------------- priorities


def test_a_higher_priority_goes_first_from_the_store_as_well() -> None:
    """Nothing of a lower one is offered while a higher one is being fetched, however large the credit."""
    world, child = make_world(persistent=True)
    consumer = world.add_child()
    for priority in (2, 7, 4):
        send(world, child, *range(priority * 100, priority * 100 + 30), priority=priority)
    world.subscribe(consumer, A, credit=1000)

    found = numbers(world.consume(consumer))

    assert found == [*range(700, 730), *range(400, 430), *range(200, 230)]


def test_a_higher_priority_overtakes_what_the_store_has_of_a_lower_one() -> None:
    """It has room in memory of its own."""
    world, child = make_world()
    consumer = world.add_child()
    send(world, child, *range(30), priority=1)
    send(world, child, 500, priority=8)
    world.subscribe(consumer, A, credit=1)

    assert numbers(world.consume(consumer))[:2] == [500, 0]


# ---------------------------------------------------------------- ends


def test_a_store_that_ends_while_it_reads_is_asked_again() -> None:
    """By however many of its pages had been heard: each message comes once."""
    for heard in range(8):
        world, child = make_world(persistent=True)
        consumer = world.add_child()
        send(world, child, *range(40))
        world.run_store()
        world.subscribe(consumer, A, credit=4)
        world.turn()
        world.stock.work()
        world.kill_store(heard=heard)
        world.open_store()

        assert numbers(world.consume(consumer)) == list(range(40)), heard


def test_spilled_messages_survive_the_stores_process_and_not_the_broker() -> None:
    """They were worth nothing more."""
    world, child = make_world()
    consumer = world.add_child()
    send(world, child, *range(30))
    world.run_store()
    world.kill_store()
    world.open_store()
    world.subscribe(consumer, A, credit=1)
    assert numbers(world.consume(consumer)) == list(range(30))

    send(world, child, *range(30))
    world.run_store()
    world.stock.kill()
    assert World(stock=world.stock).router.views() == []


def test_without_a_store_the_head_is_consumed_and_the_rest_waits_for_the_next_one() -> None:
    """Consumers go on meanwhile as long as there is something."""
    world, child = make_world()
    consumer = world.add_child()
    send(world, child, *range(20))
    world.run_store()
    world.kill_store("the disk is gone")
    world.subscribe(consumer, A, credit=1)
    assert numbers(world.consume(consumer)) == list(range(ROOM))
    assert world.view(A).ready == 20 - ROOM

    world.open_store()

    assert numbers(world.consume(consumer)) == list(range(ROOM, 20))


def test_a_temporary_queue_takes_what_the_store_has_of_it_with_it() -> None:
    """And another one of its name gets nothing of that, though it was on its way."""
    world, child = make_world()
    owner = world.add_child()
    world.subscribe(owner, REPLY, credit=1, flags=Flag.TEMPORARY)
    send(world, child, *range(25), name=REPLY)
    while not told(world, Kind.FETCH):
        offer = world.take_one(owner)
        world.settle(owner, offer.serial)
        world.turn()
    world.stock.work()
    world.unsubscribe(owner)
    world.subscribe(owner, REPLY, token=2, flags=Flag.TEMPORARY)
    world.hear_store()
    send(world, child, 77, name=REPLY)
    world.answer(owner, Kind.PASSED, next(each for each in owner.inbox if each.kind is Kind.OFFER))
    owner.inbox.clear()
    world.tell(owner, make(Kind.READY))

    assert numbers(world.consume(owner)) == [77]
    assert not world.stock.spilled
    assert used(world) == 0


def test_rows_that_somebody_has_deleted_by_hand_are_not_waited_for() -> None:
    """The store says that there are no more, and the queue believes it."""
    world, child = make_world(persistent=True)
    consumer = world.add_child()
    send(world, child, *range(40))
    world.run_store()
    for serial in range(20, 31):
        del world.stock.rows[serial]
    world.subscribe(consumer, A, credit=3)

    assert numbers(world.consume(consumer)) == [*range(19), *range(30, 40)]

    assert (world.view(A).ready, world.view(A).octets, used(world)) == (0, 0, 0)


def test_what_a_restarted_broker_has_in_the_store_is_counted() -> None:
    """In messages, and in octets with a guess for what each costs; when all was read, to the octet; then as nothing."""
    world, child = make_world(persistent=True)
    send(world, child, *range(7))
    world.run_store()
    world.stock.kill()
    anew = World(Policy(queue_memory=MEMORY), slots=64, stock=world.stock)
    view = anew.view(A)
    assert (view.ready, view.paged, view.octets) == (7, 7, 7 * (10_000 + ENVELOPE_OVERHEAD))

    reader = anew.add_child()
    anew.subscribe(reader, A, credit=1)
    anew.offers(reader)
    view, queue = anew.view(A), anew.router._queues.find(A)
    assert queue is not None
    assert (view.paged, view.octets, used(anew)) == (0, queue.memory, queue.memory)
    anew.end(reader)
    last = anew.add_child()
    anew.subscribe(last, A)
    assert len(anew.consume(last)) == 7
    assert (anew.view(A).octets, used(anew)) == (0, 0)


def test_the_store_is_asked_once_for_what_follows() -> None:
    """However often an offer could be made meanwhile, and whatever expires meanwhile."""
    world, child = make_world(persistent=True)
    send(world, child, *range(20))
    reader = world.add_child()
    world.subscribe(reader, A, credit=100)
    world.turn()
    for _ in range(3):
        world.router._queues.changed[world.router._queues.find(A)] = None  # type: ignore[index]
        world.router._keeping.paging.look_on(world.router._queues.find(A))  # type: ignore[arg-type]
        world.turn()

    assert told(world, Kind.FETCH) == 1


def test_what_expired_in_memory_is_followed_by_what_the_store_has() -> None:
    """Nobody consumes: what follows may have expired as well. Nothing is asked for while some is left in memory."""
    world, child = make_world(persistent=True)
    for body in bodies(*range(20)):
        world.send(child, A, [body], wishes=Wishes(ttl=1000))
    world.run_store()
    queue = world.router._queues.find(A)
    assert queue is not None
    world.router._keeping.paging.look_on(queue)
    assert told(world, Kind.FETCH) == 0

    for _ in range(10):
        world.pass_time(1)
        world.turn()
        world.run_store()
    assert world.router.counters.messages_expired == 20
    assert not world.stock.rows


def test_pages_of_a_queue_that_is_gone_are_ignored() -> None:
    """And make no new one."""
    world, _ = make_world()
    page = make_send(A, [b"x"])

    fields = {"destination": A, "count": 1, "serial": 4, "flags": page.flags, "block": page.block}
    world.router.receive_stored(make(Kind.PAGE, **fields, payload=[page.payload]), 0.0)
    world.router.receive_stored(make(Kind.PAGED, destination=A, count=1, index=4), 0.0)

    assert world.router.views() == []


# ---------------------------------------------------------------- how much is asked for


def test_a_lane_that_has_enough_asks_for_nothing() -> None:
    """Enough is half of what is free; at least something is asked for where nothing is."""
    window, lane = Window(1_000_000), Lane(4)

    assert window.wants(lane) == 500_000
    lane.memory = 500_000
    assert window.wants(lane) == 0
    window.used, lane.memory = 1_000_000, 0
    assert window.wants(lane) > 0


def test_no_more_is_asked_for_than_can_be_read_in_one_go() -> None:
    """Whatever there is of memory."""
    assert Window(10**12).wants(Lane(4)) == FETCH


# ---------------------------------------------------------------- in another router


@pytest.mark.parametrize("persistent", [False, True])
def test_what_the_store_was_asked_for_comes_to_another_router(persistent: bool) -> None:
    """In its order, and the store is not asked twice."""
    world, child = make_world(persistent=persistent)
    send(world, child, *range(30))
    world.run_store()
    world.subscribe(child, A, credit=5)
    found = []
    while len(found) < 30:
        for offer in world.offers(child):
            hand_over(world)
            assert world.claim(child, offer)
            found += numbers([bytes(piece) for piece in offer.pieces()])
            world.settle(child, offer.serial, offer.count)
        world.turn()
        hand_over(world)
        assert told(world, Kind.FETCH) <= 1

    assert found == list(range(30))
    assert used(world) == 0


def test_another_router_asks_the_next_store_process_again() -> None:
    """What the one before was asked for will not come."""
    world, child = make_world()
    send(world, child, *range(20))
    world.run_store()
    world.subscribe(child, A, credit=1)
    taken = 0
    while not told(world, Kind.FETCH):
        offer = world.take_one(child)
        world.settle(child, offer.serial)
        taken += 1

    hand_over(world)
    assert world.router._queues.window.asked > 0
    world.kill_store()
    assert world.router._queues.window.asked == 0
    world.open_store()

    assert numbers(world.consume(child)) == list(range(taken, 20))
