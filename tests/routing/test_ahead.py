"""Offers ahead of credit: to whom they are made, and when they are recalled."""

from __future__ import annotations

import pytest

from forkbroker.routing.offers.ahead import AHEAD_S, _join
from forkbroker.routing.offers.consumers import QUICK_S
from forkbroker.routing.queues.policies import Policy, QueuePolicy
from forkbroker.routing.queues.runs import make_run
from forkbroker.wire.details import NO_WISHES, Wishes
from forkbroker.wire.fields import MAX_AHEAD
from forkbroker.wire.kinds import Flag, Kind, Outcome

from .quick import (
    NAME,
    add_worker,
    answer_all,
    be_quick,
    bodies,
    count_ahead,
    finish,
    make_world,
    receive,
    work,
)
from .simulation import World, make_send
from .twins import hand_over


def test_a_quick_worker_is_offered_the_next_messages() -> None:
    """In their order, behind the one that it has credit for, and each with a slot of its own."""
    world, worker = make_world()
    ahead = be_quick(world, worker)

    assert bodies([ahead]) == [b"%d" % number for number in range(2, 2 + MAX_AHEAD)]
    assert world.semaphores.values[ahead.slot : ahead.slot + MAX_AHEAD] == [1] * MAX_AHEAD


@pytest.mark.parametrize(("took_s", "count"), [(QUICK_S * 0.9, MAX_AHEAD), (QUICK_S * 1.1, 0)])
def test_whether_a_worker_is_quick_is_seen_when_it_settles(took_s: float, count: int) -> None:
    """A slow one gains nothing by it."""
    world, worker = make_world()
    finish(world, worker, took_s)

    assert count_ahead(world) == count


