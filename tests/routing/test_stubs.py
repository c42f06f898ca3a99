"""Persistent messages that are claimed while memory is scarce: the parent keeps their place, the store their bodies."""

from __future__ import annotations

import pytest

from forkbroker.routing.queues.lanes import Lane
from forkbroker.routing.queues.policies import Expired, Policy, QueuePolicy
from forkbroker.routing.queues.runs import Run, make_run
from forkbroker.wire.details import Details, Wishes
from forkbroker.wire.envelope import Envelope
from forkbroker.wire.kinds import Flag, Kind, Outcome

from .simulation import APART, DLQ, Child, World, make_send, names_of
from .stock import Stock

A = b"/queue/a"
MEMORY = 100_000
SIZE = 5_000


def make_world(stock: Stock | None = None, *, memory: int = MEMORY, **policy: object) -> tuple[World, Child, Child]:
    """With a consumer that may have everything."""
    queue = QueuePolicy(**policy)  # type: ignore[arg-type]
    world = World(Policy(queue_memory=memory, queue=queue), slots=256, stock=stock or Stock())
    producer, holder = world.add_child(), world.add_child()
    world.subscribe(holder, A, credit=1000)
    return world, producer, holder


def body(number: int) -> bytes:
    return (b"%d " % number).ljust(SIZE - number % 7 * 100, b"x")


def send(world: World, child: Child, *numbers: int, **fields: object) -> None:
    world.send(child, A, [body(number) for number in numbers], persistent=True, **fields)  # type: ignore[arg-type]


def hold(world: World, child: Child) -> list[int]:
    """Claim what there is, and keep it: the numbers, of whole bodies."""
    found: list[int] = []
    while offers := world.offers(child):
        for offer in offers:
            assert world.claim(child, offer)
            pieces = list(map(bytes, offer.pieces()))
            found += [int(piece.split()[0]) for piece in pieces]
            assert pieces == [body(number) for number in found[-len(pieces) :]]
    world.turn()
    return found


def held(world: World) -> list[Run]:
    children = world.router._offering.clientele.children.values()
    return [run for child in children for consumer in child.consumers.values() for run in consumer.unsettled]


def used(world: World) -> int:
    return world.router._queues.window.used


def make_held(world: World, producer: Child, holder: Child, count: int = 60) -> None:
    """So many messages are claimed, most of them as stubs."""
    for number in range(0, count, 3):
        send(world, producer, number, number + 1, number + 2)
    world.run_store()
    assert hold(world, holder) == list(range(count))
    assert any(run.is_stub for run in held(world))


# ---------------------------------------------------------------- memory


def test_what_is_claimed_uses_half_of_the_memory_at_most() -> None:
    """Whatever a consumer holds; its octets are still those of the queue."""
    world, producer, holder = make_world()
    make_held(world, producer, holder, 120)

    assert used(world) <= MEMORY // 2 + 3 * SIZE
    assert world.view(A).octets > 100 * (SIZE - 600)
    assert sum(run.count for run in held(world)) == world.view(A).unsettled == 120


def test_bodies_are_kept_while_there_is_memory() -> None:
    """What comes back then needs no store."""
    world, producer, holder = make_world(memory=100 * MEMORY)
    send(world, producer, *range(10))
    hold(world, holder)

    assert not any(run.is_stub for run in held(world))


def test_bodies_that_the_store_does_not_have_are_kept() -> None:
    """Of messages that are not persistent, and while no store listens."""
    world, producer, holder = make_world()
    world.kill_store()
    for number in range(15):
        world.send(producer, A, [body(number)], wishes=APART)
    hold(world, holder)

    assert len(held(world)) == 15
    assert not any(run.is_stub for run in held(world))


def test_nothing_is_left_when_all_is_settled() -> None:
    """To the octet, in parts and out of order."""
    world, producer, holder = make_world()
    make_held(world, producer, holder)
    for serial in [*range(2, 61, 2), *range(1, 61, 2)]:
        world.settle(holder, serial)
    world.turn()
    world.run_store()

    assert (used(world), world.view(A).octets, world.view(A).unsettled) == (0, 0, 0)
    assert world.router._offering.clientele.children[holder.peer].octets == 0
    assert not world.stock.rows


# ---------------------------------------------------------------- the way back


