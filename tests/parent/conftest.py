"""The fixture that starts a parent and sees that nothing of it stays."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pantry
import puppet
import pytest
from driven import Broker, Starter, clear, fork_parent

from forkbroker.parent.setup import ParentPolicy


@pytest.fixture
def bench(request: pytest.FixtureRequest) -> Iterator[Any]:
    """The part under test with what it needs, as `Bench` of the test's module makes it; closed after the test."""
    made = request.module.Bench()
    yield made
    made.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Starter]:
    """Start a parent; at the end it and all its children must be gone."""
    brokers: list[Broker] = []

    def start_one(
        policy: ParentPolicy | None = None,
        *,
        program: object = puppet.main,
        store: object = pantry.plain,
        router: object = puppet.Switchboard,
        unix: Path | None = None,
        descriptor_limit: int = 0,
        is_awaited: bool = True,
    ) -> Broker:
        where = tmp_path / f"log{len(brokers)}"
        broker = fork_parent(where, policy or ParentPolicy(), program, store, router, unix, descriptor_limit)
        brokers.append(broker)
        if is_awaited:
            broker.await_log("ready")
        return broker

    yield start_one
    for broker in brokers:
        clear(broker)
