"""Offers ahead that several workers share: in which order, and what becomes of them."""

from __future__ import annotations

import pytest

from forkbroker.errors import EnvelopeError
from forkbroker.routing.offers.ahead import AHEAD_S
from forkbroker.routing.peers import Token
from forkbroker.routing.queues.policies import Policy
from forkbroker.routing.queues.runs import Run
from forkbroker.wire.envelope import Envelope, pack_settle
from forkbroker.wire.fields import MAX_AHEAD, MAX_SHARED
from forkbroker.wire.kinds import Kind, Outcome

from .quick import (
    NAME,
    add_worker,
    be_quick,
    bodies,
    count_ahead,
    make_team,
    make_world,
    read_all,
    work,
)
from .simulation import APART, Child, World, make


def test_all_quick_workers_are_offered_the_same() -> None:
    """Each message once more than one of them: whoever is ready takes the next one."""
    _, team = make_team()
    numbers = {(kept.offer.number, kept.offer.slot) for worker in team for kept in worker.kept}

    assert len(numbers) == 1
    assert bodies([team[0].kept[0].offer]) == [b"%d" % number for number in range(6, 6 + MAX_SHARED)]


def test_messages_are_taken_in_their_order_whoever_takes_them() -> None:
    """The parent hears of it later."""
    world, team = make_team()
    first, second, third = team
    got = [work(world, worker) for worker in (second, first, second, second, third, first)]

    assert got == [[b"%d" % number] for number in range(6, 12)]


def test_one_word_settles_all_that_a_worker_has_had_meanwhile() -> None:
    """Also what the parent did not know to be claimed: it is another one's business no more."""
    world, team = make_team()
    for worker in (team[0], team[1], team[0], team[1], team[0]):
        work(world, worker)
    settled = [envelope.count for envelope in team[0].outbox if envelope.kind is Kind.SETTLE]
    world.turn()

    assert settled == [1, 2]
    assert world.view(NAME).unsettled == 3 + count_ahead(world)
    assert world.router.counters.messages_acknowledged == 3 + 5


