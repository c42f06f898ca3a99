"""Messages of one priority, and of several in one queue."""

from __future__ import annotations

import pytest

from forkbroker.routing.queues.lanes import Lane
from forkbroker.routing.queues.policies import Policy
from forkbroker.routing.queues.runs import Run, make_run
from forkbroker.wire.details import Details, Wishes
from forkbroker.wire.kinds import Kind, Outcome

from .simulation import Child, World, make, make_send
from .twins import hand_over

A = b"/queue/a"


def run_at(serial: int, count: int = 1, *, expires: int = 0, octets: int = 1) -> Run:
    return make_run(make_send(A, [b"x" * octets] * count), serial, Details(expires=expires))


def make_lane(*runs: Run) -> Lane:
    lane = Lane(4)
    for run in runs:
        lane.append(run)
    return lane


def serials(lane: Lane) -> list[int]:
    """Of the messages, as they are taken one by one."""
    return [lane.take(1).serial for _ in range(lane.ready)]


# ---------------------------------------------------------------- one lane


def test_what_comes_back_stands_before_what_was_never_taken() -> None:
    """In the order of sending, whatever the order of coming back."""
    lane = make_lane(run_at(1, 3), run_at(4, 2), run_at(6))
    first, second, third = lane.take(2), lane.take(1), lane.take(2)

    for run in (third, first, second):
        lane.put_back(run)

    assert serials(lane) == [1, 2, 3, 4, 5, 6]


def test_taking_never_goes_across_runs() -> None:
    """The rest of a run that was divided is next."""
    lane = make_lane(run_at(1, 3), run_at(4, 3))

    taken = [(run.serial, run.count) for run in (lane.take(1), lane.take(2), lane.take(3))]

    assert taken == [(1, 1), (2, 2), (4, 3)]


def test_what_a_lane_uses_is_the_sum_of_what_can_be_taken() -> None:
    """After each step of a life."""
    lane = make_lane(run_at(1, 3, octets=100), run_at(4, octets=1000))

    def total() -> int:
        return sum(run.memory for run in (*lane.returned, *lane.fresh))

    assert lane.memory == total() > 1300
    run = lane.take(2)
    assert lane.memory == total()
    lane.put_back(run)
    assert (lane.ready, lane.memory) == (4, total())
    lane.take_expired(10**15, 100)
    serials(lane)
    assert (lane.ready, lane.memory) == (0, 0)


def test_what_has_expired_is_taken_out_wherever_it_stands() -> None:
    """Among what came back, and among what was never taken; at its moment, not before it."""
    lane = make_lane(run_at(1, expires=500), run_at(2, 2, expires=700), run_at(4), run_at(5, expires=500))
    lane.put_back(lane.take(1))
    assert lane.expiries.next() == 500

    assert lane.take_expired(499, 100) == []
    assert [run.serial for run in lane.take_expired(500, 100)] == [1, 5]

    assert lane.expiries.next() == 700
    assert (lane.ready, serials(lane)) == (3, [2, 3, 4])
    assert lane.expiries.next() == 0


def test_what_comes_from_the_store_takes_its_part_of_what_was_thought() -> None:
    """Sizes of what was there at the start are estimates: the difference is told, so that sums come out even."""
    lane = Lane(4)
    lane.paged, lane.paged_octets = 10, 5000
    runs = [run_at(1, 4), run_at(5, 6)]

    excess = sum(lane.page_in(run) for run in runs)

    assert (lane.paged, lane.paged_octets, lane.last) == (0, 0, 10)
    assert excess == sum(run.memory for run in runs) - 5000


def test_more_from_the_store_than_was_thought_is_no_error() -> None:
    """Somebody may have added rows by hand."""
    lane = Lane(4)
    lane.paged, lane.paged_octets = 1, 700

    excess = lane.page_in(run := run_at(1, 4))

    assert (lane.paged, lane.paged_octets, lane.ready) == (0, 0, 4)
    assert excess == run.memory - 700


