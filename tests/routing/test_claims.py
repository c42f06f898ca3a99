"""The life of an offer."""

from __future__ import annotations

from enum import Enum

import pytest

from forkbroker.routing.offers.claims import TABLE, Claims, Event, Fate, Offer, OfferState
from forkbroker.routing.offers.consumers import Child, Consumer, Consumers
from forkbroker.routing.peers import Peer, Token
from forkbroker.routing.queues.policies import QueuePolicy
from forkbroker.routing.queues.queue import Queue
from forkbroker.routing.queues.runs import make_run
from forkbroker.routing.queues.window import Window

from .simulation import Semaphores, make_send
from .twins import carry

QUEUE = Queue(b"/queue/a", QueuePolicy(), Window(1 << 26))
TIMEOUT = 1.0


class Scene:
    """One offer to some candidates, peers 1, 2, …"""

    def __init__(self, candidates: int, slots: int = 1, semaphores: Semaphores | None = None) -> None:
        self.semaphores = semaphores or Semaphores(slots)
        self.claims = Claims(self.semaphores, TIMEOUT)
        self.offer = self.open(candidates, 0.0)

    def open(self, candidates: int, now: float, queue: Queue = QUEUE) -> Offer:
        consumers = [
            Consumer(
                Consumers(QUEUE, {}, {}),
                Child(Peer(peer), 1 << 26),
                token=Token(7),
                credit=1,
                auto=False,
                exclusive=False,
            )
            for peer in range(1, candidates + 1)
        ]
        return self.claims.open_offer(queue, make_run(make_send(b"/queue/a", [b"x"]), 1), consumers, now)

    def acquire(self) -> None:
        """A child does."""
        assert self.semaphores.try_acquire(self.offer.slot)

    def tell(self, peer: int, event: Event) -> Fate:
        consumer = self.offer.candidate(Peer(peer), Token(7))
        return self.claims.answer(self.offer, consumer.key, event)

    def is_free(self) -> bool:
        return (
            self.offer.state is OfferState.FREE
            and self.claims.free.bit_count() == self.semaphores.size
            and not any(self.semaphores.values)
        )


def test_the_first_claims_and_the_slot_is_free_after_the_last_answer() -> None:
    """Not before: somebody could still try the semaphore."""
    scene = Scene(3)
    scene.acquire()

    assert scene.tell(2, Event.CLAIMED) is Fate.CLAIMED
    assert scene.tell(1, Event.LOST) is Fate.PENDING
    assert scene.offer.state is OfferState.CLAIMED
    assert not scene.claims.free
    assert scene.tell(3, Event.PASSED) is Fate.PENDING
    assert scene.is_free()


def test_a_claim_may_be_told_last() -> None:
    """Losers may be quicker to say so."""
    scene = Scene(2)
    scene.acquire()

    assert scene.tell(1, Event.LOST) is Fate.PENDING
    assert scene.tell(2, Event.CLAIMED) is Fate.CLAIMED
    assert scene.is_free()


def test_passed_by_all_goes_back_untouched() -> None:
    """The parent takes the semaphore back."""
    scene = Scene(2)

    assert scene.tell(1, Event.PASSED) is Fate.PENDING
    assert scene.tell(2, Event.PASSED) is Fate.UNTOUCHED
    assert scene.is_free()


def test_a_candidate_that_ends_leaves_the_offer_to_the_others() -> None:
    """They would get it behind what is younger, if it were taken back."""
    scene = Scene(3)

    assert scene.tell(1, Event.ENDED) is Fate.PENDING
    assert scene.offer.state is OfferState.OFFERED
    scene.acquire()
    assert scene.tell(2, Event.CLAIMED) is Fate.CLAIMED
    assert scene.tell(3, Event.LOST) is Fate.PENDING
    assert scene.is_free()


@pytest.mark.parametrize("last", [Event.PASSED, Event.ENDED])
def test_a_candidate_that_ended_and_others_that_pass_give_it_back_untouched(last: Event) -> None:
    """Nobody has claimed, and nobody is left who could."""
    scene = Scene(2)

    assert scene.tell(1, Event.ENDED) is Fate.PENDING
    assert scene.tell(2, last) is Fate.UNTOUCHED
    assert scene.is_free()


