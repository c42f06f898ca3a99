"""Saving what can be read of a damaged database (`--store-repair`).

The whole table is read in the order in which it stands in the file, from its begin and, if there is damage, from its
end; what lies between the two places where that ended is read around the damage (`forkbroker.store.around`). Which
serials there should be the indexes tell; if these are damaged too, any between the first and the last one are tried.
The indexes of the new database are made anew.

Everything that can be read is saved, also what is no message any more: a row whose checksum is wrong, or that breaks a
rule, is not delivered, but stays for the administrator. A row whose serial is another one's, or none, is moved to the
end. Rows without a checksum (`forkbroker.store.table`) may have changed without being noticed.

The damaged file stays, under another name. At no instant is there no file under the old one: an empty database would
look like a store that never had any messages.
"""

from __future__ import annotations

import os
import sqlite3
import time
from bisect import bisect_right
from collections.abc import Generator, Iterable
from contextlib import closing, suppress
from itertools import chain, count, islice, pairwise
from pathlib import Path

from forkbroker.store.around import read_ranges, read_single, read_to_damage
from forkbroker.store.database import check_integrity, connect, is_damage
from forkbroker.store.schema import MAX_SERIAL, upgrade
from forkbroker.store.table import COLUMNS, Row, UnfitRowError, is_number, to_message

_TABLES = {
    "durables": "queue, topic, used",
    "duplicates": "queue, dedup_id, until",
    "notes": "queue, matter, value",
}
_TEXTS = frozenset(
    {
        *("queue", "cron", "reason", "origin", "message_id", "headers", "reject_reason"),
        *("topic", "dedup_id", "matter", "value"),
    }
)
_INSTEAD = {"queue": "''", "message_id": "''", "headers": "''", "body": "x''", "priority": "-1", "deliveries": "-1"}
"""Of columns that can't be NULL: what stands for one in a damaged row. It makes the row unfit, but keeps it."""
_BEYOND = 10_000
"""How far above the last serial that is known others are looked for, when neither end of the table can be read."""
_FAR = 1 << 24
"""A serial that is so far above the one before it is taken for a damaged one."""
_CANDIDATES = 1_000_000
"""Serials at most that are tried one by one because others around them are there."""
_GROUP = 1000
_HIGHEST = MAX_SERIAL >> 1
"""A serial that is believed: above it there has to be room for others."""
_FIND = f"SELECT {COLUMNS} FROM messages WHERE serial = ?"


def repair_database(path: Path) -> str:
    """Leave a sound database under `path`; a sentence that says what was done. Whoever calls has locked the store.

    Raises:
        sqlite3.Error: the new database can't be written.
        OSError: the same, or the old one can't be moved.
    """
    if not path.exists():
        return f"{path} is not there, nothing to repair"
    if _is_sound(path):
        return f"{path} is sound, nothing to repair"
    fresh = Path(f"{path}-salvage")
    _unlink(fresh)
    saved, unfit, lost = _salvage(path, fresh)
    aside = _choose_name(path)
    _exchange(path, fresh, aside)
    known = f", {lost:,} could not be read" if lost else ""
    kept = f" ({unfit:,} of them damaged: kept, and not delivered)" if unfit else ""
    return f"{path} was damaged: {saved:,} messages saved{kept}{known}; the damaged file is now {aside}"


def _is_sound(path: Path) -> bool:
    try:
        with closing(_connect_damaged(path)) as connection:
            return not check_integrity(connection)
    except sqlite3.Error as error:
        if is_damage(error):
            return False
        raise


