"""The store played by the test: rows in a dictionary. What is told to it waits until it works, and dies with it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from itertools import groupby

from forkbroker.wire.details import Details
from forkbroker.wire.envelope import Envelope, pack, pack_pieces
from forkbroker.wire.fan import address, unpack_fan
from forkbroker.wire.kinds import Flag, Kind


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
        self.aside: list[bytes] = []
        """Kept for the administrator."""
        self.is_open = False
        self.recovered_before = 0

    # -- processes

    def open(self, *, is_fresh: bool) -> None:
        """Another process; `is_fresh`: of another broker, the one before having ended in disorder."""
        assert not self.is_open
        self.is_open = True
        self.is_up_to_date = False
        serial = max(self.rows, default=0) + 1
        self.say(Kind.OPENING, serial=serial)
        if is_fresh:
            self.spilled.clear()
            self.recovered_before = serial
            self._tell_stock()
        self.say(Kind.OPENED)

    def kill(self, heard: int = 0) -> None:
        """What it has not read is gone; of what it said, the first `heard` envelopes were written."""
        self.is_open = False
        self.repeated = 0
        self.told.clear()
        self.parts.clear()
        self.said = deque([*self.said][:heard])

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

    def tell(self, envelope: Envelope) -> None:
        """The router tells it something."""
        if envelope.kind is Kind.RETOLD:
            assert not self.is_up_to_date
            self.is_up_to_date, self.repeated = True, len(self.told)
        else:
            assert self.is_up_to_date or envelope.kind is not Kind.FETCH, "a question before all was told again"
            self.told.append(envelope)

    def say(self, kind: Kind, **fields: object) -> None:
        self.said.append(Envelope(b"".join(pack(kind, **fields))))  # type: ignore[arg-type]

    # -- work

    def work(self, envelopes: int = 1_000_000) -> None:
        """Read so many envelopes; what changes something is committed, together with what follows it."""
        number = 0
        if envelopes:
            assert self.is_up_to_date or not self.told
            envelopes, self.repeated = max(envelopes, self.repeated), 0
        for _ in range(min(envelopes, len(self.told))):
            envelope = self.told.popleft()
            if envelope.kind is Kind.FETCH:
                assert not self.parts, "a question within a change"
                number = self._say_committed(number)
                self._fetch(envelope)
            elif not envelope.number:
                self.parts.append(envelope)
            else:
                assert envelope.number > number, "a change came twice, or before its time"
                number = envelope.number
                self._apply_whole(envelope)
        self._say_committed(number)

    def _apply_whole(self, envelope: Envelope) -> None:
        """A change that has come to its end."""
        parts, self.parts = self.parts, []
        if envelope.kind is Kind.TOGETHER:
            assert envelope.count == len(parts)
        else:
            assert not parts, "parts of a change without its end"
            parts = [envelope]
        for part in parts:
            self._apply(part)

    def _say_committed(self, number: int) -> int:
        if number:
            self.say(Kind.COMMITTED, number=number)
        return 0

    def _apply(self, envelope: Envelope) -> None:
        kind, serial, count = envelope.kind, envelope.serial, envelope.count
        if kind is Kind.FAN:
            targets, batch = unpack_fan(envelope)
            for target in targets:
                self._apply(Envelope(address(batch, target)))
        elif kind is Kind.SET_ASIDE:
            self.aside.append(bytes(envelope.payload))
        elif kind is Kind.WRITE:
            self._write(envelope)
        elif kind is Kind.SPILL:
            self.spilled[serial] = envelope
        elif kind is Kind.DEFINE:
            self.durables[envelope.destination] = (envelope.block, serial)
        elif kind in (Kind.PURGE, Kind.FORGET):
            self._purge(envelope)
        else:
            rows = [self.rows.pop(each) for each in range(serial, serial + count) if each in self.rows]
            if kind is not Kind.DELETE:
                self._change(envelope, rows)

    def _write(self, envelope: Envelope) -> None:
        assert envelope.flags & Flag.PERSISTENT
        details = envelope.details
        if details.dedup_id:
            self.duplicates[envelope.destination, details.dedup_id] = details.dedup_until
            details = replace(details, dedup_id=b"", dedup_until=0)
        for place, body in enumerate(map(bytes, envelope.pieces())):
            serial, index = envelope.serial + place, envelope.index + place
            self.rows[serial] = Row(
                serial, envelope.destination, index, envelope.block, body, envelope.deliveries, details
            )

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
                    index=envelope.index + place,
                    deliveries=envelope.deliveries,
                    details=replace(envelope.details, persistent=True),
                )
            self.rows[changed.serial] = changed

    def _purge(self, envelope: Envelope) -> None:
        queue = envelope.destination
        self.rows = {serial: row for serial, row in self.rows.items() if row.queue != queue or row.details.due}
        self.spilled = {serial: chunk for serial, chunk in self.spilled.items() if chunk.destination != queue}
        if envelope.kind is Kind.FORGET:
            self.durables.pop(queue, None)

    # -- reading

    def _fetch(self, envelope: Envelope) -> None:
        queue, priority, after = envelope.destination, envelope.index, envelope.serial
        for serial, chunk in list(self.spilled.items()):
            if (chunk.destination, chunk.details.priority) == (queue, priority) and serial <= after:
                del self.spilled[serial]
        octets, count, chosen = envelope.count, 0, []
        serials = self._following(queue, priority, after)
        for serial in serials:
            if octets <= 0:
                break
            chunk = self.spilled.get(serial)  # type: ignore[assignment]
            octets -= len(chunk.raw) if chunk is not None else len(self.rows[serial].body) + 100
            count += chunk.count if chunk is not None else 1
            chosen.append(serial)
        self._say_pages(chosen)
        flags = int(Flag.FINAL) if len(chosen) == len(serials) else 0
        self.say(Kind.PAGED, destination=queue, index=priority, count=count, flags=flags)

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

    def _say_pages(self, serials: list[int]) -> None:
        for _, group in groupby(enumerate(serials), key=self._batch):
            batch = [serial for _, serial in group]
            chunk = self.spilled.get(batch[0])
            if chunk is None:
                self._say_page([self.rows[serial] for serial in batch])
            else:
                raw = bytes(chunk.raw)
                self.said.append(Envelope(b"%b%c%b%b%b" % (raw[:5], Kind.PAGE, raw[6:24], bytes(8), raw[32:])))

    def _batch(self, place_and_serial: tuple[int, int]) -> Row | int:
        """The same for all rows that can stand side by side in one envelope."""
        place, serial = place_and_serial
        row = self.rows.get(serial)
        return serial if row is None else replace(row, serial=serial - place, index=row.index - place, body=b"")

    def _say_page(self, rows: list[Row]) -> None:
        first = rows[0]
        flags, payload = pack_pieces([row.body for row in rows])
        is_recovered = first.serial < self.recovered_before and not first.details.due
        self.say(
            Kind.PAGE,
            flags=flags | Flag.PERSISTENT | (Flag.RECOVERED if is_recovered else 0),
            index=first.index,
            count=len(rows),
            serial=first.serial,
            deliveries=first.deliveries,
            destination=first.queue,
            block=first.block,
            section=first.details.pack(),
            payload=payload,
        )
