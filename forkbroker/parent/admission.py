"""May this connection have a process, and when: limits before comfort.

Three questions. `opens_at` is asked for everybody: as long as the answer lies ahead nobody gets a process. `place_at`
is asked for an address that waits. `refusal` is asked when an address comes, and when it has its turn: the answer is
the text that the client is told, or nothing.

What makes all connections wait is the fork rate (a token bucket), a fork that failed, and for a tenth of a second a
row of children that all failed before their clients had logged in: then the installation is broken, and forking faster
makes it worse. A row of such failures of one address is that address's own: it is refused for a time that doubles.
So is an address from which logins fail; its time is longer, and a login that succeeds does not end it, as one who has
an account could else guess at the others.

Clients that have connected and not logged in have a limit of their own, as they cost the one who sends nothing nearly
nothing. At the limit one of them makes room for the next one (`forkbroker.parent.pending`): a suspect
(`forkbroker.parent.suspects`), if the next one is none. Among equals, if the next one is from an
address that has fewer of them, that is the oldest of the address that has the most, at once. Else it is the oldest of
its own address, but not before that one had a fair time: so a herd that comes back after a restart is served in order.
The same holds where all clients that there may be are there, and some of them have not logged in.

Addresses are counted by source (`forkbroker.posix.addresses.source_of`): who has one IPv6 address has 2⁶⁴ of them.

A rule: no descriptor, no clock, no log. Time comes in as `now`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

from forkbroker.identity import Identity, Way
from forkbroker.networks import is_within
from forkbroker.parent.penalties import Penalties, Scale
from forkbroker.parent.pending import Pending
from forkbroker.parent.suspects import Suspects
from forkbroker.routing.peers import Peer

_CRASHES_FORGIVEN = 3
_BRAKE_S = 0.1
_FORK_PENALTY_S = 1.0
_LOGIN_S = 2.0
"""How long a client that has not logged in keeps its place at least, when others of its address want it."""
_SUSPECTS_RATE = 50.0
"""Processes a second for suspects: what a flood may cost others, where it comes from the same addresses again."""
_LOOK_AGAIN_S = 0.05
"""Places get free by logins as well: how often that is looked for."""
_CRASHES = Scale(_CRASHES_FORGIVEN, 0.2, 5.0, 60.0)
_LOGINS = Scale(3, 1.0, 300.0, 600.0)
"""OpenSSH's PerSourcePenalties: 5 s for each failure, of which 15 s are forgiven; 600 s at most."""


@dataclass(frozen=True, slots=True)
class AdmissionPolicy:
    """Limits on clients; each is known to the administrator by the name of its option."""

    max_clients: int = 2000
    """Clients at one time. OpenSMTPD's and PostgreSQL's defaults are hundreds; docs/benchmarks.md has the memory of
    an idle client."""
    max_clients_per_address: int = 0
    """Clients from one source at one time; 0 is no limit. Loopback and Unix sockets are exempt."""
    max_pending_logins: int = 500
    """Clients at one time that have not logged in; 0 is no limit. OpenSSH's MaxStartups is 100."""
    fork_rate: float = 1000.0
    """Forks a second, in the long run; above 0. One costs 0.3 to 2 ms."""
    fork_burst: int = 100
    """Forks that may come at once."""
    users: Mapping[str, str] | None = None
    """Logins that clients may have with a passcode, and the hash of it; the empty one is that of clients without a
    login. None: any."""
    proxies: tuple[IPv4Network | IPv6Network, ...] = ()
    """Where proxies are, who say themselves for whom they have connected."""
    forwarders: tuple[IPv4Network | IPv6Network, ...] = ()
    """Where proxies for HTTP are, whose requests say it."""
    ways: frozenset[Way] = frozenset()
    """Other ways in which clients may show who they are."""


