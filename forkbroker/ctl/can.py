"""What a user may do, as the configuration file says, and which of its lines says so."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from forkbroker.destinations import parse_subscription
from forkbroker.identity import Identity
from forkbroker.patterns import covers
from forkbroker.permissions import RIGHTS, Grant, Permissions, Right, fill


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether, and why."""

    user: str
    right: str
    destination: str
    is_allowed: bool
    reasons: tuple[str, ...]
    """The lines that give the right; if none does, what there is of it for this user."""


def find_answer(permissions: Permissions, user: str, right: str, destination: str) -> Answer:
    """Find out whether a user has a right for a destination; an empty name is that of clients without a login.

    Raises:
        DestinationError: it is none.
    """
    name = name_of(destination)
    is_allowed = permissions.rights_of(Identity(user), is_local=False).allows(RIGHTS[right], name)
    return Answer(user, right, destination, is_allowed, tuple(_explain(permissions, user, RIGHTS[right], name)))


def name_of(destination: str) -> bytes:
    """The canonical name. Raises DestinationError."""
    if destination.startswith("/control/"):
        return destination.encode(errors="surrogateescape")
    return parse_subscription(destination, "error").name


def _explain(permissions: Permissions, user: str, right: Right, name: bytes) -> Iterator[str]:
    if permissions.grants is None:
        yield "the file has no [permissions]; by default users may do what concerns messages, on all destinations"
        return
    grants = [grant for grant in permissions.grants_of(user) if grant.right == right.value]
    giving = [grant for grant in grants if covers(fill(grant.pattern, user), name)]
    yield from map(_describe, giving or grants)
    if not grants:
        yield f"no line gives {right.value} to {_join(permissions.subjects_of(user))}"
    elif not giving:
        yield "these do not cover the destination"


def _describe(grant: Grant) -> str:
    return f'{grant.where}: {grant.subject}: {grant.right} = "{grant.pattern}"'


def _join(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
