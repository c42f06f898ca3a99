"""Brokers for tests, and a look at what the tests leave behind."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from support.leftovers import Leftovers

from forkbroker.testing.broker import RunningBroker

_WITH_PROCESSES = {"broker", "examples", "faults", "services"}
"""Directories whose tests start brokers: nothing of them may stay."""

MakeBroker = Callable[..., RunningBroker]


# how long an example takes is the machine's business
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
if settings().deadline is not None:  # mutants.py has a profile of its own
    settings.load_profile("untimed")


def pytest_configure() -> None:
    """Let Ctrl-C mean something: a shell lets SIGINT be ignored by what it runs in the background."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def nothing_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test with processes that leaves a descriptor or a semaphore; `make_broker` looks for processes."""
    directories = request.path.relative_to(Path(__file__).parent).parts
    if not _WITH_PROCESSES.intersection(directories):
        yield
        return
    leftovers = Leftovers()
    yield
    leftovers.check()


@pytest.fixture
def make_broker() -> Iterator[MakeBroker]:
    """Start brokers with options of the test's choice; they end with the test, and must leave no process."""
    with ExitStack() as stack:
        brokers: list[RunningBroker] = []

        def make(*options: str, env: Mapping[str, str] | None = None) -> RunningBroker:
            broker = stack.enter_context(RunningBroker(*options, env=env))
            brokers.append(broker)
            return broker

        yield make
        for broker in brokers:
            broker.stop()
            assert broker.survivors == []
            assert not [line for line in broker.log if "Traceback" in line]


@pytest.fixture
def broker(make_broker: MakeBroker) -> RunningBroker:
    """A broker with default options."""
    return make_broker()
