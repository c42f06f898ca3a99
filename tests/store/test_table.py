"""Rows: which are messages, and what is said of those that are none."""

from __future__ import annotations

from typing import Any
from zlib import crc32

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from forkbroker.store.api import Message
from forkbroker.store.schema import MAX_INTEGER, MAX_SERIAL, MAX_TEXT
from forkbroker.store.table import (
    COLUMNS,
    AlteredRowError,
    UnfitRowError,
    checksum,
    list_serials,
    take_messages,
    to_columns,
    to_message,
)
from forkbroker.wire.details import DURABLY, Details, Reason

_NAMES = COLUMNS.split(", ")
_HEADERS, _BODY = b"a:b\n", b"body"


def make_row(**values: Any) -> tuple[Any, ...]:
    """As SQLite gives it, with the right checksum if none is told."""
    row: dict[str, Any] = dict.fromkeys(_NAMES)
    row |= {"serial": 5, "queue": b"/queue/a", "message_id": b"5-s-1", "headers": _HEADERS, "body": _BODY}
    row |= {"deliveries": 0, "priority": 4, "checksum": crc32(_HEADERS + _BODY)} | values
    return tuple(row.values())


def test_the_checksum_is_that_of_headers_and_body_in_a_row() -> None:
    """As docs/administration.md says, whatever buffer the body is."""
    assert checksum(b"a:b\n", memoryview(b"xbodyx")[1:5]) == crc32(b"a:b\nbody")


def test_a_row_is_a_message() -> None:
    """Of which nothing else is known, or much."""
    much = make_row(
        deliveries=2,
        priority=9,
        crashes=1,
        expires=7,
        due=8,
        reason=b"limit",
        origin=b"/queue/b",
        reject_reason=b"broken",
        period=3,
        repeat=-1,
        cron=b"* * * * *",
    )

    assert to_message(make_row()) == Message(5, b"/queue/a", b"5-s-1", _HEADERS, _BODY)
    assert to_message(make_row()).details is DURABLY
    assert to_message(much) == Message(
        5,
        b"/queue/a",
        b"5-s-1",
        _HEADERS,
        _BODY,
        2,
        Details(9, True, Reason.LIMIT, 1, 7, 8, 0, 3, -1, b"/queue/b", b"* * * * *", b"", b"broken"),
    )


@given(
    st.builds(
        Details,
        priority=st.integers(0, 9),
        persistent=st.just(True),
        reason=st.sampled_from(Reason),
        crashes=st.integers(0, 65_535),
        expires=st.integers(0, MAX_INTEGER),
        due=st.integers(0, MAX_INTEGER),
        period=st.integers(0, MAX_INTEGER),
        repeat=st.integers(-1, (1 << 31) - 1),
        origin=st.binary(max_size=5),
        cron=st.binary(max_size=5),
        reject_reason=st.binary(max_size=5).filter(lambda reason: b"\0" not in reason),
    )
)
@example(
    Details(
        priority=9,
        persistent=True,
        crashes=65_535,
        expires=MAX_INTEGER,
        due=MAX_INTEGER,
        period=MAX_INTEGER,
        repeat=(1 << 31) - 1,
        origin=bytes(MAX_TEXT),
        cron=bytes(MAX_TEXT),
        reject_reason=b"x" * 1024,
    )
)
def test_details_come_back_as_they_were(details) -> None:
    """Through the columns."""
    columns = [value.encode() if isinstance(value, str) else value for value in to_columns(details)]
    names = ("priority", "crashes", "expires", "due", "reason", "origin", "period", "repeat", "cron", "reject_reason")

    assert to_message(make_row(**dict(zip(names, columns, strict=True)))).details == details


@pytest.mark.parametrize("column", ["crashes", "expires", "period", "repeat"])
def test_zero_is_as_good_as_nothing(column) -> None:
    """A person with a tool may write either."""
    assert to_message(make_row(**{column: 0})) == to_message(make_row(**{column: None}))


def test_times_beyond_the_integers_of_sqlite_are_cut() -> None:
    """They are for ever, either way."""
    assert to_columns(Details(persistent=True, expires=(1 << 64) - 1))[2] == MAX_INTEGER


