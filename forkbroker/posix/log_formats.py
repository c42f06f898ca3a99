"""How an event looks in a log: always one line, whose end no client can forge.

    2026-11-20T22:01:02.345 info  client 7 127.0.0.1:40112: connected
    {"time": "2026-11-20T22:01:02.345+01:00", "level": "info", "pid": 411, "event": "client 7 …: connected"}

A log that keeps time and level by itself (syslog, journald) gets neither a second time. What clients send may stand in
a line, so whatever would not show is escaped (`printable`). A traceback, which only a fault of the broker has, follows
on the same line.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from datetime import datetime

from forkbroker.posix.printable import printable

Format = Callable[[logging.LogRecord], str]
"""Makes a line of an event, without its end."""

_SEVERITIES = {logging.ERROR: 3, logging.WARNING: 4, logging.INFO: 6, logging.DEBUG: 7}
_BETWEEN_LINES = " | "


def severity(record: logging.LogRecord) -> int:
    """Return the event's level as syslog(3) counts."""
    return _SEVERITIES.get(record.levelno, 6)


def event(record: logging.LogRecord) -> str:
    """Return the event's text, without its traceback."""
    try:
        return printable(record.getMessage())
    except (TypeError, ValueError):
        # A format that does not fit its arguments: ours to fix, but no reason to lose the event, or the process.
        return printable(f"{record.msg} {record.args!r}")


def traceback(record: logging.LogRecord) -> list[str]:
    """Return the lines of the event's traceback; none: it has none."""
    if not record.exc_info:
        return []
    return [printable(line) for line in logging.Formatter().formatException(record.exc_info).splitlines()]


def bare_text(record: logging.LogRecord) -> str:
    """Text alone."""
    return _BETWEEN_LINES.join([event(record), *traceback(record)])


def text(record: logging.LogRecord) -> str:
    """Local time, level and text."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(record.created))
    return f"{stamp}.{int(record.msecs):03d} {record.levelname.lower():<5} {bare_text(record)}"


def bare_json(record: logging.LogRecord) -> str:
    """A JSON object without the time."""
    return json.dumps(_members(record), ensure_ascii=False)


def with_json(record: logging.LogRecord) -> str:
    """A JSON object; the time is local, with its distance from UTC."""
    moment = datetime.fromtimestamp(record.created).astimezone().isoformat(timespec="milliseconds")
    return json.dumps({"time": moment, **_members(record)}, ensure_ascii=False)


def _members(record: logging.LogRecord) -> dict[str, object]:
    lines = traceback(record)
    members: dict[str, object] = {"level": record.levelname.lower(), "pid": record.process, "event": event(record)}
    return {**members, "traceback": lines} if lines else members


def for_journal(bare: Format) -> Format:
    """Put the level before each line as systemd reads it from a standard stream, sd-daemon(3)."""
    return lambda record: f"<{severity(record)}>{bare(record)}"


STAMPED = {"text": text, "json": with_json}
"""The formats of option --log-format, for logs that keep no time."""
BARE = {"text": bare_text, "json": bare_json}
"""The same, for logs that do."""
