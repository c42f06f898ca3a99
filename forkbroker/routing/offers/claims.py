"""The life of an offer, with a semaphore as the judge.

An offer is a free slot and a run of messages, sent to some candidates. The parent posts the slot's semaphore once, so
one candidate at most can get it: that one *claims* the run. Every candidate answers once, CLAIMED, LOST or PASSED, or
ends. The slot is free again when nobody can touch its semaphore any more: when each candidate has answered or ended.

The table says what an event does to an offer:

- HAND_OVER: the run is this candidate's.
- ASK: try the semaphore. The parent gets it: nobody has claimed, and nobody will; the run goes back as it is
  (RETURNING). It doesn't: somebody has claimed, whose report or end will tell; wait.
- WAIT: one answer fewer to wait for, or none more in time.

After the last answer an offer that is still OFFERED is decided in the same way. If the parent gets the semaphore, all
have passed or ended. If not, a candidate has claimed and ended before it could say so, perhaps after its client got
the messages: they go back with one delivery more. The semaphore is the truth that survives a crash; had nobody ended,
this could not be. The end of one candidate of several takes nothing back: the others still see the offer in its place
among their own, and what was taken back would come to them behind what is younger.

For the same reason the parent takes back more than what is overdue, and in a certain order. A child that has been
stopped answers its offers in their order when it goes on; if only those that are overdue had been taken back, it would
win the younger ones, and deliver them before the older ones come again. So the first overdue offer of a queue takes
all open ones of that queue with it, whoever their candidates are, and the parent tries their semaphores from the
youngest to the oldest. A child that goes on at just that moment, from the oldest to the youngest, then wins the oldest
ones up to some point and none behind it (docs/model/order.pml).

A dead candidate that has claimed can't be told from a living one that doesn't answer: the run waits for the living
one's answer or end. A ledger in shared memory would tell at once, at a price for every claim; the case is too rare.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum, IntEnum
from typing import Protocol

from forkbroker.routing.handover import Record, Rule
from forkbroker.routing.offers.blame import Crash
from forkbroker.routing.offers.consumers import Consumer
from forkbroker.routing.peers import Peer, Slot, Token
from forkbroker.routing.queues.queue import Queue
from forkbroker.routing.queues.runs import Run


class Slots(Protocol):
    """A pool of semaphores that children share with the parent. Their values start at 0."""

    @property
    def size(self) -> int:
        """How many there are: numbered from 0."""

    def post(self, slot: int) -> None:
        """Raise the value by one."""

    def try_acquire(self, slot: int) -> bool:
        """Lower the value by one if it is above 0, without waiting; tell whether it was."""


class OfferState(IntEnum):
    """Of an offer, and so of its slot."""

    FREE = 0
    """All have answered: the slot can be used again."""
    OFFERED = 1
    """Nobody is known to have claimed."""
    CLAIMED = 2
    """The run is its claimer's; others have not answered yet."""
    RETURNING = 3
    """The parent took the semaphore back, and the run is back in its queue; some have not answered yet."""


class Event(IntEnum):
    """What can happen to an offer."""

    CLAIMED = 0
    LOST = 1
    PASSED = 2
    ENDED = 3
    """A candidate ended without an answer."""
    OVERDUE = 4
    """The time for answers is over."""


class Step(Enum):
    """What is done about it."""

    HAND_OVER = "hand over"
    ASK = "ask"
    WAIT = "wait"


TABLE: dict[tuple[OfferState, Event], Step] = {
    (OfferState.OFFERED, Event.CLAIMED): Step.HAND_OVER,
    (OfferState.OFFERED, Event.LOST): Step.WAIT,
    (OfferState.OFFERED, Event.PASSED): Step.WAIT,
    (OfferState.OFFERED, Event.ENDED): Step.WAIT,
    (OfferState.OFFERED, Event.OVERDUE): Step.ASK,
    (OfferState.CLAIMED, Event.LOST): Step.WAIT,
    (OfferState.CLAIMED, Event.PASSED): Step.WAIT,
    (OfferState.CLAIMED, Event.ENDED): Step.WAIT,
    (OfferState.CLAIMED, Event.OVERDUE): Step.WAIT,
    (OfferState.RETURNING, Event.LOST): Step.WAIT,
    (OfferState.RETURNING, Event.PASSED): Step.WAIT,
    (OfferState.RETURNING, Event.ENDED): Step.WAIT,
    (OfferState.RETURNING, Event.OVERDUE): Step.WAIT,
}
"""A pair that is missing can't happen: a child that brings it about is ended."""


