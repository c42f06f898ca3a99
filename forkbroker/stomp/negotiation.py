"""CONNECT and CONNECTED: which version is spoken, and how often each side beats."""

from __future__ import annotations

from forkbroker.stomp.errors import ErrorKind, ProtocolError
from forkbroker.stomp.versions import V10, VERSIONS, Version

_MAX_DIGITS = 10
"""Of a heart-beat interval in ms: ten digits are 115 days, more is a mistake."""


def choose_version(accept_version: str | None) -> Version | None:
    """The highest version that both sides have, or None (C03, C04).

    Args:
        accept_version: the header's value. None: a client that knows 1.0 only. Otherwise a comma-separated
            list in any order; blanks around its members and unknown members are ignored.
    """
    if accept_version is None:
        return V10
    offered = {member.strip() for member in accept_version.split(",")}
    common = [version for name, version in VERSIONS.items() if name in offered]
    return common[-1] if common else None


def supported_versions() -> str:
    """All versions that are spoken, for the `version` header of the ERROR when none is common (C05)."""
    return ",".join(VERSIONS)


def parse_heart_beat(value: str | None) -> tuple[int, int]:
    """What a `heart-beat` header says, in ms: what its sender can do, and what it wants (H01, H02).

    Raises:
        ProtocolError: not two numbers of milliseconds, joined by a comma, or one of more than ten digits.
    """
    if value is None:
        return 0, 0
    members = [member.strip() for member in value.split(",")]
    if len(members) != 2 or not all(member.isascii() and member.isdigit() for member in members):
        raise ProtocolError(
            "malformed heart-beat header",
            f"heart-beat {value[:40]!a} is not two numbers of milliseconds with a comma between them",
        )
    # int() refuses thousands of digits with a ValueError: look at the length before it does.
    if any(len(member) > _MAX_DIGITS for member in members):
        raise ProtocolError(
            "heart-beat out of range",
            f"heart-beat {value[:40]!a} has a number of more than {_MAX_DIGITS} digits; "
            f"the longest interval is {10**_MAX_DIGITS - 1:,} milliseconds",
            kind=ErrorKind.LIMIT,
        )
    return int(members[0]), int(members[1])


def effective_heart_beat(client: tuple[int, int], server: tuple[int, int]) -> tuple[int, int]:
    """How often the server must send, and how often it may expect something, in ms; 0 is never (H03).

    Args:
        client: what the client can do and what it wants, in ms.
        server: the same of the server.
    """
    return _agree(server[0], client[1]), _agree(client[0], server[1])


def agree_heart_beat(version: Version, value: str | None, server: tuple[int, int]) -> tuple[int, int]:
    """As `effective_heart_beat`, for a client of this version with this `heart-beat` header.

    Raises:
        ProtocolError: as `parse_heart_beat`; what clients of version 1.0 say is not looked at.
    """
    client = parse_heart_beat(value) if version.heart_beats else (0, 0)
    return effective_heart_beat(client, server)


def _agree(can: int, wants: int) -> int:
    return max(can, wants) if can and wants else 0


def connected_headers(
    version: Version, *, session: str, server: str = "", heart_beat: tuple[int, int] = (0, 0), user: str = ""
) -> list[tuple[str, str]]:
    """The headers of CONNECTED (C06-C08, H04).

    Args:
        version: what was negotiated; 1.0 clients are told too, as RabbitMQ does.
        session: unguessable; the caller makes it up.
        server: name, slash and version; empty: the server does not say what it is.
        heart_beat: what the server can do and what it wants, in ms; not an echo of the client's numbers.
        user: who the client has shown to be, for the header `user-name` of Spring and ActiveMQ; empty: nobody.
    """
    headers = [("version", version.name), ("session", session)]
    if server:
        headers.append(("server", server))
    if version.heart_beats:
        headers.append(("heart-beat", f"{heart_beat[0]},{heart_beat[1]}"))
    if user:
        headers.append(("user-name", user))
    return headers
