"""Rows of the table `messages`: what stands in them, and which of them are messages that can be served.

A row that the broker has written has a checksum, `binascii.crc32` of its headers followed by its body. So a bit that
has changed in either of them is found before a client sees it. A row without one was written by hand, or by a broker
before version 3 of the tables: its values are compared with the rules of the schema, and so are those of all rows
outside headers and body. (The constraints of the schema can be switched off, and older databases had none.)

A row that breaks a rule is no message: `to_message` raises, and whoever reads passes it over. It stays in the table.
"""

from __future__ import annotations

import re
import string
from binascii import crc32
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

from forkbroker.store.api import Message
from forkbroker.store.schema import MAX_INTEGER, MAX_SERIAL, MAX_TEXT
from forkbroker.wire.details import DEFAULT_PRIORITY, DURABLY, MAX_REJECT_REASON, Details, Reason
from forkbroker.wire.kinds import Matter

COLUMNS = (
    "serial, queue, message_id, headers, body, deliveries, priority, crashes, expires, due, reason, origin, period, "
    "repeat, cron, reject_reason, checksum"
)
"""In the order of `to_message`."""

Row = tuple[Any, ...]

_PLAIN = (DEFAULT_PRIORITY, None, None, None, None, None, None, None, None, None)
_make_message = Message._make
_QUEUES = (b"/queue/", b"/dsub/", b"/reply-queue/")
_MAX_U16 = 65_535
_MAX_REPEAT = (1 << 31) - 1
_REASONS = {reason.name.lower().encode(): reason for reason in Reason if reason} | {None: Reason.NONE}
MATTERS = {matter.name.lower().encode(): matter for matter in Matter}
"""By the names that they have in the table `notes`."""
_IDENT_OCTETS = b"-._" + string.ascii_letters.encode() + string.digits.encode()
_are_headers = re.compile(rb"(?:[^\n:\0]*:[^\n\0]*(?:\n|\Z))*").fullmatch


class UnfitRowError(Exception):
    """The row is no message; the argument says which column, and what it has."""


class AlteredRowError(UnfitRowError):
    """Headers or body are not those that were written."""


def checksum(headers: bytes, body: bytes | bytearray | memoryview) -> int:
    """What stands in the column of this name."""
    return crc32(body, crc32(headers))


def to_message(row: Row) -> Message:
    """The message in a row of `COLUMNS`, whose text came as bytes.

    Raises:
        UnfitRowError: there is none.
    """
    # hot: no calls that can be avoided; a third of it is the checksum
    serial, queue, ident, headers, body, deliveries = row[:6]
    columns, expected = row[6:16], row[16]
    if not (type(headers) is type(body) is type(ident) is bytes and type(deliveries) is int):
        raise _find_odd_type(row)
    if expected is None:
        if not _are_headers(headers):
            raise _unfit("headers", headers)
    elif crc32(body, crc32(headers)) != expected:
        raise AlteredRowError("headers or body have changed since they were written (checksum)")
    if not (0 < serial <= MAX_SERIAL and 0 <= deliveries <= _MAX_U16):
        raise UnfitRowError(f"serial is {serial}, deliveries is {deliveries}")
    if ident.translate(None, _IDENT_OCTETS):
        raise _unfit("message_id", ident)
    if not _is_known_queue(queue):
        raise _unfit("queue", queue)
    details = DURABLY if columns == _PLAIN else _to_details(*columns)
    return _make_message((serial, queue, ident, headers, body, deliveries, details))


def _find_odd_type(row: Row) -> UnfitRowError:
    for name, value in zip(("message_id", "headers", "body"), row[2:5], strict=True):
        if type(value) is not bytes:
            return _unfit(name, value)
    return _unfit("deliveries", row[5])


def is_queue(name: Any) -> bool:
    """Whether messages can be in a queue of this name."""
    return type(name) is bytes and len(name) <= MAX_TEXT and name.startswith(_QUEUES) and name not in _QUEUES


_is_known_queue = lru_cache(maxsize=256)(is_queue)


def is_priority(value: Any) -> bool:
    """Whether messages can have it."""
    return type(value) is int and 0 <= value <= 9


