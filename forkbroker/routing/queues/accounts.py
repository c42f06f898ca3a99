"""What users have made: queues, and bytes in them, as far as they have a quota for these.

A queue is on the account of the user whose client has made it, until it is gone; while something waits elsewhere that
is to come to it, it is not gone. The store knows whose queues those are that have persistent messages, so a start of
the broker changes nothing. Queues that an administrator or a dead letter has made are on nobody's account.

How many bytes all queues of an account have is counted when it matters: what was accepted since the last count is added
up, and only if that comes to the limit, all of them are asked again. So a SEND costs an addition.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from forkbroker.routing.handover import Record, Rule
from forkbroker.routing.peers import Peer

if TYPE_CHECKING:
    from forkbroker.routing.queues.queue import Queue


class Account(Record):
    """What one user has."""

    __slots__ = ("_at_most", "max_octets", "max_queues", "names", "peers", "user")

    def __init__(self, user: str) -> None:
        self.user = user
        self.max_queues = 0
        """0: any number."""
        self.max_octets = 0
        """Of all queues together; 0: any number."""
        self.peers: set[Peer] = set()
        """Clients of the user that are there."""
        self.names: dict[bytes, Queue | None] = {}
        """Queues that they have made; None: it does not exist just now, and something is to come to it."""
        self._at_most = 0
        """Octets in these queues, if nothing had left them since they were counted."""

    def find_excess(self, planned: int = 0) -> str | None:
        """Why there can't be another queue, after so many that are planned."""
        if not self.max_queues or len(self.names) + planned < self.max_queues:
            return None
        return f"{self._whose()} has {self.max_queues:,} already, the quota for queues"

    def find_excess_octets(self, planned: int = 0) -> str | None:
        """Why no more messages can come, after so many octets that are planned."""
        limit = self.max_octets
        if not limit or self._at_most + planned < limit:
            return None
        self._at_most = sum(queue.octets for queue in self.names.values() if queue is not None)
        if self._at_most + planned < limit:
            return None
        return f"the queues of {self._whose()} have {self._at_most:,} bytes, the quota for queue-bytes is {limit:,}"

    def add(self, octets: int) -> None:
        """So many octets come."""
        self._at_most += octets

    def _whose(self) -> str:
        return f"user {self.user!r}" if self.user else "a client without a login"


class Accounts(Rule):
    """All of them."""

    DUMPED = ("_by_peer", "_by_user", "_awaited")
    ANEW = ("watchers",)

    def __init__(self) -> None:
        """Nobody has a quota."""
        self._by_peer: dict[Peer, Account] = {}
        self._by_user: dict[str, Account] = {}
        self._awaited: dict[bytes, Account] = {}
        """Of the queues that do not exist, and to which something is to come."""
        self.watchers: list[Callable[[bytes], None]] = []
        """They are called with the name of each queue that is on nobody's account any more."""

    def of(self, peer: Peer | None) -> Account | None:
        """The account of the peer's user, if that has a quota."""
        return self._by_peer.get(peer) if peer is not None and self._by_peer else None

    def users(self) -> list[str]:
        """All that have an account."""
        return list(self._by_user)

    def allot(self, user: str, max_queues: int, max_octets: int, peer: Peer | None = None) -> None:
        """So much may the user have, for whom this peer is there; 0: any number."""
        account = self._by_user.get(user)
        if account is None:
            if not (max_queues or max_octets):
                return
            account = self._by_user[user] = Account(user)
        account.max_queues, account.max_octets = max_queues, max_octets
        if peer is not None:
            account.peers.add(peer)
            self._by_peer[peer] = account
        self._tidy(account)

    def made(self, queue: Queue, peer: Peer | None) -> None:
        """The peer, or nobody, has made this queue."""
        account = self._awaited.pop(queue.name, None) or self.of(peer)
        queue.account = account
        if account is not None:
            account.names[queue.name] = queue

    def restore(self, name: bytes, queue: Queue | None, user: str) -> None:
        """This queue, or one that is awaited, was the user's before the broker's start."""
        account = self._by_user.get(user)
        if account is None:
            account = self._by_user[user] = Account(user)
        account.names[name] = queue
        if queue is None:
            self._awaited[name] = account
        else:
            queue.account = account
            account.add(queue.octets)

    def gone(self, queue: Queue, *, is_awaited: bool) -> None:
        """The queue is gone; `is_awaited`: something is to come to it."""
        account, queue.account = queue.account, None
        if account is None:
            return
        if is_awaited:
            account.names[queue.name] = None
            self._awaited[queue.name] = account
        else:
            self._end(account, queue.name)

    def release(self, name: bytes) -> None:
        """Nothing is to come any more to the queue of this name, if it does not exist."""
        account = self._awaited.pop(name, None)
        if account is not None:
            self._end(account, name)

    def _end(self, account: Account, name: bytes) -> None:
        del account.names[name]
        self._tidy(account)
        for watcher in self.watchers:
            watcher(name)

    def peer_ended(self, peer: Peer) -> None:
        """The peer is gone."""
        account = self._by_peer.pop(peer, None)
        if account is not None:
            account.peers.discard(peer)
            self._tidy(account)

    def _tidy(self, account: Account) -> None:
        if not (account.peers or account.names):
            self._by_user.pop(account.user, None)
