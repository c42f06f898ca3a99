"""Offers ahead, as they are made and end: work for quick consumers that they need not wait for.

Consumers with prefetch 1 that are quick are offered messages ahead of their credit. Their children claim the next one
as soon as a client has acknowledged the last one, and the parent is not waited for. All consumers of the queue are
candidates of each such offer (its *team*), so whoever is idle gets the next message, and none waits for one that is
busy. The rules that follow keep this true, and the order of the messages:

- Something is offered ahead only if all consumers of the queue are quick, have prefetch 1, and have something to do,
  and if there are few of them.
- A consumer that has credit has answered all that it was offered ahead, having tried all of it: all of that is claimed.
  So the messages that are offered to it are the next ones in the order of the queue.
- All is taken back when a consumer comes or goes, when one leaves an offer before it has tried all of it, when
  something is to be delivered before it, and when it was kept for 0.1 s: then somebody is not quick any more.

`ahead.py` decides what answers and ends mean; here it is carried out.
"""

from __future__ import annotations

from forkbroker.errors import EnvelopeError
from forkbroker.routing.chores import Work
from forkbroker.routing.handover import Rule
from forkbroker.routing.jobs.misfits import leave_out
from forkbroker.routing.jobs.returns import Returns
from forkbroker.routing.keeping.keeping import Keeping
from forkbroker.routing.kit import Kit
from forkbroker.routing.offers.ahead import AheadClaims, AheadOffer
from forkbroker.routing.offers.blame import Blame, Crash
from forkbroker.routing.offers.claims import Fate
from forkbroker.routing.offers.consumers import Consumer, Consumers, Key
from forkbroker.routing.offers.leases import Leases
from forkbroker.routing.peers import Peer, Token
from forkbroker.routing.queues.queue import Queue
from forkbroker.routing.queues.runs import Run
from forkbroker.wire.envelope import FEW, Envelope, pack, pack_run, with_token
from forkbroker.wire.fields import MAX_SHARED
from forkbroker.wire.kinds import Kind, Outcome

MAX_AHEAD_OCTETS = 65_536
"""The cost of what is offered ahead at once, at most: each candidate gets all of it."""


