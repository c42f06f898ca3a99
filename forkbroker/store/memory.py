"""The backend that keeps everything in memory: `memory:`, or `memory:512MiB` for more or less than 256 MiB.

Nothing survives the store's process. It is for tests, and for brokers whose messages are worth nothing tomorrow. Its
size is no wall, but what `free` goes by: when too little is left the broker refuses what would need more.
"""

from __future__ import annotations

import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from forkbroker.config.values import size
from forkbroker.errors import ConfigurationError
from forkbroker.store.api import (
    Backlog,
    Change,
    Chunk,
    Define,
    Delete,
    Forget,
    Message,
    Move,
    Note,
    Opened,
    Purge,
    Remember,
    SerialTakenError,
    Store,
    Update,
    is_same,
    renumber,
    weigh,
)
from forkbroker.wire.kinds import Matter

DEFAULT_OCTETS = 268_435_456
_SWEEP_S = 60.0
"""Between two removals of dedup-ids whose time is over."""
_TIDY_ABOVE = 64
"""Serials of what is gone that may stand in a lane before it is worth asking whether they are most of it."""

_parse_size = size(1)


class _Lane:
    """What there is of one queue and priority."""

    __slots__ = ("chunks", "items", "serials")

    def __init__(self) -> None:
        self.items: dict[int, Message | Chunk] = {}
        self.serials: list[int] = []
        """Of these, in order; among them some that are gone."""
        self.chunks: list[int] = []
        """The same of chunks."""

    def put(self, item: Message | Chunk) -> None:
        """Something new, in place of whatever has its serial."""
        serial = item.serial
        self.items[serial] = item
        _insert(self.serials, serial)
        if isinstance(item, Chunk):
            _insert(self.chunks, serial)

    def drop(self, serial: int) -> None:
        """Forget it. It must be there."""
        del self.items[serial]
        if len(self.serials) > 2 * len(self.items) + _TIDY_ABOVE:
            self.serials = sorted(self.items)
            self.chunks = [serial for serial in self.chunks if serial in self.items]

    def follow(self, after: int) -> Iterator[Message | Chunk]:
        """What is there behind this serial, in order."""
        serials, items = self.serials, self.items
        for position in range(bisect_right(serials, after), len(serials)):
            item = items.get(serials[position])
            if item is not None:
                yield item


def _insert(serials: list[int], serial: int) -> None:
    """In order, and once."""
    if not serials or serials[-1] < serial:
        serials.append(serial)
        return
    position = bisect_left(serials, serial)
    if serials[position] != serial:
        serials.insert(position, serial)


