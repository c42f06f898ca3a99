"""The book finds what it is there to find."""

from __future__ import annotations

from faults.book import Book, Stage, Taken


def _answered(taken: Taken, *, is_confirmed: bool = True) -> Taken:
    taken.is_answered, taken.is_confirmed = True, is_confirmed
    return taken


def _sent(book: Book, *texts: str, is_persistent: bool = True) -> None:
    for text in texts:
        book.send(text, "p", is_persistent=is_persistent).is_confirmed = True


def test_what_is_taken_again_after_an_end_and_answered_then_is_well() -> None:
    """Marked, and answered once for good."""
    book = Book()
    _sent(book, "a")
    _answered(book.take("a", "one", is_redelivered=False), is_confirmed=False)
    book.begin_life()
    _answered(book.take("a", "two", is_redelivered=True))

    assert book.find_faults() == []


def test_loss_is_found() -> None:
    """Of what was never delivered, and of what was not answered in the end; not of what was in doubt."""
    book = Book()
    _sent(book, "a", "b")
    book.send("doubtful", "p")
    book.take("b", "one", is_redelivered=False)

    assert book.find_faults() == [
        "a was lost, sent in life 0 of 0; delivered to nobody",
        "b was lost, sent in life 0 of 0; delivered to one in life 0",
    ]


def test_what_is_not_persistent_lives_as_long_as_its_broker() -> None:
    """It may be lost with it, and must not outlive it."""
    book = Book()
    _sent(book, "a", "b", is_persistent=False)
    book.begin_life()
    _sent(book, "c", is_persistent=False)
    _answered(book.take("b", "one", is_redelivered=True))

    assert book.find_faults() == [
        "b is not persistent, and came in a later life of the broker",
        "c was lost, sent in life 1 of 1; delivered to nobody",
    ]


def test_a_return_and_a_missing_mark_are_found() -> None:
    """After an ACK whose RECEIPT came."""
    book = Book()
    _sent(book, "a")
    _answered(book.take("a", "one", is_redelivered=False))
    book.begin_life()
    _answered(book.take("a", "two", is_redelivered=False))

    assert book.find_faults() == [
        "a came back to two after one acknowledged it, lives 0 and 1",
        "a was delivered again and not marked, to two in life 1",
    ]


def test_what_was_sent_again_may_be_new_to_the_next_life() -> None:
    """The first one may never have come to the disk."""
    book = Book()
    first = book.send("a", "p")
    book.take("a", "one", is_redelivered=False)
    book.begin_life()
    first.again.append(book.life)
    first.is_confirmed = True
    _answered(book.take("a", "two", is_redelivered=False))

    assert book.find_faults() == []


def test_strangers_are_found() -> None:
    """What nobody sent, and what was never committed."""
    book = Book()
    book.send("b", "p", transaction=book.begin("t"))
    _answered(book.take("a", "one", is_redelivered=False))
    _answered(book.take("b", "one", is_redelivered=False))

    assert book.find_faults() == ["a was never sent", "b was delivered, and its transaction was not committed"]


def test_a_divided_transaction_is_found() -> None:
    """When what is there of it will stay."""
    book = Book()
    for name in ("t", "u"):
        transaction = book.begin(name)
        transaction.stage = Stage.ASKED
        for number in range(2):
            book.send(f"{name}{number}", "p", transaction=transaction)
    _answered(book.take("t0", "one", is_redelivered=False))
    _answered(book.take("u0", "one", is_redelivered=False), is_confirmed=False)
    book.begin_life()

    assert book.find_faults() == ["transaction t was done in part: t1 is missing"]


def test_a_message_acknowledged_in_a_transaction_is_gone_when_what_it_made_is_there() -> None:
    """And otherwise it comes again."""
    book = Book()
    _sent(book, "a", "b", "c")
    for text in ("a", "b", "c"):
        transaction = book.begin(f"t{text}")
        transaction.stage, transaction.taken = Stage.ASKED, book.take(text, "one", is_redelivered=False)
        book.send(f"done {text}", "one", transaction=transaction)
    book.begin_life()
    _answered(book.take("done a", "two", is_redelivered=True))
    _answered(book.take("a", "two", is_redelivered=True))
    _answered(book.take("b", "two", is_redelivered=True))

    assert book.find_faults() == [
        "c was lost, sent in life 0 of 1; delivered to one in life 0",
        "a came back to two after one acknowledged it, lives 0 and 1",
    ]


def test_disorder_is_found() -> None:
    """At one consumer, of one producer, among what is not marked."""
    book = Book()
    _sent(book, "a", "b", "c")
    for text in ("b", "a", "c"):
        _answered(book.take(text, "one", is_redelivered=text == "c"))

    assert book.find_faults() == ["one got a after b"]


def test_deliveries_are_in_the_order_of_their_numbers() -> None:
    """Whatever is read first; in a later life they begin anew."""
    book = Book()
    _sent(book, "a", "b")
    _answered(book.take("a", "two", is_redelivered=True, number=2))
    book.take("a", "one", is_redelivered=False)
    _answered(book.take("b", "two", is_redelivered=True, number=2))
    _answered(book.take("b", "one", is_redelivered=True, number=3))
    book.begin_life()
    book.take("b", "three", is_redelivered=True)

    assert book.find_faults() == [
        "b was lost, sent in life 0 of 1; delivered to two in life 0, one in life 0, three in life 1",
        "b came back to one after two acknowledged it, lives 0 and 0",
        "b came back to three after one acknowledged it, lives 0 and 1",
    ]


def test_what_was_sent_again_has_no_place_in_the_order() -> None:
    """The first one may have been refused."""
    book = Book()
    _sent(book, "a", "b")
    book.sent["a"].again.append(0)
    for text in ("b", "a"):
        _answered(book.take(text, "one", is_redelivered=False))

    assert book.find_faults() == []
