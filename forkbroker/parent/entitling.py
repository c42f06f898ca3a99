"""What clients may do, as their processes were told last.

A process has the permissions of the nursery that it comes from. When they change, each client whose rights are others
from then on is told them (RIGHTS). A client that connects later from an older process is told as well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from forkbroker.hosts import describe_refusal
from forkbroker.identity import Identity
from forkbroker.parent.roster import Client
from forkbroker.permissions import Permissions


class Entitling:
    """The permissions that hold, and their edition."""

    def __init__(self, permissions: Permissions, source_of: Callable[[str], str]) -> None:
        """`source_of` gives nothing for hosts that are this machine."""
        self._permissions = permissions
        self._source_of = source_of
        self._kept: dict[tuple[Identity, bool], bytes] = {}
        self._connections: Counter[str] = Counter()
        self.edition = 0
        """What a process has that was forked for a nursery of now."""

    def adopt(self, permissions: Permissions) -> Callable[[Client], bytes]:
        """Other permissions hold from now on.

        What is returned gives the rights of a client, packed, if they are others than before; else nothing.
        """
        before = Entitling(self._permissions, self._source_of)
        if permissions != self._permissions:
            self._permissions = permissions
            self._kept = {}
            self.edition += 1

        def find_changed(child: Client) -> bytes:
            packed = self._pack(child)
            return b"" if packed == before._pack(child) else packed

        return find_changed

    def arrive(self, child: Client) -> str:
        """A client has logged in: why it can't stay, as its user has too many; empty if it can."""
        user = child.identity.user
        self._connections[user] += 1
        limit = self._permissions.quota_of(child.identity).connections
        if not limit or self._connections[user] <= limit:
            return ""
        whose = f"of user {user}" if user else "without a login"
        return f"too many clients {whose}, the quota for connections is {limit:,}"

    def find_refusal(self, child: Client) -> str:
        """Why a client may not be connected to its virtual host, or not any more; empty if it may."""
        if self._permissions.may_enter(child.identity, child.virtual_host):
            return ""
        return describe_refusal(child.identity.user, child.virtual_host)

    def find_allotment(self, client: Identity) -> tuple[int, int]:
        """How many queues, and octets in them, the user may have; 0: any number."""
        quota = self._permissions.quota_of(client)
        return quota.queues, quota.queue_bytes

    def leave(self, child: Client) -> None:
        """A client that had logged in has gone."""
        user = child.identity.user
        self._connections[user] -= 1
        if not self._connections[user]:
            del self._connections[user]

    def find_news(self, child: Client) -> bytes:
        """The rights of a client that has just connected, if its process has older permissions; else nothing."""
        return b"" if child.edition == self.edition else self._pack(child)

    def _pack(self, child: Client) -> bytes:
        key = child.identity, not self._source_of(child.host)
        packed = self._kept.get(key)
        if packed is None:
            packed = self._permissions.rights_of(key[0], is_local=key[1]).pack()
            self._kept[key] = packed
        return packed
