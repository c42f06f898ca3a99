"""When a message comes that is not to come at once, and when it comes again."""

from __future__ import annotations

from forkbroker.cron import CronError, next_cron
from forkbroker.wire.details import Details, Wishes

_MAX_INDEX = 0xFFFF_FFFF
"""What the number in front of a message-id can be: it is a u32 in envelopes."""


def first_due(wishes: Wishes, now_ms: int) -> tuple[int, int]:
    """When the message is due (milliseconds since the epoch; 0: at once), and how often it comes again after that.

    A crontab line names the first time, else `deliver_at` or now; the delay is added.

    Raises:
        CronError: a crontab line can't be read. The child has checked it, so this is no client's fault.
    """
    start_ms = next_cron(wishes.cron, now_ms) if wishes.cron else wishes.deliver_at or now_ms
    due = start_ms + wishes.delay
    repeats = bool(wishes.repeat and wishes.period)
    return (due if due > now_ms or repeats else 0), (wishes.repeat if repeats else 0)


def next_due(details: Details, now_ms: int) -> tuple[int, int]:
    """When a message that is due comes again (0: never), and how often after that.

    What was missed while the broker did not run is not made up for.

    Raises:
        CronError: a crontab line can't be read; the library for it is missing, perhaps.
    """
    if details.cron:
        return next_cron(details.cron, now_ms), 0
    if not (details.repeat and details.period):
        return 0, 0
    missed = max(0, now_ms - details.due) // details.period
    due = details.due + (missed + 1) * details.period
    if details.repeat < 0:
        return due, details.repeat
    left = details.repeat - missed - 1
    return (due, left) if left >= 0 else (0, 0)


def next_index(index: int, count: int) -> int:
    """Return the number of the first of so many messages that come again, after those that begin with `index`.

    Numbers start again from 1 when they are used up: 1,024 messages that are repeated each second get there in 48 days.
    """
    following = index + count
    return following if following + count - 1 <= _MAX_INDEX else 1


def check_line(cron: bytes) -> str:
    """Return why this crontab line can't be read; empty if it can, or there is none."""
    try:
        if cron:
            next_cron(cron, 0)
    except CronError as error:
        return str(error)
    return ""