# ---------------------------------------------------------------- several lanes


def make_world(credit: int = 1) -> tuple[World, Child, Child]:
    world = World(Policy())
    producer, consumer = world.add_child(), world.add_child()
    world.subscribe(consumer, A, credit=credit)
    return world, producer, consumer


def send(world: World, child: Child, *several: tuple[int, bytes]) -> None:
    for priority, body in several:
        world.send(child, A, [body], wishes=Wishes(priority=priority))


def test_the_highest_priority_comes_first_and_each_in_its_order() -> None:
    """Whatever waits is sorted; what has no priority has the fourth."""
    world, producer, consumer = make_world()
    send(world, producer, (0, b"a"), (9, b"b"), (3, b"c"))
    world.send(producer, A, [b"d"])
    send(world, producer, (5, b"e"), (9, b"f"), (4, b"g"))

    assert world.consume(consumer) == [b"b", b"f", b"e", b"d", b"g", b"c", b"a"]


def test_what_comes_back_keeps_its_priority() -> None:
    """It is not before what is more important, and before its equals."""
    world, producer, consumer = make_world()
    send(world, producer, (4, b"a"), (4, b"b"), (9, b"c"))
    offer = world.take_one(consumer)
    world.settle(consumer, offer.serial)
    offer = world.take_one(consumer)
    assert offer.details.priority == 4
    send(world, producer, (9, b"d"))
    world.settle(consumer, offer.serial, 1, Outcome.RELEASED)

    assert world.consume(consumer) == [b"d", b"a", b"b"]


def test_a_large_credit_takes_higher_priorities_first_too() -> None:
    """All offers of a turn are in that order."""
    world, producer, consumer = make_world(credit=100)
    send(world, producer, (1, b"a"), (2, b"b"), (3, b"c"), (2, b"d"))
    world.turn()

    assert [bytes(offer.pieces()[0]) for offer in consumer.inbox] == [b"c", b"b", b"d", b"a"]


@pytest.mark.parametrize("priority", [0, 4, 9])
def test_an_offer_tells_the_priority(priority: int) -> None:
    """The section is there only if it says anything."""
    world, producer, consumer = make_world()
    send(world, producer, (priority, b"a"))

    assert world.take_one(consumer).details.priority == priority


def test_a_priority_of_a_batch_is_that_of_all_its_messages() -> None:
    """They are one run."""
    world, producer, consumer = make_world(credit=100)
    send(world, producer, (1, b"a"))
    world.send(producer, A, [b"b", b"c"], wishes=Wishes(priority=7))
    world.turn()

    assert [(world.read(consumer, Kind.OFFER).count) for _ in range(2)] == [2, 1]


def test_a_queue_is_empty_when_all_its_priorities_are() -> None:
    """Then it is forgotten, and begins anew."""
    world, producer, consumer = make_world()
    send(world, producer, (1, b"a"), (8, b"b"))
    world.unsubscribe(consumer)
    assert world.view(A).ready == 2
    world.subscribe(consumer, A, token=2)

    for _ in range(2):
        world.turn()
        offer = consumer.inbox.popleft()
        world.claim(consumer, offer)
        world.settle(consumer, offer.serial, offer.count, token=2)
        world.hear(consumer)
    world.tell(consumer, make(Kind.UNSUBSCRIBE, destination=A, token=2))

    assert world.router.views() == []


# ---------------------------------------------------------------- back to the store


def test_what_was_paged_back_follows_what_was_taken() -> None:
    """From the oldest message on, whether it had come back or was never taken; the sums are the same as before."""
    lane = Lane(4)
    for serial in (1, 2, 3):
        lane.append(make_run(make_send(b"/queue/a", [b"x" * serial]), serial))
    lane.page_out(make_run(make_send(b"/queue/a", [b"x"]), 4))
    runs = [lane.take(1) for _ in range(2)]
    lane.put_back(runs[1])
    before = (lane.memory + lane.paged_octets, [run.serial for run in lane.runs()])

    lane.page_back()

    assert before == (lane.paged_octets, [2, 3])
    assert (lane.last, lane.told) == (1, 1)
    assert (lane.paged, lane.ready, lane.memory, lane.runs()) == (3, 0, 0, [])


