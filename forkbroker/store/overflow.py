"""Spilled messages in a database of their own, which nobody syncs: a power cut ends them anyway.

The journal is there for the death of the process alone: the next one finds every chunk that was committed. It is kept
from one transaction to the next, as to make it anew for each took up to half of the time. Pages are large, as a chunk
is what one read from a client has brought. The file does not shrink with every chunk that goes, but when the last one
has.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from forkbroker.store.api import Change, Chunk, Forget, Purge, SerialTakenError
from forkbroker.store.database import touch

_SETTINGS = """
PRAGMA page_size = 65536;
PRAGMA locking_mode = EXCLUSIVE;
PRAGMA journal_mode = PERSIST;
PRAGMA journal_size_limit = 16777216;
PRAGMA synchronous = OFF;
PRAGMA secure_delete = OFF;
PRAGMA cache_size = -4096;
CREATE TABLE IF NOT EXISTS chunks (
    serial INTEGER PRIMARY KEY,
    queue BLOB NOT NULL,
    priority INTEGER NOT NULL,
    messages INTEGER NOT NULL,
    raw BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS chunks_of_queues ON chunks (queue, priority, serial);
"""
_KEEP = "INSERT INTO chunks (serial, queue, priority, messages, raw) VALUES (?, ?, ?, ?, ?)"
_READ = (
    "SELECT serial, queue, priority, messages, raw FROM chunks WHERE queue = ? AND priority = ? AND serial > ? "
    "ORDER BY serial"
)
_FIND = "SELECT serial, queue, priority, messages, raw FROM chunks WHERE serial = ?"
_TAKE = "DELETE FROM chunks WHERE queue = ? AND priority = ? AND serial <= ?"
_PURGE = "DELETE FROM chunks WHERE queue = ?"

_SMALL_PAGES = 256
"""A file of 16 MiB is left as it is."""


class Overflow:
    """The chunks of one broker, while it lives."""

    def __init__(self, path: Path, *, is_fresh: bool) -> None:
        """Open the file, or make it; with `is_fresh` without what is in it."""
        self._path = path
        if is_fresh:
            self._unlink()
        touch(path)
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.executescript(_SETTINGS)
        self._has_any = self._find_any()
        # the process before may have ended between the last deletion and this
        self._shrink()

    def _find_any(self) -> bool:
        return self._connection.execute("SELECT 1 FROM chunks LIMIT 1").fetchone() is not None

    def write(self, changes: Sequence[Change]) -> None:
        """Apply what concerns chunks.

        Raises:
            SerialTakenError: the serial of a chunk is another one's.
        """
        mine = [change for change in changes if isinstance(change, Chunk | Purge | Forget)]
        if not any(isinstance(change, Chunk) for change in mine) and not (mine and self._has_any):
            return
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        try:
            for change in mine:
                if isinstance(change, Chunk):
                    self._keep(change)
                else:
                    execute(_PURGE, (change.queue,))
            execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                execute("ROLLBACK")
            raise
        self._note_what_is_left()

    def _keep(self, chunk: Chunk) -> None:
        try:
            self._connection.execute(_KEEP, chunk)
        except sqlite3.IntegrityError:
            # told again, perhaps, by a broker that did not hear that it was committed
            there = Chunk._make(self._connection.execute(_FIND, (chunk.serial,)).fetchone())
            if there != chunk:
                raise SerialTakenError(chunk.serial, chunk.queue, there.queue) from None
        self._has_any = True

    def _note_what_is_left(self) -> None:
        """If that is nothing, the disk gets its room back."""
        if self._has_any and not self._find_any():
            self._has_any = False
            self._shrink()

    def _shrink(self) -> None:
        (pages,) = self._connection.execute("PRAGMA page_count").fetchone()
        if not self._has_any and pages > _SMALL_PAGES:
            self._connection.execute("VACUUM")

    def read(self, queue: bytes, priority: int, after: int, octets: int) -> list[Chunk]:
        """What comes behind this serial, in order: this many octets and one chunk more, if there is so much."""
        found: list[Chunk] = []
        if self._has_any:
            with closing(self._connection.execute(_READ, (queue, priority, after))) as rows:
                for row in rows:
                    found.append(Chunk._make(row))
                    if octets <= 0:
                        break
                    octets -= len(row[4])
        return found

    def take(self, queue: bytes, priority: int, upto: int) -> None:
        """These are in memory again."""
        if not self._has_any:
            return
        if self._connection.execute(_TAKE, (queue, priority, upto)).rowcount:
            self._note_what_is_left()

    def close(self, *, in_order: bool) -> None:
        """The end; in order, of the file as well."""
        self._connection.close()
        if in_order:
            self._unlink()

    def _unlink(self) -> None:
        for name in (self._path, Path(f"{self._path}-journal")):
            name.unlink(missing_ok=True)


def describe_damaged_overflow(path: Path, detail: str) -> str:
    """What to say of a file that is damaged."""
    return f"{path} is damaged: {detail}; what overflowed the memory is lost, the next start of the broker empties it"
