"""A session that was begun for nobody is that of the client who gets it, as if it had been begun for this one."""

from __future__ import annotations

import types
from collections.abc import Iterator

import pytest

from forkbroker.identity import Identity
from forkbroker.permissions import Permissions
from forkbroker.session.connecting import Connecting
from forkbroker.session.downward import Unwritten
from forkbroker.session.ending import HeartBeat
from forkbroker.session.policy import SessionPolicy
from forkbroker.session.session import Session
from forkbroker.session.setup import Setup
from forkbroker.stomp.limits import Limits

LOGIN, ID, SECRET, NOW = "alice", "host.77", bytes(range(32)), 500.0
PERMISSIONS = Permissions()


def try_claim(_slot: int) -> bool:
    """Nothing is claimed here."""
    return False


def begin(connect: bytes, session_id: str, secret: bytes, now: float) -> Session:
    """A session to whose client all is written, as is to the parent."""
    sessions: list[Session] = []

    def rights_of(client: Identity) -> object:
        return PERMISSIONS.rights_of(client, is_local=True)

    setup = Setup(SessionPolicy(), Limits(), session_id, secret, try_claim, rights_of=rights_of)
    connecting = Connecting(setup, sessions.append, now)
    connecting.receive(connect, now)
    connecting.upward.take()
    connecting.unwritten.written(connecting.unwritten.pending, now)
    return sessions[0]


def parts(one: object) -> Iterator[tuple[str, object]]:
    """What an object has, by name."""
    if isinstance(one, dict):
        yield from ((repr(key), value) for key, value in one.items())
    elif isinstance(one, types.MethodType):
        yield from (("self", one.__self__), ("function", one.__func__.__qualname__))
    elif isinstance(one, types.BuiltinMethodType):
        yield from (("self", one.__self__), ("function", one.__qualname__))
    elif isinstance(one, (list, tuple, set, frozenset)) or type(one).__name__ == "deque":
        yield from ((str(place), value) for place, value in enumerate(one))  # type: ignore[arg-type, var-annotated]
    elif type(one).__module__.startswith("forkbroker") and not isinstance(one, type):
        for owner in type(one).__mro__:
            for name in getattr(owner, "__slots__", ()):
                if hasattr(one, name):
                    yield name, getattr(one, name)
        yield from getattr(one, "__dict__", {}).items()


def differences(one: object, other: object, way: str, seen: set[int]) -> Iterator[str]:
    """Where two objects, and all that they have, are not alike."""
    mine, others = dict(parts(one)), dict(parts(other))
    if mine:
        if id(one) in seen:
            return
        seen.add(id(one))
    if type(one) is not type(other) or mine.keys() != others.keys():
        yield f"{way}: {one!r}, {other!r}"
    elif mine:
        for name, value in mine.items():
            yield from differences(value, others[name], f"{way}.{name}", seen)
    elif repr(one) != repr(other):
        yield f"{way}: {one!r}, {other!r}"


def compare(one: Session, other: Session) -> list[str]:
    """All differences between two sessions."""
    return list(differences(one, other, "session", set()))


@pytest.mark.parametrize("version", ["1.1", "1.2"])
def test_a_session_that_is_adopted_is_like_one_that_was_begun_for_its_client(version: str) -> None:
    """In all that it has, down to each number; before that it is not."""
    frame = f"CONNECT\naccept-version:{version}\nhost:/\n"
    connect = f"{frame}login:{LOGIN}\nheart-beat:20000,5000\n\n\0".encode()
    wanted = begin(connect, ID, SECRET, NOW)
    adopted = begin(f"{frame}login:-\npasscode:-\n\n\0".encode(), "host.0", bytes(32), 3.0)
    before = compare(adopted, wanted)
    unwritten = Unwritten()
    unwritten.written_at = NOW
    beat = HeartBeat(10_000, 20_000, unwritten, NOW)
    rights = PERMISSIONS.rights_of(Identity(LOGIN), is_local=True)
    adopted.adopt(LOGIN, rights, ID.encode(), SECRET, len(connect), beat, NOW)

    assert {way.partition(":")[0].rpartition(".")[2] for way in before} >= {
        *("login", "user", "secret", "session_id", "first_token", "last_token"),
        *("beat_after", "gone_after", "received_at", "written_at", "wake_at"),
    }  # fmt: skip
    assert compare(adopted, wanted) == []
