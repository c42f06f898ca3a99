"""The end of a connection, and what leads to it when the client does not ask for it: silence, and half a frame.

`HeartBeat` finds out whether the client is silent for too long, and when it has to be told that the broker is not
(STOMP 1.2, Heart-beating). The beat comes from the process that owns the client's socket, so a busy parent can't stop
it. `Progress` watches a frame that is half-sent (F27): the limit is on growth and not on the whole time, so that a
large body may take its time. `Ending` is how far the end is, why it came, and what the parent learns of it:

    open ──begin──▶ ending ──close──▶ over
      └─────────────finish──────────────▲

Ending lasts until all that was accepted before is answered. Nothing more is taken from the client then.

What every message would have to tell of itself is a plain number here, written where the octets are: when they came,
how many they were, when some went out.
"""

from __future__ import annotations

import math

from forkbroker.session.downward import Unwritten
from forkbroker.session.errors import FrameError
from forkbroker.session.policy import FRAME_PROGRESS
from forkbroker.wire.envelope import Buffer, pack
from forkbroker.wire.fields import MAX_REASON
from forkbroker.wire.kinds import Cause, Flag, Kind

CLIENT_CLOSED = "client closed the connection"
"""The reason where nothing else has led to the end."""
_SEND_AT = 0.8
"""Beat after this part of the interval: the client's own margin is unknown, and loops wake late."""
_MARGIN = 2.0
"""Call the client gone after so many intervals of silence. CoilMQ and Artemis take 2, stomp.py 1.5."""
_MOST_TOLD = 0xFFFF_FFFF
"""The field of LEAVING for the number of dropped messages has 32 bits; in a long life there may be more."""


class HeartBeat:
    """Deadlines of both directions, in seconds of the caller's clock; an interval of 0 switches one off."""

    def __init__(
        self, send_every_ms: int, expect_every_ms: int, unwritten: Unwritten, now: float, patience_s: float = 0.0
    ) -> None:
        """`unwritten` is what the client is sent: octets that went out are as good as a beat.

        `patience_s`: a client that may be silent for so long at least, and no longer if it sends no beats; 0: as it
        likes.
        """
        self._patience_s = patience_s
        self._unwritten = unwritten
        self.received_at = now
        """When an octet came in, half a frame included; whoever receives sets it."""
        self.beat_after = math.inf
        """Seconds from the last octet to the next beat; infinity: none."""
        self.gone_after = math.inf
        """Seconds of silence after which the client is gone."""
        self.agree(send_every_ms, expect_every_ms)

    def agree(self, send_every_ms: int, expect_every_ms: int) -> None:
        """Heed these intervals from now on."""
        self.beat_after = send_every_ms * _SEND_AT / 1000 or math.inf
        self.gone_after = max(expect_every_ms * _MARGIN / 1000, self._patience_s) or math.inf

    def go_on_from(self, other: HeartBeat) -> None:
        """Have the other one's intervals, and the times when octets came and went as it knows them."""
        self.beat_after, self.gone_after = other.beat_after, other.gone_after
        self.received_at, self._unwritten.written_at = other.received_at, other._unwritten.written_at

    def is_due(self, now: float) -> bool:
        """A beat should be sent: nothing waits that would be as good."""
        return not self._unwritten.pending and now >= self._unwritten.written_at + self.beat_after

    def is_missing(self, now: float) -> bool:
        """The client has been silent for too long."""
        return now >= self.received_at + self.gone_after

    def deadline(self) -> float:
        """When to look again, infinity if never. No beat is due while octets wait: look again when they went."""
        beat = math.inf if self._unwritten.pending else self._unwritten.written_at + self.beat_after
        return min(beat, self.received_at + self.gone_after)


class Progress:
    """How far a frame has come that the client has begun."""

    def __init__(self, timeout_s: float) -> None:
        """A frame that is begun has to grow by `FRAME_PROGRESS` octets in this time, each time."""
        self._timeout_s = timeout_s
        self.deadline = math.inf
        """When `check` is due; infinity while no frame is half-sent. Whoever receives sets it so when one is whole."""
        self.octets = 0
        """What came since the frame was begun, or was checked; whoever receives adds to it."""

    def begin(self, now: float) -> None:
        """A frame is half-sent: its time begins, unless it has begun before."""
        if self.deadline == math.inf:
            self.deadline = now + self._timeout_s
            self.octets = 0

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


class Ending:
    """How far one connection is from its end."""

    def __init__(self) -> None:
        self.has_begun = False
        self.is_over = False
        """Nothing more comes: only what waits for the client is to be written."""
        self.deadline = math.inf
        """When it is over at the latest."""
        self.reason = ""
        """Why, for the log; what was said first counts."""
        self.is_warning = False
        """The administrator should look at the reason."""
        self.has_failed_login = False
        """The client has tried to log in, and was not let in."""
        self.cause = Cause.ASKED
        """Of what kind the reason is that the client is told."""

    def begin(self, reason: str, deadline: float) -> None:
        """Take nothing more from the client."""
        self.has_begun = True
        self.reason = self.reason or reason
        self.deadline = deadline

    def close(self) -> None:
        """All is said."""
        self.has_begun = self.is_over = True

    def finish(self, reason: str) -> None:
        """Nothing more can be said, for this reason."""
        self.reason = reason
        self.close()

    def pack_leaving(self, received: int, delivered: int, dropped: int) -> list[Buffer]:
        """The last envelope of a child: why it ends, and how many messages it has seen."""
        return pack(
            Kind.LEAVING,
            flags=Flag.WARNING if self.is_warning or dropped else 0,
            token=int(self.has_failed_login),
            count=min(dropped, _MOST_TOLD),
            number=received,
            serial=delivered,
            block=self.reason.encode(errors="replace")[:MAX_REASON],
        )
