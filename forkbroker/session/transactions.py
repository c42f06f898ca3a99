"""Open transactions: what waits for COMMIT.

A transaction's SENDs and settlements are collected here and travel as one envelope: the parent applies all of it, or
nothing. ABORT, and the end of the session, forget it; its settlements are then open again, under their old ids.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from forkbroker.session.budget import Budget
from forkbroker.session.errors import FrameError, shown
from forkbroker.session.policy import SessionPolicy
from forkbroker.session.subscriptions import Subscription
from forkbroker.session.upward import SendPlan, Upward
from forkbroker.wire.envelope import HEADER, SETTLEMENT, Buffer
from forkbroker.wire.kinds import Outcome

_ENVELOPE, _ENTRY = HEADER.size, SETTLEMENT.size
_OPEN = 2_000
"""Octets of memory for an open transaction with nothing in it; then for a settlement, and for each delivery of it."""
_SETTLEMENT, _DELIVERY = 400, 100


@dataclass(slots=True)
class Settlement:
    """Deliveries of one subscription that an ACK or NACK in a transaction has settled: number → serial."""

    subscription: Subscription
    deliveries: dict[int, int]
    outcome: Outcome
    reason: bytes = b""
    """What came with a NACK."""


@dataclass(slots=True)
class Transaction:
    """One open transaction."""

    upward: Upward
    weight: int
    """What the budget counts for it."""
    settlements: list[Settlement] = field(default_factory=list)
    settled: int = 0
    """How many deliveries the settlements name."""
    reasons: int = 0
    """Octets of what came with NACKs."""
    frames: int = 0
    destinations: set[bytes] = field(default_factory=set)
    """Of its SENDs."""

    @property
    def size(self) -> int:
        """Octets that it takes at most as one envelope."""
        return self.upward.size + _ENTRY * self.settled + _ENVELOPE * len(self.settlements) + self.reasons


class Transactions:
    """The open transactions of one session; several may be open at a time."""

    def __init__(self, policy: SessionPolicy, branch: Callable[[], Upward], budget: Budget) -> None:
        """`branch` makes what a transaction collects in; `budget` is the client's, for all that transactions keep."""
        self._policy = policy
        self._branch = branch
        self._budget = budget
        self._open: dict[str, Transaction] = {}

    def begin(self, name: str) -> None:
        """Open one.

        Raises:
            FrameError: it is open already, too many are, or the client's memory is used up.
        """
        if name in self._open:
            raise FrameError("transaction is open already", f"{shown(name)} is open; COMMIT or ABORT it before BEGIN")
        if len(self._open) >= self._policy.max_transactions:
            raise FrameError(
                "too many open transactions",
                f"{len(self._open)} transactions are open, and max-transactions is {self._policy.max_transactions}",
            )
        transaction = Transaction(self._branch(), weight=0)
        self._open[name] = transaction
        self._charge(transaction, _OPEN + 2 * len(name), "BEGIN")

    def send(self, name: str, plan: SendPlan, bodies: list[Buffer]) -> None:
        """Let SENDs with one header block join.

        Raises:
            FrameError: there is no transaction of this name, it has become too large, or the client's memory is used
                up.
        """
        transaction = self.join(name, len(bodies))
        before = transaction.upward.memory
        transaction.upward.send(plan, bodies)
        transaction.destinations.add(plan.destination)
        self._check_size(name, transaction)
        self._charge(transaction, transaction.upward.memory - before, "this SEND")

    def settle(self, name: str, transaction: Transaction, settlement: Settlement) -> None:
        """Let the settlement of an ACK or NACK join, whose frame has joined already.

        Raises:
            FrameError: the transaction has become too large, or the client's memory is used up.
        """
        transaction.settlements.append(settlement)
        transaction.settled += len(settlement.deliveries)
        transaction.reasons += len(settlement.reason)
        self._check_size(name, transaction)
        octets = _SETTLEMENT + _DELIVERY * len(settlement.deliveries) + len(settlement.reason)
        self._charge(transaction, octets, "this ACK or NACK")

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

    def end(self, name: str) -> Transaction:
        """Close the transaction, for COMMIT or ABORT.

        Raises:
            FrameError: there is none of this name.
        """
        transaction = self._find(name)
        del self._open[name]
        self._budget.give(transaction.weight)
        return transaction

    def destinations(self) -> set[bytes]:
        """Where the SENDs of all that are open go."""
        return set().union(*(transaction.destinations for transaction in self._open.values()))

    def _check_size(self, name: str, transaction: Transaction) -> None:
        """Refuse a transaction that has grown too large to travel as one envelope."""
        size = transaction.size
        if size > self._policy.max_transaction_size:
            raise FrameError(
                "transaction too large",
                f"transaction {shown(name)} takes {size:,} bytes, "
                f"and max-transaction-size is {self._policy.max_transaction_size:,}",
            )

    def _charge(self, transaction: Transaction, octets: int, what: str) -> None:
        transaction.weight += octets
        self._budget.take(octets, what)

    def _find(self, name: str) -> Transaction:
        if name not in self._open:
            raise FrameError("unknown transaction", f"there is no open transaction {shown(name)}; BEGIN opens one")
        return self._open[name]