@pytest.mark.parametrize("bit", range(8 * len(_HEADERS + _BODY)))
def test_each_flipped_bit_is_found(bit) -> None:
    """In headers and body."""
    octets = bytearray(_HEADERS + _BODY)
    octets[bit // 8] ^= 1 << bit % 8

    with pytest.raises(AlteredRowError, match="checksum"):
        to_message(make_row(headers=bytes(octets[:4]), body=bytes(octets[4:])))


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("serial", 0),
        ("serial", MAX_SERIAL + 1),
        ("queue", b"queue"),
        ("queue", b"/queue/"),
        ("queue", b"/topic/a"),
        ("queue", b"/queue/" + b"x" * 65_535),
        ("queue", None),
        ("queue", 7),
        ("message_id", b"1-s\n"),
        ("message_id", b"1-s:1"),
        ("message_id", 7),
        ("deliveries", -1),
        ("deliveries", 65_536),
        ("deliveries", b"two"),
        ("deliveries", None),
        ("priority", -1),
        ("priority", 10),
        ("priority", b"high"),
        ("priority", None),
        ("crashes", -1),
        ("crashes", 65_536),
        ("expires", -1),
        ("expires", b"never"),
        ("expires", 1.5),
        ("due", 0),
        ("due", -1),
        ("period", -1),
        ("repeat", -2),
        ("repeat", 1 << 31),
        ("reason", b"because"),
        ("origin", 5),
        ("origin", b"x" * 65_536),
        ("reject_reason", 5),
        ("reject_reason", b"x" * 1025),
        ("reject_reason", b"x\0"),
        ("cron", 5),
        ("headers", 5),
        ("body", 5),
        ("body", 1.5),
        ("checksum", b"none"),
    ],
)
def test_a_row_with_a_bad_value_is_no_message(column, value) -> None:
    """Passed over, with the column in the reason; those next to it are served."""
    unfit: dict[int, UnfitRowError] = {}
    bad = make_row(**{"serial": 6, column: value})

    found = list(take_messages([make_row(), bad, make_row(serial=7)], unfit))

    assert [message.serial for message in found] == [5, 7]
    assert list(unfit) == [bad[0]]
    assert column in str(unfit[bad[0]])


@pytest.mark.parametrize("headers", [b"\na:b\n", b"a:b\n\nc:d\n", b"no colon\n", b"a:b\n\0", b"a:b\nno colon"])
def test_headers_without_a_checksum_are_looked_at(headers) -> None:
    """A person has written them, and a client could not read them."""
    with pytest.raises(UnfitRowError, match="headers"):
        to_message(make_row(headers=headers, checksum=None))


@pytest.mark.parametrize("headers", [b"", b"a:b", b"a:b\n", b"a:\nb:\xff\n", b"a:b:c\n", b":\n"])
def test_headers_by_hand_may_be_whatever_a_client_reads(headers) -> None:
    """The last line feed may be missing."""
    assert to_message(make_row(headers=headers, checksum=None)).headers == headers


@pytest.mark.parametrize("ident", [b"", b"7", b"99999999999-s-1", b"0-0123456789abcdef-12"])
def test_a_message_id_may_be_left_out(ident) -> None:
    """Or have a form that is not the broker's, as long as it harms nothing."""
    assert to_message(make_row(message_id=ident)).message_id == ident


def test_a_long_value_is_cut_in_the_reason() -> None:
    """It goes into the log."""
    with pytest.raises(UnfitRowError) as caught:
        to_message(make_row(queue=b"x" * 10_000))

    assert len(str(caught.value)) < 60


@pytest.mark.parametrize(
    ("serials", "words"),
    [
        ([5], "5"),
        ([7, 5, 6], "5-7"),
        ([1, 3, 4, 9], "1, 3-4, 9"),
        (range(0, 40, 2), "0, 2, 4, 6, 8, 10, 12, 14, 16, 18 and 10 more"),
        ([*range(0, 20, 2), 30, 31, 32], "0, 2, 4, 6, 8, 10, 12, 14, 16, 18 and 3 more"),
    ],
)
def test_serials_in_words(serials, words) -> None:
    """Runs, and not too many of them."""
    assert list_serials(serials) == words
