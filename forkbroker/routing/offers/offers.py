"""Offers of what is in queues to consumers, and what becomes of them.

Nothing is offered at once: a queue whose messages or consumers changed is noted, and `tick` makes the offers of all
noted queues, once a turn of the parent's loop, so that messages which arrived together are offered together.

An offer gets one candidate while messages abound, as every other copy of it would be wasted, and several when
messages are scarcer than consumers that wait, so that none waits for a slow child. A run is no longer than its part
when all that is ready is shared out among the willing.

What one child can use up is bounded, so that one that is stopped, or never acknowledges, harms nobody else: never more
than a quarter of the free slots, and in octets (`max_unsettled`) what its subscriptions were offered and hold together.
One of them gets at most as much as is left for the others. A message that is larger goes to a child that has nothing
else.

Quick consumers with prefetch 1 are offered some messages ahead of their credit: `sharing.py`.

An offer ends with an answer, with the absence of one, or with its candidate. `claims.py` decides what that means; here
it is carried out. Which messages are to blame for a candidate's crash, and are poison, `blame.py` knows.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice

from forkbroker.errors import EnvelopeError
from forkbroker.routing.handover import Rule
from forkbroker.routing.jobs.misfits import leave_out
from forkbroker.routing.jobs.returns import Returns
from forkbroker.routing.keeping.keeping import Keeping
from forkbroker.routing.kit import Kit
from forkbroker.routing.offers.ahead import AheadClaims, AheadOffer
from forkbroker.routing.offers.blame import Blame, Crash, is_suspect
from forkbroker.routing.offers.claims import Claims, Event, Fate, Offer, OfferState
from forkbroker.routing.offers.clientele import Clientele
from forkbroker.routing.offers.consumers import Child, Consumer, Consumers, Key
from forkbroker.routing.offers.leases import Leases
from forkbroker.routing.offers.sharing import Sharing
from forkbroker.routing.peers import Outbox, Peer, Token
from forkbroker.routing.queues.lanes import Lane
from forkbroker.routing.queues.queue import Queue
from forkbroker.routing.queues.runs import Run
from forkbroker.wire.envelope import FEW, Envelope, pack_run
from forkbroker.wire.kinds import Kind

EVENTS = {Kind.CLAIMED: Event.CLAIMED, Kind.LOST: Event.LOST, Kind.PASSED: Event.PASSED}
"""What the answer of a candidate is to an offer."""


class Offers(Rule):
    """All offers, from the making to the end."""

    DUMPED = ("_has_more",)
    ANEW = ("_width",)

    def __init__(
        self,
        kit: Kit,
        keeping: Keeping,
        returns: Returns,
        claims: Claims,
        ahead: AheadClaims,
        clientele: Clientele,
        leases: Leases,
        sharing: Sharing,
        blame: Blame,
        *,
        width: int,
    ) -> None:
        """`width`: candidates of one offer, at most."""
        self._kit = kit
        self._counters = kit.counters
        self._out = kit.out
        self._queues = keeping.queues
        self._changed = keeping.queues.changed
        self._paging = keeping.paging
        self._returns = returns
        self._claims = claims
        self._timely = claims.timely
        self._ahead = ahead.by_queue
        self._kept = ahead.kept
        self._clientele = clientele
        self._consumers = clientele.consumers
        self._guards = clientele.guards
        self._leases = leases
        self._sharing = sharing
        self._blame = blame
        self._width = width
        self._has_more = False
        """Of the queues for which an offer may have become possible not all could be looked at in the last turn."""

    def adopt(self, width: int) -> None:
        """Offer to so many candidates from now on."""
        self._width = width

    # -- the making

    def tick(self, now: float) -> None:
        """Make the offers that have become possible."""
        changed, steps = self._changed, self._kit.steps
        self._has_more = len(changed) > steps
        for queue in list(islice(changed, steps)):
            if not self._claims.free:
                break
            del changed[queue]
            if not self._make_offers(queue, now):
                # behind the others: slots are scarce, and it had its turn
                changed[queue] = None

    def deadline(self) -> float | None:
        """When there is something to do, even if nothing is received (seconds)."""
        if self._has_more and self._changed and self._claims.free:
            return self._kit.timers.now
        when = self._claims.deadline()
        if not self._kept:
            return when
        kept_until = next(iter(self._kept.values())).deadline
        return kept_until if when is None else min(when, kept_until)

    def _make_offers(self, queue: Queue, now: float) -> bool:
        """All offers of a queue that are possible; tell whether the slots sufficed."""
        if queue in self._ahead:
            self._sharing.tend(queue, now)
        if queue.returning:
            return True
        suffice = self._offer_to_willing(queue, now)
        if suffice and queue.ready and (consumers := self._consumers.get(queue)) is not None and consumers.team:
            self._sharing.offer(consumers, self._most_offers(), now)
        return suffice

    def _offer_to_willing(self, queue: Queue, now: float) -> bool:
        """The same for consumers that have credit."""
        ready, willing = queue.ready, len(queue.readers.willing)
        if willing and queue.messages > ready:
            for lane in queue.lanes:
                if lane.paged or lane.stubs:
                    self._paging.refill(queue)
                    break
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
            if not self._claims.free:
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
            most, room = share, candidates[0].room
            for candidate in candidates:
                most, room = min(most, candidate.free), min(room, candidate.room)
            if head.count < min(most, FEW):
                head = queue.join(lane, most)
            most = min(most, head.count)
            if head.cost > room:
                most = max(1, head.affordable(most, room))
            self._make_offer(consumers, lane, candidates, most, now)
        return True

    def _make_offer(self, consumers: Consumers, lane: Lane, candidates: list[Consumer], most: int, now: float) -> None:
        run = consumers.queue.take(lane, most)
        for candidate in candidates:
            candidate.since = now
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
            consumers.place(busy[0])
            consumers.prefer(busy[0])
            return False
        self._make_offer(consumers, lane, busy, 1, now)
        return True

    def _most_offers(self) -> int:
        """How many open offers a child may have: with one more it would have more than a quarter of the free slots."""
        return self._claims.free.bit_count() // 4 or 1

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
            consumer.row.refresh(consumer)
        offer.queue.forget(offer.run)
        leave_out(self._kit, offer.queue.name, offer.run, error)

    # -- the end

    def receive(self, peer: Peer, envelope: Envelope) -> None:
        """Apply an answer. Raises AssertionError as `answer`."""
        offer = self.find(envelope.number)
        if isinstance(offer, AheadOffer):
            self._sharing.receive(offer, peer, envelope)
        else:
            self.answer(peer, Token(envelope.token), offer, EVENTS[envelope.kind])

    def find(self, number: int) -> Offer:
        """The open offer with this number.

        Raises:
            AssertionError: there is none.
        """
        offer = self._timely.get(number) or self._kept.get(number) or self._claims.find(number)
        if offer is None:
            raise AssertionError(f"offer {number} expects no answer: it is not open")
        return offer

    def answer(self, peer: Peer, token: Token, offer: Offer, event: Event) -> None:
        """Apply what a subscription of this peer says to this offer.

        CLAIMED: the peer has the semaphore; LOST: somebody else had it; PASSED: the peer has no room.

        Raises:
            AssertionError: no such answer can come from this child.
        """
        consumer = offer.candidates.get((peer, token)) or offer.candidate(peer, token)
        if consumer.is_gone and event is Event.CLAIMED:
            raise AssertionError(f"offer {offer.number} was claimed for subscription {token}, which had ended")
        is_overdue = offer.is_overdue
        fate = self._claims.answer(offer, consumer.key, event)
        consumer.child.open_offers -= 1
        consumer.overdue -= is_overdue
        if fate is Fate.CLAIMED:
            self._leases.begin(offer.run, consumer)
            child = consumer.child
            if not (is_overdue or child.kept_out or child.kept_for):
                # it has what it was charged with: it is no more and no less willing
                self._changed[consumer.queue] = None
                return
        else:
            self._take_refusal(consumer, offer, event)
            self._apply(offer, fate)
        consumer.row.refresh(consumer)
        if event is Event.LOST:
            consumer.row.prefer(consumer)

    def _take_refusal(self, consumer: Consumer, offer: Offer, event: Event) -> None:
        consumer.take_back(offer.count, offer.cost, has_passed=event is Event.PASSED)
        if event is Event.LOST:
            self._counters.offers_lost += 1
        else:
            self._counters.offers_passed += 1

    def end_overdue(self, now: float) -> None:
        """Deal with offers that are overdue, and with those that were kept for too long."""
        if self._kept:
            self._sharing.end_overdue(now)
        for offer, fate in self._claims.take_overdue(now):
            if offer.is_overdue:
                self._counters.offers_overdue += 1
                for consumer in offer.candidates.values():
                    consumer.overdue += 1
                    consumer.row.refresh(consumer)
            self._apply(offer, fate)

    def end_offers(self, child: Child, how: str) -> Crash | None:
        """The child has ended: what becomes of all that it has not answered, and its crash; `how`: if it was one."""
        untold = self._sharing.recall_from(child.peer)
        offers = self._claims.open_for(child.peer)
        crash = self._note_crash(child, offers, untold, how) if how else None
        to_read_next = crash
        for offer, key in offers:
            if isinstance(offer, AheadOffer):
                self._sharing.end(offer, key, crash)
                continue
            if offer.state is OfferState.OFFERED and crash is not None:
                offer.crash = crash
            fate = self._claims.answer(offer, key, Event.ENDED)
            if fate is Fate.UNTOUCHED or (fate is Fate.PENDING and offer.state is OfferState.OFFERED):
                offer.blames_first |= to_read_next is not None
                to_read_next = None
            self._apply(offer, fate)
        return crash

    def give_back(self, consumer: Consumer, crash: Crash | None) -> Iterator[None]:
        """The consumer has ended: all that it holds goes back, step by step."""
        for run in self._leases.take_all(consumer):
            self._returns.requeue(consumer.queue, run, self._blame.judge(run, crash, consumer.queue.policy))
            yield

    def _note_crash(self, child: Child, offers: list[tuple[Offer, Key]], untold: list[Run], how: str) -> Crash:
        # whether it is one message is all that counts
        held = islice(chain.from_iterable(consumer.unsettled for consumer in child.consumers.values()), 2)
        open_runs = {offer: offer.run for offer, _ in offers if offer.state is OfferState.OFFERED}
        return self._blame.note_crash(how, [*held, *open_runs.values(), *untold], is_withheld=child.withheld > 0)

    def _apply(self, offer: Offer, fate: Fate) -> None:
        """What an answer, an end or the time has shown about an offer's run."""
        if fate is Fate.UNTOUCHED:
            if offer.blames_first and offer.crash is not None:
                self._put_back_blamed(offer, offer.crash)
            else:
                self._returns.put_back(offer.queue, offer.run)
        elif fate is Fate.DELIVERED:
            poison = self._blame.judge(offer.run, offer.crash, offer.queue.policy)
            self._returns.requeue(offer.queue, offer.run, poison)
            self._queues.tidy(offer.queue)

    def _put_back_blamed(self, offer: Offer, crash: Crash) -> None:
        """Nobody claimed, but a process crashed that was to read this offer next: the first message is suspect."""
        run = offer.run
        first = run.split(1) if run.count > 1 else run
        self._returns.put_back_blamed(offer.queue, first, self._blame.judge(first, crash, offer.queue.policy))
        if first is not run:
            self._returns.put_back(offer.queue, run)
        self._queues.tidy(offer.queue)
