"""The store played by the test: rows in a dictionary. What is told to it waits until it works, and dies with it.

It groups, announces, declines and reads as `store/process.py` does, and stumbles where a test wants it: over messages
that nobody can write (`UNWRITABLE`), or that end the process (`DEADLY`), and over a disk that is full. It looks at
what it is told with the eyes of a real one: all of it can be decoded, no serial is another message's, and no change
and no group is larger than the router has promised.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from forkbroker.routing.keeping import fans, journal, telling
from forkbroker.store.api import Chunk, Message
from forkbroker.store.group import Group, Told, take_aside
from forkbroker.store.pages import pack_pages
from forkbroker.wire.details import Details
from forkbroker.wire.envelope import Envelope, pack
from forkbroker.wire.fan import address, unpack_fan
from forkbroker.wire.kinds import Flag, Kind

DEADLY = b"deadly"
"""A message whose body ends with this ends the process that is about to write it."""
UNWRITABLE = b"unwritable"
"""A message whose body ends with this is never written."""


@dataclass(frozen=True)
class Row:
    """One persistent message."""

    serial: int
    queue: bytes
    index: int
    block: bytes
    body: bytes
    deliveries: int
    details: Details


class Stock:
    """What one broker's store keeps, over all its processes, and what the present one has heard and said."""

    def __init__(self) -> None:
        self.rows: dict[int, Row] = {}
        self.spilled: dict[int, Envelope] = {}
        self.durables: dict[bytes, tuple[bytes, int]] = {}
        self.duplicates: dict[tuple[bytes, bytes], int] = {}
        self.notes: dict[tuple[bytes, int], bytes] = {}
        self.told: deque[Envelope] = deque()
        """Not read yet."""
        self.said: deque[Envelope] = deque()
        """Not heard yet."""
        self.repeated = 0
        """How many of these the process before may have committed: one group, all of it or nothing."""
        self.is_up_to_date = False
        """All that the process before was told was told again."""
        self.parts: list[Envelope] = []
        """Read, of a change whose end was not."""
        self.group = Group()
        """Read, and not committed."""
        self.asked: deque[Envelope] = deque()
        """Read, and not answered: what is asked for waits to be committed."""
        self.aside: list[bytes] = []
        """Kept for the administrator."""
        self.is_open = False
        self.is_dying = False
        """It has met what ends its process, and does nothing more: to be killed."""
        self.is_full = False
        """There is room for deletions alone."""
        self.max_envelope = 0
        """Octets of one envelope that the process can read; 0: any."""
        self.recovered_before = 0

    # -- processes

    def open(self, *, is_fresh: bool, in_order: bool = False) -> None:
        """Another process; `is_fresh`: of another broker, the one before having ended `in_order` or not."""
        assert not self.is_open
        self.is_open = True
        self.is_up_to_date = False
        serial = max(self.recovered_before, max(self.rows, default=0) + 1)
        self.say(Kind.OPENING, serial=serial)
        if is_fresh:
            self.spilled.clear()
            if not in_order:
                self.recovered_before = serial
            self._tell_stock()
        if self.is_full:
            self._say_full()
        self.say(Kind.OPENED)

    def kill(self, heard: int = 0) -> None:
        """What it has not read is gone; of what it said, the first `heard` envelopes were written."""
        self.is_open = self.is_dying = False
        self.repeated = 0
        self.told.clear()
        self.parts.clear()
        self.group = Group()
        self.asked.clear()
        self.said = deque([*self.said][:heard])

    def fill_disk(self) -> None:
        """From now on there is no room but for deletions."""
        self.is_full = True
        if self.is_open:
            self._say_full()

    def free_disk(self, room: int = 1 << 40) -> None:
        """There is room again: so many octets."""
        self.is_full = False
        if self.is_open:
            self.say(Kind.DISK, serial=room)

    def _say_full(self) -> None:
        self.say(Kind.DISK, token=1, block=b"the disk is full")

    def _tell_stock(self) -> None:
        waiting = sorted(self.rows.values(), key=lambda row: (row.queue, row.details.priority, row.serial))
        for (queue, priority), group in groupby(waiting, key=lambda row: (row.queue, row.details.priority)):
            rows = [row for row in group if not row.details.due]
            octets = sum(len(row.body) for row in rows)
            if rows:
                self.say(Kind.BACKLOG, destination=queue, index=priority, count=len(rows), number=octets)
        for queue, (topic, used_ms) in self.durables.items():
            self.say(Kind.DURABLE, destination=queue, block=topic, serial=used_ms)
        for (queue, dedup_id), until_ms in self.duplicates.items():
            self.say(Kind.DUPLICATE, destination=queue, block=dedup_id, number=until_ms)
        self._say_pages(sorted(row.serial for row in self.rows.values() if row.details.due))
        for (queue, matter), value in self.notes.items():
            self.say(Kind.NOTED, destination=queue, token=matter, count=1, block=value)

    def tell(self, envelope: Envelope) -> None:
        """The router tells it something."""
        assert not self.max_envelope or len(envelope.raw) <= self.max_envelope, "an envelope that it cannot read"
        if envelope.kind is Kind.RETOLD:
            assert not self.is_up_to_date
            self.is_up_to_date, self.repeated = True, len(self.told)
            # the last change goes over it, however large it is
            last = _find_last_change(self.told)
            most = telling.WINDOW_OCTETS + sum(map(_weigh, last))
            assert sum(map(_weigh, self.told)) <= most, "more than a group may be"
        else:
            assert self.is_up_to_date or envelope.kind is not Kind.FETCH, "a question before all was told again"
            self.told.append(envelope)

    def say(self, kind: Kind, **fields: object) -> None:
        self.said.append(Envelope(b"".join(pack(kind, **fields))))  # type: ignore[arg-type]

    # -- work

    def work(self, envelopes: int = 1_000_000) -> None:
        """Read so many envelopes; what changes something is committed, together with what follows it."""
        if self.is_dying or not self.is_up_to_date:
            # changes that are told again are one group, of which a part is worse than nothing
            return
        if envelopes:
            self._read_again()
        for _ in range(min(envelopes, len(self.told))):
            self._read(self.told.popleft())
        self._commit()
        self._answer()

    def _read_again(self) -> None:
        """What was told to the process before, as one group, of which each change is announced."""
        if not self.repeated:
            return
        for _ in range(self.repeated):
            self._read(self.told.popleft())
        self.repeated = 0
        self._commit(is_retold=True)

    def _read(self, envelope: Envelope) -> None:
        if self.is_dying:
            return
        if envelope.kind is Kind.FETCH:
            assert not self.parts, "a question within a change"
            self._commit()
            self.asked.append(envelope)
            self._answer()
        elif not envelope.number:
            self.parts.append(envelope)
        else:
            assert envelope.number > self.group.number, "a change came twice, or before its time"
            self._take_in(envelope)

    def _take_in(self, envelope: Envelope) -> None:
        """A change that has come to its end."""
        parts, self.parts = self.parts, []
        if envelope.kind is Kind.TOGETHER:
            assert envelope.count == len(parts)
        else:
            assert not parts, "parts of a change without its end"
            parts = [envelope]
        told = Told(envelope.number, tuple(parts))
        if told.kind is Kind.SET_ASIDE:
            self.aside.append(take_aside(told)[0])
            told = Told(told.number, ())
        else:
            self._check_size(told)
        self.group.add(told)

    def _check_size(self, told: Told) -> None:
        """A batch for several queues is cut, and its bodies are told once; a transaction writes no more than it may."""
        written, copies = sum(map(_weigh, told.parts)), sum(map(_count_targets, told.parts))
        if len(told.parts) == 1:
            assert written <= fans.FAN_OCTETS or copies <= 1, "a change that is too large for one group"
        if self.max_envelope:
            assert written <= journal.MAX_COPIES + self.max_envelope, "a change that is too large for the store"
            assert told.octets <= 3 * self.max_envelope, "a change that repeats its bodies"

    def _commit(self, *, is_retold: bool = False) -> None:
        """Write the group, all of it but what can't be written."""
        if not self.group.told or self.is_dying:
            return
        if self.is_full and len(self.group.find_lone_deletes()) < len(self.group.told):
            # spilled messages have a file of their own, which is written first
            parts = [part for told in self.group.told for part in told.parts if part.kind is Kind.SPILL]
            for part in parts:
                self._keep(part)
            self._delete_ahead()
            return
        for told in self.group.told:
            if is_retold:
                self.say(Kind.TRYING, number=told.number)
            if _has(told, DEADLY):
                self.is_dying = True
                return
            if _has(told, UNWRITABLE):
                self.aside.append(b"".join([bytes(part.raw) for part in told.parts]))
                self.say(Kind.DECLINED, number=told.number, block=b"nobody can write this")
                self.group = self.group.without(told.number)
                self._commit(is_retold=is_retold)
                return
        if is_retold:
            self.say(Kind.TRYING)
        group, self.group = self.group, Group()
        for told in group.told:
            for part in told.parts:
                self._apply(part)
        self.say(Kind.COMMITTED, number=group.number)

    def _delete_ahead(self) -> None:
        """What was settled makes room, whatever waits before it."""
        for number, _ in self.group.find_lone_deletes():
            (part,) = next(told.parts for told in self.group.told if told.number == number)
            self._apply(part)
            self.say(Kind.DELETED, number=number)
        self.group.note_deleted()

    def _apply(self, envelope: Envelope) -> None:
        kind, serial, count = envelope.kind, envelope.serial, envelope.count
        if kind is Kind.FAN:
            targets, batch = unpack_fan(envelope)
            for target in targets:
                self._apply(Envelope(address(batch, target)))
        elif kind is Kind.WRITE:
            self._write(envelope)
        elif kind is Kind.SPILL:
            self._keep(envelope)
        elif kind is Kind.DEFINE:
            self.durables[envelope.destination] = (envelope.block, serial)
        elif kind in (Kind.PURGE, Kind.FORGET):
            self._purge(envelope)
        elif kind is Kind.NOTE:
            self.notes.pop((envelope.destination, envelope.token), None)
            if envelope.count:
                self.notes[envelope.destination, envelope.token] = envelope.block
        else:
            rows = [self.rows.pop(each) for each in range(serial, serial + count) if each in self.rows]
            if kind is not Kind.DELETE:
                self._change(envelope, rows)

    def _keep(self, chunk: Envelope) -> None:
        there = self.spilled.get(chunk.serial, chunk)
        assert there.raw == chunk.raw, "other messages were spilled with this serial, and not taken"
        self.spilled[chunk.serial] = chunk

    def _write(self, envelope: Envelope) -> None:
        assert envelope.flags & Flag.PERSISTENT
        details = envelope.details
        if details.dedup_id:
            self.duplicates[envelope.destination, details.dedup_id] = details.dedup_until
            details = replace(details, dedup_id=b"", dedup_until=0)
        for place, body in enumerate(map(bytes, envelope.pieces())):
            serial, index = envelope.serial + place, envelope.index + place
            self._put(Row(serial, envelope.destination, index, envelope.block, body, envelope.deliveries, details))

    def _put(self, row: Row) -> None:
        there = self.rows.get(row.serial, row)
        assert (there.queue, there.body) == (row.queue, row.body), "the serial is another message's"
        self.rows[row.serial] = row

    def _change(self, envelope: Envelope, rows: list[Row]) -> None:
        for row in rows:
            if envelope.kind is Kind.UPDATE:
                details = replace(row.details, crashes=envelope.index)
                changed = replace(row, deliveries=envelope.deliveries, details=details)
            else:
                assert envelope.kind is Kind.MOVE, envelope.kind
                place = row.serial - envelope.serial
                changed = replace(
                    row,
                    serial=envelope.new_serial() + place,
                    queue=envelope.destination,
                    index=envelope.index + place if envelope.index else row.index,
                    deliveries=envelope.deliveries,
                    details=replace(envelope.details, persistent=True),
                )
            self._put(changed)

    def _purge(self, envelope: Envelope) -> None:
        queue = envelope.destination
        self.rows = {serial: row for serial, row in self.rows.items() if row.queue != queue or row.details.due}
        self.spilled = {serial: chunk for serial, chunk in self.spilled.items() if chunk.destination != queue}
        if envelope.kind is Kind.FORGET:
            self.durables.pop(queue, None)

    # -- reading

    def _answer(self) -> None:
        """What was asked for, as far as that can be said now."""
        for _ in range(0 if self.is_dying else len(self.asked)):
            envelope = self.asked.popleft()
            if not self._fetch(envelope):
                self.asked.append(envelope)

    def _fetch(self, envelope: Envelope) -> bool:
        """Answer; not if all that there is waits to be written."""
        queue, priority, after = envelope.destination, envelope.index, envelope.serial
        for serial, chunk in list(self.spilled.items()):
            if (chunk.destination, chunk.details.priority) == (queue, priority) and serial <= after:
                del self.spilled[serial]
        octets, count, chosen = envelope.count, 0, []
        serials = self._following(queue, priority, after)
        first = self.group.first_of(queue, priority)
        is_waiting = first > 0
        if is_waiting:
            serials = [serial for serial in serials if serial < first]
            if not serials:
                return False
        for serial in serials:
            if octets <= 0:
                break
            chunk = self.spilled.get(serial)  # type: ignore[assignment]
            octets -= len(chunk.raw) if chunk is not None else len(self.rows[serial].body) + 100
            count += chunk.count if chunk is not None else 1
            chosen.append(serial)
        self._say_pages(chosen, self.recovered_before)
        flags = int(Flag.FINAL) if len(chosen) == len(serials) and not is_waiting else 0
        self.say(Kind.PAGED, destination=queue, index=priority, count=count, flags=flags)
        return True

    def _following(self, queue: bytes, priority: int, after: int) -> list[int]:
        where = (queue, priority)
        rows = [
            row.serial
            for row in self.rows.values()
            if (row.queue, row.details.priority) == where and row.serial > after and not row.details.due
        ]
        chunks = [
            serial
            for serial, chunk in self.spilled.items()
            if (chunk.destination, chunk.details.priority) == where and serial > after
        ]
        return sorted(rows + chunks)

    def _say_pages(self, serials: list[int], recovered_before: int = 0) -> None:
        items = [self._item(serial) for serial in serials]
        for page in pack_pages(items, recovered_before=recovered_before):
            self.said.append(Envelope(b"".join(page)))

    def _item(self, serial: int) -> Message | Chunk:
        """As a backend has it."""
        chunk = self.spilled.get(serial)
        if chunk is not None:
            return Chunk(serial, chunk.destination, chunk.details.priority, chunk.count, chunk.raw)
        row = self.rows[serial]
        end, _, lines = row.block.partition(b"\n")
        ident = b"%d%b" % (row.index, end)
        return Message(serial, row.queue, ident, lines[:-1], row.body, row.deliveries, row.details)


def _has(told: Told, mark: bytes) -> bool:
    return any(body.endswith(mark) for part in told.parts for body in _bodies(part))


def _bodies(part: Envelope) -> list[bytes]:
    if part.kind is Kind.FAN:
        return _bodies(unpack_fan(part)[1])
    return list(map(bytes, part.pieces())) if part.kind in (Kind.WRITE, Kind.SPILL) else []


def _count_targets(part: Envelope) -> int:
    return part.count if part.kind is Kind.FAN else int(part.kind in (Kind.WRITE, Kind.SPILL))


def _weigh(part: Envelope) -> int:
    """What it gives the store to write: octets of bodies."""
    batch = unpack_fan(part)[1] if part.kind is Kind.FAN else part
    return sum(map(len, _bodies(batch))) * _count_targets(part)


def _find_last_change(told: Sequence[Envelope]) -> list[Envelope]:
    """Its parts, and what ends it."""
    last = list(told)[-1:]
    while len(last) < len(told) and not told[len(told) - len(last) - 1].number:
        last.insert(0, told[len(told) - len(last) - 1])
    return last
