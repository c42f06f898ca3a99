"""The settings of a session."""

from __future__ import annotations

import dataclasses

import pytest

from forkbroker.session.policy import SessionPolicy


def test_the_default_prefetch_is_finite_and_more_than_one() -> None:
    """Fair, and not slow."""
    assert 1 < SessionPolicy().prefetch < SessionPolicy().prefetch_auto < 100_000


def test_a_policy_can_not_be_changed() -> None:
    """Sessions share it."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        SessionPolicy().strict = True  # type: ignore[misc]
