"""All children as consumers: their subscriptions to queues, and whether anything can be offered to them.

What changes here is noted for the next turn: a queue for which an offer may have become possible, and a child of which
something has come back, so that it may accept what it did not before.
"""

from __future__ import annotations

from forkbroker.routing.handover import Loaded, Rule
from forkbroker.routing.kit import Kit
from forkbroker.routing.offers.consumers import Child, Consumer, Consumers
from forkbroker.routing.offers.guards import Guards
from forkbroker.routing.peers import Peer
from forkbroker.routing.queues.queue import Queue
from forkbroker.routing.queues.registry import Queues


class Clientele(Rule):
    """The children of one router."""

    DUMPED = ("children", "consumers", "eased", "guards", "_is_stopped")
    ANEW = ("_max_unsettled",)

    def __init__(self, kit: Kit, queues: Queues, max_unsettled: int) -> None:
        """`max_unsettled`: octets that one child may be offered and hold."""
        self._max_unsettled = max_unsettled
        self._changed = queues.changed
        self.children: dict[Peer, Child] = {}
        self.consumers: dict[Queue, Consumers] = {}
        """Of queues that have, or had, some."""
        self.eased: dict[Child, None] = {}
        """Those of which something has come back."""
        self.guards = Guards(kit.timers, queues.changed, self.eased)
        self._is_stopped = False
        queues.watchers.append(self._forget)

    def rebuild(self, loaded: Loaded) -> None:
        """Let all children have their limit, and all consumers note what changes."""
        for child in self.children.values():
            child.max_octets = self._max_unsettled
        for consumers in loaded.all(Consumers):
            consumers.changed, consumers.eased = self._changed, self.eased

    def consumers_of(self, queue: Queue) -> Consumers:
        """All consumers of this queue."""
        consumers = self.consumers.get(queue)
        if consumers is None:
            consumers = self.consumers[queue] = Consumers(queue, self._changed, self.eased)
        return consumers

    def _forget(self, queue: Queue) -> None:
        """The queue is gone."""
        self.consumers.pop(queue, None)

    # -- children

    def adopt(self, max_unsettled: int) -> None:
        """Every child may be offered and hold so much from now on; what it holds stays."""
        self._max_unsettled = max_unsettled
        for child in self.children.values():
            child.max_octets = max_unsettled
            for consumer in list(child.kept_out):
                consumer.row.refresh(consumer)

    def add_peer(self, peer: Peer) -> None:
        """A new peer."""
        child = self.children[peer] = Child(peer, self._max_unsettled)
        child.is_stopped = self._is_stopped

    def begin_to_end(self, peer: Peer) -> None:
        """Nothing more comes from the peer, but some of what it has sent may wait to be applied.

        Offer nothing more to it, and of the queues whose messages it holds to nobody, before these are back.
        """
        child = self.children[peer]
        child.has_ended = True
        for consumer in child.consumers.values():
            if len(consumer.unsettled):
                self.block(consumer)

    def take_out(self, peer: Peer) -> Child:
        """All that the peer has sent was applied, and nothing more comes."""
        child = self.children.pop(peer)
        self.guards.forget(child)
        return child

    def forget_child(self, child: Child) -> None:
        """It holds nothing any more."""
        # each knows the other: no cycle is left for a collector
        child.consumers.clear()
        child.kept_out.clear()
        child.passed.clear()
        self.eased.pop(child, None)

    def stop(self) -> None:
        """Offer nothing more to who acknowledges: the broker ends, and what is unsettled then comes again.

        What is offered already is decided, and settlements are applied. Consumers that settle by reading go on.
        """
        self._is_stopped = True
        for child in self.children.values():
            child.is_stopped = True

    def become_ready(self, peer: Peer) -> None:
        """The peer has room again."""
        child = self.children[peer]
        for consumer in child.passed:
            consumer.has_passed = False
            consumer.row.refresh(consumer)
        child.passed.clear()

    # -- consumers

    def enlist(self, consumer: Consumer) -> None:
        """A new one."""
        consumer.child.consumers[consumer.token] = consumer
        consumer.row.add(consumer)
        self._changed[consumer.queue] = None

    def dismiss(self, consumer: Consumer) -> None:
        """It ends: nothing more is offered to it, and its queue offers nothing before what it holds is back."""
        consumer.is_gone = True
        self.block(consumer)
        consumer.withhold(-consumer.withheld)
        consumer.child.kept_out.pop(consumer, None)
        self.eased[consumer.child] = None
        consumer.row.remove(consumer)
        if not consumer.queue.readers.all:
            self.guards.stop_waiting(consumer.queue)

    def block(self, consumer: Consumer) -> None:
        """What the consumer holds, or a part of it, goes back to the queue in several turns, before anything else."""
        if not consumer.is_returning:
            consumer.is_returning = True
            consumer.queue.returning += 1
            self._changed[consumer.queue] = None

    def unblock(self, consumer: Consumer) -> None:
        """All of that is back."""
        if consumer.is_returning:
            consumer.is_returning = False
            consumer.queue.returning -= 1
            self._changed[consumer.queue] = None

    def ease(self) -> None:
        """Look at all children of which something has come back: consumers that they kept out may be willing now."""
        while self.eased:
            child = self.eased.popitem()[0]
            if child.is_idle:
                self.guards.become_idle(child)
            kept_out, child.kept_out = child.kept_out, {}
            for consumer in kept_out:
                consumer.row.refresh(consumer)
