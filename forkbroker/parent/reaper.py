"""The ends of clients' children, which are forked by the nursery.

Where the nursery's children are the parent's own (`posix.births`), nothing is to be done here: SIGCHLD tells. Elsewhere
the nursery reaps them, when the parent asks for it: after the channel has ended, and not before, as until then the
parent may want to kill the process by its number. If the nursery has ended, nobody tells how they end any more; the
end of their channel is all that is heard then.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable
from contextlib import suppress

from forkbroker.errors import EnvelopeError
from forkbroker.parent.helpers import Helpers
from forkbroker.posix.births import METHOD, Method
from forkbroker.posix.children import Ended
from forkbroker.wire.envelope import Envelope, pack
from forkbroker.wire.fields import OF_NURSERY, check
from forkbroker.wire.kinds import Flag, Kind, Role


class Reaper:
    """Has the nursery reap its children, and tells of their ends."""

    def __init__(self, helpers: Helpers, ended: Callable[[Ended], None], orphaned: Callable[[set[int]], None]) -> None:
        """`ended`: a child has ended, as the nursery says. `orphaned`: nobody will tell how these children end."""
        self._helpers = helpers
        self._ended = ended
        self._orphaned = orphaned
        self._reported_on: set[int] = set()
        """Processes whose ends the nursery reports, and of which it was not asked yet."""
        self._asked: set[int] = set()
        """Processes that it was asked to reap."""

    def born(self, pids: Iterable[int]) -> None:
        """The nursery has forked these."""
        if METHOD is not Method.SIBLING:
            self._reported_on.update(pids)

    def closed(self, pid: int) -> None:
        """The channel of a child has ended: if the nursery is to reap it, ask for that."""
        if pid in self._reported_on:
            self._reported_on.remove(pid)
            self._asked.add(pid)
            self._ask(pid)

    def kill(self, pid: int) -> None:
        """End a child at once, which has not been reaped as far as is known here."""
        if pid in self._asked:
            self._ask(pid, Flag.FINAL)
        else:
            with suppress(ProcessLookupError):  # an orphan that init was quicker to reap
                os.kill(pid, signal.SIGKILL)

    def _ask(self, pid: int, flags: int = 0) -> None:
        self._helpers.tell(Role.NURSERY, pack(Kind.REAP, number=pid, flags=flags))

    def receive(self, envelope: Envelope) -> None:
        """ENDED: how a child has ended. Raises EnvelopeError: nobody has asked for that one."""
        check(envelope, OF_NURSERY)
        if envelope.number not in self._asked:
            raise EnvelopeError(f"ENDED of process {envelope.number}, which it was not asked for")
        self._asked.remove(envelope.number)
        self._ended(Ended(envelope.number, envelope.token, envelope.serial / 1e6, envelope.count))

    def nursery_ended(self) -> None:
        """Its channel has ended, and with it all that it could tell."""
        if METHOD is not Method.SIBLING:
            orphans = self._reported_on | self._asked
            self._reported_on, self._asked = set(), set()
            self._orphaned(orphans)
