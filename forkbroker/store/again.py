"""A group of changes that could not be written in the usual way: change by change, with care.

There are two reasons. A store that was started anew is told again what the one before has perhaps committed: so a
message may be there already, and it is made sure that it is this one. And where a page of the database is damaged, what
stands there can't be deleted.

**A row that can't be deleted or updated because of damage stays as it is**, and is named in the log. It would be worse
to stop everything: all other messages can be settled. After SQLite has met damage in a transaction all that follows in
it fails, so the group begins again without what has failed.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterable

from forkbroker.store.api import Change, Delete, Message, Move, SerialTakenError, Update, is_same
from forkbroker.store.database import is_damage
from forkbroker.store.table import list_serials

log = logging.getLogger(__name__)

_FIND = "SELECT queue, message_id, headers, body FROM messages WHERE serial = ?"
_IN_RANGE = "SELECT serial FROM messages WHERE serial BETWEEN ? AND ? ORDER BY serial"
_REMOVE = "DELETE FROM messages WHERE serial = ?"

_ATTEMPTS = 2000
"""To write one group: more that can't be deleted stands on more pages than a few."""

Apply = Callable[[Change], None]


def apply_again(connection: sqlite3.Connection, changes: Iterable[Change], apply: Apply) -> None:
    """Apply these one by one, within a transaction, by `apply`.

    Raises:
        SerialTakenError: a serial is another message's.
        sqlite3.Error: a change can't be written.
    """
    for change in changes:
        if isinstance(change, Message):
            _make_room(connection, change)
        elif isinstance(change, Move) and change.first != change.new_first:
            _make_room_for_move(connection, change)
        apply(change)


def apply_around(
    connection: sqlite3.Connection, changes: Iterable[Change], apply: Apply, begin: Callable[[], None]
) -> None:
    """The same but for deletions and updates of what can't be read. `begin` ends a transaction, and begins another.

    Raises:
        SerialTakenError: a serial is another message's.
        sqlite3.Error: another change can't be written.
    """
    rest, stuck = list(changes), set[int]()
    for attempt in range(_ATTEMPTS):
        begin()
        place = 0
        try:
            for place, change in enumerate(rest):  # noqa: B007 (where it ended, if it did)
                apply_again(connection, (change,), apply)
        except sqlite3.Error as error:
            failed = rest[place]
            if not isinstance(failed, Delete | Update) or not is_damage(error) or attempt == _ATTEMPTS - 1:
                raise
            rest[place : place + 1] = _halve(failed)
            if failed.first == failed.last:
                stuck.add(failed.first)
        else:
            break
    log.error(
        "store: damaged, %d messages with the serials %s cannot be deleted or updated and stay as they are: they are "
        "delivered again after the next start; stop the broker, and start it once with --store-repair",
        len(stuck),
        list_serials(stuck),
    )


def _halve(change: Delete | Update) -> list[Change]:
    """Two for the halves of its serials; none for a single one."""
    if change.first == change.last:
        return []
    middle = (change.first + change.last) // 2
    return [change._replace(last=middle), change._replace(first=middle + 1)]


def _make_room(connection: sqlite3.Connection, message: Message) -> None:
    there = _find(connection, message.serial)
    if there is None:
        return
    if not is_same(message, there):
        raise SerialTakenError(message.serial, message.queue, there.queue)
    connection.execute(_REMOVE, (message.serial,))


def _make_room_for_move(connection: sqlite3.Connection, move: Move) -> None:
    for (serial,) in connection.execute(_IN_RANGE, (move.first, move.last)).fetchall():
        message = _find(connection, serial)
        if message is not None:
            new_serial = serial - move.first + move.new_first
            _make_room(connection, message._replace(serial=new_serial, queue=move.queue))


def _find(connection: sqlite3.Connection, serial: int) -> Message | None:
    row = connection.execute(_FIND, (serial,)).fetchone()
    return None if row is None else Message(serial, *row)