def is_number(value: Any, most: int = MAX_INTEGER) -> bool:
    """Whether it is a whole number of at least 0, and at most `most`."""
    return type(value) is int and 0 <= value <= most


def is_text(value: Any) -> bool:
    """Whether it is text that an envelope has room for."""
    return type(value) is bytes and 0 < len(value) <= MAX_TEXT


def is_reject_reason(value: Any) -> bool:
    """Whether it is what can come with a NACK."""
    return type(value) is bytes and len(value) <= MAX_REJECT_REASON and b"\0" not in value


def is_note(row: Row) -> bool:
    """Whether something is noted in this row of the table `notes`."""
    queue, matter, value = row
    if not (is_queue(queue) and matter in MATTERS and type(value) is bytes and len(value) <= MAX_TEXT):
        return False
    return MATTERS[matter] is not Matter.HELD or (value.isdigit() and len(value) <= 18)


def list_serials(serials: Iterable[int], most: int = 10) -> str:
    """These in words, for a line of the log: runs as `3-7`, and the first `most` of the runs."""
    runs: list[list[int]] = []
    for serial in sorted(serials):
        if runs and serial == runs[-1][1] + 1:
            runs[-1][1] = serial
        else:
            runs.append([serial, serial])
    shown = ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs[:most])
    left = sum(last - first + 1 for first, last in runs[most:])
    return f"{shown} and {left:,} more" if left else shown


def take_messages(rows: Iterable[Row], unfit: dict[int, UnfitRowError]) -> Iterator[Message]:
    """The messages among these rows; the serials of all others come into `unfit`, with what is wrong."""
    for row in rows:
        try:
            yield to_message(row)
        except UnfitRowError as error:
            unfit[row[0]] = error


@lru_cache(maxsize=1024)
def to_columns(details: Details) -> tuple[Any, ...]:
    """From `priority` to `reject_reason` in `COLUMNS`, with NULL for what is as usual."""
    return (
        details.priority,
        details.crashes or None,
        min(details.expires, MAX_INTEGER) or None,
        min(details.due, MAX_INTEGER) or None,
        details.reason.name.lower() if details.reason else None,
        details.origin or None,
        min(details.period, MAX_INTEGER) or None,
        details.repeat or None,
        details.cron or None,
        details.reject_reason or None,
    )


@lru_cache(maxsize=1024)
def _to_details(
    priority: Any,
    crashes: Any,
    expires: Any,
    due: Any,
    reason: Any,
    origin: Any,
    period: Any,
    repeat: Any,
    cron: Any,
    reject_reason: Any,
) -> Details:
    if not is_priority(priority):
        raise _unfit("priority", priority)
    _check_numbers(crashes=crashes, expires=expires, due=due, period=period, repeat=repeat)
    if reason not in _REASONS:
        raise _unfit("reason", reason)
    for name, text in (("origin", origin), ("cron", cron)):
        if text is not None and not (type(text) is bytes and len(text) <= MAX_TEXT):
            raise _unfit(name, text)
    if reject_reason is not None and not is_reject_reason(reject_reason):
        raise _unfit("reject_reason", reject_reason)
    return Details(
        priority=priority,
        persistent=True,
        reason=_REASONS[reason],
        crashes=crashes or 0,
        expires=expires or 0,
        due=due or 0,
        period=period or 0,
        repeat=repeat or 0,
        origin=origin or b"",
        cron=cron or b"",
        reject_reason=reject_reason or b"",
    )


_RANGES = {"crashes": (0, _MAX_U16), "repeat": (-1, _MAX_REPEAT), "due": (1, MAX_INTEGER)}


def _check_numbers(**values: Any) -> None:
    for name, value in values.items():
        least, most = _RANGES.get(name, (0, MAX_INTEGER))
        if value is not None and not (type(value) is int and least <= value <= most):
            raise _unfit(name, value)


def _unfit(name: str, value: Any) -> UnfitRowError:
    shown = repr(value)
    return UnfitRowError(f"{name} is {shown[:40]}{'…' if len(shown) > 40 else ''}")
