"""Commands, heads and runs."""

from __future__ import annotations

from forkbroker.stomp.frame import BODY_COMMANDS, CLIENT_COMMANDS, SERVER_COMMANDS, FrameRun, Head


def test_commands_of_clients_and_server_are_apart() -> None:
    """Of a client's frames only SEND has a body."""
    assert not CLIENT_COMMANDS & SERVER_COMMANDS
    assert {"SEND"} == BODY_COMMANDS & CLIENT_COMMANDS


def test_heads_and_runs_are_compared_by_identity() -> None:
    """The same head means the same octets."""
    head = Head("SEND", {})

    assert head != Head("SEND", {})
    assert FrameRun(head, [b""]) != FrameRun(head, [b""])
    assert FrameRun(head, [b""]).receipts is None
