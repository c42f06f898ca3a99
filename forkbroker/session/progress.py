"""The growth of a half-sent frame (F27).

The limit is on growth and not on the whole time, so that a large body may take its time.
"""

from __future__ import annotations

import math

from forkbroker.session.errors import FrameError
from forkbroker.session.policy import FRAME_PROGRESS


class Progress:
    """How far a frame has come that the client has begun."""

    def __init__(self, timeout_s: float) -> None:
        """A frame that is begun has to grow by `FRAME_PROGRESS` octets in this time, each time."""
        self._timeout_s = timeout_s
        self.deadline = math.inf
        """When `check` is due; infinity while no frame is half-sent."""
        self.octets = 0
        """What came since the frame was begun, or was checked; whoever receives adds to it."""

    def look(self, now: float, *, is_within_frame: bool) -> None:
        """Note whether a frame is half-sent, after all that came was read."""
        if not is_within_frame:
            self.deadline = math.inf
        elif self.deadline == math.inf:
            self.deadline = now + self._timeout_s
            self.octets = 0

    def complete(self) -> None:
        """A frame became complete: the next one has all of its time."""
        self.deadline = math.inf

    def pause(self, now: float) -> None:
        """The client is not read just now, so nothing can come."""
        if self.deadline != math.inf:
            self.deadline = now + self._timeout_s

    def check(self, now: float) -> None:
        """The time is over: begin it anew.

        Raises:
            FrameError: the frame has not grown enough.
        """
        if self.octets < FRAME_PROGRESS:
            detail = f"an incomplete frame grew by {self.octets:,} bytes in {self._timeout_s:g} s (frame-timeout)"
            raise FrameError("incomplete frame", f"{detail}; it must grow by {FRAME_PROGRESS:,} bytes or be complete")
        self.deadline = now + self._timeout_s
        self.octets = 0
