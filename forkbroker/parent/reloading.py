"""A changed configuration, taken over while clients are served.

    SIGHUP ──▶ checker: reads file and command line, checks all of it ──CHECKED──▶ taken over as a whole
                                                               └─────── FAILED ──▶ nothing changes

The checker is a helper with a short life: neither a slow disk or name service nor a mistake touches the parent. What it
has found it says, and ends; only then is it applied. A SIGHUP that comes meanwhile is heeded behind it, as the file may
have changed since it was read.

A trial is the same without the taking over: the checker itself opens what would be opened, and says what would change.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from socket import socket

from forkbroker.errors import ForkbrokerError
from forkbroker.parent.admission import AdmissionPolicy
from forkbroker.parent.channels import Channels
from forkbroker.parent.helpers import Helper, HelperProgram, Helpers, Meaning
from forkbroker.permissions import Permissions
from forkbroker.routing.peers import CHECKER
from forkbroker.routing.queues.policies import Policy
from forkbroker.wire.envelope import Envelope
from forkbroker.wire.fields import OF_CHECKER, check
from forkbroker.wire.kinds import Kind, Role

Told = Callable[[bool, str], None]
"""Hears of the end of a reload: whether it was done; what has changed, or why nothing has."""

PATIENCE_S = 30.0
"""How long the checker may take: a disk or a name service that does not answer by then answers nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What changes in the parent."""

    admission: AdmissionPolicy
    routing: Policy
    permissions: Permissions
    shutdown_timeout_s: float
    renews_children: bool
    """Clients that connect from now on need other processes than those that wait for them."""
    equipment: bytes
    """What the nursery is told of that; empty: it can't learn it, and there has to be another one."""
    opened: Sequence[socket]
    """Listeners that there were not."""
    dropped: Sequence[socket]
    """Listeners that there are no longer to be."""
    summary: str
    """What has changed, for the log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reload:
    """What the command knows of its configuration."""

    check: HelperProgram
    """Runs in the checker: sends CHECKED or FAILED."""
    rehearse: HelperProgram
    """The same of a trial: CHECKED has a text that says what would change."""
    prepare: Callable[[bytes], Plan]
    """Make a plan of what the checker has found, and open what is new in it; raises ForkbrokerError if that can't be,
    and nothing has changed then. Without an error, the plan must be carried out."""
    begun: Callable[[], None]
    """For the service manager: a reload has begun."""
    ended: Callable[[], None]
    """It has ended, in whatever way."""


def _tell_nobody(_is_done: bool, _text: str) -> None:
    """The log says it."""


class Reloading:
    """Has one checker at a time."""

    def __init__(
        self,
        channels: Channels,
        helpers: Helpers,
        reload: Reload,
        adopt: Callable[[Plan], None],
        logger: logging.Logger,
    ) -> None:
        """`adopt` carries a plan out."""
        self._loop = channels.loop
        self._news = channels.router.news
        self._helpers = helpers
        self._reload = reload
        self._adopt = adopt
        self._logger = logger
        self._row = Helper(
            role=Role.CHECKER,
            peer=CHECKER,
            program=reload.check,
            handlers={Kind.CHECKED: self._receive_checked},
            closed=self._closed,
            may_wait=lambda: True,
            means=self._judge,
        )
        self._trial_row = replace(self._row, program=reload.rehearse)
        self._is_checking = False
        self._is_trial = False
        self._is_over = False
        self._told: list[Told] = []
        """Who hears of the one that runs."""
        self._wishes: list[Told] = []
        """Who hears of the next reload, if there is to be one."""
        self._trial_wishes: list[Told] = []
        self._runs = 0
        self._found: bytes | None = None
        self._reason = ""

    def ask(self, told: Told = _tell_nobody) -> None:
        """Read the configuration, and take it over if it is good; `told` hears what has come of it."""
        self._wishes.append(told)
        self._begin()

    def try_out(self, told: Told) -> None:
        """Read the configuration, and only tell what would come of it."""
        self._trial_wishes.append(told)
        self._begin()

    def give_up(self) -> None:
        """The broker ends: nothing is read any more, and a checker that waits for a name service is not left behind."""
        self._is_over = True
        self._reason = "the broker ends"
        self._helpers.kill(Role.CHECKER)

    def _begin(self) -> None:
        """With the next one, unless one runs: all wishes of one kind are fulfilled together."""
        if self._is_checking or self._is_over or not (self._wishes or self._trial_wishes):
            return
        self._is_checking = True
        self._is_trial = not self._wishes
        if self._is_trial:
            self._told, self._trial_wishes = self._trial_wishes, []
        else:
            self._told, self._wishes = self._wishes, []
            self._reload.begun()
        self._found, self._reason = None, ""
        self._runs += 1
        run = self._runs
        self._loop.call_at(self._loop.now + PATIENCE_S, lambda: self._give_up(run))
        self._helpers.start(self._trial_row if self._is_trial else self._row)

    def _give_up(self, run: int) -> None:
        if self._is_checking and run == self._runs:
            self._reason = f"the configuration could not be read within {PATIENCE_S:.0f} s"
            self._helpers.kill(Role.CHECKER)

    def _receive_checked(self, envelope: Envelope) -> None:
        check(envelope, OF_CHECKER)
        self._found = bytes(envelope.block)

    def _closed(self, reason: str) -> None:
        self._reason = self._reason or reason

    def _judge(self, _status: int) -> Meaning:
        if self._found is None or self._is_over:
            self._fail(self._reason or "the process that reads the configuration crashed")
        elif self._is_trial:
            self._answer(True, self._found.decode(errors="replace"))
        else:
            self._take_over(self._found)
        if not self._is_trial:
            self._reload.ended()
        self._is_checking = False
        if self._wishes or self._trial_wishes:
            self._loop.call_at(self._loop.now, self._begin)
        return Meaning.NOTHING

    def _take_over(self, found: bytes) -> None:
        try:
            plan = self._reload.prepare(found)
        except ForkbrokerError as error:
            self._fail(str(error))
            return
        self._adopt(plan)
        self._logger.info("reload: done, %s", plan.summary)
        self._tell(True, plan.summary)

    def _tell(self, is_done: bool, text: str) -> None:
        if self._news.listeners:
            self._news.tell("reload", done=is_done, text=text)
        self._answer(is_done, text)

    def _answer(self, is_done: bool, text: str) -> None:
        told, self._told = self._told, []
        for tell in told:
            tell(is_done, text)

    def _fail(self, reason: str) -> None:
        if self._is_trial:
            self._answer(False, reason)
            return
        self._logger.error("reload: nothing has changed, %s", reason)
        self._tell(False, reason)
