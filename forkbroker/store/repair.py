"""Saving what can be read of a damaged database (`--store-repair`).

Messages are read in the order of their serials. Where SQLite meets damage the serials that are left are halved again
and again, until what can't be read is down to single messages: so it is only those that a damaged page has taken. Which
serials there are the indexes tell; if these are damaged too, any between the first and the last one are tried.

The damaged file stays, under another name. At no instant is there no file under the old one: an empty database would
look like a store that never had any messages.

A changed octet in a body is not seen: SQLite has no checksums.
"""

from __future__ import annotations

import os
import sqlite3
import time
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from forkbroker.store.database import connect, is_damage, is_partial
from forkbroker.store.schema import upgrade

_MESSAGE = (
    "serial, queue, priority, deliveries, crashes, expires, due, period, repeat, cron, reason, origin, message_id, "
    "headers, body"
)
_COLUMNS = {"messages": _MESSAGE, "durables": "queue, topic, used", "duplicates": "queue, dedup_id, until"}
_TEXTS = frozenset({"queue", "cron", "reason", "origin", "message_id", "headers", "topic", "dedup_id"})
_BEYOND = 10_000
"""How far above the last serial that is known others are looked for, when neither end of the table can be read."""
_GROUP = 1000
_TRIES = 50_000
"""Reads around damage at most: a page that leads back to itself, or a serial far off, would keep us for ever."""


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
    saved, lost = _salvage(path, fresh)
    aside = Path(f"{path}.corrupt-{time.strftime('%Y%m%d-%H%M%S')}")
    _exchange(path, fresh, aside)
    known = f", {lost:,} could not be read" if lost else ""
    return f"{path} was damaged: {saved:,} messages saved{known}; the damaged file is now {aside}"


def _is_sound(path: Path) -> bool:
    try:
        with closing(_connect_damaged(path)) as connection:
            return bool(connection.execute("PRAGMA integrity_check(1)").fetchone()[0] == "ok")
    except sqlite3.Error as error:
        if is_damage(error):
            return False
        raise


def _connect_damaged(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        # so that a schema which is damaged in one place, or a file that is too short, keeps nobody from the rest
        connection.execute("PRAGMA writable_schema = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def _salvage(path: Path, fresh: Path) -> tuple[int, int]:
    """Messages that were saved, and those that certainly were there and could not be."""
    with closing(connect(fresh)) as new:
        upgrade(new)
        new.execute("INSERT INTO meta (name, value) VALUES ('in_order', 0)")
        try:
            old = _connect_damaged(path)
        except sqlite3.Error:
            return 0, 0
        with closing(old):
            old.text_factory = bytes
            saved, lost = _save_messages(old, new)
            for table in ("durables", "duplicates"):
                _save_table(old, new, table)
            _save_meta(old, new)
        new.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return saved, lost


def _save_messages(old: sqlite3.Connection, new: sqlite3.Connection) -> tuple[int, int]:
    serials, is_complete = _list_serials(old)
    missing = set(serials)
    saved, group = 0, []
    for row in _read_around(old, serials if is_complete else _guess_serials(old, serials)):
        missing.discard(row[0])
        group.append(row)
        if len(group) == _GROUP:
            saved += _save(new, "messages", group)
            group.clear()
    return saved + _save(new, "messages", group), len(missing)


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


def _guess_serials(old: sqlite3.Connection, known: list[int]) -> range:
    """All between the first and the last one, as far as these can be found out."""
    first, last, beyond = known[:1], known[-1:], 0
    with suppress(sqlite3.Error):
        first += [serial for (serial,) in old.execute("SELECT serial FROM messages ORDER BY serial LIMIT 1")]
    try:
        last += [serial for (serial,) in old.execute("SELECT serial FROM messages ORDER BY serial DESC LIMIT 1")]
    except sqlite3.Error:
        last.append(_find_last_before_damage(old))
        beyond = _BEYOND
    return range(min(first, default=1), max(last, default=0) + beyond + 1)


def _find_last_before_damage(old: sqlite3.Connection) -> int:
    last = 0
    with suppress(sqlite3.Error):
        for (serial,) in old.execute("SELECT serial FROM messages NOT INDEXED ORDER BY serial"):
            if serial <= last:
                break  # a page leads back to one before it
            last = serial
    return last


def _read_around(old: sqlite3.Connection, serials: Sequence[int]) -> Iterator[tuple[Any, ...]]:
    """The rows with these serials, as far as they can be read."""
    ranges = [(0, len(serials) - 1)]
    select = f"SELECT {_MESSAGE} FROM messages NOT INDEXED WHERE serial BETWEEN ? AND ? ORDER BY serial"
    tries = 0
    while ranges and tries < _TRIES:
        first, last = ranges.pop()
        if first > last:
            continue
        tries += 1
        met = serials[first] - 1
        try:
            for row in old.execute(select, (serials[first], serials[last])):
                if row[0] <= met:
                    break  # a page leads back to one before it
                met = row[0]
                yield row
                first = bisect_right(serials, row[0])
        except sqlite3.Error as error:
            if not is_partial(error):
                return
            if first < last:
                middle = (first + last) // 2
                ranges += [(middle + 1, last), (first, middle)]


def _save_table(old: sqlite3.Connection, new: sqlite3.Connection, table: str) -> None:
    rows: list[tuple[Any, ...]] = []
    # what came before the damage counts
    with suppress(sqlite3.Error):
        rows.extend(old.execute(f"SELECT {_COLUMNS[table]} FROM {table}"))
    _save(new, table, rows)


def _save_meta(old: sqlite3.Connection, new: sqlite3.Connection) -> None:
    try:
        rows = old.execute("SELECT value FROM meta WHERE name = 'recovered_before'").fetchall()
    except sqlite3.Error:
        return
    new.executemany("INSERT INTO meta (name, value) VALUES ('recovered_before', ?)", rows)


def _save(new: sqlite3.Connection, table: str, rows: list[tuple[Any, ...]]) -> int:
    """How many of these have found a place: where a page was damaged something else may stand than was written."""
    columns = _COLUMNS[table]
    values = ", ".join("CAST(? AS TEXT)" if column in _TEXTS else "?" for column in columns.split(", "))
    new.execute("BEGIN IMMEDIATE")
    saved = new.executemany(f"INSERT OR IGNORE INTO {table} ({columns}) VALUES ({values})", rows).rowcount
    new.execute("COMMIT")
    return max(0, saved)


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
