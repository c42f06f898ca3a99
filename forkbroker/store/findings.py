"""What the store finds in its database that can't be delivered: said once in the log, by serial, and passed over."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from forkbroker.store.table import AlteredRowError, UnfitRowError, list_serials

log = logging.getLogger(__name__)

_REMEMBERED = 10_000
"""Serials that are not named a second time; of any more it is only said that there are more."""


class Findings:
    """Of one process of the store."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._named: set[int] = set()
        self._places: set[bytes] = set()

    def note_unfit(self, queue: bytes | None, unfit: dict[int, UnfitRowError]) -> None:
        """Rows that are no messages, by their serials; `queue` is None if they were not looked for in one."""
        altered = self._take_new(serial for serial, error in unfit.items() if isinstance(error, AlteredRowError))
        if altered:
            log.error(
                "store %s: %s with the serials %s not delivered, but kept: %s",
                self._path,
                _count(queue, len(altered)),
                list_serials(altered),
                unfit[altered[0]],
            )
        broken = self._take_new(serial for serial in unfit)
        if broken:
            log.warning(
                "store %s: %s with the serials %s passed over, but kept, the first one because %s",
                self._path,
                _count(queue, len(broken)),
                list_serials(broken),
                unfit[broken[0]],
            )

    def note_lost(self, queue: bytes, lost: dict[int, str]) -> None:
        """Messages on pages that can't be read, and why."""
        serials = self._take_new(lost)
        if serials:
            log.error(
                "store %s: damaged, %s with the serials %s cannot be read (%s) and passed over; "
                "stop the broker, and start it once with --store-repair",
                self._path,
                _count(queue, len(serials)),
                list_serials(serials),
                lost[serials[0]],
            )

    def note_damaged_index(self, queue: bytes, reason: object) -> None:
        """The messages of this queue have to be looked for in the whole table."""
        if queue not in self._places and len(self._places) < _REMEMBERED:
            self._places.add(queue)
            log.error(
                "store %s: damaged, the index of queue %s cannot be read (%s), its messages are looked for in the "
                "whole table; stop the broker, and start it once with --store-repair",
                self._path,
                queue.decode("utf-8", "backslashreplace"),
                reason,
            )

    def note_odd(self, what: str, rows: Iterable[object]) -> None:
        """Rows of another table that break its rules."""
        shown = [str(row)[:200] for row in rows]
        if shown:
            log.warning(
                "store %s: %s passed over, but kept: %s",
                self._path,
                what,
                "; ".join(shown[:5]) + (f" and {len(shown) - 5:,} more" if len(shown) > 5 else ""),
            )

    def _take_new(self, serials: Iterable[int]) -> list[int]:
        new = [serial for serial in serials if serial not in self._named]
        if len(self._named) < _REMEMBERED:
            self._named.update(new)
        return new


def _count(queue: bytes | None, number: int) -> str:
    place = "" if queue is None else f"queue {queue.decode('utf-8', 'backslashreplace')}: "
    return f"{place}{number:,} message{'s' * (number != 1)}"
