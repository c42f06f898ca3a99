"""A group of changes that could not be written in the usual way: change by change, with care.

There are two reasons. A store that was started anew is told again what the one before has perhaps committed: so a
message may be there already, and it is made sure that it is this one. And where a page of the database is damaged, what
stands there can't be deleted.

**A row that can't be deleted or updated because of damage stays as it is**, and is named in the log. It would be worse
to stop everything: all other messages can be settled.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Sequence

from forkbroker.store.api import Change, Delete, Message, Move, SerialTakenError, Update, is_same
from forkbroker.store.database import is_damage
from forkbroker.store.rows import list_serials

log = logging.getLogger(__name__)

_FIND = "SELECT queue, message_id, headers, body FROM messages WHERE serial = ?"
_IN_RANGE = "SELECT serial FROM messages WHERE serial BETWEEN ? AND ? ORDER BY serial"
_REMOVE = "DELETE FROM messages WHERE serial = ?"

Apply = Callable[[Change], None]


def apply_again(connection: sqlite3.Connection, changes: Sequence[Change], apply: Apply) -> None:
    """Apply these one by one, within a transaction, by `apply`.

    Raises:
        SerialTakenError: a serial is another message's.
        sqlite3.Error: a change can't be written.
    """
    stuck: list[int] = []
    for change in changes:
        if isinstance(change, Message):
            _make_room(connection, change)
        elif isinstance(change, Move) and change.first != change.new_first:
            _make_room_for_move(connection, change)
        if isinstance(change, Delete | Update):
            stuck += _apply_around(connection, change, apply)
        else:
            apply(change)
    if stuck:
        log.error(
            "store: damaged, messages with the serials %s can't be deleted or updated and stay as they are: they are "
            "delivered again after the next start; stop the broker, and start it once with --store-repair",
            list_serials(stuck),
        )


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


def _apply_around(connection: sqlite3.Connection, change: Delete | Update, apply: Apply) -> list[int]:
    """Serials at which that isn't possible."""
    if _try_apply(connection, change, apply):
        return []
    serials = (change._replace(first=serial, last=serial) for serial in range(change.first, change.last + 1))
    return [single.first for single in serials if not _try_apply(connection, single, apply)]


def _try_apply(connection: sqlite3.Connection, change: Change, apply: Apply) -> bool:
    connection.execute("SAVEPOINT change")
    try:
        apply(change)
    except sqlite3.Error as error:
        if not is_damage(error):
            raise
        connection.execute("ROLLBACK TO change")
        return False
    finally:
        connection.execute("RELEASE change")
    return True
