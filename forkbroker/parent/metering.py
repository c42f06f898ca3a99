"""The helper that answers scrapers, as the parent has it: a client of the control protocol that can only look.

Its end means nothing to anybody: another one is started.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from forkbroker.control import verbs
from forkbroker.control.arguments import RequestError
from forkbroker.errors import EnvelopeError
from forkbroker.parent.channels import Channels
from forkbroker.parent.helpers import Helper, HelperProgram, Helpers, Meaning
from forkbroker.routing.peers import METRICS
from forkbroker.wire.envelope import Envelope
from forkbroker.wire.fields import OF_METRICS, check
from forkbroker.wire.kinds import Kind, Role


class Metering:
    """Keeps that helper."""

    def __init__(
        self, channels: Channels, helpers: Helpers, program: HelperProgram, kept: Sequence[int], logger: logging.Logger
    ) -> None:
        """`kept`: descriptors that the program needs, those of its listeners."""
        self._router = channels.router
        self._helpers = helpers
        self._logger = logger
        self._is_over = False
        self._row = Helper(
            role=Role.METRICS,
            peer=METRICS,
            program=program,
            handlers={Kind.ASK: self._ask},
            closed=lambda _reason: None,
            may_wait=lambda: True,
            means=lambda _status: Meaning.NOTHING if self._is_over else Meaning.RESTART,
            kept=kept,
        )

    def start(self) -> None:
        """Fork the first process."""
        self._helpers.start(self._row)

    def _ask(self, envelope: Envelope) -> None:
        check(envelope, OF_METRICS)
        try:
            verb = verbs.find(envelope.destination.decode(errors="replace"))
        except RequestError as error:
            raise EnvelopeError(str(error)) from None
        if verb.right != "monitor":
            raise EnvelopeError(f"{verb.name} needs the right {verb.right}")
        self._router.asked.append((METRICS, envelope))

    def finish(self) -> None:
        """The broker ends."""
        self._is_over = True
        self._helpers.kill(Role.METRICS)
