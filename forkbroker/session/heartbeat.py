"""Heart-beats: when one is due, and when the client's are missing (STOMP 1.2, Heart-beating).

The beat comes from the process that owns the client's socket, so a busy parent can't stop it.
"""

from __future__ import annotations

import math

_SEND_AT = 0.8
"""Beat after this part of the interval: the client's own margin is unknown, and loops wake late."""
_MARGIN = 2.0
"""Call the client gone after so many intervals of silence. CoilMQ and Artemis take 2, stomp.py 1.5."""


class HeartBeat:
    """Deadlines of both directions, in seconds of the caller's clock; an interval of 0 switches one off."""

    def __init__(self, send_every_ms: int, expect_every_ms: int, now: float) -> None:
        self._send_after = send_every_ms * _SEND_AT / 1000
        self._gone_after = expect_every_ms * _MARGIN / 1000
        self._sent = self._received = now

    def sent(self, now: float) -> None:
        """Octets went out: a long MESSAGE is as good as a beat."""
        self._sent = now

    def received(self, now: float) -> None:
        """Any octet came in, half a frame included."""
        self._received = now

    def is_due(self, now: float) -> bool:
        """A beat should be sent."""
        return self._send_after > 0 and now >= self._sent + self._send_after

    def is_missing(self, now: float) -> bool:
        """The client has been silent for too long."""
        return self._gone_after > 0 and now >= self._received + self._gone_after

    def next_beat(self) -> float:
        """When a beat is due if nothing is sent before; infinity if never."""
        return self._sent + self._send_after if self._send_after else math.inf

    def deadline(self, *, is_idle: bool) -> float:
        """When to look again, infinity if never; unless `is_idle`, octets wait to be sent, and no beat is due before
        they went."""
        beat = self.next_beat() if is_idle else math.inf
        return min(beat, self._received + self._gone_after) if self._gone_after else beat
