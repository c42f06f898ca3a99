"""What goes wrong, by whose fault it is, and the exit statuses that say so.

Three kinds: a client's fault is a `ProtocolError` (in `forkbroker.stomp`, which stands alone), an administrator's
one of those here, ours is whatever exception ends the process that met it.
"""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit statuses: 2 for a wrong command line as everywhere, 64-78 by their meaning in sysexits(3)."""

    OK = 0
    USAGE = 2
    DATAERR = 65
    NOINPUT = 66
    NOUSER = 67
    UNAVAILABLE = 69
    SOFTWARE = 70
    OSERR = 71
    CANTCREAT = 73
    IOERR = 74
    NOPERM = 77
    CONFIG = 78


class ForkbrokerError(Exception):
    """The root of what forkbroker raises on purpose; its text is written for people."""


class ConfigurationError(ForkbrokerError):
    """A setting that cannot be used."""

    status: Exit = Exit.USAGE
    """What the command ends with."""

    def __init__(self, what: str, problem: str, remedy: str) -> None:
        """`what` is the setting as it was written, `problem` what is wrong with it, `remedy` what would be right."""
        super().__init__(f"{what}: {problem}; {remedy}")
        self.what = what
        self.problem = problem
        self.remedy = remedy


class ConfigurationFileError(ConfigurationError):
    """A setting of the configuration file that cannot be used, or a file that cannot be read."""

    status = Exit.CONFIG


class StartError(ForkbrokerError):
    """The system refuses what the broker needs to start."""

    def __init__(self, message: str, status: Exit) -> None:
        """`message` says what was wanted, what was met and what to do; `status` is what the command ends with."""
        super().__init__(message)
        self.status = status


class EnvelopeError(ForkbrokerError):
    """What a process received on its channel is no envelope, or not a permitted one. Ours to fix, never a client's."""
