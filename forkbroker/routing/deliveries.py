"""Between queues and consumers: offers, answers, settlements, and what comes back.

Nothing is offered at once: a queue whose messages or consumers changed is noted, and `tick` makes the offers of all
noted queues, once a turn of the parent's loop, so that messages which arrived together are offered together.

An offer gets one candidate while messages abound, as every other copy of it would be wasted, and several when
messages are scarcer than consumers that wait, so that none waits for a slow child. A run is no longer than its part
when all that is ready is shared out among the willing.

Where the policy of a queue sets a lease, a consumer that holds messages for longer loses them: they go back as after
any other delivery in vain, and an ACK that comes after all is late. It gives back the consumer's credit, which is
withheld until then: who hangs with one job is not given another one, or the same.
"""

from __future__ import annotations

from collections.abc import Iterable

from forkbroker.errors import EnvelopeError
from forkbroker.routing.claims import Claims, Event, Fate, Offer, Slots
from forkbroker.routing.consumers import Consumer
from forkbroker.routing.counters import Counters
from forkbroker.routing.durables import Durables
from forkbroker.routing.lanes import Lane
from forkbroker.routing.paging import Paging
from forkbroker.routing.peers import Outbox, Peer, Token
from forkbroker.routing.policies import Policy
from forkbroker.routing.queue import Queue
from forkbroker.routing.queues import Queues, is_durable
from forkbroker.routing.returns import Returns
from forkbroker.routing.runs import Run
from forkbroker.routing.timers import Timers
from forkbroker.wire.envelope import Envelope, pack_run
from forkbroker.wire.kinds import Flag, Kind, Outcome

_GUARD_MS = 1000
"""For so long a consumer that has a suspect message gets no other one."""


class _Child:
    """What one peer consumes."""

    __slots__ = ("consumers", "passed")

    def __init__(self) -> None:
        self.consumers: dict[Token, Consumer] = {}
        self.passed: list[Consumer] = []
        """Those that wait for READY."""


