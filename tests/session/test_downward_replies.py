"""RECEIPT and ERROR in the order of asking."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forkbroker.session.downward import Replies, Unwritten, encode_error
from forkbroker.session.errors import FrameError
from forkbroker.stomp.versions import V10, V12, Version

from .play import read_frames


def replies(version: Version = V12) -> tuple[Replies, Unwritten]:
    unwritten = Unwritten()
    return Replies(unwritten, version), unwritten


def read(unwritten: Unwritten) -> list[str]:
    data = b"".join(bytes(buffer) for buffer in unwritten.gather())
    unwritten.written(len(data), 0.0)
    return [got.headers.get("receipt-id", got.command) for got in read_frames(data, "1.2")]


@pytest.mark.row("R02")
def test_what_needs_no_fence_waits_for_what_does() -> None:
    """Receipts of one client come in the order in which they were asked for."""
    made, unwritten = replies()
    made.receipts(0, ["now"])
    made.receipts(2, ["two", None, "also"])
    made.receipts(0, ["behind"])
    made.receipts(3, ["three"])
    at_once = read(unwritten)
    made.passed(1)
    after_one = read(unwritten)
    made.passed(2)
    after_two = read(unwritten)
    made.passed(3)

    assert (at_once, after_one, after_two, read(unwritten)) == (["now"], [], ["two", "also", "behind"], ["three"])
    assert not made._waiting


def test_an_action_comes_behind_the_receipts_before_it() -> None:
    """And before those behind it."""
    made, unwritten = replies()
    seen: list[list[str]] = []
    made.receipts(1, ["a"])
    made.after(1, lambda: seen.append(read(unwritten)))
    made.receipts(1, ["b"])
    made.passed(1)

    assert seen == [["a"]]
    assert read(unwritten) == ["b"]


@pytest.mark.row("R04")
def test_what_waits_can_be_dropped_and_named() -> None:
    """An ERROR in the place of a fence names the first receipt that was asked for with it."""
    made, unwritten = replies()
    made.receipts(1, [None, "a", "b"])
    named = made.first_receipt(1), made.first_receipt(2)
    made.drop_waiting()
    made.passed(1)

    assert named == ("a", None)
    assert read(unwritten) == []


@pytest.mark.row("E01", "F18", "F23")
@pytest.mark.parametrize(
    ("version", "line"), [(None, b"message:a b\n"), (V10, b"message:a:b\n"), (V12, b"message:a\\cb\n")]
)
def test_an_error_is_written_for_its_version(version: Version | None, line: bytes) -> None:
    """Its body is told with type and length."""
    data = encode_error(version, FrameError("a:b", "what, where", [("version", "1.0")]), None)

    assert data.startswith(b"ERROR\n" + line)
    assert data.endswith(b"content-type:text/plain\ncontent-length:12\n\nwhat, where\n\0\n")


@pytest.mark.row("F05")
def test_every_frame_ends_in_a_line_feed() -> None:
    """LF behind each NUL, for those who read along."""
    made, unwritten = replies()
    made.receipts(0, ["1"])
    made.error(FrameError("m", "d"), "2")

    assert b"".join(bytes(b) for b in unwritten.gather()).count(b"\0\n") == 2


@pytest.mark.row("R04")
def test_what_needs_no_fence_is_not_named_in_the_place_of_what_does() -> None:
    """A SUBSCRIBE without a receipt was refused, not the BEGIN behind it."""
    made, _ = replies()
    made.after(1, lambda: None)
    made.receipts(0, ["begin"])

    assert made.first_receipt(1) is None


@pytest.mark.row("F18")
@pytest.mark.parametrize("receipt", ["plain1", "a:b", "a b", "\u00e9", "a\\\n", ""])
def test_any_receipt_comes_back_as_it_was(receipt: str) -> None:
    """With its escapes, where it needs any."""
    made, unwritten = replies()
    made.receipts(0, [receipt])

    assert read(unwritten) == [receipt]


@given(st.lists(st.text(st.sampled_from("ab1-_.:\\ é\n\r"), max_size=4), max_size=6))
def test_receipts_that_are_asked_for_together_come_back_one_by_one(asked: list[str]) -> None:
    """Whether or not some of them need escapes, and whatever else is among them."""
    made, unwritten = replies()
    made.receipts(0, [*asked, None])

    assert read(unwritten) == asked
