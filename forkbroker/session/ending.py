"""The end of a connection: how far it is, why it came, and what the parent learns of it.

    open ──begin──▶ ending ──close──▶ over
      └─────────────finish──────────────▲

Ending lasts until all that was accepted before is answered. Nothing more is taken from the client then.
"""

from __future__ import annotations

import math

from forkbroker.wire.envelope import Buffer, pack
from forkbroker.wire.fields import MAX_REASON
from forkbroker.wire.kinds import Flag, Kind

_MOST_TOLD = 0xFFFF_FFFF
"""The field of LEAVING for the number of dropped messages has 32 bits; in a long life there may be more."""


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
            count=min(dropped, _MOST_TOLD),
            number=received,
            serial=delivered,
            block=self.reason.encode(errors="replace")[:MAX_REASON],
        )
