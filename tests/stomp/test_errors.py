"""The protocol error."""

from __future__ import annotations

from forkbroker.stomp.errors import ErrorKind, ProtocolError


def test_error_without_detail_repeats_its_message() -> None:
    """An ERROR has a body in any case."""
    error = ProtocolError("no destination")

    assert (str(error), error.detail, error.kind, error.receipt) == (
        "no destination",
        "no destination",
        ErrorKind.MALFORMED,
        None,
    )


def test_error_keeps_what_it_was_given() -> None:
    """For the ERROR frame and the log."""
    error = ProtocolError("no NACK", "NACK came with 1.1", kind=ErrorKind.LIMIT, receipt="r1")

    assert (str(error), error.message, error.detail, error.kind, error.receipt) == (
        "no NACK",
        "no NACK",
        "NACK came with 1.1",
        ErrorKind.LIMIT,
        "r1",
    )
