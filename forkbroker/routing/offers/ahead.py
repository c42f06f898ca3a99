"""Offers ahead, and their state: a run of which each message has a slot of its own, for several candidates.

The candidates keep it, and take a message whenever their client has settled the last one, without a word of the
parent: each tries the semaphores from the first to the last, and has the message whose semaphore it gets. So messages
are claimed in their order, whoever claims them. A candidate tells

- CLAIMED, or a SETTLE that says it as well, of one message: it is this candidate's;
- LOST, when it has tried all: they are all claimed, and younger messages can be offered. To claim the last one says as
  much;
- PASSED, or LOST before it has tried all, when it leaves: then the parent takes the offer back, as it may at any time.

To take an offer back (`recall`) is to try the semaphores that nobody is known to have got, from the last to the first,
for the reason that `claims.py` gives. The messages of those that the parent gets go back to the queue, and from then on
the candidates have to answer in time, as with any other offer. A candidate that has one of the others tells it before
it answers. If none does, a candidate had it that has ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

from forkbroker.routing.handover import Loaded, Rule
from forkbroker.routing.offers.claims import Claims, Fate, Offer, OfferState, Slots
from forkbroker.routing.offers.consumers import Consumer, Key
from forkbroker.routing.peers import Peer, Slot
from forkbroker.routing.queues.queue import Queue
from forkbroker.routing.queues.runs import Run

AHEAD_S = 0.1
"""So long an offer ahead may be kept (seconds). Quick consumers have claimed all of it by then."""


class AheadOffer(Offer):
    """A run, a slot for each of its messages, and the candidates that have not answered."""

    __slots__ = ("is_left", "team", "tried", "unclaimed")

    def __init__(
        self, number: int, slot: Slot, queue: Queue, run: Run, deadline: float, team: tuple[Consumer, ...]
    ) -> None:
        """`deadline`: when it has been kept for too long, or later an answer is overdue (seconds)."""
        super().__init__(number, slot, queue, run, deadline, slots=run.count)
        self.team = team[0].row.teams
        """Which team of the queue's this is: it may be offered other things if there is another one now."""
        self.candidates = {consumer.key: consumer for consumer in team}
        self.unclaimed = set(range(run.serial, run.serial + run.count))
        """The serials of the messages that nobody is known to have claimed, and that were not taken back."""
        self.tried = 0
        """So many of the first messages have been tried by somebody, as far as is known: they are claimed."""
        self.is_left = False
        """A candidate will not try the rest."""


