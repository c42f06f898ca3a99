"""Who is asked, and in which order."""

from __future__ import annotations

from forkbroker.routing.consumers import MAX_OPEN_OFFERS, Consumer, Consumers
from forkbroker.routing.peers import Peer, Token
from forkbroker.routing.policies import QueuePolicy
from forkbroker.routing.queue import Queue
from forkbroker.routing.window import Window

QUEUE = Queue(b"/queue/a", QueuePolicy(), Window(1 << 26))


def make_consumer(peer: int, *, credit: int = 1, auto: bool = False, exclusive: bool = False) -> Consumer:
    return Consumer(QUEUE, peer=Peer(peer), token=Token(1), credit=credit, auto=auto, exclusive=exclusive)


def make_consumers(*several: Consumer) -> Consumers:
    consumers = Consumers()
    for consumer in several:
        consumers.add(consumer)
    return consumers


def test_whoever_was_asked_goes_to_the_end() -> None:
    """If its credit allows more; else it leaves the row."""
    one, two = make_consumer(1, credit=2), make_consumer(2, credit=2)
    consumers = make_consumers(one, two)

    assert consumers.take(1) == [one]
    consumers.charge([one], 1)
    assert list(consumers.willing) == [two, one]
    assert consumers.take(5) == [two, one]
    consumers.charge([two, one], 1)
    assert list(consumers.willing) == [two]


def test_who_got_nothing_is_asked_first() -> None:
    """Unless it is not willing."""
    one, two = make_consumer(1), make_consumer(2)
    consumers = make_consumers(one, two)

    consumers.prefer(two)
    assert list(consumers.willing) == [two, one]
    one.free = 0
    consumers.refresh(one)
    consumers.prefer(one)
    assert list(consumers.willing) == [two]


def test_each_reason_keeps_a_consumer_out_while_it_lasts() -> None:
    """No credit, no room, an answer overdue, too many unanswered, gone."""
    consumer = make_consumer(1)
    consumers = make_consumers(consumer)
    reasons = {"free": 0, "has_passed": True, "overdue": 1, "open_offers": MAX_OPEN_OFFERS, "is_gone": True}

    for reason, value in reasons.items():
        before = getattr(consumer, reason)
        setattr(consumer, reason, value)
        consumers.refresh(consumer)
        assert not consumers.willing, reason
        setattr(consumer, reason, before)
        consumers.refresh(consumer)
        assert list(consumers.willing) == [consumer]


def test_unanswered_offers_are_bounded() -> None:
    """However much credit is left."""
    consumers = make_consumers(make_consumer(1, credit=1000))

    for _ in range(MAX_OPEN_OFFERS):
        consumers.charge(consumers.take(1), 1)

    assert not consumers.willing


def test_one_exclusive_consumer_is_served_and_the_next_takes_over() -> None:
    """The oldest of them; without any, everybody again."""
    plain, first, second = make_consumer(1), make_consumer(2, exclusive=True), make_consumer(3, exclusive=True)
    consumers = make_consumers(plain, first, second)

    assert list(consumers.willing) == [first]
    consumers.remove(first)
    assert list(consumers.willing) == [second]
    consumers.remove(second)
    assert list(consumers.willing) == [plain]
    consumers.remove(plain)
    assert not consumers
    assert not consumers.willing


def test_a_peer_settles_unless_all_its_consumers_are_auto() -> None:
    """Others' consumers don't count."""
    consumers = make_consumers(make_consumer(1, auto=True), make_consumer(2, auto=True), make_consumer(2))

    assert [consumers.settle_by(Peer(peer)) for peer in (1, 2, 3)] == [False, True, False]