class Fate(Enum):
    """What became of an offer's run by an event."""

    PENDING = "pending"
    """Nothing new."""
    CLAIMED = "claimed"
    """It is the candidate's whose event this was."""
    UNTOUCHED = "untouched"
    """Nobody got it: back as it was."""
    DELIVERED = "delivered"
    """It was claimed by a candidate that ended: back, with one delivery more."""


class Offer(Record):
    """A run, a slot, and the candidates that have not answered."""

    __slots__ = (
        "blames_first",
        "candidates",
        "cost",
        "count",
        "crash",
        "deadline",
        "has_ended",
        "is_overdue",
        "mask",
        "number",
        "queue",
        "run",
        "slot",
        "state",
    )

    def __init__(self, number: int, slot: Slot, queue: Queue, run: Run, deadline: float, *, slots: int = 1) -> None:
        """It uses so many slots, from `slot` on. `deadline`: when an answer is overdue (seconds)."""
        self.number = number
        self.slot = slot
        self.mask = (1 << slots) - 1 << slot
        """A bit for each slot that it uses."""
        self.queue = queue
        self.run = run
        self.count = run.count
        """Messages that were offered: the run itself may be divided once it is claimed."""
        self.cost = run.cost
        """Octets that each candidate is charged with until it has answered."""
        self.deadline = deadline
        self.state = OfferState.OFFERED
        self.candidates: dict[tuple[Peer, Token], Consumer] = {}
        """Those that have not answered."""
        self.is_overdue = False
        """It counts against its candidates that they have not answered."""
        self.has_ended = False
        """A candidate ended without an answer while nobody was known to have claimed."""
        self.crash: Crash | None = None
        """How the process of such a candidate crashed, if it did."""
        self.blames_first = False
        """It may have crashed of reading this offer: the crash counts for the first message even if nobody claimed."""

    def candidate(self, peer: Peer, token: Token) -> Consumer:
        """The consumer that this subscription of this peer is.

        Raises:
            AssertionError: it is no candidate, or has answered.
        """
        consumer = self.candidates.get((peer, token))
        if consumer is None:
            raise AssertionError(f"offer {self.number} expects no answer of child {peer}, subscription {token}")
        return consumer

    def rebuild(self) -> None:
        """Let the number be a state again."""
        self.state = OfferState(self.state)


