"""Reading the database of the SQLite backend: what there is, and what a queue has.

Rows that are no messages (`forkbroker.store.table`), and pages that can't be read, are passed over, and noted in the
log (`forkbroker.store.findings`): everything else is served. A queue is read by the index; where there is damage, by
the serials that the index lists, one by one; and if the index is damaged as well, by those that are in the table.
"""

from __future__ import annotations

import heapq
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing

from forkbroker.store.api import MESSAGE_OVERHEAD, Backlog, Chunk, Define, Message, Note, Remember, weigh
from forkbroker.store.around import read_ranges, read_single
from forkbroker.store.database import describe_error, is_partial, make_damage
from forkbroker.store.findings import Findings
from forkbroker.store.schema import MAX_SERIAL
from forkbroker.store.table import (
    COLUMNS,
    MATTERS,
    Row,
    UnfitRowError,
    is_note,
    is_number,
    is_priority,
    is_queue,
    is_text,
    take_messages,
)

_AT_ONCE = 10_000
"""Serials that are listed at once where there is damage, or rows that are odd."""
_IN_QUEUE = "queue = CAST(? AS TEXT) AND priority = ? AND due IS NULL"
_READ = (
    # by a join, as SQLite would take queue and serial from the index alone: what a damaged index leads to may be
    # another queue's message, or none
    f"SELECT {', '.join(f'm.{name}' for name in COLUMNS.split(', '))} "
    "FROM messages AS i INDEXED BY messages_in_queues LEFT JOIN messages AS m NOT INDEXED ON m.serial = i.serial "
    "WHERE i.serial > ? AND i.queue = CAST(? AS TEXT) AND i.priority = ? AND i.due IS NULL ORDER BY i.serial"
)
_READ_ONE = f"SELECT {COLUMNS} FROM messages NOT INDEXED WHERE serial = ?"
_LIST_BY_INDEX = (
    "SELECT serial FROM messages INDEXED BY messages_in_queues "
    f"WHERE serial > ? AND {_IN_QUEUE} ORDER BY serial LIMIT ?"
)
_LIST_BY_TABLE = (
    "SELECT serial FROM messages NOT INDEXED WHERE serial BETWEEN ?1 AND ?2 "
    "AND queue = CAST(?3 AS TEXT) AND priority = ?4 AND due IS NULL LIMIT 1 + ?2 - ?1"
)
_LAST = "SELECT max(serial) FROM messages"
_SCHEDULED = f"SELECT {COLUMNS} FROM messages WHERE due IS NOT NULL ORDER BY serial"
_BACKLOG = (
    "SELECT queue, priority, count(*), sum(octets), max(serial) FROM messages INDEXED BY messages_in_queues "
    f"WHERE due IS NULL AND typeof(queue) = 'text' AND +serial BETWEEN 1 AND {MAX_SERIAL} GROUP BY queue, priority"
)
_IN_NO_QUEUE = (
    "SELECT serial FROM messages INDEXED BY messages_in_queues WHERE due IS NULL AND NOT (typeof(queue) = 'text' "
    "AND (queue GLOB '/queue/?*' OR queue GLOB '/dsub/?*' OR queue GLOB '/reply-queue/?*') "
    f"AND typeof(priority) = 'integer' AND priority BETWEEN 0 AND 9) LIMIT {_AT_ONCE}"
)
_BEYOND = f"SELECT serial FROM messages WHERE serial < 1 OR serial > {MAX_SERIAL}"
_WINDOW = 1024
"""Serials among which a table is searched at first."""


class _WrongIndexError(Exception):
    """The index is not the table's."""


Found = tuple[list[Message | Chunk], bool]


