"""The clients over HTTP that the nursery plays before it forks."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from forkbroker.child.answers import Answers
from forkbroker.child.child import ClientChild, Shared
from forkbroker.child.lobby import Bell, serve_in_full
from forkbroker.child.rehearsal import USER
from forkbroker.child.verifying import Verifier, Ways
from forkbroker.child.web import playing
from forkbroker.child.web.playing import play_visitors
from forkbroker.child.web.site import SitePolicy
from forkbroker.passwords import Users, make_hash
from forkbroker.posix.places import Places
from forkbroker.posix.semaphores import SemaphorePool
from forkbroker.session.policy import SessionPolicy
from forkbroker.stomp.limits import Limits


@pytest.fixture
def shared() -> Iterator[Shared]:
    slots = SemaphorePool(1)
    yield Shared(SessionPolicy(), Limits(), slots, 1 << 20)
    slots.close()


def play_noted(monkeypatch: pytest.MonkeyPatch, shared: Shared) -> list[tuple[str, int, str]]:
    """Of those that end here: who they are, how many messages they were sent, and why they ended."""
    noted: list[tuple[str, int, str]] = []
    made: list[ClientChild] = []

    def serve_noted(child: ClientChild, bell: Bell) -> int:
        made.append(child)
        return serve_in_full(child, bell)

    monkeypatch.setattr(playing, "serve_in_full", serve_noted)
    play_visitors(shared, Answers(shared), SitePolicy(paths=("/elsewhere",)))
    for child in made:
        phase = child._phase
        noted.append((phase.login, phase.unwritten.delivered, phase.reason))
    return noted


def test_an_event_source_gets_a_message(monkeypatch: pytest.MonkeyPatch, shared: Shared) -> None:
    """Before its end; whatever paths WebSockets have."""
    noted = play_noted(monkeypatch, shared)

    assert [(delivered, reason) for _, delivered, reason in noted] == [
        (0, "client closed the connection"),
        (1, "client closed the connection"),
    ]


def test_where_logins_are_verified_they_log_in(monkeypatch: pytest.MonkeyPatch, shared: Shared) -> None:
    """With a hash that takes no time."""
    places = Places()
    verifier = Verifier(Users({USER: str(make_hash(USER, bytes(16), ln=1))}, b"secret"), places, Ways())
    noted = play_noted(
        monkeypatch, Shared(shared.policy, shared.limits, shared.slots, shared.max_envelope, verifier=verifier)
    )
    places.close()

    assert [(login, delivered) for login, delivered, _ in noted] == [(USER, 0), (USER, 1)]


def test_both_ends_are_closed_behind_them(shared: Shared) -> None:
    """Nothing of them is left but warm code."""
    probe, other = socket.socketpair()
    lowest = probe.fileno()
    probe.close()
    other.close()
    play_visitors(shared, Answers(shared), SitePolicy())
    again, other = socket.socketpair()

    assert again.fileno() == lowest
    again.close()
    other.close()
