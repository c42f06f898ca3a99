"""What an administrator does with messages: each of them stays in one place, whatever ends in between."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from forkbroker.control.arguments import RequestError
from forkbroker.routing.moving import WAIT, Choice, Scan, Tally, body_of, lines_of
from forkbroker.routing.queues.policies import Policy, QueuePolicy
from forkbroker.routing.queues.runs import Run
from forkbroker.wire.details import Details, Reason, Wishes
from forkbroker.wire.kinds import Outcome

from .simulation import Child, World
from .stock import Stock

A, B, DLQ = b"/queue/a", b"/queue/b", b"/queue/DLQ"
ALL = Choice()


def make_world(**rest: object) -> tuple[World, Child]:
    world = World(Policy(**rest), stock=Stock())  # type: ignore[arg-type]
    return world, world.add_child()


def carry_out(world: World, begin: Callable[[Tally], Scan], between: Callable[[], None] = lambda: None) -> Tally:
    """To its end, with a turn after each step, in which the store answers."""
    tally = Tally()
    scan = begin(tally)
    try:
        for steps, _ in enumerate(scan):
            assert steps < 10_000, "it does not end"
            between()
            work(world)
    finally:
        scan.close()
        work(world)
    return tally


def work(world: World) -> None:
    """A turn of the parent's loop, and the store does what it was told."""
    world.turn()
    if world.stock.is_open:
        world.run_store()


def restart(world: World) -> World:
    """Another broker, with what the store has."""
    work(world)
    world.kill_store()
    return World(world.policy, stock=world.stock)


def bodies(world: World, name: bytes) -> list[bytes]:
    """What waits in a queue, as it is looked at."""
    found: list[bytes] = []
    queue = world.router.moving._queues.find(name)
    if queue is not None:

        def see(run: Run) -> None:
            found.extend(body_of(run, place) for place in range(run.count))

        carry_out(world, lambda tally: world.router.moving.look(queue, ALL, tally, see))
    return found


def bury(world: World, child: Child, count: int, reason: bytes = b"", **more: object) -> None:
    """So many messages for A that are dead letters by now."""
    world.send(child, A, [b"%d" % number for number in range(count)], **more)  # type: ignore[arg-type]
    worker = world.add_child()
    world.subscribe(worker, A)
    offer = world.take_one(worker)
    world.settle(worker, offer.serial, offer.count, Outcome.REJECTED, reason=reason)
    world.end(worker)


def move(world: World, choice: Choice = ALL, source: bytes = A, target: bytes = B) -> Tally:
    moving = world.router.moving
    return carry_out(world, lambda tally: moving.move(moving.find(source), target, choice, tally))


@pytest.mark.parametrize("persistent", [False, True])
def test_all_messages_move_in_their_order(persistent: bool) -> None:
    """To the end of the other queue; persistent ones in the store as well."""
    world, child = make_world()
    world.send(child, B, [b"0"], persistent=persistent)
    world.send(child, A, [b"1", b"2"], persistent=persistent)
    world.send(child, A, [b"3"], persistent=persistent, wishes=Wishes(priority=9))
    tally = move(world)

    assert (tally.chosen, tally.left_out) == (3, 0)
    assert bodies(world, A) == []
    assert bodies(world, B) == [b"3", b"0", b"1", b"2"]
    again = restart(world)
    assert bodies(again, B) == ([b"3", b"0", b"1", b"2"] if persistent else [])


@pytest.mark.parametrize("persistent", [False, True])
def test_a_deep_queue_is_paged_in_on_the_way(persistent: bool) -> None:
    """All of it moves, with little in memory at any time."""
    world, child = make_world(queue_memory=200_000)
    for number in range(100):
        world.send(child, A, [b"%05d" % number + b"x" * 10_000], persistent=persistent)
    assert world.view(A).paged > 50
    peak = 0

    def look() -> None:
        nonlocal peak
        peak = max(peak, world.router.sights.memory[0])

    moving = world.router.moving
    tally = carry_out(world, lambda tally: moving.move(moving.find(A), B, ALL, tally), look)

    assert tally.chosen == 100
    assert peak < 700_000
    reader = world.add_child()
    world.subscribe(reader, B)
    found: list[bytes] = []
    while len(found) < 100:
        some = world.consume(reader)
        work(world)
        found += some
    assert [int(body[:5]) for body in found] == list(range(100))


def test_what_comes_meanwhile_stays() -> None:
    """The scan ends with what was there when it began."""
    world, child = make_world()
    for number in range(3):
        world.send(child, A, [b"%d" % number])
    moving = world.router.moving
    tally = carry_out(
        world, lambda tally: moving.move(moving.find(A), B, ALL, tally), lambda: world.send(child, A, [b"new"])
    )

    assert tally.chosen == 3
    assert bodies(world, A) == [b"new"] * 3


