"""Members by the destination or pattern that each asked for: who gets what is sent to a destination.

The answer is asked for once per batch, so it is cached per destination, as a tuple that is used as it is. The cache is
bounded in octets: clients that invent destinations all the time cost a walk along the levels of each, never memory.

A pattern that comes or goes empties the cache. To find out which cached names it matches would be dearer than to walk
once more for each name that is still in use: 3 to 5 µs, whatever the number of patterns is (`forkbroker.patterns`).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from forkbroker.caches import Cache
from forkbroker.destinations import is_pattern
from forkbroker.patterns import Patterns

Member = TypeVar("Member", bound=Hashable)


class Audience(Generic[Member]):
    """Members, each under any number of canonical names and patterns."""

    def __init__(self, cache_octets: int, order: Callable[[Member], int] | None = None) -> None:
        """Start without members; the answers that are remembered have `cache_octets` at most.

        Answers are in the order of the key `order`; None: in no particular order.
        """
        self._order = order
        self._names: dict[bytes, dict[Member, None]] = {}
        self._patterns: Patterns[dict[Member, None]] = Patterns()
        self._cache: Cache[bytes, tuple[Member, ...]] = Cache(cache_octets)
        self.known = self._cache.get
        """What `find` has found before, `dict.get` itself; None: ask `find`."""

    def add(self, member: Member, name: bytes) -> None:
        """Let the member have what is sent to this destination, or to what matches this pattern.

        Raises:
            PatternError: the pattern cannot be used.
        """
        self._members_of(name)[member] = None
        self._uncache(name)

    def remove(self, member: Member, name: bytes) -> None:
        """Undo `add`.

        Raises:
            KeyError: the member does not have what is sent there.
        """
        members = self._patterns.get(name) if is_pattern(name) else self._names.get(name)
        if members is None:
            raise KeyError(name)
        del members[member]
        self._uncache(name)
        if members:
            return
        if is_pattern(name):
            self._patterns.remove(name)
        else:
            del self._names[name]

    def find(self, destination: bytes) -> tuple[Member, ...]:
        """Return each member once that gets what is sent to this destination."""
        members = self.known(destination)
        return self._look_up(destination) if members is None else members

    def members_by_pattern(self, destination: bytes) -> set[Member]:
        """Return the members that get what is sent to this destination because of a pattern."""
        return set().union(*self._patterns.find(destination)) if self._patterns else set()

    def _look_up(self, destination: bytes) -> tuple[Member, ...]:
        found = dict.fromkeys(self._names.get(destination, ()))
        if self._patterns:
            for matching in self._patterns.find(destination):
                found.update(matching)
        members = tuple(found) if self._order is None else tuple(sorted(found, key=self._order))
        return self._cache.remember(destination, members)

    def _members_of(self, name: bytes) -> dict[Member, None]:
        """Return those who have asked for exactly this; none so far for what is new."""
        if not is_pattern(name):
            return self._names.setdefault(name, {})
        members = self._patterns.get(name)
        if members is None:
            members = {}
            self._patterns.add(name, members)
        return members

    def _uncache(self, name: bytes) -> None:
        if is_pattern(name):
            self._cache.clear()
        else:
            self._cache.forget(name)
