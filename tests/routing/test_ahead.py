"""Offers ahead of credit: who gets them, how several share them, and when they are recalled."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from forkbroker.errors import EnvelopeError
from forkbroker.routing.offers.ahead import AHEAD_S, _join
from forkbroker.routing.offers.consumers import QUICK_S
from forkbroker.routing.peers import Token
from forkbroker.routing.queues.policies import Policy, QueuePolicy
from forkbroker.routing.queues.runs import Run, make_run
from forkbroker.wire.details import NO_WISHES, Wishes
from forkbroker.wire.envelope import Envelope, pack_settle
from forkbroker.wire.fields import MAX_AHEAD, MAX_SHARED
from forkbroker.wire.kinds import Flag, Kind, Outcome

from .simulation import Child, Kept, World, make, make_send
from .twins import hand_over

NAME = b"/queue/jobs"


def make_world(
    bodies: Sequence[bytes] = [b"%d" % number for number in range(20)],
    *,
    wishes: Wishes = NO_WISHES,
    policy: Policy | None = None,
    slots: int = 64,
) -> tuple[World, Child]:
    """A queue with messages, and a worker with prefetch 1 that has claimed the first one."""
    world = World(policy, slots=slots)
    world.send(world.add_child(), NAME, bodies, wishes=wishes)
    worker = add_worker(world)
    world.take_one(worker)
    return world, worker


def add_worker(world: World, flags: int = 0) -> Child:
    worker = world.add_child()
    world.subscribe(worker, NAME, credit=1, keeps=MAX_AHEAD, flags=flags)
    return worker


def finish(world: World, worker: Child, took_s: float = 0.0, outcome: Outcome = Outcome.ACKNOWLEDGED) -> list[Envelope]:
    """The worker settles what it has after so long; what it is sent by that."""
    world.pass_time(took_s)
    world.settle(worker, next(iter(worker.held[1])), outcome=outcome)
    return receive(world, worker)


def receive(world: World, worker: Child) -> list[Envelope]:
    world.turn()
    sent = list(worker.inbox)
    worker.inbox.clear()
    return sent


def be_quick(world: World, worker: Child) -> Envelope:
    """The worker has settled one message at once, and claimed the next one: what it keeps."""
    first, ahead = finish(world, worker)
    world.claim(worker, first)
    world.hear(worker)
    assert (first.kind, ahead.kind, ahead.count) == (Kind.OFFER, Kind.AHEAD, MAX_AHEAD)
    worker.kept.append(Kept(ahead))
    return ahead


def make_team(size: int = 3, *, messages: int = 60, slots: int = 64) -> tuple[World, list[Child]]:
    """Workers that have settled one message each at once, have claimed another one, and keep what comes then."""
    world = World(slots=slots)
    team = [add_worker(world) for _ in range(size)]
    world.send(world.add_child(), NAME, [b"%d" % number for number in range(messages)])
    world.turn()
    for worker in team:
        world.claim(worker, world.read(worker, Kind.OFFER))
        world.settle(worker, next(iter(worker.held[1])))
    world.turn()
    for worker in team:
        world.claim(worker, world.read(worker, Kind.OFFER))
    read_all(world, team)
    return world, team


def read_all(world: World, team: list[Child]) -> list[Kind]:
    """A turn; all read what they are told, and keep what is offered to them ahead."""
    world.turn()
    kinds = []
    for worker in team:
        while worker.inbox:
            envelope = worker.inbox.popleft()
            kinds.append(envelope.kind)
            if envelope.kind is Kind.AHEAD:
                worker.kept.append(Kept(envelope))
            elif envelope.kind is Kind.WITHDRAW:
                world.withdraw(worker, envelope.number)
    return kinds


def work(world: World, worker: Child) -> list[bytes]:
    """The worker settles what it has, and takes the next of what it keeps."""
    world.settle(worker, next(iter(worker.held[1])))
    return world.take_ahead(worker)


def answer_all(world: World, worker: Child, withdrawals: list[Envelope]) -> None:
    """The worker lets go of all that it kept."""
    for one in withdrawals:
        world.withdraw(worker, one.number)


def bodies(offers: list[Envelope]) -> list[bytes]:
    return [bytes(body) for offer in offers for body in offer.pieces()]


def count_ahead(world: World) -> int:
    """Messages that are kept, as far as the parent knows."""
    return sum(offer.count - offer.tried for offer in world.router._offering.ahead.kept.values())


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


# ---------------------------------------------------------------- several workers


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


def test_what_is_not_side_by_side_comes_back_in_parts() -> None:
    """Each of them a run."""
    run = make_run(make_send(NAME, [b"x"] * 9), 11)
    parts = [(part.serial, part.count, part.first, part.octets) for part in _join(run, [19, 18, 15, 12, 11])]

    assert parts == [(18, 2, 7, 2), (15, 1, 4, 1), (11, 2, 0, 2)]


def test_a_queue_that_is_held_takes_back_what_it_has_offered() -> None:
    """Nobody goes on with it."""
    world, team = make_team()
    with world.router.on_behalf_of(team[0].peer, world.now):
        world.router.holding.hold(NAME, None)
    told = read_all(world, team)

    assert told == [Kind.WITHDRAW] * 3
    assert count_ahead(world) == 0


def test_what_was_sent_one_by_one_is_offered_to_one_each_time() -> None:
    """To offer each to all of them would cost more than it brings; to one that is alone it is offered ahead."""
    world = World()
    producer = world.add_child()
    team = [add_worker(world) for _ in range(2)]
    for number in range(20):
        world.send(producer, NAME, [b"%d" % number])
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
