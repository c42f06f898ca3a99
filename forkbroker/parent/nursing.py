"""The nursery, as the parent has it: the helper that forks spares, from the start to the broker's end.

It is forked first of all, as long as this process has nothing that clients' children need not have. When what they are
given has changed, it is told. One that ends or does not answer is replaced, and so is one that cannot learn the change:
the next one has what this process has by then. At the broker's end the nursery is needed as long as it reaps clients'
children (`reaper`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from forkbroker.parent.helpers import Helper, HelperProgram, Helpers, Meaning
from forkbroker.parent.reaper import Reaper
from forkbroker.parent.spares import PATIENCE_S, Spares
from forkbroker.posix.births import METHOD, Method
from forkbroker.posix.children import Ended
from forkbroker.routing.peers import NURSERY
from forkbroker.wire.descriptors import MOST
from forkbroker.wire.envelope import HEADER, Envelope, pack
from forkbroker.wire.kinds import Kind, Role

_END_TAKES_S = 1.0


class Nursing:
    """The row of the nursery."""

    def __init__(
        self,
        helpers: Helpers,
        program: HelperProgram,
        spares: Spares,
        reaper: Reaper,
        begun: Callable[[], None],
        logger: logging.Logger,
    ) -> None:
        """`begun`: the first nursery is ready."""
        self._helpers = helpers
        self._loop = helpers.loop
        self._spares = spares
        self._reaper = reaper
        self._begun = begun
        self._logger = logger
        self._row = Helper(
            role=Role.NURSERY,
            peer=NURSERY,
            program=program,
            handlers={
                Kind.REHEARSED: self._rehearsed,
                Kind.BORN: spares.born,
                Kind.UNBORN: spares.unborn,
                Kind.ENDED: reaper.receive,
            },
            closed=self._closed,
            may_wait=lambda: self.has_begun,
            means=self._judge,
        )
        self.has_begun = False
        """A nursery was ready once."""
        self._is_renewing = False
        self._is_over = False
        self._then: Callable[[], None] | None = None

    def start(self) -> None:
        """Fork the first one."""
        self._helpers.start(self._row)

    def equip(self, equipment: bytes) -> None:
        """What children are given has changed: let the spares end, and have others.

        `equipment`: what the nursery is told of it. Empty: it can't learn that, and another one is to be forked.
        """
        if self._is_over:
            return
        if 0 < len(equipment) <= MOST - HEADER.size and not self._is_renewing:
            self._helpers.tell(Role.NURSERY, pack(Kind.EQUIP, payload=[equipment]))
            self._spares.renew()
            return
        self._spares.dismiss()
        if self._helpers.find(Role.NURSERY) is not None:
            self._is_renewing = True
            self._spares.pause()
            self._helpers.kill(Role.NURSERY)

    def follow_log(self, level: str = "") -> None:
        """The log's file was opened again, or it has another level: let the spares end, and have others."""
        if self._is_over:
            return
        self._helpers.tell(Role.NURSERY, pack(Kind.LOG, block=level.encode()))
        self._spares.renew()

    def _start_anew(self) -> None:
        if not self._is_over:
            self.start()

    def _rehearsed(self, _envelope: Envelope) -> None:
        if not (self._is_over or self._is_renewing):
            self._spares.go_on()
        if not self.has_begun:
            self.has_begun = True
            self._begun()

    def check(self) -> None:
        """Kill what does not answer or does not end, replace spares that have ended.

        To be called about once a second.
        """
        if self._spares.is_late():
            self._logger.warning("nursery: killed, has not answered an order for %.0f s", PATIENCE_S)
            self._helpers.kill(Role.NURSERY)
        if count := self._spares.kill_dismissed(PATIENCE_S):
            self._logger.info("spares: %d killed, did not end within %.0f s", count, PATIENCE_S)
        if METHOD is not Method.SIBLING:
            self._spares.replace_dead()

    def reaped(self, ended: Ended) -> None:
        """A process has ended: it may be a spare."""
        self._spares.reaped(ended)
        self._look_for_end()

    def _closed(self, _reason: str) -> None:
        self._spares.nursery_ended()
        self._reaper.nursery_ended()

    def _judge(self, _status: int) -> Meaning:
        if self._is_over:
            self._loop.call_at(self._loop.now, self._look_for_end)
            return Meaning.NOTHING
        if self._is_renewing:
            self._is_renewing = False
            self._loop.call_at(self._loop.now, self._start_anew)
            return Meaning.NOTHING
        return Meaning.RESTART if self.has_begun else Meaning.SHUTDOWN

    # -- the broker's end

    def stop(self) -> None:
        """No client comes any more: let the spares end, and the nursery as well if it is not needed to reap."""
        self._is_over = True
        self._spares.pause()
        self._spares.dismiss()
        if METHOD is Method.SIBLING:
            self._send_close()

    def finish(self) -> None:
        """No child is left."""
        if METHOD is not Method.SIBLING:
            self._send_close()

    def _send_close(self) -> None:
        self._helpers.tell(Role.NURSERY, pack(Kind.CLOSE))

    def await_end(self, then: Callable[[], None]) -> None:
        """Call `then` when all have ended; after a second they are not waited for."""
        self._then = then
        self._loop.call_at(self._loop.now + _END_TAKES_S, self._give_up)
        self._look_for_end()

    def _look_for_end(self) -> None:
        if not self._spares.are_ending and self._helpers.find(Role.NURSERY) is None:
            self._go_on()

    def _go_on(self) -> None:
        then, self._then = self._then, None
        if then is not None:
            then()

    def _give_up(self) -> None:
        """They are stopped, for one: nothing of them is missed."""
        self._helpers.kill(Role.NURSERY)
        self._spares.kill_dismissed(0.0)
        self._go_on()
