"""What processes use, as rows have it."""

from __future__ import annotations

from collections.abc import Iterator

from forkbroker.control.verbs import USE_KEYS
from forkbroker.parent.control.asked import Asked, Row, Steps
from forkbroker.parent.control.pages import arrange
from forkbroker.posix.usage import PROC, read_cpu, read_pss

_STEPS = 4
"""To read it takes as long as so many steps: the kernel goes through all memory of the process."""


def arrange_with_use(asked: Asked, rows: Iterator[Row | None]) -> Steps:
    """The rows of the page that was asked for, with what the process `pid` uses if `use` or the order asks for it.

    It is read for the rows that go out, and for all of them if they are sorted by it.
    """

    def add(row: Row) -> Row:
        place = PROC / str(row["pid"])
        asked.spent += _STEPS
        row["cpu"], row["memory"] = read_cpu(place), read_pss(place)
        return row

    if asked.args.get("sort") in USE_KEYS:
        return (yield from arrange(asked, (None if row is None else add(row) for row in rows)))
    if asked.args.get("use"):
        return (yield from arrange(asked, rows, add))
    return (yield from arrange(asked, rows))
