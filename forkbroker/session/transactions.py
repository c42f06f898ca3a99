"""Transactions: what waits for COMMIT (STOMP 1.2, BEGIN, COMMIT, ABORT).

A transaction's SENDs and settlements are collected here and travel as one envelope: the parent applies all of it, or
nothing. ABORT, and the end of the session, forget it; its settlements are then open again, under their old ids.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from forkbroker.session.errors import FrameError, shown
from forkbroker.session.policy import SessionPolicy
from forkbroker.session.subscriptions import Subscription
from forkbroker.session.upward import Upward
from forkbroker.wire.kinds import Outcome


@dataclass(slots=True)
class Settlement:
    """Deliveries of one subscription that an ACK or NACK in a transaction has settled: number → serial."""

    subscription: Subscription
    deliveries: dict[int, int]
    outcome: Outcome


@dataclass(slots=True)
class Transaction:
    """One open transaction."""

    upward: Upward
    settlements: list[Settlement] = field(default_factory=list)
    frames: int = 0


class Transactions:
    """The open transactions of one session; several may be open at a time."""

    def __init__(self, policy: SessionPolicy, session_id: bytes, batch_numbers: Iterator[int]) -> None:
        self._policy = policy
        self._session_id = session_id
        self._batch_numbers = batch_numbers
        self._open: dict[str, Transaction] = {}

    def begin(self, name: str) -> None:
        """Open one.

        Raises:
            FrameError: it is open already, or too many are.
        """
        if name in self._open:
            raise FrameError("transaction is open already", f"{shown(name)} is open; COMMIT or ABORT it before BEGIN")
        if len(self._open) >= self._policy.max_transactions:
            raise FrameError(
                "too many open transactions",
                f"{len(self._open)} transactions are open, and max-transactions is {self._policy.max_transactions}",
            )
        self._open[name] = Transaction(Upward(self._session_id, self._batch_numbers))

    def join(self, name: str, frames: int) -> Transaction:
        """The open transaction that so many frames are to join.

        Raises:
            FrameError: there is none of this name, or the frames are too many for it.
        """
        transaction = self._find(name)
        transaction.frames += frames
        if transaction.frames > self._policy.max_transaction_frames:
            raise FrameError(
                "too many frames in a transaction",
                f"transaction {shown(name)} has more than {self._policy.max_transaction_frames:,} frames, "
                "max-transaction-frames",
            )
        return transaction

    def check_size(self, name: str, transaction: Transaction) -> None:
        """Refuse a transaction that has grown too large to travel as one envelope.

        Raises:
            FrameError: it has.
        """
        if transaction.upward.size > self._policy.max_transaction_size:
            raise FrameError(
                "transaction too large",
                f"the SENDs of transaction {shown(name)} have {transaction.upward.size:,} octets, "
                f"and max-transaction-size is {self._policy.max_transaction_size:,}",
            )

    def end(self, name: str) -> Transaction:
        """Close the transaction, for COMMIT or ABORT.

        Raises:
            FrameError: there is none of this name.
        """
        transaction = self._find(name)
        del self._open[name]
        return transaction

    def _find(self, name: str) -> Transaction:
        if name not in self._open:
            raise FrameError("unknown transaction", f"there is no open transaction {shown(name)}; BEGIN opens one")
        return self._open[name]
