"""ACK and NACK: what a client says of what it got."""

from __future__ import annotations

from collections.abc import Mapping

from forkbroker.session.dialects import wants_requeue
from forkbroker.session.errors import FrameError
from forkbroker.session.replies import Replies
from forkbroker.session.setup import Terms
from forkbroker.session.subscription import TopicSubscription
from forkbroker.session.topic_delivery import TopicDelivery
from forkbroker.session.transactions import Settlement, Transactions
from forkbroker.session.unacknowledged import Unacknowledged
from forkbroker.session.upward import Upward
from forkbroker.wire.kinds import Outcome


class Settling:
    """Settles deliveries, at once or when their transaction is committed."""

    def __init__(
        self,
        terms: Terms,
        unacknowledged: Unacknowledged,
        transactions: Transactions,
        topics: TopicDelivery,
        upward: Upward,
        replies: Replies,
    ) -> None:
        self._is_strict = terms.policy.strict
        self._rules = terms.rules
        self._unacknowledged = unacknowledged
        self._transactions = transactions
        self._topics = topics
        self._upward = upward
        self._replies = replies

    def acknowledge(self, headers: Mapping[str, str], receipt: str | None) -> None:
        """ACK (STOMP 1.2, ACK). Raises FrameError."""
        self._settle(headers, receipt, Outcome.ACKNOWLEDGED)

    def reject(self, headers: Mapping[str, str], receipt: str | None) -> None:
        """NACK (STOMP 1.2, NACK): back to the queue, or with `requeue:false` to the dead letters. Raises FrameError."""
        if not self._rules.nack_allowed:
            raise FrameError("NACK is not in STOMP 1.0", "NACK came with STOMP 1.1; connect with accept-version")
        self._settle(headers, receipt, Outcome.RELEASED if wants_requeue(headers) else Outcome.REJECTED)

    def apply(self, upward: Upward, settlement: Settlement) -> None:
        """Settle these deliveries for good, on the way that `upward` is."""
        subscription, deliveries = settlement.subscription, settlement.deliveries
        if subscription.prefetch_octets:
            subscription.lighten(deliveries)
        if isinstance(subscription, TopicSubscription):
            self._topics.deliver_waiting(subscription)
        else:
            upward.settle(subscription.token, deliveries.values(), settlement.outcome)

    def _settle(self, headers: Mapping[str, str], receipt: str | None, outcome: Outcome) -> None:
        name = headers.get("transaction")
        transaction = None if name is None else self._transactions.join(name, 1)
        taken = self._unacknowledged.take(headers)
        if taken is None:
            if self._is_strict:
                raise FrameError(
                    "delivery is settled already",
                    "this delivery was settled before, or its message has been returned to the queue",
                )
        else:
            settlement = Settlement(taken[0], taken[1], outcome)
            if name is not None and transaction is not None:
                taken[0].in_transactions += len(taken[1])
                self._transactions.settle(name, transaction, settlement)
            else:
                self.apply(self._upward, settlement)
        if receipt is not None:
            self._replies.receipts(0 if transaction or taken is None else self._upward.fence(), [receipt])
