"""Settings of routing, as frozen records."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Policy:
    """What the administrator decides about topics and queues."""

    broadcast_all: bool = False
    """Topics go to every child, not only to those that told their interest."""
    offer_candidates: int = 3
    """Children that one message is offered to at most: a few beat one (no waiting for a slow one) and all (copies)."""
    max_deliveries: int = 16
    """Deliveries of one message before it is a dead letter; 0: no limit. RabbitMQ's quorum queues: 20, ActiveMQ: 6."""
    max_queue_bytes: int = 268_435_456
    """Octets of memory that a queue's messages use before its producers are held back or refused."""
    max_queues: int = 10_000
    """Queues at one time."""
    refuse_when_full: bool = False
    """A queue at its limit refuses its producers instead of holding them back."""
    dead_letter_queue: bytes = b"/queue/DLQ"
    """Where messages go that no consumer could work on."""
    answer_timeout_s: float = 1.0
    """A candidate that has not answered an offer for so long is passed over until it answers."""