@pytest.mark.parametrize("others", [[Event.LOST, Event.PASSED], [Event.PASSED, Event.ENDED]])
def test_a_candidate_that_claims_and_ends_gives_it_back_as_delivered(others: list[Event]) -> None:
    """When all others have denied, nobody else can have claimed."""
    scene = Scene(3)
    scene.acquire()

    assert scene.tell(1, Event.ENDED) is Fate.PENDING
    assert scene.tell(2, others[0]) is Fate.PENDING
    assert scene.tell(3, others[1]) is Fate.DELIVERED
    assert scene.is_free()


def test_a_single_candidate_that_ends_is_judged_at_once() -> None:
    """By the semaphore."""
    untouched, delivered = Scene(1), Scene(1)
    delivered.acquire()

    assert untouched.tell(1, Event.ENDED) is Fate.UNTOUCHED
    assert delivered.tell(1, Event.ENDED) is Fate.DELIVERED
    assert untouched.is_free()
    assert delivered.is_free()


def test_one_ended_and_another_has_claimed() -> None:
    """The semaphore was taken, but by the living one."""
    scene = Scene(2)
    scene.acquire()

    assert scene.tell(1, Event.ENDED) is Fate.PENDING
    assert scene.tell(2, Event.CLAIMED) is Fate.CLAIMED
    assert scene.is_free()


def test_after_a_claim_ends_of_others_change_nothing() -> None:
    """The claimer's own end is a matter of what is unsettled."""
    scene = Scene(2)
    scene.acquire()
    scene.tell(1, Event.CLAIMED)

    assert scene.tell(2, Event.ENDED) is Fate.PENDING
    assert scene.is_free()


def test_an_overdue_offer_that_nobody_claimed_goes_back() -> None:
    """Its slot stays in use until the silent one loses."""
    scene = Scene(1)

    assert scene.claims.deadline() == TIMEOUT
    assert scene.claims.take_overdue(TIMEOUT - 0.1) == []
    assert scene.claims.take_overdue(TIMEOUT) == [(scene.offer, Fate.UNTOUCHED)]
    assert scene.offer.is_overdue
    assert scene.claims.deadline() is None
    assert not scene.claims.free
    assert scene.tell(1, Event.LOST) is Fate.PENDING
    assert scene.is_free()


def test_an_overdue_offer_that_somebody_claimed_waits_for_its_word() -> None:
    """The claimer may only be slow."""
    scene = Scene(2)
    scene.acquire()

    assert scene.claims.take_overdue(TIMEOUT) == [(scene.offer, Fate.PENDING)]
    assert scene.tell(2, Event.CLAIMED) is Fate.CLAIMED
    assert scene.tell(1, Event.LOST) is Fate.PENDING
    assert scene.is_free()


def test_a_silent_candidate_of_a_claimed_offer_is_overdue_too() -> None:
    """The run is not touched."""
    scene = Scene(2)
    scene.acquire()
    scene.tell(1, Event.CLAIMED)

    assert scene.claims.take_overdue(TIMEOUT) == [(scene.offer, Fate.PENDING)]
    assert scene.tell(2, Event.LOST) is Fate.PENDING
    assert scene.is_free()


def test_with_an_overdue_offer_goes_what_is_younger_in_its_queue() -> None:
    """Else a child that goes on would win that, and deliver it before what was taken back. It is not overdue itself."""
    scene = Scene(1, slots=4)
    second, other = scene.open(2, 0.5), scene.open(1, 0.7, Queue(b"/queue/b", QueuePolicy(), Window(1 << 26)))

    assert scene.claims.take_overdue(TIMEOUT) == [(scene.offer, Fate.UNTOUCHED), (second, Fate.UNTOUCHED)]
    assert [offer.is_overdue for offer in (scene.offer, second, other)] == [True, False, False]
    assert other.state is OfferState.OFFERED
    assert scene.claims.take_overdue(TIMEOUT + 0.5) == [(second, Fate.PENDING)]
    assert second.is_overdue


