"""tail: the messages of topics, as they come."""

from __future__ import annotations

from itertools import islice

from forkbroker.config.values import number
from forkbroker.ctl import tables
from forkbroker.ctl.command import Command, Context, Param
from forkbroker.ctl.connection import CtlError, Frame
from forkbroker.ctl.tables import Row, short_octets
from forkbroker.errors import Exit
from forkbroker.posix.printable import printable

_SHOWN = 65_536


def _tail(context: Context) -> int:
    parsed = context.parsed
    if not parsed.topic.startswith(("/topic/", "/exchange/amq.topic/", "jms.topic.")):
        what = "only topics can be listened to without taking messages away; see show"
        raise CtlError(f"{parsed.topic}: {what}", Exit.USAGE)
    with context.connect() as connection:
        connection.subscribe([("id", "1"), ("destination", parsed.topic), ("ack", "auto")])
        try:
            for frame in islice(connection.messages(), parsed.count):
                if context.is_json:
                    tables.write_json(_to_row(frame, has_body=parsed.body))
                else:
                    tables.write(_describe(frame, has_body=parsed.body))
        except KeyboardInterrupt:
            pass
    return Exit.OK


def _to_row(frame: Frame, *, has_body: bool) -> Row:
    row: Row = {"headers": dict(frame.headers), "bytes": len(frame.body)}
    if has_body:
        row["body"] = bytes(frame.body[:_SHOWN]).decode(errors="backslashreplace")
    return row


def _describe(frame: Frame, *, has_body: bool) -> list[str]:
    headers = {name: value for name, value in frame.headers.items() if name not in ("subscription", "content-length")}
    lines = [printable(f"{headers.pop('destination', '')}  {short_octets(len(frame.body))}")]
    lines += [printable(f"  {name}: {value}") for name, value in headers.items()]
    if has_body:
        text = bytes(frame.body[:_SHOWN]).decode(errors="backslashreplace")
        lines += ["", *(printable(f"  {line}") for line in text.split("\n")), ""]
    return lines


COMMANDS = (
    Command(
        "tail",
        "the messages of a topic, or of a pattern, as they come",
        _tail,
        (
            Param("TOPIC", "as in /topic/news.*"),
            Param("--body", "with their bodies"),
            Param("--count", "end after so many", "N", number(1)),
        ),
    ),
)
