"""What is written together: everything that the store was told since its last commit.

Messages that were told and settled within one group are not written. What deletes them is kept in it all the same: a
store that was started anew may be told again what the one before has written already.
"""

from __future__ import annotations

from collections.abc import Callable

from forkbroker.errors import EnvelopeError
from forkbroker.store.api import Change, Chunk, Define, Delete, Forget, Message, Move, Purge, Update
from forkbroker.store.pages import stored_details, unpack_messages
from forkbroker.wire.envelope import Envelope
from forkbroker.wire.kinds import Kind


class Group:
    """Changes, in their order."""

    def __init__(self) -> None:
        self._changes: list[Change | None] = []
        self._places: dict[int, int] = {}
        self._placed = 0
        self.number = 0
        """Of the last change."""
        self.cancelled = 0
        """Messages that need not be written any more."""

    def __bool__(self) -> bool:
        """There is something to commit."""
        return self.number > 0

    def take_changes(self) -> list[Change]:
        """What is to be written."""
        return [change for change in self._changes if change is not None]

    def add(self, envelope: Envelope) -> None:
        """A numbered change.

        Raises:
            EnvelopeError: it is none, or can't be decoded.
        """
        self.number = max(self.number, envelope.number)
        if envelope.kind is Kind.TRANSACTION:
            for part in envelope.nested():
                self._add(part)
        else:
            self._add(envelope)

    def _add(self, envelope: Envelope) -> None:
        apply = _ADD.get(envelope.kind)
        if apply is None:
            raise EnvelopeError(f"{envelope.kind.name} is no change of the store")
        apply(self, envelope)

    def _write(self, envelope: Envelope) -> None:
        messages, reminder = unpack_messages(envelope)
        self._changes += messages
        if reminder is not None:
            self._changes.append(reminder)

    def _spill(self, envelope: Envelope) -> None:
        priority = envelope.details.priority
        self._changes.append(Chunk(envelope.serial, envelope.destination, priority, envelope.count, envelope.raw))

    def _delete(self, envelope: Envelope) -> None:
        first, last = _range(envelope)
        for place in self._take_places(first, last):
            self._changes[place] = None
            self.cancelled += 1
        self._changes.append(Delete(first, last))

    def _move(self, envelope: Envelope) -> None:
        # they are to be found under other serials from now on: who deletes these must not meet the old ones
        first, last = _range(envelope)
        self._take_places(first, last)
        self._changes.append(
            Move(
                first=first,
                last=last,
                new_first=envelope.new_serial(),
                new_number=envelope.index,
                queue=envelope.destination,
                deliveries=envelope.deliveries,
                details=stored_details(envelope.details),
            )
        )

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
        return [places.pop(serial) for serial in range(first, last + 1) if serial in places]

    def _update(self, envelope: Envelope) -> None:
        self._changes.append(Update(*_range(envelope), envelope.deliveries, envelope.index))

    def _purge(self, envelope: Envelope) -> None:
        self._changes.append(Purge(envelope.destination))

    def _define(self, envelope: Envelope) -> None:
        self._changes.append(Define(envelope.destination, envelope.block, envelope.serial))

    def _forget(self, envelope: Envelope) -> None:
        self._changes.append(Forget(envelope.destination))


def _range(envelope: Envelope) -> tuple[int, int]:
    """The serials of the first and the last message that it means."""
    return envelope.serial, envelope.serial + envelope.count - 1


_ADD: dict[Kind, Callable[[Group, Envelope], None]] = {
    Kind.WRITE: Group._write,
    Kind.SPILL: Group._spill,
    Kind.DELETE: Group._delete,
    Kind.UPDATE: Group._update,
    Kind.MOVE: Group._move,
    Kind.PURGE: Group._purge,
    Kind.DEFINE: Group._define,
    Kind.FORGET: Group._forget,
}