class Reader:
    """Reads one open database."""

    def __init__(self, connection: sqlite3.Connection, findings: Findings) -> None:
        self._connection = connection
        self._findings = findings

    # -- what there is

    def backlog(self) -> list[Backlog]:
        """Per queue and priority, from the index alone."""
        rows = list(map(Backlog._make, self._connection.execute(_BACKLOG)))
        keys = [row[:2] for row in rows]
        if len(set(keys)) < len(keys):
            # a queue that comes twice is hidden in part
            raise make_damage("the index messages_in_queues is out of order")
        self._name_misplaced()
        return [row for row in rows if is_queue(row.queue) and is_priority(row.priority)]

    def _name_misplaced(self) -> None:
        """Rows that no reading of a queue meets."""
        unfit: dict[int, UnfitRowError] = {}
        for select, reason in ((_BEYOND, "the serial is none"), (_IN_NO_QUEUE, "queue or priority is none")):
            try:
                rows = self._connection.execute(select).fetchall()
            except sqlite3.Error as error:
                if not is_partial(error):
                    raise
                continue
            unfit |= {serial: UnfitRowError(reason) for (serial,) in rows}
        self._findings.note_unfit(None, unfit)

    def durables(self) -> list[Define]:
        """All of them."""
        rows = list(map(Define._make, self._connection.execute("SELECT queue, topic, used FROM durables")))
        self._findings.note_odd("durable subscriptions", (row for row in rows if not _is_durable(row)))
        return [row for row in rows if _is_durable(row)]

    def notes(self) -> list[Note]:
        """All of them."""
        rows = list(self._connection.execute("SELECT queue, matter, value FROM notes"))
        self._findings.note_odd("notes of queues", (row for row in rows if not is_note(row)))
        return [Note(queue, MATTERS[matter], value) for queue, matter, value in filter(is_note, rows)]

    def duplicates(self) -> Iterator[Remember]:
        """Row by row."""
        odd: list[Remember] = []
        for row in map(Remember._make, self._connection.execute("SELECT queue, dedup_id, until FROM duplicates")):
            if is_text(row.queue) and is_text(row.dedup_id) and is_number(row.until_ms):
                yield row
            elif len(odd) < _AT_ONCE:
                odd.append(row)
        self._findings.note_odd("dedup-ids", odd)

    def scheduled(self) -> Iterator[Message]:
        """Row by row."""
        unfit: dict[int, UnfitRowError] = {}
        yield from take_messages(self._connection.execute(_SCHEDULED), unfit)
        self._findings.note_unfit(None, unfit)

    # -- a queue

    def read(self, queue: bytes, priority: int, after: int, octets: int, chunks: list[Chunk]) -> Found:
        """As `Store.read`; `chunks` are those that belong between the messages."""
        unfit: dict[int, UnfitRowError] = {}
        try:
            with closing(self._connection.execute(_READ, (after, queue, priority))) as rows:
                found = _collect(take_messages(_compare(rows, queue, priority), unfit), chunks, octets)
        except _WrongIndexError:
            found = self._read_around(queue, priority, after, octets, chunks)
        except sqlite3.Error as error:
            if not is_partial(error):
                raise
            found = self._read_around(queue, priority, after, octets, chunks)
        if unfit:
            self._findings.note_unfit(queue, unfit)
        return found

    def _read_around(self, queue: bytes, priority: int, after: int, octets: int, chunks: list[Chunk]) -> Found:
        limit = min(octets // MESSAGE_OVERHEAD + 2, _AT_ONCE)
        items: list[Message | Chunk] = []
        has_more = True
        while has_more and not items and octets > 0:
            # if all of these are lost, those that follow are to be found: nothing at all would mean the end
            serials, is_cut = self._list_serials(queue, priority, after, limit)
            unfit: dict[int, UnfitRowError] = {}
            lost: dict[int, str] = {}
            rows = _take_own(read_single(self._connection, _READ_ONE, serials, lost), queue, priority, lost)
            due = [chunk for chunk in chunks if chunk.serial <= serials[-1]] if is_cut else chunks
            items, has_more = _collect(take_messages(rows, unfit), due, octets)
            has_more = has_more or is_cut
            after = serials[-1] if serials else after
            self._findings.note_unfit(queue, unfit)
            self._findings.note_lost(queue, lost)
        return items, has_more

    def _list_serials(self, queue: bytes, priority: int, after: int, limit: int) -> tuple[list[int], bool]:
        """Where this queue goes on: serials, about `limit` at most, and whether there may be others behind them."""
        try:
            rows = self._connection.execute(_LIST_BY_INDEX, (after, queue, priority, limit)).fetchall()
        except sqlite3.Error as error:
            if not is_partial(error):
                raise
            self._findings.note_damaged_index(queue, describe_error(error))
            return self._search(queue, priority, after)
        return [serial for (serial,) in rows], len(rows) == limit

    def _search(self, queue: bytes, priority: int, after: int) -> tuple[list[int], bool]:
        """The same from the table, if need be all of it."""
        low, width, last = after + 1, _WINDOW, self._find_last()
        found: list[int] = []
        while low <= last and not found:
            window = range(low, min(last, low + width - 1) + 1)
            rows = read_ranges(self._connection, _LIST_BY_TABLE, window, parameters=(queue, priority))
            found = sorted({serial for (serial,) in rows if serial in window})
            low, width = window[-1] + 1, 2 * width
        return found, bool(found) and low <= last

    def _find_last(self) -> int:
        try:
            (last,) = self._connection.execute(_LAST).fetchone()
        except sqlite3.Error as error:
            if not is_partial(error):
                raise
            return 0
        return min(last or 0, MAX_SERIAL)


def _collect(messages: Iterator[Message], chunks: list[Chunk], octets: int) -> Found:
    items: Iterable[Message | Chunk] = messages
    if chunks:
        items = heapq.merge(messages, chunks, key=lambda item: item[0])
    found: list[Message | Chunk] = []
    for item in items:
        if octets <= 0:
            return found, True
        octets -= weigh(item)
        found.append(item)
    return found, False


def _compare(rows: Iterable[Row], queue: bytes, priority: int) -> Iterator[Row]:
    """All of them. Raises _WrongIndexError: the index has led to a row that is not of this queue, or to none."""
    for row in rows:
        if row[1] != queue or row[6] != priority or row[9] is not None:
            raise _WrongIndexError
        yield row


def _take_own(rows: Iterable[Row], queue: bytes, priority: int, lost: dict[int, str]) -> Iterator[Row]:
    """Those of this queue; the serials of others come into `lost`."""
    for row in rows:
        if row[1] == queue and row[6] == priority and row[9] is None:
            yield row
        else:
            lost[row[0]] = "the index has it in another queue than the table"


def _is_durable(row: Define) -> bool:
    is_named = is_queue(row.queue) and row.queue.startswith(b"/dsub/")
    return is_named and is_text(row.topic) and row.topic.startswith(b"/topic/") and is_number(row.used_ms)