def test_looking_changes_nothing() -> None:
    """Not the order, not what consumers get, and not their deliveries."""
    world, child = make_world()
    world.send(child, A, [b"1", b"2", b"3"])
    assert bodies(world, A) == [b"1", b"2", b"3"]
    reader = world.add_child()
    world.subscribe(reader, A)
    offer = world.take_one(reader)

    assert (offer.count, offer.deliveries) == (3, 0)


def test_nothing_is_offered_while_some_stand_aside() -> None:
    """It would be younger; then all is offered in order."""
    world, child = make_world()
    reader = world.add_child()
    world.send(child, A, [b"1", b"2"])
    tally, moving = Tally(), world.router.moving
    scan = moving.count(moving.find(A), ALL, tally)
    next(scan)
    world.subscribe(reader, A)
    assert world.offers(reader) == []

    for _ in scan:
        world.turn()
    world.turn()
    assert world.consume(reader) == [b"1", b"2"]


def test_what_a_consumer_has_is_left_alone() -> None:
    """It does not wait."""
    world, child = make_world()
    world.subscribe(child, A, credit=1)
    world.send(child, A, [b"1", b"2"])
    world.take_one(child)

    assert move(world).chosen == 1
    assert world.view(A).unsettled == 1


def test_messages_are_chosen_by_id_header_reason_and_number() -> None:
    """All of what is asked for has to hold; the others keep their place."""
    world, child = make_world()
    world.send(child, A, [b"%d" % number for number in range(5)])
    found: dict[bytes, bytes] = {}
    queue = world.router.moving.find(A)

    def see(run: Run) -> None:
        for place in range(run.count):
            found[body_of(run, place)] = run.message_id(place)
            assert lines_of(run, place) == []

    carry_out(world, lambda tally: world.router.moving.look(queue, ALL, tally, see))
    tally = move(world, Choice(ids=frozenset({found[b"1"], found[b"3"], b"nope"})))
    assert (tally.chosen, tally.found) == (2, {found[b"1"], found[b"3"]})
    assert bodies(world, A) == [b"0", b"2", b"4"]
    assert bodies(world, B) == [b"1", b"3"]

    assert move(world, Choice(lines=frozenset({b"no:such"}))).chosen == 0
    assert move(world, Choice(reason=Reason.POISON)).chosen == 0
    assert move(world, Choice(most=2)).chosen == 2
    assert bodies(world, A) == [b"4"]


def test_dead_letters_go_back_as_if_they_were_new() -> None:
    """To the queue that they came from, with no delivery counted and no reason."""
    world, child = make_world()
    bury(world, child, 3, persistent=True)
    assert world.view(DLQ).ready == 3
    moving = world.router.moving
    tally = carry_out(world, lambda tally: moving.retry(moving.find(DLQ), Choice(origin=B), tally))
    assert tally.chosen == 0
    choice = Choice(reason=Reason.REJECTED, origin=A)
    tally = carry_out(world, lambda tally: moving.retry(moving.find(DLQ), choice, tally))

    assert tally.chosen == 3
    reader = world.add_child()
    world.subscribe(reader, A)
    offer = world.take_one(reader)
    assert (offer.deliveries, offer.details.reason, offer.details.origin) == (0, Reason.NONE, b"")
    again = restart(world)
    assert bodies(again, A) == [b"0", b"1", b"2"]


def test_what_is_no_dead_letter_is_left_out() -> None:
    """With the reason; another place can be named."""
    world, child = make_world()
    world.send(child, A, [b"1"])
    moving = world.router.moving
    tally = carry_out(world, lambda tally: moving.retry(moving.find(A), ALL, tally))
    assert (tally.chosen, tally.left_out) == (0, 1)
    assert "no dead letter" in tally.reason
    assert bodies(world, A) == [b"1"]

    assert carry_out(world, lambda tally: moving.retry(moving.find(A), ALL, tally, B)).chosen == 1


def test_copies_are_messages_of_their_own() -> None:
    """The originals stay; both are in the store."""
    world, child = make_world()
    world.send(child, A, [b"1", b"2"], persistent=True)
    moving = world.router.moving
    carry_out(world, lambda tally: moving.copy(moving.find(A), B, ALL, tally))
    world.run_store()
    assert (bodies(world, A), bodies(world, B)) == ([b"1", b"2"], [b"1", b"2"])
    again = restart(world)
    assert (bodies(again, A), bodies(again, B)) == ([b"1", b"2"], [b"1", b"2"])


