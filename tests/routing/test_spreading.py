"""Long work in several turns: how much each turn does, and that order and promises hold in between."""

from __future__ import annotations

from itertools import pairwise

import pytest

from forkbroker.routing.queues.policies import Full, Policy, QueuePolicy
from forkbroker.wire.details import Wishes
from forkbroker.wire.envelope import Envelope, pack_settle
from forkbroker.wire.kinds import Flag, Kind, Outcome

from .simulation import APART, Child, World, make, make_send
from .stock import Stock

A, B = b"/queue/a", b"/queue/b"
STEPS = 5


def make_world(*, stock: bool = False, **policy: object) -> World:
    return World(Policy(queue=QueuePolicy(**policy)), slots=256, stock=Stock() if stock else None, steps=STEPS)  # type: ignore[arg-type]


def settle_turns(world: World, most: int = 1000) -> int:
    """Turns until nothing is left to do; how many."""
    for turns in range(most):
        deadline = world.router.deadline()
        if deadline is None or deadline > world.now:
            return turns
        world.turn()
    raise AssertionError("it does not come to rest")


def fill(world: World, count: int, *, persistent: bool = False, name: bytes = A) -> Child:
    """So many messages, one in each SEND, and each for itself."""
    producer = world.add_child()
    for number in range(count):
        world.send(producer, name, [b"%d" % number], persistent=persistent, wishes=APART)
    settle_turns(world)
    return producer


def hold_all(world: World, count: int) -> Child:
    """A consumer that holds as many messages."""
    child = world.add_child()
    world.subscribe(child, A, credit=count)
    while len(child.held[1]) < count:
        world.turn()
        while child.inbox:
            world.claim(child, world.read(child, Kind.OFFER))
        world.hear(child)
    settle_turns(world)
    return child


def offered(child: Child) -> list[bytes]:
    """What lies in the child's inbox, in order."""
    return [bytes(body) for offer in child.inbox if offer.kind is Kind.OFFER for body in offer.pieces()]


# ---------------------------------------------------------------- what comes back


@pytest.mark.parametrize("crash", ["", "by SIGSEGV"])
def test_nothing_younger_is_offered_before_all_of_a_dead_consumer_is_back(crash: str) -> None:
    """Its end takes many turns; a consumer that waits gets nothing meanwhile, and then the oldest."""
    world = make_world()
    fill(world, 30)
    dying = hold_all(world, 20)
    world.end(dying, crash)
    heir = world.add_child()
    world.subscribe(heir, A)
    world.turn()
    assert (offered(heir), world.view(A).ready < 30) == ([], True)

    settle_turns(world)
    first, *_ = offered(heir)
    assert first == b"0"
    assert world.view(A).unsettled >= 1


def test_each_turn_takes_back_so_many_and_no_more() -> None:
    """A thousand are as many turns' work."""
    world = make_world()
    fill(world, 200)
    dying = hold_all(world, 200)
    world.end(dying)
    ready = [world.view(A).ready]
    while world.router.waiting:
        world.turn()
        ready.append(world.view(A).ready)

    assert ready[-1] == 200
    assert max(after - before for before, after in pairwise(ready)) <= STEPS + STEPS // 2 + 1


def test_leases_that_end_at_once_give_back_in_portions_and_in_order() -> None:
    """An idle consumer gets the oldest first, once all are back."""
    world = make_world(lease=1000)
    fill(world, 40)
    hold_all(world, 30)
    heir = world.add_child()
    world.subscribe(heir, A, credit=1)
    world.pass_time(0.9)
    world.turn()
    heir.inbox.clear()
    before = world.view(A).unsettled
    world.pass_time(0.2)
    world.turn()
    assert before - world.view(A).unsettled <= STEPS

    settle_turns(world)
    assert world.router.counters.leases_ended == 30


def test_a_cumulative_nack_comes_back_before_anything_younger_is_offered() -> None:
    """One word for twenty messages."""
    world = make_world()
    fill(world, 40)
    child = hold_all(world, 20)
    other = world.add_child()
    world.subscribe(other, A, credit=1)
    world.settle(child, 1, 20, Outcome.RELEASED)
    world.hear(child)
    world.turn()
    assert offered(other) == []

    settle_turns(world)
    assert offered(other) == [b"0"]


def test_the_end_of_a_consumer_waits_for_what_it_has_settled() -> None:
    """What was received before the end counts, however late it is applied: nothing comes twice."""
    world = make_world()
    fill(world, 30)
    child = hold_all(world, 30)
    for serial in range(1, 21):
        world.settle(child, serial)
    world.end(child)
    settle_turns(world)

    assert world.router.counters.messages_acknowledged == 20
    assert world.view(A).ready == 10


