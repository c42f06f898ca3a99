"""What a client wrote, shown in the text of an ERROR."""

from __future__ import annotations

from forkbroker.session.errors import FrameError, shown


def test_shown_text_is_one_short_line() -> None:
    """Quoted, controls escaped, cut."""
    assert shown("a\nb\x1b") == r"'a\nb\x1b'"
    assert shown("x" * 80) == repr("x" * 80)
    assert shown("x" * 81) == repr("x" * 80 + "…")


def test_a_frame_error_has_a_detail_in_any_case() -> None:
    """Its message, if there is nothing to add."""
    assert FrameError("bad").detail == "bad"
    error = FrameError("bad", "very")
    assert (error.message, error.detail, str(error)) == ("bad", "very", "bad")


def test_a_reason_says_nothing_twice() -> None:
    """Message and detail, where they differ; it has no headers of its own unless it needs them."""
    assert [error.reason for error in (FrameError("bad"), FrameError("bad", "bad"), FrameError("bad", "very"))] == [
        "bad",
        "bad",
        "bad (very)",
    ]
    assert (list(FrameError("bad").headers), FrameError("bad", "", [("a", "b")]).headers) == ([], [("a", "b")])
