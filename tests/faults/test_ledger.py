"""The ledger finds what it is there to find."""

from __future__ import annotations

from support.ledger import Ledger, confirm

AGAIN = {"redelivered": "true", "delivery-count": "2"}


def _ledger(*messages: str) -> Ledger:
    ledger = Ledger()
    for message in messages:
        ledger.send(message)
    return ledger


def test_what_is_settled_once_is_in_order() -> None:
    """Killed before its ACK, delivered again and marked: nothing to complain of."""
    ledger = _ledger("a")
    ledger.deliver("a", "one", {})
    confirm([ledger.deliver("a", "two", AGAIN)])

    assert ledger.find_mismarked() == ledger.find_unsettled() == ledger.find_disorder() == []
    assert ledger.repeated == 1


def test_the_order_of_reading_does_not_matter() -> None:
    """The first delivery may be read after the second."""
    ledger = _ledger("a")
    confirm([ledger.deliver("a", "two", AGAIN)])
    ledger.deliver("a", "one", {})

    assert ledger.find_mismarked() == ledger.find_unsettled() == []


def test_loss_is_found() -> None:
    """Never delivered, or delivered at last to one who did not acknowledge."""
    ledger = _ledger("a", "b")
    ledger.deliver("b", "one", {})

    assert ledger.find_unsettled() == ["a was lost", "b was lost"]
    assert ledger.unseen == ["a"]


def test_two_settlements_are_found() -> None:
    """Also where the broker has counted as it should."""
    ledger = _ledger("a")
    confirm([ledger.deliver("a", "one", {}), ledger.deliver("a", "two", AGAIN)])

    assert ledger.find_unsettled() == ["a was acknowledged with a RECEIPT 2 times"]


def test_a_return_from_the_dead_is_found() -> None:
    """A delivery after one whose ACK got its RECEIPT."""
    ledger = _ledger("a")
    confirm([ledger.deliver("a", "one", {})])
    ledger.deliver("a", "two", AGAIN).is_answered = True

    assert ledger.find_unsettled() == ["a came back after the RECEIPT of its ACK"]


def test_wrong_marks_are_found() -> None:
    """Twice a first delivery, a count without the mark, a message that nobody sent."""
    ledger = _ledger("a", "b")
    ledger.deliver("a", "one", {})
    ledger.deliver("a", "two", {})
    ledger.deliver("b", "one", {"delivery-count": "2"})
    ledger.deliver("c", "one", {})

    assert sorted(ledger.find_mismarked()) == [
        "a was delivered with counts [1, 1], two of them equal",
        "b: redelivered is False, delivery-count 2",
        "c was never sent",
    ]


def test_disorder_is_found() -> None:
    """At one consumer, among first deliveries."""
    ledger = _ledger("a", "b")
    ledger.deliver("b", "one", {})
    ledger.deliver("a", "one", {})
    ledger.deliver("a", "two", {})

    assert ledger.find_disorder() == ["one got a after b"]
