"""The helper that runs the authenticator, as the command starts it: before the rights of the start are given up."""

from __future__ import annotations

import logging
import os
import stat
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

from forkbroker.authenticator.process import Task, guard
from forkbroker.config.settings import Settings
from forkbroker.errors import Exit, StartError
from forkbroker.posix import children
from forkbroker.posix.daemonize import drop_standard_streams
from forkbroker.posix.exits import describe
from forkbroker.posix.privileges import SystemUser, drop, resolve_user
from forkbroker.wire.logins import make_link

logger = logging.getLogger(__name__)

_END_TAKES_S = 2.0
"""Twice what the guard gives to a runner that does not end."""
_LOOK_S = 0.005


class Authenticator:
    """The helper of one broker, and the way to it."""

    def __init__(self, settings: Settings, system_user: SystemUser | None) -> None:
        """`system_user`: whom the broker becomes.

        Raises:
            StartError: there is no such user, or the program is not one that can be run with its rights.
        """
        path = settings.authenticator
        assert path is not None
        self._broker = system_user
        self._keeps_rights = settings.authenticator_user is not None
        runs_as = (
            system_user
            if settings.authenticator_user is None
            else resolve_user(settings.authenticator_user, "--authenticator-user")
        )
        check_program(path)
        if self._keeps_rights and os.geteuid() == 0:
            path = _find_program(path)
        self.link, self._theirs = make_link()
        lifeline, self._end = os.pipe()
        self._task = Task(path, runs_as if self._keeps_rights else None, self._theirs, lifeline)
        self._is_quiet = settings.daemonize
        self._pid = 0

    def start(self, log_descriptors: Sequence[int]) -> None:
        """Fork it: before this process gives up its rights.

        Raises:
            StartError: the system has no room for a process.
        """
        task = replace(self._task, kept=tuple(log_descriptors))
        try:
            kept = (task.link.fileno(), task.lifeline, *log_descriptors)
            self._pid = children.fork(lambda: self._guard(task), kept)
        except OSError as error:
            raise StartError(f"authenticator: cannot fork its process: {error.strerror}", Exit.OSERR) from error
        self._theirs.close()
        os.close(task.lifeline)

    def _guard(self, task: Task) -> int:
        if self._is_quiet:
            drop_standard_streams()
        if self._broker is not None and not self._keeps_rights:
            drop(self._broker)
        return guard(task)

    def ended(self, ended: children.Ended) -> None:
        """A process of this one's has ended: nobody can start this guard anew with the rights that it had."""
        if ended.pid == self._pid:
            self._pid = 0
            logger.error(
                "authenticator: its guard exited, %s; restart the broker, as the helper is not restarted any more",
                describe(ended.status),
            )

    def close(self) -> None:
        """The broker has ended: so does the helper, or it is killed, as far as this process has the right to."""
        os.close(self._end)
        self.link.close()
        until = time.monotonic() + _END_TAKES_S
        while self._pid and children.reap_one(self._pid) is None:
            if time.monotonic() > until:
                # it is stopped, for one
                with suppress(ProcessLookupError, PermissionError):
                    children.kill(self._pid)
                return
            time.sleep(_LOOK_S)


class NoAuthenticator:
    """There is no program, and so nothing to start."""

    link: None = None

    def start(self, log_descriptors: Sequence[int]) -> None:
        """Do nothing."""

    def ended(self, ended: children.Ended) -> None:
        """It was somebody else."""


def open_authenticator(
    settings: Settings, system_user: SystemUser | None, opened: ExitStack
) -> Authenticator | NoAuthenticator:
    """The helper that the settings ask for; it is closed when `opened` is. Raises as `Authenticator`."""
    if settings.authenticator is None:
        return NoAuthenticator()
    authenticator = Authenticator(settings, system_user)
    opened.callback(authenticator.close)
    return authenticator


def check_program(path: Path) -> None:
    """Look whether there is a program. Whether its user may run it, the system says when it is run.

    Raises:
        StartError: there is none.
    """
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise StartError(f"authenticator {path}: {error.strerror}", Exit.NOINPUT) from None
    if not stat.S_ISREG(mode) or not mode & 0o111:
        raise StartError(f"authenticator {path}: not a program that can be run; chmod +x", Exit.CONFIG)


def _find_program(path: Path) -> Path:
    """What runs with more rights than the broker has must not be changed by whoever has fewer.

    The result has no symbolic links. That is what is run: a link may stand where others can put another one.

    Raises:
        StartError: others than root can change the program.
    """
    try:
        whole = path.resolve(strict=True)
        for place in (whole, *whole.parents):
            if _can_be_changed(place.stat()):
                raise StartError(
                    f"authenticator {path}: others than root can change {place}, and --authenticator-user gives it "
                    "more rights than the broker has; let it, and the directories above it, be root's alone to write",
                    Exit.NOPERM,
                )
    except OSError as error:
        raise StartError(f"authenticator {path}: {error.strerror}", Exit.NOINPUT) from None
    return whole


def _can_be_changed(found: os.stat_result) -> bool:
    """Whether somebody else than root can change this, or put something else in its place."""
    mode = found.st_mode
    is_shared = stat.S_ISDIR(mode) and bool(mode & stat.S_ISVTX)
    return found.st_uid != 0 or (bool(mode & 0o022) and not is_shared)
