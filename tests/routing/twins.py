"""A router, and another one that has loaded what it dumped: both hear the same, and are to answer alike."""

from __future__ import annotations

import marshal
from collections import defaultdict, deque
from typing import Any, TypeVar

from forkbroker.routing.handover import Record, Rule, dump, load
from forkbroker.routing.peers import Peer
from forkbroker.routing.records import RECORDS
from forkbroker.routing.router import Router
from forkbroker.wire.envelope import Envelope

from .audit import audit
from .simulation import Semaphores, World

R = TypeVar("R", bound=Rule)

_VERBS = {
    *("add_peer", "peer_ended", "receive", "go_on", "receive_stored", "store_ended", "tick", "stop_offers"),
    *("take", "take_notes", "take_events", "views", "find_silent"),
}


def copy_router(world: World, router: Router, slots: Any) -> Router:
    """Another router that knows all that this one does, by way of what marshal carries."""
    copy = Router(world.policy, slots, lambda: world.wall, steps=world.steps)
    copy.load(marshal.loads(marshal.dumps(router.dump(), 4)))
    return copy


def hand_over(world: World) -> None:
    """Another router takes the place of the world's one."""
    settle_down(world)
    world.router = copy_router(world, world.router, world.semaphores)


def double(world: World) -> Twins:
    """From now on two routers stand in the place of the world's one. The second one of two makes way for a third."""
    settle_down(world)
    router: Any = world.router
    first, last = (router.first, router.second) if isinstance(router, Twins) else (router, router)
    calls = deque[tuple[str, int, bool]]()
    twins = Twins(first, copy_router(world, last, _Echo(world.semaphores.size, calls)), calls)
    noted = _Noted(world.semaphores, calls)
    first._offering.claims._slots = first._offering.ahead._slots = noted
    twins.begin_turn()
    world.router = twins  # type: ignore[assignment]
    return twins


def carry(rule: R, new: R, records: tuple[type[Record], ...] = RECORDS) -> R:
    """A new rule, which knows now what another one has dumped."""
    load(new, marshal.loads(marshal.dumps(dump(rule), 4)), records)
    return new


def settle_down(world: World) -> None:
    """Turns pass until nothing is half done."""
    for _ in range(100_000):
        world.deliver()
        if world.router.is_between_turns:
            return
        for peer in list(world.router.waiting):
            world.router.go_on(peer, world.now)
        world.router.tick(world.now)
    raise AssertionError("it goes on and on")


class _Noted:
    """The semaphores, as the first one uses them."""

    def __init__(self, semaphores: Semaphores, calls: deque[tuple[str, int, bool]]) -> None:
        self.size = semaphores.size
        self._semaphores = semaphores
        self._calls = calls

    def post(self, slot: int) -> None:
        self._semaphores.post(slot)
        self._calls.append(("post", slot, True))

    def try_acquire(self, slot: int) -> bool:
        outcome = self._semaphores.try_acquire(slot)
        self._calls.append(("try_acquire", slot, outcome))
        return outcome


class _Echo:
    """The same for the second one, which is to do the same with them in the same order."""

    def __init__(self, size: int, calls: deque[tuple[str, int, bool]]) -> None:
        self.size = size
        self._calls = calls

    def post(self, slot: int) -> None:
        assert self._calls.popleft() == ("post", slot, True)

    def try_acquire(self, slot: int) -> bool:
        name, at, outcome = self._calls.popleft()
        assert (name, at) == ("try_acquire", slot)
        return outcome


class Twins:
    """Stands where a router does. What is no verb is the first one's."""

    def __init__(self, first: Router, second: Router, calls: deque[tuple[str, int, bool]]) -> None:
        self.first = first
        self.second = second
        self._calls = calls

    def begin_turn(self) -> None:
        """The first one may have done a part of its turn: a new one begins for both."""
        self.first._kit.is_at_rest = False
        self.tick(self.first._timers.now)

    def __getattr__(self, name: str) -> Any:
        if name not in _VERBS:
            return getattr(self.first, name)
        return lambda *arguments: self._do(name, *arguments)

    def _do(self, name: str, *arguments: Any) -> Any:
        outcome, error = _try(self.first, name, arguments)
        other, other_error = _try(self.second, name, arguments)
        assert not self._calls, "the second one does less with semaphores"
        assert repr(other_error) == repr(error), f"{name}: {error!r}, and the second one {other_error!r}"
        if name == "take":
            assert _by_peer(other) == _by_peer(outcome), f"{_show(outcome)}, and the second one {_show(other)}"
        else:
            assert other == outcome, name
        if error is not None:
            raise error
        return outcome

    def compare(self) -> None:
        """What they count, what they wait for, and what their books say."""
        first, second = self.first, self.second
        audit(second)
        assert second.counters == first.counters
        assert second.views() == first.views()
        assert (second.is_committed, second.is_applied, second.is_behind, second.waiting.keys(), second.culprits) == (
            first.is_committed, first.is_applied, first.is_behind, first.waiting.keys(), first.culprits,
        )  # fmt: skip
        assert list(second.describe()) == list(first.describe())
        assert sorted(second._timers.agenda) == sorted(first._timers.agenda)


def _try(router: Router, name: str, arguments: tuple[Any, ...]) -> tuple[Any, Exception | None]:
    try:
        return getattr(router, name)(*arguments), None
    except Exception as error:
        return None, error


def _show(out: list[tuple[Peer, list[Any]]]) -> list[tuple[Peer, str, int, int, int]]:
    envelopes = [(peer, Envelope(b"".join(buffers))) for peer, buffers in out]
    return [(peer, each.kind.name, each.number, each.serial, each.slot) for peer, each in envelopes]


def _by_peer(out: list[tuple[Peer, list[Any]]]) -> dict[Peer, list[bytes]]:
    """What each gets, in order: between peers there is none."""
    found = defaultdict[Peer, list[bytes]](list)
    for peer, buffers in out:
        found[peer].append(b"".join(buffers))
    return found
