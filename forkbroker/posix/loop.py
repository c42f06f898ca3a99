"""One loop for all programs: readiness of descriptors, deadlines, and what is done at the end of each turn.

A turn waits, reads the clock once, calls what is ready, then the deadlines that are due, then everything that asked
for the turn's end (the gather writes: one for all that a turn has yielded). Callbacks run to their end, one at a
time; an exception in one of them leaves `run`, and ends the process.

It waits with poll(2), which POSIX has everywhere and which needs no descriptor of its own. A process with thousands of
descriptors of which few are ready says so, and waits with epoll(7) where there is one. Both are called directly:
`selectors` would make two calls more in each turn.

A wait may begin with polling. What costs most in a message that goes there and back is that cores sleep and are woken.
Who was answered within 0.2 ms the last time will be so again: polling that long, and letting others run in between, is
quicker than to sleep. Who waits longer sleeps at once, so that a message each millisecond makes nobody spin. Who waits
for an answer that takes a commit knows that it comes, and may poll for a millisecond.
"""

from __future__ import annotations

import heapq
import math
import os
import select
import time
from collections.abc import Callable
from itertools import count
from typing import Protocol

Callback = Callable[[], None]

_READ = select.POLLIN
_WRITE = select.POLLOUT
"""The numbers are those of epoll as well."""

_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 10.0
"""How long a loop does not spin when others want the core, the first time and at most."""
_MOST_NEEDED = 64
"""Short waits in a row before a spin, at most."""
_MANY = 8
"""How many more spins of one kind than of the other show whether the core is free."""

AWAITED = 5
"""So many times as long as another spin may be one for an answer that is on its way."""

_SWEEP_ABOVE = 64
"""Cancelled deadlines that may lie in the heap before it is worth asking whether they are most of it."""
LONGEST_WAIT_S = 3600.0
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
    """A descriptor's callbacks, which directions are wanted now, and the number of the turn since which it is known."""

    __slots__ = ("events", "readable", "since", "writable")

    def __init__(self, readable: Callback | None, writable: Callback | None, since: int) -> None:
        self.readable = readable
        self.writable = writable
        self.since = since
        self.events = 0


class _Poller(Protocol):
    """What poll and epoll objects have in common; they count time in other units."""

    def register(self, fd: int, eventmask: int, /) -> None: ...

    def modify(self, fd: int, eventmask: int, /) -> None: ...

    def unregister(self, fd: int, /) -> None: ...

    def poll(self, timeout: float | None = None, /) -> list[tuple[int, int]]: ...


class Spinning:
    """When a wait of a loop begins with polling.

    It pays while the core would have nothing else to do. Where others are always ready to run, a process that yields
    gets the core back when its spin is over: then spinning takes time from them, and brings nothing. So a loop does not
    spin

    - for a while, if that was so with most of its last spins. The while is longer each time, up to some seconds, and
      short again when the core was free;
    - until some waits in a row were short, twice as many after each spin in vain.

    The rule has no clock: it is told what happened, and asked before each wait.
    """

    def __init__(self, longest_s: float) -> None:
        """A spin takes `longest_s` at most, and follows a wait that was shorter."""
        self.longest_s = longest_s
        self.may_begin_at = math.inf
        """From when on a wait begins with a spin; infinity: the next one does not."""
        self._short = 0
        self._needed = 1
        self._crowded = 0
        self._not_before = 0.0
        self._pause_s = _PAUSE_S

    def ended(self, now: float, took_s: float, yields: int, *, found: bool) -> None:
        """A spin is over: something was found, or not, after so many times that others could run."""
        self._needed = 1 if found else min(2 * self._needed, _MOST_NEEDED)
        if took_s > 2 * self.longest_s:
            self._crowded += _MANY // 2
        elif yields == 1:
            self._crowded += 1
        elif yields:
            self._crowded -= 1
        if self._crowded >= _MANY:
            self._crowded = 0
            self._not_before = now + self._pause_s
            self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
        elif self._crowded <= -_MANY:
            self._crowded = -_MANY
            self._pause_s = _PAUSE_S

    def waited(self, took_s: float) -> None:
        """A wait is over, with or without a spin at its beginning."""
        self._short = self._short + 1 if took_s < self.longest_s else 0
        self.may_begin_at = self._not_before if self._short >= self._needed else math.inf

    def spin(self, poll: Callable[[float], list[tuple[int, int]]], began: float, until: float) -> list[tuple[int, int]]:
        """Poll for a moment, from `began` to `until` at the latest, and let others run meanwhile.

        Returns what was found, if anything.
        """
        until = min(began + self.longest_s, until)
        ready, now, yields = poll(0), began, 0
        while not ready and now < until:
            os.sched_yield()
            yields += 1
            ready = poll(0)
            now = time.monotonic()
        self.ended(now, now - began, yields, found=bool(ready))
        return ready


