"""Time as data: what is to be done when, for which rule, about which thing.

Each rule has a `Timer` with a name and a handler. What it starts is an entry: the time, the timer's name, and a key
that names the thing (a queue, a consumer, a message). A key is plain data and never the thing itself, so an entry
keeps nothing in memory but itself, and all entries can be written down and read again. A timer has one entry for a
key: to start it anew moves it. Whoever ends a thing cancels its entries; the handler finds the thing by its key.

There are two clocks. A length (a lease, the wait before a redelivery, a delay) ends by the monotonic clock, and a step
of the system clock does not matter. A point in time (an expiry, a message to be delivered at noon) follows the system
clock, wherever that is set to. Both belong to the machine, and go on while a program is replaced.

One call of `run_due` handles at most `BUDGET` entries of each clock, so that a hundred thousand of them that are due
at once hold up nothing else: what is left is due in the next turn of the loop.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from itertools import count
from math import inf
from typing import Any, Generic, NamedTuple, TypeVar

from forkbroker.routing.handover import Rule
from forkbroker.routing.heaps import Heap

BUDGET = 250
"""Entries of one clock that are handled in one turn: some 5 ms, as most of them are about one message."""


K = TypeVar("K", bound=Hashable)


class Entry(NamedTuple):
    """One thing to be done."""

    when: float
    """Seconds of the monotonic clock for a wait, milliseconds since the epoch for a date."""
    order: int
    """Of two entries with the same time the one that was started first comes first."""
    is_date: bool
    timer: str
    """The name of its timer."""
    key: Any
    """Plain data: `bytes`, `int`, or a tuple of them."""


class Timer(Generic[K]):
    """The entries of one rule, by their keys."""

    def __init__(self, name: str, handler: Callable[[K], None], timers: Timers) -> None:
        """Made by `Timers.add`."""
        self.name = name
        self.handler = handler
        self.entries: dict[K, Entry] = {}
        """Those that are neither handled nor cancelled; to read."""
        self.was_due = 0.0
        """When the entry that is being handled was due, by its clock."""
        self._timers = timers

    def __contains__(self, key: object) -> bool:
        """Tell whether there is an entry for this key."""
        return key in self.entries

    def after(self, wait_ms: float, key: K) -> None:
        """Handle this key when so many milliseconds have passed, and not at the time that was set before."""
        self._start(self._timers.now + wait_ms / 1000, key, is_date=False)

    def at(self, date_ms: int, key: K) -> None:
        """Handle this key at this time (milliseconds since the epoch), and not at the time that was set before."""
        self._start(date_ms, key, is_date=True)

    def at_latest(self, date_ms: int, key: K) -> None:
        """As `at`, unless there is an entry for this key that is due earlier."""
        known = self.entries.get(key)
        if known is None or date_ms < known.when:
            self.at(date_ms, key)

    def cancel(self, key: K) -> None:
        """Forget the entry for this key, if there is one."""
        entry = self.entries.pop(key, None)
        if entry is not None:
            self._timers.drop(entry)

    def _start(self, when: float, key: K, *, is_date: bool) -> None:
        self.cancel(key)
        self.entries[key] = self._timers.push(when, self.name, key, is_date=is_date)


class Timers(Rule):
    """All timers of one router. Rules read no clock: `now` is set by the caller, and `wall` is the caller's."""

    DUMPED = ("now", "agenda")
    ANEW = ("_order", "_timers", "_waits", "_dates", "next_wait", "next_date")

    def __init__(self, wall: Callable[[], float]) -> None:
        """`wall` gives seconds since the epoch."""
        self._wall = wall
        self._order = count()
        self._timers: dict[str, Timer[Any]] = {}
        self._waits: Heap[Entry] = Heap(self._is_live)
        self._dates: Heap[Entry] = Heap(self._is_live)
        self.next_wait = inf
        """No wait ends before that; to read. A turn in which nothing is due looks no further."""
        self.next_date = inf
        """No date comes before that; to read."""
        self.now = 0.0
        """Monotonic seconds."""

    def __len__(self) -> int:
        """Return the number of entries."""
        return sum(len(timer.entries) for timer in self._timers.values())

    def add(self, name: str, handler: Callable[[K], None]) -> Timer[K]:
        """Make a timer. `handler` is called with the key of each entry that is due; the entry is gone by then.

        Raises:
            AssertionError: there is one of this name.
        """
        if name in self._timers:
            raise AssertionError(f"there are two timers {name!r}")
        timer = Timer(name, handler, self)
        self._timers[name] = timer
        return timer

    def wall_ms(self) -> int:
        """Return the system clock's time in milliseconds since the epoch."""
        return int(self._wall() * 1000)

    def run_due(self, budget: int = BUDGET) -> None:
        """Handle what is due, at most `budget` entries of each clock.

        What a handler starts has its turn next time, and what it cancels is not handled.
        """
        due: list[Entry] = []
        if self.next_wait <= self.now:
            due += self._take_due(self._waits, self.now, budget)
            self.next_wait = _time_of(self._waits)
        if self.next_date < inf and self.next_date <= (now_ms := self.wall_ms()):
            due += self._take_due(self._dates, now_ms, budget)
            self.next_date = _time_of(self._dates)
        for entry in due:
            timer = self._timers[entry.timer]
            if timer.entries.get(entry.key) is entry:
                del timer.entries[entry.key]
                timer.was_due = entry.when
                timer.handler(entry.key)

    def deadline(self) -> float | None:
        """Return when something is due next (monotonic seconds), as far as the system clock is not set."""
        wait = date = inf
        if self.next_wait < inf:
            wait = self.next_wait = _time_of(self._waits)
        if self.next_date < inf:
            self.next_date = _time_of(self._dates)
            date = self.now + max(0.0, (self.next_date - self.wall_ms()) / 1000)
        first = min(wait, date)
        return first if first < inf else None

    @property
    def agenda(self) -> tuple[tuple[float, bool, str, Any], ...]:
        """All entries as plain data: (when, is a date, timer, key), in the order of their starting.

        Who sets it starts these.

        Raises:
            KeyError: there is no timer of such a name.
        """
        entries = sorted(
            (entry for timer in self._timers.values() for entry in timer.entries.values()),
            key=lambda entry: entry.order,
        )
        return tuple((entry.when, entry.is_date, entry.timer, entry.key) for entry in entries)

    @agenda.setter
    def agenda(self, entries: Iterable[tuple[float, bool, str, Any]]) -> None:
        for when, is_date, name, key in entries:
            timer = self._timers[name]
            timer.cancel(key)
            timer.entries[key] = self.push(when, name, key, is_date=is_date)

    # -- for timers

    def push(self, when: float, name: str, key: Any, *, is_date: bool) -> Entry:
        """Make an entry."""
        entry = Entry(when, next(self._order), is_date, name, key)
        if is_date:
            self._dates.push(entry)
            self.next_date = min(self.next_date, when)
        else:
            self._waits.push(entry)
            self.next_wait = min(self.next_wait, when)
        return entry

    def drop(self, entry: Entry) -> None:
        """Note that an entry is no longer its timer's."""
        (self._dates if entry.is_date else self._waits).drop()

    def _take_due(self, heap: Heap[Entry], now: float, budget: int) -> list[Entry]:
        """Take out the first live entries that are due by `now`, at most `budget`."""
        due: list[Entry] = []
        while len(due) < budget and (entry := heap.first()) is not None and entry.when <= now:
            if not self._is_live(entry):
                break
            due.append(heap.pop())
        return due

    def _is_live(self, entry: Entry) -> bool:
        return self._timers[entry.timer].entries.get(entry.key) is entry


def _time_of(heap: Heap[Entry]) -> float:
    """When the first of these is due."""
    first = heap.first()
    return inf if first is None else first.when
