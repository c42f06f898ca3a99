"""How fast a client may send: a bucket that fills each second, and is overdrawn by what has come.

What a client has sent is taken, and counted afterwards; then the client is not read until the bucket is even again. So
nothing is refused, and TCP makes the sender wait. The bucket has room for one second: who has been quiet may send that
much at once.
"""

from __future__ import annotations

from forkbroker.permissions import Quota


class Rate:
    """The bucket of one client, for messages and octets."""

    def __init__(self, quota: Quota, now: float) -> None:
        """A full one."""
        self._limits = quota.messages_per_second, quota.bytes_per_second
        self._left = list(map(float, self._limits))
        self._filled_at = now

    def spend(self, messages: int, octets: int, now: float) -> float:
        """So much has come: from when on the client may be read again; `now` if it may go on."""
        passed, self._filled_at = now - self._filled_at, now
        until = now
        for place, amount in enumerate((messages, octets)):
            limit = self._limits[place]
            if limit:
                left = min(limit, self._left[place] + passed * limit) - amount
                self._left[place] = left
                until = max(until, now - left / limit)
        return until
