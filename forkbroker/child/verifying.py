"""Is this login right? Asked by a client's own process, as the answer takes some 50 ms of a processor.

At most as many processes compute at a time as there are processors (`forkbroker.posix.places`): a thousand clients that
come back at once would otherwise take 16 MiB each, and all be late. Nothing waits here: who has no place is told to ask
again.
"""

from __future__ import annotations

from forkbroker.passwords import Users
from forkbroker.posix.blocks import give_back
from forkbroker.posix.places import Places


class Verifier:
    """The users of a broker, and whether clients without a login are let in as well."""

    def __init__(self, users: Users, places: Places, *, allows_anonymous: bool) -> None:
        self._users = users
        self._places = places
        self._allows_anonymous = allows_anonymous

    def find_problem(self, login: str, passcode: str) -> str | None:
        """Return why a client may not log in, for the log; empty: it may; None: ask again, as others are verified."""
        if not login:
            return "" if self._allows_anonymous else "no login"
        if not self._places.try_take():
            return None
        try:
            return self._users.find_problem(login, passcode)
        finally:
            self._places.give_back()
            give_back()
