"""Requests to the broker itself, from the ASK to the last ANSWER.

In each turn of the loop so many steps are done of all requests together, which take turns: ten thousand queues are
listed in a second and hold nobody up. Rows go out in parts. A client that does not take them gets no more until it
does, and what was asked by a client that is gone is forgotten. Nothing of this runs while nobody asks.

A child is believed nothing: it has checked a request before it sent it up, so one that is not right is a lie, and ends
the child.
"""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Callable, Mapping
from itertools import islice

from forkbroker.control import arguments, verbs
from forkbroker.control.arguments import RequestError
from forkbroker.parent.channels import Channels
from forkbroker.parent.control.asked import Asked, Handler, Row, Steps
from forkbroker.parent.roster import Process
from forkbroker.posix.printable import printable
from forkbroker.routing.peers import Peer
from forkbroker.wire.envelope import Buffer, Envelope, pack
from forkbroker.wire.kinds import Flag, Kind

STEPS = 250
"""Steps in one turn, of all requests together: some 5 ms."""
PORTION = 100
"""Rows in one part of an answer."""
BEGUN = 20
"""Requests that are begun in one turn."""
_FULL = 262_144
"""Octets that may wait in the channel of who has asked before it gets more."""
_LOOK_AGAIN_S = 0.02
_SHOWN = 500
"""Characters of a request that one line of the log has."""
_FINAL = int(Flag.FINAL)


