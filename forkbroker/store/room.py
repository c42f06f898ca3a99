"""Room for what is to be written: on the file system, within the database, and in the reserve."""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from pathlib import Path

from forkbroker.store.database import LOG_OCTETS
from forkbroker.store.reserve import Reserve


class Room:
    """The room that an open database has."""

    def __init__(self, path: Path, connection: sqlite3.Connection, reserve: Reserve) -> None:
        """Raises sqlite3.Error: the database can't be read."""
        self._path = path
        self._connection = connection
        self._reserve = reserve
        (self._page_size,) = connection.execute("PRAGMA page_size").fetchone()

    def find_octets(self) -> int:
        """Count what is free for this user on the file system, within the database, and in the reserve.

        What is written goes through SQLite's log first. So where the file system has no room for a whole log, the room
        within the database counts as far as the log has been so large before; and what stands in the log and not in
        the database would need room there that seems to be free, so it is brought there first.

        Raises:
            sqlite3.Error, OSError: nobody knows.
        """
        (pages,) = self._connection.execute("PRAGMA freelist_count").fetchone()
        within = int(pages * self._page_size)
        if self._find_on_disk() < LOG_OCTETS:
            self._empty_log()
            with suppress(FileNotFoundError):
                within = min(within, Path(f"{self._path}-wal").stat().st_size)
        return self._find_on_disk() + within

    def make(self) -> bool:
        """Give up the reserve, and let what stands in SQLite's log go into the database; tell whether that helped."""
        is_given_up = self._reserve.give_up()
        return self._empty_log() or is_given_up

    def _find_on_disk(self) -> int:
        found = os.statvfs(self._path.parent)
        return found.f_bavail * found.f_frsize + self._reserve.octets

    def _empty_log(self) -> bool:
        """Tell whether what stood in the log is all in the database now, so that the log begins anew."""
        try:
            row = self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except sqlite3.Error:
            return False
        return bool(row[1] == row[2] > 0)
