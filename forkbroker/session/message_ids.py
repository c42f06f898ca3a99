"""The `message-id`s of what waits for its ACK: for clients of STOMP 1.2 that acknowledge by them, as those of 1.1 do.

In 1.2 a delivery is acknowledged by the value of its `ack` header. Some clients send the `message-id` in its place.
That names a message, which may have been delivered to several subscriptions, so it counts only where it is clear what
is meant. Kept for each run of messages, not for each message: what all of them share, and where their numbers start.
Runs of which nothing waits for its ACK any more are dropped now and then: at most as many stay as those that are
needed, and as many again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from forkbroker.session.subscription import Subscription

_FEW = 256
"""Runs that are not worth a look."""
_MAX_DIGITS = 18


@dataclass(frozen=True, slots=True)
class _Run:
    token: int
    index: int
    """The number of the first message within its batch: what its message-id begins with."""
    delivery: int
    """The number of its delivery; the others follow, as do their indices."""
    count: int


class MessageIds:
    """Runs of deliveries by the message-ids that they had."""

    def __init__(self, by_token: Callable[[int], Subscription | None]) -> None:
        """`by_token` finds a subscription that has not ended."""
        self._by_token = by_token
        self._runs: dict[bytes, list[_Run]] = {}
        self._kept = 0
        self._tidy_at = _FEW

    def add(self, ident: bytes, token: int, index: int, delivery: int, count: int) -> None:
        """These deliveries have the message-ids `<index><ident>` and following."""
        self._runs.setdefault(ident, []).append(_Run(token, index, delivery, count))
        self._kept += 1
        if self._kept >= self._tidy_at:
            self._tidy()

    def find(self, index: str, ident: bytes) -> list[tuple[int, int]]:
        """Token and number of each delivery that waits for its ACK under the message-id `<index><ident>`."""
        if not (index.isascii() and index.isdecimal() and len(index) <= _MAX_DIGITS):
            return []
        found = []
        for run in self._runs.get(ident, ()):
            distance = int(index) - run.index
            number = run.delivery + distance
            if 0 <= distance < run.count and self._waits(run.token, number):
                found.append((run.token, number))
        return found

    def _waits(self, token: int, number: int) -> bool:
        subscription = self._by_token(token)
        return subscription is not None and number in subscription.unacknowledged

    def _tidy(self) -> None:
        """Drop what is settled; twice as many as are left may come until the next time."""
        kept = {ident: [run for run in runs if self._is_needed(run)] for ident, runs in self._runs.items()}
        self._runs = {ident: runs for ident, runs in kept.items() if runs}
        self._kept = sum(map(len, self._runs.values()))
        self._tidy_at = 2 * self._kept + _FEW

    def _is_needed(self, run: _Run) -> bool:
        """Something of it waits for its ACK, or will if a transaction is aborted."""
        subscription = self._by_token(run.token)
        if subscription is None:
            return False
        numbers = range(run.delivery, run.delivery + run.count)
        return bool(subscription.in_transactions) or any(number in subscription.unacknowledged for number in numbers)
