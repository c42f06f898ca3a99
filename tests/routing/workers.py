"""A producer, and children that consume from one queue."""

from __future__ import annotations

from forkbroker.routing.queues.policies import Policy
from forkbroker.wire.kinds import Kind

from .simulation import Child, World

A, B = b"/queue/a", b"/queue/b"


def offers_of(world: World) -> list[tuple[int, int, int]]:
    """(peer, serial, count) of each offer of one turn."""
    return [(peer, offer.serial, offer.count) for peer, offer in world.turn() if offer.kind is Kind.OFFER]


def make_world(workers: int, *, credit: int = 1, slots: int = 64, **policy: int) -> tuple[World, Child, list[Child]]:
    world = World(Policy(**policy), slots=slots)  # type: ignore[arg-type]
    producer = world.add_child()
    children = [world.add_child() for _ in range(workers)]
    for child in children:
        world.subscribe(child, A, credit=credit)
    return world, producer, children


def held_bytes(world: World, child: Child) -> int:
    """What the child holds after it has claimed all that it is offered."""
    while offers := world.offers(child):
        for offer in offers:
            world.claim(child, offer)
    return sum(len(body) for held in child.held.values() for body in held.values())