# ---------------------------------------------------------------- what has left its place


def test_the_head_is_never_an_empty_run() -> None:
    """Be the first one, or the one behind the first, what has expired."""
    lane = make_lane(run_at(1, expires=500), run_at(2), run_at(3, expires=500), run_at(4))

    assert [run.serial for run in lane.take_expired(500, 100)] == [1, 3]

    assert lane.head().serial == 2
    assert lane.take(1).serial == 2
    assert lane.head().serial == 4
    assert serials(lane) == [4]
    assert (lane.containers(), lane.memory) == ([], 0)


def test_places_of_what_has_expired_do_not_pile_up() -> None:
    """Behind a message that stays there are some tens of them at most, however many were there; the order stays."""
    lane = make_lane(run_at(1), *(run_at(serial, expires=serial) for serial in range(2, 1002)), run_at(1002))

    for now_ms in range(2, 1002, 10):
        lane.take_expired(now_ms, 100)
        assert len(lane.fresh) - lane.ready <= 64 + len(lane.fresh) // 2
    assert lane.take_expired(1002, 100)

    assert len(lane.fresh) <= 132
    assert serials(lane) == [1, 1002]


def test_so_many_runs_expire_at_once_and_the_rest_later() -> None:
    """Sums are right in between."""
    lane = make_lane(*(run_at(serial, 2, expires=5) for serial in (1, 3, 5)))

    assert [run.serial for run in lane.take_expired(5, 2)] == [1, 3]
    assert (lane.ready, lane.memory) == (2, lane.head().memory)
    assert [run.serial for run in lane.take_expired(5, 2)] == [5]
    assert (lane.ready, lane.memory) == (0, 0)


def test_what_is_told_after_the_question_is_counted_apart() -> None:
    """The store's answer does not speak of it."""
    lane = Lane(4)
    lane.page_out(run_at(1, 3))
    lane.paged_since = 0
    lane.page_out(run_at(4, 2))

    assert (lane.paged, lane.paged_since) == (5, 2)


def make_stub(serial: int, count: int = 1, *, expires: int = 0) -> Run:
    stub = run_at(serial, count, expires=expires)
    stub.drop_bodies()
    return stub


def test_a_stub_has_a_place_and_uses_no_memory() -> None:
    """It is counted apart until it is taken out, by its serial or because it has expired."""
    lane = make_lane(run_at(9))
    memory = lane.memory
    for stub in (make_stub(4, expires=70), make_stub(1, 2), make_stub(6, 3, expires=70)):
        lane.put_back(stub)
    assert (lane.ready, lane.stubbed, lane.memory) == (1, 6, memory)
    assert [stub.serial for stub in lane.stubs] == [6, 4, 1]

    assert [(stub.serial, stub.count) for stub in lane.take_stubs(2, 7)] == [(2, 1), (4, 1), (6, 1)]
    assert (lane.stubbed, [(stub.serial, stub.count) for stub in lane.stubs]) == (3, [(7, 2), (1, 1)])
    assert [(stub.serial, stub.count) for stub in lane.take_expired(70, 9)] == [(7, 2)]
    assert (lane.ready, lane.stubbed, lane.memory, lane.expiries.next()) == (1, 1, memory, 0)


def test_a_lane_is_blocked_while_its_oldest_message_is_a_stub() -> None:
    """Not by a stub that is younger than what can be taken."""
    lane = Lane(4)
    assert not lane.is_blocked
    lane.put_back(make_stub(5))
    assert lane.is_blocked

    lane.put_back(run_at(6))
    assert lane.is_blocked
    lane.put_back(run_at(4))
    assert not lane.is_blocked
    assert lane.take_stubs(5, 5) == []


