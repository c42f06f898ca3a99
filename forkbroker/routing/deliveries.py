"""Between queues and consumers: offers, answers, settlements, and what comes back.

Nothing is offered at once: a queue whose messages or consumers changed is noted, and `tick` makes the offers of all
noted queues, once a turn of the parent's loop, so that messages which arrived together are offered together.

An offer gets one candidate while messages abound, as every other copy of it would be wasted, and several when
messages are scarcer than consumers that wait, so that none waits for a slow child. A run is no longer than its part
when all that is ready is shared out among the willing.

Where the policy of a queue sets a lease, a consumer that holds messages for longer loses them: they go back as after
any other delivery in vain, and an ACK that comes after all is late. It gives back the consumer's credit, which is
withheld until then: who hangs with one job is not given another one, or the same. A message that was lost by a lease,
or came back by NACK, goes to a consumer that has not failed with it as long as there is one with credit.

What one child can use up is bounded, so that one that is stopped, or never acknowledges, harms nobody else: never more
than a quarter of the free slots, and in octets (`max_unsettled`) what its subscriptions were offered and hold together.
One of them gets at most as much as is left for the others. A message that is larger goes to a child that has nothing
else.
"""

from __future__ import annotations

from collections.abc import Container, Generator, Iterator, Sequence
from itertools import chain, islice

from forkbroker.errors import EnvelopeError
from forkbroker.routing.blame import Blame, Crash, is_suspect
from forkbroker.routing.chores import STEPS, Work
from forkbroker.routing.claims import Claims, Event, Fate, Offer, Slots, State
from forkbroker.routing.consumers import Child, Consumer, Key
from forkbroker.routing.counters import Counters
from forkbroker.routing.durables import Durables
from forkbroker.routing.guards import Guards
from forkbroker.routing.lanes import Lane
from forkbroker.routing.misfits import Misfits
from forkbroker.routing.paging import Paging
from forkbroker.routing.peers import Outbox, Peer, Token
from forkbroker.routing.policies import Policy
from forkbroker.routing.queue import Queue
from forkbroker.routing.queues import Queues, is_durable
from forkbroker.routing.returns import Returns
from forkbroker.routing.runs import Run
from forkbroker.routing.timers import Timers
from forkbroker.wire.envelope import Buffer, Envelope, pack_run
from forkbroker.wire.kinds import Flag, Kind, Outcome

_AVOIDED = 16
"""So many consumers that failed with a message are remembered."""


