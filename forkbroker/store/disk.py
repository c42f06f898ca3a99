"""Whether the store's disk has room, and for how much.

What is free is looked at each second, and whenever so much was written since that it may be less by a good part. The
parent is told how many octets there are above the watermark, as it accepts what the store has not heard of yet; and
when there are too few, or the disk refuses, that it should accept nothing more.
"""

from __future__ import annotations

import time

from forkbroker.store.api import Store

_EVERY_S = 1.0
_WRITTEN_OCTETS = 1_048_576
"""Told since the last look, above which the next one is due."""
_HYSTERESIS_PERCENT = 110
"""Of the watermark has to be free before there is room again."""
_STEP_OCTETS = 1_048_576
"""The parent is told of the room in steps of this size,"""
_MATTERS_OCTETS = 1 << 30
"""and of what is above this only that it is."""
_TWICE = 2
"""What is written goes through a log, and from there into the file."""
_ENOUGH_OCTETS = 2_097_152
"""Free after the reserve was used, so that something may come again: it may never be there again, as the room that
deletions make may be within the store's own file."""


class Disk:
    """What the process knows of the disk, and what it has told the parent."""

    def __init__(self, store: Store, watermark: int, *, is_fresh: bool) -> None:
        """`watermark`: octets that should be free; 0: whatever there is will do.

        `is_fresh`: the parent believes that there is plenty. Else it may have heard otherwise from a process before.
        """
        self._store = store
        self._watermark = watermark
        self._look_at = 0.0
        self._try_at = self._delete_at = 0.0
        self._written = 0
        self._spare = self._added = 0
        """Octets that were free beside the reserve when that was looked at last, and what was written since."""
        self.refusal = ""
        """Why it has refused what was to be written last; to read."""
        self._is_reserve_used = False
        self._said = (False, _MATTERS_OCTETS // _STEP_OCTETS) if is_fresh else None

    @property
    def is_stuck(self) -> bool:
        """It has refused what was to be written last."""
        return bool(self.refusal)

    def may_try(self) -> bool:
        """Whether it is time to write: always, but for a second after it was refused."""
        return not self.refusal or time.monotonic() >= self._try_at

    def may_delete(self) -> bool:
        """Whether it is time for what only deletes, and makes room: always, but for a second after that was refused."""
        return time.monotonic() >= self._delete_at

    def deletion_fails(self) -> None:
        """Not even that was possible."""
        self._delete_at = time.monotonic() + _EVERY_S

    def find_shortage(self, octets: int) -> str:
        """Why so many octets of new messages may not be written, or nothing: only beside what is kept for deletions.

        The disk itself refuses too late. What is written goes into a log first, which may have its room already; and
        if the file has no room then for what stands there, the log can never begin anew.
        """
        needed = _TWICE * octets + _ENOUGH_OCTETS
        if self.refusal or self._spare - _TWICE * self._added < needed:
            self._measure(self._store.free())
        if self._spare - _TWICE * self._added >= needed:
            return ""
        return self.refusal or f"the disk is full: {self._spare:,} bytes are free, and {needed:,} are needed"

    def _measure(self, free: int) -> None:
        self._spare, self._added = free - self._store.kept, 0

    def fails(self, reason: str) -> None:
        """It has refused."""
        self.refusal = reason
        self._is_reserve_used = True
        self._try_at = time.monotonic() + _EVERY_S
        self._look_at = 0.0

    def used_reserve(self) -> None:
        """What was kept for deletions was needed: it is not to be used up by what comes."""
        self._is_reserve_used = True
        self._look_at = 0.0

    def works(self) -> bool:
        """It has not; tell whether that is new."""
        was_stuck, self.refusal = self.is_stuck, ""
        if was_stuck:
            self._look_at = 0.0
        return was_stuck

    def written(self, octets: int) -> None:
        """So much was."""
        self._written += octets
        self._added += octets

    def look(self, waiting: int) -> tuple[str, int] | None:
        """What the parent is to be told, if there is news: why nothing more should come, and the room there is.

        `waiting`: octets that have come and are not written.

        Raises:
            StoreError: the store is not where it was.
        """
        now = time.monotonic()
        if now < self._look_at and self._written + waiting < _WRITTEN_OCTETS:
            return None
        self._look_at, self._written = now + _EVERY_S, 0
        free = self._store.free()
        self._measure(free)
        room = max(0, free - max(self._watermark, self._store.kept))
        reason = self._find_reason(free)
        step = min(room, _MATTERS_OCTETS) // _STEP_OCTETS
        if self._said == (bool(reason), step):
            return None
        self._said = (bool(reason), step)
        return reason, room

    def _find_reason(self, free: int) -> str:
        was_short = self._said is not None and self._said[0]
        needed = self._watermark * _HYSTERESIS_PERCENT // 100 if was_short else self._watermark
        if self.refusal:
            return self.refusal
        if free < needed:
            return f"{free:,} bytes are free for the store, {self._watermark:,} should be (--disk-free)"
        if not self._store.keep_room() and self._is_reserve_used and free < _ENOUGH_OCTETS:
            return f"the disk is full: {free:,} bytes are free, too few to keep some for what consumers settle"
        self._is_reserve_used = False
        return ""
