"""When a message comes that is not to come at once, and when it comes again."""

from __future__ import annotations

from forkbroker.schedules import next_cron
from forkbroker.wire.details import Details, Wishes


def first_due(wishes: Wishes, now_ms: int) -> tuple[int, int]:
    """When the message is due (milliseconds since the epoch; 0: at once), and how often it comes again after that.

    A crontab line names the first time, else `deliver_at` or now; the delay is added.

    Raises:
        ScheduleError: a crontab line can't be read. The child has checked it, so this is no client's fault.
    """
    start_ms = next_cron(wishes.cron, now_ms) if wishes.cron else wishes.deliver_at or now_ms
    due = start_ms + wishes.delay
    repeats = bool(wishes.repeat and wishes.period)
    return (due if due > now_ms or repeats else 0), (wishes.repeat if repeats else 0)


def next_due(details: Details, now_ms: int) -> tuple[int, int]:
    """When a message that is due comes again (0: never), and how often after that.

    What was missed while the broker did not run is not made up for.

    Raises:
        ScheduleError: a crontab line can't be read; the library for it is missing, perhaps.
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