class Deliveries:
    """The consumers of all queues, and what they were offered and hold."""

    def __init__(
        self,
        policy: Policy,
        slots: Slots,
        queues: Queues,
        returns: Returns,
        misfits: Misfits,
        paging: Paging,
        durables: Durables,
        counters: Counters,
        timers: Timers,
        busy: Container[Peer],
        out: Outbox,
        *,
        steps: int = STEPS,
    ) -> None:
        """Offers go to `out`. `busy`: peers of which something waits to be applied; `steps`: so many in one turn."""
        self._busy = busy
        self._steps = steps
        self._width = policy.offer_candidates
        self._max_unsettled = policy.max_unsettled
        self._counters = counters
        self._out = out
        self._queues = queues
        self._returns = returns
        self._misfits = misfits
        self._paging = paging
        self._durables = durables
        self._timers = timers
        self._leases = timers.add("lease", self._end_leases)
        self._claims = Claims(slots, policy.answer_timeout_s)
        self._children: dict[Peer, Child] = {}
        self._eased: dict[Child, None] = {}
        """Those of which something has come back: they may accept what they did not before."""
        self._blame = Blame()
        self._guards = Guards(timers, queues.changed, self._eased)
        self._is_stopped = False
        self._has_more = False
        """Of the queues for which an offer may have become possible not all could be looked at in the last turn."""

    def stop_offers(self) -> None:
        """Offer nothing more to who acknowledges: the broker ends, and what is unsettled then comes again.

        What is offered already is decided, and settlements are applied. Consumers that settle by reading go on.
        """
        self._is_stopped = True
        for child in self._children.values():
            child.is_stopped = True

    def add_peer(self, peer: Peer) -> None:
        """A new peer."""
        child = self._children[peer] = Child(peer, self._max_unsettled)
        child.is_stopped = self._is_stopped

    def begin_to_end(self, peer: Peer) -> None:
        """Nothing more comes from the peer, but some of what it has sent may wait to be applied.

        Offer nothing more to it, and of the queues whose messages it holds to nobody, before these are back.
        """
        child = self._children[peer]
        child.has_ended = True
        for consumer in child.consumers.values():
            if len(consumer.unsettled):
                self._block(consumer)

    def peer_ended(self, peer: Peer, crash: str) -> Iterator[None]:
        """All that the peer has sent was applied, and nothing more comes: take back what it held, step by step.

        `crash`: how its process ended, if it crashed.
        """
        child = self._children.pop(peer)
        self._guards.forget(child)
        offers = self._claims.open_for(peer)
        blamed = self._note_crash(child, offers, crash) if crash else None
        to_read_next = blamed
        for offer, key in offers:
            if offer.state is State.OFFERED and blamed is not None:
                offer.crash = blamed
            fate = self._claims.answer(offer, key, Event.ENDED)
            if fate is Fate.UNTOUCHED or (fate is Fate.PENDING and offer.state is State.OFFERED):
                offer.blames_first |= to_read_next is not None
                to_read_next = None
            self._apply(offer, fate)
        yield
        for consumer in child.consumers.values():
            yield from self._end(consumer, blamed)
        # each knows the other: no cycle is left for a collector
        child.consumers.clear()
        child.kept_out.clear()
        child.passed.clear()
        self._eased.pop(child, None)

    def _note_crash(self, child: Child, offers: list[tuple[Offer, Key]], how: str) -> Crash:
        # whether it is one message is all that counts
        held = islice(chain.from_iterable(consumer.unsettled for consumer in child.consumers.values()), 2)
        open_runs = {offer: offer.run for offer, _ in offers if offer.state is State.OFFERED}
        return self._blame.note_crash(how, [*held, *open_runs.values()], is_withheld=child.withheld > 0)

    def subscribe(self, peer: Peer, envelope: Envelope) -> str | None:
        """A new consumer, or the reason why not.

        Raises:
            EnvelopeError: the token is in use, or this is not what temporary queues are called.
            PatternError: a durable subscription is to a pattern that cannot be used.
        """
        token, flags = Token(envelope.token), envelope.flags
        child = self._children[peer]
        if token in child.consumers:
            raise EnvelopeError(f"SUBSCRIBE: token {token} is in use")
        queue = self._open(peer, envelope)
        if isinstance(queue, str):
            return queue
        child.consumers[token] = consumer = Consumer(
            queue,
            child,
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

    def unsubscribe(self, peer: Peer, token: Token) -> Work:
        """End of a consumer, if it is one: a SUBSCRIBE may have been refused, and its child not know it yet."""
        consumer = self._children[peer].consumers.pop(token, None)
        if consumer is not None:
            yield from self._end(consumer)
        return None

    def has_lost(
        self, peer: Peer, token: Token, entries: Sequence[tuple[int, int, Outcome]]
    ) -> Generator[None, None, bool]:
        """Find out in steps whether leases have ended of what these settlements name."""
        consumer = self._children[peer].consumers.get(token)
        if consumer is None or not consumer.queue.policy.lease:
            return False
        for serial, count, _ in entries:
            if not consumer.unsettled.has(serial, count):
                return True
            yield
        return False

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
        consumer.child.open_offers -= 1
        consumer.overdue -= is_overdue
        if fate is Fate.CLAIMED:
            self._hand_over(offer.run, consumer)
        else:
            self._take_refusal(consumer, offer, event)
            self._apply(offer, fate)
        self._refresh(consumer)
        if event is Event.LOST:
            consumer.queue.consumers.prefer(consumer)

    def settle(self, peer: Peer, token: Token, entries: Sequence[tuple[int, int, Outcome]]) -> Work | None:
        """Apply settlements of one subscription: (serial of the first message, how many, outcome).

        What it does not hold, perhaps no longer, is counted and ignored. Many are returned as steps to be done.
        """
        consumer = self._children[peer].consumers.get(token)
        if consumer is None:
            self._counters.settlements_late += sum(count for _, count, _ in entries)
            return None
        if len(entries) + len(consumer.unsettled) > self._steps:
            return self._settle_in_turns(consumer, entries)
        for serial, count, outcome in entries:
            for run in self._release(consumer, serial, count):
                self._settle_run(consumer, run, outcome)
        self._refresh(consumer)
        self._queues.tidy(consumer.queue)
        return None

    def _settle_in_turns(self, consumer: Consumer, entries: Sequence[tuple[int, int, Outcome]]) -> Work:
        """What goes back by that is older than what could be offered meanwhile."""
        was_returning = consumer.is_returning
        self._block(consumer)
        for serial, count, outcome in entries:
            for run in self._release(consumer, serial, count):
                self._settle_run(consumer, run, outcome)
                yield
            yield
        self._refresh(consumer)
        self._queues.tidy(consumer.queue)
        if not was_returning:
            self._unblock(consumer)
        return None

    def _release(self, consumer: Consumer, serial: int, count: int) -> Iterator[Run]:
        """Take these messages, as far as it has them, from the consumer, run for run."""
        late = count
        for run in consumer.unsettled.settle(serial, count):
            late -= run.count
            consumer.free += run.count
            consumer.discharge(run.cost)
            yield run
        if late:
            self._counters.settlements_late += late
            consumer.regain(late)

    def _block(self, consumer: Consumer) -> None:
        """What the consumer holds, or a part of it, goes back to the queue in several turns, before anything else."""
        if not consumer.is_returning:
            consumer.is_returning = True
            consumer.queue.returning += 1

    def _unblock(self, consumer: Consumer) -> None:
        if consumer.is_returning:
            consumer.is_returning = False
            consumer.queue.returning -= 1
            self._queues.changed[consumer.queue] = None

    def tick(self, now: float) -> None:
        """Deal with what is overdue, then make the offers that have become possible."""
        for offer, fate in self._claims.take_overdue(now):
            if self._claims.is_overdue(offer):
                self._counters.offers_overdue += 1
                for consumer in offer.candidates.values():
                    consumer.overdue += 1
                    self._refresh(consumer)
            self._apply(offer, fate)
        while self._eased:
            self._ease(self._eased.popitem()[0])
        changed = self._queues.changed
        self._has_more = len(changed) > self._steps
        for queue in list(islice(changed, self._steps)):
            if not self._claims.free_slots:
                break
            del changed[queue]
            if not self._make_offers(queue, now):
                # behind the others: slots are scarce, and it had its turn
                changed[queue] = None

    def deadline(self) -> float | None:
        """When `tick` has something to do, even if nothing is received (seconds)."""
        if self._has_more and self._claims.free_slots:
            return self._timers.now
        return self._claims.deadline()

    def find_silent(self, since: float) -> set[Peer]:
        """Peers that have owed an answer since then (seconds), and keep a slot from being used."""
        return self._claims.find_silent(since)

    def _make_offers(self, queue: Queue, now: float) -> bool:
        """All offers of a queue that are possible; tell whether the slots sufficed."""
        consumers = queue.consumers
        if queue.returning:
            return True
        if queue.messages > queue.ready and consumers.willing:
            self._paging.refill(queue)
        ready, willing = queue.ready, len(consumers.willing)
        if not willing:
            self._paging.relieve(queue)
            return True
        if not ready:
            return True
        share = -(-ready // willing)
        width = max(1, min(self._width, willing // ready))
        while queue.ready and consumers.willing and (lane := self._paging.next_lane(queue)) is not None:
            free_slots = self._claims.free_slots
            if not free_slots:
                return False
            head = lane.head()
            if head.details.crashes and queue.policy.poison_after and is_suspect(head.details):
                if not self._offer_suspect(queue, lane, head):
                    return True
                continue
            if self._guards.waiting:
                self._guards.stop_waiting(queue)
            # consumers that acknowledge nothing are never busy, and simply take turns
            wanted = 1 if next(iter(consumers.willing)).auto else width
            candidates = consumers.take(wanted, head, _most_offers(free_slots))
            if not candidates:
                return True
            most = min(share, head.count, *[candidate.free for candidate in candidates])
            room = min([candidate.room for candidate in candidates])
            if head.cost > room:
                most = max(1, head.affordable(most, room))
            self._make_offer(queue, lane, candidates, most, now)
        return True

    def _make_offer(self, queue: Queue, lane: Lane, candidates: list[Consumer], most: int, now: float) -> None:
        run = queue.take(lane, most)
        queue.consumers.charge(candidates, run.count, run.cost)
        self._send_offer(self._claims.open_offer(queue, run, candidates, now))

    def _offer_suspect(self, queue: Queue, lane: Lane, head: Run) -> bool:
        """Offer a message that a crash has made suspect, alone; tell whether it was possible.

        To an idle child if there is one, or is in time. If not, it stands beside others, and a crash does not convict.
        """
        consumers, now = queue.consumers, self._timers.now
        consumer = consumers.take_idle(head.avoid)
        if consumer is not None:
            self._guards.give(consumer.child, queue, head)
            self._make_offer(queue, lane, [consumer], 1, now)
            return True
        busy = consumers.take(1, head, _most_offers(self._claims.free_slots))
        if not busy:
            return False
        if self._guards.must_wait(queue, head, busy[0].child):
            consumers.refresh(busy[0])
            consumers.prefer(busy[0])
            return False
        self._make_offer(queue, lane, busy, 1, now)
        return True

    def _ease(self, child: Child) -> None:
        """Something of the child's came back: those of its consumers that it kept out may be willing now."""
        if child.is_idle:
            self._guards.become_idle(child)
        kept_out, child.kept_out = child.kept_out, {}
        for consumer in kept_out:
            self._refresh(consumer)

    def _consumer(self, key: Key) -> Consumer:
        peer, token = key
        return self._children[peer].consumers[token]

    def _send_offer(self, offer: Offer) -> None:
        try:
            packed = [(key[0], self._pack(offer, key[1])) for key in offer.candidates]
        except EnvelopeError as error:
            self._withdraw(offer, error)
            return
        self._counters.offers_made += 1
        self._out.extend(packed)

    def _pack(self, offer: Offer, token: Token) -> list[Buffer]:
        run = offer.run
        return pack_run(
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

    def _withdraw(self, offer: Offer, error: EnvelopeError) -> None:
        """The messages can't be sent to anybody: leave them out, and go on with what follows."""
        for key, consumer in list(offer.candidates.items()):
            self._claims.answer(offer, key, Event.LOST)
            consumer.child.open_offers -= 1
            self._take_refusal(consumer, offer, Event.LOST)
            self._refresh(consumer)
        offer.queue.forget(offer.run)
        self._misfits.put(offer.queue.name, offer.run, error)

    def _hand_over(self, run: Run, consumer: Consumer) -> None:
        lease_ms = consumer.queue.policy.lease
        run.held_until = self._timers.now + lease_ms / 1000 if lease_ms else 0.0
        if run.details.persistent:
            self._queues.drop_bodies(consumer.queue, run)
        consumer.unsettled.add(run)
        if lease_ms and consumer.key not in self._leases:
            self._leases.after(lease_ms, consumer.key)
        self._counters.messages_claimed += run.count
        if run.deliveries:
            self._counters.messages_redelivered += run.count

    def _take_refusal(self, consumer: Consumer, offer: Offer, event: Event) -> None:
        """LOST or PASSED: the credit is the consumer's again."""
        consumer.free += offer.count
        consumer.discharge(offer.cost)
        if event is Event.LOST:
            self._counters.offers_lost += 1
            return
        self._counters.offers_passed += 1
        if not consumer.is_gone:
            consumer.has_passed = True
            consumer.child.passed.append(consumer)

    def _apply(self, offer: Offer, fate: Fate) -> None:
        """What an answer, an end or the time has shown about an offer's run."""
        if fate is Fate.UNTOUCHED:
            if offer.blames_first and offer.crash is not None:
                self._put_back_blamed(offer, offer.crash)
            else:
                self._queues.put_back(offer.queue, offer.run)
        elif fate is Fate.DELIVERED:
            self._returns.requeue(offer.queue, offer.run, self._charge(offer.run, offer.crash))
            self._queues.tidy(offer.queue)

    def _put_back_blamed(self, offer: Offer, crash: Crash) -> None:
        """Nobody claimed, but a process crashed that was to read this offer next: the first message is suspect."""
        run = offer.run
        first = run.split(1) if run.count > 1 else run
        self._returns.put_back_blamed(offer.queue, first, self._charge(first, crash))
        if first is not run:
            self._queues.put_back(offer.queue, run)
        self._queues.tidy(offer.queue)

    def _charge(self, run: Run, crash: Crash | None) -> str:
        """How the process crashed whose crash convicts these messages, if it does."""
        return crash.how if crash is not None and self._blame.charge(run, crash) else ""

    def _settle_run(self, consumer: Consumer, run: Run, outcome: Outcome) -> None:
        queue = consumer.queue
        if outcome is Outcome.ACKNOWLEDGED:
            self._queues.settle(queue, run)
            self._counters.messages_acknowledged += run.count
        elif outcome is Outcome.RELEASED:
            _note_failure(consumer, run)
            self._returns.requeue(queue, run)
        elif outcome is Outcome.REJECTED:
            self._returns.reject(queue, run)
        else:
            self._queues.put_back(queue, run)

    def _end_leases(self, key: tuple[Peer, Token]) -> None:
        """Take back what the consumer has held for too long, and look again when the next lease ends."""
        consumer = self._consumer(key)
        now = self._timers.now
        if consumer.peer in self._busy:
            # what waits may settle these: a transaction of which a part is applied already
            self._leases.after(0, key)
            return
        for run in consumer.unsettled.take_overdue(now, self._steps):
            consumer.discharge(run.cost)
            consumer.withhold(run.count)
            _note_failure(consumer, run)
            self._counters.leases_ended += run.count
            self._returns.requeue(consumer.queue, run)
        held_until = consumer.unsettled.next_overdue()
        if 0 < held_until <= now:
            self._block(consumer)
        else:
            self._unblock(consumer)
        if held_until:
            self._leases.after(max(0.0, held_until - now) * 1000, key)
        self._refresh(consumer)

    def _end(self, consumer: Consumer, crash: Crash | None = None) -> Iterator[None]:
        queue = consumer.queue
        consumer.is_gone = True
        self._block(consumer)
        consumer.withhold(-consumer.withheld)
        consumer.child.kept_out.pop(consumer, None)
        self._eased[consumer.child] = None
        self._leases.cancel(consumer.key)
        queue.consumers.remove(consumer)
        if not queue.consumers:
            self._guards.stop_waiting(queue)
        self._queues.end_consumption(queue)
        self._durables.end_consumption(queue)
        for run in consumer.unsettled.take_all():
            consumer.discharge(run.cost)
            self._returns.requeue(queue, run, self._charge(run, crash))
            yield
        self._unblock(consumer)
        self._queues.tidy(queue)
        yield

    def _refresh(self, consumer: Consumer) -> None:
        queue = consumer.queue
        queue.consumers.refresh(consumer)
        self._queues.changed[queue] = None
        child = consumer.child
        if child.kept_out or child.kept_for is not None:
            # what has come back may permit offers to others of its subscriptions, or end what it is kept for
            self._eased[child] = None


def _most_offers(free_slots: int) -> int:
    """How many open offers a child may have: with one more it would have more than a quarter of the free slots."""
    return max(1, free_slots // 4)


def _note_failure(consumer: Consumer, run: Run) -> None:
    """The consumer lost these by a lease, or said NACK: others come first from now on."""
    others = [key for key in run.avoid if key != consumer.key]
    run.avoid = (*others[1 - _AVOIDED :], consumer.key)
