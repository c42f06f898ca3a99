"""Lines as in crontab(5): when a message comes that is sent with `AMQ_SCHEDULED_CRON`.

The lines are read by cronsim, which Debian's cron is the model of; times are those of the host's time zone. Who sends
no such line does not need the library, so it is an extra: `forkbroker[cron]`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo

from forkbroker.errors import ForkbrokerError

try:
    from cronsim import CronSim, CronSimError
except ImportError:
    HAS_CRON = False
else:
    HAS_CRON = True

FIELDS = 5
"""Minute, hour, day of the month, month, day of the week. cronsim knows a sixth one, seconds, which cron does not."""

_SHOWN = 80


class CronError(ForkbrokerError):
    """A line that names no time, or nothing that could read it. The text is meant for the client."""


class _HostZone(tzinfo):
    """The host's time zone with its changes to and from summer time: `astimezone` alone gives one fixed offset."""

    def utcoffset(self, moment: datetime | None) -> timedelta | None:
        return None if moment is None else moment.replace(tzinfo=None).astimezone().utcoffset()

    def dst(self, moment: datetime | None) -> timedelta | None:
        return None

    def tzname(self, moment: datetime | None) -> str | None:
        return None if moment is None else moment.replace(tzinfo=None).astimezone().tzname()

    def fromutc(self, moment: datetime) -> datetime:
        there = moment.replace(tzinfo=UTC).astimezone()
        here = there.replace(tzinfo=self, fold=0)
        # of the hour that comes twice this is the second one, if the first one has another offset
        return here if self.utcoffset(here) == there.utcoffset() else here.replace(fold=1)


_HOST = _HostZone()
_SOME_TIME_MS = 946_684_800_000


def check_cron(line: str) -> None:
    """Refuse what `next_cron` could do nothing with.

    Raises:
        CronError: cronsim is not installed, or this is no such line, or there is no such day.
    """
    _next(line, _SOME_TIME_MS)


def next_cron(line: bytes, after_ms: int) -> int:
    """The first time that the line names behind `after_ms`; both in milliseconds since the epoch.

    As in Debian's cron, what falls into an hour that summer time skips comes right behind it, and what falls into the
    hour that comes twice comes once; unless it comes each hour or more often, and so goes on as ever.

    Raises:
        CronError: as `check_cron`.
    """
    return _next(line.decode(errors="replace"), after_ms)


def _next(line: str, after_ms: int) -> int:
    if not HAS_CRON:
        raise CronError("cron lines cannot be read: pip install forkbroker[cron]")
    fields = len(line.split())
    if fields != FIELDS:
        raise CronError(f"{_quoted(line)} has {fields} fields, cron has {FIELDS}: 0 * * * * is each hour")
    start = datetime.fromtimestamp(after_ms // 1000, UTC).astimezone(_HOST)
    try:
        # in the second one of an hour that comes twice, cronsim may name a time in the first one
        return next(due for due in map(_milliseconds, CronSim(line, start)) if due > after_ms)
    except (CronSimError, StopIteration) as error:
        raise CronError(f"{_quoted(line)} is not a cron line: {error or 'there is no such day'}") from None


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp()) * 1000


def _quoted(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "…")
