"""Wishes and details: what stands in the section of an envelope."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forkbroker.errors import EnvelopeError
from forkbroker.wire.details import (
    DURABLY,
    MAX_MOMENT,
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
