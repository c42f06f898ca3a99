"""Default limits."""

from __future__ import annotations

from forkbroker.stomp.frame import CLIENT_COMMANDS
from forkbroker.stomp.limits import Limits


def test_every_limit_has_room_for_ordinary_frames() -> None:
    """No command is longer than its limit, and a stranger gets less than a client."""
    limits = Limits()

    assert max(map(len, CLIENT_COMMANDS)) <= limits.max_command
    assert limits.max_header_line <= limits.max_login_frame <= limits.max_body
