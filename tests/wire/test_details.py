"""Wishes and details: what stands in the section of an envelope."""

from __future__ import annotations

from dataclasses import astuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forkbroker.errors import EnvelopeError
from forkbroker.wire.details import (
    DEFAULT_PRIORITY,
    DURABLY,
    MAX_CRON,
    MAX_DEDUP_ID,
    MAX_MOMENT,
    MAX_PRIORITY,
    MAX_REJECT_REASON,
    MAX_REPEAT,
    MAX_SPAN,
    NO_WISHES,
    PLAIN,
    Details,
    Reason,
    Wishes,
    unpack_details,
    unpack_wishes,
)

SPAN = st.integers(0, MAX_SPAN)
MOMENT = st.integers(0, MAX_MOMENT)
REPEAT = st.integers(-1, MAX_REPEAT)
TEXT = st.binary(max_size=255)
WISHES = st.builds(
    Wishes,
    priority=st.integers(0, 9),
    expires=MOMENT,
    ttl=SPAN,
    delay=SPAN,
    deliver_at=MOMENT,
    period=SPAN,
    repeat=REPEAT,
    cron=TEXT,
    dedup_id=TEXT,
)
DETAILS = st.builds(
    Details,
    priority=st.integers(0, 9),
    persistent=st.booleans(),
    reason=st.sampled_from(Reason),
    crashes=st.integers(0, 65_535),
    expires=MOMENT,
    due=MOMENT,
    dedup_until=MOMENT,
    period=SPAN,
    repeat=REPEAT,
    origin=st.binary(max_size=300),
    cron=TEXT,
    dedup_id=TEXT,
    reject_reason=st.binary(max_size=MAX_REJECT_REASON),
)


@given(WISHES)
def test_wishes_come_out_as_they_went_in(wishes: Wishes) -> None:
    """Every field."""
    assert unpack_wishes(wishes.pack()) == wishes


@given(DETAILS)
def test_details_come_out_as_they_went_in(details: Details) -> None:
    """Every field; whether they are persistent stands in the envelope's flags."""
    assert unpack_details(details.pack(), persistent=details.persistent) == details


def test_no_section_says_nothing() -> None:
    """Most messages have none."""
    assert unpack_wishes(b"") is NO_WISHES
    assert unpack_details(b"", persistent=False) is PLAIN
    assert unpack_details(b"", persistent=True) is DURABLY


def test_more_crashes_than_can_be_counted_are_very_many() -> None:
    """The field has 16 bits."""
    assert unpack_details(Details(crashes=70_000).pack(), persistent=False).crashes == 65_535


@pytest.mark.parametrize("cut", [1, 10, -1])
def test_a_section_that_is_not_whole_is_refused(cut: int) -> None:
    """Too short, or longer than what it says."""
    for whole, unpack in (
        (Wishes(cron=b"x", dedup_id=b"y").pack(), unpack_wishes),
        (Details(origin=b"x").pack(), lambda section: unpack_details(section, persistent=False)),
    ):
        for section in (whole[:cut], whole + b"x"):
            with pytest.raises(EnvelopeError):
                unpack(section)


def test_a_longer_reason_of_a_nack_is_refused() -> None:
    """It would not fit into the store."""
    longest = Details(reject_reason=b"x" * MAX_REJECT_REASON)

    assert unpack_details(longest.pack(), persistent=False) == longest
    with pytest.raises(EnvelopeError, match="a reason of 1025 bytes for a NACK, at most 1024 are permitted"):
        unpack_details(Details(reject_reason=b"x" * (MAX_REJECT_REASON + 1)).pack(), persistent=False)


def test_an_unknown_reason_is_refused() -> None:
    """A newer parent's, perhaps."""
    section = bytearray(PLAIN.pack())
    section[1] = 200

    with pytest.raises(EnvelopeError, match="200"):
        unpack_details(bytes(section), persistent=False)


@given(st.binary(max_size=120), st.booleans())
def test_noise_raises_the_one_error(noise: bytes, persistent: bool) -> None:
    """Or says something: never another error."""
    for unpack in (unpack_wishes, lambda section: unpack_details(section, persistent=persistent)):
        try:
            unpack(noise)
        except EnvelopeError:
            continue


