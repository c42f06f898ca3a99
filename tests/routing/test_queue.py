"""The order within one queue."""

from __future__ import annotations

from forkbroker.routing.counters import QueueView
from forkbroker.routing.queues.lanes import Lane
from forkbroker.routing.queues.policies import QueuePolicy
from forkbroker.routing.queues.queue import MAX_OFFER_OCTETS, Queue
from forkbroker.routing.queues.runs import Run, make_run
from forkbroker.routing.queues.window import Window
from forkbroker.wire.details import Details
from forkbroker.wire.envelope import MAX_BATCH

from .simulation import make_send


def make_queue(*counts: int, body: bytes = b"x") -> Queue:
    queue, serial = Queue(b"/queue/a", QueuePolicy(), Window(1 << 26)), 1
    for count in counts:
        append(queue, make_run(make_send(b"/queue/a", [body] * count), serial))
        serial += count
    return queue


def append(queue: Queue, run: Run, number: int = 0) -> Lane:
    """To the lane of its priority."""
    lane = queue.lane(run.details.priority)
    queue.append(lane, run, number)
    return lane


def take(queue: Queue, most: int) -> Run:
    """From the only lane."""
    (lane,) = queue.lanes
    return queue.take(lane, most)


def test_messages_are_taken_in_order_and_never_across_envelopes() -> None:
    """A run is part of one envelope."""
    queue = make_queue(2, 3)

    taken = [(run.serial, run.count) for run in (take(queue, 1), take(queue, 9), take(queue, 2), take(queue, 9))]

    assert taken == [(1, 1), (2, 1), (3, 2), (5, 1)]
    assert (queue.ready, queue.messages) == (0, 5)


def test_what_comes_back_goes_to_its_old_place() -> None:
    """In whatever order it comes; before what was never taken."""
    queue = make_queue(4, 2)
    runs = [take(queue, 1) for _ in range(4)]

    for index in (2, 0, 3):
        queue.put_back(runs[index])

    assert queue.ready == 5
    assert [take(queue, 1).serial for _ in range(5)] == [1, 3, 4, 5, 6]


def test_a_part_of_what_came_back_can_be_taken() -> None:
    """The rest keeps its place."""
    queue = make_queue(4, 1)
    queue.put_back(take(queue, 4))

    assert [(run.serial, run.count) for run in (take(queue, 3), take(queue, 3), take(queue, 3))] == [
        (1, 3),
        (4, 1),
        (5, 1),
    ]


