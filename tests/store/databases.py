"""Databases of the SQLite backend for tests: filled, looked into, and damaged."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from forkbroker.store.api import Message
from forkbroker.store.sqlite import SqliteStore

QUEUE = b"/queue/a"
PAGE = 8192


def make_message(serial: int, size: int = 1000, queue: bytes = QUEUE) -> Message:
    """A message whose body says its serial again and again, so that each octet of it is known."""
    body = (b"%08d" % serial * (size // 8 + 1))[:size]
    return Message(serial, queue, b"%d-s-1" % serial, b"n:%d\n" % serial, body)


def fill(path: Path, serials: Iterable[int], *, in_order: bool = True, size: int = 1000, queue: bytes = QUEUE) -> None:
    """A store with these messages, closed."""
    store = SqliteStore(f"sqlite://{path}")
    store.open(is_fresh=True)
    group: list[Message] = []
    for serial in serials:
        group.append(make_message(serial, size, queue))
        if len(group) == 100:
            store.write(group)
            group = []
    store.write(group)
    store.close(in_order=in_order)


def abandon(store: SqliteStore) -> None:
    """What the end of its process does to a store that could not be opened."""
    store._opening.release_file()
    store._opening.release_name()


def make_error(code: int, text: str = "what SQLite says") -> sqlite3.OperationalError:
    """As SQLite raises it."""
    error = sqlite3.OperationalError(text)
    error.sqlite_errorcode = code
    error.sqlite_errorname = next(
        name for name in dir(sqlite3) if name.startswith("SQLITE_") and getattr(sqlite3, name) == code
    )
    return error


def query(path: Path, text: str, *parameters: object) -> list[tuple[object, ...]]:
    """What a person with sqlite3 sees, or does."""
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(text, parameters).fetchall()


def mend_badly(path: Path, text: str) -> None:
    """The same by somebody who has switched off what the schema forbids."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute(text)


def lose_column(path: Path, column: str, serial: int) -> None:
    """Of one message, as a damaged row has it: SQLite gives NULL for what it can't be, also where no NULL may be."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        ((before,),) = connection.execute("SELECT sql FROM sqlite_schema WHERE name = 'messages'").fetchall()
        _set_schema(connection, "messages", before.replace(" NOT NULL", ""))
    mend_badly(path, f"UPDATE messages SET {column} = NULL WHERE serial = {serial}")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        _set_schema(connection, "messages", before)


def put_into_index(path: Path, condition: str) -> None:
    """Say what is in the index, behind the back of SQLite, which leaves it as it is."""
    text = f"CREATE INDEX messages_in_queues ON messages (queue, priority, serial, octets) {condition}"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        _set_schema(connection, "messages_in_queues", text)


def _set_schema(connection: sqlite3.Connection, name: str, text: str) -> None:
    connection.execute("UPDATE sqlite_schema SET sql = ? WHERE name = ?", (text, name))
    ((version,),) = connection.execute("PRAGMA schema_version").fetchall()
    connection.execute(f"PRAGMA schema_version = {version + 1}")


def root_page(path: Path, name: str) -> int:
    """The number of the first page of a table or an index, from 0."""
    ((page,),) = query(path, "SELECT rootpage FROM sqlite_master WHERE name = ?", name)
    return int(str(page)) - 1


def find_cell(path: Path, serial: int) -> tuple[int, int]:
    """Where a message is: the number of its page, from 0, and where in the file its serial stands.

    https://sqlite.org/fileformat2.html: a leaf has the type 13, the number of its cells at 3, and their places from 8
    on; a cell begins with the length of its payload and the serial, both of variable length.
    """
    octets = path.read_bytes()
    for page in range(1, len(octets) // PAGE):
        start = page * PAGE
        if octets[start] != 13:
            continue
        for cell in range(int.from_bytes(octets[start + 3 : start + 5], "big")):
            place = start + int.from_bytes(octets[start + 8 + 2 * cell : start + 10 + 2 * cell], "big")
            _, at = _read_varint(octets, place)
            rowid, _ = _read_varint(octets, at)
            if rowid == serial and b"n:%d\n" % serial in octets[at : at + 200]:
                return page, at
    raise AssertionError(f"no message with the serial {serial}")


def _read_varint(octets: bytes, at: int) -> tuple[int, int]:
    value = 0
    while octets[at] & 0x80:
        value = value << 7 | octets[at] & 0x7F
        at += 1
    return value << 7 | octets[at], at + 1


def page_of(path: Path, serial: int) -> int:
    """The page of a message, from 0."""
    return find_cell(path, serial)[0]


def overwrite(path: Path, page: int, octets: bytes = b"\xa5" * PAGE) -> None:
    """Overwrite a page of the database."""
    with path.open("r+b") as file:
        file.seek(page * PAGE)
        file.write(octets)


def flip(path: Path, offset: int, bit: int = 0) -> None:
    """Change one bit."""
    with path.open("r+b") as file:
        file.seek(offset)
        octet = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([octet ^ 1 << bit]))


def read_plainly(path: Path) -> dict[int, bytes]:
    """What a plain SELECT of all columns gives before it meets damage: bodies by serial."""
    found: dict[int, bytes] = {}
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        try:
            connection.text_factory = bytes
            for row in connection.execute("SELECT serial, body, * FROM messages NOT INDEXED"):
                found[row[0]] = row[1]
        except sqlite3.DatabaseError:
            pass
    return found


def read_singly(path: Path, serials: Iterable[int]) -> list[int]:
    """Those of these serials that can be read one by one."""
    found: list[int] = []
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        for serial in serials:
            try:
                row = connection.execute("SELECT * FROM messages NOT INDEXED WHERE serial = ?", (serial,)).fetchone()
            except sqlite3.DatabaseError:
                continue
            if row is not None:
                found.append(serial)
    return found


def read_queue(store: SqliteStore, queue: bytes = QUEUE, octets: int = 50_000) -> list[Message]:
    """All messages of a queue, as the broker gets them."""
    found: list[Message] = []
    has_more = True
    while has_more:
        items, has_more = store.read(queue, 4, found[-1].serial if found else 0, octets)
        assert items or not has_more
        found += [item for item in items if isinstance(item, Message)]
    return found
