"""Default limits."""

from __future__ import annotations

import dataclasses

from forkbroker.stomp.frame import CLIENT_COMMANDS
from forkbroker.stomp.limits import Limits


def test_every_limit_has_room_for_ordinary_frames() -> None:
    """No command is longer than its limit, and a stranger gets less than a client."""
    limits = Limits()

    assert max(map(len, CLIENT_COMMANDS)) <= limits.max_command
    assert limits.max_header_line <= limits.max_login_frame <= limits.max_body


def test_the_defaults_are_those_of_the_man_page() -> None:
    """Octets, and headers; a client that works today works with the next version."""
    assert dataclasses.asdict(Limits()) == {
        "max_command": 32,
        "max_header_line": 10_240,
        "max_headers": 1_000,
        "max_body": 104_857_600,
        "max_login_frame": 65_536,
    }
