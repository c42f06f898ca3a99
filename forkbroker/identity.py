"""Who a client is, and how it has shown that."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum


class Way(IntEnum):
    """How a client has shown who it is. The numbers travel between processes."""

    PASSCODE = 0
    """By a passcode; or not at all, where nobody has to."""
    CERTIFICATE = 1
    """By the certificate of its TLS connection."""
    SYSTEM = 2
    """The operating system says who is at the other end of a Unix socket."""
    TOKEN = 3
    """By a token that somebody has signed."""
    PROGRAM = 4
    """By what a program of the administrator's says."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What is known of a client that was let in."""

    user: str
    """Empty: nobody in particular."""
    way: Way = Way.PASSCODE
    groups: tuple[str, ...] = ()
    """Groups of the user beside those that the configuration names."""
    is_administrator: bool = False
    """It may do everything."""
    lasts_s: float = math.inf
    """For how long from now on this is true."""


NOBODY = Identity("")


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a client gives with CONNECT to show who it is."""

    login: str
    passcode: str = ""
    bearer: str = ""
    """The token of an `Authorization` header."""


class Unclear(str):
    """Why it could not be found out who a client is, for the log: it is not let in, and that is no fault of its own."""

    __slots__ = ()


Answer = Identity | str | None
"""Who a client is; or why it is not let in, for the log; or None: ask again, others are being verified."""
