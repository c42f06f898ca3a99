"""A cache that a client's words can't make large: bounded by octets, not by the number of its entries.

What clients write becomes keys: names of destinations, header blocks, patterns. A bound on the number of entries says
nothing then, as a key may have 10 KiB. Here every entry is weighed when it is put in, and when the sum would exceed
the bound, everything goes. Keeping the order of use would make each look-up dearer, and a rare clearing costs less
than that. The weights are estimates, of the right order and never far too small: the entry's share of the dictionary,
the key, and of the value what `weigh` sees.

A look-up is a plain `dict.get`: hot loops pay nothing for the bound.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from sys import getsizeof
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")

ENTRY = 100
"""Octets that an entry takes in a dictionary, slack included: measured 40 to 110."""


def weigh_shallow(key: object, value: object) -> int:
    """Octets of an entry whose value refers only to what others keep as well."""
    return ENTRY + getsizeof(key) + getsizeof(value)


class Cache(Generic[Key, Value]):
    """What was worked out once, by key; forgotten all at once when it has become too large.

    Attributes:
        get: the look-up, `dict.get` itself; None: not there. Values are never None for this reason.
        octets: the estimated weight of all entries.
    """

    __slots__ = ("_entries", "_weigh", "get", "max_octets", "octets")

    def __init__(self, max_octets: int, weigh: Callable[[Key, Value], int] = weigh_shallow) -> None:
        """An empty cache of at most `max_octets`.

        `weigh` estimates the octets of an entry. It must give the same number for the same entry each time, as it is
        asked when the entry comes and when it goes.
        """
        self._entries: dict[Key, Value] = {}
        self._weigh = weigh
        self.get: Callable[[Key], Value | None] = self._entries.get
        self.max_octets = max_octets
        self.octets = 0

    def __len__(self) -> int:
        return len(self._entries)

    def remember(self, key: Key, value: Value) -> Value:
        """Keep `value`, and return it; one that is larger than the whole bound is not kept."""
        self.forget(key)
        weight = self._weigh(key, value)
        if weight > self.max_octets:
            return value
        if self.octets + weight > self.max_octets:
            self.clear()
        self.octets += weight
        self._entries[key] = value
        return value

    def forget(self, key: Key) -> None:
        """Drop the entry of this key, if there is one."""
        value = self._entries.pop(key, None)
        if value is not None:
            self.octets -= self._weigh(key, value)

    def clear(self) -> None:
        """Drop all entries."""
        self._entries.clear()
        self.octets = 0