def test_what_is_younger_stays_when_the_overdue_one_is_claimed() -> None:
    """Its order is in no danger."""
    scene = Scene(1, slots=4)
    second = scene.open(1, 0.5)
    scene.acquire()
    scene.tell(1, Event.CLAIMED)
    late = scene.open(2, 0.0)
    scene.semaphores.try_acquire(late.slot)
    key = (Peer(2), Token(7))
    scene.claims.answer(late, key, Event.CLAIMED)

    assert scene.claims.take_overdue(TIMEOUT) == []
    assert scene.claims.take_overdue(TIMEOUT + 0.5) == [(second, Fate.UNTOUCHED), (late, Fate.PENDING)]


class Waking(Semaphores):
    """While the parent takes back, a stopped child goes on, and tries one offer after the other."""

    def __init__(self, size: int, sleeps: int) -> None:
        super().__init__(size)
        self.sleeps = sleeps
        self.offered: list[int] = []
        self.won: list[int] = []

    def try_acquire(self, slot: int) -> bool:
        """The parent's; the child has its step behind that, when it has slept for so many of them."""
        found = super().try_acquire(slot)
        self.sleeps -= 1
        if self.sleeps < 0 and self.offered:
            mine = self.offered.pop(0)
            if super().try_acquire(mine):
                self.won.append(mine)
        return found


@pytest.mark.parametrize("sleeps", range(10))
def test_a_child_that_goes_on_meanwhile_wins_the_oldest_and_none_behind(sleeps: int) -> None:
    """The parent tries from the youngest to the oldest."""
    semaphores = Waking(10, sleeps)
    scene = Scene(1, slots=10, semaphores=semaphores)
    offers = [scene.offer] + [scene.open(1, 0.1 * number) for number in range(1, 8)]
    semaphores.offered = [offer.slot for offer in offers]

    returned = [offer for offer, fate in scene.claims.take_overdue(TIMEOUT) if fate is Fate.UNTOUCHED]

    won = [offer for offer in offers if offer.slot in semaphores.won]
    assert won + returned == offers


def test_the_end_of_an_overdue_offer_is_its_end() -> None:
    """Nobody waits for it any more, and its slot is free."""
    scene = Scene(1)
    scene.claims.take_overdue(TIMEOUT)
    scene.tell(1, Event.LOST)

    assert scene.claims.find_silent(100.0) == set()
    assert not scene.offer.is_overdue
    assert scene.claims.open_for(Peer(1)) == []
    assert scene.is_free()


def test_the_silent_are_named() -> None:
    """Those that owe an answer since the given time."""
    scene = Scene(2)
    scene.tell(1, Event.PASSED)

    assert scene.claims.find_silent(100.0) == set()
    scene.claims.take_overdue(TIMEOUT)
    assert scene.claims.find_silent(TIMEOUT) == {Peer(2)}
    assert scene.claims.find_silent(TIMEOUT - 0.1) == set()


def test_the_next_deadline_is_that_of_the_oldest_open_offer() -> None:
    """Closed ones have none."""
    scene = Scene(1, slots=2)
    second = scene.open(1, 0.5)

    scene.tell(1, Event.PASSED)

    assert scene.claims.deadline() == second.deadline == 0.5 + TIMEOUT
    assert scene.claims.open_for(Peer(1)) == [(second, (Peer(1), Token(7)))]
    assert scene.claims.open_for(Peer(2)) == []


def test_answers_that_nobody_asked_for_cannot_happen() -> None:
    """Unknown offers, other children, second answers."""
    scene = Scene(2)
    scene.tell(1, Event.PASSED)

    for peer in (1, 3):
        with pytest.raises(AssertionError, match=f"offer 1 expects no answer of child {peer}"):
            scene.tell(peer, Event.LOST)
    assert scene.claims.find(2) is None