class Control:
    """All requests that are not answered."""

    def __init__(
        self,
        channels: Channels,
        find: Callable[[Peer], Process | None],
        handlers: Mapping[str, Handler],
        logger: logging.Logger,
    ) -> None:
        """`find`: the process with this number that may ask, if its channel is open. `handlers`: one for each verb."""
        asked = {verb.name for verb in verbs.VERBS.values() if not verb.is_own}
        if handlers.keys() != asked:
            raise AssertionError(f"verbs and handlers differ: {handlers.keys() ^ asked}")
        self._channels = channels
        self._loop = channels.loop
        self._router = channels.router
        self._find = find
        self._handlers = handlers
        self._logger = logger
        self._work: dict[Asked, Steps] = {}
        """All that are open."""
        self._ready: deque[Asked] = deque()
        """Those that can go on."""
        self._count: dict[Peer, int] = {}
        self._is_armed = False
        self._turn_at = -1.0
        self.steps = 0
        """Done since the start: for tests."""

    @property
    def is_busy(self) -> bool:
        """There is something to be done: for tests."""
        return bool(self._router.asked or self._ready)

    def heed(self) -> None:
        """Something was asked: begin with it, unless this turn has had its part."""
        if self._turn_at != self._loop.now:
            self.take_turn()

    def take_turn(self) -> None:
        """Do a turn's part."""
        self._turn_at = self._loop.now
        asked = self._router.asked
        for peer, envelope in asked[:BEGUN]:
            self._begin(peer, envelope)
        del asked[:BEGUN]
        left = STEPS
        for _ in range(len(self._ready)):
            if left <= 0:
                break
            left -= self._go_on(self._ready.popleft(), -(-left // (len(self._ready) + 1)))
        if asked or self._ready:
            has_room = any(one.client.channel.pending <= _FULL for one in self._ready)
            self._arm(0.0 if asked or has_room else _LOOK_AGAIN_S)

    def _arm(self, after_s: float) -> None:
        """See to it that there is another turn."""
        if not self._is_armed:
            self._is_armed = True
            self._loop.call_at(self._loop.now + after_s, self._come_back)

    def _come_back(self) -> None:
        self._is_armed = False
        if self._ready or self._router.asked:
            self.take_turn()

    # -- the beginning

    def _begin(self, peer: Peer, envelope: Envelope) -> None:
        client = self._find(peer)
        if client is None:
            return
        name = envelope.destination.decode(errors="replace")
        try:
            verb = verbs.find(name)
            args = verb.read(arguments.parse(envelope.block))
            if verb.is_own:
                raise arguments.bad(f"{name} is answered by the process of the client")
        except RequestError as error:
            self._router.culprits[peer] = f"ASK: {error}"
            return
        if self._count.get(peer, 0) >= verbs.MAX_OPEN:
            self._router.culprits[peer] = f"ASK: more than {verbs.MAX_OPEN} that are not answered"
            return
        self._count[peer] = self._count.get(peer, 0) + 1
        asked = Asked(client, envelope.token, name, args, self._wake)
        self._work[asked] = self._handlers[name](asked)
        self._ready.append(asked)
        if verb.right == "manage" and not asked.is_dry_run:
            self._logger.info("%s: asks for %s %s", client.name, name, _shorten(json.dumps(args)))

    def _wake(self, asked: Asked) -> None:
        if asked.is_waiting and asked in self._work:
            asked.is_waiting = False
            self._ready.append(asked)
            self._arm(0.0)

    # -- the way

    def _go_on(self, asked: Asked, most: int) -> int:
        """Do so many steps of it at most; how many it were."""
        child = asked.client
        if self._find(child.peer) is not child:
            self._forget(asked)
            return 1
        if child.channel.pending > _FULL:
            self._ready.append(asked)
            return 0
        work, steps = self._work[asked], 0
        try:
            with self._router.on_behalf_of(child.peer, self._loop.now):
                while steps < most and not asked.is_waiting:
                    row = next(work)
                    steps += 1 + asked.spent
                    asked.spent = 0
                    if row is not None:
                        asked.rows.append(row)
                        if len(asked.rows) == PORTION:
                            self._send_rows(asked)
        except StopIteration as end:
            self._finish(asked, end.value)
        except RequestError as error:
            self._answer(asked, error.answer())
        except Exception:
            # a fault of ours, for which nobody else is to pay
            self._logger.exception(
                "%s: unexpected exception while its request %s was carried out", child.name, asked.verb
            )
            self._answer(asked, RequestError("unavailable", "an error in the broker, which its log describes").answer())
        else:
            if not asked.is_waiting:
                self._ready.append(asked)
            elif asked.rows:
                # what comes next may take long
                self._send_rows(asked)
        finally:
            self.steps += steps
            self._channels.dispatch(None)
        return max(1, steps)

    def _send_rows(self, asked: Asked) -> None:
        rows, asked.rows = asked.rows, []
        self._channels.send(asked.client, _pack(asked, {"ok": True, "rows": rows, "more": True}, 0))

    # -- the end

    def _finish(self, asked: Asked, result: Row | None) -> None:
        if result is None:
            matched = {} if asked.matched is None else {"matched": asked.matched}
            self._answer(asked, {"ok": True, "rows": asked.rows, "more": False, **matched})
        else:
            self._answer(asked, {"ok": True, "result": result})

    def _answer(self, asked: Asked, answer: Row) -> None:
        self._forget(asked)
        buffers = _pack(asked, answer, _FINAL)
        if verbs.VERBS[asked.verb].changes and not asked.is_unstored:
            # behind the commit of what was changed
            self._router.answer(asked.client.peer, buffers)
        else:
            self._channels.send(asked.client, buffers)

    def _forget(self, asked: Asked) -> None:
        self._work.pop(asked).close()
        peer = asked.client.peer
        self._count[peer] -= 1
        if not self._count[peer]:
            del self._count[peer]

    def drop_waiting(self) -> None:
        """Forget what clients that are gone have asked for, and that waits for something."""
        for asked in list(islice(self._work, 1000)):
            if asked.is_waiting and self._find(asked.client.peer) is not asked.client:
                self._forget(asked)


def _shorten(text: str) -> str:
    shown = printable(text)
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"


def _pack(asked: Asked, answer: Row, flags: int) -> list[Buffer]:
    block = json.dumps(answer, separators=(",", ":")).encode()
    return pack(Kind.ANSWER, flags=flags, token=asked.token, block=block)
