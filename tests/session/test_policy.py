"""The settings of a session."""

from __future__ import annotations

import dataclasses

import pytest

from forkbroker.session.policy import FRAME_PROGRESS, SessionPolicy


def test_the_default_prefetch_is_finite_and_more_than_one() -> None:
    """Fair, and not slow."""
    assert 1 < SessionPolicy().prefetch < SessionPolicy().prefetch_auto < 100_000


def test_a_policy_can_not_be_changed() -> None:
    """Sessions share it."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        SessionPolicy().strict = True  # type: ignore[misc]


def test_the_defaults_are_those_of_the_documents() -> None:
    """Each of them is a promise to clients that set nothing."""
    assert dataclasses.asdict(SessionPolicy()) == {
        "server": "forkbroker",
        "host_name": "",
        "bare_destinations": "topic",
        "strict": False,
        "content_length_always": True,
        "connect_timeout_s": 10.0,
        "frame_timeout_s": 60.0,
        "heart_beat_ms": (10_000, 10_000),
        "max_client_memory": 128 * 1024 * 1024,
        "max_subscriptions": 10_000,
        "max_transactions": 1_000,
        "max_transaction_frames": 100_000,
        "max_transaction_size": 100 * 1024 * 1024,
        "prefetch": 100,
        "prefetch_auto": 8_192,
        "max_client_buffer": 16 * 1024 * 1024,
        "slow_subscribers": "disconnect",
        "max_files": 16,
    }
    assert FRAME_PROGRESS == 64 * 1024