class Deliveries:
    """The consumers of all queues, and what they were offered and hold."""

    def __init__(
        self,
        policy: Policy,
        slots: Slots,
        queues: Queues,
        returns: Returns,
        paging: Paging,
        durables: Durables,
        counters: Counters,
        timers: Timers,
        out: Outbox,
    ) -> None:
        """Offers go to `out`."""
        self._width = policy.offer_candidates
        self._counters = counters
        self._out = out
        self._queues = queues
        self._returns = returns
        self._paging = paging
        self._durables = durables
        self._timers = timers
        self._leases = timers.add("lease", self._end_leases)
        self._guards = timers.add("guard", self._end_guard)
        self._claims = Claims(slots, policy.answer_timeout_s)
        self._children: dict[Peer, _Child] = {}
        self._is_stopped = False

    def stop_offers(self) -> None:
        """Offer nothing more: the broker ends. What is offered already is decided, and settlements are applied."""
        self._is_stopped = True

    def add_peer(self, peer: Peer) -> None:
        """A new peer."""
        self._children[peer] = _Child()

    def peer_ended(self, peer: Peer, crash: str) -> None:
        """All that the peer has sent was received, and nothing more comes: take back what it held.

        `crash`: how its process ended, if it crashed.
        """
        for offer, key in self._claims.open_for(peer):
            offer.crash = crash or offer.crash
            self._apply(offer, self._claims.answer(offer, key, Event.ENDED))
        for consumer in self._children.pop(peer).consumers.values():
            self._end(consumer, crash)

    def subscribe(self, peer: Peer, envelope: Envelope) -> str | None:
        """A new consumer, or the reason why not.

        Raises:
            EnvelopeError: the token is in use, or this is not what temporary queues are called.
            PatternError: a durable subscription is to a pattern that cannot be used.
        """
        token, flags = Token(envelope.token), envelope.flags
        consumers = self._children[peer].consumers
        if token in consumers:
            raise EnvelopeError(f"SUBSCRIBE: token {token} is in use")
        queue = self._open(peer, envelope)
        if isinstance(queue, str):
            return queue
        consumers[token] = consumer = Consumer(
            queue,
            peer=peer,
            token=token,
            credit=envelope.count,
            auto=bool(flags & Flag.AUTO),
            exclusive=bool(flags & Flag.EXCLUSIVE),
        )
        queue.consumers.add(consumer)
        self._queues.changed[queue] = None
        return None

    def _open(self, peer: Peer, envelope: Envelope) -> Queue | str:
        """The queue that a SUBSCRIBE means."""
        name = envelope.destination
        if envelope.flags & Flag.DURABLE:
            name = envelope.block
            if not is_durable(name):
                raise EnvelopeError(f"SUBSCRIBE: {name!r} is not the name of a durable subscription")
            refusal = self._durables.open(name, envelope.destination)
            if refusal is not None:
                return refusal
        return self._queues.open(name, peer, is_temporary=bool(envelope.flags & Flag.TEMPORARY))

    def unsubscribe(self, peer: Peer, token: Token) -> None:
        """End of a consumer, if it is one: a SUBSCRIBE may have been refused, and its child not know it yet."""
        consumer = self._children[peer].consumers.pop(token, None)
        if consumer is not None:
            self._end(consumer)

    def has_lost(self, peer: Peer, token: Token, entries: Iterable[tuple[int, int, Outcome]]) -> bool:
        """Whether leases have ended of what these settlements name."""
        consumer = self._children[peer].consumers.get(token)
        if consumer is None or not consumer.queue.policy.lease:
            return False
        return any(not consumer.unsettled.has(serial, count) for serial, count, _ in entries)

    def become_ready(self, peer: Peer) -> None:
        """The peer has room again."""
        child = self._children[peer]
        for consumer in child.passed:
            consumer.has_passed = False
            self._refresh(consumer)
        child.passed.clear()

    def answer(self, peer: Peer, envelope: Envelope, event: Event) -> None:
        """CLAIMED, LOST or PASSED.

        Raises:
            AssertionError: no such answer can come from this child.
        """
        key = (peer, Token(envelope.token))
        offer = self._claims.find(envelope.number, key)
        consumer = offer.candidates[key]
        if consumer.is_gone and event is Event.CLAIMED:
            raise AssertionError(f"offer {offer.number} was claimed for subscription {key[1]}, which had ended")
        is_overdue = self._claims.is_overdue(offer)
        fate = self._claims.answer(offer, key, event)
        consumer.open_offers -= 1
        consumer.overdue -= is_overdue
        if fate is Fate.CLAIMED:
            self._hand_over(offer.run, consumer)
        else:
            self._take_refusal(consumer, offer.count, event)
            self._apply(offer, fate)
        self._refresh(consumer)
        if event is Event.LOST:
            consumer.queue.consumers.prefer(consumer)

    def settle(self, peer: Peer, token: Token, entries: Iterable[tuple[int, int, Outcome]]) -> None:
        """Apply settlements of one subscription: (serial of the first message, how many, outcome).

        What it does not hold, perhaps no longer, is counted and ignored.
        """
        consumer = self._children[peer].consumers.get(token)
        if consumer is None:
            self._counters.settlements_late += sum(count for _, count, _ in entries)
            return
        for serial, count, outcome in entries:
            late = count
            for run in consumer.unsettled.settle(serial, count):
                late -= run.count
                consumer.free += run.count
                self._settle_run(consumer.queue, run, outcome)
            self._counters.settlements_late += late
            consumer.regain(late)
        self._refresh(consumer)
        self._queues.tidy(consumer.queue)

    def tick(self, now: float) -> None:
        """Deal with what is overdue, then make the offers that have become possible."""
        for offer, fate in self._claims.take_overdue(now):
            self._counters.offers_overdue += 1
            for consumer in offer.candidates.values():
                consumer.overdue += 1
                self._refresh(consumer)
            self._apply(offer, fate)
        if self._is_stopped:
            return
        changed = self._queues.changed
        for queue in list(changed):
            if not self._claims.free_slots:
                break
            del changed[queue]
            if not self._make_offers(queue, now):
                # behind the others: slots are scarce, and it had its turn
                changed[queue] = None

    def deadline(self) -> float | None:
        """When `tick` has something to do, even if nothing is received (seconds)."""
        return self._claims.deadline()

    def find_silent(self, since: float) -> set[Peer]:
        """Peers that have owed an answer since then (seconds), and keep a slot from being used."""
        return self._claims.find_silent(since)

    def _make_offers(self, queue: Queue, now: float) -> bool:
        """All offers of a queue that are possible; tell whether the slots sufficed."""
        consumers = queue.consumers
        if queue.messages > queue.ready and consumers.willing:
            self._paging.refill(queue)
        ready, willing = queue.ready, len(consumers.willing)
        if not (ready and willing):
            return True
        share = -(-ready // willing)
        width = max(1, min(self._width, willing // ready))
        while queue.ready and consumers.willing and (lane := self._paging.next_lane(queue)) is not None:
            if not self._claims.free_slots:
                return False
            if lane.head().details.crashes:
                self._offer_suspect(queue, lane, now)
                continue
            candidates = consumers.take(width)
            run = queue.take(lane, min(share, *[candidate.free for candidate in candidates]))
            consumers.charge(candidates, run.count)
            self._send_offer(self._claims.open_offer(queue, run, candidates, now))
        return True

    def _offer_suspect(self, queue: Queue, lane: Lane, now: float) -> None:
        """Offer a message that a crash has made suspect, alone, to one that holds nothing else if there is such a one.

        The next crash then shows whether it was this message: what else its consumer held is not blamed. For a moment
        only, as there are consumers that acknowledge nothing before they have several.
        """
        consumers = queue.consumers
        candidates = consumers.take_idle()
        if candidates:
            consumer = candidates[0]
            consumer.is_guarded = True
            self._guards.after(_GUARD_MS, consumer.key)
        else:
            candidates = consumers.take(1)
        consumers.charge(candidates, 1)
        consumers.refresh(candidates[0])
        self._send_offer(self._claims.open_offer(queue, queue.take(lane, 1), candidates, now))

    def _end_guard(self, key: tuple[Peer, Token]) -> None:
        consumer = self._consumer(key)
        consumer.is_guarded = False
        self._refresh(consumer)

    def _consumer(self, key: tuple[Peer, Token]) -> Consumer:
        peer, token = key
        return self._children[peer].consumers[token]

    def _send_offer(self, offer: Offer) -> None:
        run = offer.run
        self._counters.offers_made += 1
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
            self._out.append((peer, buffers))

    def _hand_over(self, run: Run, consumer: Consumer) -> None:
        lease_ms = consumer.queue.policy.lease
        run.held_until = self._timers.now + lease_ms / 1000 if lease_ms else 0.0
        consumer.unsettled.add(run)
        if lease_ms and consumer.key not in self._leases:
            self._leases.after(lease_ms, consumer.key)
        self._counters.messages_claimed += run.count
        if run.deliveries:
            self._counters.messages_redelivered += run.count

    def _take_refusal(self, consumer: Consumer, count: int, event: Event) -> None:
        """LOST or PASSED: the credit is the consumer's again."""
        consumer.free += count
        if event is Event.LOST:
            self._counters.offers_lost += 1
            return
        self._counters.offers_passed += 1
        if not consumer.is_gone:
            consumer.has_passed = True
            self._children[consumer.peer].passed.append(consumer)

    def _apply(self, offer: Offer, fate: Fate) -> None:
        """What an answer, an end or the time has shown about an offer's run."""
        if fate is Fate.UNTOUCHED:
            self._queues.put_back(offer.queue, offer.run)
        elif fate is Fate.DELIVERED:
            self._returns.requeue(offer.queue, offer.run, offer.crash)
            self._queues.tidy(offer.queue)

    def _settle_run(self, queue: Queue, run: Run, outcome: Outcome) -> None:
        if outcome is Outcome.ACKNOWLEDGED:
            self._queues.settle(queue, run)
            self._counters.messages_acknowledged += run.count
        elif outcome is Outcome.RELEASED:
            self._returns.requeue(queue, run)
        elif outcome is Outcome.REJECTED:
            self._returns.reject(queue, run)
        else:
            self._queues.put_back(queue, run)

    def _end_leases(self, key: tuple[Peer, Token]) -> None:
        """Take back what the consumer has held for too long, and look again when the next lease ends."""
        consumer = self._consumer(key)
        now = self._timers.now
        for run in consumer.unsettled.take_overdue(now):
            consumer.withheld += run.count
            self._counters.leases_ended += run.count
            self._returns.requeue(consumer.queue, run)
        held_until = consumer.unsettled.next_overdue()
        if held_until:
            self._leases.after((held_until - now) * 1000, key)
        self._refresh(consumer)

    def _end(self, consumer: Consumer, crash: str = "") -> None:
        queue = consumer.queue
        consumer.is_gone = True
        self._leases.cancel(consumer.key)
        self._guards.cancel(consumer.key)
        queue.consumers.remove(consumer)
        self._queues.end_consumption(queue)
        self._durables.end_consumption(queue)
        for run in consumer.unsettled.take_all():
            self._returns.requeue(queue, run, crash)
        self._queues.tidy(queue)

    def _refresh(self, consumer: Consumer) -> None:
        queue = consumer.queue
        queue.consumers.refresh(consumer)
        self._queues.changed[queue] = None