def test_what_comes_back_comes_whole_and_in_its_old_place() -> None:
    """From a child that ended, with one delivery more, before what is younger."""
    world, producer, holder = make_world()
    make_held(world, producer, holder)
    send(world, producer, 60, 61)
    world.end(holder)
    world.turn()
    assert (world.view(A).ready, world.view(A).unsettled) == (62, 0)
    assert world.view(A).paged > 0
    reader = world.add_child()
    world.subscribe(reader, A, credit=1000)

    assert hold(world, reader) == list(range(62))
    assert {(run.serial <= 60, run.deliveries) for run in held(world)} == {(True, 1), (False, 0)}


def test_what_the_store_has_given_is_offered_before_the_rest_has_come() -> None:
    """A consumer need not wait for the end of the answer."""
    world, producer, holder = make_world()
    make_held(world, producer, holder)
    world.end(holder)
    reader = world.add_child()
    world.subscribe(reader, A, credit=1000)
    world.turn()
    world.stock.work()
    assert [envelope.kind for envelope in world.stock.said][-1] is Kind.PAGED
    while world.stock.said[0].kind is not Kind.PAGE:
        world.hear_store(1)
    world.turn()
    before = sum(envelope.kind is Kind.OFFER for envelope in reader.inbox)

    world.hear_store(1)
    world.turn()

    assert sum(envelope.kind is Kind.OFFER for envelope in reader.inbox) == before + 1


def test_some_of_a_batch_may_come_back() -> None:
    """The rest stays with its consumer, or is settled."""
    world, producer, holder = make_world()
    make_held(world, producer, holder)
    world.settle(holder, 31, 1)
    world.settle(holder, 32, 1, Outcome.UNTOUCHED)
    world.settle(holder, 41, 3, Outcome.RELEASED)
    world.hear(holder)

    assert hold(world, holder) == [31, 40, 41, 42]
    assert [run.deliveries for run in held(world) if run.serial in (32, 41)] == [0, 1]
    world.end(holder)
    reader = world.add_child()
    world.subscribe(reader, A, credit=1000)
    assert hold(world, reader) == [number for number in range(60) if number != 30]


def test_a_message_that_comes_back_is_the_same_one() -> None:
    """With its message-id, and the mark of an unclean end."""
    stock = Stock()
    world, producer, holder = make_world(stock)
    make_held(world, producer, holder)
    world.stock.kill()
    anew, producer, holder = make_world(stock)
    make_held_again = anew.offers(holder)
    first: dict[int, tuple[bytes, bool]] = {}
    for offer in make_held_again:
        anew.claim(holder, offer)
        first |= identities(offer)
    while offers := anew.offers(holder):
        for offer in offers:
            anew.claim(holder, offer)
            first |= identities(offer)
    anew.turn()
    assert any(run.is_stub for run in held(anew))
    anew.end(holder)
    reader = anew.add_child()
    anew.subscribe(reader, A, credit=1000)
    again: dict[int, tuple[bytes, bool]] = {}
    while offers := anew.offers(reader):
        for offer in offers:
            anew.claim(reader, offer)
            again |= identities(offer)

    assert first == again
    assert {is_recovered for _, is_recovered in again.values()} == {True}


def identities(offer: Envelope) -> dict[int, tuple[bytes, bool]]:
    """By serial: message-id, mark."""
    is_recovered = bool(offer.flags & Flag.RECOVERED)
    return {serial: (name, is_recovered) for serial, name in enumerate(names_of(offer), offer.serial)}


@pytest.mark.parametrize("works", range(5))
def test_a_store_that_is_killed_meanwhile_is_asked_again(works: int) -> None:
    """Whatever of its answer was heard."""
    world, producer, holder = make_world()
    make_held(world, producer, holder)
    world.end(holder)
    reader = world.add_child()
    world.subscribe(reader, A, credit=1000)
    world.turn()
    world.stock.work()
    world.kill_store(heard=works)
    world.turn()
    world.open_store()

    assert hold(world, reader) == list(range(60))


def test_what_is_in_memory_does_not_wait_for_a_store_that_fails() -> None:
    """It waits for one that only has to be started. What the store has comes when there is one again."""
    world, producer, holder = make_world()
    make_held(world, producer, holder)
    world.kill_store()
    world.end(holder)
    reader = world.add_child()
    world.subscribe(reader, A, credit=1000)
    assert hold(world, reader) == []
    world.router.store_ended("the disk is gone")

    found = hold(world, reader)
    assert 0 < len(found) < 60
    world.open_store()
    assert sorted(found + hold(world, reader)) == list(range(60))


