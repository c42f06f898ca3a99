"""Brokers for the tests, and clients for them."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from faults.scene import Client, is_there, processes

from forkbroker.testing.broker import RunningBroker

StartBroker = Callable[..., RunningBroker]
ConnectClient = Callable[..., Client]
Begin = Callable[..., RunningBroker]
Meet = Callable[..., Client]


@pytest.fixture(autouse=True)
def no_child_is_left() -> Iterator[None]:
    """Fail a test that leaves a child of its own, dead or alive."""
    yield
    with pytest.raises(ChildProcessError):
        os.wait4(-1, os.WNOHANG)


@pytest.fixture
def start(make_broker: Callable[..., RunningBroker]) -> Iterator[StartBroker]:
    """Start brokers. Afterwards each must end in good order if the test hasn't ended it, and leave not even a zombie.

    `crash` is the value of FORKBROKER_CRASH.
    """
    brokers: list[RunningBroker] = []

    def run(*options: object, crash: str = "") -> RunningBroker:
        brokers.append(make_broker(*map(str, options), env={"FORKBROKER_CRASH": crash}))
        return brokers[-1]

    yield run
    for broker in brokers:
        assert broker.stop() <= 0, broker.log
        assert processes(broker.pid) == []


@pytest.fixture
def connect(start: StartBroker) -> Iterator[ConnectClient]:
    """Connect clients, which are closed before their broker ends."""
    with ExitStack() as stack:

        def run(broker: RunningBroker, login: str = "guest") -> Client:
            client = stack.enter_context(Client(broker.port))
            client.login(login=login)
            return client

        yield run


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    """Brokers that follow each other on one store, in `tmp_path` unless a directory is given."""
    with ExitStack() as stack:

        def run(*options: str, store_directory: Path = tmp_path, crash: str = "") -> RunningBroker:
            env = {"FORKBROKER_CRASH": crash} if crash else None
            return stack.enter_context(RunningBroker(*options, store_directory=store_directory, env=env))

        yield run


@pytest.fixture
def meet() -> Iterator[Meet]:
    """Clients of any broker, which leave with the test."""
    with ExitStack() as stack:

        def run(broker: RunningBroker) -> Client:
            client = stack.enter_context(Client(broker.port))
            client.login()
            return client

        yield run


@pytest.fixture
def stop() -> Iterator[Callable[[int], None]]:
    """Stop processes, which go on after the test if they are still there."""
    stopped: list[int] = []

    def run(pid: int) -> None:
        stopped.append(pid)
        os.kill(pid, signal.SIGSTOP)

    yield run
    for pid in stopped:
        if is_there(pid):
            os.kill(pid, signal.SIGCONT)