def test_a_run_is_bounded_in_messages_and_octets() -> None:
    """But one message is always taken."""
    half = b"x" * (MAX_OFFER_OCTETS // 2)

    assert take(make_queue(3, body=half), 9).count == 2
    assert take(make_queue(2, body=half * 3), 9).count == 1
    assert take(make_queue(MAX_BATCH), 10 * MAX_BATCH).count == MAX_BATCH


def test_memory_is_given_back_when_messages_are_forgotten() -> None:
    """Not when they are taken: they may come back."""
    queue = make_queue(2, 1)
    octets = queue.octets
    first, second = take(queue, 2), take(queue, 1)

    assert queue.octets == octets > 0
    queue.forget(first)
    assert queue.view() == QueueView(b"/queue/a", 0, 1, second.memory, 0)
    queue.forget(second)
    assert (queue.messages, queue.octets) == (0, 0)


# ---------------------------------------------------------------- what stays in memory


def test_new_messages_stay_as_far_as_the_shared_memory_has_room() -> None:
    """Exactly as far: a queue may have as much as is free. Nothing is kept beyond that while nobody can have it."""
    run = make_run(make_send(b"/queue/a", [b"x"]), 1)
    for limit, is_kept in ((run.memory, True), (run.memory - 1, False)):
        queue = Queue(b"/queue/a", QueuePolicy(), Window(limit))

        assert queue.keeps(queue.lane(run.details.priority), run) is is_kept


def test_what_follows_paged_messages_never_stays() -> None:
    """The order would be lost."""
    queue = make_queue()
    run = make_run(make_send(b"/queue/a", [b"x"]), 1)
    queue.page_out(run)

    assert not queue.keeps(queue.lane(run.details.priority), make_run(make_send(b"/queue/a", [b"y"]), 2))


def test_memory_is_what_lanes_and_takers_have_also_after_paging() -> None:
    """Out, in, back, and out of the queue."""
    queue = make_queue(2)
    queue.page_out(make_run(make_send(b"/queue/a", [b"x" * 100]), 3))
    taken = take(queue, 1)
    assert (queue.memory, queue.paged) == (queue.lanes[0].memory + taken.memory, 1)

    queue.page_in(make_run(make_send(b"/queue/a", [b"x" * 300]), 3))
    assert (queue.memory, queue.octets) == (queue.lanes[0].memory + taken.memory, queue.memory)
    queue.put_back(taken)
    octets = queue.octets
    queue.page_back(queue.lanes[0])

    assert (queue.memory, queue.window.used, queue.octets, queue.ready, queue.paged) == (0, 0, octets, 0, 3)


def test_rows_that_were_lost_take_their_octets_with_them() -> None:
    """What the store does not have after all no longer counts, in the lane and in the queue; the rest does."""
    queue = make_queue()
    queue.restore(4, 5, 1000)
    (lane,) = queue.lanes

    queue.lose(lane, 2)
    assert (lane.paged, lane.paged_octets, queue.messages, queue.octets) == (3, 600, 3, 600)
    queue.lose(lane, 3)
    assert (lane.paged, lane.paged_octets, queue.messages, queue.octets) == (0, 0, 0, 0)


def test_what_a_restart_found_is_added_to_each_priority() -> None:
    """In the store alone: none of it uses memory."""
    queue = make_queue()
    queue.restore(4, 2, 100)
    queue.restore(4, 3, 50)
    queue.restore(9, 1, 7)

    high, middle = queue.lanes
    assert [(lane.priority, lane.paged, lane.paged_octets) for lane in (high, middle)] == [(9, 1, 7), (4, 5, 150)]
    assert (queue.messages, queue.octets, queue.memory, queue.window.used, queue.ready) == (6, 157, 0, 0, 0)
    assert queue.view() == QueueView(b"/queue/a", 6, 0, 157, 0, 6)


def test_a_stub_counts_as_a_message_and_not_as_memory() -> None:
    """Its octets count as before, until the store tells what they are; or with it they are gone."""
    queue = make_queue(1, 1)
    size = queue.octets // 2
    first, second = take(queue, 1), take(queue, 1)
    for run in (first, second):
        queue.drop_bodies(run)
    assert (queue.memory, queue.window.used, queue.octets) == (0, 0, 2 * size)
    for run in (second, first):
        queue.put_back(run)
    assert (queue.ready, queue.paged, queue.messages) == (0, 2, 2)

    (lane,) = queue.lanes
    stub, lost = lane.take_stubs(1, 3)
    queue.revive(stub, make_run(make_send(b"/queue/a", [b"x" * 101]), 1))
    assert (queue.ready, queue.memory, queue.window.used, queue.octets) == (1, size + 100, size + 100, 2 * size + 100)
    queue.lose_stub(lost)

    assert (queue.ready, queue.paged, queue.messages, queue.octets) == (1, 0, 1, size + 100)
    assert (queue.memory, lane.memory) == (size + 100, size + 100)


def test_a_stub_that_is_forgotten_gives_no_memory_back() -> None:
    """It had none: that was given back with its bodies."""
    queue = make_queue(1, 1)
    size = queue.octets // 2
    run = take(queue, 1)
    queue.drop_bodies(run)

    queue.forget(run)

    assert (queue.messages, queue.octets, queue.memory, queue.window.used) == (1, size, size, size)


def test_a_queue_that_is_gone_keeps_no_memory_but_what_is_delivered() -> None:
    """That is given back when it is forgotten; nothing is waited for from the store any more."""
    queue = make_queue(1, 1)
    size = queue.octets // 2
    append(queue, make_run(make_send(b"/queue/a", [b"x"]), 3), 1)
    taken, (lane,) = take(queue, 1), queue.lanes
    lane.asked, queue.window.asked = 40, 100

    remains = queue.drop_ready()

    assert sorted(map(len, remains)) == [1, 1]
    assert (queue.ready, queue.lanes, queue.window.asked) == (0, [], 60)
    assert (queue.memory, queue.window.used) == (size, size)
    queue.forget(taken)
    assert (queue.memory, queue.window.used) == (0, 0)


def test_the_next_expiry_is_the_first_of_all_priorities() -> None:
    """Of what can be taken; 0: nothing expires."""
    queue = make_queue(1)
    assert queue.next_expiry() == 0

    for serial, priority, expires in ((2, 4, 900), (3, 7, 500), (4, 1, 700)):
        details = Details(priority=priority, expires=expires)
        append(queue, make_run(make_send(b"/queue/a", [b"x"]), serial, details))
    assert queue.next_expiry() == 500

    assert [run.serial for run in queue.take_expired(700, 1)] == [3]
    assert queue.ready == 3
    assert [run.serial for run in queue.take_expired(700, 9)] == [4]
    assert (queue.ready, queue.next_expiry()) == (2, 900)


def test_what_is_hidden_is_shown_by_its_change() -> None:
    """It counts as waiting, and can't be taken before."""
    queue = make_queue()
    lane = append(queue, make_run(make_send(b"/queue/a", [b"x"] * 2), 1), 5)
    assert (queue.ready, queue.messages, queue.view().ready, queue.view().unsettled) == (0, 2, 2, 0)

    assert queue.commit(lane, 4) == []
    assert [run.serial for run in queue.commit(lane, 5)] == [1]

    assert (queue.ready, queue.view().ready) == (2, 2)


def test_a_new_queue_has_nothing() -> None:
    """And is neither temporary nor durable, if nothing is said of that."""
    queue = Queue(b"/queue/a", QueuePolicy(), Window(1 << 26))

    assert (queue.ready, queue.messages, queue.octets, queue.memory, queue.paged, queue.returning) == (0, 0, 0, 0, 0, 0)
    assert (queue.lanes, queue.held, queue.waiting, queue.catching_up_until) == ([], set(), {}, 0.0)
    assert (queue.is_temporary, queue.is_durable, queue.is_gone) == (False, False, False)
    assert queue.view() == QueueView(b"/queue/a", 0, 0, 0, 0)