def test_two_claims_cannot_happen() -> None:
    """The second one's child is ended; that then counts as its answer."""
    scene = Scene(2)
    scene.acquire()
    scene.tell(1, Event.CLAIMED)

    with pytest.raises(AssertionError, match="offer 1 is CLAIMED: CLAIMED of child 2"):
        scene.tell(2, Event.CLAIMED)
    assert scene.tell(2, Event.ENDED) is Fate.PENDING
    assert scene.is_free()


def test_a_semaphore_that_nobody_took_cannot_be_gone() -> None:
    """Somebody lies; its end settles the matter."""
    scene = Scene(2)
    scene.acquire()
    scene.tell(1, Event.LOST)

    with pytest.raises(AssertionError, match="by no candidate"):
        scene.tell(2, Event.LOST)
    assert scene.tell(2, Event.ENDED) is Fate.DELIVERED
    assert scene.is_free()


def test_the_table_is_complete() -> None:
    """Every state that waits for answers knows every event, but a claim of what is claimed or taken back."""
    missing = {(state, event) for state in OfferState for event in Event if state is not OfferState.FREE} - set(TABLE)

    assert missing == {(OfferState.CLAIMED, Event.CLAIMED), (OfferState.RETURNING, Event.CLAIMED)}


@pytest.mark.parametrize("enumeration", [OfferState, Event, Fate])
def test_states_and_events_are_told_apart(enumeration: type[Enum]) -> None:
    """A second name for a number would be an alias, and one row of the table would take the place of another."""
    assert len(enumeration.__members__) == len(list(enumeration))


def test_all_that_can_happen_to_an_offer_is_in_the_table() -> None:
    """An offer is claimed once, and what is free was never offered: all else can be."""
    states = set(OfferState) - {OfferState.FREE}
    twice = {(state, Event.CLAIMED) for state in states - {OfferState.OFFERED}}

    assert set(TABLE) == {(state, event) for state in states for event in Event} - twice


# ---------------------------------------------------------------- in another router


def carry_scene(scene: Scene) -> Scene:
    """The offer is another object then, of another rule that uses the same semaphores."""
    scene.claims = carry(scene.claims, Claims(scene.semaphores, TIMEOUT))
    scene.offer = (scene.claims.timely | scene.claims._overdue)[scene.offer.number]
    return scene


@pytest.mark.parametrize(("has_claimed", "fate"), [(True, Fate.DELIVERED), (False, Fate.UNTOUCHED)])
def test_another_router_decides_the_claim_of_a_candidate_that_ends(has_claimed: bool, fate: Fate) -> None:
    """The semaphore has been taken meanwhile, or was not."""
    scene = Scene(2)
    scene.tell(1, Event.ENDED)
    scene = carry_scene(scene)
    if has_claimed:
        scene.acquire()
    scene = carry_scene(scene)

    assert scene.tell(2, Event.ENDED) is fate
    assert scene.is_free()


def test_another_router_waits_for_the_answers_that_are_missing() -> None:
    """Of an offer that is claimed, and of one that is overdue."""
    scene = Scene(3)
    scene.acquire()
    scene.tell(2, Event.CLAIMED)
    scene = carry_scene(scene)
    assert scene.offer.state is OfferState.CLAIMED
    assert scene.claims.deadline() == TIMEOUT
    assert scene.claims.take_overdue(TIMEOUT) == [(scene.offer, Fate.PENDING)]
    scene = carry_scene(scene)
    assert scene.claims.find_silent(TIMEOUT) == {Peer(1), Peer(3)}
    with pytest.raises(AssertionError, match="expects no answer of child 2"):
        scene.tell(2, Event.LOST)
    scene.tell(1, Event.LOST)
    scene.tell(3, Event.LOST)

    assert scene.claims.open_for(Peer(1)) == []
    assert scene.open(1, 0.0).number == 2


def test_another_router_uses_the_slots_that_are_free() -> None:
    """And none that a child may still try."""
    scene = Scene(1, slots=2)
    scene = carry_scene(scene)
    other = scene.open(1, 0.0)

    assert {scene.offer.slot, other.slot} == {0, 1}
    assert not scene.claims.free
