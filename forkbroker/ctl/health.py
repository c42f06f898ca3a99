"""health: is all well, as monitoring systems ask it (Nagios and its like): one line, and 0, 1, 2 or 3."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from fnmatch import fnmatchcase
from typing import Any

from forkbroker.config.values import number, seconds
from forkbroker.control.readiness import find_faults
from forkbroker.ctl import tables
from forkbroker.ctl.command import Command, Context, Param
from forkbroker.ctl.connection import CtlError
from forkbroker.ctl.tables import Row, counted, short_span
from forkbroker.errors import ConfigurationError, Exit
from forkbroker.posix.printable import printable


class Health(IntEnum):
    """The exit statuses of plugins for Nagios."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


@dataclass(frozen=True, slots=True)
class Limit:
    """What is not well: one of these is exceeded, in a queue that is meant."""

    queue: str = "*"
    """A pattern of names."""
    age: float | None = None
    waiting: int | None = None
    unsettled: int | None = None
    delayed: int | None = None
    consumers: int | None = None
    """So many at least."""

    def find_fault(self, row: Row) -> str:
        """What is not well with a queue; empty: nothing."""
        name = row["name"]
        bare = name.partition("/")[2].partition("/")[2]
        if not fnmatchcase(name if self.queue.startswith("/") else bare, self.queue):
            return ""
        faults = []
        if self.age is not None and (row["oldest"] or 0) > self.age:
            faults.append(f"the oldest message is {short_span(row['oldest'])} old")
        for what in ("waiting", "unsettled", "delayed"):
            most = getattr(self, what)
            if most is not None and row[what] > most:
                faults.append(f"{row[what]:,} {what}")
        if self.consumers is not None and row["consumers"] < self.consumers:
            faults.append(counted(row["consumers"], "consumer"))
        return f"{printable(name)}: {', '.join(faults)}" if faults else ""


_KEYS: dict[str, Callable[[str], Any]] = {
    "queue": str,
    "age": seconds(0),
    "waiting": number(0),
    "unsettled": number(0),
    "delayed": number(0),
    "consumers": number(1),
}


def parse_limit(text: str) -> Limit:
    """`queue=orders*,age=30min`.

    Raises:
        ConfigurationError: it cannot be understood.
    """
    found: dict[str, Any] = {}
    for part in text.split(","):
        key, equals, value = part.partition("=")
        if not equals or key not in _KEYS:
            raise ConfigurationError(part, "not a limit", f"write KEY=VALUE, with one of {', '.join(_KEYS)}")
        found[key] = _KEYS[key](value)
    if found.keys() <= {"queue"}:
        raise ConfigurationError(text, "no limit", "name one, as in queue=orders*,age=30min")
    return Limit(**found)


def _health(context: Context) -> int:
    parsed = context.parsed
    try:
        with context.connect() as connection:
            status = connection.ask_one("status", {})
            limits = [*(parsed.critical or ()), *(parsed.warn or ())]
            rows = list(connection.ask("queues", {})) if limits else []
    except CtlError as error:
        health = Health.CRITICAL if error.status is Exit.UNAVAILABLE else Health.UNKNOWN
        return _report(context, health, [str(error)], {})
    critical = _find_faults(parsed.critical or (), rows)
    warnings = _find_faults(parsed.warn or (), rows)
    faults = find_faults(status)
    critical = [*(fault.text for fault in faults if fault.is_critical), *critical]
    warnings = [*(fault.text for fault in faults if not fault.is_critical), *warnings]
    health = Health.CRITICAL if critical else Health.WARNING if warnings else Health.OK
    messages = status["messages"]
    well = (
        f"{counted(status['clients'], 'client')}, {counted(status['queues'], 'queue')}, "
        f"{counted(messages['waiting'], 'message')} waiting"
    )
    return _report(context, health, [*critical, *warnings] or [well], status)


def _find_faults(limits: Any, rows: list[Row]) -> list[str]:
    found = (limit.find_fault(row) for limit in limits for row in rows)
    return [fault for fault in dict.fromkeys(found) if fault]


def _report(context: Context, health: Health, faults: list[str], status: Row) -> int:
    if context.is_json:
        tables.write_json({"health": health.name, "text": faults, "status": status})
    else:
        shown = "; ".join(faults[:5]) + (f"; and {len(faults) - 5:,} more" if len(faults) > 5 else "")
        tables.write([f"{health.name}: {shown}"])
    return health


_LIMIT = "KEY=VALUE,..."

COMMANDS = (
    Command(
        "health",
        "whether all is well, for monitoring: exit status 0, 1, 2 or 3",
        _health,
        (
            Param("--warn", "what is a warning, as in queue=orders*,age=30min", _LIMIT, parse_limit, is_many=True),
            Param("--critical", "what is critical, likewise", _LIMIT, parse_limit, is_many=True),
        ),
    ),
)