class AheadClaims(Rule):
    """All offers ahead that are kept. Those that were taken back are among those that `Claims` waits for."""

    DUMPED = ("kept",)
    ANEW = ("_reserve", "_slots", "by_queue")

    def __init__(self, slots: Slots, claims: Claims) -> None:
        """Use some of the slots that `claims` has."""
        self._slots = slots
        self._claims = claims
        self._reserve = slots.size // 2
        self.kept: dict[int, AheadOffer] = {}
        """By number, oldest first, so the first one's deadline is the next; to read."""
        self.by_queue: dict[Queue, dict[int, AheadOffer]] = {}
        """The same, by queue, in the order of its messages; to read."""

    def rebuild(self, loaded: Loaded) -> None:
        """Note which queues have some."""
        self.by_queue.clear()
        for number, offer in self.kept.items():
            self.by_queue.setdefault(offer.queue, {})[number] = offer

    def room(self, most: int) -> int:
        """Of so many messages, how many can be offered ahead at once: there are slots for them, side by side.

        Half of all slots are left to offers that are not made ahead.
        """
        free = self._claims.free
        count = max(0, min(most, free.bit_count() - self._reserve))
        while count and _find_row(free, count) is None:
            count //= 2
        return count

    def open_offer(self, queue: Queue, run: Run, team: tuple[Consumer, ...], now: float) -> AheadOffer:
        """Use slots for this run, for which there is `room`.

        The semaphores are posted; the caller sends the offer to each candidate.
        """
        claims = self._claims
        slot = _find_row(claims.free, run.count)
        assert slot is not None
        offer = AheadOffer(claims.next_number(), slot, queue, run, now + AHEAD_S, team)
        claims.free ^= offer.mask
        for each in range(slot, slot + run.count):
            self._slots.post(Slot(each))
        self.kept[offer.number] = self.by_queue.setdefault(queue, {})[offer.number] = offer
        return offer

    def claim(self, offer: AheadOffer, consumer: Consumer, serial: int, count: int = 1) -> Run:
        """A candidate has claimed so many messages from this serial on, which are returned.

        Raises:
            AssertionError: it can't have. Nothing has changed then.
        """
        unclaimed, run = offer.unclaimed, offer.run
        slot = offer.slot + serial - run.serial
        for each in range(count):
            if consumer.is_gone or serial + each not in unclaimed:
                raise AssertionError(
                    f"offer {offer.number} has no message {serial + each} that child {consumer.peer}, "
                    f"subscription {consumer.token}, can have claimed"
                )
            self._claims.verify_claim(offer, Slot(slot + each), consumer.peer)
        for each in range(count):
            unclaimed.remove(serial + each)
        offer.tried = max(offer.tried, serial + count - run.serial)
        return run.part(serial, count)

    def answer(self, offer: AheadOffer, key: Key, tried: int) -> list[tuple[Run, Fate]]:
        """A candidate's only answer, having tried so many of the first messages: what became of messages by that.

        Raises:
            AssertionError: it can't have tried so many. Nothing has changed then.
        """
        if tried > offer.count:
            raise AssertionError(f"offer {offer.number} has {offer.count} messages, child {key[0]} has tried {tried}")
        offer.tried = max(offer.tried, tried)
        offer.is_left |= tried < offer.count
        return self._lose(offer, key)

    def end(self, offer: AheadOffer, key: Key) -> list[tuple[Run, Fate]]:
        """A candidate has ended without an answer: the same."""
        offer.has_ended = True
        return self._lose(offer, key)

    def _lose(self, offer: AheadOffer, key: Key) -> list[tuple[Run, Fate]]:
        found = self._decide(offer) if len(offer.candidates) == 1 and offer.unclaimed else []
        del offer.candidates[key]
        if not offer.candidates:
            if self.kept.pop(offer.number, None) is not None:
                offers = self.by_queue[offer.queue]
                del offers[offer.number]
                if not offers:
                    del self.by_queue[offer.queue]
            self._claims.close(offer)
        return found

    def recall(self, queue: Queue, now: float) -> tuple[list[AheadOffer], list[Run]]:
        """Take back what this queue has offered ahead: the offers, and the messages that nobody has claimed.

        From now on all of them have to be answered in time.
        """
        offers = list(self.by_queue.pop(queue).values())
        runs: list[Run] = []
        for offer in reversed(offers):
            runs += self._take_back(offer)
            offer.state = OfferState.RETURNING
            del self.kept[offer.number]
        for offer in offers:
            self._claims.await_answers(offer, now)
        return offers, runs

    def cancel(self, offer: AheadOffer) -> None:
        """The offer was sent to nobody: nobody has claimed anything of it."""
        self._take_back(offer)
        assert not offer.unclaimed, f"offer {offer.number} was claimed before it was sent"

    def untold(self, peer: Peer) -> Iterator[Run]:
        """Messages of offers that were taken back which this peer may have claimed, and others as well."""
        offers = (offer for offer, _ in self._claims.open_for(peer) if isinstance(offer, AheadOffer))
        return chain.from_iterable((offer.run.part(each, 1) for each in sorted(offer.unclaimed)) for offer in offers)

    def queues_of(self, peer: Peer) -> set[Queue]:
        """Queues of which something was offered to this peer ahead."""
        return {offer.queue for offer in self.kept.values() for key in offer.candidates if key[0] == peer}

    def _take_back(self, offer: AheadOffer) -> list[Run]:
        """The messages that nobody has claimed, and that nobody can claim from now on."""
        first = offer.run.serial
        taken = [
            serial
            for serial in sorted(offer.unclaimed, reverse=True)
            if self._slots.try_acquire(Slot(offer.slot + serial - first))
        ]
        offer.unclaimed.difference_update(taken)
        return list(_join(offer.run, taken))

    def _decide(self, offer: AheadOffer) -> list[tuple[Run, Fate]]:
        """All have answered or ended, and there are messages of which none has said that it claimed them."""
        taken = self._take_back(offer) if offer.state is OfferState.OFFERED else []
        if offer.unclaimed and not offer.has_ended:
            self._undo(offer, taken)
            raise AssertionError(f"offer {offer.number} is taken, but by no candidate, and none has ended")
        delivered = [offer.run.part(serial, 1) for serial in sorted(offer.unclaimed)]
        return [*((run, Fate.UNTOUCHED) for run in taken), *((run, Fate.DELIVERED) for run in delivered)]

    def _undo(self, offer: AheadOffer, taken: list[Run]) -> None:
        """These can be claimed as before: whoever has lied is ended, and then it is decided again."""
        for run in taken:
            for serial in range(run.serial, run.serial + run.count):
                offer.unclaimed.add(serial)
                self._slots.post(Slot(offer.slot + serial - offer.run.serial))


def _find_row(free: int, count: int) -> Slot | None:
    """The first of so many free slots that follow each other; None: there are no such ones.

    Single ones are taken from the end, so that rows are there.
    """
    begins = free
    for distance in range(1, count):
        begins &= free >> distance
    return Slot((begins & -begins).bit_length() - 1) if begins else None


def _join(run: Run, serials: Iterable[int]) -> Iterator[Run]:
    """Parts of a run with these messages, the youngest first, as they are given."""
    first = count = 0
    for serial in serials:
        if count and serial == first - 1:
            count += 1
        else:
            if count:
                yield run.part(first, count)
            count = 1
        first = serial
    if count:
        yield run.part(first, count)