def may_spin() -> bool:
    """Whether there is a second core for this process, on which somebody can answer meanwhile."""
    try:
        return len(os.sched_getaffinity(0)) > 1
    except AttributeError:
        return (os.cpu_count() or 1) > 1


class Loop:
    """Waits for descriptors and deadlines, and calls what is due."""

    def __init__(self, *, for_many: bool = False, spin_s: float = 0.0) -> None:
        """A loop that waits with poll, or `for_many` descriptors with epoll where there is one.

        It polls for `spin_s` seconds before it sleeps, when that pays (`Spinning`), and longer while it `awaits` an
        answer; 0: never.
        """
        self._spinning = Spinning(spin_s) if spin_s else None
        self._awaiting = Spinning(AWAITED * spin_s) if spin_s else None
        self.awaits = False
        """An answer is on its way that takes a commit. For the one that has the turn's end."""
        self._epoll = select.epoll() if for_many and hasattr(select, "epoll") else None
        self._poller: _Poller = select.poll() if self._epoll is None else self._epoll
        self._unit = 1000.0 if self._epoll is None else 1.0
        self._watched: dict[int, _Watch] = {}
        self._turns = 0
        self._deadlines: list[tuple[float, int, Deadline]] = []
        self._order = count()
        self._cancelled = 0
        self._turn_ends: list[Callback] = []
        self._stopping = False
        self.now = time.monotonic()
        """Monotonic seconds, read once after each wait."""
        self.wake_at = math.inf
        """End the wait at this time at the latest. For the one that has the turn's end: a deadline that is another one
        after each turn costs nothing here."""

    def watch(self, fd: int, readable: Callback | None, writable: Callback | None) -> None:
        """Know `fd` from now on: reading is wanted at once if there is a callback for it, writing when asked for.

        End of file and errors count as readiness of whatever is wanted. The owner of `fd` calls `forget` before it
        closes it.
        """
        if fd in self._watched:
            raise AssertionError(f"descriptor {fd} is watched already")
        watch = self._watched[fd] = _Watch(readable, writable, self._turns)
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

        A descriptor of which nothing is wanted is not polled: a hang-up is reported whether it was asked for or not,
        and the loop would spin on it.
        """
        if not watch.events:
            self._poller.register(fd, events)
        elif not events:
            self._poller.unregister(fd)
        else:
            self._poller.modify(fd, events)
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
        for callback in self._turn_ends:
            callback()
        while not self._stopping:
            self.turn()
        self._stopping = False

    def turn(self) -> None:
        """One wait, and everything that is due after it. On the way of each message, so it calls nothing of its own."""
        self._turns += 1
        deadlines = self._deadlines
        wake_at = self.wake_at
        if deadlines and deadlines[0][0] < wake_at:
            wake_at = deadlines[0][0]
        # the clock is read again, as the last turn may have taken long
        began = time.monotonic()
        ready: list[tuple[int, int]] = []
        spinning = self._awaiting if self.awaits else self._spinning
        if spinning is not None and began >= spinning.may_begin_at:
            ready = spinning.spin(self._poller.poll, began, wake_at)
        if not ready:
            wait = None
            if wake_at != math.inf:
                wait = min(max(0.0, wake_at - time.monotonic()), LONGEST_WAIT_S) * self._unit
            ready = self._poller.poll(wait)
        self.now = time.monotonic()
        if spinning is not None:
            spinning.waited(self.now - began)
        for fd, events in ready:
            watch = self._watched.get(fd)
            if watch is None or watch.since == self._turns:
                continue  # an earlier callback has forgotten it, and perhaps the number is another one's by now
            # What is wanted is asked before each call: an earlier callback may have held this one, or forgotten it.
            if events & ~_WRITE and watch.events & _READ and watch.readable is not None:
                watch.readable()
            if events & ~_READ and watch.events & _WRITE and watch.writable is not None:
                watch.writable()
        deadlines = self._deadlines
        if deadlines and deadlines[0][0] <= self.now:
            self._call_due()
        for callback in self._turn_ends:
            callback()

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

    def stop(self) -> None:
        """Leave `run` at the end of this turn; before `run`, after its first turn's end without waiting."""
        self._stopping = True

    def close(self) -> None:
        """Wait no more. The watched descriptors are their owners'."""
        self._watched.clear()
        self._deadlines.clear()
        if self._epoll is not None:
            self._epoll.close()
