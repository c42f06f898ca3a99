"""What was sent, taken and answered over several lives of a broker, written down outside of it, and what must be true.

A *life* is one run of a broker on a store; the next one goes on with what the last one has left, however that ended.
A message is known by its text. What is written down is what clients have seen, in the order in which they saw it. But
a client may read the last delivery of its old connection after another client has read the next one: the deliveries of
a message within one life are in the order of the numbers that the broker gives them (`delivery-count`).

What must be true in the end, after everything was drained:

- a persistent message whose RECEIPT came was delivered, and its last delivery was answered; one that is not persistent
  was so unless the broker's life has ended, and is never delivered in another life;
- after a delivery whose ACK got its RECEIPT there is no other one, in this life or a later one;
- every delivery but the first is marked `redelivered:true`; not one of a later life in which it was sent again, as the
  first one may have been undone (see below);
- of a transaction whose COMMIT got its RECEIPT everything was done, of one that was not committed nothing. One whose
  RECEIPT is missing was done as a whole or not at all; but what was done may be undone by the end of a life, as
  consumers may see a message before it is on disk. So only what outlived that, or was answered for good, is evidence;
- a consumer that has a queue for itself gets the messages of one producer in the order in which they were sent, but
  for the redelivered ones, and for those that were sent again, as the first one may have been refused. Where several
  compete, what was offered to one that died comes late to another.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto
from itertools import pairwise


class Stage(Enum):
    """How far a transaction has come."""

    OPEN = auto()
    """COMMIT was not sent, or ABORT was."""
    ASKED = auto()
    """COMMIT was sent."""
    CONFIRMED = auto()


@dataclass(slots=True, eq=False)
class Sent:
    """A message that was sent."""

    text: str
    producer: str
    place: int
    """Of all messages, in the order of sending."""
    life: int
    is_persistent: bool
    transaction: Transaction | None = None
    is_confirmed: bool = False
    """The RECEIPT of its SEND came, outside of a transaction."""
    again: list[int] = field(default_factory=list)
    """Lives in which it was sent again, with the same `dedup-id`."""


@dataclass(slots=True, eq=False)
class Taken:
    """A delivery that a consumer has read."""

    text: str
    consumer: str
    """One connection of one consumer."""
    life: int
    is_redelivered: bool
    number: int = 1
    """Of the deliveries of this message, as the broker counts them."""
    is_shared: bool = False
    """Others compete for the messages of this queue."""
    is_answered: bool = False
    """An ACK was sent, and not in a transaction that came to nothing."""
    is_confirmed: bool = False
    """Its RECEIPT came, or what has followed shows that it was done for good."""


@dataclass(slots=True, eq=False)
class Transaction:
    """What belongs together: messages, and a delivery that was acknowledged."""

    name: str
    life: int
    sent: list[Sent] = field(default_factory=list)
    taken: Taken | None = None
    stage: Stage = Stage.OPEN


@dataclass(slots=True)
class Book:
    """All that happened in one test."""

    life: int = 0
    """The present one."""
    sent: dict[str, Sent] = field(default_factory=dict)
    taken: list[Taken] = field(default_factory=list)
    transactions: list[Transaction] = field(default_factory=list)
    ahead: int = 0
    """Messages sent in this life that nobody has got yet; without those of transactions."""
    _by_text: dict[str, list[Taken]] = field(default_factory=dict)

    def begin_life(self) -> None:
        """Another broker has the store."""
        self.life += 1
        self.ahead = 0

    def send(
        self, text: str, producer: str, *, is_persistent: bool = True, transaction: Transaction | None = None
    ) -> Sent:
        """A message is being sent."""
        sent = Sent(text, producer, len(self.sent), self.life, is_persistent, transaction)
        self.sent[text] = sent
        if transaction is not None:
            transaction.sent.append(sent)
        else:
            self.ahead += 1
        return sent

    def begin(self, name: str) -> Transaction:
        """A transaction begins."""
        transaction = Transaction(name, self.life)
        self.transactions.append(transaction)
        return transaction

    def take(
        self, text: str, consumer: str, *, is_redelivered: bool, number: int = 1, is_shared: bool = False
    ) -> Taken:
        """A consumer has read this message."""
        taken = Taken(text, consumer, self.life, is_redelivered, number, is_shared)
        self.taken.append(taken)
        deliveries = self._by_text.setdefault(text, [])
        deliveries.append(taken)
        sent = self.sent.get(text)
        if len(deliveries) == 1 and sent is not None and sent.transaction is None and sent.life == self.life:
            self.ahead -= 1
        return taken

    def deliveries(self, text: str) -> list[Taken]:
        """Of one message, in order."""
        return sorted(self._by_text.get(text, []), key=lambda taken: (taken.life, taken.number))

    # -- what must be true

    def find_faults(self) -> list[str]:
        """Everything that should not be so, a line for each; empty if the broker is right."""
        for transaction in self.transactions:
            self._judge(transaction)
        return [
            *self._find_strange(),
            *self._find_lost(),
            *self._find_returned(),
            *self._find_unmarked(),
            *self._find_divided(),
            *self._find_disorder(),
        ]

    def _judge(self, transaction: Transaction) -> None:
        """What became of the delivery that was acknowledged in this transaction."""
        if transaction.taken is None or transaction.stage is Stage.CONFIRMED:
            return
        is_asked = transaction.stage is Stage.ASKED
        transaction.taken.is_answered = is_asked and any(self.deliveries(sent.text) for sent in transaction.sent)
        transaction.taken.is_confirmed = is_asked and self._is_evident(transaction)

    def _is_evident(self, transaction: Transaction) -> bool:
        """Some message of it was seen after the last moment at which its end could still have been undone."""
        return any(
            taken.is_confirmed or taken.life > transaction.life or taken.life == self.life
            for sent in transaction.sent
            for taken in self.deliveries(sent.text)
        )

    def _is_due(self, sent: Sent) -> bool:
        """The broker has promised to deliver it."""
        if not sent.is_persistent and sent.life < self.life:
            return False
        if sent.transaction is not None:
            return sent.transaction.stage is Stage.CONFIRMED
        return sent.is_confirmed

    def _find_strange(self) -> list[str]:
        found = []
        for text in self._by_text:
            sent, deliveries = self.sent.get(text), self.deliveries(text)
            if sent is None:
                found.append(f"{text} was never sent")
            elif sent.transaction is not None and sent.transaction.stage is Stage.OPEN:
                found.append(f"{text} was delivered, and its transaction was not committed")
            elif not sent.is_persistent and deliveries[-1].life > sent.life:
                found.append(f"{text} is not persistent, and came in a later life of the broker")
        return found

    def _find_lost(self) -> list[str]:
        return [
            f"{sent.text} was lost" + self._describe(sent)
            for sent in self.sent.values()
            if self._is_due(sent) and not any(taken.is_answered for taken in self.deliveries(sent.text)[-1:])
        ]

    def _describe(self, sent: Sent) -> str:
        deliveries = self.deliveries(sent.text)
        where = ", ".join(f"{taken.consumer} in life {taken.life}" for taken in deliveries)
        return f", sent in life {sent.life} of {self.life}; delivered to {where or 'nobody'}"

    def _find_returned(self) -> list[str]:
        return [
            f"{text} came back to {after.consumer} after {before.consumer} acknowledged it, lives {before.life} and "
            f"{after.life}"
            for text in self._by_text
            for before, after in pairwise(self.deliveries(text))
            if before.is_confirmed
        ]

    def _find_unmarked(self) -> list[str]:
        return [
            f"{text} was delivered again and not marked, to {taken.consumer} in life {taken.life}"
            for text in self._by_text
            for before, taken in pairwise(self.deliveries(text))
            if not (taken.is_redelivered or self._may_be_new(before, taken))
        ]

    def _may_be_new(self, before: Taken, taken: Taken) -> bool:
        sent = self.sent.get(taken.text)
        return sent is not None and any(before.life < life <= taken.life for life in sent.again)

    def _find_divided(self) -> list[str]:
        found = []
        for transaction in self.transactions:
            missing = [sent.text for sent in transaction.sent if not self.deliveries(sent.text)]
            if missing and transaction.stage is not Stage.OPEN and self._is_evident(transaction):
                found.append(f"transaction {transaction.name} was done in part: {', '.join(missing)} is missing")
        return found

    def _find_disorder(self) -> list[str]:
        latest: dict[tuple[str, str], Sent] = {}
        found = []
        for taken in self.taken:
            sent = self.sent.get(taken.text)
            if sent is None or sent.again or taken.is_redelivered or taken.is_shared:
                continue
            before = latest.setdefault((taken.consumer, sent.producer), sent)
            if sent.place < before.place:
                found.append(f"{taken.consumer} got {sent.text} after {before.text}")
            latest[taken.consumer, sent.producer] = sent
        return found
