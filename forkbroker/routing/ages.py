"""When messages came, without a note at each of them.

Serials rise over all queues. So it is enough to note about once a second which serial is the next: a message came
behind the last note that names its serial or a lower one. Old notes are thinned out, so their number is bounded, and
what they say is true to a small part of the age. What the store has from before the broker's start has no note.
"""

from __future__ import annotations

from bisect import bisect_right

from forkbroker.routing.handover import Rule

MOST = 4096
"""Notes. The younger half is of the last half an hour at least; in the older half every second one is left out."""


class Ages(Rule):
    """Notes of time."""

    DUMPED = ("_serials", "_times")

    def __init__(self) -> None:
        self._serials: list[int] = []
        self._times: list[float] = []

    def note(self, serial: int, now: float) -> None:
        """The next message gets this serial (seconds, monotonic)."""
        if self._serials and self._serials[-1] == serial:
            self._times[-1] = now
            return
        self._serials.append(serial)
        self._times.append(now)
        if len(self._serials) > MOST:
            half = MOST // 2
            # the first one stays: it is where knowledge begins
            del self._serials[1:half:2], self._times[1:half:2]

    def find(self, serial: int, now: float) -> tuple[float, bool]:
        """How long ago the message with this serial came (seconds), and whether it was before the broker's start.

        Then it was longer ago than that.
        """
        place = bisect_right(self._serials, serial) - 1
        since = self._times[max(0, place)] if self._times else now
        return max(0.0, now - since), place < 0