def test_more_is_offered_to_all_when_one_tells_that_half_of_it_is_gone() -> None:
    """It has tried all that others have."""
    world, team = make_team()
    for _ in range(MAX_SHARED // 2):
        work(world, team[0])
    world.turn()
    more = [worker.inbox.popleft() for worker in team]

    assert [(one.kind, one.count) for one in more] == [(Kind.AHEAD, MAX_SHARED // 2)] * 3
    assert {one.serial for one in more} == {more[0].serial}


def test_a_slow_worker_ends_it_for_all() -> None:
    """It keeps nobody from anything, but neither does it answer."""
    world, team = make_team()
    for _ in range(12):
        work(world, team[0])
        work(world, team[1])
        read_all(world, team)
        world.pass_time(0.005)
    assert world.view(NAME).unsettled == 3 + count_ahead(world) > 3
    world.pass_time(AHEAD_S)
    told = read_all(world, team)

    assert Kind.WITHDRAW in told and Kind.AHEAD not in told
    assert count_ahead(world) == 0


def test_who_has_tried_all_is_offered_what_follows() -> None:
    """It is idle, and all that is older is claimed."""
    world, team = make_team(2, messages=4 + MAX_SHARED)
    first, second = team
    for _ in range(MAX_SHARED):
        work(world, second)
    assert work(world, first) == []
    world.send(world.add_child(), NAME, [b"next"])
    world.turn()

    assert bodies([envelope for envelope in first.inbox if envelope.kind is Kind.OFFER]) == [b"next"]
    assert second.inbox == first.inbox.__class__()


def test_who_leaves_before_it_has_tried_all_ends_it_for_all() -> None:
    """It may be idle before the others have taken the rest."""
    world, team = make_team()
    first, second, _ = team
    assert work(world, first) == [b"6"]
    world.leave(first, first.kept.popleft(), Kind.PASSED)
    world.hear(first)
    world.turn()

    assert count_ahead(world) == 0
    assert second.inbox[-1].kind is Kind.WITHDRAW
    assert world.view(NAME).ready == 60 - 7


def test_a_crash_of_one_marks_what_it_had_and_leaves_the_rest() -> None:
    """Which of what was not told was its own is clear when the others have answered."""
    world, team = make_team()
    first, second, third = team
    assert (work(world, first), work(world, second)) == ([b"6"], [b"7"])
    first.outbox.pop()  # the claim
    world.end(first, "by SIGKILL")
    read_all(world, [second, third])
    for worker in (second, third):
        world.settle(worker, next(iter(worker.held[1])))
        while worker.kept:
            world.leave(worker, worker.kept.popleft(), Kind.PASSED)
        world.hear(worker)
        world.unsubscribe(worker)
    last = world.add_child()
    world.subscribe(last, NAME)
    offered = [(bytes(body), offer.deliveries) for offer in world.consume_offers(last) for body in offer.pieces()]

    assert offered[:4] == [(b"6", 1), (b"8", 0), (b"9", 0), (b"10", 0)]


def holdings(world: World, child: Child) -> list[Run]:
    """What the router knows this child to hold."""
    return list(world.router._offering.clientele.children[child.peer].consumers[Token(1)].unsettled)


def find_offered(world: World, team: list[Child]) -> set[int]:
    """The serials of what they were offered and have not read."""
    return {offer.serial for worker in team for offer in worker.inbox if offer.kind is Kind.OFFER}


@pytest.mark.parametrize("when_told", [True, False])
def test_a_message_that_crashed_one_of_them_is_suspect(when_told: bool) -> None:
    """Whether its claim was told or not; what others have is not, nor what nobody had."""
    world, team = make_team()
    first, second, third = team
    assert (work(world, first), work(world, second)) == ([b"6"], [b"7"])
    if not when_told:
        first.outbox.pop()
    world.hear(first)
    world.end(first, "by SIGSEGV")
    read_all(world, [second, third])
    world.turn()
    queue = world.router._queues.find(NAME)
    assert queue is not None
    crashes = {run.serial: run.details.crashes for lane in queue.lanes for run in lane.runs()}
    held = [run.details.crashes for child in (second, third) for run in holdings(world, child)]

    assert [serial for serial, count in crashes.items() if count] == [7]
    assert held == [0, 0]


def test_what_is_recalled_is_tried_from_the_youngest_to_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that goes on at that moment, from the oldest to the youngest, has the oldest then, and no other."""
    world, team = make_team(messages=6 + 2 * MAX_SHARED)
    for _ in range(MAX_SHARED // 2):
        work(world, team[0])
    read_all(world, team)
    first, second = (kept.offer for kept in team[1].kept)
    tried: list[int] = []
    try_acquire = world.semaphores.try_acquire
    monkeypatch.setattr(world.semaphores, "try_acquire", lambda slot: tried.append(slot) or try_acquire(slot))
    add_worker(world)
    world.turn()

    young = [second.slot + at for at in reversed(range(second.count))]
    old = [first.slot + at for at in reversed(range(first.count))]
    assert tried[: len(young)] == young
    assert tried[len(young) :] == old[: len(tried) - len(young)] != []


@pytest.mark.parametrize("outcome", [Outcome.RELEASED, Outcome.REJECTED])
def test_a_message_that_was_claimed_of_what_is_kept_can_be_given_back(outcome: Outcome) -> None:
    """Told with its claim, and not as it was: it counts as delivered, or is a dead letter."""
    world, team = make_team()
    work(world, team[0])
    world.hear(team[0])
    world.settle(team[1], next(iter(team[1].held[1])))
    assert world.take_ahead(team[1]) == [b"7"]
    (serial,) = team[1].held[1]
    world.settle(team[1], serial, outcome=outcome)
    if outcome is Outcome.RELEASED:
        world.leave(team[1], team[1].kept.popleft())
    world.turn()
    queue = world.router._queues.find(NAME)
    assert queue is not None
    first = queue.lanes[0].head()

    if outcome is Outcome.RELEASED:
        assert (first.serial, first.deliveries) == (serial, 1) or serial in find_offered(world, team)
    else:
        assert world.view(b"/queue/DLQ").ready == 1
    assert world.view(NAME).unsettled + world.view(NAME).ready == 60 - 5 - (outcome is Outcome.REJECTED)


def test_who_has_tried_all_takes_nothing_from_who_has_not() -> None:
    """All of it is claimed, and the other one will find that."""
    world, team = make_team(3, messages=6 + MAX_SHARED)
    first, second, third = team
    for _ in range(MAX_SHARED):
        work(world, third)
    assert work(world, first) == []
    lost = world.router.counters.offers_lost
    told = read_all(world, team)

    assert told == []
    # the third one has claimed the last message, which says as much
    assert world.router.counters.offers_lost == lost + 1
    assert work(world, second) == []


def test_more_is_offered_when_a_claim_shows_that_half_is_gone() -> None:
    """Its settlement comes later."""
    world, team = make_team()
    for _ in range(MAX_SHARED // 2 - 1):
        work(world, team[0])
    world.settle(team[0], next(iter(team[0].held[1])))
    before = read_all(world, team)
    world.take_ahead(team[0])

    assert before == []
    assert read_all(world, team) == [Kind.AHEAD] * 3


def test_who_hides_a_claim_is_found_out() -> None:
    """When all have answered, and nobody has ended."""
    world, worker = make_world()
    offer = be_quick(world, worker)
    assert world.semaphores.try_acquire(offer.slot + 3)
    worker.kept[0].tried = offer.count
    world.leave(worker, worker.kept.popleft())

    with pytest.raises(AssertionError, match="is taken, but by no candidate"):
        world.hear(worker)
    world.end(worker)
    other = world.add_child()
    world.subscribe(other, NAME)
    offers = world.consume_offers(other)
    again = [(bytes(body), offer.deliveries) for offer in offers for body in offer.pieces()]

    # 1 it had, and 5 it has hidden: nothing is lost by that
    assert sorted(again, key=lambda one: int(one[0])) == [
        (b"%d" % number, int(number in (1, 5))) for number in range(1, 20)
    ]


def test_a_queue_that_is_held_takes_back_what_it_has_offered() -> None:
    """Nobody goes on with it."""
    world, team = make_team()
    with world.router.on_behalf_of(team[0].peer, world.now):
        world.router.holding.hold(NAME, None)
    told = read_all(world, team)

    assert told == [Kind.WITHDRAW] * 3
    assert count_ahead(world) == 0


def test_what_is_alone_is_offered_to_one_each_time() -> None:
    """To offer each to all of them would cost more than it brings; to one that is alone it is offered ahead."""
    world = World()
    producer = world.add_child()
    team = [add_worker(world) for _ in range(2)]
    for number in range(20):
        world.send(producer, NAME, [b"%d" % number], wishes=APART)
    for _ in range(3):
        world.turn()
        for worker in team:
            world.claim(worker, world.read(worker, Kind.OFFER))
            world.settle(worker, next(iter(worker.held[1])))

    assert count_ahead(world) == 0
    world.unsubscribe(team.pop())
    world.take_one(team[0])
    assert bodies(list(team[0].inbox)) == [b"%d" % number for number in range(7, 7 + MAX_AHEAD)]


def test_many_workers_share_nothing() -> None:
    """Each would get all of it."""
    world, _ = make_team(9)

    assert count_ahead(world) == 0


@pytest.mark.parametrize("event", ["comes", "goes", "wants more"])
def test_what_is_shared_is_recalled_when_there_are_others(event: str) -> None:
    """From all of them, in the same turn."""
    world, team = make_team()
    if event == "comes":
        add_worker(world)
    elif event == "goes":
        world.unsubscribe(team[0])
    else:
        world.subscribe(team[0], NAME, credit=2)
    told = read_all(world, team)

    assert told.count(Kind.WITHDRAW) == 3
    assert count_ahead(world) == 0


def test_nobody_is_offered_more_than_it_may_have() -> None:
    """In octets: of what is left for its child, half."""
    world = World(Policy(max_unsettled=8_000))
    team = [add_worker(world) for _ in range(2)]
    world.send(world.add_child(), NAME, [bytes(100)] * 60)
    world.turn()
    for worker in team:
        world.claim(worker, world.read(worker, Kind.OFFER))
        world.settle(worker, next(iter(worker.held[1])))
    read_all(world, team)
    children = world.router._offering.clientele.children

    assert 0 < count_ahead(world) < MAX_SHARED
    assert all(children[worker.peer].octets <= 8_000 for worker in team)


def test_what_is_offered_ahead_needs_slots_side_by_side() -> None:
    """With fewer of them, fewer messages are offered."""
    world, team = make_team(2, slots=8)

    assert team[0].kept[0].offer.count == 4
    assert world.router._offering.claims.free.bit_count() >= 2


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"kind": Kind.CLAIMED, "serial": 1}, "no message 1 that child"),
        ({"kind": Kind.CLAIMED, "serial": 7}, "which has not taken its semaphore"),
        ({"kind": Kind.LOST, "index": MAX_SHARED}, "has tried 16"),
        ({"kind": Kind.LOST, "token": 2}, "expects no answer"),
    ],
)
def test_a_child_that_lies_about_what_it_keeps_is_found_out(fields: dict[str, object], why: str) -> None:
    """And nothing has changed."""
    world, team = make_team(messages=6 + 12)
    kind = fields.pop("kind")
    number = team[0].kept[0].offer.number
    lie = {"token": 1, "number": number, **fields}
    with pytest.raises((AssertionError, EnvelopeError), match=why):
        world.tell(team[0], make(kind, **lie))  # type: ignore[arg-type]

    assert count_ahead(world) == 12


def test_who_settles_what_it_has_not_claimed_is_found_out() -> None:
    """However much it names."""
    world, team = make_team()
    offer = team[0].kept[0].offer
    lie = pack_settle(1, [(1, 0xFFFF_FFFF, Outcome.ACKNOWLEDGED)], claimed=offer.number)[0]
    with pytest.raises(AssertionError, match="which has not taken its semaphore"):
        world.tell(team[0], Envelope(bytes(lie)))
