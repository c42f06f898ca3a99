"""The record of each version."""

from __future__ import annotations

import dataclasses

import pytest

from forkbroker.stomp.versions import V10, V11, V12, VERSIONS, Version, lenient


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


@pytest.mark.parametrize("version", VERSIONS.values())
def test_a_lenient_record_differs_only_in_what_clients_of_other_brokers_do(version: Version) -> None:
    """What is written to the client, and how octets are read, stays that of the version."""
    both = dataclasses.asdict(version), dataclasses.asdict(lenient(version))
    changed = {name for name in both[0] if both[0][name] != both[1][name]}

    assert changed <= {
        "cr_ends_line",
        "subscription_id_required",
        "unsubscribes_by_destination",
        "ack_modes",
        "ack_names_subscription",
        "ack_by_message_id",
        "nack_allowed",
    }
    assert lenient(version).ack_modes == V12.ack_modes


def test_only_deliveries_with_an_ack_header_may_be_named_otherwise() -> None:
    """The message-ids of 1.0 and 1.1 are the names of deliveries themselves."""
    assert [lenient(version).ack_by_message_id for version in VERSIONS.values()] == [False, False, True]
    assert not any(version.ack_by_message_id for version in VERSIONS.values())


RULES = {
    "1.0": {"trims_headers", "ignores_stray_bodies", "anonymous_subscriptions", "unsubscribes_by_destination"},
    "1.1": {"utf8_required", "subscription_id_required", "ack_names_subscription", "nack_allowed", "heart_beats"},
    "1.2": {
        "cr_ends_line",
        "utf8_required",
        "length_on_every_frame",
        "subscription_id_required",
        "message_carries_ack",
        "nack_allowed",
        "heart_beats",
    },
}
LENIENT = {"cr_ends_line", "unsubscribes_by_destination", "nack_allowed"}
STRICT = {"subscription_id_required", "ack_names_subscription"}


def _rules(version: Version) -> set[str]:
    return {name for name, value in dataclasses.asdict(version).items() if value is True}


@pytest.mark.parametrize("version", VERSIONS.values(), ids=VERSIONS)
def test_the_rules_of_a_version_are_those_of_its_text(version: Version) -> None:
    """One by one: what is not named here is not so."""
    assert _rules(version) == RULES[version.name]
    others = {"ack_by_message_id"} if version is V12 else set()
    assert _rules(lenient(version)) == (RULES[version.name] | LENIENT | others) - STRICT


def test_escapes_are_those_of_each_version() -> None:
    """None, then three, then CR as well."""
    assert [version.escapes for version in VERSIONS.values()] == ["", "nc\\", "nrc\\"]
    assert [lenient(version).escapes for version in VERSIONS.values()] == ["", "nc\\", "nrc\\"]
