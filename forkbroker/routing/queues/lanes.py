"""The messages of one queue and one priority, in order: what of them is in memory, and what only the store has.

    returned | fresh | pending | paged
    ------------ memory ------   store

What came back without its bodies is a *stub*: the store alone has them. It has its place among what was returned, but
stands in a row of its own; while the oldest message of all is a stub, nothing is taken before the store has given its
bodies again, unless the store fails.

What was taken and came back is older than what was never taken, which is older than what is paged: so each message
has its old place, and what is in memory is always the head. While anything is paged, what arrives is paged as well.

Pending is what may not be seen before a change of the store is committed, and whatever came behind it: it is in its
place, and can't be taken yet.

What expires leaves its place as an empty run among the fresh ones, as nothing can be cut out of the middle of a row
without going through it; the row is made anew when too many are empty.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import deque
from itertools import islice
from typing import Any

from forkbroker.routing.handover import Record
from forkbroker.routing.queues.expiries import Expiries
from forkbroker.routing.queues.runs import Run, join, may_join

_SPARE = 64
"""Empty runs that may stand in a row."""


class Lane(Record):
    """Messages that wait."""

    ANEW = ("_empty", "expiries", "hidden", "memory", "ready", "stubbed")
    __slots__ = (
        "_empty",
        "asked",
        "asked_after",
        "expiries",
        "fresh",
        "hidden",
        "is_fetching",
        "last",
        "memory",
        "paged",
        "paged_from",
        "paged_octets",
        "paged_since",
        "pending",
        "priority",
        "ready",
        "returned",
        "stubbed",
        "stubs",
        "stubs_from",
        "stubs_to",
        "told",
    )

    def __init__(self, priority: int, last: int = 0) -> None:
        """Start empty, and behind the serial `last`."""
        self.priority = priority
        self.fresh: deque[Run] = deque()
        # the oldest one last: nearly always it is the next to be taken
        self.returned: list[Run] = []
        self.pending: deque[tuple[int, Run]] = deque()
        """Behind the fresh ones: with the number of the change that has to be committed first."""
        self._empty = 0
        self.expiries = Expiries()
        """Of what can be taken, and of stubs."""
        self.stubs: list[Run] = []
        """What came back without its bodies, the oldest one last."""
        self.stubbed = 0
        """Messages of these."""
        self.ready = 0
        """Messages in memory that can be taken."""
        self.hidden = 0
        """Messages in memory that are pending."""
        self.memory = 0
        """Octets that both use."""
        self.paged = 0
        """Messages that only the store has."""
        self.paged_from = 0
        """No paged message has a lower serial, as far as is known."""
        self.paged_octets = 0
        """Octets that these are, wherever."""
        self.paged_since = 0
        """Of these: told to the store after it was asked for some."""
        self.last = last
        """All messages with serials up to this are in memory, or were."""
        self.is_fetching = False
        """The store was asked for what comes next."""
        self.asked = 0
        """For how many octets."""
        self.asked_after = last
        """Behind which serial."""
        self.stubs_from = 0
        """It was asked for stubs: it has not answered for those from this serial on; 0: it was not."""
        self.stubs_to = 0
        """The first serial that was not in memory, and had not been, when the store was asked."""
        self.told = last
        """The store has forgotten messages up to this that are not persistent: they are in memory, or were."""

    def rebuild(self) -> None:
        """Add up what is here, and note what expires."""
        self.fresh = deque(run for run in self.fresh if run.count)
        self._empty = 0
        ready, hidden = [*self.returned, *self.fresh], [run for _, run in self.pending]
        self.ready = sum(run.count for run in ready)
        self.hidden = sum(run.count for run in hidden)
        self.stubbed = sum(run.count for run in self.stubs)
        self.memory = sum(run.memory for run in ready + hidden)
        self.expiries = Expiries()
        for run in ready + self.stubs:
            if run.details.expires:
                self.expiries.add(run)

    def append(self, run: Run, number: int = 0) -> None:
        """New messages, with serials above all before, or paged ones that follow what is in memory.

        They can't be taken before the change with this number is committed; 0: at once, if all before them can.
        """
        self.memory += run.memory
        self.last = run.serial + run.count - 1
        if number or self.pending:
            self.pending.append((number, run))
            self.hidden += run.count
        else:
            self._show(run)

    def commit(self, number: int) -> list[Run]:
        """All changes up to this number are committed: the messages that can be taken by that."""
        shown: list[Run] = []
        while self.pending and self.pending[0][0] <= number:
            run = self.pending.popleft()[1]
            self.hidden -= run.count
            self._show(run)
            shown.append(run)
        return shown

    def _show(self, run: Run) -> None:
        self.fresh.append(run)
        self.ready += run.count
        if run.details.expires:
            self.expiries.add(run)

    def page_out(self, run: Run) -> None:
        """New messages that only the store keeps."""
        if not self.paged:
            self.paged_from = run.serial
        self.paged += run.count
        self.paged_octets += run.memory
        self.paged_since += run.count

    def page_in(self, run: Run) -> int:
        """Paged messages that follow what is in memory; by how many octets they are more than was thought."""
        thought = self.paged_octets * run.count // self.paged if self.paged >= run.count else self.paged_octets
        self.paged_octets -= thought
        self.paged = max(0, self.paged - run.count)
        self.append(run)
        return run.memory - thought

    def page_back(self) -> None:
        """All that is here, of which the store has every message, is in the store alone again. Nothing is pending."""
        oldest = min(run.serial for run in (*self.stubs[-1:], *self.runs()[:1]))
        self.last = self.told = oldest - 1
        self.paged_from = oldest
        self.paged += self.ready + self.stubbed
        self.paged_octets += self.memory + sum(stub.memory for stub in self.stubs)
        self.ready = self.memory = self.stubbed = 0
        self.returned.clear()
        self.fresh.clear()
        self.stubs.clear()
        self.expiries = Expiries()
        self._empty = 0

    def containers(self) -> list[list[Any] | deque[Any]]:
        """What has something in it, and takes time to be freed."""
        containers: tuple[list[Any] | deque[Any], ...] = (self.fresh, self.returned, self.pending, self.stubs)
        return [container for container in containers if container]

    def runs(self) -> list[Run]:
        """All that is ready, in order."""
        return [run for run in (*reversed(self.returned), *self.fresh) if run.count]

    def put_back(self, run: Run) -> None:
        """Messages that were taken, to their old place in the order."""
        if run.is_stub:
            insort(self.stubs, run, key=_descending)
            self.stubbed += run.count
        else:
            insort(self.returned, run, key=_descending)
            self.ready += run.count
            self.memory += run.memory
        if run.details.expires:
            self.expiries.add(run)

    @property
    def is_blocked(self) -> bool:
        """Whether the oldest message is a stub."""
        return bool(self.stubs) and not (self.ready and self.head().serial < self.stubs[-1].serial)

    def take_stubs(self, start: int, end: int) -> list[Run]:
        """Take out the stubs of messages with serials from `start` up to `end`, without that one, in order."""
        if start >= end:
            return []
        low, high = (bisect_right(self.stubs, -serial, key=_descending) for serial in (end, start))
        # the last one before the range may go over into it
        found = self.stubs[low : high + 1]
        del self.stubs[low : high + 1]
        taken: list[Run] = []
        for stub in reversed(found):
            self.stubbed -= stub.count
            if stub.details.expires:
                self.expiries.remove(stub)
            taken += self._cut_stub(stub, start, end)
        return taken

    def _cut_stub(self, stub: Run, start: int, end: int) -> list[Run]:
        """The part of this stub that is in the range; the others go back to their place."""
        if stub.serial + stub.count <= start:
            self.put_back(stub)
            return []
        if stub.serial < start:
            self.put_back(stub.split(start - stub.serial))
        if stub.serial + stub.count > end:
            front = stub.split(end - stub.serial)
            self.put_back(stub)
            return [front]
        return [stub]

    def oldest(self) -> int:
        """The serial of the oldest message, or a lower one that no message of the lane has; 0: there is none."""
        runs = [*self.returned[-1:], *self.stubs[-1:], *islice(self.fresh, 1)]
        runs += [run for _, run in islice(self.pending, 1)]
        first = min((run.serial for run in runs if run.count), default=0)
        if first or not self.paged:
            return first
        return max(self.last + 1, self.paged_from)

    def head(self) -> Run:
        """The oldest run. There must be one."""
        return self.returned[-1] if self.returned else self.fresh[0]

    def join(self, most: int, octets: int) -> int:
        """Put messages that came one by one into one run, the oldest, up to so many messages and octets.

        Only of those that were never taken. Return by how many octets of memory they are more than they were.
        """
        fresh, runs = self.fresh, list[Run]()
        if self.returned:
            return 0
        head = fresh[0]
        serial, memory = head.serial, 0
        for run in fresh:
            most -= run.count
            # each gets the header lines that a batch has once
            octets -= run.octets + run.count * run.envelope.block_length
            if most < 0 or octets < 0 or run.serial != serial or not may_join(run, head):
                break
            runs.append(run)
            serial += run.count
            memory += run.memory
        if len(runs) < 2:
            return 0
        for _ in runs:
            fresh.popleft()
        joined = join(runs)
        fresh.appendleft(joined)
        self.memory += joined.memory - memory
        return joined.memory - memory

    def take(self, count: int) -> Run:
        """The first `count` messages of the oldest run, which has so many or more."""
        run = self.returned[-1] if self.returned else self.fresh[0]
        if count < run.count:
            run = run.split(count)
        else:
            if self.returned:
                self.returned.pop()
            else:
                self.fresh.popleft()
                if self._empty:
                    self._drop_empty()
            if run.details.expires:
                self.expiries.remove(run)
        self.ready -= run.count
        self.memory -= run.memory
        return run

    def take_expired(self, now_ms: int, most: int) -> list[Run]:
        """Take out of memory what has expired by now (milliseconds since the epoch): so many runs at most."""
        expired: list[Run] = []
        while len(expired) < most and (run := self.expiries.find_due(now_ms)) is not None:
            self.expiries.remove(run)
            if run.is_stub:
                self.stubs.remove(run)
                self.stubbed -= run.count
                expired.append(run)
                continue
            self.ready -= run.count
            self.memory -= run.memory
            expired.append(self._cut(run))
        self._clean()
        return expired

    def _cut(self, run: Run) -> Run:
        """Take this run out of its place."""
        at = bisect_left(self.returned, -run.serial, key=_descending)
        if at < len(self.returned) and self.returned[at] is run:
            return self.returned.pop(at)
        self._empty += 1
        run = run.move_out()
        self._drop_empty()
        return run

    def _drop_empty(self) -> None:
        """The head of the row has messages."""
        fresh = self.fresh
        while self._empty and fresh and not fresh[0].count:
            fresh.popleft()
            self._empty -= 1

    def _clean(self) -> None:
        if self._empty > _SPARE + len(self.fresh) // 2:
            self.fresh = deque(run for run in self.fresh if run.count)
            self._empty = 0


def _descending(run: Run) -> int:
    return -run.serial
