"""What becomes of offers: an answer, its absence, the end of a candidate, and the run that comes back by that.

`claims.py` decides; here it is carried out. Which messages are to blame for a candidate's crash, and are poison,
`blame.py` knows.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice

from forkbroker.routing.handover import Rule
from forkbroker.routing.jobs.returns import Returns
from forkbroker.routing.kit import Kit
from forkbroker.routing.offers.blame import Blame, Crash, count_convictions
from forkbroker.routing.offers.claims import Claims, Event, Fate, Offer, State
from forkbroker.routing.offers.clientele import Clientele
from forkbroker.routing.offers.consumers import Child, Consumer, Key
from forkbroker.routing.offers.leases import Leases
from forkbroker.routing.peers import Peer, Token
from forkbroker.routing.queues.queue import Queue
from forkbroker.routing.queues.registry import Queues
from forkbroker.routing.queues.runs import Run
from forkbroker.wire.envelope import Envelope
from forkbroker.wire.kinds import Kind

EVENTS = {Kind.CLAIMED: Event.CLAIMED, Kind.LOST: Event.LOST, Kind.PASSED: Event.PASSED}
"""What the answer of a candidate is to an offer."""


class Answers(Rule):
    """The ends of all offers."""

    DUMPED = ("_blame",)

    def __init__(
        self, kit: Kit, queues: Queues, returns: Returns, claims: Claims, clientele: Clientele, leases: Leases
    ) -> None:
        self._counters = kit.counters
        self._queues = queues
        self._returns = returns
        self._claims = claims
        self._clientele = clientele
        self._leases = leases
        self._blame = Blame()

    def receive(self, peer: Peer, envelope: Envelope) -> None:
        """Apply an answer.

        CLAIMED: the peer has the semaphore; LOST: somebody else had it; PASSED: the peer has no room.

        Raises:
            AssertionError: no such answer can come from this child.
        """
        key, event = (peer, Token(envelope.token)), EVENTS[envelope.kind]
        offer = self._claims.find(envelope.number, key)
        consumer = offer.candidates[key]
        if consumer.is_gone and event is Event.CLAIMED:
            raise AssertionError(f"offer {offer.number} was claimed for subscription {key[1]}, which had ended")
        is_overdue = offer.is_overdue
        fate = self._claims.answer(offer, key, event)
        consumer.child.open_offers -= 1
        consumer.overdue -= is_overdue
        if fate is Fate.CLAIMED:
            self._leases.begin(offer.run, consumer)
        else:
            self._take_refusal(consumer, offer, event)
            self._apply(offer, fate)
        self._clientele.refresh(consumer)
        if event is Event.LOST:
            consumer.row.prefer(consumer)

    def _take_refusal(self, consumer: Consumer, offer: Offer, event: Event) -> None:
        consumer.take_back(offer.count, offer.cost, has_passed=event is Event.PASSED)
        if event is Event.LOST:
            self._counters.offers_lost += 1
        else:
            self._counters.offers_passed += 1

    def tick(self, now: float) -> None:
        """Deal with offers that are overdue."""
        for offer, fate in self._claims.take_overdue(now):
            if offer.is_overdue:
                self._counters.offers_overdue += 1
                for consumer in offer.candidates.values():
                    consumer.overdue += 1
                    self._clientele.refresh(consumer)
            self._apply(offer, fate)

    def end_offers(self, child: Child, how: str) -> Crash | None:
        """The child has ended: what becomes of all that it has not answered, and its crash; `how`: if it was one."""
        offers = self._claims.open_for(child.peer)
        crash = self._note_crash(child, offers, how) if how else None
        to_read_next = crash
        for offer, key in offers:
            if offer.state is State.OFFERED and crash is not None:
                offer.crash = crash
            fate = self._claims.answer(offer, key, Event.ENDED)
            if fate is Fate.UNTOUCHED or (fate is Fate.PENDING and offer.state is State.OFFERED):
                offer.blames_first |= to_read_next is not None
                to_read_next = None
            self._apply(offer, fate)
        return crash

    def give_back(self, consumer: Consumer, crash: Crash | None) -> Iterator[None]:
        """The consumer has ended: all that it holds goes back, step by step."""
        for run in self._leases.take_all(consumer):
            self._returns.requeue(consumer.queue, run, self._charge(consumer.queue, run, crash))
            yield

    def _note_crash(self, child: Child, offers: list[tuple[Offer, Key]], how: str) -> Crash:
        # whether it is one message is all that counts
        held = islice(chain.from_iterable(consumer.unsettled for consumer in child.consumers.values()), 2)
        open_runs = {offer: offer.run for offer, _ in offers if offer.state is State.OFFERED}
        return self._blame.note_crash(how, [*held, *open_runs.values()], is_withheld=child.withheld > 0)

    def _apply(self, offer: Offer, fate: Fate) -> None:
        """What an answer, an end or the time has shown about an offer's run."""
        if fate is Fate.UNTOUCHED:
            if offer.blames_first and offer.crash is not None:
                self._put_back_blamed(offer, offer.crash)
            else:
                self._returns.put_back(offer.queue, offer.run)
        elif fate is Fate.DELIVERED:
            self._returns.requeue(offer.queue, offer.run, self._charge(offer.queue, offer.run, offer.crash))
            self._queues.tidy(offer.queue)

    def _put_back_blamed(self, offer: Offer, crash: Crash) -> None:
        """Nobody claimed, but a process crashed that was to read this offer next: the first message is suspect."""
        run = offer.run
        first = run.split(1) if run.count > 1 else run
        self._returns.put_back_blamed(offer.queue, first, self._charge(offer.queue, first, crash))
        if first is not run:
            self._returns.put_back(offer.queue, run)
        self._queues.tidy(offer.queue)

    def _charge(self, queue: Queue, run: Run, crash: Crash | None) -> str:
        """Why these messages are poison, if this crash convicts them and they were convicted as often as it takes."""
        if crash is None or not self._blame.charge(run, crash):
            return ""
        convictions = count_convictions(run.details)
        if not 0 < queue.policy.poison_after <= convictions:
            return ""
        return f"{convictions} child processes crashed while they had only this message, the last one {crash.how}"