class MemoryStore(Store):
    """See the module."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._limit = _parse(url)
        self._used = 0
        self._places: dict[int, _Lane] = {}
        self._lanes: dict[bytes, dict[int, _Lane]] = {}
        self._schedule = _Lane()
        self._durables: dict[bytes, Define] = {}
        self._notes: dict[tuple[bytes, Matter], Note] = {}
        self._duplicates: dict[tuple[bytes, bytes], Remember] = {}
        self._sweep_at = 0.0
        self._apply: dict[type, Callable[[Any], None]] = {
            Message: self._insert,
            Chunk: self._keep,
            Delete: self._delete,
            Update: self._update,
            Move: self._move,
            Purge: self._purge,
            Define: self._define,
            Forget: self._forget,
            Note: self._note,
            Remember: self._remember,
        }

    def open(self, *, is_fresh: bool) -> Opened:
        """Nothing is there, and all serials are free."""
        return Opened(serial=1)

    def close(self, *, in_order: bool) -> None:
        """All goes with the process."""

    def free(self) -> int:
        """What is left of the size."""
        return max(0, self._limit - self._used)

    # -- what there is

    def backlog(self) -> list[Backlog]:
        """Counted one by one."""
        found = []
        for queue, lanes in self._lanes.items():
            for priority, lane in lanes.items():
                messages = [item for item in lane.follow(0) if isinstance(item, Message)]
                if messages:
                    octets = sum(len(message.body) for message in messages)
                    found.append(Backlog(queue, priority, len(messages), octets, messages[-1].serial))
        return found

    def durables(self) -> list[Define]:
        """All of them."""
        return list(self._durables.values())

    def notes(self) -> list[Note]:
        """All of them."""
        return list(self._notes.values())

    def duplicates(self) -> list[Remember]:
        """Those whose time is not over."""
        self._sweep()
        return list(self._duplicates.values())

    def scheduled(self) -> list[Message]:
        """They have a lane of their own."""
        return [item for item in self._schedule.follow(0) if isinstance(item, Message)]

    # -- changes

    def write(self, changes: Sequence[Change]) -> None:
        """One by one: what can't be written is found by `write_one_by_one` before anything is read."""
        for change in changes:
            self._apply[type(change)](change)

    def write_one_by_one(self, changes: Iterable[Sequence[Change]]) -> None:
        """What comes before a change that can't be written is there, and harmless when it comes again."""
        for some in changes:
            self.write(some)

    def _insert(self, message: Message) -> None:
        self._put(message._replace(body=bytes(message.body)), message.details.priority)

    def _keep(self, chunk: Chunk) -> None:
        self._put(chunk._replace(raw=bytes(chunk.raw)), chunk.priority)

    def _put(self, item: Message | Chunk, priority: int) -> None:
        self._drop_told_before(item)
        if isinstance(item, Message) and item.details.due:
            lane = self._schedule
        else:
            lane = self._lanes.setdefault(item.queue, {}).setdefault(priority, _Lane())
        lane.put(item)
        self._places[item.serial] = lane
        self._used += weigh(item)

    def _drop_told_before(self, item: Message | Chunk) -> None:
        self._check_serial(item)
        self._drop(item.serial)

    def _check_serial(self, item: Message | Chunk) -> None:
        """Raises SerialTakenError."""
        lane = self._places.get(item.serial)
        if lane is None:
            return
        there = lane.items[item.serial]
        if isinstance(item, Message) and isinstance(there, Message):
            is_told_before = is_same(item, there)
        else:
            is_told_before = item == there
        if not is_told_before:
            raise SerialTakenError(item.serial, item.queue, there.queue)

    def _drop(self, serial: int) -> None:
        lane = self._places.pop(serial, None)
        if lane is not None:
            self._used -= weigh(lane.items[serial])
            lane.drop(serial)

    def _written(self, first: int, last: int) -> list[Message]:
        lanes = ((serial, self._places.get(serial)) for serial in range(first, last + 1))
        items = [lane.items[serial] for serial, lane in lanes if lane is not None]
        return [item for item in items if isinstance(item, Message)]

    def _delete(self, change: Delete) -> None:
        for message in self._written(change.first, change.last):
            self._drop(message.serial)

    def _update(self, change: Update) -> None:
        for message in self._written(change.first, change.last):
            details = message.details
            if details.crashes != change.crashes:
                details = replace(details, crashes=change.crashes)
            lane = self._places[message.serial]
            lane.items[message.serial] = message._replace(deliveries=change.deliveries, details=details)

    def _move(self, change: Move) -> None:
        moved = [(message.serial, _moved(message, change)) for message in self._written(change.first, change.last)]
        # nothing is taken away before it is sure that there is a place for all
        for _, message in moved:
            self._check_serial(message)
        for serial, message in moved:
            self._drop(serial)
            self._insert(message)

    def _purge(self, change: Purge | Forget) -> None:
        for lane in self._lanes.pop(change.queue, {}).values():
            for serial, item in lane.items.items():
                del self._places[serial]
                self._used -= weigh(item)

    def _define(self, change: Define) -> None:
        self._durables[change.queue] = change

    def _forget(self, change: Forget) -> None:
        self._durables.pop(change.queue, None)
        self._purge(change)

    def _note(self, change: Note) -> None:
        if change.value is None:
            self._notes.pop((change.queue, change.matter), None)
        else:
            self._notes[change.queue, change.matter] = change

    def _remember(self, change: Remember) -> None:
        self._duplicates[change.queue, change.dedup_id] = change
        if time.monotonic() >= self._sweep_at:
            self._sweep()

    def _sweep(self) -> None:
        self._sweep_at = time.monotonic() + _SWEEP_S
        now_ms = time.time() * 1000
        self._duplicates = {key: entry for key, entry in self._duplicates.items() if entry.until_ms >= now_ms}

    # -- reading

    def read(self, queue: bytes, priority: int, after: int, octets: int) -> tuple[list[Message | Chunk], bool]:
        """From the lane."""
        lane = self._lanes.get(queue, {}).get(priority)
        if lane is None:
            return [], False
        self._take_chunks(lane, after)
        found: list[Message | Chunk] = []
        for item in lane.follow(after):
            if octets <= 0:
                return found, True
            octets -= weigh(item)
            found.append(item)
        return found, False

    def _take_chunks(self, lane: _Lane, upto: int) -> None:
        taken = bisect_right(lane.chunks, upto)
        for serial in lane.chunks[:taken]:
            self._drop(serial)
        lane.chunks = lane.chunks[taken:]


def _moved(message: Message, change: Move) -> Message:
    place = message.serial - change.first
    ident = message.message_id
    return message._replace(
        serial=change.new_first + place,
        message_id=renumber(ident, change.new_number + place) if change.new_number else ident,
        queue=change.queue,
        deliveries=change.deliveries,
        details=change.details,
    )


def _parse(url: str) -> int:
    text = url.removeprefix("memory:")
    try:
        return _parse_size(text) if text else DEFAULT_OCTETS
    except ConfigurationError:
        raise ConfigurationError(url, "no size", "as in memory: or memory:512MiB") from None
