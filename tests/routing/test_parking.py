"""Deliveries that outlive their connections."""

from __future__ import annotations

import pytest

from forkbroker.routing.offers.parking import LATE, STOPPED
from forkbroker.routing.queues.policies import Policy, QueuePolicy
from forkbroker.wire.envelope import Envelope
from forkbroker.wire.kinds import Flag, Kind, Outcome

from .simulation import DLQ, Child, World, make
from .stock import Stock
from .twins import hand_over

A = b"/queue/a"
KEY, OTHER = b"k" * 32, b"o" * 32
ALICE, BOB = b"default\nalice", b"default\nbob"
LEASE_S = 30.0


def make_world(max_unsettled: int = 67_108_864, **policy: object) -> tuple[World, Child]:
    """A world with one message in the queue, and a child that takes it."""
    queue = QueuePolicy(**policy)  # type: ignore[arg-type]
    world = World(Policy(queue=queue, max_unsettled=max_unsettled), slots=64, stock=Stock())
    taker = world.add_child()
    world.send(world.add_child(), A, [b"1"], persistent=True)
    return world, taker


def claim(world: World, child: Child) -> Envelope:
    """The child claims the next message, and has read all that it was told before."""
    world.answers(child)
    return world.take_one(child)


def take(world: World, taker: Child, key: bytes = KEY, owner: bytes = ALICE, token: int = 1) -> Envelope:
    """The child claims a message, parks it, and leaves the queue."""
    world.subscribe(taker, A, token=token, credit=1)
    offer = claim(world, taker)
    park(world, taker, offer.serial, key, owner, token)
    world.unsubscribe(taker, token)
    world.run_store()
    return offer


def park(world: World, child: Child, serial: int, key: bytes = KEY, owner: bytes = ALICE, token: int = 1) -> None:
    fields = {"token": token, "serial": serial, "index": int(LEASE_S * 1000), "destination": owner, "block": key}
    world.tell(child, make(Kind.PARK, flags=Flag.FENCE, number=7, **fields))


def settle(
    world: World,
    child: Child,
    outcome: Outcome = Outcome.ACKNOWLEDGED,
    *,
    key: bytes = KEY,
    owner: bytes = ALICE,
    reason: bytes = b"",
) -> None:
    block = key + b"\n" + reason if reason else key
    world.tell(child, make(Kind.UNPARK, flags=Flag.FENCE, number=8, token=outcome, destination=owner, block=block))
    world.run_store()


def next_of(world: World) -> list[tuple[int, bytes]]:
    """What another consumer gets: earlier deliveries, and the body."""
    other = world.add_child()
    world.subscribe(other, A, credit=100)
    world.run_store()
    return [(offer.deliveries, bytes(offer.pieces()[0])) for offer in world.offers(other)]


@pytest.mark.parametrize("crash", ["", "SIGKILL"])
def test_a_parked_delivery_outlives_its_child(crash: str) -> None:
    """However that ends; another one settles it, and it counts as unsettled until then."""
    world, taker = make_world()
    take(world, taker)
    world.end(taker, crash)
    world.turn()
    other = world.add_child()

    assert next_of(world) == []
    assert (world.view(A).ready, world.view(A).unsettled) == (0, 1)
    settle(world, other)
    assert world.answers(other)[-1] == (Kind.FENCED, 8)
    assert world.view(A).unsettled == 0
    assert world.router.counters.messages_acknowledged == 1
    world.pass_time(LEASE_S)
    world.turn()
    assert world.router.counters.leases_ended == 0


def test_a_child_that_ends_before_it_has_parked_loses_the_message() -> None:
    """To the next consumer, as any child does."""
    world, taker = make_world()
    world.subscribe(taker, A)
    claim(world, taker)
    world.end(taker)
    world.turn()

    assert next_of(world) == [(1, b"1")]


