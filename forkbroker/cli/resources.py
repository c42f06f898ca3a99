"""What the start opens: the log, the listeners, the semaphores, the directory of a new store.

All of it with the rights that the command was started with; who the broker becomes gets what it needs later.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from forkbroker.config.evaluation import BEYOND
from forkbroker.config.settings import Settings
from forkbroker.errors import Exit, StartError
from forkbroker.posix.addresses import ListenAddress, describe_listener, reaches_beyond
from forkbroker.posix.listening import SocketRights, close_listener, open_listener
from forkbroker.posix.log_formats import BARE, STAMPED, for_journal
from forkbroker.posix.logs import FileLog, Log, StderrLog, SyslogLog, is_journal, set_level
from forkbroker.posix.places import Places
from forkbroker.posix.privileges import SystemUser, find_group, find_user
from forkbroker.posix.semaphores import SemaphorePool

logger = logging.getLogger("forkbroker")

BACKLOG = 1024
"""Connections that wait while children are forked; the kernel lowers it to its own limit (Linux: somaxconn)."""

SLOTS = 64
"""Offers that can be open at one time; with more to offer, the next one waits for an answer. A queue with quick workers
uses up to 32, one that is emptied 20 to 50 for long runs: more slots made no benchmark faster. Each is a mapping in
every process, which costs 0.2 KiB of the kernel's memory; a fork hardly notices."""

_STDERR = 2


class LogSwitch:
    """The log of this process, in whose place another one can be put."""

    def __init__(self, log: Log) -> None:
        self._log = log

    @property
    def descriptors(self) -> Sequence[int]:
        """What a child must keep open to log."""
        return self._log.descriptors

    def reopen(self) -> None:
        """Go on in a new file after the old one was moved away."""
        self._log.reopen()

    def follow(self, level: str) -> None:
        """In another process: go on where the parent's log goes on, with this level, or with that of before ("")."""
        self._log.catch_up()
        if level:
            set_level(level)

    def look_after(self) -> None:
        """Do what is due without an event."""
        self._log.look_after()

    def close(self) -> None:
        """Take no more events."""
        self._log.close()

    def prepare(self, settings: Settings, running: Settings) -> Callable[[], None]:
        """Open the log that other settings ask for; the function that is returned puts it in the place of this one.

        Raises:
            StartError: it cannot be opened, and this one stays.
        """
        if _log_of(settings) == _log_of(running):
            return lambda: set_level(settings.log_level)
        log = _make_log(settings, None)

        def change() -> None:
            old, self._log = self._log, log
            old.close()
            log.start(settings.log_level)

        return change


@dataclass(frozen=True, slots=True)
class Resources:
    """What a broker needs of the system, open. It is closed when the start, or the broker, ends."""

    log: LogSwitch
    rights: SocketRights
    """Of the Unix sockets that a reload opens."""
    listening: dict[ListenAddress, list[socket.socket]] | None
    """The listeners of each address; None: the service manager has opened those that there are."""
    listeners: Sequence[socket.socket]
    """All of them, whoever has opened them."""
    scraped: Sequence[socket.socket]
    """Those of --metrics."""
    semaphores: SemaphorePool
    places: Places
    """Where logins are verified, one at each at a time."""


def open_resources(
    settings: Settings, passed: Sequence[socket.socket], system_user: SystemUser | None, opened: ExitStack
) -> Resources:
    """Open all of it, for the user that the broker will be. `passed`: the listeners of the service manager.

    Raises:
        StartError: something cannot be opened.
    """
    log = open_log(settings, system_user, opened)
    check_passed(passed, settings)
    rights = socket_rights(settings, system_user)
    listening = None if passed else open_listeners(settings, rights, opened)
    listeners = passed if listening is None else [one for some in listening.values() for one in some]
    scraped = open_metrics(settings, opened)
    semaphores = SemaphorePool(SLOTS)
    opened.callback(semaphores.close)
    if system_user is not None:
        make_store_directory(settings.store or "", system_user)
    places = Places()
    opened.callback(places.close)
    return Resources(log, rights, listening, listeners, scraped, semaphores, places)


def _log_of(settings: Settings) -> tuple[object, ...]:
    return settings.log_file, settings.syslog, settings.log_format


