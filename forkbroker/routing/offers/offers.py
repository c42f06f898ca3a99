"""Offers of what is in queues to consumers.

Nothing is offered at once: a queue whose messages or consumers changed is noted, and `tick` makes the offers of all
noted queues, once a turn of the parent's loop, so that messages which arrived together are offered together.

An offer gets one candidate while messages abound, as every other copy of it would be wasted, and several when
messages are scarcer than consumers that wait, so that none waits for a slow child. A run is no longer than its part
when all that is ready is shared out among the willing.

What one child can use up is bounded, so that one that is stopped, or never acknowledges, harms nobody else: never more
than a quarter of the free slots, and in octets (`max_unsettled`) what its subscriptions were offered and hold together.
One of them gets at most as much as is left for the others. A message that is larger goes to a child that has nothing
else.
"""

from __future__ import annotations

from itertools import islice

from forkbroker.errors import EnvelopeError
from forkbroker.routing.handover import Rule
from forkbroker.routing.jobs.misfits import leave_out
from forkbroker.routing.keeping.paging import Paging
from forkbroker.routing.kit import Kit
from forkbroker.routing.offers.blame import is_suspect
from forkbroker.routing.offers.claims import Claims, Event, Offer
from forkbroker.routing.offers.clientele import Clientele
from forkbroker.routing.offers.consumers import Consumer, Consumers
from forkbroker.routing.peers import Outbox
from forkbroker.routing.queues.lanes import Lane
from forkbroker.routing.queues.queue import Queue
from forkbroker.routing.queues.registry import Queues
from forkbroker.routing.queues.runs import Run
from forkbroker.wire.envelope import pack_run
from forkbroker.wire.kinds import Kind


class Offers(Rule):
    """All offers that are made."""

    DUMPED = ("_has_more",)
    ANEW = ("_width",)

    def __init__(
        self, kit: Kit, queues: Queues, paging: Paging, claims: Claims, clientele: Clientele, *, width: int
    ) -> None:
        """`width`: candidates of one offer, at most."""
        self._kit = kit
        self._counters = kit.counters
        self._out = kit.out
        self._changed = queues.changed
        self._paging = paging
        self._claims = claims
        self._free = claims.free
        self._clientele = clientele
        self._consumers = clientele.consumers
        self._guards = clientele.guards
        self._width = width
        self._has_more = False
        """Of the queues for which an offer may have become possible not all could be looked at in the last turn."""

    def adopt(self, width: int) -> None:
        """Offer to so many candidates from now on."""
        self._width = width

    def tick(self, now: float) -> None:
        """Make the offers that have become possible."""
        changed, steps = self._changed, self._kit.steps
        self._has_more = len(changed) > steps
        for queue in list(islice(changed, steps)):
            if not self._free:
                break
            del changed[queue]
            if not self._make_offers(queue, now):
                # behind the others: slots are scarce, and it had its turn
                changed[queue] = None

    def deadline(self) -> float | None:
        """When there is something to do, even if nothing is received (seconds)."""
        if self._has_more and self._changed and self._free:
            return self._kit.timers.now
        return self._claims.deadline()

    def _make_offers(self, queue: Queue, now: float) -> bool:
        """All offers of a queue that are possible; tell whether the slots sufficed."""
        if queue.returning:
            return True
        ready, willing = queue.ready, len(queue.readers.willing)
        if willing and queue.messages > ready:
            self._paging.refill(queue)
        if not willing:
            if queue.window.used > queue.window.limit:
                self._paging.relieve(queue)
            return True
        if not ready:
            return True
        consumers = self._consumers[queue]
        share = -(-ready // willing)
        width = max(1, min(self._width, willing // ready))
        while queue.ready and consumers.willing:
            lane = queue.lanes[0]
            if not lane.ready or lane.stubs:
                # the store may have to be asked for what comes first
                found = self._paging.next_lane(queue)
                if found is None:
                    break
                lane = found
            if not self._free:
                return False
            head = lane.head()
            if head.details.crashes and queue.policy.poison_after and is_suspect(head.details):
                if not self._offer_suspect(consumers, lane, head):
                    return True
                continue
            if self._guards.waiting:
                self._guards.stop_waiting(queue)
            # consumers that acknowledge nothing are never busy, and simply take turns
            wanted = 1 if next(iter(consumers.willing)).auto else width
            candidates = consumers.take(wanted, head, self._most_offers())
            if not candidates:
                return True
            most, room = min(share, head.count), head.cost
            for candidate in candidates:
                most, room = min(most, candidate.free), min(room, candidate.room)
            if head.cost > room:
                most = max(1, head.affordable(most, room))
            self._make_offer(consumers, lane, candidates, most, now)
        return True

    def _make_offer(self, consumers: Consumers, lane: Lane, candidates: list[Consumer], most: int, now: float) -> None:
        run = consumers.queue.take(lane, most)
        consumers.charge(candidates, run.count, run.cost)
        self._send(self._claims.open_offer(consumers.queue, run, candidates, now))

    def _offer_suspect(self, consumers: Consumers, lane: Lane, head: Run) -> bool:
        """Offer a message that a crash has made suspect, alone; tell whether it was possible.

        To an idle child if there is one, or is in time. If not, it stands beside others, and a crash does not convict.
        """
        queue, now = consumers.queue, self._kit.timers.now
        consumer = consumers.take_idle(head.avoid)
        if consumer is not None:
            self._guards.give(consumer.child, queue, head)
            self._make_offer(consumers, lane, [consumer], 1, now)
            return True
        busy = consumers.take(1, head, self._most_offers())
        if not busy:
            return False
        if self._guards.must_wait(queue, head, busy[0].child):
            consumers.refresh(busy[0])
            consumers.prefer(busy[0])
            return False
        self._make_offer(consumers, lane, busy, 1, now)
        return True

    def _most_offers(self) -> int:
        """How many open offers a child may have: with one more it would have more than a quarter of the free slots."""
        return len(self._free) // 4 or 1

    def _send(self, offer: Offer) -> None:
        packed: Outbox = []
        try:
            run = offer.run
            for peer, token in offer.candidates:
                buffers = pack_run(
                    Kind.OFFER,
                    run.envelope,
                    first=run.first,
                    count=run.count,
                    token=token,
                    slot=offer.slot,
                    number=offer.number,
                    serial=run.serial,
                    deliveries=run.deliveries,
                    destination=offer.queue.name,
                    details=run.details,
                )
                packed.append((peer, buffers))
        except EnvelopeError as error:
            self._withdraw(offer, error)
            return
        self._counters.offers_made += 1
        self._out += packed

    def _withdraw(self, offer: Offer, error: EnvelopeError) -> None:
        """The messages can't be sent to anybody: leave them out, and go on with what follows."""
        for key, consumer in list(offer.candidates.items()):
            self._claims.answer(offer, key, Event.LOST)
            consumer.child.open_offers -= 1
            consumer.take_back(offer.count, offer.cost, has_passed=False)
            self._counters.offers_lost += 1
            self._clientele.refresh(consumer)
        offer.queue.forget(offer.run)
        leave_out(self._kit, offer.queue.name, offer.run, error)
