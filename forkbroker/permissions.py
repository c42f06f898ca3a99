"""What users may do with which destinations.

A *right* is what a user may do; a *grant* gives one to a user, to all members of a group, to all users, or to clients
without a login. Where there are grants, what is not granted is denied. Which destinations a grant is for is said by a
pattern, in the language of subscriptions to topics (`forkbroker.patterns`), for names of every kind: `/queue/jobs.>`,
`/topic/*.news`, `/dsub/mine`, `/control/status`; `/>` is all there is.

`%u` in a pattern stands for the user's name. In it the characters that mean something in a name of a destination, and
`%` itself, are written as `%` and two hexadecimal digits: `a.b` becomes `a%2Eb`, which is one level. So nobody gets a
pattern by the choice of a name, and what is one user's is no other's. `%%` is a percent sign.

A subscription to a pattern needs one grant that covers all that the pattern may match.

Grants are for names as clients of a virtual host see them (`forkbroker.hosts`): a user has the same rights in each host
that it may connect to. Names of other hosts occur in requests to the broker alone. For these a grant counts that is for
all there is, or names the host: `/queue/$HOST/shop/>`.

Temporary destinations need no right: they are their session's own, and who is told the name of one may send there.

A verdict is worked out once for a name, and kept; so is the plan of whoever asks (`forkbroker.session.publishing`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, field, fields
from enum import Enum
from sys import getsizeof
from typing import NamedTuple

from forkbroker.caches import ENTRY, Cache
from forkbroker.errors import EnvelopeError, ForkbrokerError
from forkbroker.hosts import EVERYWHERE, NO_HOSTS, Hosts, Space, hosts_from_plain, is_of_host
from forkbroker.identity import Identity
from forkbroker.patterns import covers


class Right(Enum):
    """What a user may do with a destination; the value is its name in the configuration."""

    READ = "read"
    """Subscribe, and so get messages; of a queue that takes them out."""
    WRITE = "write"
    """Send."""
    CREATE = "create"
    """Make a queue by sending or subscribing to it; make and delete a durable subscription."""
    BROWSE = "browse"
    """Look at the messages of a queue that stay there."""
    MANAGE = "manage"
    """Change what others depend on: purge, move, hold, kick; all requests that change something."""
    MONITOR = "monitor"
    """See figures and names: who is connected, how much waits."""


RIGHTS = {right.value: right for right in Right}

ALL_USERS = "all-users"
"""The subject of grants to everybody who has logged in."""
ANONYMOUS = "anonymous"
"""The subject of grants to clients without a login."""
_USER, _GROUP = "user ", "group "

_ALL = b"/>"
_ON_THIS_MACHINE = dict.fromkeys(Right, (_ALL,))
_BY_DEFAULT = dict.fromkeys((Right.READ, Right.WRITE, Right.CREATE, Right.BROWSE), (_ALL,))
_TEMPORARY = (b"/reply-queue/", b"/reply-topic/", b"/temp-queue/", b"/temp-topic/")
_OWN = frozenset({Right.READ, Right.WRITE, Right.CREATE})
"""What everybody may do with temporary destinations: the session sees to whose they are."""
_QUOTED = {ord(character): f"%{ord(character):02X}" for character in "%./@*#>"}
_CACHE_OCTETS = 65_536
_SHOWN = 200


class DeniedError(ForkbrokerError):
    """The user lacks a right. The text is meant for the client, and for the log."""


class Grant(NamedTuple):
    """A right for destinations, and whose it is."""

    subject: str
    """`user NAME`, `group NAME`, `all-users` or `anonymous`."""
    right: str
    pattern: str
    """As it was written, with `%u`."""
    where: str
    """Where that stands, for people."""


def user_subject(name: str) -> str:
    """The subject of grants to this user."""
    return _USER + name


def group_subject(name: str) -> str:
    """The subject of grants to the members of this group."""
    return _GROUP + name


def quote(name: str) -> str:
    """A user's name as `%u` gives it: one level of a destination, which is no other user's."""
    return name.translate(_QUOTED)


def fill(pattern: str, user: str) -> bytes:
    """The pattern of a grant for this user: with the name for `%u`, and `%` for `%%`."""
    parts = pattern.split("%%")
    return "%".join(part.replace("%u", quote(user)) for part in parts).encode(errors="surrogateescape")


@dataclass(frozen=True, slots=True)
class Quota:
    """How much one user may have; 0: no limit of the user's own."""

    connections: int = 0
    """Of all clients of the user together, as `queues` and `queue_bytes`; all others are of each client."""
    subscriptions: int = 0
    messages_per_second: int = 0
    bytes_per_second: int = 0
    memory: int = 0
    """Octets of address space of the client's process."""
    cpu: int = 0
    """Seconds of a processor of that process."""
    nice: int = 0
    """How much lower its priority is (nice(1))."""
    queues: int = 0
    """That clients of the user have made, all together."""
    queue_bytes: int = 0
    """Octets in all these queues."""

    @property
    def has_rate(self) -> bool:
        """The client may be held back."""
        return bool(self.messages_per_second or self.bytes_per_second)


