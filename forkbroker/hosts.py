"""Virtual hosts: spaces of destinations that know nothing of each other.

The `host` header of CONNECT selects one (STOMP 1.2, CONNECT or STOMP Frame). To its clients, each space is all there
is. For the broker, the names of a named host have its key in front: `/queue/jobs` of the host `shop` is
`/queue/$HOST/shop/jobs`. The *default* host has names as they are written, and none that begins with `$HOST/`. No
wildcard reaches from one space into another, as the first level of a topic is matched by none if it begins with `$`
(`forkbroker.patterns`).

The mapping is made by the process of the client, where it understands a name, and where it writes one. So all that is
behind it, queues, policies and the store, knows names only.

What is below `/control/` and `/topic/$SYS/` is about the broker as a whole, and the same for all hosts that may use it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

DEFAULT = "default"
"""The key of the host without a space of its own."""
DEFAULT_NAMES = ("localhost",)
"""How clients call it, where the configuration does not say."""
ALWAYS_DEFAULT = "/"
"""What many clients send that know of no virtual hosts, as it is RabbitMQ's name for its own default one."""
MARK = "$HOST/"
MAX_KEY = 32

_MARK = MARK.encode()
_SORTS = "/(?:queue|topic|dsub|reply-queue|reply-topic)/"
"""What the broker's names of destinations begin with."""
_OF_BROKER = (b"/control/", b"/topic/$SYS/")


class Space:
    """The names of destinations of one host, as its clients write them and as the broker does."""

    __slots__ = ("_prefix", "_within")

    def __init__(self, key: str = "") -> None:
        """`key` is that of a named host; empty: the default one."""
        prefix = f"{MARK}{key}/" if key else ""
        self._prefix = prefix.encode()
        self._within = re.compile(f"({_SORTS}){re.escape(prefix)}") if key else None

    def inward(self, name: bytes) -> bytes:
        """What the broker calls the destination with this canonical name of a client's."""
        if not self._prefix:
            return name
        at = name.index(b"/", 1) + 1
        return name[:at] + self._prefix + name[at:]

    def outward(self, name: bytes) -> bytes | None:
        """What clients of the host call the destination with this name of the broker's; None: it is of another one."""
        if name.startswith(_OF_BROKER):
            return name
        if not self._prefix:
            return None if is_of_host(name) else name
        at = name.index(b"/", 1) + 1
        return name[:at] + name[at + len(self._prefix) :] if name.startswith(self._prefix, at) else None

    def conceal(self, text: str) -> str:
        """A text of the broker's, with the names of this host as its clients know them."""
        return self._within.sub(r"\1", text) if self._within is not None else text


def is_of_host(name: bytes) -> bool:
    """Whether this name of the broker's, or pattern of such names, is within a named host."""
    return name.startswith(_MARK, name.find(b"/", 1) + 1)


def space_of(name: bytes) -> Space:
    """The names of the host to which this name of the broker's belongs, whether that is configured or not."""
    at = name.find(b"/", 1) + 1
    if not name.startswith(_MARK, at):
        return EVERYWHERE
    key = name[at + len(_MARK) :].partition(b"/")[0].decode(errors="surrogateescape")
    return Space(key) if key else EVERYWHERE


def describe_refusal(user: str, key: str) -> str:
    """Why a client can't connect to a host that there is."""
    who = f"user {user!r}" if user else "a client without a login"
    return f"{who} may not connect to the host {key}"


EVERYWHERE = Space()
"""That of the default host."""


@dataclass(frozen=True, slots=True)
class Host:
    """What the configuration says of one virtual host."""

    key: str
    """Its name in the configuration, and within names of the broker's."""
    names: tuple[str, ...] = ()
    """What clients call it, in lower case."""
    users: tuple[str, ...] | None = None
    """Who may connect to it, beside the members of `groups`; None for both: everybody."""
    groups: tuple[str, ...] | None = None
    control: bool = False
    """Its clients may send requests to the broker, and subscribe to what the broker says of itself."""
    where: str = field(default="", compare=False)
    """Where that stands, for people."""

    @property
    def is_default(self) -> bool:
        """It has no space of its own."""
        return self.key == DEFAULT

    @property
    def is_limited(self) -> bool:
        """Not everybody may connect to it."""
        return self.users is not None or self.groups is not None

    def make_space(self) -> Space:
        """The names of its destinations."""
        return EVERYWHERE if self.is_default else Space(self.key)


DEFAULT_HOST = Host(DEFAULT, DEFAULT_NAMES, control=True)


@dataclass(frozen=True, slots=True)
class Hosts:
    """All of them."""

    all: tuple[Host, ...] = ()
    """Those that the configuration names; the default one may be among them."""
    _by_name: Mapping[str, Host] = field(init=False, repr=False, compare=False)
    default: Host = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        default = next((host for host in self.all if host.is_default), DEFAULT_HOST)
        by_name = {name: host for host in (*self.all, default) for name in host.names}
        # a frozen record is set in this way
        object.__setattr__(self, "default", default)
        object.__setattr__(self, "_by_name", by_name | {ALWAYS_DEFAULT: default})

    def find(self, name: str | None, *, is_strict: bool) -> Host | None:
        """The host that a client means by the `host` of its CONNECT, or by none; None: there is no such host.

        Where no hosts are configured, all names mean the default one; and so do unknown ones, unless `is_strict`.
        """
        if name is None or not self.all:
            return self.default
        return self._by_name.get(name.lower(), None if is_strict else self.default)

    def find_key(self, key: str) -> Host | None:
        """The host with this key, if it is configured."""
        return next((host for host in self.all if host.key == key), None)

    def to_plain(self) -> list[object]:
        """What JSON can carry."""
        return [[host.key, host.names, host.users, host.groups, host.control] for host in self.all]


def hosts_from_plain(plain: object) -> Hosts:
    """What `Hosts.to_plain` made."""
    assert isinstance(plain, list)
    return Hosts(
        tuple(
            Host(
                key,
                tuple(names),
                None if users is None else tuple(users),
                None if groups is None else tuple(groups),
                bool(control),
            )
            for key, names, users, groups, control in plain
        )
    )


NO_HOSTS = Hosts()