def test_a_lease_does_not_end_while_its_settlement_waits() -> None:
    """The child has sent it in time."""
    world = make_world(lease=1000)
    fill(world, 20)
    child = hold_all(world, 20)
    for serial in range(1, 21):
        world.settle(child, serial)
    world.hear(child)
    world.pass_time(2)
    settle_turns(world)

    assert (world.router.counters.messages_acknowledged, world.router.counters.leases_ended) == (20, 0)


# ---------------------------------------------------------------- what peers send


def test_what_one_peer_sends_makes_no_other_one_wait() -> None:
    """A hundred SENDs in one read, and one of another peer behind them: it is there after one more turn."""
    world = make_world()
    loud, quiet = world.add_child(), world.add_child()
    for number in range(100):
        world.send(loud, A, [b"%d" % number])
    world.send(quiet, B, [b"x"], fence=1)
    assert list(world.router.waiting) == [loud.peer, quiet.peer]
    world.turn()

    assert world.answers(quiet) == [(Kind.FENCED, 1)]
    assert world.view(A).ready <= 3 * STEPS


def test_order_and_receipts_of_a_peer_hold_over_turns() -> None:
    """In the order of the asking, with all before applied."""
    world = make_world()
    child = world.add_child()
    for number in range(1, 31):
        world.send(child, A, [b"%d" % number], fence=number)
    settle_turns(world)

    assert world.answers(child) == [(Kind.FENCED, number) for number in range(1, 31)]
    consumer = world.add_child()
    world.subscribe(consumer, A)
    settle_turns(world)
    assert world.consume(consumer) == [b"%d" % number for number in range(1, 31)]


def test_the_broker_is_not_at_rest_before_all_is_applied() -> None:
    """No goodbye is said before that."""
    world = make_world()
    child = world.add_child()
    assert world.router.is_committed
    for number in range(20):
        world.send(child, A, [b"%d" % number])
    assert not (world.router.is_committed or world.router.is_applied)
    assert world.router.deadline() == world.now

    settle_turns(world)
    assert world.router.is_committed
    assert world.router.deadline() is None


def test_nonsense_that_was_late_is_told_when_it_is_met() -> None:
    """As if it had been applied at once; what comes behind it is not."""
    world = make_world()
    liar = world.add_child()
    for _ in range(STEPS):
        world.send(liar, A, [b"x"])
    world.tell(liar, make(Kind.CLAIMED, number=77, token=1), make_send(A, [b"y"]))

    with pytest.raises(AssertionError, match="offer 77 expects no answer"):
        world.catch_up(liar)
    assert not world.router.waiting
    assert world.view(A).ready == STEPS


def test_nonsense_of_a_peer_that_has_ended_harms_nobody() -> None:
    """It is noted, and the end is applied."""
    world = make_world()
    liar = world.add_child()
    for _ in range(STEPS):
        world.send(liar, A, [b"x"])
    world.tell(liar, make(Kind.CLAIMED, number=77, token=1))
    world.end(liar)
    settle_turns(world)

    (note,) = world.router.take_notes()
    assert note.startswith(f"client {liar.peer}: sent an invalid envelope before it ended: offer 77")


# ---------------------------------------------------------------- transactions


def commit(world: World, child: Child, parts: list[Envelope], fence: int = 0) -> None:
    flags = Flag.FENCE if fence else 0
    world.tell(
        child, make(Kind.TRANSACTION, flags=flags, number=fence, count=len(parts), payload=[each.raw for each in parts])
    )


def test_a_long_transaction_is_one_change_and_later_changes_are_told_behind_it() -> None:
    """Another peer's message that comes meanwhile has a later number, and its receipt comes after."""
    world = make_world(stock=True)
    one, two = world.add_child(), world.add_child()
    settle_turns(world)
    parts = [make_send([A, B][number % 2], [b"%d" % number], persistent=True) for number in range(20)]
    commit(world, one, parts, fence=1)
    told: list[Kind] = []
    while one.peer in world.router.waiting:
        world.turn()
        told = [envelope.kind for envelope in world.stock.told]
        if not two.outbox and world.router._journal.last:
            world.send(two, A, [b"later"], fence=2, persistent=True)
        assert Kind.WRITE not in told or Kind.TOGETHER in told

    world.run_store()
    assert (Kind.FENCED, 1) in world.answers(one)
    settle_turns(world)
    world.run_store()
    rows = sorted((row.serial, row.body) for row in world.stock.rows.values())
    assert {body for _, body in rows} == {b"later"} | {b"%d" % number for number in range(20)}


def test_a_transaction_that_is_refused_late_changes_nothing() -> None:
    """The last of its parts is one too many."""
    world = make_world(max_length=10, full=Full.REFUSE)
    child = world.add_child()
    commit(world, child, [make_send(A, [b"x"]) for _ in range(12)], fence=1)
    settle_turns(world)

    assert world.answers(child) == [(Kind.REFUSED, 1)]
    assert world.router.views() == []
    assert world.router.counters.messages_refused == 12


