"""Backups of the store while it is in use: a helper for each, one at a time."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass

from forkbroker.parent.helpers import Helper, Helpers, Meaning
from forkbroker.posix.printable import printable
from forkbroker.routing.peers import BACKUP
from forkbroker.wire.envelope import Envelope
from forkbroker.wire.fields import OF_BACKUP, check
from forkbroker.wire.kinds import Kind, Role

BackupProgram = Callable[[socket.socket, str], int]
"""What the helper's process runs: (its end of the channel, non-blocking; the name of the backup); returns the exit
status."""


@dataclass(frozen=True, slots=True)
class Saved:
    """A backup that is complete and on the disk."""

    where: str
    messages: int
    octets: int


Told = Callable[[Saved | str], None]
"""Hears what has come of a backup: itself, or why there is none."""


class Saving:
    """Has one helper at a time."""

    def __init__(self, helpers: Helpers, program: BackupProgram, logger: logging.Logger) -> None:
        self._helpers = helpers
        self._program = program
        self._logger = logger
        self._row = Helper(
            role=Role.BACKUP,
            peer=BACKUP,
            program=self._run,
            handlers={Kind.SAVED: self._receive_saved},
            closed=self._closed,
            may_wait=lambda: True,
            means=self._judge,
        )
        self._name = ""
        self._told: Told | None = None
        self._saved: Saved | None = None
        self._reason = ""

    def begin(self, name: str, told: Told) -> bool:
        """Make a backup of this name, and tell; false: another one is being made."""
        if self._told is not None:
            return False
        self._name, self._told, self._saved, self._reason = name, told, None, ""
        self._helpers.start(self._row)
        return True

    def give_up(self) -> None:
        """The broker ends."""
        self._reason = "the broker ends"
        self._helpers.kill(Role.BACKUP)

    def _run(self, end: socket.socket) -> int:
        return self._program(end, self._name)

    def _receive_saved(self, envelope: Envelope) -> None:
        check(envelope, OF_BACKUP)
        where = bytes(envelope.block).decode("utf-8", "surrogateescape")
        self._saved = Saved(where, envelope.number, envelope.serial)

    def _closed(self, reason: str) -> None:
        self._reason = self._reason or reason

    def _judge(self, _status: int) -> Meaning:
        told, self._told = self._told, None
        if self._saved is None:
            reason = self._reason or "the process that makes it crashed"
            self._logger.error("backup: %s not written, %s", self._name, reason)
        else:
            saved = self._saved
            self._logger.info(
                "backup: %s written, %d messages, %d bytes", printable(saved.where), saved.messages, saved.octets
            )
        if told is not None:
            told(self._saved or reason)
        return Meaning.NOTHING