class Admission:
    """Who is connected, how fast they came, and how it went."""

    def __init__(self, policy: AdmissionPolicy, source_of: Callable[[str], str], now: float) -> None:
        """Start with nobody connected and a full bucket.

        `source_of` gives what a host is counted as; empty for hosts without limits and penalties of their own: whoever
        is on this machine.
        """
        self._policy = policy
        self._source_of = source_of
        self._sources: dict[Peer, str] = {}
        self._clients: Counter[str] = Counter()
        self._pending = Pending()
        self._pending_suspects = Pending()
        self._suspects = Suspects()
        self._suspects_at = now
        """When the next suspect may have a process."""
        self._displaced: set[Peer] = set()
        """Clients that have been told to make room, and are not gone."""
        self._behind: set[Peer] = set()
        """Clients of a proxy, of which it is not known where they are: what they do is not the proxy's fault."""
        self._stale: dict[Peer, Mapping[str, str]] = {}
        """Clients that had not logged in at the last reload, and the users that their processes know."""
        self._crashed = Penalties(_CRASHES)
        self._failed = Penalties(_LOGINS)
        self._tokens = float(policy.fork_burst)
        self._filled_at = now
        self._crashes = 0
        self._closed_until = now

    def adopt(self, policy: AdmissionPolicy) -> None:
        """Other limits hold from now on; who is connected stays."""
        if self._policy.users is not None:
            for peer in (*self._pending, *self._pending_suspects):
                self._stale.setdefault(peer, self._policy.users)
        self._policy = policy

    @property
    def clients(self) -> int:
        """How many clients are connected."""
        return len(self._sources)

    @property
    def max_clients(self) -> int:
        """How many there may be."""
        return self._policy.max_clients

    def origin_of(self, host: str) -> str:
        """Whose turn a client from `host` takes: also on this machine each address has its own."""
        return self._source_of(host) or host

    def is_suspect(self, origin: str, now: float) -> bool:
        """Whether others that came from there have not logged in, and should have."""
        return self._suspects.has(origin, now)

    def is_crowd(self, origin: str, now: float) -> bool:
        """Whether a client of this origin lets those of others come first, where there is not enough for all.

        It does if another one of its origin is about to log in: of a flood from a hundred fresh addresses each has one
        that does not, and a client from elsewhere has to be quicker than these alone.
        """
        return self.is_suspect(origin, now) or self._pending.count(origin) > 0

    def opens_at(self, now: float) -> float:
        """From when on the next client may have a process; `now` when it may at once."""
        policy = self._policy
        self._tokens = min(max(1.0, policy.fork_burst), self._tokens + (now - self._filled_at) * policy.fork_rate)
        self._filled_at = now
        missing = max(0.0, 1.0 - self._tokens)
        return max(now + missing / policy.fork_rate, self._closed_until)

    def place_at(self, origin: str, now: float) -> float:
        """From when on a client of this origin may have a process, as far as others that have not logged in matter.

        That may be earlier, as they log in, or leave: it is looked again soon.
        """
        soon = now + _LOOK_AGAIN_S
        if self.clients >= self._policy.max_clients:
            return soon
        is_suspect = self.is_suspect(origin, now)
        if is_suspect and self._suspects_at > now:
            return self._suspects_at
        if not self._is_full_of_pending() or self._gives_way_to(origin, is_suspect=is_suspect):
            return now
        own = self._pending_suspects if is_suspect else self._pending
        return max(now, min(own.oldest_since(origin) + _LOGIN_S, soon)) if own.count(origin) else soon

    @property
    def _pending_count(self) -> int:
        return len(self._pending) + len(self._pending_suspects)

    def _is_full_of_pending(self) -> bool:
        limit = self._policy.max_pending_logins
        return bool(limit) and self._pending_count >= limit

    def _gives_way_to(self, origin: str, *, is_suspect: bool) -> bool:
        """Whether another client that has not logged in makes room for one of this origin at once."""
        if is_suspect:
            return self._pending_suspects.count(origin) < self._pending_suspects.most
        return len(self._pending_suspects) > 0 or self._pending.count(origin) < self._pending.most

    def is_full(self, waiting: int) -> bool:
        """Whether all clients that there may be are there, or will be when those have their process that wait."""
        return self.clients - len(self._displaced) + waiting >= self._policy.max_clients

    def refusal(self, host: str, now: float) -> str:
        """Why a client from `host` can't have a process, as far as its address matters; empty if it can."""
        return self._refusal_of_source(self._source_of(host), now)

    def describe_full(self, waiting: int) -> str:
        """What a client is told for which there is no place at all, where so many wait for a process."""
        clients = self.clients + waiting
        return f"too many clients, {clients} are connected and max-clients is {self._policy.max_clients}"

    def _refusal_of_source(self, source: str, now: float) -> str:
        if not source:
            return ""
        policy = self._policy
        limit = policy.max_clients_per_address
        if limit and self._clients[source] >= limit:
            return f"too many clients from {source}, {limit} are connected and max-clients-per-address is {limit}"
        return self._refusal_of_failures(source, now)

    def _refusal_of_failures(self, source: str, now: float) -> str:
        for what, penalties in ((f"crashes caused by {source}", self._crashed), ("failed logins", self._failed)):
            left = penalties.left(source, now)
            if left > 0:
                return f"too many {what}, connect again in {left:.1f} s"
        return ""

    def take_pending(self, origin: str, now: float) -> Peer | None:
        """The client that must be disconnected for one of this origin, if there is no other place; it counts no more.

        To be asked when `place_at` has come.
        """
        return self._displace(origin, now) if self._is_full_of_pending() else None

    def take_surplus(self, origin: str, now: float) -> Peer | None:
        """The same where `is_full`: only if one makes room at once."""
        if self._gives_way_to(origin, is_suspect=self.is_suspect(origin, now)):
            return self._displace(origin, now)
        return None

    def _displace(self, origin: str, now: float) -> Peer:
        pending = self._pending_suspects if len(self._pending_suspects) else self._pending
        victim = pending.find_victim(origin)
        if pending.find_origin(victim) != origin:
            self.suspect(victim, now)
        pending.remove(victim)
        self._displaced.add(victim)
        return victim

    def add(self, peer: Peer, host: str, now: float, *, origin: str | None = None) -> None:
        """A child is being forked for a client from `host`: count it, and take one fork from the bucket.

        `origin`: whose turn it has taken, where that is not `host`: a proxy's.
        """
        source = self._sources[peer] = self._source_of(host)
        self._clients[source] += 1
        own = self.origin_of(host)
        if origin not in (None, own):
            self._behind.add(peer)
        self._wait(peer, own if origin is None else origin, now)
        self._tokens -= 1.0

    def is_proxy(self, host: str) -> bool:
        """Whether a client from `host` is a proxy, whose clients have addresses of their own."""
        return is_within(host, self._policy.proxies)

    def is_forwarder(self, host: str) -> bool:
        """Whether a client from `host` is a proxy for HTTP, whose requests have the addresses of its clients."""
        return is_within(host, self._policy.forwarders)

    def move(self, peer: Peer, host: str, now: float) -> str:
        """A proxy has said that this client is at `host`: why it can't stay; empty if it can."""
        source = self._source_of(host)
        reason = self._refusal_of_source(source, now)
        self._leave(self._sources[peer])
        self._sources[peer] = source
        self._clients[source] += 1
        self._behind.discard(peer)
        if self._find_pending_origin(peer) is not None:
            self._wait_no_more(peer)
            self._wait(peer, self.origin_of(host), now)
        return reason

    def _wait(self, peer: Peer, origin: str, now: float) -> None:
        """This client has not logged in."""
        if self.is_suspect(origin, now):
            self._pending_suspects.add(peer, origin, now)
            self._suspects_at = max(now, self._suspects_at) + 1.0 / _SUSPECTS_RATE
        else:
            self._pending.add(peer, origin, now)

    def _wait_no_more(self, peer: Peer) -> None:
        self._pending.remove(peer)
        self._pending_suspects.remove(peer)

    def _find_pending_origin(self, peer: Peer) -> str | None:
        origin = self._pending.find_origin(peer)
        return self._pending_suspects.find_origin(peer) if origin is None else origin

    def suspect(self, peer: Peer, now: float) -> None:
        """This client, not removed yet, has not logged in, and should have."""
        origin = self._find_pending_origin(peer)
        if origin is not None and peer not in self._behind:
            self._suspects.add(origin, now)

    def _leave(self, source: str) -> None:
        self._clients[source] -= 1
        if not self._clients[source]:
            del self._clients[source]

    def remove(self, peer: Peer) -> None:
        """The child of this client is gone."""
        self._wait_no_more(peer)
        self._displaced.discard(peer)
        self._behind.discard(peer)
        self._stale.pop(peer, None)
        self._leave(self._sources.pop(peer))

    def fork_failed(self, now: float) -> None:
        """The system had no room for a process, and will hardly have it in the next moment."""
        self._closed_until = max(self._closed_until, now + _FORK_PENALTY_S)

    def crashed(self, peer: Peer, now: float) -> None:
        """A child, not removed yet, crashed before its client had logged in.

        A few are forgiven; then the penalty of its source doubles up to five seconds.
        """
        self._crashes += 1
        if self._crashes > _CRASHES_FORGIVEN:
            self._closed_until = max(self._closed_until, now + _BRAKE_S)
        if source := self._sources[peer]:
            self._crashed.add(source, now)

    def login_failed(self, peer: Peer, now: float) -> None:
        """A client, not removed yet, has tried to log in with a wrong login or passcode.

        A few are forgiven; then the penalty of its source doubles up to five minutes.
        """
        if source := self._sources[peer]:
            self._failed.add(source, now)

    def find_fellows(self, peer: Peer, now: float) -> tuple[str, list[Peer]]:
        """Who else has come from where a login has failed, and may not come from there any more: why, and who.

        Only those that have not logged in: for the same reason a newcomer would be refused, and a storm is over with
        its first failures.
        """
        source = self._sources[peer]
        reason = self._refusal_of_failures(source, now)
        fellows = self._pending.clients(source) + self._pending_suspects.clients(source)
        return reason, fellows if reason else []

    def is_user(self, client: Identity) -> bool:
        """Whether a client may be here that has shown in this way who it is."""
        users = self._policy.users
        if users is None or client.is_administrator:
            return True
        return client.user in users if client.way is Way.PASSCODE else client.way in self._policy.ways

    def is_stale(self, peer: Peer, client: Identity) -> bool:
        """Whether a client has just logged in by what held before a reload, and perhaps does not any more.

        Its process was forked before. A passcode counts if it is the same now; of keys, certificates and programs the
        parent does not know whether they are.
        """
        before = self._stale.pop(peer, None)
        if before is None or self._policy.users is None:
            return False
        return client.way is not Way.PASSCODE or before.get(client.user) != self._policy.users.get(client.user)

    @property
    def has_users(self) -> bool:
        """Whether clients have to prove who they are."""
        return self._policy.users is not None

    def connected(self, peer: Peer) -> None:
        """A client logged in: children work, and earlier crashes are forgotten, those of its source as well."""
        self._suspects.clear(self._find_pending_origin(peer) or "")
        self._wait_no_more(peer)
        self._crashes = 0
        self._crashed.forget(self._sources[peer])