def test_what_nobody_asked_for_is_nothing() -> None:
    """The priority is that of JMS, all else 0 or empty."""
    assert astuple(Wishes()) == (4, 0, 0, 0, 0, 0, 0, b"", b"")
    assert astuple(Details()) == (4, False, Reason.NONE, 0, 0, 0, 0, 0, 0, b"", b"", b"", b"")
    assert (Wishes(), Details(), Details(persistent=True)) == (NO_WISHES, PLAIN, DURABLY)


def test_bounds_are_those_of_the_documents() -> None:
    """A program that keeps to them to the last octet is not refused by the next version."""
    assert (DEFAULT_PRIORITY, MAX_PRIORITY, MAX_REPEAT) == (4, 9, 1_000_000)
    assert (MAX_SPAN, MAX_MOMENT) == (10**13, 2 * 10**14)
    assert (MAX_CRON, MAX_DEDUP_ID, MAX_REJECT_REASON) == (255, 255, 1024)


@pytest.mark.parametrize(
    ("wishes", "is_delayed", "is_span", "is_repeated"),
    [
        (Wishes(), False, True, False),
        (Wishes(expires=1, ttl=1, dedup_id=b"x"), False, True, False),
        (Wishes(period=1), False, True, False),
        (Wishes(delay=1), True, True, False),
        (Wishes(deliver_at=1), True, False, False),
        (Wishes(repeat=1), True, True, False),
        (Wishes(repeat=-1, period=1), True, True, True),
        (Wishes(deliver_at=1, repeat=1, period=1), True, False, True),
        (Wishes(cron=b"* * * * *"), True, False, True),
    ],
)
def test_when_a_message_comes(wishes: Wishes, is_delayed: bool, is_span: bool, is_repeated: bool) -> None:
    """Later, after a span or at a moment, once or again: each of the wishes alone says so."""
    assert (wishes.is_delayed, wishes.is_span, wishes.is_repeated) == (is_delayed, is_span, is_repeated)


LIMITS = {
    "priority": 9,
    "period": MAX_SPAN,
    "repeat": MAX_REPEAT,
    "cron": b"x" * 255,
    "dedup_id": b"x" * 255,
}
LIMITS_OF_WISHES = LIMITS | {"expires": MAX_MOMENT, "deliver_at": MAX_MOMENT, "ttl": MAX_SPAN, "delay": MAX_SPAN}
LIMITS_OF_DETAILS = LIMITS | dict.fromkeys(("expires", "due", "dedup_until"), MAX_MOMENT + MAX_SPAN)


def _beyond(most: int | bytes) -> int | bytes:
    return most + b"x" if isinstance(most, bytes) else most + 1


@pytest.mark.parametrize(("name", "most"), LIMITS_OF_WISHES.items())
def test_each_wish_has_its_exact_limit(name: str, most: int | bytes) -> None:
    """What is at it is granted, one more is not."""
    assert getattr(unpack_wishes(Wishes(**{name: most}).pack()), name) == most
    with pytest.raises(EnvelopeError, match="permitted"):
        unpack_wishes(Wishes(**{name: _beyond(most)}).pack())


@pytest.mark.parametrize(("name", "most"), LIMITS_OF_DETAILS.items())
def test_each_detail_has_its_exact_limit(name: str, most: int | bytes) -> None:
    """A row that was edited by hand can't name a time that overflows later."""
    assert getattr(unpack_details(Details(**{name: most}).pack(), persistent=False), name) == most
    with pytest.raises(EnvelopeError, match="permitted"):
        unpack_details(Details(**{name: _beyond(most)}).pack(), persistent=False)


def test_without_end_is_the_only_number_below_zero() -> None:
    """-1 repetitions."""
    assert unpack_wishes(Wishes(repeat=-1).pack()).repeat == -1
    assert unpack_details(Details(repeat=-1).pack(), persistent=False).repeat == -1
    for section, unpack in (
        (Wishes(repeat=-2).pack(), unpack_wishes),
        (Details(repeat=-2).pack(), lambda section: unpack_details(section, persistent=False)),
    ):
        with pytest.raises(EnvelopeError, match="-2 repetitions"):
            unpack(section)


def test_crashes_are_counted_up_to_the_last_number_of_the_field() -> None:
    """One more than 16 bits can say is as many as they can."""
    counted = [unpack_details(Details(crashes=n).pack(), persistent=False).crashes for n in (65_534, 65_535, 65_536)]

    assert counted == [65_534, 65_535, 65_535]
