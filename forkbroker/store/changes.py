"""What the store is told, as a backend gets it: an envelope becomes a list of changes.

Nothing here looks at other changes, so what can't be decoded has changed nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from forkbroker.errors import EnvelopeError
from forkbroker.store.api import Change, Chunk, Define, Delete, Forget, Move, Purge, Update
from forkbroker.store.pages import Batch, stored_details
from forkbroker.wire.envelope import MAX_SERIAL, Envelope
from forkbroker.wire.fan import address, unpack_fan
from forkbroker.wire.kinds import Kind


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


def _range(envelope: Envelope) -> tuple[int, int]:
    """The serials of the first and the last message that it means."""
    _check_range(envelope)
    return envelope.serial, envelope.serial + envelope.count - 1


def _check_range(envelope: Envelope) -> None:
    _check_serials(envelope.kind, envelope.serial, envelope.count)


def _check_serials(kind: Kind, serial: int, count: int) -> None:
    if not (serial > 0 and count > 0 and serial + count - 1 <= MAX_SERIAL):
        raise EnvelopeError(f"{kind.name}: {count} messages from serial {serial}, serials are 1 to {MAX_SERIAL}")


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
}