def open_log(settings: Settings, system_user: SystemUser | None, opened: ExitStack) -> LogSwitch:
    """The log that was asked for; syslog for a daemon that asks for none, if this system has it.

    Raises:
        StartError: it cannot be opened.
    """
    complaint = None
    try:
        log = _make_log(settings, system_user)
    except StartError as error:
        if settings.log_file is not None or settings.syslog:
            raise
        # a system without syslog shall have its broker, and be told
        log, complaint = StderrLog(STAMPED[settings.log_format], reopens=False), error
    if system_user is not None:
        log.give_to(system_user.uid, system_user.gid)
    log.start(settings.log_level)
    if complaint:
        logger.warning("no log after the broker has detached: %s", complaint)
    switch = LogSwitch(log)
    opened.callback(switch.close)
    return switch


def _make_log(settings: Settings, system_user: SystemUser | None) -> Log:
    stamped, bare = STAMPED[settings.log_format], BARE[settings.log_format]
    if settings.log_file is not None:
        return FileLog(settings.log_file, stamped, () if system_user is None else (system_user.uid,))
    if settings.syslog or settings.daemonize:
        return SyslogLog(form=bare)
    return StderrLog(for_journal(bare) if is_journal(_STDERR) else stamped)


def socket_rights(settings: Settings, system_user: SystemUser | None) -> SocketRights:
    """Who may connect to Unix sockets: by default whom the broker becomes, and its group.

    Raises:
        StartError: there is no such user or group.
    """
    uid, gid = (-1, -1) if system_user is None else (system_user.uid, system_user.gid)
    if settings.socket_owner is not None:
        uid = find_user(settings.socket_owner, "--socket-owner").pw_uid
    if settings.socket_group is not None:
        gid = find_group(settings.socket_group, "--socket-group")
    return SocketRights(settings.socket_mode, uid, gid)


def open_listeners(
    settings: Settings, rights: SocketRights, opened: ExitStack
) -> dict[ListenAddress, list[socket.socket]]:
    """The listeners of each address of --listen.

    Raises:
        StartError: one of them cannot be opened.
    """
    listening: dict[ListenAddress, list[socket.socket]] = {}
    for address in dict.fromkeys(settings.listen):
        listening[address] = open_listener(address, BACKLOG, rights)
        for listener in listening[address]:
            opened.callback(_close, listener)
    return listening


def open_metrics(settings: Settings, opened: ExitStack) -> list[socket.socket]:
    """The listeners of --metrics: whoever answers there may end, and another one goes on.

    Raises:
        StartError: one of them cannot be opened.
    """
    if settings.metrics is None:
        return []
    try:
        listeners = open_listener(settings.metrics, BACKLOG)
    except StartError as error:
        raise StartError(f"--metrics {error}", error.status) from None
    for listener in listeners:
        opened.callback(listener.close)
    return listeners


def _close(listener: socket.socket) -> None:
    """Close a listener that was never served; the parent closes its own as soon as it begins to stop."""
    if listener.fileno() >= 0:
        close_listener(listener)


def check_passed(passed: Sequence[socket.socket], settings: Settings) -> None:
    """Look at listeners of the service manager, which stand in the place of all --listen.

    Raises:
        StartError: one of them reaches further than was allowed.
    """
    for listener in passed:
        if reaches_beyond(listener) and not (settings.allow_anonymous or settings.needs_login):
            problem, remedy = BEYOND
            raise StartError(f"socket unit, {describe_listener(listener)}: {problem}; {remedy}", Exit.CONFIG)


def make_store_directory(url: str, system_user: SystemUser) -> None:
    """The directory of a new SQLite store, for the user that the broker will be: there may be no right to it later.

    Raises:
        StartError: it cannot be made.
    """
    directory = Path(url.removeprefix("sqlite://")).parent
    if not url.startswith("sqlite:///") or directory.exists():
        return
    try:
        directory.mkdir(mode=0o700, parents=True)
        os.chown(directory, system_user.uid, system_user.gid)
    except OSError as error:
        raise StartError(f"--store {url}: cannot make {directory}: {error.strerror}", Exit.CANTCREAT) from None
