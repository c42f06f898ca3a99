"""send: messages from the command line."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from forkbroker.config.values import number
from forkbroker.ctl.command import Command, Context, Param
from forkbroker.ctl.connection import CtlError
from forkbroker.ctl.tables import counted
from forkbroker.errors import ConfigurationError, Exit
from forkbroker.posix.printable import printable


def parse_header(text: str) -> tuple[str, str]:
    """`NAME:VALUE`.

    Raises:
        ConfigurationError: it is none.
    """
    name, colon, value = text.partition(":")
    if not colon or not name:
        raise ConfigurationError(text, "not a header", "write NAME:VALUE")
    return name, value


_OWN = ("destination", "receipt", "transaction", "content-length")
"""Headers of a SEND that the command sets, or could not keep."""


def _parse_own_header(text: str) -> tuple[str, str]:
    """As `parse_header`, for a message that is sent. Raises as that."""
    name, value = parse_header(text)
    if name in _OWN:
        raise ConfigurationError(text, f"{name} is a header that this command sets itself", "leave it out")
    return name, value


def _send(context: Context) -> int:
    parsed = context.parsed
    headers = [("destination", parsed.destination), *(parsed.header or ())]
    if parsed.persistent:
        headers.append(("persistent", "true"))
    sent = 0
    with context.connect() as connection:
        previous: bytes | None = None
        for body in _read_bodies(parsed.body, is_lines=parsed.lines, count=parsed.count):
            if previous is not None:
                connection.send(headers, previous, is_last=False)
            previous = body
            sent += 1
        if previous is not None:
            connection.send(headers, previous)
    result = {"destination": parsed.destination, "count": sent}
    context.show(f"sent {counted(sent, 'message')} to {printable(parsed.destination)}", result)
    return Exit.OK


def _read_bodies(body: str | None, *, is_lines: bool, count: int) -> Iterator[bytes]:
    if is_lines and body not in (None, "-"):
        raise CtlError("--lines reads standard input: give no BODY", Exit.USAGE)
    if is_lines:
        for line in sys.stdin.buffer:
            yield line.removesuffix(b"\n")
        return
    octets = sys.stdin.buffer.read() if body in (None, "-") else str(body).encode(errors="surrogateescape")
    for _ in range(count):
        yield octets


COMMANDS = (
    Command(
        "send",
        "send a message; the body is an argument, or standard input",
        _send,
        (
            Param("DESTINATION", "where to, as in /queue/orders", completes="queue"),
            Param("BODY", "the body; without it, or with -, standard input", is_optional=True),
            Param("--header", "a header of the message; repeatable", "NAME:VALUE", _parse_own_header, is_many=True),
            Param("--persistent", "the message survives a restart of the broker"),
            Param("--lines", "each line of standard input is a message"),
            Param("--count", "send it so many times", "N", number(1), 1),
        ),
    ),
)