QUOTA_KEYS = {field.name.replace("_", "-"): field.name for field in fields(Quota)}
"""Names in the configuration, and the fields that they are."""
UNBOUNDED = Quota()


class Rights:
    """What one user may do, and how much."""

    def __init__(self, user: str, patterns: Mapping[Right, Sequence[bytes]], quota: Quota = UNBOUNDED) -> None:
        """`patterns`: those of the destinations for which the user has each right."""
        self.user = user
        self.quota = quota
        self._space: Space = EVERYWHERE
        self._patterns = patterns
        self._verdicts: Cache[tuple[Right, bytes], bool] = Cache(_CACHE_OCTETS, _weigh)

    def within(self, space: Space) -> Rights:
        """Let these be the rights of a client of the host that has this space; not to be changed later."""
        self._space = space
        return self

    def allows(self, right: Right, name: bytes) -> bool:
        """Whether the user has this right for a name of the broker's, or for all that a pattern of topics matches."""
        verdict = self._verdicts.get((right, name))
        if verdict is None:
            is_own = right in _OWN and name.startswith(_TEMPORARY)
            verdict = is_own or self._is_granted(right, name)
            self._verdicts.remember((right, name), verdict)
        return verdict

    def _is_granted(self, right: Right, name: bytes) -> bool:
        patterns, visible = self._patterns.get(right, ()), self._space.outward(name)
        if visible is None:
            visible, patterns = name, [one for one in patterns if one == _ALL or is_of_host(one)]
        return any(covers(one, visible) for one in patterns)

    def check(self, right: Right, name: bytes) -> None:
        """As `allows`, for who has to do without.

        Raises:
            DeniedError: the user lacks this right.
        """
        if not self.allows(right, name):
            who = f"user {self.user!r}" if self.user else "a client without a login"
            text = (self._space.outward(name) or name).decode("utf-8", "backslashreplace")
            text = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
            raise DeniedError(f"{who} lacks the right {right.value} for {text!r}")

    def pack(self) -> bytes:
        """Serialise, for another process."""
        patterns = {right.value: [one.decode("utf-8", "surrogateescape") for one in some] for right, some in self}
        return json.dumps([self.user, patterns, astuple(self.quota)]).encode()

    def __iter__(self) -> Iterator[tuple[Right, Sequence[bytes]]]:
        return iter(self._patterns.items())


def unlimited(client: Identity) -> Rights:
    """Every right for everything."""
    return Rights(client.user, _ON_THIS_MACHINE)


def unpack(octets: bytes) -> Rights:
    """What `Rights.pack` made.

    Raises:
        EnvelopeError: it did not.
    """
    try:
        user, patterns, quota = json.loads(octets)
        return Rights(
            user,
            {Right(name): [one.encode("utf-8", "surrogateescape") for one in some] for name, some in patterns.items()},
            Quota(*quota),
        )
    except (ValueError, TypeError, AttributeError) as error:
        raise EnvelopeError(f"rights: {error}") from None


