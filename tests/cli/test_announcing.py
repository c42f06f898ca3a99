"""Who is told that the broker is ready, or never will be."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from support.deadline import stretched

from forkbroker.cli.announcing import Announcer, Foreground
from forkbroker.cli.resources import Resources
from forkbroker.errors import Exit, StartError
from forkbroker.posix.service import Service


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """A service manager that listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(stretched(5.0))
        manager.bind(str(tmp_path / "notify"))
        yield manager


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def make_announcer(manager: socket.socket, listener: socket.socket, *scraped: socket.socket) -> Announcer:
    """For a broker in the foreground; of what it has opened, only the listeners are announced."""
    resources = cast(Resources, SimpleNamespace(listeners=[listener], scraped=scraped))
    return Announcer(Service({"NOTIFY_SOCKET": manager.getsockname()}), resources, daemonizes=False)


def test_all_who_wait_hear_that_the_broker_is_ready(
    manager: socket.socket,
    listener: socket.socket,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The person at the terminal, the reader of the log, and the service manager."""
    caplog.set_level(logging.INFO, "forkbroker")
    address = f"127.0.0.1:{listener.getsockname()[1]}"
    make_announcer(manager, listener).ready()

    assert capfd.readouterr().out == f"listening on {address}\n"
    assert [record.getMessage().partition(": ")[2] for record in caplog.records] == [
        f"process {os.getpid()} listens on {address}"
    ]
    assert manager.recv(100) == b"READY=1"


def test_the_log_says_where_the_figures_are(
    manager: socket.socket, listener: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    """The address that a monitoring system asks."""
    caplog.set_level(logging.INFO, "forkbroker")
    with socket.create_server(("127.0.0.1", 0)) as scraped:
        make_announcer(manager, listener, scraped).ready()
        port = scraped.getsockname()[1]

    assert caplog.records[-1].getMessage() == f"metrics: http://127.0.0.1:{port}/metrics"


def test_a_start_that_fails_is_told_once(
    manager: socket.socket,
    listener: socket.socket,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """In the foreground by the complaint alone: log and terminal are mostly the same there."""
    make_announcer(manager, listener).failed(StartError("the shelves are rotten", Exit.CANTCREAT))

    assert "the shelves are rotten" in capfd.readouterr().err
    assert caplog.records == []


def test_nobody_has_to_read_what_is_said(capfd: pytest.CaptureFixture[str]) -> None:
    """The reader of the output may have gone."""
    ours, theirs = os.pipe()
    os.close(ours)
    kept = os.dup(1)
    try:
        os.dup2(theirs, 1)
        Foreground(["127.0.0.1:61613"]).ready()
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(theirs)

    assert capfd.readouterr().err == ""
