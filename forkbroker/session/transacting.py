"""BEGIN, COMMIT and ABORT (STOMP 1.2, BEGIN, COMMIT, ABORT)."""

from __future__ import annotations

from collections.abc import Mapping

from forkbroker.session.downward import Replies
from forkbroker.session.errors import FrameError, shown
from forkbroker.session.settling import Settling, Unacknowledged
from forkbroker.session.subscriptions import QueueSubscription, Subscription, Subscriptions
from forkbroker.session.transactions import Transaction, Transactions
from forkbroker.session.upward import Upward
from forkbroker.wire.envelope import Buffer, pack
from forkbroker.wire.kinds import Kind


class Transacting:
    """Opens the transactions of one session, and ends them."""

    def __init__(
        self,
        transactions: Transactions,
        settling: Settling,
        subscriptions: Subscriptions,
        unacknowledged: Unacknowledged,
        upward: Upward,
        replies: Replies,
    ) -> None:
        self._transactions = transactions
        self._settling = settling
        self._subscriptions = subscriptions
        self._unacknowledged = unacknowledged
        self._upward = upward
        self._replies = replies

    def begin(self, headers: Mapping[str, str], receipt: str | None) -> None:
        """BEGIN: the parent need not know. Raises FrameError."""
        self._transactions.begin(_read_name("BEGIN", headers))
        if receipt is not None:
            self._replies.receipts(0, [receipt])

    def commit(self, headers: Mapping[str, str], receipt: str | None) -> None:
        """COMMIT: all of the transaction goes up as one envelope. Raises FrameError."""
        name = _read_name("COMMIT", headers)
        transaction = self._transactions.end(name)
        self._check_whole(name, transaction)
        for settlement in transaction.settlements:
            settlement.subscription.in_transactions -= len(settlement.deliveries)
            self._settling.apply(transaction.upward, settlement)
        envelopes = transaction.upward.take()
        if envelopes:
            payload: list[Buffer] = [buffer for envelope in envelopes for buffer in envelope]
            self._upward.request(pack(Kind.TRANSACTION, count=len(envelopes), payload=payload))
        if receipt is not None:
            self._replies.receipts(self._upward.fence() if envelopes else 0, [receipt])

    def abort(self, headers: Mapping[str, str], receipt: str | None) -> None:
        """ABORT: nothing was sent, and what was acknowledged is unsettled again. Raises FrameError."""
        taken: dict[Subscription, dict[int, int]] = {}
        for settlement in self._transactions.end(_read_name("ABORT", headers)).settlements:
            settlement.subscription.in_transactions -= len(settlement.deliveries)
            taken.setdefault(settlement.subscription, {}).update(settlement.deliveries)
        for subscription, deliveries in taken.items():
            self._unacknowledged.give_back(subscription, deliveries)
        if receipt is not None:
            self._replies.receipts(0, [receipt])

    def _check_whole(self, name: str, transaction: Transaction) -> None:
        """A subscription that has ended gave its messages back, those that this transaction has settled as well."""
        for settlement in transaction.settlements:
            subscription = settlement.subscription
            if isinstance(subscription, QueueSubscription) and self._subscriptions.by_token(subscription.token) is None:
                raise FrameError(
                    "transaction cannot be applied as a whole",
                    f"transaction {shown(name)} has an ACK or NACK of messages that were returned to their queue "
                    f"with UNSUBSCRIBE of {shown(subscription.id.lstrip(chr(0)))}; COMMIT before UNSUBSCRIBE",
                )


def _read_name(command: str, headers: Mapping[str, str]) -> str:
    """The `transaction` header, or FrameError."""
    name = headers.get("transaction")
    if name is None:
        raise FrameError("missing header transaction", f"{command} needs a transaction header")
    return name