def test_a_lane_goes_back_to_the_store_with_its_stubs() -> None:
    """The oldest of all, stub or not, is what the store is asked for next."""
    lane = make_lane(run_at(7), run_at(8))
    lane.put_back(make_stub(3, 2, expires=70))
    octets = lane.memory + sum(stub.memory for stub in lane.stubs)

    lane.page_back()

    assert (lane.last, lane.told, lane.paged, lane.paged_octets) == (2, 2, 4, octets)
    assert (lane.ready, lane.stubbed, lane.memory, lane.is_blocked) == (0, 0, 0, False)
    assert (lane.containers(), lane.expiries.next()) == ([], 0)


def test_what_is_hidden_comes_in_its_order() -> None:
    """Also what needs no change: it stands behind what does. Each change shows its own and what came behind it."""
    lane = Lane(4)
    for serial, number in ((1, 0), (2, 5), (3, 0), (4, 6)):
        lane.append(run_at(serial, expires=70), number)
    assert (lane.ready, lane.hidden, lane.last) == (1, 3, 4)
    assert len(lane.take_expired(70, 9)) == 1

    assert lane.commit(4) == []
    assert [run.serial for run in lane.commit(5)] == [2, 3]
    assert (lane.ready, lane.hidden) == (2, 1)
    assert [run.serial for run in lane.commit(7)] == [4]
    assert (lane.ready, lane.hidden) == (3, 0)
    assert [run.serial for run in lane.take_expired(70, 9)] == [2, 3, 4]


@pytest.mark.parametrize("start", [3, 4, 5])
def test_a_stub_before_the_range_stays(start: int) -> None:
    """Be it right before it or not; so does one behind it."""
    lane = Lane(4)
    for stub in (make_stub(1, 2), make_stub(5), make_stub(7, 2)):
        lane.put_back(stub)

    assert [(stub.serial, stub.count) for stub in lane.take_stubs(start, 7)] == [(5, 1)]
    assert ([(stub.serial, stub.count) for stub in lane.stubs], lane.stubbed) == ([(7, 2), (1, 2)], 4)


@pytest.mark.parametrize("last", [0, 7])
def test_a_new_lane_has_nothing_and_has_asked_for_nothing(last: int) -> None:
    """It begins behind the serial that it is told, or behind none."""
    lane = Lane(4, last) if last else Lane(4)

    assert (lane.ready, lane.hidden, lane.stubbed, lane.memory) == (0, 0, 0, 0)
    assert (lane.paged, lane.paged_octets, lane.paged_since) == (0, 0, 0)
    assert (lane.is_fetching, lane.asked, lane.stubs_from, lane.stubs_to) == (False, 0, 0, 0)
    assert (lane.last, lane.told, lane.asked_after) == (last, last, last)
    assert (lane.runs(), lane.containers(), lane.is_blocked, lane.expiries.next()) == ([], [], False, 0)


# ---------------------------------------------------------------- in another router


def test_messages_have_their_places_in_another_router() -> None:
    """By priority; what came back before what was never taken, and what has expired is gone."""
    world = World()
    child = world.add_child()
    world.subscribe(child, A, credit=2)
    world.send(child, A, [b"1", b"2", b"3"])
    world.send(child, A, [b"soon over"], wishes=Wishes(ttl=1_000))
    world.send(child, A, [b"first"], wishes=Wishes(priority=9))
    world.send(child, A, [b"4"])
    first, second = world.take_one(child), world.take_one(child)
    world.settle(child, second.serial, second.count, Outcome.RELEASED)
    world.hear(child)

    hand_over(world)
    world.pass_time(1)
    world.router.tick(world.now)
    hand_over(world)
    world.settle(child, first.serial, first.count)

    assert bytes(first.pieces()[0]) == b"first"
    assert world.consume(child) == [b"1", b"2", b"3", b"4"]
    assert world.router._queues.window.used == 0
