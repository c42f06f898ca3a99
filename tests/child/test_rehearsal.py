"""The client that the nursery plays before it forks."""

from __future__ import annotations

import socket

import pytest

from forkbroker.child.answers import Answers
from forkbroker.child.child import ClientChild, Shared
from forkbroker.child.rehearsal import ROUNDS, rehearse
from forkbroker.child.transport import PlainTransport
from forkbroker.posix.semaphores import SemaphorePool
from forkbroker.session.policy import SessionPolicy
from forkbroker.stomp.limits import Limits

MAX_ENVELOPE = 1 << 20


@pytest.mark.parametrize(
    ("policy", "limits", "sent"),
    [
        (SessionPolicy(), Limits(), 1),
        (SessionPolicy(strict=True), Limits(), 1),
        (SessionPolicy(bare_destinations="error"), Limits(max_body=1), 0),
        (SessionPolicy(), Limits(max_login_frame=10), 0),
    ],
)
def test_a_client_is_played_whatever_the_settings_are(
    monkeypatch: pytest.MonkeyPatch, policy: SessionPolicy, limits: Limits, sent: int
) -> None:
    """Its message comes through as far as limits permit; where they do not, the broker starts all the same."""
    received: list[int] = []

    class NotedChild(ClientChild):
        def run(self) -> int:
            status = super().run()
            received.append(getattr(self._phase, "received", 0))
            return status

    monkeypatch.setattr("forkbroker.child.lobby.ClientChild", NotedChild)
    slots = SemaphorePool(1)
    shared = Shared(policy, limits, slots, MAX_ENVELOPE)
    rehearse(shared, Answers(shared))
    slots.close()

    assert received == [sent] * (2 * (ROUNDS + 1))


def test_both_ends_are_closed_behind_it() -> None:
    """Nothing of it is left but warm code."""
    probe, other = socket.socketpair()
    lowest = probe.fileno()
    probe.close()
    other.close()
    slots = SemaphorePool(1)
    shared = Shared(SessionPolicy(), Limits(), slots, MAX_ENVELOPE)
    rehearse(shared, Answers(shared))
    slots.close()
    again, other = socket.socketpair()

    assert again.fileno() == lowest
    PlainTransport(again).socket.close()
    other.close()
