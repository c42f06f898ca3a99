"""Why a broker takes no work."""

from __future__ import annotations

from typing import Any

import pytest

from forkbroker.control.readiness import Fault, find_faults

WELL: dict[str, Any] = {
    "phase": "running", "listening": ["a"], "clients": 9, "max-clients": 10, "store": {"open": True, "refuses": ""}
}  # fmt: skip


@pytest.mark.parametrize(
    ("more", "texts"),
    [
        ({}, []),
        ({"phase": "draining", "listening": []}, ["the broker is being drained"]),
        ({"phase": "settling"}, ["the broker is shutting down"]),
        ({"listening": []}, ["the broker does not listen"]),
        ({"clients": 10}, ["all 10 clients that max-clients permits are connected"]),
        ({"store": {"open": False, "refuses": ""}}, ["the store is not open"]),
        (
            {"store": {"open": False, "refuses": "disk full"}, "phase": "draining"},
            ["the store takes nothing: disk full", "the broker is being drained"],
        ),
    ],
)
def test_there_is_a_sentence_for_each_reason(more: dict[str, Any], texts: list[str]) -> None:
    """And none for what follows from another one."""
    assert [fault.text for fault in find_faults({**WELL, **more})] == texts


def test_a_broker_of_an_older_version_does_not_tell_its_limit() -> None:
    """Then nothing is known of it."""
    status = {name: value for name, value in WELL.items() if name != "max-clients"}

    assert find_faults(status) == []


def test_a_store_that_cannot_write_is_critical_and_its_reason_is_not_for_anybody() -> None:
    """What the system says may have names of files."""
    (fault,) = find_faults({**WELL, "store": {"open": True, "refuses": "/var/lib/x: disk full"}})

    assert fault == Fault("the store takes nothing: /var/lib/x: disk full", is_critical=True)
    assert fault.public == "the store takes nothing"
