"""What is written together: everything that the store was told since its last commit.

Messages that were told and settled within one group are not written. What deletes them is kept in it all the same: a
store that was started anew may be told again what the one before has written already.
"""

from __future__ import annotations

from collections.abc import Iterator

from forkbroker.store.api import MESSAGE_OVERHEAD, Change, Chunk, Delete, Message, Move, weigh
from forkbroker.store.changes import is_lone_delete, unpack_change
from forkbroker.wire.envelope import Envelope
from forkbroker.wire.kinds import Kind


class Told:
    """One change, or one request, as it came."""

    __slots__ = ("kind", "number", "octets", "parts")

    def __init__(self, number: int, parts: tuple[Envelope, ...]) -> None:
        """`number` of the change; 0: it is none."""
        self.number = number
        self.parts = parts
        self.kind = parts[0].kind if parts else Kind.TOGETHER
        """Of the first envelope."""
        self.octets = 0
        """Of all its envelopes."""
        for part in parts:
            self.octets += len(part.raw)


class Group:
    """Changes, in their order."""

    def __init__(self) -> None:
        self.told: list[Told] = []
        """What it is made of."""
        self._changes: list[Change | None] = []
        self._ends: list[int] = []
        self._places: dict[int, int] = {}
        self._placed = 0
        self._lanes: dict[tuple[bytes, int], int] = {}
        self._looked = 0
        self._sifted = 0
        """So many of `told` were looked through for what deletes alone."""
        self._moved: set[int] = set()
        """The serials that messages get which are moved by these."""
        self._lone_deletes: list[tuple[int, Change]] = []
        """What deletes alone, of these, and was not done before its time."""
        self.octets = 0
        """What is to be written, roughly."""
        self.adds = False
        """There are new messages in it."""
        self.cancelled = 0
        """Messages that need not be written any more."""

    def __bool__(self) -> bool:
        """There is something to commit."""
        return bool(self.told)

    @property
    def number(self) -> int:
        """Of the last change."""
        return self.told[-1].number if self.told else 0

    def add(self, told: Told) -> None:
        """A numbered change.

        Raises:
            EnvelopeError: it is none, or can't be decoded; the group is what it was.
        """
        changes = unpack_change(told.parts)
        self.told.append(told)
        octets, kept = 0, self._changes
        for change in changes:
            if isinstance(change, Message):
                # as `weigh`, for each message
                octets += len(change.headers) + len(change.body) + MESSAGE_OVERHEAD
            elif isinstance(change, Chunk):
                octets += weigh(change)
            elif isinstance(change, Delete):
                self._cancel(change)
            elif isinstance(change, Move):
                # to be found under other serials from now on: who deletes these must not meet the old ones
                self._take_places(change.first, change.last)
            kept.append(change)
        self._ends.append(len(kept))
        if octets:
            self.octets += octets
            self.adds = True

    def take_changes(self) -> list[Change]:
        """What is to be written."""
        return [change for change in self._changes if change is not None]

    def each(self) -> Iterator[tuple[Told, list[Change]]]:
        """The same, change by change."""
        start = 0
        for told, end in zip(self.told, self._ends, strict=True):
            yield told, [change for change in self._changes[start:end] if change is not None]
            start = end

    def without(self, number: int) -> Group:
        """The same, but nothing is written for the change with this number. It is committed like the others."""
        group = Group()
        for told in self.told:
            group.add(Told(number, ()) if told.number == number else told)
        # what was done before its time stays done
        group._sifted, group._moved = self._sifted, self._moved
        group._lone_deletes = [one for one in self._lone_deletes if one[0] != number]
        return group

    def find_lone_deletes(self) -> list[tuple[int, Change]]:
        """What only deletes, with its number: it may be done before its time.

        It is asked for in each turn while new messages wait for room, so each change is looked at once.

        Nothing that comes before it can be about the same messages, and be undone by that; but where they are moved in
        this group they still stand in the database under other serials, and would come back from there.
        """
        moved, found = self._moved, self._lone_deletes
        start = self._ends[self._sifted - 1] if self._sifted else 0
        for told, end in zip(self.told[self._sifted :], self._ends[self._sifted :], strict=True):
            for change in self._changes[start:end]:
                if isinstance(change, Move):
                    moved.update(range(change.new_first, change.new_first + change.last - change.first + 1))
                elif isinstance(change, Delete) and is_lone_delete(told.parts) and not _meets(moved, change):
                    found.append((told.number, change))
            start = end
        self._sifted = len(self.told)
        return found

    def note_deleted(self) -> None:
        """That was done: only what comes from now on may be done before its time."""
        self._lone_deletes = []

    def first_of(self, queue: bytes, priority: int) -> int:
        """Return the lowest serial of what this group has for this queue and priority; 0: there is nothing.

        What goes into the schedule is in no queue yet, and may have a serial of long ago.
        """
        for change in self._changes[self._looked :]:
            if isinstance(change, Chunk):
                lane, serial = (change.queue, change.priority), change.serial
            elif isinstance(change, Message | Move) and not change.details.due:
                lane = change.queue, change.details.priority
                serial = change.serial if isinstance(change, Message) else change.new_first
            else:
                continue
            self._lanes[lane] = min(serial, self._lanes.get(lane, serial))
        self._looked = len(self._changes)
        return self._lanes.get((queue, priority), 0)

    def _cancel(self, change: Delete) -> None:
        for place in self._take_places(change.first, change.last):
            self._changes[place] = None
            self.cancelled += 1

    def _take_places(self, first: int, last: int) -> list[int]:
        """Where those of these messages stand that are written in this group."""
        changes, places = self._changes, self._places
        for place in range(self._placed, len(changes)):
            change = changes[place]
            if isinstance(change, Message):
                places[change.serial] = place
        self._placed = len(changes)
        if not places:
            return []
        if last - first > len(places):
            return [places.pop(serial) for serial in [*places] if first <= serial <= last]
        return [places.pop(serial) for serial in range(first, last + 1) if serial in places]


def _meets(serials: set[int], delete: Delete) -> bool:
    return bool(serials) and not serials.isdisjoint(range(delete.first, delete.last + 1))


def take_aside(told: Told) -> tuple[bytes, str]:
    """The octets of a change that was set aside, and why."""
    octets = b"".join([bytes(part.payload) for part in told.parts])
    return octets, told.parts[0].block.decode("utf-8", "replace")
