"""What a SEND asks for beside being sent: priority, expiry, delay, repetition, deduplication, in all dialects.

Where several headers ask for the same thing, the first one in the order of the tables below counts; for expiry one
header that names a moment and one that names a span may both be given, and the earlier end holds. 0 asks for nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

from forkbroker.cron import CronError, check_cron
from forkbroker.session.dialects import HeaderError, read_number
from forkbroker.wire.details import (
    DEFAULT_PRIORITY,
    MAX_CRON,
    MAX_DEDUP_ID,
    MAX_MOMENT,
    MAX_PRIORITY,
    MAX_REPEAT,
    MAX_SPAN,
    NO_WISHES,
    Wishes,
)

_Table = tuple[tuple[str, int], ...]
"""Headers that mean the same, and how many milliseconds make one of their units."""

_EXPIRES: _Table = (("expires", 1),)  # ActiveMQ, Artemis, Apollo
_TTL: _Table = (("expiration", 1), ("ttl", 1), ("expire-after", 1000))  # RabbitMQ, Apollo, PoCo::MQ
_DELAY: _Table = (("AMQ_SCHEDULED_DELAY", 1), ("x-delay", 1), ("deliver-after", 1000))  # ActiveMQ, RabbitMQ, PoCo::MQ
_DELIVER_AT: _Table = (("AMQ_SCHEDULED_TIME", 1), ("deliver-at", 1), ("run_after", 1000))  # Artemis, -, TheSchwartz
_PERIOD: _Table = (("AMQ_SCHEDULED_PERIOD", 1),)
_DEDUP_IDS = ("dedup-id", "uniqkey", "_AMQ_DUPL_ID", "MessageDeduplicationId")  # -, TheSchwartz, Artemis, SQS
_CRON = "AMQ_SCHEDULED_CRON"
_REPEAT = "AMQ_SCHEDULED_REPEAT"

_NAMES = frozenset(name for table in (_EXPIRES, _TTL, _DELAY, _DELIVER_AT, _PERIOD) for name, _ in table) | {
    "priority",
    _CRON,
    _REPEAT,
    *_DEDUP_IDS,
}


def read_wishes(headers: Mapping[str, str]) -> Wishes:
    """What the headers of a SEND ask for.

    Raises:
        HeaderError: a value makes no sense, or not beside another one.
    """
    if _NAMES.isdisjoint(headers):
        return NO_WISHES
    delay, deliver_at = _read(headers, _DELAY, MAX_SPAN), _read(headers, _DELIVER_AT, MAX_MOMENT)
    cron, period, repeat = _read_cron(headers), _read(headers, _PERIOD, MAX_SPAN), _read_repeat(headers)
    if repeat and not period:
        raise HeaderError(f"{_REPEAT} is {repeat}, but AMQ_SCHEDULED_PERIOD (milliseconds) is missing or 0")
    if cron and (deliver_at or period):
        raise HeaderError(f"{_CRON} cannot be combined with a delivery time or AMQ_SCHEDULED_PERIOD")
    if not (delay or deliver_at):
        delay = period  # as in ActiveMQ: the first one comes after a period
    return Wishes(
        priority=_read_priority(headers),
        expires=_read(headers, _EXPIRES, MAX_MOMENT),
        ttl=_read(headers, _TTL, MAX_SPAN),
        delay=delay,
        deliver_at=deliver_at,
        period=period if repeat else 0,
        repeat=repeat,
        cron=cron,
        dedup_id=_read_dedup_id(headers),
    )


def _read(headers: Mapping[str, str], table: _Table, most: int) -> int:
    """Milliseconds, at most `most`, of the first of these headers that is there."""
    for name, unit in table:
        if name in headers:
            return read_number(headers, name, most // unit) * unit
    return 0


def _read_priority(headers: Mapping[str, str]) -> int:
    """0 to 9 as in JMS. RabbitMQ's queues may have more: all above 9 are alike."""
    return min(read_number(headers, "priority"), MAX_PRIORITY) if "priority" in headers else DEFAULT_PRIORITY


def _read_repeat(headers: Mapping[str, str]) -> int:
    """How often the message comes again; -1: without end."""
    if _REPEAT not in headers:
        return 0
    if headers[_REPEAT].strip() == "-1":
        return -1
    return read_number(headers, _REPEAT, MAX_REPEAT)


def _read_cron(headers: Mapping[str, str]) -> bytes:
    line = headers.get(_CRON, "").strip()
    if not line:
        return b""
    if len(line.encode(errors="replace")) > MAX_CRON:
        raise HeaderError(f"{_CRON} has more than {MAX_CRON} bytes")
    try:
        check_cron(line)
    except CronError as error:
        raise HeaderError(f"{_CRON}: {error}") from None
    return line.encode(errors="replace")


def _read_dedup_id(headers: Mapping[str, str]) -> bytes:
    for name in _DEDUP_IDS:
        if name in headers:
            dedup_id = headers[name].encode(errors="surrogateescape")
            if len(dedup_id) > MAX_DEDUP_ID:
                raise HeaderError(f"{name} has {len(dedup_id):,} bytes, at most {MAX_DEDUP_ID} are permitted")
            return dedup_id
    return b""