def test_what_is_removed_is_gone_from_the_store_too() -> None:
    """And the queue with it."""
    world, child = make_world()
    world.send(child, A, [b"1", b"2"], persistent=True)
    moving = world.router.moving
    assert carry_out(world, lambda tally: moving.remove(moving.find(A), ALL, tally)).chosen == 2
    world.run_store()

    assert world.router.views() == []
    assert restart(world).router.views() == []


def test_a_full_target_takes_no_more() -> None:
    """What has moved has moved, and the rest is where it was."""
    world, child = make_world(queue=QueuePolicy(max_length=2))
    for number in range(2):
        world.send(child, A, [b"%d" % number])
    world.send(child, B, [b"x"])
    with pytest.raises(RequestError, match="is full") as caught:
        move(world)

    assert caught.value.word == "conflict"
    assert (bodies(world, A), bodies(world, B)) == ([b"1"], [b"x", b"0"])


def test_a_queue_that_nothing_makes_is_no_target() -> None:
    """Nor is one that there is not a source."""
    world, child = make_world()
    world.send(child, A, [b"1"])
    for target in (b"/dsub/x", b"/reply-queue/x"):
        with pytest.raises(RequestError, match="there is no queue"):
            move(world, target=target)
    with pytest.raises(RequestError, match="there is no queue /queue/b"):
        world.router.moving.find(B)
    assert bodies(world, A) == [b"1"]


def test_a_scan_that_is_given_up_gives_all_back() -> None:
    """Its client has gone."""
    world, child = make_world()
    for number in range(5):
        world.send(child, A, [b"%d" % number], persistent=True)
    moving, tally = world.router.moving, Tally()
    scan = moving.move(moving.find(A), B, Choice(ids=frozenset({b"nope"})), tally)
    next(scan)
    next(scan)
    scan.close()
    work(world)

    assert bodies(world, A) == [b"0", b"1", b"2", b"3", b"4"]


def test_a_store_that_fails_is_not_waited_for() -> None:
    """What is in it alone cannot be reached."""
    world, child = make_world(queue_memory=100_000)
    for _ in range(30):
        world.send(child, A, [b"x" * 10_000], persistent=True)
    world.kill_store("the disk is on fire")
    moving = world.router.moving
    with pytest.raises(RequestError, match="the disk is on fire") as caught:
        move(world)
    assert caught.value.word == "unavailable"
    assert moving.find(A).messages + (world.view(B).ready if bodies_of(world, B) else 0) == 30


def bodies_of(world: World, name: bytes) -> bool:
    return any(view.name == name for view in world.router.views())


def make_deep(*, persistent: bool) -> tuple[World, Child]:
    """A queue that is in the store for the most part."""
    world, child = make_world(queue_memory=200_000)
    for number in range(100):
        world.send(child, A, [b"%05d" % number + b"x" * 10_000], persistent=persistent)
    assert world.view(A).paged > 50
    return world, child


@pytest.mark.parametrize("persistent", [False, True])
def test_a_deep_queue_is_purged_at_once_if_nobody_uses_it(persistent: bool) -> None:
    """One step, and nothing is read; what comes next is in a queue of this name again, and survives."""
    world, child = make_deep(persistent=persistent)
    dropped = world.router.counters.messages_dropped
    moving, steps = world.router.moving, 0

    def count() -> None:
        nonlocal steps
        steps += 1

    tally = carry_out(world, lambda tally: moving.purge(moving.find(A), tally), count)
    assert (tally.chosen, tally.seen, steps) == (100, 100, 1)
    assert world.router.counters.messages_dropped == dropped + 100
    assert not bodies_of(world, A)
    world.send(child, A, [b"next"], persistent=True)
    assert bodies(world, A) == [b"next"]

    assert bodies(restart(world), A) == [b"next"]


@pytest.mark.parametrize("heard", [0, 1, 100])
def test_a_purge_is_whole_whenever_the_store_dies(heard: int) -> None:
    """What came before is gone, and what came after is not."""
    world, child = make_deep(persistent=True)
    moving, tally = world.router.moving, Tally()
    list(moving.purge(moving.find(A), tally))
    world.send(child, A, [b"next"], persistent=True)
    world.turn()
    world.kill_store(heard=heard)
    world.open_store()
    work(world)

    assert bodies(world, A) == [b"next"]
    assert bodies(restart(world), A) == [b"next"]