def test_rows_that_were_deleted_by_hand_are_not_waited_for() -> None:
    """In the middle, and at the end; they are no longer counted."""
    world, producer, holder = make_world()
    make_held(world, producer, holder)
    stubs = {serial for run in held(world) if run.is_stub for serial in range(run.serial, run.serial + run.count)}
    gone = {min(stubs) + 1, min(stubs) + 2, max(stubs) - 1, max(stubs)}
    assert gone < stubs
    for serial in gone:
        del world.stock.rows[serial]
    world.end(holder)
    reader = world.add_child()
    world.subscribe(reader, A, credit=1000)

    assert hold(world, reader) == [number for number in range(60) if number + 1 not in gone]
    assert world.view(A).unsettled == 56
    for serial in range(1, 61):
        world.settle(reader, serial)
    world.turn()
    assert (used(world), world.view(A).octets) == (0, 0)


def test_what_comes_back_while_the_answer_is_on_its_way_comes_too() -> None:
    """Before what was asked for, and behind it; each once."""
    world, producer, holder = make_world()
    make_held(world, producer, holder)
    world.settle(holder, 40, 1, Outcome.RELEASED)
    world.turn()
    assert [envelope.kind for envelope in world.stock.told][-1] is Kind.FETCH
    world.stock.work()
    for serial in (30, 42, 50):
        world.settle(holder, serial, 1, Outcome.RELEASED)
    world.turn()
    world.hear_store()

    assert hold(world, holder) == [29, 39, 41, 49]


# ---------------------------------------------------------------- other ways


def test_a_stub_becomes_a_dead_letter_that_has_its_body() -> None:
    """Nothing is read before somebody wants it."""
    world, producer, holder = make_world(max_deliveries=1)
    make_held(world, producer, holder)
    for serial in range(31, 61):
        world.settle(holder, serial, 1, Outcome.RELEASED)
    world.turn()
    assert (world.view(DLQ).ready, world.view(A).unsettled) == (30, 30)
    world.run_store()
    reader = world.add_child()
    world.subscribe(reader, DLQ, credit=1000)

    assert sorted(hold(world, reader)) == list(range(30, 60))


@pytest.mark.parametrize("expired", list(Expired))
def test_a_stub_expires(expired: Expired) -> None:
    """Without a consumer, and without its body."""
    world, producer, holder = make_world(expired=expired)
    for number in range(60):
        send(world, producer, number, wishes=Wishes(ttl=60_000))
    hold(world, holder)
    assert any(run.is_stub for run in held(world))
    world.end(holder)
    for _ in range(20):
        world.pass_time(10)
        world.turn()
        world.run_store()

    letters = [view.ready for view in world.router.views() if view.name == DLQ]
    assert letters == ([60] if expired is Expired.DEAD_LETTER else [])
    assert world.router.counters.messages_expired == 60


# ---------------------------------------------------------------- runs and lanes


def make_stub(serial: int, count: int, details: Details) -> Run:
    run = make_run(make_send(A, [b"x" * n for n in range(count)]), serial, details)
    run.drop_bodies()
    return run


@pytest.mark.parametrize("expires", [0, 5])
@pytest.mark.parametrize("start", range(8, 26))
@pytest.mark.parametrize("length", [0, 1, 3, 6, 20])
def test_any_range_of_stubs_is_taken(start: int, length: int, expires: int) -> None:
    """Cut where the range begins and ends; the rest stays, counted, and in its order."""
    lane, details = Lane(4), Details(persistent=True, expires=expires)
    for serial, count in ((20, 3), (10, 4), (15, 2)):
        lane.put_back(make_stub(serial, count, details))
    everything = {10, 11, 12, 13, 15, 16, 20, 21, 22}

    taken = [run.serial + n for run in lane.take_stubs(start, start + length) for n in range(run.count)]

    left = [run.serial + n for run in reversed(lane.stubs) for n in range(run.count)]
    wanted = everything & set(range(start, start + length))
    assert (taken, left) == (sorted(wanted), sorted(everything - wanted))
    assert lane.stubbed == len(left)
    assert sum(run.count for run in lane.take_expired(expires or 10**9, 100)) == (len(left) if expires else 0)


def test_the_parts_of_a_stub_are_as_large_as_all_of_it() -> None:
    """Each is guessed, and together they are exact."""
    run = make_run(make_send(A, [b"", b"x" * 1000, b"y" * 17]), 7)
    memory, octets = run.memory, run.octets
    run.drop_bodies()

    front = run.split(2)

    assert (front.is_stub, front.serial, front.count, run.serial) == (True, 7, 2, 9)
    assert (front.memory + run.memory, front.octets + run.octets) == (memory, octets)
