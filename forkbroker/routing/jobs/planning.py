"""What a transaction brings, counted before any of it is applied.

A transaction is applied as a whole or not at all, so its own content counts against the limits: each SEND is judged as
if those before it had been applied. A message may come as long as the limit is not reached *before* it, as with a SEND
that comes alone.
"""

from __future__ import annotations

from collections import Counter

from forkbroker.routing.queues.accounts import Account
from forkbroker.routing.queues.runs import Run


class TransactionPlan:
    """The parts of a transaction that were found to be permitted so far."""

    def __init__(self) -> None:
        """Start with nothing planned."""
        self.made: set[bytes] = set()
        """Names of queues that do not exist yet."""
        self.delayed_octets = 0
        """Octets of memory of delayed messages."""
        self.repeating = 0
        """Messages that come again and again."""
        self.octets_of_accounts: Counter[Account] = Counter()
        """Octets of memory that come to queues of each account."""
        self._messages: Counter[bytes] = Counter()
        self._octets: Counter[bytes] = Counter()

    def messages(self, queue: bytes) -> int:
        """Return how many messages the queue of this name will get."""
        return self._messages[queue]

    def octets(self, queue: bytes) -> int:
        """Return how many octets of memory these messages use."""
        return self._octets[queue]

    def add(self, queue: bytes, run: Run) -> None:
        """Count messages that the queue of this name will get."""
        self._messages[queue] += run.count
        self._octets[queue] += run.memory


NOTHING_PLANNED = TransactionPlan()
"""What a SEND that comes alone is judged by. To be read only."""


def octets_before_last(run: Run) -> int:
    """Return the octets of memory that all messages but the last one use."""
    count = run.count - 1
    return run.octets_of(count) + run.overhead * count if count else 0
