"""One bound on the memory that a client can fill in its process.

Counts alone bound nothing: 16 open transactions of 100 MiB are 1.6 GiB, and 10,000 names of 10 KiB are as much as a
large transaction. So whatever a client makes its process keep until the client itself ends it is weighed here, in one
sum: open transactions, subscriptions, and with them the messages of topics that wait because the client does not take
them. With that bound the counts can be generous.

Weights are estimates of memory, not sizes on the wire: a small frame with headers of its own takes more than a
kilobyte until its batch is serialised.
"""

from __future__ import annotations

from collections.abc import Callable

from forkbroker.session.errors import FrameError


class Budget:
    """What one client may take, and has taken, in octets.

    Attributes:
        waiting: tells how much waits for the client to take it. That is limited elsewhere, and never refused here, but
            leaves less room for all else.
    """

    def __init__(self, limit: int, waiting: Callable[[], int] = lambda: 0) -> None:
        self._limit = limit
        self.waiting = waiting
        self.used = 0

    def take(self, octets: int, what: str) -> None:
        """Count so many octets more, or fewer if negative; `what` takes them, for the text of the ERROR.

        Raises:
            FrameError: that is more than the client may take. The session has to end, as it may be kept already.
        """
        self.used += octets
        total = self.used + self.waiting()
        if octets > 0 and total > self._limit:
            raise FrameError(
                "client memory is used up",
                f"with {what}, open transactions, subscriptions and waiting messages take {total:,} bytes of memory, "
                f"and max-client-memory is {self._limit:,}; COMMIT, ABORT or UNSUBSCRIBE earlier",
            )

    def give(self, octets: int) -> None:
        """So many octets are free again."""
        self.used -= octets
