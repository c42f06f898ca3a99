"""What the parent is given: its limits, the programs of other processes, and whom it tells of its life."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from forkbroker.parent.admission import AdmissionPolicy
from forkbroker.parent.flow import FlowPolicy
from forkbroker.parent.helpers import HelperProgram
from forkbroker.parent.keeper import StoreProgram
from forkbroker.parent.refusals import Words
from forkbroker.parent.reloading import Reload
from forkbroker.parent.saving import BackupProgram
from forkbroker.permissions import Permissions
from forkbroker.posix.children import Ended


@dataclass(frozen=True, slots=True)
class ParentPolicy:
    """The limits of the parent process. The command sets them from its options; the defaults here are for tests."""

    admission: AdmissionPolicy = field(default_factory=AdmissionPolicy)
    flow: FlowPolicy = field(default_factory=FlowPolicy)
    max_envelope: int = 268_435_456
    """Octets that one envelope of a child may have: the largest transaction that the other limits permit."""
    max_passed: int = 269_484_032
    """Octets that an envelope of a helper may have, as the store gives back what a child has sent, with what is known
    of it: what the parent tells the store, or a child, is as large at most, and their ends of the channels take it."""
    receive_memory: int = 268_435_456
    """Octets of the large envelopes that are being received from all children at the same time; one may have more."""
    shutdown_timeout_s: float = 10.0
    """From SIGTERM to the end of all processes. systemd's default is 90 s, Debian's start-stop-daemon is told 30 s."""
    permissions: Permissions = field(default_factory=Permissions)
    """What users may do: told to their processes when it changes."""


@dataclass(frozen=True, slots=True)
class Programs:
    """What the parent can't do itself, as it knows no STOMP and no database."""

    nursery: HelperProgram
    """Forked once, and again when it ends: forks what serves clients."""
    store: StoreProgram
    """Forked once, and again when it ends."""
    refusal: Words
    """Makes of a reason the octets that a client is sent who can't have a process."""
    kept: Sequence[int] = ()
    """Descriptors that the processes of the broker need."""
    backup: BackupProgram | None = None
    """Forked for each backup; None: there can be none."""
    metrics: HelperProgram | None = None
    """Answers Prometheus; None: nobody does. Forked once, and again when it ends."""
    metrics_kept: Sequence[int] = ()
    """Descriptors that this one needs besides."""


def _ignore(*_told: object) -> None:
    """Nobody wants to know."""


def _never() -> bool:
    """It can't be."""
    return False


@dataclass(frozen=True, slots=True)
class Hooks:
    """What the command wants to be told of, for the service manager and the logs."""

    ready: Callable[[], None] = _ignore
    """Connections are accepted."""
    stopping: Callable[[], None] = _ignore
    """The end has begun."""
    status: Callable[[str], None] = _ignore
    """A line about the state, once a second at most, when it has changed."""
    fault: Callable[[str], None] = _ignore
    """Why the broker takes no work now, for anybody to read, or nothing; once a second at most, when it has changed."""
    beat: Callable[[], None] = _ignore
    """The loop turns: called about once a second."""
    reopen_logs: Callable[[], None] = _ignore
    """SIGUSR1 came."""
    set_log_level: Callable[[str], None] = _ignore
    """Log events of this level and above."""
    reload: Reload | None = None
    """How the configuration is read at SIGHUP, and taken over; None: it is not."""
    has_hung_up: Callable[[], bool] = _never
    """Asked at SIGHUP: whether it means that the terminal is gone, on which somebody has watched the broker."""
    close_listener: Callable[[socket.socket], None] = socket.socket.close
    """Nobody is accepted any more: close a listener, and remove its path if it has one and made it."""
    logger: logging.Logger = field(default_factory=lambda: logging.getLogger("forkbroker"))
    reaped: Callable[[Ended], None] = _ignore
    """A child process of this one has ended, perhaps one that was forked before."""
    log_descriptors: Callable[[], Sequence[int]] = tuple
    """The descriptors that a forked process needs for its own last words."""
