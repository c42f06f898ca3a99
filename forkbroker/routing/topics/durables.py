"""Durable subscriptions to topics: queues that outlive who reads them, and get what their topic gets.

A durable subscription is known by the name of its queue. Whoever subscribes under this name consumes from it,
several at a time share it, and while nobody does its messages wait. It ends when it is deleted, or when nobody has
used it for as long as its policy says.
"""

from __future__ import annotations

from dataclasses import dataclass

from forkbroker.audience import Audience
from forkbroker.destinations import is_pattern
from forkbroker.patterns import PatternError, check_pattern
from forkbroker.routing.handover import Loaded, Record, Rule
from forkbroker.routing.keeping.custody import Custody
from forkbroker.routing.keeping.fans import MESSAGE_OCTETS
from forkbroker.routing.keeping.journal import Journal
from forkbroker.routing.kit import Kit
from forkbroker.routing.peers import Peer
from forkbroker.routing.queues.queue import Queue
from forkbroker.routing.queues.registry import Queues, shown
from forkbroker.wire.envelope import Envelope

CACHE_OCTETS = 4_194_304
"""Octets of destinations whose durable subscriptions are remembered: some 15,000 with one each."""

_TOUCH_MS = 3_600_000
"""Between two notes in the store that a subscription which is in use is in use."""


@dataclass(slots=True, eq=False)
class Durable(Record):
    """One durable subscription."""

    queue: Queue
    topic: bytes
    """The topic, or a pattern."""
    used_ms: int
    """When somebody last read from it, or began or ended to; milliseconds since the epoch."""


