"""Workers with prefetch 1 that settle at once, and what they keep: to be offered messages ahead."""

from __future__ import annotations

from collections.abc import Sequence

from forkbroker.routing.queues.policies import Policy
from forkbroker.wire.details import NO_WISHES, Wishes
from forkbroker.wire.envelope import Envelope
from forkbroker.wire.fields import MAX_AHEAD
from forkbroker.wire.kinds import Kind, Outcome

from .simulation import Child, Kept, World

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
