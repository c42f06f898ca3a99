"""What the store is told, as a backend gets it: an envelope becomes a list of changes.

Of a batch each persistent message becomes a row; others stay the octets that came. Nothing here looks at other changes,
so what can't be decoded has changed nothing. The way out is `pages.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import repeat

from forkbroker.errors import EnvelopeError
from forkbroker.store.api import Change, Chunk, Define, Delete, Forget, Message, Move, Note, Purge, Remember, Update
from forkbroker.wire.details import DURABLY, Details
from forkbroker.wire.envelope import MAX_SERIAL, Buffer, Envelope, split_names
from forkbroker.wire.fan import address, unpack_fan
from forkbroker.wire.kinds import Flag, Kind, Matter

_EMPTY_LINE = b"\n\n"
_make_row = tuple.__new__


class Batch:
    """The messages of a WRITE, decoded once for all queues that get them."""

    def __init__(self, envelope: Envelope) -> None:
        """Decode them.

        Raises:
            EnvelopeError: that can't be.
        """
        details = envelope.details
        block, bodies = envelope.block, envelope.pieces()
        ident, _, lines = block.partition(b"\n")
        suffix, first, count = ident[1:], envelope.index, envelope.count
        self._headers: Iterable[bytes] = repeat(lines[:-1])
        names: list[bytes] = []
        if envelope.flags & Flag.NAMED:
            names, bodies = split_names(bodies)
        if envelope.flags & Flag.MIXED:
            self._headers, bodies = _split_pieces(bodies)
        self._bodies = bodies
        self._idents = names or [b"%d-%s" % (index, suffix) for index in range(first, first + count)]
        self._deliveries = envelope.deliveries
        self._details = stored_details(details)
        self._dedup = (details.dedup_id, details.dedup_until)

    def rows_for(self, queue: bytes, serial: int) -> list[Change]:
        """The rows of a queue, whose first message has this serial, and the `dedup-id` that is to be remembered."""
        # columns, as Message(…) in a loop takes four times the time: nothing here is Python for each message
        columns = zip(
            range(serial, serial + len(self._idents)),
            repeat(queue),
            self._idents,
            self._headers,
            self._bodies,
            repeat(self._deliveries),
            repeat(self._details),
            strict=False,
        )
        rows: list[Change] = list(map(_make_row, repeat(Message), columns))
        if self._dedup[0]:
            rows.append(Remember(queue, *self._dedup))
        return rows


def unpack_change(parts: Sequence[Envelope]) -> list[Change]:
    """Return the changes that these envelopes mean together.

    Raises:
        EnvelopeError: one of them can't be decoded, or means no change.
    """
    return [change for part in parts for change in _unpack(part)]


def _unpack(envelope: Envelope) -> Sequence[Change]:
    unpack = _UNPACK.get(envelope.kind)
    if unpack is None:
        raise EnvelopeError(f"{envelope.kind.name} is no change of the store")
    return unpack(envelope)


def _unpack_write(envelope: Envelope) -> list[Change]:
    _check_range(envelope)
    return Batch(envelope).rows_for(envelope.destination, envelope.serial)


def _unpack_spill(envelope: Envelope) -> list[Change]:
    _check_range(envelope)
    envelope.bounds(0, envelope.count)
    priority = envelope.details.priority
    return [Chunk(envelope.serial, envelope.destination, priority, envelope.count, envelope.raw)]


def _unpack_fan(envelope: Envelope) -> list[Change]:
    targets, batch = unpack_fan(envelope)
    if batch.kind is Kind.SPILL:
        batch.bounds(0, batch.count)
        return [change for target in targets for change in _unpack_spill(Envelope(address(batch, target)))]
    rows = Batch(batch)
    changes: list[Change] = []
    for serial, queue in targets:
        _check_serials(batch.kind, serial, batch.count)
        changes += rows.rows_for(queue, serial)
    return changes


def _unpack_delete(envelope: Envelope) -> list[Change]:
    return [Delete(*_range(envelope))]


def _unpack_move(envelope: Envelope) -> list[Change]:
    first, last = _range(envelope)
    new_first = envelope.new_serial()
    _check_serials(envelope.kind, new_first, envelope.count)
    details = stored_details(envelope.details)
    move = Move(first, last, new_first, envelope.index, envelope.destination, envelope.deliveries, details)
    return [move]


def _unpack_update(envelope: Envelope) -> list[Change]:
    return [Update(*_range(envelope), envelope.deliveries, envelope.index)]


def _unpack_purge(envelope: Envelope) -> list[Change]:
    return [Purge(envelope.destination)]


def _unpack_define(envelope: Envelope) -> list[Change]:
    if envelope.serial > MAX_SERIAL:
        raise EnvelopeError(f"DEFINE: used at {envelope.serial}, which is no time")
    return [Define(envelope.destination, envelope.block, envelope.serial)]


def _unpack_forget(envelope: Envelope) -> list[Change]:
    return [Forget(envelope.destination)]


def _unpack_note(envelope: Envelope) -> list[Change]:
    try:
        matter = Matter(envelope.token)
    except ValueError as error:
        raise EnvelopeError(f"NOTE: {error}") from None
    return [Note(envelope.destination, matter, envelope.block if envelope.count else None)]


def _range(envelope: Envelope) -> tuple[int, int]:
    """The serials of the first and the last message that it means."""
    _check_range(envelope)
    return envelope.serial, envelope.serial + envelope.count - 1


def _check_range(envelope: Envelope) -> None:
    _check_serials(envelope.kind, envelope.serial, envelope.count)


def _check_serials(kind: Kind, serial: int, count: int) -> None:
    if not (serial > 0 and count > 0 and serial + count - 1 <= MAX_SERIAL):
        raise EnvelopeError(f"{kind.name}: {count} messages from serial {serial}, serials are 1 to {MAX_SERIAL}")


def stored_details(details: Details) -> Details:
    """What of them is kept with each message."""
    if details is DURABLY:
        return details
    kept = replace(details, persistent=True, dedup_id=b"", dedup_until=0)
    return DURABLY if kept == DURABLY else kept


def _split_pieces(pieces: Iterable[Buffer]) -> tuple[list[bytes], list[Buffer]]:
    headers: list[bytes] = []
    bodies: list[Buffer] = []
    for piece in pieces:
        whole = bytes(piece)
        end = 0 if whole.startswith(b"\n") else whole.find(_EMPTY_LINE) + 1
        if not end and not whole.startswith(b"\n"):
            raise EnvelopeError(f"WRITE: piece {len(headers)} has no empty line between header lines and body")
        headers.append(whole[:end])
        bodies.append(whole[end + 1 :])
    return headers, bodies


def is_lone_delete(parts: Sequence[Envelope]) -> bool:
    """Tell whether this change does nothing but delete."""
    return len(parts) == 1 and parts[0].kind is Kind.DELETE


_UNPACK: dict[Kind, Callable[[Envelope], Sequence[Change]]] = {
    Kind.WRITE: _unpack_write,
    Kind.SPILL: _unpack_spill,
    Kind.FAN: _unpack_fan,
    Kind.DELETE: _unpack_delete,
    Kind.UPDATE: _unpack_update,
    Kind.MOVE: _unpack_move,
    Kind.PURGE: _unpack_purge,
    Kind.DEFINE: _unpack_define,
    Kind.FORGET: _unpack_forget,
    Kind.NOTE: _unpack_note,
}
