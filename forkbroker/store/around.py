"""Reading a table of which some pages can't be read: what is damaged is passed over, everything else is read.

SQLite finds damage when it comes to it, and then ends the whole statement. So the serials that were asked for are
halved again and again, until what can't be read is down to single messages: only those that stand on a damaged page are
lost. Large ranges come first: so a damaged page with many messages doesn't use up the patience that others need.

A serial itself may be damaged. SQLite looks for serials by comparing them, so one that is wrongly high ends a range
before its time, without an error. So a range in which serials are missing that should be there is halved as well.
"""

from __future__ import annotations

import sqlite3
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Container, Generator, Iterator, Sequence

from forkbroker.store.database import is_partial
from forkbroker.store.table import Row

_TRIES = 500_000
"""Reads around damage at most: serials that are missing by the million would keep us for hours."""
_STALE = 1000
"""Rows that one statement may give twice; if there are more, a page leads back to one before it."""


def read_single(
    connection: sqlite3.Connection, select: str, serials: Sequence[int], lost: dict[int, str]
) -> Iterator[Row]:
    """The rows with these serials; `lost` gets those that can't be read, with the reason.

    `select` has one parameter, the serial, and gives it as the first column.

    Raises:
        sqlite3.Error: something else than damage is in the way.
    """
    for serial in serials:
        try:
            row = connection.execute(select, (serial,)).fetchone()
        except sqlite3.Error as error:
            if not is_partial(error):
                raise
            lost[serial] = str(error)
            continue
        if row is None or row[0] != serial:
            lost[serial] = "only the index has it"
        else:
            yield row


def read_ranges(
    connection: sqlite3.Connection,
    select: str,
    serials: Sequence[int],
    *,
    parameters: Sequence[object] = (),
    known: Sequence[int] = (),
    seen: Container[int] = (),
) -> Iterator[Row]:
    """The rows with these serials, as far as they can be read: in no order, and many of them several times.

    `select` has the first and the last serial and `parameters` as its own, and gives the serial as the first column. It
    must have a LIMIT of as many rows as there are serials: the sqlite3 module looks for the next row before it gives
    one, and what stands before damage would be lost.
    `serials` rise, and may be a `range`. `known` are those that certainly are there, in order; then the caller notes in
    `seen` the serials of the rows that it gets.

    Raises:
        sqlite3.Error: something else than damage is in the way.
    """
    ranges = deque([(0, len(serials) - 1)])
    tries = 0
    while ranges and tries < _TRIES:
        first, last = ranges.popleft()
        if first > last:
            continue
        tries += 1
        low, high = serials[first], serials[last]
        is_whole = yield from read_to_damage(connection, select, (low, high, *parameters))
        if first < last and not (is_whole and _has_all(seen, known, low, high)):
            middle = (first + last) // 2
            ranges += [(first, middle), (middle + 1, last)]


def read_to_damage(
    connection: sqlite3.Connection, select: str, parameters: Sequence[object] = ()
) -> Generator[Row, None, bool]:
    """The rows up to the first damage; the generator's value says whether there was none.

    Raises:
        sqlite3.Error: something else is in the way.
    """
    serials: set[int] = set()
    try:
        for met, row in enumerate(connection.execute(select, parameters)):
            serials.add(row[0])
            yield row
            if met > 2 * len(serials) + _STALE:
                return False  # a page leads back to one before it
    except sqlite3.Error as error:
        if not is_partial(error):
            raise
        return False
    return True


def _has_all(seen: Container[int], known: Sequence[int], low: int, high: int) -> bool:
    """Whether all serials that are known from `low` to `high` were read."""
    return all(serial in seen for serial in known[bisect_left(known, low) : bisect_right(known, high)])
