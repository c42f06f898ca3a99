"""Batches of rows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forkbroker.store.api import Chunk, Message
from forkbroker.store.changes import Batch
from forkbroker.store.pages import PAGE_OCTETS, pack_pages
from forkbroker.wire.details import Details
from forkbroker.wire.envelope import FEW, MAX_NAMED, MAX_NAMED_OCTETS, Envelope
from forkbroker.wire.fields import OF_STORE, check
from forkbroker.wire.kinds import Flag, Kind
from store.driven import bodies_of, spill


def envelope(buffers: list[bytes | bytearray | memoryview]) -> Envelope:
    """As the other side gets it."""
    return Envelope(b"".join(buffers))


def messages(*serials: int, **fields: object) -> list[Message]:
    """Of one batch, whose first message had the number 0."""
    return [
        Message(serial, b"/queue/a", b"%d-s-1" % serial, b"a:b\n", b"body")._replace(**fields) for serial in serials
    ]


def pages_of(items: list[Message | Chunk], recovered_before: int = 0) -> list[Envelope]:
    """What goes to the parent."""
    return [envelope(page) for page in pack_pages(items, recovered_before=recovered_before)]


@pytest.mark.parametrize(
    ("items", "counts"),
    [
        (messages(1, 2, 3), [3]),
        (messages(1, 3), [1, 1]),
        (messages(1) + messages(2, deliveries=1), [1, 1]),
        (messages(1) + messages(2, details=Details(persistent=True, expires=5)), [1, 1]),
        (messages(1) + messages(2, queue=b"/queue/b"), [1, 1]),
        (messages(1) + messages(2, headers=b"c:d\n"), [2]),
        (messages(*range(1, 1030)), [1024, 5]),
        (messages(1, 2, 3, body=bytes(PAGE_OCTETS // 2)), [2, 1]),
        (messages(1) + messages(2, body=bytes(PAGE_OCTETS - 3)), [1, 1]),
        (messages(1, message_id=b"99999999999-s-1"), [1]),
        (messages(1, message_id=b"9" * 5_000 + b"-s-1"), [1]),
    ],
)
def test_what_came_together_and_has_one_fate_is_one_page(items, counts) -> None:
    """And nothing else."""
    pages = pages_of(items)

    assert [page.count for page in pages] == counts
    assert [bytes(body) for body in bodies_of(pages)] == [
        b"%s\n%s" % (item.headers, item.body) if pages[0].flags & Flag.MIXED else item.body for item in items
    ]


def alone(*serials: int, **fields: object) -> list[Message]:
    """Each of a batch of its own."""
    return [message._replace(message_id=b"4-s-%d" % message.serial) for message in messages(*serials, **fields)]


@pytest.mark.parametrize(
    ("items", "counts"),
    [
        (alone(1, 2, 3), [3]),
        (alone(1) + messages(2, 3), [3]),
        (alone(*range(1, 100)), [MAX_NAMED, 99 - MAX_NAMED]),
        (messages(*range(1, FEW)) + alone(FEW), [FEW]),
        (messages(*range(1, FEW + 1)) + alone(FEW + 1), [FEW, 1]),
        (alone(1, 2, deliveries=1), [1, 1]),
        (alone(1, 2, details=Details(persistent=True, expires=5)), [1, 1]),
        (alone(1, 2, body=bytes(MAX_NAMED_OCTETS // 2 - 4)), [2]),
        (alone(1, 2, body=bytes(MAX_NAMED_OCTETS // 2 - 3)), [1, 1]),
        (messages(1, 2, message_id=b""), [2]),
    ],
)
def test_what_came_one_by_one_is_put_together(items: list[Message], counts: list[int]) -> None:
    """With message-ids, and in so many PAGEs."""
    pages = pages_of(items)

    assert [page.count for page in pages] == counts
    rows = [row for page in pages for row in Batch(page).rows_for(b"/queue/a", page.serial)]
    assert rows == [item._replace(message_id=item.message_id or b"0-store-0") for item in items]
    for page in pages:
        check(page, OF_STORE)


def test_what_may_have_been_delivered_is_marked() -> None:
    """Up to a serial, and in a page of its own."""
    pages = pages_of(messages(1, 2, 3), recovered_before=3)

    assert [(page.count, bool(page.flags & Flag.RECOVERED)) for page in pages] == [(2, True), (1, False)]


def test_a_backslash_is_told() -> None:
    """Clients of older versions need the headers translated."""
    (page,) = pages_of(messages(1) + messages(2, headers=b"c:\\c\n"))

    assert page.flags & Flag.ESCAPED


@given(
    st.lists(st.tuples(st.sampled_from([b"", b"a:b\n", b"c:\\n\n"]), st.binary(max_size=20)), min_size=1, max_size=30),
    st.integers(0, 3),
)
def test_rows_make_the_pages_of_which_they_were_made(rows, deliveries) -> None:
    """There and back."""
    items = [
        Message(10 + place, b"/queue/a", b"%d-s-1" % (5 + place), headers, body, deliveries)
        for place, (headers, body) in enumerate(rows)
    ]

    pages = pages_of(items)
    again = [message for page in pages for message in Batch(page).rows_for(page.destination, page.serial)]

    assert again == items


def test_messages_of_different_fates_are_numbered_each_by_its_own() -> None:
    """The place of the first message in its batch stands in each page."""
    one, two = pages_of(messages(3, 4) + messages(5, 6, deliveries=1))

    assert [(page.index, page.serial, page.count, page.deliveries) for page in (one, two)] == [
        (3, 3, 2, 0),
        (5, 5, 2, 1),
    ]


def test_a_spilled_batch_is_paged_as_it_came() -> None:
    """But for its kind and its number; rows before and behind it stand in pages of their own."""
    chunk = envelope(spill(17, [b"x", b"y"], serial=2))
    items = [*messages(1), Chunk(2, b"/queue/a", 4, 2, chunk.raw), *messages(4)]

    before, page, behind = pages_of(items)

    assert (page.kind, page.number, page.serial, page.count) == (Kind.PAGE, 0, 2, 2)
    assert page.raw[6:24] == chunk.raw[6:24]
    assert page.raw[32:] == chunk.raw[32:]
    assert [(other.serial, other.index) for other in (before, behind)] == [(1, 1), (4, 4)]


def test_a_row_that_somebody_wrote_by_hand_is_paged() -> None:
    """Without an identity it gets one, and its last line its line feed."""
    (page,) = pages_of([Message(1, b"/queue/a", b"", b"a:b", b"x")])

    assert page.block == b"-store-0\na:b\n\n"
    assert page.index == 0