def test_a_transaction_is_applied_whole_although_its_client_ends() -> None:
    """It was received: what it settles is settled, what it sends is there."""
    world = make_world()
    fill(world, 20)
    child = hold_all(world, 20)
    settled = Envelope(pack_settle(1, [(serial, 1, Outcome.ACKNOWLEDGED) for serial in range(1, 21)])[0])
    commit(world, child, [settled, *[make_send(B, [b"%d" % number]) for number in range(20)]])
    world.end(child)
    settle_turns(world)

    assert [(view.name, view.ready) for view in world.router.views()] == [(B, 20)]


def test_a_part_that_can_not_be_is_found_before_any_is_applied() -> None:
    """Parts are checked in steps; a SEND to a durable subscription's queue is no client's to make."""
    world = make_world()
    child = world.add_child()
    commit(world, child, [*[make_send(A, [b"x"]) for _ in range(20)], make_send(b"/dsub/a", [b"x"])])

    with pytest.raises(Exception, match="SEND to b'/dsub/a'"):
        world.catch_up(child)
    assert world.router.views() == []


# ---------------------------------------------------------------- all queues


def test_the_store_s_opening_visits_so_many_queues_in_a_turn() -> None:
    """Each queue of which the store has messages is asked for one; the questions come in portions."""
    world = make_world(stock=True)
    producer = world.add_child()
    for number in range(40):
        world.send(producer, b"/queue/%d" % number, [b"x"], persistent=True)
    settle_turns(world)
    world.run_store()
    stock = world.stock
    stock.kill()
    again = World(Policy(), stock=stock, steps=STEPS)
    asked = 0
    while again.router._kit.chores.all:
        again.deliver()
        found = sum(envelope.kind is Kind.FETCH for envelope in stock.told)
        assert found - asked <= 2 * STEPS
        asked = found
        again.turn()
    again.run_store()

    assert sum(view.ready + view.paged for view in again.router.views()) == 40


# ---------------------------------------------------------------- what queues lose


def test_a_large_message_takes_the_place_of_many_in_portions() -> None:
    """The oldest go, so many in a turn, until the limit is kept."""
    world = make_world(max_bytes=100_000, full=Full.DROP_OLDEST)
    producer = fill(world, 100)
    before = world.view(A).ready
    world.send(producer, A, [bytes(90_000)], wishes=APART)
    lost = [before + 1 - world.view(A).ready]
    while world.router._kit.chores.all:
        world.turn()
        lost.append(before + 1 - world.view(A).ready)

    assert max(after - earlier for earlier, after in pairwise([0, *lost])) <= 2 * STEPS
    assert lost[-1] > 50
    assert world.view(A).octets <= 100_000


def test_a_queue_that_is_gone_while_it_loses_messages_harms_nobody() -> None:
    """What it was to lose is gone with it, and another queue of its name begins anew."""
    world = World(Policy(durable=QueuePolicy(max_bytes=100_000, full=Full.DROP_OLDEST)), steps=STEPS)
    child = world.add_child()
    world.subscribe(child, b"/topic/t", durable=b"/dsub/d")
    world.unsubscribe(child)
    settle_turns(world)
    for _ in range(100):
        world.send(child, b"/topic/t", [b"x"])
    settle_turns(world)
    world.send(child, b"/topic/t", [bytes(90_000)])
    world.delete_durable(child, b"/dsub/d")
    world.subscribe(child, b"/topic/t", token=2, durable=b"/dsub/d")
    settle_turns(world)

    assert [(view.name, view.ready, view.octets) for view in world.router.views()] == [(b"/dsub/d", 0, 0)]
    assert world.router._queues.window.used == 0


def test_what_waits_for_a_queue_that_is_gone_is_dropped_in_portions() -> None:
    """Its time may come before that: then nothing does. Another queue of its name gets none of it."""
    world = make_world()
    child = world.add_child()
    name = b"/reply-queue/secret/a"
    world.subscribe(child, name, flags=Flag.TEMPORARY)
    for _ in range(50):
        world.send(child, name, [b"x"], wishes=Wishes(delay=1000))
    settle_turns(world)
    world.unsubscribe(child)
    world.subscribe(child, name, token=2, flags=Flag.TEMPORARY)
    world.turn()
    assert 0 < world.router.counters.messages_dropped < 50
    world.pass_time(2)
    settle_turns(world)

    assert world.router.counters.messages_dropped == 50
    assert (world.view(name).ready, offered(child)) == (0, [])
    assert (len(world.router._timers), world.router._jobs.delays.octets) == (0, 0)
