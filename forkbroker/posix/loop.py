"""One loop for all programs: readiness of descriptors, deadlines, and what is done at the end of each turn.

A turn waits, reads the clock once, calls what is ready, then the deadlines that are due, then everything that asked
for the turn's end (the gather writes: one for all that a turn has yielded). Callbacks run to their end, one at a
time; an exception in one of them leaves `run`, and ends the process.

Built on `selectors`, as it must run wherever POSIX does. A process that should own no descriptor more than it needs,
a client's child for one, passes a `PollSelector`.
"""

from __future__ import annotations

import heapq
import selectors
import time
from collections.abc import Callable
from itertools import count

Callback = Callable[[], None]

_READ = selectors.EVENT_READ
_WRITE = selectors.EVENT_WRITE

_SWEEP_ABOVE = 64
"""Cancelled deadlines that may lie in the heap before it is worth asking whether they are most of it."""


_LONGEST_WAIT_S = 3600.0
"""Systems count milliseconds in 31 bits, and refuse to wait for a month."""


class Deadline:
    """A callback that waits for its time."""

    __slots__ = ("_loop", "callback", "when")

    def __init__(self, loop: Loop, when: float, callback: Callback) -> None:
        self._loop = loop
        self.when = when
        self.callback: Callback | None = callback

    def cancel(self) -> None:
        """Do not call it any more. Harmless when it was called or cancelled before."""
        if self.callback is not None:
            self.callback = None
            self._loop._note_cancelled()


class _Watch:
    """A descriptor, its callbacks, and which directions are wanted now (a selector's event mask)."""

    __slots__ = ("events", "readable", "writable")

    def __init__(self, readable: Callback | None, writable: Callback | None) -> None:
        self.readable = readable
        self.writable = writable
        self.events = 0


class Loop:
    """Waits for descriptors and deadlines, and calls what is due."""

    def __init__(self, selector: selectors.BaseSelector | None = None) -> None:
        """Take over `selector` (the system's best one when there is none) and close it in `close`."""
        self._selector = selector if selector is not None else selectors.DefaultSelector()
        self._watched: dict[int, _Watch] = {}
        self._deadlines: list[tuple[float, int, Deadline]] = []
        self._order = count()
        self._cancelled = 0
        self._turn_ends: list[Callback] = []
        self._stopping = False
        self.now = time.monotonic()
        """Monotonic seconds, read once after each wait."""

    def watch(self, fd: int, readable: Callback | None, writable: Callback | None) -> None:
        """Know `fd` from now on: reading is wanted at once if there is a callback for it, writing when asked for.

        End of file and errors count as readiness of whatever is wanted. The owner of `fd` calls `forget` before it
        closes it.
        """
        if fd in self._watched:
            raise AssertionError(f"descriptor {fd} is watched already")
        watch = self._watched[fd] = _Watch(readable, writable)
        if readable is not None:
            self._change(fd, watch, _READ)

    def want_readable(self, fd: int, wanted: bool) -> None:
        """Resume reading of `fd`, or hold it: also for what this turn has found ready and not yet called."""
        watch = self._watched[fd]
        if wanted != bool(watch.events & _READ):
            self._change(fd, watch, watch.events ^ _READ)

    def want_writable(self, fd: int, wanted: bool) -> None:
        """Call the writable callback while `fd` takes octets, or no longer."""
        watch = self._watched[fd]
        if wanted != bool(watch.events & _WRITE):
            self._change(fd, watch, watch.events ^ _WRITE)

    def forget(self, fd: int) -> None:
        """Know `fd` no more, and do not call it for what this turn has found ready. Harmless for an unknown one."""
        watch = self._watched.pop(fd, None)
        if watch is not None and watch.events:
            self._change(fd, watch, 0)

    def _change(self, fd: int, watch: _Watch, events: int) -> None:
        """Want `events` and nothing else.

        A descriptor of which nothing is wanted leaves the selector: poll reports a hang-up whether it was asked for or
        not, and the loop would spin on it.
        """
        if not watch.events:
            self._selector.register(fd, events, watch)
        elif not events:
            self._selector.unregister(fd)
        else:
            self._selector.modify(fd, events, watch)
        watch.events = events

    def call_at(self, when: float, callback: Callback) -> Deadline:
        """Call back once, in the first turn that ends its wait at `when` (monotonic seconds) or later."""
        deadline = Deadline(self, when, callback)
        heapq.heappush(self._deadlines, (when, next(self._order), deadline))
        return deadline

    def _note_cancelled(self) -> None:
        """Sweep the heap when most of it is cancelled: deadlines that are moved at every frame would fill it."""
        self._cancelled += 1
        if self._cancelled > _SWEEP_ABOVE and self._cancelled * 2 > len(self._deadlines):
            self._deadlines = [entry for entry in self._deadlines if entry[2].callback is not None]
            heapq.heapify(self._deadlines)
            self._cancelled = 0

    def at_turn_end(self, callback: Callback) -> None:
        """Call back at the end of every turn, before the next wait, and once before the first."""
        self._turn_ends.append(callback)

    def run(self) -> None:
        """Turn until `stop`; the turn in which that is called is finished, its end included."""
        self._end_turn()
        while not self._stopping:
            self.turn()
        self._stopping = False

    def turn(self) -> None:
        """One wait, and everything that is due after it."""
        ready = self._selector.select(self._wait_s() if self._deadlines else None)
        self.now = time.monotonic()
        for key, events in ready:
            # The mask is asked again before each call: an earlier callback may have held or forgotten this one.
            watch: _Watch = key.data
            if events & watch.events & _READ and watch.readable is not None:
                watch.readable()
            if events & watch.events & _WRITE and watch.writable is not None:
                watch.writable()
        if self._deadlines and self._deadlines[0][0] <= self.now:
            self._call_due()
        self._end_turn()

    def _wait_s(self) -> float:
        """Seconds to the first deadline; the clock is read again, as the last turn may have taken long."""
        return min(max(0.0, self._deadlines[0][0] - time.monotonic()), _LONGEST_WAIT_S)

    def _call_due(self) -> None:
        """Call what was due when the wait ended; what these calls add waits for the next turn."""
        due = []
        while self._deadlines and self._deadlines[0][0] <= self.now:
            due.append(heapq.heappop(self._deadlines)[2])
        for deadline in due:
            callback, deadline.callback = deadline.callback, None
            if callback is not None:
                callback()
            else:
                self._cancelled = max(0, self._cancelled - 1)

    def _end_turn(self) -> None:
        for callback in self._turn_ends:
            callback()

    def stop(self) -> None:
        """Leave `run` at the end of this turn; before `run`, after its first turn's end without waiting."""
        self._stopping = True

    def close(self) -> None:
        """Close the selector. The watched descriptors are their owners'."""
        self._watched.clear()
        self._deadlines.clear()
        self._selector.close()
