"""Clients that leave when their test ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from support.rawclient import Headers, RawClient, connect

from forkbroker.testing.broker import RunningBroker

Join = Callable[..., RawClient]


@pytest.fixture
def join(make_broker: Callable[..., RunningBroker]) -> Iterator[Join]:
    """Connect clients to a broker: `join(broker)`, with a version and headers when needed."""
    with ExitStack() as stack:

        def run(broker: RunningBroker, version: str = "1.2", headers: Headers = (), **more: str | int) -> RawClient:
            return stack.enter_context(connect(broker.port, version, headers, **more))

        yield run


@pytest.fixture
def knock(make_broker: Callable[..., RunningBroker]) -> Iterator[Join]:
    """Open a socket to a broker, and send nothing yet."""
    with ExitStack() as stack:

        def run(broker: RunningBroker, *, receive_buffer: int = 0) -> RawClient:
            return stack.enter_context(RawClient(broker.port, receive_buffer=receive_buffer))

        yield run


@pytest.fixture(scope="module")
def shared_broker() -> Iterator[RunningBroker]:
    """One broker for all the tests of a module, where many of them want so little that starting would be the most."""
    with RunningBroker() as broker:
        yield broker
        broker.stop()
        assert broker.survivors == []
        assert not [line for line in broker.log if "Traceback" in line]


@pytest.fixture
def join_shared(shared_broker: RunningBroker) -> Iterator[Join]:
    """Connect clients to the module's broker: `join_shared()`, with a version and headers when needed."""
    with ExitStack() as stack:

        def run(version: str = "1.2", headers: Headers = (), **more: str | int) -> RawClient:
            return stack.enter_context(connect(shared_broker.port, version, headers, **more))

        yield run