def test_it_comes_back_when_its_lease_is_over() -> None:
    """As after any delivery in vain; then its key is that of nothing, also when the message is parked again."""
    world, taker = make_world()
    take(world, taker)
    world.pass_time(LEASE_S - 0.001)
    world.turn()
    assert world.view(A).ready == 0
    world.pass_time(0.001)
    world.turn()
    assert (world.view(A).ready, world.router.counters.leases_ended) == (1, 1)
    offer = take(world, taker, OTHER, token=2)

    settle(world, taker)
    assert world.refusal(taker) == LATE
    assert offer.deliveries == 1
    settle(world, taker, key=OTHER)
    assert world.router.counters.messages_acknowledged == 1


def test_it_is_settled_once() -> None:
    """The second one comes too late."""
    world, taker = make_world()
    take(world, taker)
    settle(world, taker)
    settle(world, taker)

    assert world.refusal(taker) == LATE
    assert world.router.counters.settlements_late == 1


def test_only_the_same_user_settles_it() -> None:
    """Whoever else has the key is told what one is told who has none."""
    world, taker = make_world()
    take(world, taker)
    settle(world, taker, owner=BOB)
    assert world.refusal(taker) == LATE
    settle(world, taker, key=OTHER)
    assert world.refusal(taker) == LATE

    settle(world, taker)
    assert world.router.counters.messages_acknowledged == 1


def test_nack_gives_it_back_or_buries_it() -> None:
    """With its reason."""
    world, taker = make_world()
    take(world, taker)
    settle(world, taker, Outcome.RELEASED)
    assert next_of(world) == [(1, b"1")]

    world, taker = make_world()
    take(world, taker)
    settle(world, taker, Outcome.REJECTED, reason=b"no such page")
    assert world.view(DLQ).ready == 1
    [(_, told)] = world.router.rejected
    assert "reason: no such page" in told


def test_the_policy_bounds_the_lease() -> None:
    """Of whoever asks for more."""
    world, taker = make_world(lease=5_000)
    take(world, taker)
    world.pass_time(5)
    world.turn()

    assert world.view(A).ready == 1


def test_who_parks_has_credit_again() -> None:
    """And can be offered the next message."""
    world, taker = make_world()
    world.send(taker, A, [b"2"])
    world.subscribe(taker, A, credit=1)
    offer = claim(world, taker)
    park(world, taker, offer.serial)

    assert bytes(claim(world, taker).pieces()[0]) == b"2"


def test_what_a_child_does_not_hold_it_cannot_park() -> None:
    """Nor under a key that is in use."""
    world, taker = make_world()
    park(world, taker, 1)
    assert world.refusal(taker) == LATE
    take(world, taker)
    world.send(taker, A, [b"2"])
    world.subscribe(taker, A, token=2)
    offer = claim(world, taker)
    park(world, taker, offer.serial + 1, OTHER, token=2)
    assert world.refusal(taker) == LATE
    park(world, taker, offer.serial, token=2)
    assert "in use" in world.refusal(taker)


def test_each_user_can_park_so_much() -> None:
    """As one child can hold so much; what others have parked does not count."""
    world, taker = make_world(max_unsettled=1)
    take(world, taker)
    world.send(taker, A, [b"2"])
    second = world.add_child()
    world.subscribe(second, A)
    offer = claim(world, second)
    park(world, second, offer.serial, OTHER)
    assert "max-unsettled" in world.refusal(second)
    park(world, second, offer.serial, OTHER, BOB)
    assert world.view(A).unsettled == 2

    settle(world, taker)
    world.send(taker, A, [b"3"])
    world.subscribe(second, A, token=2)
    park(world, second, claim(world, second).serial, token=2)
    assert world.view(A).unsettled == 2


def test_the_end_of_the_broker_puts_all_back() -> None:
    """The store learns that it was delivered, so that it is marked after the next start."""
    world, taker = make_world()
    take(world, taker)
    world.router.stop_offers()
    world.turn()

    assert (world.view(A).ready, world.view(A).unsettled) == (1, 0)
    settle(world, taker)
    assert world.refusal(taker) == LATE


