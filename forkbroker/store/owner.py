"""Which broker a database belongs to: a random number in `meta`, the owner's token.

A lock on a name keeps a second broker out only as long as both use the same name. The token is in the database itself.
A broker takes it when it opens the database for the first time; each later process of its store, and every group of
changes, looks whether it is still there, within the transaction. So of two brokers the one that has lost it writes
nothing more, answers no receipt, and ends. A file that somebody has removed is looked for after each group: nobody is
to rely on what was written to it.

Backend objects are made in the broker's parent: all processes of its store inherit the number.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from forkbroker.errors import Exit
from forkbroker.store.api import StoreError

_TOKEN = "SELECT value FROM meta WHERE name = 'owner'"
_HAS_META = "SELECT 1 FROM sqlite_schema WHERE name = 'meta'"
_PROCESSES = "SELECT value FROM meta WHERE name IN ('owner_broker', 'owner_store') ORDER BY name"


class Owner:
    """The token of one broker."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._name = os.fspath(path)
        # an integer of SQLite, and not 0
        self._token = int.from_bytes(os.urandom(8), "big") >> 2 | 1
        self._inode = 0

    def describe(self, *, broker: int) -> dict[str, int]:
        """The rows of `meta` with which a broker takes the database, or a later process of its store goes on."""
        return {"owner": self._token, "owner_broker": broker, "owner_store": os.getpid()}

    def find(self, connection: sqlite3.Connection) -> None:
        """Look for the token in a database that perhaps has no tables.

        Raises:
            StoreError: as from `check`; or there are none.
            sqlite3.Error: it can't be read.
        """
        if not connection.execute(_HAS_META).fetchone():
            raise StoreError(describe_absence(self._path), Exit.IOERR)
        self.check(connection)

    def check(self, connection: sqlite3.Connection) -> None:
        """Look for the token.

        Raises:
            StoreError: another one is there: finally. Or none: this is another database.
            sqlite3.Error: it can't be read.
        """
        row = connection.execute(_TOKEN).fetchone()
        if row is None:
            raise StoreError(
                f"{self._path} is not the database that this broker has opened; put that one back", Exit.IOERR
            )
        if row[0] != self._token:
            raise StoreError(
                f"another broker (process {read_processes(connection)[0]}) has opened {self._path} since this one did: "
                "this one ends, and writes nothing more. Give each broker a --store of its own",
                Exit.UNAVAILABLE,
                is_final=True,
            )

    def note_place(self) -> None:
        """Remember which file the database is, for `check_place`."""
        self._inode = self._path.stat().st_ino

    def check_place(self) -> None:
        """Look whether the database is still the file of that name.

        Raises:
            StoreError: it is not.
        """
        try:
            inode = os.stat(self._name).st_ino  # noqa: PTH116 - after each group: a third of the time of `Path.stat`
        except FileNotFoundError:
            raise StoreError(describe_absence(self._path), Exit.IOERR) from None
        if inode != self._inode:
            raise StoreError(f"{self._path}: another file has taken the place of the database", Exit.IOERR)


def describe_absence(path: Path) -> str:
    """What to say of a database that was there before."""
    return (
        f"{path} is gone: it was removed, renamed or emptied while the broker runs; put it back, or stop the broker. "
        "What was not written waits in memory until then"
    )


def read_processes(connection: sqlite3.Connection) -> tuple[int, int]:
    """The numbers of the broker and of the store's process that had the database last; 0: unknown."""
    numbers = [value for (value,) in connection.execute(_PROCESSES) if isinstance(value, int)]
    return (numbers[0], numbers[1]) if len(numbers) == 2 else (0, 0)


def find_processes(path: Path) -> tuple[int, int]:
    """The same of a database that this process has not opened."""
    with suppress(sqlite3.Error), closing(sqlite3.connect(path)) as connection:
        return read_processes(connection)
    return 0, 0
