"""Who waits for the broker to be ready: the service manager, the log's reader, and whoever has given the command."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from contextlib import closing, suppress
from typing import Protocol

import forkbroker
from forkbroker.cli.arguments import PROGRAM
from forkbroker.cli.resources import Resources
from forkbroker.errors import ConfigurationError, StartError
from forkbroker.posix.addresses import describe_listener
from forkbroker.posix.daemonize import complain, detach
from forkbroker.posix.outlets import Outlet
from forkbroker.posix.service import Service

logger = logging.getLogger("forkbroker")


class Starter(Protocol):
    """Whoever has given the command: `Foreground`, or `forkbroker.posix.daemonize.Readiness`."""

    def ready(self) -> None:
        """The broker accepts connections."""

    def failed(self, message: str, status: int) -> None:
        """It never will."""


class Foreground:
    """Who waits for the broker to be ready when it does not detach: a person, or a program that reads its output."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    def ready(self) -> None:
        """Say where the broker listens, a line for each address: with port 0 this is how to learn the port.

        Past the interpreter's buffer, which would complain again at the end when nobody reads; and without waiting for
        a reader.
        """
        with suppress(OSError), closing(Outlet(1)) as outlet:
            outlet.write("".join(f"listening on {name}\n" for name in self._names).encode())

    def failed(self, message: str, status: int) -> None:
        """Complain; the status is the process's own."""
        complain(message)


class Announcer:
    """Tells all of them."""

    def __init__(self, service: Service, resources: Resources, *, daemonizes: bool) -> None:
        """Detach, if this is to be a daemon: from here on this is another process.

        Raises:
            StartError: no room for a process.
        """
        self._service = service
        self._names = [describe_listener(listener) for listener in resources.listeners]
        self._scraped = resources.scraped
        self._is_daemon = daemonizes
        self._starter: Starter = detach() if daemonizes else Foreground(self._names)

    def ready(self) -> None:
        """Connections are accepted."""
        names = ", ".join(self._names)
        logger.info("%s %s: process %d listens on %s", PROGRAM, forkbroker.__version__, os.getpid(), names)
        for listener in self._scraped:
            logger.info("metrics: http://%s/metrics", describe_listener(listener))
        self._starter.ready()
        self._service.ready()

    def failed(self, error: StartError | ConfigurationError) -> None:
        """There is no broker. A daemon has nobody but its log to tell once the starter has gone."""
        self._starter.failed(str(error), error.status)
        if self._is_daemon:
            logger.error("cannot start: %s", error)
