"""Commands, heads and runs."""

from __future__ import annotations

from forkbroker.stomp.frame import BODY_COMMANDS, CLIENT_COMMANDS, FrameRun, Head


def test_of_a_clients_frames_only_send_has_a_body() -> None:
    """MESSAGE and ERROR are the server's."""
    assert {"SEND"} == BODY_COMMANDS & CLIENT_COMMANDS


def test_heads_and_runs_are_compared_by_identity() -> None:
    """The same head means the same octets."""
    head = Head("SEND", {})

    assert head != Head("SEND", {})
    assert FrameRun(head, [b""]) != FrameRun(head, [b""])
    assert FrameRun(head, [b""]).receipts is None
