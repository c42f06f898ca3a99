"""A heap whose entries can be cancelled, and no call of which takes long.

A cancelled entry stays in the heap until it is met at its head. When most of them are cancelled, all that are live are
put into a new heap, a few with each entry that comes or is cancelled: to do it at once would take a tenth of a second
for a few hundred thousand. The end of a heap can be cut off, and the rest still is one.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any, Generic, TypeVar

SPARE = 64
"""So many cancelled entries, and as many as there are live ones, may stand in a heap before it is cleaned."""
_MOVED = 8
"""Entries that are looked at with each one that comes or is cancelled while a heap is being cleaned."""
_MOST = 1_000
"""Cancelled entries at the head that are left out at once: some 2 ms."""

E = TypeVar("E", bound=tuple[Any, ...])


class Heap(Generic[E]):
    """Entries, the least first. No two are equal."""

    __slots__ = ("_cancelled", "_heap", "_is_live", "_old")

    def __init__(self, is_live: Callable[[E], bool]) -> None:
        """`is_live` tells whether an entry is not cancelled."""
        self._is_live = is_live
        self._heap: list[E] = []
        self._old: list[E] = []
        """The heap from before, of which the live ones are being moved."""
        self._cancelled = 0

    def __len__(self) -> int:
        """Return the number of entries in memory, live or cancelled."""
        return len(self._heap) + len(self._old)

    def push(self, entry: E) -> None:
        """A new entry, which is live."""
        heapq.heappush(self._heap, entry)
        if self._old:
            self._move_some()

    def drop(self) -> None:
        """Note that one of the entries is cancelled."""
        self._cancelled += 1
        if not self._old and self._cancelled > SPARE + len(self._heap) // 2:
            self._old, self._heap = self._heap, []
        if self._old:
            self._move_some()

    def first(self) -> E | None:
        """Return the least live entry; None: there is none. Behind very many cancelled ones it may be one of these."""
        for _ in range(_MOST):
            heap = self._lesser()
            if not heap or self._is_live(heap[0]):
                break
            heapq.heappop(heap)
            self._cancelled -= 1
        heap = self._lesser()
        return heap[0] if heap else None

    def pop(self) -> E:
        """Take out what `first` has returned, which was live."""
        return heapq.heappop(self._lesser())

    def _lesser(self) -> list[E]:
        heap, old = self._heap, self._old
        return old if old and not (heap and heap[0] < old[0]) else heap

    def _move_some(self) -> None:
        old = self._old
        for _ in range(min(_MOVED, len(old))):
            entry = old.pop()
            if self._is_live(entry):
                heapq.heappush(self._heap, entry)
            else:
                self._cancelled -= 1