def test_nothing_is_parked_while_the_broker_ends() -> None:
    """What was offered before goes back with its consumer, and is marked after the next start."""
    world, taker = make_world()
    world.subscribe(taker, A)
    offer = claim(world, taker)
    world.router.stop_offers()
    park(world, taker, offer.serial)
    assert world.refusal(taker) == STOPPED

    world.end(taker)
    world.turn()
    world.run_store()
    assert (world.view(A).ready, world.view(A).unsettled) == (1, 0)
    assert world.stock is not None
    assert [row.deliveries for row in world.stock.rows.values()] == [1]


def test_it_goes_with_its_queue() -> None:
    """A temporary one ends with its child."""
    world = World(Policy(), slots=64)
    owner, producer = world.add_child(), world.add_child()
    name = b"/reply-queue/k.a"
    world.subscribe(owner, name, flags=Flag.TEMPORARY)
    world.send(producer, name, [b"1"])
    park(world, owner, claim(world, owner).serial)
    world.end(owner)
    world.turn()

    settle(world, producer)
    assert world.refusal(producer) == LATE
    world.pass_time(LEASE_S)
    world.turn()
    assert world.router.counters.messages_requeued == 0


@pytest.mark.parametrize("is_handed_over", [False, True])
def test_what_went_with_its_queue_is_not_on_its_users_account(is_handed_over: bool) -> None:
    """Its user can park as much as before, in the same turn."""
    world = World(Policy(max_unsettled=1), slots=64)
    owner, other = world.add_child(), world.add_child()
    name = b"/reply-queue/k.a"
    world.subscribe(owner, name, flags=Flag.TEMPORARY)
    world.send(other, name, [b"1"])
    park(world, owner, claim(world, owner).serial)
    if is_handed_over:
        hand_over(world)
    world.end(owner)
    world.subscribe(other, A)
    world.send(other, A, [b"2"])
    park(world, other, claim(world, other).serial, OTHER)
    world.run_store()

    assert world.answers(other)[-1] == (Kind.FENCED, 7)
    settle(world, other, key=OTHER)
    assert world.router.counters.messages_acknowledged == 1


def test_a_key_that_is_used_again_before_its_queue_is_forgotten_keeps_what_it_is_of_now() -> None:
    """Many parked deliveries are forgotten in several turns."""
    world = World(Policy(), slots=64)
    owner, other = world.add_child(), world.add_child()
    name = b"/reply-queue/k.a"
    world.subscribe(owner, name, flags=Flag.TEMPORARY, credit=1000)
    world.send(other, name, [b"1"] * 600)
    offer = claim(world, owner)
    for number in range(600):
        park(world, owner, offer.serial + number, b"%032d" % number)
        world.turn()
    world.end(owner)
    settle(world, other, key=b"%032d" % 0)
    assert world.refusal(other) == LATE
    world.subscribe(other, A)
    world.send(other, A, [b"2"])
    park(world, other, claim(world, other).serial, b"%032d" % 0)
    for _ in range(5):
        world.turn()

    settle(world, other, key=b"%032d" % 0)
    assert world.router.counters.messages_acknowledged == 1


def test_another_router_knows_it() -> None:
    """With its lease, and what its user has parked."""
    world, taker = make_world(max_unsettled=1)
    take(world, taker)
    hand_over(world)
    world.send(taker, A, [b"2"])
    world.subscribe(taker, A, token=2)
    park(world, taker, claim(world, taker).serial, OTHER, token=2)
    assert "max-unsettled" in world.refusal(taker)
    settle(world, taker)
    assert world.view(A).unsettled == 1

    world, taker = make_world()
    take(world, taker)
    hand_over(world)
    world.pass_time(LEASE_S)
    world.turn()
    assert world.view(A).ready == 1
