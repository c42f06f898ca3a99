"""top: the queues of a broker, sorted and looked at again each second, on a terminal or once.

What is shown is made as lines of text (`draw`); `forkbroker.ctl.screen` puts them on a terminal and reads keys.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from forkbroker.config.values import seconds
from forkbroker.ctl import paging, tables
from forkbroker.ctl.command import Command, Context, Param
from forkbroker.ctl.connection import Connection, CtlError
from forkbroker.ctl.looking import QUEUES, add_rates
from forkbroker.ctl.tables import Row, counted, short_octets, short_span
from forkbroker.errors import Exit

_TEMPORARY = "/reply-queue/"


def _largest(member: str) -> Callable[[Row], Any]:
    return lambda row: (-(row.get(member) or 0), row["name"])


ORDERS: dict[str, Callable[[Row], Any]] = {
    "waiting": _largest("waiting"),
    "unsettled": _largest("unsettled"),
    "delayed": _largest("delayed"),
    "consumers": _largest("consumers"),
    "bytes": _largest("bytes"),
    "age": _largest("oldest"),
    "in": _largest("in-rate"),
    "out": _largest("out-rate"),
    "name": lambda row: row["name"],
}
"""How rows are sorted, by the words of --sort; the key on the terminal is the first letter."""
_KEYS = {word[0]: word for word in ORDERS}


@dataclass(frozen=True, slots=True)
class View:
    """What the user has chosen."""

    order: str
    is_reversed: bool = False
    first: int = 0
    """The first row that is shown."""

    def press(self, key: str, rows: int) -> View:
        """What a key does; `rows`: how many the screen has room for."""
        if key in _KEYS:
            return replace(self, order=_KEYS[key], first=0)
        if key == "r":
            return replace(self, is_reversed=not self.is_reversed, first=0)
        step = {"KEY_DOWN": 1, "KEY_UP": -1, "KEY_NPAGE": rows, "KEY_PPAGE": -rows, "KEY_HOME": -self.first}.get(key, 0)
        return replace(self, first=max(0, self.first + step))


class Sight:
    """What the broker says, look by look."""

    def __init__(self, connection: Connection, pattern: str | None, *, is_all: bool) -> None:
        self._connection = connection
        self._pattern = pattern
        self._is_all = is_all or pattern is not None
        self._before: dict[str, Row] = {}
        self.status: Row = {}
        self.rows: list[Row] = []

    def look(self) -> None:
        """Ask. Raises CtlError."""
        self.status = self._connection.ask_one("status", {})
        rows = list(self._connection.ask("queues", {"pattern": self._pattern}))
        for row in rows:
            add_rates(row, self._before.get(row["name"]))
        self._before = {row["name"]: row for row in rows}
        self.rows = [row for row in rows if self._is_all or not row["name"].startswith(_TEMPORARY)]


def draw(status: Row, rows: Sequence[Row], view: View) -> list[str]:
    """The broker in two lines, an empty one, and the table."""
    messages, memory, store = status["messages"], status["memory"], status["store"]
    said = store["refuses"] or ("open" if store["open"] else "starts")
    coming = sum(row.get("in-rate") or 0 for row in rows)
    going = sum(row.get("out-rate") or 0 for row in rows)
    shown = sorted(rows, key=ORDERS[view.order], reverse=view.is_reversed)[view.first :]
    return [
        f"forkbroker {status['version']}, {status['phase']}, up {short_span(status['seconds'])}, "
        f"{counted(status['clients'], 'client')}, {counted(len(rows), 'queue')}, "
        f"memory {short_octets(memory['used'])} of {short_octets(memory['limit'])}, store {said}",
        f"messages: {messages['waiting']:,} waiting, {messages['unsettled']:,} unsettled, "
        f"{messages['delayed']:,} delayed; {coming:,.0f} in and {going:,.0f} out a second",
        "",
        *tables.draw(QUEUES, shown),
    ]


def _top(context: Context) -> int:
    parsed = context.parsed
    if not (parsed.once or context.is_json) and not (os.isatty(0) and os.isatty(1)):
        raise CtlError("this is no terminal: --once prints it once", Exit.USAGE)
    with context.connect() as connection:
        sight = Sight(connection, parsed.pattern, is_all=parsed.all)
        sight.look()
        view = View(parsed.sort)
        if parsed.once or context.is_json:
            time.sleep(parsed.interval)
            sight.look()
            if context.is_json:
                rows = sorted(sight.rows, key=ORDERS[view.order])
                tables.write_json({"status": sight.status, "queues": rows})
            else:
                tables.write(draw(sight.status, sight.rows, view))
            return Exit.OK
        _show(sight, view, parsed.interval)
    return Exit.OK


def _show(sight: Sight, view: View, interval_s: float) -> None:
    """On the terminal, until the user ends it."""
    try:
        # not every Python has it, and no other verb needs it
        from forkbroker.ctl.screen import show
    except ImportError:
        raise CtlError("this Python has no curses: --once prints it once") from None
    show(sight, view, interval_s)


COMMANDS = (
    Command(
        "top",
        "the queues, sorted, and looked at again each second",
        _top,
        (
            Param("PATTERN", "a shell pattern of names", is_optional=True, completes="queue"),
            paging.word("--sort", "", "ORDER", tuple(ORDERS), "waiting"),
            Param("--interval", "look again after this time", "TIME", seconds(0.1), 1.0),
            Param("--once", "print it once, and end"),
            Param("--all", "temporary queues as well"),
        ),
    ),
)