def _weigh(key: tuple[Right, bytes], _verdict: bool) -> int:
    return ENTRY + getsizeof(key) + getsizeof(key[1])


@dataclass(frozen=True, slots=True)
class Permissions:
    """What all users may do."""

    grants: tuple[Grant, ...] | None = None
    """None: nothing is said of permissions, so nothing is denied that is about messages alone."""
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The members of each group."""
    has_users: bool = False
    """Clients have to prove who they are."""
    quotas: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """What each subject may have: the fields of `Quota` that are given."""
    hosts: Hosts = NO_HOSTS
    """To which clients may connect."""

    def to_plain(self) -> list[object]:
        """What JSON can carry."""
        grants = None if self.grants is None else [list(grant) for grant in self.grants]
        groups = {name: list(members) for name, members in self.groups.items()}
        return [grants, groups, self.has_users, self.quotas, self.hosts.to_plain()]

    def groups_of(self, user: str, groups: Iterable[str] = ()) -> list[str]:
        """All groups of this user; `groups`: those that are not configured."""
        if not user:
            return []
        return list(dict.fromkeys([*(name for name, members in self.groups.items() if user in members), *groups]))

    def subjects_of(self, user: str, groups: Iterable[str] = ()) -> list[str]:
        """Of the grants that are for this user; empty: a client without a login. `groups`: others of the user's."""
        if not user:
            return [ANONYMOUS]
        return [user_subject(user), *map(group_subject, self.groups_of(user, groups)), ALL_USERS]

    def grants_of(self, user: str, groups: Iterable[str] = ()) -> Iterator[Grant]:
        """All that are for this user."""
        subjects = self.subjects_of(user, groups)
        return (grant for grant in self.grants or () if grant.subject in subjects)

    def rights_of(self, client: Identity, *, is_local: bool) -> Rights:
        """What this client may do; `is_local`: it is on this machine.

        Where nothing is said of permissions, each client may do what concerns messages. To manage and to monitor the
        broker is for clients on this machine alone, and only where nobody has to prove who they are.
        """
        if client.is_administrator:
            return unlimited(client)
        user, quota = client.user, self.quota_of(client)
        if self.grants is None:
            given = _ON_THIS_MACHINE if is_local and not self.has_users else _BY_DEFAULT
            return Rights(user, given, quota)
        patterns: dict[Right, list[bytes]] = {}
        for grant in self.grants_of(user, client.groups):
            patterns.setdefault(RIGHTS[grant.right], []).append(fill(grant.pattern, user))
        return Rights(user, patterns, quota)

    def may_enter(self, client: Identity, key: str) -> bool:
        """Whether this client may connect to the host with this key; or stay, if the host is no longer configured."""
        host = self.hosts.find_key(key)
        if host is None or not host.is_limited or client.is_administrator:
            return True
        permitted = [*map(user_subject, host.users or ()), *map(group_subject, host.groups or ())]
        return not set(permitted).isdisjoint(self.subjects_of(client.user, client.groups))

    def quota_of(self, client: Identity) -> Quota:
        """How much this client may have.

        Of each limit, that of the user counts before those of groups, in their order, and these before all users'.
        """
        if not self.quotas or client.is_administrator:
            return UNBOUNDED
        found: dict[str, int] = {}
        for subject in reversed(self.subjects_of(client.user, client.groups)):
            found.update(self.quotas.get(subject, {}))
        return Quota(**found)


def from_plain(plain: Sequence[object]) -> Permissions:
    """What `Permissions.to_plain` made."""
    grants, groups, has_users, quotas, hosts = plain
    assert isinstance(quotas, dict)
    assert isinstance(groups, dict)
    assert grants is None or isinstance(grants, list)
    return Permissions(
        None if grants is None else tuple(Grant(*grant) for grant in grants),
        {name: tuple(members) for name, members in groups.items()},
        bool(has_users),
        quotas,
        hosts_from_plain(hosts),
    )
