"""tail: the messages of topics, or the frames of a client, as they come."""

from __future__ import annotations

import os
from datetime import datetime
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
    what: str = context.parsed.what
    if what.startswith(("/topic/", "/exchange/amq.topic/", "jms.topic.")):
        return _tail_topic(context)
    if what.startswith("/"):
        why = "only topics can be listened to without taking messages away; see show"
        raise CtlError(f"{what}: {why}", Exit.USAGE)
    return _tail_client(context)


def _tail_client(context: Context) -> int:
    parsed = context.parsed
    with context.connect() as connection:
        rows = connection.ask("tail", {"who": parsed.what, "body": parsed.body or None}, for_ever=True)
        try:
            client = next(rows, None)
            if client is not None:
                _show_begin(context, client)
            for row in islice(rows, parsed.count):
                if context.is_json:
                    tables.write_json(row)
                else:
                    tables.write(_describe_frame(row))
        except KeyboardInterrupt:
            pass
    return Exit.OK


def _show_begin(context: Context, client: Row) -> None:
    """To standard error, as it is no frame: from here on, all frames are shown."""
    if not context.is_json:
        who = printable(f"{client['client']} {client['address']} {client['login']}".rstrip())
        os.write(2, f"client {who}: these are its frames from now on\n".encode())


def _describe_frame(row: Row) -> list[str]:
    moment = datetime.fromtimestamp(row["at"]).strftime("%H:%M:%S.%f")[:-3]
    lines = [f"  … {row['missed']:,} frames left out"] if row["missed"] else []
    way = "<-" if row["from"] == "client" else "->"
    lines.append(printable(f"{moment} {way} {row['command']}  {short_octets(row['bytes'])}"))
    lines += [printable(f"  {name}: {value}") for name, value in row["headers"].items()]
    if "body" in row or "body-base64" in row:
        body = row.get("body", f"({row['bytes']:,} bytes that are not text)")
        lines += ["", *(printable(f"  {line}") for line in body.split("\n"))]
        lines += ["  …", ""] if row["is-cut"] else [""]
    return lines


def _tail_topic(context: Context) -> int:
    parsed = context.parsed
    with context.connect() as connection:
        connection.subscribe([("id", "1"), ("destination", parsed.what), ("ack", "auto")])
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
        "the messages of a topic or pattern, or the frames of a client",
        _tail,
        (
            Param("WHAT", "a topic as in /topic/news.*; or number, login or address of a client"),
            Param("--body", "with their bodies"),
            Param("--count", "end after so many", "N", number(1)),
        ),
    ),
)