@pytest.mark.parametrize("use", ["delivered", "held"])
def test_a_queue_in_use_is_purged_message_by_message(use: str) -> None:
    """What a consumer has stays its own."""
    world, _ = make_deep(persistent=True)
    reader, moving = world.add_child(), world.router.moving
    if use == "held":
        world.router.holding.hold(A, None)
    else:
        world.subscribe(reader, A, credit=1)
    work(world)
    kept = world.view(A).unsettled
    tally = carry_out(world, lambda tally: moving.purge(moving.find(A), tally))

    assert tally.chosen + kept == 100
    assert (kept > 0) is (use == "delivered")
    left = [(view.ready, view.unsettled) for view in world.router.views() if view.name == A]
    assert left == ([(0, kept)] if kept else [])


@pytest.mark.parametrize("seed", range(30))
def test_no_message_is_lost_or_doubled_by_kills_of_the_store(seed: int) -> None:
    """Random kills while messages move from queue to queue; in the end the store has each once, where memory has it."""
    random = Random(seed)
    world, child = make_world(queue_memory=60_000)
    total = 0
    for _ in range(25):
        size = random.choice([1, 1, 3])
        sent = [b"%04d" % (total + at) + b"x" * random.choice([10, 5_000]) for at in range(size)]
        world.send(child, random.choice([A, B]), sent, persistent=True)
        total += size
    moving = world.router.moving

    def disturb() -> None:
        if random.random() < 0.2:
            world.kill_store(heard=random.randint(0, 3))
            world.open_store()

    for _ in range(6):
        source, target = random.sample([A, B, b"/queue/c"], 2)
        if moving._queues.find(source) is None:
            continue
        choice = Choice(most=random.choice([None, 5]))
        begin = random.choice([moving.move, moving.move, moving.retry])

        def run(tally: Tally, *, begin=begin, source=source, target=target, choice=choice) -> Scan:  # type: ignore[no-untyped-def]
            queue = moving.find(source)
            return begin(queue, target, choice, tally) if begin == moving.move else begin(queue, choice, tally, target)

        carry_out(world, run, disturb)
    world.run_store()
    there = sorted(body[:4] for name in (A, B, b"/queue/c") for body in bodies(world, name))
    assert there == [b"%04d" % number for number in range(total)]
    before = [bodies(world, name) for name in (A, B, b"/queue/c")]
    again = restart(world)
    assert [bodies(again, name) for name in (A, B, b"/queue/c")] == before


def test_waiting_is_a_step_of_its_own() -> None:
    """Whoever carries it out need not do anything before the store has answered."""
    world, child = make_world(queue_memory=100_000)
    for _ in range(30):
        world.send(child, A, [b"x" * 10_000], persistent=True)
    moving, tally = world.router.moving, Tally()
    steps: list[int] = []
    for step in moving.count(moving.find(A), ALL, tally):
        steps.append(step)
        if step == WAIT:
            work(world)

    assert WAIT in steps
    assert tally.chosen == 30


def test_a_queue_that_does_not_fit_into_memory_is_too_deep_to_look_through() -> None:
    """Unless its messages are persistent, as these need only their place; all stay where they are."""
    world, child = make_world(queue_memory=100_000)
    for _ in range(50):
        world.send(child, A, [b"x" * 10_000])
    with pytest.raises(RequestError, match="is too deep to look through: memory is used up by"):
        move(world, Choice(ids=frozenset({b"nope"})))

    assert world.view(A).ready == 50


@pytest.mark.parametrize("persistent", [False, True])
def test_dead_letters_are_chosen_by_what_the_broker_says_of_them(persistent: bool) -> None:
    """By the value of `reject-reason` and the others; what goes back is no dead letter any more."""
    world, child = make_world()
    bury(world, child, 2, b"disk full", persistent=persistent)
    bury(world, child, 3, b"timeout", persistent=persistent)
    moving = world.router.moving
    for marks, count in (
        ({"reject-reason": b"disk"}, 0),
        ({"reject-reason": b"timeout", "original-destination": B}, 0),
        ({"dead-letter-reason": b"expired"}, 0),
        ({"reject-reason": b"timeout", "original-destination": A, "dead-letter-reason": b"rejected"}, 3),
    ):
        choice = Choice(marks=frozenset(marks.items()))
        tally = carry_out(world, lambda tally, choice=choice: moving.retry(moving.find(DLQ), choice, tally))
        assert tally.chosen == count

    again = restart(world) if persistent else world
    assert bodies(again, DLQ) == [b"0", b"1"]
    assert bodies(again, A) == [b"0", b"1", b"2"]
    found: list[Details] = []
    queue = again.router.moving.find(A)
    carry_out(again, lambda tally: again.router.moving.look(queue, ALL, tally, lambda run: found.append(run.details)))
    assert {(details.reason, details.reject_reason, details.origin) for details in found} == {(Reason.NONE, b"", b"")}
