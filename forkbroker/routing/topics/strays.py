"""Persistent messages to topics that nobody has subscribed to, named without a prefix.

For some brokers a name without `/queue/` or `/topic/` is a queue. A client that was written for one of them sends jobs
to a topic here, gets its receipts, and every job is gone. A topic's message that nobody wants is no fault, but one
that is to survive is worth a line in the log, once for each name.
"""

from __future__ import annotations

from forkbroker.caches import Cache
from forkbroker.destinations import Sort
from forkbroker.routing.handover import Rule
from forkbroker.routing.queues.registry import shown

_NAMES_OCTETS = 262_144
"""Of names that were told: a client that invents names gets some of them told twice, and takes no memory."""


class Strays(Rule):
    """Which names an administrator was told of."""

    ANEW = ("_told",)
    """To tell of a name once more does no harm."""

    def __init__(self, notes: list[str]) -> None:
        """`notes` gets what an administrator should know."""
        self._notes = notes
        self._told: Cache[bytes, bool] = Cache(_NAMES_OCTETS)

    def note(self, topic: bytes) -> None:
        """A persistent message to this topic, whose sender wrote no prefix, had no receiver."""
        if self._told.get(topic):
            return
        self._told.remember(topic, True)
        name = topic.removeprefix(Sort.TOPIC.value.encode())
        self._notes.append(
            f"topic {shown(topic)}: a persistent message had no subscriber and was dropped; if {shown(name)} is meant "
            f"to be a queue, send to {shown(Sort.QUEUE.value.encode() + name)}, or see --bare-destinations"
        )