class Sharing(Rule):
    """All offers ahead, from the making to the end."""

    def __init__(
        self, kit: Kit, keeping: Keeping, returns: Returns, ahead: AheadClaims, leases: Leases, blame: Blame
    ) -> None:
        self._kit = kit
        self._counters = kit.counters
        self._out = kit.out
        self._queues = keeping.queues
        self._changed = keeping.queues.changed
        self._paging = keeping.paging
        self._custody = keeping.custody
        self._returns = returns
        self._leases = leases
        self._blame = blame
        self._ahead = ahead
        self._by_queue = ahead.by_queue

    # -- the making

    def tend(self, queue: Queue, now: float) -> None:
        """Take back what this queue has offered ahead, if it may be another one's now."""
        if self._must_recall(queue):
            self._recall(queue, now)

    def offer(self, consumers: Consumers, most_offers: int, now: float) -> None:
        """Offer the next messages to all consumers, if that is worth while. A child may have so many open offers."""
        team, queue = consumers.team, consumers.queue
        most = team[0].keeps if len(team) == 1 else MAX_SHARED
        left = 0
        if queue in self._by_queue:
            for offer in self._by_queue[queue].values():
                left += offer.count - offer.tried
            if 2 * left > most:
                return
        for consumer in team:
            if not consumer.takes_ahead:
                return
        while queue.ready and left < most:
            lane = queue.lanes[0]
            if not lane.ready or lane.stubs:
                found = self._paging.next_lane(queue)
                if found is None:
                    return
                lane = found
            head = lane.head()
            if head.count < FEW:
                head = queue.join(lane, most - left)
            if head.count < len(team) or not _is_plain(head):
                # with a message for each of them a turn through the parent costs less
                return
            octets = MAX_AHEAD_OCTETS
            for consumer in team:
                if not consumer.accepts(head, most_offers):
                    return
                octets = min(octets, consumer.room)
            count = self._ahead.room(max(1, head.affordable(min(most - left, head.count), octets)))
            if not count:
                return
            run = queue.take(lane, count)
            left += run.count
            self._make_offer(team, run, now)

    def _make_offer(self, team: tuple[Consumer, ...], run: Run, now: float) -> None:
        queue = team[0].queue
        offer = self._ahead.open_offer(queue, run, team, now)
        for consumer in team:
            consumer.charge(1, offer.cost)
        try:
            buffers = pack_run(
                Kind.AHEAD,
                run.envelope,
                first=run.first,
                count=run.count,
                slot=offer.slot,
                number=offer.number,
                serial=run.serial,
                deliveries=0,
                destination=queue.name,
                details=run.details,
            )
        except EnvelopeError as error:
            self._withdraw(offer, error)
            return
        self._counters.offers_made += 1
        self._out += [(peer, with_token(buffers, token)) for peer, token in offer.candidates]

    def _withdraw(self, offer: AheadOffer, error: EnvelopeError) -> None:
        """The messages can't be sent to anybody: leave them out, and go on with what follows."""
        self._ahead.cancel(offer)
        for consumer in list(offer.candidates.values()):
            self._answer(offer, consumer, Kind.LOST, offer.count)
        offer.queue.forget(offer.run)
        leave_out(self._kit, offer.queue.name, offer.run, error)

    # -- the end

    def receive(self, offer: AheadOffer, peer: Peer, envelope: Envelope) -> None:
        """Apply what a subscription of this peer says of this offer.

        Raises:
            AssertionError: no such answer can come from this child.
        """
        consumer = offer.candidate(peer, Token(envelope.token))
        if envelope.kind is Kind.CLAIMED:
            self._claim(offer, consumer, envelope.serial)
            self._changed[offer.queue] = None
        else:
            self._answer(offer, consumer, envelope.kind, envelope.index)

    def settle(self, offer: AheadOffer, peer: Peer, envelope: Envelope) -> Work | None:
        """Settlements of a subscription of this peer, some of them of what it has claimed of this offer by that.

        Raises:
            AssertionError: it can't have claimed that.
        """
        consumer = offer.candidate(peer, Token(envelope.token))
        first, end = offer.run.serial, offer.run.serial + offer.count
        rest: list[tuple[int, int, Outcome]] = []
        for serial, count, outcome in envelope.settlements():
            claimed = offer.unclaimed.intersection(range(max(serial, first), min(serial + count, end)))
            if len(claimed) == count and outcome is Outcome.ACKNOWLEDGED:
                # it had these, and is done with them: nobody need know more of that
                self._custody.settle(offer.queue, self._ahead.claim(offer, consumer, serial, count))
                self._counters.messages_claimed += count
                self._counters.messages_acknowledged += count
                if serial + count == end:
                    self._end_candidacy(offer, consumer, offer.count)
                continue
            for each in sorted(claimed):
                self._claim(offer, consumer, each)
            rest.append((serial, count, outcome))
        self._changed[offer.queue] = None
        if rest:
            reason = envelope.block if envelope.block_length else b""
            return self._leases.settle(peer, consumer.token, rest, reason)
        consumer.note_settled(self._kit.timers.now, has_returned=False)
        self._queues.tidy(offer.queue)
        return None

    def _claim(self, offer: AheadOffer, consumer: Consumer, serial: int) -> None:
        """The consumer has the message with this serial."""
        run = self._ahead.claim(offer, consumer, serial)
        consumer.hold(run.cost)
        self._leases.begin(run, consumer)
        if serial + 1 == offer.run.serial + offer.count:
            self._end_candidacy(offer, consumer, offer.count)

    def _answer(self, offer: AheadOffer, consumer: Consumer, kind: Kind, tried: int) -> None:
        """It has tried so many messages. LOST: it has tried all, or gives the rest back; PASSED: it has no room."""
        self._end_candidacy(offer, consumer, tried, has_passed=kind is Kind.PASSED)
        if kind is Kind.LOST:
            self._counters.offers_lost += 1
        else:
            self._counters.offers_passed += 1

    def _end_candidacy(self, offer: AheadOffer, consumer: Consumer, tried: int, *, has_passed: bool = False) -> None:
        """It will claim nothing more of this. To claim the last message says that."""
        is_overdue = offer.is_overdue
        fates = self._ahead.answer(offer, consumer.key, tried)
        consumer.child.open_offers -= 1
        consumer.overdue -= is_overdue
        consumer.take_back(1, offer.cost, has_passed=has_passed)
        self._apply(offer, fates)
        consumer.row.refresh(consumer)

    def end_overdue(self, now: float) -> None:
        """Take back what was kept for too long. Consumers that have not tried all of it are not quick any more."""
        kept = self._ahead.kept
        while kept:
            first = next(iter(kept.values()))
            if first.deadline > now:
                break
            for consumer in first.candidates.values():
                consumer.is_quick = False
            self._recall(first.queue, now)

    def recall_from(self, peer: Peer) -> list[Run]:
        """The peer has ended: take back all that was offered to it ahead, from others as well.

        Return the messages that it may have claimed without telling it.
        """
        for queue in self._ahead.queues_of(peer):
            self._recall(queue, self._kit.timers.now)
        return list(self._ahead.untold(peer))

    def end(self, offer: AheadOffer, key: Key, crash: Crash | None) -> None:
        """A candidate of an offer that was taken back has ended, by this crash if it was one."""
        if offer.unclaimed and crash is not None:
            offer.crash = crash
        self._apply(offer, self._ahead.end(offer, key))

    def _apply(self, offer: AheadOffer, fates: list[tuple[Run, Fate]]) -> None:
        queue = offer.queue
        for run, fate in fates:
            if fate is Fate.UNTOUCHED:
                self._returns.put_back(queue, run)
            else:
                poison = self._blame.judge(run, offer.crash, queue.policy)
                self._returns.requeue(queue, run, poison)
                self._queues.tidy(queue)

    def _must_recall(self, queue: Queue) -> bool:
        offers = self._by_queue[queue]
        for last in offers.values():
            if last.is_left:
                return True
        for consumer in last.candidates.values():
            if last.team != consumer.row.teams:
                return True
            break
        if queue.returning:
            return True
        priority, end = last.run.details.priority, last.run.serial + last.count
        for lane in queue.lanes:
            if lane.priority < priority:
                break
            if lane.priority > priority and (lane.ready or lane.stubs or lane.paged):
                return True
            if lane.priority == priority and (
                (lane.ready and lane.head().serial < end) or (lane.stubs and lane.stubs[-1].serial < end)
            ):
                return True
        return False

    def _recall(self, queue: Queue, now: float) -> None:
        """Take back what was offered ahead, as far as it is not claimed."""
        offers, runs = self._ahead.recall(queue, now)
        for run in runs:
            self._returns.put_back(queue, run)
        for offer in offers:
            for peer, token in offer.candidates:
                self._out.append((peer, pack(Kind.WITHDRAW, token=token, number=offer.number)))


def _is_plain(run: Run) -> bool:
    """Nothing but its turn matters about this message: it can wait elsewhere than in its queue."""
    details = run.details
    return not (run.deliveries or details.crashes or details.expires) and run.cost_of(1) <= MAX_AHEAD_OCTETS