def test_more_is_offered_when_half_of_it_is_used_up() -> None:
    """So several go in one write."""
    world, worker = make_world()
    be_quick(world, worker)
    sent = []
    for _ in range(MAX_AHEAD // 2):
        work(world, worker)
        sent.append([(one.kind, one.count) for one in receive(world, worker)])

    assert sent == [*[[]] * (MAX_AHEAD // 2 - 1), [(Kind.AHEAD, MAX_AHEAD // 2)]]


@pytest.mark.parametrize("keeps", [0, 3])
def test_nobody_is_offered_more_than_it_keeps(keeps: int) -> None:
    """A child says so with its SUBSCRIBE."""
    world = World()
    world.send(world.add_child(), NAME, [b"x"] * 9)
    worker = world.add_child()
    world.subscribe(worker, NAME, credit=1, keeps=keeps)
    world.take_one(worker)

    offered = [(offer.kind, offer.count) for offer in finish(world, worker)]
    assert offered == [(Kind.OFFER, 1), *([(Kind.AHEAD, keeps)] if keeps else [])]


def test_a_second_worker_gets_the_oldest_message_in_the_turn_in_which_it_comes() -> None:
    """Nothing is kept from it."""
    world, worker = make_world()
    ahead = be_quick(world, worker)
    other = add_worker(world)
    offered = receive(world, other)
    told = receive(world, worker)

    assert (bodies(offered), [offer.kind for offer in offered]) == ([b"2"], [Kind.OFFER])
    assert [(one.kind, one.number) for one in told] == [(Kind.WITHDRAW, ahead.number)]
    assert count_ahead(world) == 0
    assert world.take_ahead(worker) == []


def test_what_was_claimed_is_not_recalled() -> None:
    """The semaphore decides; its CLAIMED is on the way."""
    world, worker = make_world()
    ahead = be_quick(world, worker)
    assert work(world, worker) == [b"2"]
    waiting = worker.outbox.copy()
    worker.outbox.clear()
    other = add_worker(world)
    offered, told = receive(world, other), receive(world, worker)
    worker.outbox.extend(waiting)
    answer_all(world, worker, told)
    world.hear(worker)

    assert bodies(offered) == [b"3"]
    assert [one.number for one in told] == [ahead.number]
    assert world.semaphores.values[ahead.slot : ahead.slot + MAX_AHEAD] == [0] * MAX_AHEAD


def test_an_exclusive_worker_that_comes_takes_all() -> None:
    """Of those who were served before nobody keeps anything."""
    world, worker = make_world()
    be_quick(world, worker)
    exclusive = add_worker(world, Flag.EXCLUSIVE)

    assert bodies(receive(world, exclusive)) == [b"2"]
    assert count_ahead(world) == 0


def test_the_first_exclusive_worker_is_the_only_one() -> None:
    """However many wait for its end."""
    world = World()
    world.send(world.add_child(), NAME, [b"x"] * 20)
    first = add_worker(world, Flag.EXCLUSIVE)
    for _ in range(3):
        add_worker(world)
    world.take_one(first)

    assert [offer.count for offer in finish(world, first)] == [1, MAX_AHEAD]


def test_a_higher_priority_comes_before_what_is_kept() -> None:
    """All that is kept is recalled, and offered again behind it."""
    world, worker = make_world()
    be_quick(world, worker)
    world.send(world.add_child(), NAME, [b"urgent"], wishes=Wishes(priority=9))
    told = receive(world, worker)

    assert [one.kind for one in told][:2] == [Kind.WITHDRAW, Kind.AHEAD]
    assert bodies(told[1:]) == [b"urgent", *[b"%d" % number for number in range(2, 1 + MAX_AHEAD)]]


def test_what_comes_back_comes_before_what_is_kept() -> None:
    """Here by a lease."""
    world, worker = make_world(policy=Policy(queue=QueuePolicy(lease=50)))
    be_quick(world, worker)
    world.pass_time(0.06)
    told = receive(world, worker)

    assert [one.kind for one in told] == [Kind.WITHDRAW]
    assert world.view(NAME).ready == 19


def test_who_gives_something_back_gets_that_before_anything_else() -> None:
    """Nothing is offered ahead before it has acknowledged something again."""
    world, worker = make_world()
    be_quick(world, worker)
    world.leave(worker, worker.kept.popleft())
    (again,) = finish(world, worker, outcome=Outcome.RELEASED)
    world.claim(worker, again)
    world.hear(worker)

    assert (bodies([again]), again.deliveries) == ([b"1"], 1)
    assert bodies(finish(world, worker)) == [b"%d" % number for number in range(2, 3 + MAX_AHEAD)]


def test_what_is_kept_for_too_long_is_recalled() -> None:
    """The worker is not quick any more, until it settles something in time."""
    world, worker = make_world()
    be_quick(world, worker)
    deadline = world.router.deadline()
    world.pass_time(AHEAD_S)
    told = receive(world, worker)
    answer_all(world, worker, told)
    offered = finish(world, worker)

    assert deadline == pytest.approx(0.1)
    assert [one.kind for one in told] == [Kind.WITHDRAW]
    assert (bodies(offered), [one.kind for one in offered]) == ([b"2"], [Kind.OFFER])


def test_who_does_not_answer_a_withdrawal_is_silent() -> None:
    """As with any other offer; that it keeps some is no silence."""
    world, worker = make_world()
    be_quick(world, worker)
    world.pass_time(AHEAD_S)
    world.turn()
    before = world.router.find_silent(world.now)
    world.pass_time(1.1)
    world.turn()

    assert before == set()
    assert world.router.find_silent(world.now) == {worker.peer}


@pytest.mark.parametrize(
    ("sent", "wishes"), [([b"x"] * 5, Wishes(ttl=60_000)), ([b"x", b"x", *[bytes(70_000)] * 3], NO_WISHES)]
)
def test_what_expires_and_what_is_large_waits_in_its_queue(sent: list[bytes], wishes: Wishes) -> None:
    """It is not to be forgotten elsewhere, nor to take much memory there."""
    world, worker = make_world(sent, wishes=wishes)
    finish(world, worker)

    assert count_ahead(world) == 0


def test_a_worker_that_crashes_is_blamed_for_what_it_had_alone() -> None:
    """What it kept has not reached its client: nobody suspects it, and it does not clear the one that it had."""
    world, worker = make_world(policy=Policy(queue=QueuePolicy(poison_after=1)))
    be_quick(world, worker)
    world.end(worker, "by SIGSEGV")
    other = add_worker(world)
    offered = bodies(receive(world, other))

    assert world.view(b"/queue/DLQ").ready == 1
    assert offered == [b"2"]


def test_what_a_worker_claimed_and_could_not_tell_is_delivered_again() -> None:
    """The first of what it kept, and nothing else of that."""
    world, worker = make_world()
    be_quick(world, worker)
    world.settle(worker, next(iter(worker.held[1])))
    world.hear(worker)
    assert world.take_ahead(worker) == [b"2"]
    worker.outbox.clear()
    world.end(worker)
    other = world.add_child()
    world.subscribe(other, NAME)
    offers = world.consume_offers(other)

    assert [(bytes(body), offer.deliveries) for offer in offers for body in offer.pieces()][:3] == [
        (b"2", 1),
        (b"3", 0),
        (b"4", 0),
    ]


def test_half_of_the_slots_is_left_to_others() -> None:
    """However many workers are quick."""
    world = World(slots=16)
    producer = world.add_child()
    for number in range(6):
        name = b"/queue/%d" % number
        world.send(producer, name, [b"x"] * 20)
        worker = world.add_child()
        world.subscribe(worker, name, credit=1, keeps=MAX_AHEAD)
        world.take_one(worker)
        world.settle(worker, next(iter(worker.held[1])))
        world.turn()

    used = sum(offer.count for offer in world.router._offering.ahead.kept.values())
    assert 1 < used <= 8
    assert world.router._offering.claims.free.bit_count() >= 8 - 6


def test_a_larger_prefetch_ends_it() -> None:
    """Its child has claimed what it can by then; the rest comes with runs again."""
    world, worker = make_world()
    ahead = be_quick(world, worker)
    world.subscribe(worker, NAME, credit=10)
    told = receive(world, worker)

    assert [(one.kind, one.count) for one in told] == [(Kind.WITHDRAW, 0), (Kind.OFFER, MAX_AHEAD)]
    assert told[0].number == ahead.number
    assert count_ahead(world) == 0


def test_another_parent_knows_what_is_kept() -> None:
    """A worker may claim it from the one as from the other."""
    world, worker = make_world()
    be_quick(world, worker)
    hand_over(world)
    assert count_ahead(world) == MAX_AHEAD
    assert work(world, worker) == [b"2"]

    assert receive(world, worker) == []
    assert count_ahead(world) == MAX_AHEAD - 1


def test_slots_that_are_not_side_by_side_are_used_as_well() -> None:
    """For fewer messages at a time."""
    world = World(slots=16)
    claims, ahead = world.router._offering.claims, world.router._offering.ahead
    claims.free = 0b1111_1111_0011_1011

    assert [ahead.room(most) for most in (8, 5, 4, 3, 1)] == [5, 5, 4, 3, 1]
    claims.free = 0b1010_1010_1011_1011
    assert [ahead.room(most) for most in (8, 4, 1)] == [2, 2, 1]
    claims.free = 0b0000_0000_1111_1111
    assert ahead.room(8) == 0


def test_slots_in_many_places_are_used_one_by_one() -> None:
    """Half of what is wanted, and half of that."""
    world = World(slots=32)
    world.router._offering.claims.free = int("110" * 10 + "11", 2)

    assert world.router._offering.ahead.room(8) == 1


def test_what_is_not_side_by_side_comes_back_in_parts() -> None:
    """Each of them a run."""
    run = make_run(make_send(NAME, [b"x"] * 9), 11)
    parts = [(part.serial, part.count, part.first, part.octets) for part in _join(run, [19, 18, 15, 12, 11])]

    assert parts == [(18, 2, 7, 2), (15, 1, 4, 1), (11, 2, 0, 2)]