class Durables(Rule):
    """All of them."""

    DUMPED = ("all",)
    ANEW = ("limit", "_audience")

    def __init__(self, kit: Kit, queues: Queues, journal: Journal, custody: Custody, *, limit: int) -> None:
        """`limit`: how many there may be."""
        self._notes = kit.notes
        self._events = kit.events
        self._timers = kit.timers
        self._queues = queues
        self._journal = journal
        self._custody = custody
        self.limit = limit
        """May be changed."""
        self._idle = kit.timers.add("idle-durable", self._expire)
        self.all: dict[bytes, Durable] = {}
        """By the names of their queues; to read."""
        self._audience: Audience[Queue] = Audience(CACHE_OCTETS)

    def rebuild(self, loaded: Loaded) -> None:
        """Let their queues have again what their topics get."""
        for durable in self.all.values():
            self._audience.add(durable.queue, durable.topic)

    def __len__(self) -> int:
        """How many there are."""
        return len(self.all)

    def find(self, name: bytes) -> Durable | None:
        """The one whose queue has this name, if it exists."""
        return self.all.get(name)

    def open(self, name: bytes, topic: bytes, peer: Peer | None = None) -> str | None:
        """Let the peer, or nobody, make the subscription if there is none of this name; or the reason why it can't be.

        Raises:
            PatternError: the topic is a pattern that cannot be used.
        """
        durable = self.all.get(name)
        if durable is None:
            return self._make(name, topic, peer)
        if durable.topic != topic:
            return (
                f"durable subscription {shown(name)} is to {shown(durable.topic)}, not to {shown(topic)}; "
                "delete it by UNSUBSCRIBE, or choose another name"
            )
        self._touch(durable)
        return None

    def restore(self, name: bytes, topic: bytes, used_ms: int) -> None:
        """Take in a subscription that the store has, from before the broker's start.

        One to a pattern that is no longer permitted stays in the store, and what waits for it as well.
        """
        try:
            if is_pattern(topic):
                check_pattern(topic)
        except PatternError as error:
            self._notes.append(f"durable subscription {shown(name)}: not restored, {error}; the store keeps it")
            return
        queue = self._queues.restore(name)
        self._add(Durable(queue, topic, used_ms))

    def drop_unknown(self) -> None:
        """Forget queues for which there is no subscription: the store had messages for one that it does not know.

        Somebody has edited the database. The messages stay there; nobody could ever have read them by their name.
        """
        for queue in self._queues.all():
            if queue.is_durable and queue.name not in self.all:
                self._notes.append(
                    f"durable subscription {shown(queue.name)}: does not exist, the store keeps its "
                    f"{queue.messages:,} messages"
                )
                self._queues.remove(queue)

    def delete(self, name: bytes) -> str | None:
        """Its end; or the reason why not."""
        durable = self.all.get(name)
        if durable is None:
            return None
        if len(durable.queue.readers):
            return f"durable subscription {shown(name)} is in use by another client"
        self._end(durable, "deleted")
        return None

    def end_consumption(self, queue: Queue) -> None:
        """A consumer has left: from now on the time counts, if it was the last one."""
        durable = self.all.get(queue.name)
        if durable is not None:
            self._touch(durable)

    def queues_for(self, destination: bytes) -> tuple[Queue, ...]:
        """The queues that get what is sent to this topic."""
        return self._audience.find(destination) if self.all else ()

    def weigh_copies(self, envelope: Envelope) -> int:
        """Octets that the store has to write for a SEND to a topic, beside what it has to for one subscription."""
        others = len(self.queues_for(envelope.destination)) - 1
        return others * (len(envelope.raw) + envelope.count * MESSAGE_OCTETS) if others > 0 else 0

    def _make(self, name: bytes, topic: bytes, peer: Peer | None) -> str | None:
        if len(self.all) >= self.limit:
            return f"there are {self.limit:,} durable subscriptions already, the limit (max-durables)"
        refusal = self._journal.refusal or self._queues.find_refusal_to_make(name, peer=peer)
        if refusal:
            return f"durable subscription {shown(name)} cannot be created: {refusal}"
        if is_pattern(topic):
            check_pattern(topic)
        durable = Durable(self._queues.make(name, maker=peer), topic, self._timers.wall_ms())
        self._custody.note_owner(durable.queue)
        self._journal.define(name, topic, durable.used_ms)
        self._add(durable)
        self._events.append(f"durable subscription {shown(name)} to {shown(topic)}: created")
        return None

    def _add(self, durable: Durable) -> None:
        self.all[durable.queue.name] = durable
        self._audience.add(durable.queue, durable.topic)
        self._watch(durable)

    def _touch(self, durable: Durable) -> None:
        """It is in use now. The store need not know it to the second."""
        now_ms = self._timers.wall_ms()
        if now_ms - durable.used_ms >= min(_TOUCH_MS, max(1000, durable.queue.policy.idle_expiry // 10)):
            self._journal.define(durable.queue.name, durable.topic, now_ms)
        durable.used_ms = now_ms

    def _watch(self, durable: Durable) -> None:
        idle_ms = durable.queue.policy.idle_expiry
        if idle_ms:
            self._idle.at(durable.used_ms + idle_ms, durable.queue.name)

    def watch_again(self, name: bytes) -> None:
        """The policy of a queue has changed: if it is one of these, it may expire at another time."""
        durable = self.all.get(name)
        if durable is not None:
            self._idle.cancel(name)
            self._watch(durable)

    def _expire(self, name: bytes) -> None:
        durable = self.all[name]
        if len(durable.queue.readers):
            self._touch(durable)
        if durable.used_ms + durable.queue.policy.idle_expiry > self._timers.wall_ms():
            self._watch(durable)
            return
        self._end(durable, f"expired, no client used it for {durable.queue.policy.idle_expiry / 1000:,.0f} s")

    def _end(self, durable: Durable, how: str) -> None:
        queue = durable.queue
        self._events.append(f"durable subscription {shown(queue.name)} to {shown(durable.topic)}: {how}")
        del self.all[queue.name]
        self._idle.cancel(queue.name)
        self._audience.remove(queue, durable.topic)
        self._journal.forget(queue.name)
        self._custody.forget(queue)
