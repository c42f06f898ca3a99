"""What a user may do, as the configuration file says, and which of its lines says so."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from forkbroker.destinations import is_system, parse_subscription
from forkbroker.hosts import Host, describe_refusal
from forkbroker.identity import Identity
from forkbroker.patterns import covers
from forkbroker.permissions import RIGHTS, Grant, Permissions, Right, fill


@dataclass(frozen=True, slots=True)
class Question:
    """Who wants to do what, and where."""

    user: str
    """Empty: a client without a login."""
    right: str
    destination: str
    """As the client writes it."""
    groups: tuple[str, ...] = ()
    """Groups of the user beside those that are configured: what a token or a program may say."""
    host: str | None = None
    """The `host` of CONNECT; None: the client gives none."""
    is_strict: bool = False
    """No client gets the default host for a name that is not known."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether, and why."""

    user: str
    groups: tuple[str, ...]
    """All of the user's."""
    right: str
    destination: str
    host: str
    """The key of the host; empty: there is none of this name."""
    is_allowed: bool
    reasons: tuple[str, ...]
    """The lines that give the right; if none does, what there is of it for this user."""


def find_answer(permissions: Permissions, question: Question) -> Answer:
    """Find out whether a user has a right for a destination.

    Raises:
        DestinationError: it is none.
    """
    name = name_of(question.destination)
    client = Identity(question.user, groups=question.groups if question.user else ())
    groups = tuple(permissions.groups_of(client.user, client.groups))
    host = permissions.hosts.find(question.host, is_strict=question.is_strict)
    refusal = _find_refusal(permissions, client, host, question, name)
    if host is None or refusal:
        is_allowed, reasons = False, [refusal]
    else:
        space, right = host.make_space(), RIGHTS[question.right]
        is_broker = _is_of_broker(name)
        rights = permissions.rights_of(client, is_local=False).within(space)
        is_allowed = rights.allows(right, name if is_broker else space.inward(name))
        reasons = list(_explain(permissions, client, right, name))
    key = "" if host is None else host.key
    told = _describe_groups(permissions, client)
    return Answer(question.user, groups, question.right, question.destination, key, is_allowed, (*reasons, *told))


def _find_refusal(
    permissions: Permissions, client: Identity, host: Host | None, question: Question, name: bytes
) -> str:
    """Why the client has no way to this destination, whatever its rights are."""
    if host is None:
        return f"there is no host {question.host}, and strict is set"
    where = f"{host.where}: " if host.where else ""
    if not permissions.may_enter(client, host.key):
        return f"{where}{describe_refusal(client.user, host.key)}"
    if _is_of_broker(name) and not host.control:
        return f"{where}clients of host {host.key} have no access to {name.decode(errors='replace')} (control)"
    return ""


def _is_of_broker(name: bytes) -> bool:
    return name.startswith(b"/control/") or is_system(name)


def name_of(destination: str) -> bytes:
    """The canonical name. Raises DestinationError."""
    if destination.startswith("/control/"):
        return destination.encode(errors="surrogateescape")
    return parse_subscription(destination, "error").name


def _explain(permissions: Permissions, client: Identity, right: Right, name: bytes) -> Iterator[str]:
    if permissions.grants is None:
        yield "the file has no [permissions]; by default users may do what concerns messages, on all destinations"
        return
    user = client.user
    grants = [grant for grant in permissions.grants_of(user, client.groups) if grant.right == right.value]
    giving = [grant for grant in grants if covers(fill(grant.pattern, user), name)]
    yield from map(_describe, giving or grants)
    if not grants:
        yield f"no line gives {right.value} to {_join(permissions.subjects_of(user, client.groups))}"
    elif not giving:
        yield "these do not cover the destination"


def _describe(grant: Grant) -> str:
    return f'{grant.where}: {grant.subject}: {grant.right} = "{grant.pattern}"'


def _describe_groups(permissions: Permissions, client: Identity) -> Iterator[str]:
    """Of which groups the user is a member."""
    groups = list(permissions.groups_of(client.user, client.groups))
    if groups:
        yield f"user {client.user} is in {'group' if len(groups) == 1 else 'groups'} {', '.join(groups)}"


def _join(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
