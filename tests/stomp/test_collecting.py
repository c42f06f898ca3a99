"""Bodies of which a part has arrived."""

from __future__ import annotations

import pytest

from forkbroker.stomp.collecting import PLACE_FROM, OpenBody, SizedBody
from forkbroker.stomp.errors import ProtocolError
from forkbroker.stomp.frame import Head

HEAD = Head("SEND", {})
MIB = 1_048_576


def test_sized_body_takes_its_octets_and_the_nul() -> None:
    """What follows is left."""
    body = SizedBody(HEAD, "r", 5)

    assert body.add(b"abc") == 3
    assert not body.is_complete
    assert body.add(b"de\0SEND") == 3
    assert body.is_complete
    assert body.size == 6
    assert body.take() == b"abcde"


def test_memory_grows_with_what_has_arrived() -> None:
    """Not with what a header announced."""
    body = SizedBody(HEAD, None, 100 * MIB)
    sizes = []
    for _ in range(4):
        place = body.place()
        assert place is not None
        sizes.append(len(place))
        body.placed(len(place))

    assert sizes == [2 * MIB, 2 * MIB, 4 * MIB, 8 * MIB]


def test_place_may_be_filled_in_parts_and_by_add() -> None:
    """In any mixture, and the view ends each time."""
    size = 3 * MIB
    body = SizedBody(HEAD, None, size)
    expected = b""
    while (place := body.place()) is not None:
        place[:1000] = b"a" * 1000
        body.placed(1000)
        with pytest.raises(ValueError, match="released"):
            place[0]
        body.place()
        assert body.add(b"b" * 60_000) == 60_000
        expected += b"a" * 1000 + b"b" * 60_000
    rest = size - len(expected)
    assert 0 <= rest < PLACE_FROM
    body.add(b"c" * rest + b"\0")

    assert bytes(body.take()) == expected + b"c" * rest


def test_large_body_is_handed_over_as_bytearray_and_small_as_bytes() -> None:
    """Nothing looks into it any more."""
    for size, kind in ((PLACE_FROM, bytes), (PLACE_FROM + 1, bytearray)):
        body = SizedBody(HEAD, None, size)
        body.add(b"x" * size + b"\0")
        taken = body.take()

        assert type(taken) is kind
        assert len(taken) == size


def test_sized_body_must_end_in_nul() -> None:
    """The error asks for the receipt of its frame."""
    body = SizedBody(HEAD, "r", 3)
    body.add(b"abcd")

    with pytest.raises(ProtocolError) as caught:
        body.take()
    assert caught.value.receipt == "r"


def test_open_body_ends_at_its_first_nul() -> None:
    """The NUL is taken along."""
    body = OpenBody(HEAD, None, 10)

    assert body.place() is None
    assert body.add(b"abc") == 3
    assert body.size == 3
    assert body.add(b"\0\0") == 1
    assert body.is_complete
    assert body.size == 4
    assert body.take() == b"abc"


def test_open_body_has_a_limit() -> None:
    """The limit itself is allowed."""
    body = OpenBody(HEAD, "r", 4)
    body.add(b"abcd")

    with pytest.raises(ProtocolError, match="too large") as caught:
        body.add(b"e\0")
    assert caught.value.receipt == "r"


def test_open_body_has_no_place() -> None:
    """To say that something was put there is a bug of the caller."""
    with pytest.raises(AssertionError, match="without"):
        OpenBody(HEAD, None, 4).placed(1)
