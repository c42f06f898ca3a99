"""What the processes of clients are given, now and after a reload."""

from __future__ import annotations

import os
import pickle
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from forkbroker.authenticator.process import RUNNING
from forkbroker.child.child import Shared
from forkbroker.child.program import Program
from forkbroker.child.verifying import Verifier
from forkbroker.cli.conversion import (
    Known,
    frame_limits,
    login_ways,
    max_passed,
    parent_policy,
    routing_policy,
    session_policy,
    spin_s,
)
from forkbroker.cli.optional import check_merging, make_tls, make_tokens, make_web
from forkbroker.config.settings import Settings
from forkbroker.parent.reloading import Plan
from forkbroker.passwords import Users
from forkbroker.posix.logs import set_level
from forkbroker.posix.notice import Notice
from forkbroker.posix.places import Places
from forkbroker.posix.semaphores import SemaphorePool

_NOT_LEARNT = ("log_file", "syslog", "log_format", "merge_memory")
"""Settings that a process keeps for its life."""

if TYPE_CHECKING:
    from ssl import SSLContext

    from forkbroker.child.web.site import SitePolicy


@dataclass(frozen=True, slots=True)
class Equipment:
    """What the children of one nursery have in common: made before it is forked, and not changed after that."""

    settings: Settings
    known: Known
    shared: Shared
    tls: SSLContext | None
    """None: no client comes encrypted."""
    web: SitePolicy | None
    """None: no client comes over HTTP."""


class Serving:
    """The equipment of the next nursery, and what is the same for all of them."""

    def __init__(
        self,
        settings: Settings,
        semaphores: SemaphorePool,
        places: Places,
        known: Known,
        link: socket.socket | None = None,
    ) -> None:
        """`places`: where logins are verified. `link`: to the helper that runs the authenticator, if there is one.

        Raises:
            StartError: certificate or key cannot be used, or memory cannot be merged.
        """
        self.places = places
        self._link = link
        self._semaphores = semaphores
        self._secret = os.urandom(32)
        self._session_prefix = f".{os.urandom(8).hex()}."
        self._max_envelope = max_passed(settings)
        self._fault = "the broker is starting"
        self._notice: Notice | None = None
        """For probes over HTTP: why the broker takes no work."""
        self.equipment = self._equip(settings, known)

    @property
    def kept(self) -> Sequence[int]:
        """Descriptors that these processes need."""
        return (self.places.descriptor, *([] if self._link is None else [self._link.fileno()]))

    def prepare(self, settings: Settings, known: Known) -> Callable[..., Plan]:
        """Make all that other settings ask for. What is returned gives it to the next nursery, and makes a plan for the
        parent of its own arguments and the rest; it cannot fail.

        Raises:
            StartError: certificate or key cannot be used, or memory cannot be merged.
            ConfigurationError: see `routing_policy`.
        """
        before, has_notice = self.equipment, self._notice is not None
        equipment = self._equip(settings, known)
        policy = parent_policy(settings, known)
        routing = routing_policy(settings)
        # the same file may have another certificate, or another key
        has_files = equipment.tls is not None or bool(settings.token_key)
        renews_children = settings != before.settings or known != before.known or has_files
        # what a process can't learn that was forked before: another log, and memory that is shared with it
        can_learn = all(getattr(settings, name) == getattr(before.settings, name) for name in _NOT_LEARNT)
        can_learn &= has_notice or equipment.web is None
        news = pickle.dumps((settings, known)) if renews_children and can_learn else b""

        def adopt(*, opened: Sequence[socket.socket], dropped: Sequence[socket.socket], summary: str) -> Plan:
            self.equipment = equipment
            return Plan(
                admission=policy.admission,
                routing=routing,
                shutdown_timeout_s=policy.shutdown_timeout_s,
                permissions=policy.permissions,
                renews_children=renews_children,
                equipment=news,
                opened=opened,
                dropped=dropped,
                summary=summary,
            )

        return adopt

    def learn(self, equipment: bytes) -> None:
        """Take over what `prepare` has packed in another process, from which this one was forked.

        Raises:
            StartError: a file that was read there cannot be used any more.
        """
        settings, known = pickle.loads(equipment)
        self.equipment = self._equip(settings, known)
        set_level(settings.log_level)

    def _equip(self, settings: Settings, known: Known) -> Equipment:
        check_merging(settings)
        session = session_policy(settings)
        shared = Shared(
            session,
            frame_limits(settings),
            self._semaphores,
            # a reload does not change it: the parent's end of the channels keeps its own
            self._max_envelope,
            f"{session.host_name}{self._session_prefix}".lstrip("."),
            spin_s(settings),
            self._make_verifier(settings, known),
            known.permissions,
        )
        return Equipment(settings, known, shared, make_tls(settings), self._make_web(settings))

    def _make_web(self, settings: Settings) -> SitePolicy | None:
        policy = make_web(settings)
        if policy is None:
            return None
        if self._notice is None:
            self._notice = Notice(self._fault)
        return replace(policy, find_fault=self._notice.read)

    def tell_fault(self, text: str) -> None:
        """Let probes know why the broker takes no work now; nothing: it does."""
        self._fault = text
        if self._notice is not None:
            self._notice.write(text)

    def _make_verifier(self, settings: Settings, known: Known) -> Verifier | None:
        if not settings.needs_login:
            return None
        users = None if known.users is None else Users(known.users, self._secret)
        program = None
        # one that a reload brings waits for the next start
        if settings.authenticator is not None and self._link is not None:
            program = Program(str(settings.authenticator), self._link, self.places.beside(RUNNING))
        return Verifier(users, self.places, login_ways(settings), make_tokens(settings), program)
