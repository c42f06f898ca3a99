"""Who is this client? Asked by its own process, as an answer may take some 50 ms of a processor.

There are several ways to show it, and the first that fits what the client gives is used:

1. A connection can say by itself who is at its other end: by the certificate of TLS, or by the kernel for a Unix
   socket. That counts for a client that gives no passcode, and no login or that one.
2. A token that somebody has signed, in a header, as the passcode, or from before the stream, for a client that gives
   no passcode (`forkbroker.child.tokens`).
3. A login with a passcode: the password file, or a program of the administrator's (`forkbroker.child.program`).
4. Neither: a client without a name, where such are let in.

At most as many processes compute a hash at a time as there are processors (`forkbroker.posix.places`): a thousand
clients that come back at once would otherwise take 16 MiB each, and all be late. Nothing waits here: who has no place
is told to ask again.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Protocol

from forkbroker.child.program import Program
from forkbroker.child.transport import Transport
from forkbroker.identity import Answer, Credentials, Identity, Way
from forkbroker.passwords import PasswordError, check_name
from forkbroker.posix.blocks import give_back
from forkbroker.posix.places import Places
from forkbroker.posix.socket_users import is_member, uid_of, user_name

_TOKEN = re.compile(r"ey[\w-]+\.[\w-]+\.[\w-]+", re.ASCII)
"""Three parts in base64url, of which the first is a JSON object: no passcode looks like that by chance."""
_MAX_GROUPS = 8_192
"""Characters of the names of groups: they travel with CONNECTED."""


class Passcodes(Protocol):
    """Users with passcodes (`forkbroker.passwords.Users`)."""

    def find_problem(self, name: str, passcode: str) -> str:
        """Why this user may not log in, for the log; empty: the passcode is right."""


class Reads(Protocol):
    """Tokens (`forkbroker.child.tokens.Tokens`)."""

    def read(self, token: str) -> Identity | str:
        """Whose token this is; or why it is not accepted, for the log."""


@dataclass(frozen=True, slots=True)
class Ways:
    """How clients may show who they are."""

    allows_anonymous: bool = False
    """Clients that give no login are let in."""
    certificate_user: str = "none"
    """What of a client's certificate is its user: `cn`, `dns`, `email`, `uri` or `none`."""
    takes_system_users: bool = False
    """On Unix sockets each user of the system is the user of that name, and not only administrators."""
    administrators: str | None = None
    """The members of this group of the system are administrators on Unix sockets, beside root and the broker's user."""


class Verifier:
    """Finds out who a client is."""

    def __init__(
        self,
        users: Passcodes | None,
        places: Places,
        ways: Ways,
        tokens: Reads | None = None,
        program: Program | None = None,
    ) -> None:
        """None: there is no such way."""
        self._users = users
        self._places = places
        self._ways = ways
        self._tokens = tokens
        self._program = program

    def verify(self, credentials: Credentials, transport: Transport, address: str) -> Answer:
        """Who the client with this address is, or why it is not let in; None: ask again."""
        answer = self._find(credentials, transport, address)
        if isinstance(answer, Identity) and sum(map(len, answer.groups)) > _MAX_GROUPS:
            return f"its groups have more than {_MAX_GROUPS:,} characters"
        return answer

    def _find(self, credentials: Credentials, transport: Transport, address: str) -> Answer:
        login, passcode = credentials.login, credentials.passcode
        token = credentials.bearer or (passcode if _TOKEN.fullmatch(passcode) else "")
        if not passcode:
            token = token or transport.bearer
        if token and self._tokens is not None:
            found = self._tokens.read(token)
            is_other = isinstance(found, Identity) and login not in ("", found.user)
            return "token: it is another user's" if is_other else found
        if not passcode:
            proven = self._find_certificate(transport) or self._find_system_user(transport)
            if proven is not None and login in ("", proven.user):
                return proven
        if not login:
            return Identity("") if self._ways.allows_anonymous else "no login"
        if self._program is not None:
            return self._program.verify(credentials, address)
        return self._verify_passcode(login, passcode)

    def _verify_passcode(self, login: str, passcode: str) -> Answer:
        if self._users is None:
            return "no way to verify a passcode"
        if not self._places.try_take():
            return None
        try:
            return self._users.find_problem(login, passcode) or Identity(login)
        finally:
            self._places.give_back()
            give_back()

    def _find_certificate(self, transport: Transport) -> Identity | None:
        name = transport.find_certificate_name(self._ways.certificate_user)
        return Identity(name, Way.CERTIFICATE) if name and _is_name(name) else None

    def _find_system_user(self, transport: Transport) -> Identity | None:
        uid = uid_of(transport.socket)
        if uid is None:
            return None
        group = self._ways.administrators
        is_administrator = uid in (0, os.geteuid()) or (group is not None and is_member(uid, group))
        name = user_name(uid)
        if not (is_administrator or self._ways.takes_system_users) or not _is_name(name):
            return None
        return Identity(name, Way.SYSTEM, is_administrator=is_administrator)


def _is_name(name: str) -> bool:
    """Whether a user can be called so: what other systems have in a name is not all that fits here."""
    try:
        check_name(name)
    except PasswordError:
        return False
    return True