def _connect_damaged(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.text_factory = bytes
        # so that a schema which is damaged in one place, or a file that is too short, keeps nobody from the rest
        connection.execute("PRAGMA writable_schema = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def _salvage(path: Path, fresh: Path) -> tuple[int, int, int]:
    """Messages that were saved; those of them that are damaged; those that certainly were there and could not be."""
    with closing(connect(fresh)) as new:
        upgrade(new)
        new.execute("INSERT INTO meta (name, value) VALUES ('in_order', 0)")
        saver = _Saver(new)
        try:
            old = _connect_damaged(path)
        except sqlite3.Error:
            return 0, 0, 0
        with closing(old):
            lost = _save_messages(old, saver)
            for table in _TABLES:
                _save_table(old, new, table)
            _save_meta(old, new)
        new.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return saver.saved, saver.unfit, lost


class _Saver:
    """Writes rows of messages into the new database."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._insert = _make_insert("messages", COLUMNS)
        self._group: list[Row] = []
        self._misplaced: list[Row] = []
        self._strays: list[tuple[Row, int]] = []
        self.known: list[int] = []
        """The serials that the indexes know, in order."""
        self.seen: dict[int, int] = {}
        """The serials of the rows that came, and hashes of what these had."""
        self.saved = 0
        self.unfit = 0

    def add(self, row: Row) -> None:
        """Save it, if that was not done before."""
        serial, content = row[0], hash(row[3:5])
        if not 0 < serial <= _HIGHEST:
            self._misplace(row)
        elif serial not in self.seen:
            self.seen[serial] = content
            self._group.append(row)
            if len(self._group) == _GROUP:
                self._write()
        elif self.seen[serial] != content:
            self._write()
            self._add_second(row)

    def _add_second(self, row: Row) -> None:
        """Another row with this serial, or the same one again. A sound one has more right to it."""
        there = self._connection.execute(_FIND, (row[0],)).fetchone()
        if there is None or there[3:5] == row[3:5]:
            return
        if _is_unfit(there) and not _is_unfit(row):
            self._connection.execute("DELETE FROM messages WHERE serial = ?", (row[0],))
            self._group.append(row)
            self.seen[row[0]] = hash(row[3:5])
            self.saved -= 1
            self.unfit -= 1
            row = there
        self._misplace(row)

    def add_stray(self, row: Row, before: int) -> None:
        """One whose serial is wrong; it stands behind the one with the serial `before`."""
        self._strays.append((row, before))

    def _misplace(self, row: Row) -> None:
        if row not in self._misplaced:
            self._misplaced.append(row)

    def finish(self) -> None:
        """Strays come where the indexes say that one is missing, or where they say that they are; others to the end."""
        for row, before in self._strays:
            wanted = self.known[bisect_right(self.known, before) :][:1]
            is_missing = bool(wanted) and wanted[0] not in self.seen
            self.add((wanted[0], *row[1:]) if is_missing else row)
        self._write()
        (last,) = self._connection.execute("SELECT max(serial) FROM messages").fetchone()
        first = (last or 0) + 1
        self._group = [(first + place, *row[1:]) for place, row in enumerate(self._misplaced)]
        self._write()

    def _write(self) -> None:
        if self._group:
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany(self._insert, self._group)
            self._connection.execute("COMMIT")
            self.saved += len(self._group)
            self.unfit += sum(map(_is_unfit, self._group))
            self._group.clear()


def _is_unfit(row: Row) -> bool:
    try:
        to_message(row)
    except UnfitRowError:
        return True
    return False


def _save_messages(old: sqlite3.Connection, saver: _Saver) -> int:
    """How many messages that the indexes know could not be read."""
    columns = _find_columns(old)
    if not columns:
        return 0
    known, is_complete = _list_serials(old)
    saver.known = known
    table = f"SELECT {columns} FROM messages NOT INDEXED"
    is_whole = _add_in_order(saver, read_to_damage(old, table), known)
    met = len(saver.seen)
    if not is_whole:
        _add_all(saver, read_to_damage(old, f"{table} ORDER BY serial DESC"))
    beyond = 0 if is_whole or len(saver.seen) > met else _BEYOND
    missing = [serial for serial in known if serial not in saver.seen]
    if missing or not is_whole:
        serials = missing if is_complete else _guess_serials(known, saver.seen, beyond=beyond)
        select = f"{table} WHERE serial BETWEEN ?1 AND ?2 ORDER BY serial LIMIT 1 + ?2 - ?1"
        for row in read_ranges(old, select, serials, known=missing, seen=saver.seen):
            saver.add(row)
    if not is_complete:
        # a range may have ended early by a serial that is wrongly high, and no index tells which are missing
        for row in read_single(old, f"{table} WHERE serial = ?", _list_gaps(saver.seen), {}):
            saver.add(row)
    saver.finish()
    return sum(serial not in saver.seen for serial in known)


def _find_columns(old: sqlite3.Connection) -> str:
    """Of `COLUMNS` those that the table has, and NULL for others; empty if there is no table."""
    try:
        names = {row[1].decode() for row in old.execute("PRAGMA table_info(messages)")}
    except (sqlite3.Error, UnicodeDecodeError):
        return ""
    return ", ".join(name if name in names else "NULL" for name in COLUMNS.split(", ")) if "serial" in names else ""


def _add_all(saver: _Saver, rows: Generator[Row, None, bool]) -> bool:
    """Save what there is up to the first damage; whether there was none."""
    while True:
        try:
            saver.add(next(rows))
        except StopIteration as end:
            return bool(end.value)


def _add_in_order(saver: _Saver, rows: Generator[Row, None, bool], known: list[int]) -> bool:
    """The same of rows in the order of the file, in which serials should rise: strays are those that break it."""
    held: Row | None = None
    before = 0
    while True:
        try:
            row, is_whole = next(rows), False
        except StopIteration as end:
            row, is_whole = None, bool(end.value)
        if held is not None:
            if _is_stray(held[0], before, row, known):
                saver.add_stray(held, before)
            else:
                before = held[0]
                saver.add(held)
        if row is None:
            return is_whole
        held = row


def _is_stray(serial: int, before: int, follower: Row | None, known: list[int]) -> bool:
    """Whether it is this serial that is wrong, if one is."""
    if serial <= before:
        return True
    if follower is None or not before < follower[0] <= serial:
        return False
    # too high for what follows; of two that are the same, the index may tell that it was this one's turn
    return follower[0] < serial or known[bisect_right(known, before) :][:1] != [serial]


def _list_serials(old: sqlite3.Connection) -> tuple[list[int], bool]:
    """The serials that the indexes know, in order; and whether the indexes could be read to the end."""
    serials: set[int] = set()
    is_complete = True
    for index, condition in (("messages_in_queues", "due IS NULL"), ("messages_in_schedule", "due IS NOT NULL")):
        try:
            rows = old.execute(f"SELECT serial FROM messages INDEXED BY {index} WHERE {condition}")
            for met, (serial,) in enumerate(rows):
                serials.add(int(serial))
                if met > 2 * len(serials) + _GROUP:
                    is_complete = False  # the same ones again and again
                    break
        except (sqlite3.Error, ValueError, TypeError):
            is_complete = False
    return sorted(serials), is_complete


def _guess_serials(known: list[int], seen: Iterable[int], *, beyond: int) -> range:
    """All between the first and the last one, as far as these are known, and `beyond` more."""
    serials = sorted({*known, *seen})
    while len(serials) > 1 and serials[-1] - serials[-2] > _FAR:
        serials.pop()  # damaged itself
    return range(serials[0] if serials else 1, (serials[-1] if serials else 0) + beyond + 1)


def _list_gaps(seen: Iterable[int]) -> list[int]:
    """Serials that lie close between others."""
    gaps = (range(one + 1, other) for one, other in pairwise(sorted(seen)) if other - one <= _BEYOND)
    return list(islice(chain.from_iterable(gaps), _CANDIDATES))


def _save_table(old: sqlite3.Connection, new: sqlite3.Connection, table: str) -> None:
    rows: list[Row] = []
    # what comes before the damage, from either end
    for order in ("", "ORDER BY queue DESC"):
        with suppress(sqlite3.Error):
            rows.extend(old.execute(f"SELECT {_TABLES[table]} FROM {table} NOT INDEXED {order}"))
    _save(new, table, rows)


def _save_meta(old: sqlite3.Connection, new: sqlite3.Connection) -> None:
    try:
        rows = old.execute("SELECT value FROM meta WHERE name = 'recovered_before'").fetchall()
    except sqlite3.Error:
        return
    rows = [row for row in rows if is_number(row[0], _HIGHEST)]
    new.executemany("INSERT INTO meta (name, value) VALUES ('recovered_before', ?)", rows)


def _save(new: sqlite3.Connection, table: str, rows: list[Row]) -> None:
    """Those of these that find a place: where a page was damaged something else may stand than was written."""
    new.execute("BEGIN IMMEDIATE")
    new.executemany(_make_insert(table, _TABLES[table]), rows)
    new.execute("COMMIT")


def _make_insert(table: str, columns: str) -> str:
    values = ", ".join(map(_as_value, columns.split(", ")))
    return f"INSERT OR IGNORE INTO {table} ({columns}) VALUES ({values})"


def _as_value(column: str) -> str:
    value = "CAST(? AS TEXT)" if column in _TEXTS else "?"
    return f"coalesce({value}, {_INSTEAD[column]})" if column in _INSTEAD else value


def _choose_name(path: Path) -> Path:
    """For the damaged file: one that there is none of."""
    wished = f"{path}.corrupt-{time.strftime('%Y%m%d-%H%M%S')}"
    names = (Path(f"{wished}-{number}") if number else Path(wished) for number in count())
    return next(name for name in names if not name.exists())


def _exchange(path: Path, fresh: Path, aside: Path) -> None:
    os.link(path, aside)
    for suffix in ("-wal", "-shm"):
        if Path(f"{path}{suffix}").exists():
            Path(f"{path}{suffix}").rename(f"{aside}{suffix}")
    fresh.rename(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _unlink(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
