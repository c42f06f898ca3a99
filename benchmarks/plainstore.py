"""The limit of persistent messages: the broker's database, written by a loop that does nothing else.

    plainstore.py DIRECTORY --count N --group N [--size OCTETS]

Makes a database in the directory with the tables and the settings of `forkbroker.store`, and writes so many rows into
it as the broker would for messages of this size, with its own statements, a group of them in each transaction, every
transaction synchronous.
Prints one line of JSON: "ok", "messages", "seconds", and "rate" in messages a second.
"""

import argparse
import json
import sqlite3
import sys
import time
from binascii import crc32
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from forkbroker.store.database import connect
from forkbroker.store.schema import upgrade
from forkbroker.store.sqlite import insert_rows

QUEUE = "/queue/bench.0.0"
# what is in the broker's database after a run of the load generator
HEADERS = "destination:/queue/bench.12345.0.0\npersistent:true\ncontent-length:{size}\n"
MESSAGE_ID = "{number}-0123456789abcdef-1"


def rows(first: int, number: int, size: int) -> list[Any]:
    """Messages with these serials, the values of one behind those of another."""
    headers = HEADERS.format(size=size)
    body, begun = b"x" * size, crc32(headers.encode())
    values: list[Any] = []
    for serial in range(first, first + number):
        values += (serial, QUEUE, MESSAGE_ID.format(number=serial), headers, body, crc32(body, begun))
    return values


def write(connection: sqlite3.Connection, count: int, group: int, size: int) -> float:
    """Write them all; returns the seconds that this took."""
    start = time.perf_counter()
    for first in range(1, count + 1, group):
        connection.execute("BEGIN IMMEDIATE")
        insert_rows(connection, rows(first, min(group, count + 1 - first), size))
        connection.execute("COMMIT")
    return time.perf_counter() - start


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure once; returns the exit status."""
    options = argparse.ArgumentParser(description="write the broker's database in a plain loop")
    options.add_argument("directory", type=Path, help="where to make the database; it stays there")
    options.add_argument("--count", type=int, required=True, help="messages")
    options.add_argument("--group", type=int, required=True, help="messages of a transaction")
    options.add_argument("--size", type=int, default=1024, help="octets of a body (default %(default)s)")
    chosen = options.parse_args(arguments)
    connection = connect(chosen.directory / "plain.db")
    upgrade(connection)
    seconds = write(connection, chosen.count, chosen.group, chosen.size)
    connection.close()
    result = {"ok": True, "messages": chosen.count, "seconds": round(seconds, 4), "rate": chosen.count / seconds}
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
