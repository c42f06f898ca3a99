"""What is left to the module that joins all parts."""

from __future__ import annotations

from forkbroker.cli.wiring import refuse


def test_a_refusal_is_a_frame_that_every_version_can_read() -> None:
    """The client has not said which one it speaks."""
    assert refuse("too many clients", False, b"") == (
        b"ERROR\nmessage:too many clients\ncontent-type:text/plain\ncontent-length:17\n\ntoo many clients\n\0\n"
    )
