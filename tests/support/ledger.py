"""What was sent, delivered and acknowledged, written down outside the broker, and what must be true of it.

The order in which a test happens to read its sockets proves nothing: of two deliveries of one message, the second may
be read first. So the rules lean on what the broker says of each delivery, its `delivery-count`:

- no two deliveries of a message have the same count, and `redelivered:true` stands on those above the first;
- an acknowledgement that got its RECEIPT belongs to the last delivery, and there is one at most;
- in the end the last delivery of each message was acknowledged; whether the RECEIPT came back or its client was
  killed before, is the same: either the broker applied it, or there would have been another delivery.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class Delivery:
    """A MESSAGE that a consumer has read."""

    message: str
    """The text that the test gave it."""
    consumer: str
    """One connection of one consumer."""
    count: int
    """The `delivery-count`; 1 when the header is missing."""
    is_redelivered: bool
    is_answered: bool = False
    """An ACK for it was sent."""
    is_confirmed: bool = False
    """The RECEIPT of that ACK came."""


@dataclass(slots=True)
class Ledger:
    """The messages of one test."""

    sent: list[str] = field(default_factory=list)
    """In order; only those whose RECEIPT came, or that are known to have arrived."""
    deliveries: dict[str, list[Delivery]] = field(default_factory=dict)
    """By message, in the order of reading."""
    lines: list[Delivery] = field(default_factory=list)
    """All deliveries in the order of reading."""

    def send(self, message: str) -> None:
        """A message was sent."""
        self.sent.append(message)

    def deliver(self, message: str, consumer: str, headers: dict[str, str]) -> Delivery:
        """A consumer has read this message with these headers."""
        count = int(headers.get("delivery-count", "1"))
        delivery = Delivery(message, consumer, count, headers.get("redelivered") == "true")
        self.deliveries.setdefault(message, []).append(delivery)
        self.lines.append(delivery)
        return delivery

    @property
    def unseen(self) -> list[str]:
        """What was sent and never delivered."""
        return [message for message in self.sent if message not in self.deliveries]

    @property
    def unanswered(self) -> list[str]:
        """What was sent, and whose last delivery nobody has acknowledged yet."""
        return [message for message in self.sent if not self._is_answered(message)]

    @property
    def repeated(self) -> int:
        """How many deliveries were not the first of their message."""
        return sum(len(deliveries) - 1 for deliveries in self.deliveries.values())

    def _is_answered(self, message: str) -> bool:
        deliveries = self.deliveries.get(message)
        return bool(deliveries) and max(deliveries, key=lambda delivery: delivery.count).is_answered

    def find_mismarked(self) -> list[str]:
        """What the broker says wrongly about its deliveries, a line for each; true in every acknowledgement mode."""
        found = [f"{message} was never sent" for message in self.deliveries.keys() - set(self.sent)]
        for message, deliveries in self.deliveries.items():
            counts = [delivery.count for delivery in deliveries]
            if len(set(counts)) < len(counts):
                found.append(f"{message} was delivered with counts {counts}, two of them equal")
            found += [
                f"{message}: redelivered is {delivery.is_redelivered}, delivery-count {delivery.count}"
                for delivery in deliveries
                if delivery.is_redelivered != (delivery.count > 1)
            ]
        return found

    def find_unsettled(self) -> list[str]:
        """What was not settled exactly once, a line for each, once the queue is empty; for acknowledged modes."""
        found = [f"{message} was lost" for message in self.unanswered]
        for message, deliveries in self.deliveries.items():
            confirmed = [delivery.count for delivery in deliveries if delivery.is_confirmed]
            last = max(delivery.count for delivery in deliveries)
            if len(confirmed) > 1:
                found.append(f"{message} was acknowledged with a RECEIPT {len(confirmed)} times")
            if confirmed and max(confirmed) < last:
                found.append(f"{message} came back after the RECEIPT of its ACK")
        return found

    def find_disorder(self) -> list[str]:
        """First deliveries that overtook an earlier message at the same consumer, a line for each."""
        place = {message: place for place, message in enumerate(self.sent)}
        latest: dict[str, int] = {}
        found = []
        for delivery in self.lines:
            if delivery.count == 1 and delivery.message in place:
                before = latest.get(delivery.consumer, -1)
                if place[delivery.message] < before:
                    found.append(f"{delivery.consumer} got {delivery.message} after {self.sent[before]}")
                latest[delivery.consumer] = max(before, place[delivery.message])
        return found

    def shares(self) -> Counter[str]:
        """Deliveries of each consumer."""
        return Counter(delivery.consumer for delivery in self.lines)


def confirm(deliveries: Iterable[Delivery]) -> None:
    """The RECEIPT of an ACK came: all these are settled."""
    for delivery in deliveries:
        delivery.is_answered = delivery.is_confirmed = True
