"""What routing counts, under the names that users see, and a queue as it shows itself."""

from __future__ import annotations

from dataclasses import dataclass

from forkbroker.routing.handover import Rule


@dataclass(slots=True)
class Counters(Rule):
    """Totals since the start."""

    messages_received: int = 0
    """Sent by clients, to topics and queues."""
    messages_forwarded: int = 0
    """Copies of messages to topics that went to children."""
    messages_dropped: int = 0
    """Sent to a temporary queue that was gone, or gone with one; the oldest ones of a queue at its limit."""
    messages_refused: int = 0
    """Not accepted: a queue at its limit, or too many queues."""
    messages_claimed: int = 0
    """Taken from queues by children."""
    messages_redelivered: int = 0
    """Of these: not for the first time."""
    messages_acknowledged: int = 0
    messages_requeued: int = 0
    """Back to their place after a delivery: released, or their subscription or child ended."""
    messages_dead_lettered: int = 0
    messages_expired: int = 0
    messages_delayed: int = 0
    """Scheduled by their senders for later."""
    messages_deduplicated: int = 0
    """Sent again with a `dedup-id` that was remembered, and so not accepted again."""
    messages_written: int = 0
    """Told to the store because they are persistent."""
    messages_spilled: int = 0
    """Told to the store because memory is bounded."""
    leases_ended: int = 0
    """Messages taken back from consumers that held them for too long."""
    settlements_late: int = 0
    """Settlements of messages that were no longer the child's."""
    offers_made: int = 0
    offers_lost: int = 0
    """Answers of candidates that were not the fastest."""
    offers_passed: int = 0
    """Answers of candidates that had no room."""
    offers_overdue: int = 0
    """Offers that a candidate left unanswered for too long."""
    producers_held: int = 0
    """Times that a producer was held back by a queue at its limit."""


@dataclass(frozen=True, slots=True)
class QueueView:
    """A queue at one moment."""

    name: bytes
    ready: int
    """Messages that wait for a consumer."""
    unsettled: int
    """Messages that are offered, delivered and not settled, or that wait for their redelivery."""
    octets: int
    """Bytes of all these messages, with headers and overhead, in memory and on disk."""
    consumers: int
    paged: int = 0
    """Of the ready ones: not in memory."""
