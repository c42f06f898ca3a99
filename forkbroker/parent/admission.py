"""May this connection have a process, and when: limits before comfort.

Two questions, as they are asked at two moments. `opens_at` is asked before a connection is accepted: as long as the
answer lies ahead nothing is accepted, and whoever connects waits in the listen backlog, where the kernel bounds
them. `refusal` is asked once the address is known: the answer is the text that the client is told, or nothing.

What makes connections wait is the fork rate (a token bucket), and a penalty after children that failed before their
clients had logged in: whatever is wrong then (memory, a broken installation, a crash that a client found), forking
faster makes it worse.

A rule: no descriptor, no clock, no log. Time comes in as `now`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

_CRASHES_FORGIVEN = 3
_PENALTY_S = 0.1
_PENALTY_MAX_S = 5.0
_FORK_PENALTY_S = 1.0


@dataclass(frozen=True, slots=True)
class AdmissionPolicy:
    """Limits on clients; each is known to the administrator by the name of its option."""

    max_clients: int = 2000
    """Clients at one time. OpenSMTPD's and PostgreSQL's defaults are hundreds; an idle client costs about 1 MiB."""
    max_clients_per_address: int = 0
    """Clients from one address at one time; 0 is no limit. Loopback and Unix sockets are exempt."""
    fork_rate: float = 1000.0
    """Forks a second, in the long run; above 0. One costs 0.3 to 2 ms."""
    fork_burst: int = 100
    """Forks that may come at once."""


class Admission:
    """Who is connected, how fast they came, and how it went."""

    def __init__(self, policy: AdmissionPolicy, is_exempt: Callable[[str], bool], now: float) -> None:
        """Start with nobody connected and a full bucket.

        `is_exempt` tells whether a host is free of the limit for one address: whoever is on this machine.
        """
        self._policy = policy
        self._is_exempt = is_exempt
        self._clients: Counter[str] = Counter()
        self._tokens = float(policy.fork_burst)
        self._filled_at = now
        self._crashes = 0
        self._penalty_until = now

    @property
    def clients(self) -> int:
        """How many clients are connected."""
        return self._clients.total()

    def opens_at(self, now: float) -> float:
        """From when on the next connection may be accepted; `now` when it may be at once."""
        policy = self._policy
        self._tokens = min(max(1.0, policy.fork_burst), self._tokens + (now - self._filled_at) * policy.fork_rate)
        self._filled_at = now
        missing = max(0.0, 1.0 - self._tokens)
        return max(now + missing / policy.fork_rate, self._penalty_until)

    def refusal(self, host: str) -> str:
        """Why a client from `host` can't have a process; empty if it can."""
        policy = self._policy
        clients = self.clients
        if clients >= policy.max_clients:
            return f"too many clients, {clients} are connected and max-clients is {policy.max_clients}"
        limit = policy.max_clients_per_address
        if limit and self._clients[host] >= limit and not self._is_exempt(host):
            return f"too many clients from {host}, {limit} are connected and max-clients-per-address is {limit}"
        return ""

    def add(self, host: str) -> None:
        """A child is being forked for a client from `host`: count it, and take one fork from the bucket."""
        self._clients[host] += 1
        self._tokens -= 1.0

    def remove(self, host: str) -> None:
        """The child of a client from `host` is gone."""
        self._clients[host] -= 1
        if not self._clients[host]:
            del self._clients[host]

    def fork_failed(self, now: float) -> None:
        """The system had no room for a process, and will hardly have it in the next moment."""
        self._penalty_until = max(self._penalty_until, now + _FORK_PENALTY_S)

    def crashed(self, now: float) -> None:
        """A child crashed before its client had logged in.

        A few are forgiven, as one client may well be the cause; then the penalty doubles up to five seconds.
        """
        self._crashes += 1
        excess = self._crashes - _CRASHES_FORGIVEN
        if excess > 0:
            self._penalty_until = now + min(_PENALTY_MAX_S, _PENALTY_S * 2 ** min(excess, 16))

    def connected(self) -> None:
        """A client logged in: children work, and earlier crashes are forgotten."""
        self._crashes = 0