class Claims(Rule):
    """All offers that are open and have to be answered, and the slots for more."""

    DUMPED = ("free", "_number", "timely", "_overdue")
    ANEW = ("_slots", "_timeout_s")
    """The slots of the other router, by the same numbers."""

    def __init__(self, slots: Slots, answer_timeout_s: float) -> None:
        """Use all of `slots`, from now on and alone."""
        self._slots = slots
        self._timeout_s = answer_timeout_s
        self.free = (1 << slots.size) - 1
        """A bit for each slot that no offer uses."""
        self._number = 0
        self.timely: dict[int, Offer] = {}
        """Those that are not overdue, oldest first, so the first one's deadline is the next; to read."""
        self._overdue: dict[int, Offer] = {}

    def next_number(self) -> int:
        """A number for an offer: no other one has had it."""
        self._number += 1
        return self._number

    def open_offer(self, queue: Queue, run: Run, candidates: Iterable[Consumer], now: float) -> Offer:
        """Use a free slot for this run, the last one. There must be one.

        The semaphore is posted; the caller sends the offer to each candidate.
        """
        self._number += 1
        slot = Slot(self.free.bit_length() - 1)
        offer = Offer(self._number, slot, queue, run, now + self._timeout_s)
        self.free ^= offer.mask
        for candidate in candidates:
            offer.candidates[candidate.key] = candidate
        self.timely[self._number] = offer
        self._slots.post(slot)
        return offer

    def await_answers(self, offer: Offer, now: float) -> None:
        """From now on the answers of this offer's candidates have to come in time."""
        offer.deadline = now + self._timeout_s
        self.timely[offer.number] = offer

    def find(self, number: int) -> Offer | None:
        """The open offer with this number; None: there is none."""
        return self.timely.get(number) or self._overdue.get(number)

    def answer(self, offer: Offer, key: tuple[Peer, Token], event: Event) -> Fate:
        """A candidate's only answer, or its end; tells what became of the run.

        Raises:
            AssertionError: can't happen in the offer's state. Nothing has changed then.
        """
        step = TABLE.get((offer.state, event))
        if step is None:
            raise AssertionError(f"offer {offer.number} is {offer.state.name}: {event.name} of child {key[0]}")
        fate = Fate.PENDING
        if step is Step.HAND_OVER:
            self.verify_claim(offer, offer.slot, key[0])
            offer.state, fate = OfferState.CLAIMED, Fate.CLAIMED
        offer.has_ended |= event is Event.ENDED
        if len(offer.candidates) == 1 and offer.state is OfferState.OFFERED:
            fate = self._decide(offer)
        del offer.candidates[key]
        if not offer.candidates:
            self.close(offer)
        return fate

    def verify_claim(self, offer: Offer, slot: Slot, peer: Peer) -> None:
        """Whoever has claimed has the semaphore: this costs 0.6 µs an offer.

        Were a lie believed here, the slot would become free with its semaphore raised, and two honest children could
        claim the next offer that uses it.

        Raises:
            AssertionError: it is a lie.
        """
        if self._slots.try_acquire(slot):
            self._slots.post(slot)
            raise AssertionError(f"offer {offer.number} was claimed by child {peer}, which has not taken its semaphore")

    def open_for(self, peer: Peer) -> list[tuple[Offer, tuple[Peer, Token]]]:
        """Return what the peer has not answered, in the order in which it was offered."""
        offers = (*self._overdue.values(), *self.timely.values())
        return [(offer, key) for offer in offers for key in offer.candidates if key[0] == peer]

    def deadline(self) -> float | None:
        """When `take_overdue` will have something to do (seconds)."""
        for offer in self.timely.values():
            return offer.deadline
        return None

    def take_overdue(self, now: float) -> list[tuple[Offer, Fate]]:
        """Return the offers whose time for answers is over, each once, and what became of their runs by that.

        Offers that were taken back with them before their time are among them, and are not overdue yet.
        """
        for first in self.timely.values():
            if first.deadline > now:
                return []
            break
        else:
            return []
        late: list[Offer] = []
        while self.timely:
            number, offer = next(iter(self.timely.items()))
            if offer.deadline > now:
                break
            self._overdue[number] = self.timely.pop(number)
            offer.is_overdue = True
            late.append(offer)
        stalled = {offer.queue for offer in late if TABLE[offer.state, Event.OVERDUE] is Step.ASK}
        young = [offer for offer in self.timely.values() if offer.queue in stalled] if stalled else []
        fates = {offer: self._ask(offer) for offer in reversed(late + young) if offer.state is OfferState.OFFERED}
        found = [(offer, fates.get(offer, Fate.PENDING)) for offer in late]
        return found + [(offer, fates[offer]) for offer in young if fates.get(offer) is Fate.UNTOUCHED]

    def find_silent(self, since: float) -> set[Peer]:
        """Peers whose answers have been overdue since then (seconds)."""
        return {peer for offer in self._overdue.values() if offer.deadline <= since for peer, _ in offer.candidates}

    def _ask(self, offer: Offer) -> Fate:
        if not self._slots.try_acquire(offer.slot):
            return Fate.PENDING
        offer.state = OfferState.RETURNING
        return Fate.UNTOUCHED

    def _decide(self, offer: Offer) -> Fate:
        """All have answered or ended, and none has said that it claimed."""
        fate = self._ask(offer)
        if fate is Fate.PENDING and not offer.has_ended:
            raise AssertionError(f"offer {offer.number} is taken, but by no candidate, and none has ended")
        return Fate.DELIVERED if fate is Fate.PENDING else fate

    def close(self, offer: Offer) -> None:
        """All have answered or ended: the offer's slots can be used again."""
        offer.state = OfferState.FREE
        if self.timely.pop(offer.number, None) is None and self._overdue.pop(offer.number, None) is not None:
            offer.is_overdue = False
        self.free |= offer.mask
