"""The record of each version."""

from __future__ import annotations

import dataclasses

import pytest

from forkbroker.stomp.versions import V10, V11, V12, VERSIONS


def test_versions_are_known_by_name_oldest_first() -> None:
    """The order is what negotiation relies on."""
    assert list(VERSIONS.items()) == [("1.0", V10), ("1.1", V11), ("1.2", V12)]


def test_version_cannot_be_changed() -> None:
    """It is shared by all sessions."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        V10.name = "1.3"  # type: ignore[misc]


def test_what_1_0_lacks_stands_in_its_record() -> None:
    """No escapes, no NACK, no heart-beats, no mode client-individual."""
    assert not (V10.escapes or V10.nack_allowed or V10.heart_beats or V10.subscription_id_required)
    assert V11.ack_modes - V10.ack_modes == {"client-individual"}
    assert [version.ack_header for version in VERSIONS.values()] == ["message-id", "message-id", "id"]
