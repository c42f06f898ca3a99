"""The nursery, as the parent has it: a helper that forks, and the spares that wait for clients.

A client's child is forked before there is a client for it, by the nursery, which has nothing of the parent's and of
other clients. A spare has a number until it gets a client; so many of them are kept at hand. With none at hand,
connections wait in the listen backlog. If the system has no room for a process, `give` says so, and more spares are
ordered a second later.

Where the nursery's children are the parent's own (`posix.births`), nothing else is to be known about them. Elsewhere
the nursery reaps them, when the parent asks for it: after the channel has ended, and not before, as until then the
parent may want to kill the process by its number. If the nursery has ended, nobody tells how they end any more; the
end of their channel is all that is heard then.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import signal
import socket
import struct
from collections.abc import Callable
from contextlib import suppress

from forkbroker.errors import EnvelopeError
from forkbroker.parent.exchange import Exchange
from forkbroker.parent.helpers import Helper, HelperProgram, Helpers, Meaning
from forkbroker.parent.listener import Connection
from forkbroker.parent.processes import Forge
from forkbroker.parent.roster import to_text
from forkbroker.posix.births import WAY, Way
from forkbroker.posix.children import Ended
from forkbroker.posix.crashpoints import reach as crash
from forkbroker.routing.peers import NURSERY, Peer
from forkbroker.wire.channel import Channel, open_pair
from forkbroker.wire.envelope import Envelope, pack
from forkbroker.wire.fields import OF_NURSERY, check
from forkbroker.wire.kinds import Begin, Flag, Kind, Role

SPARES = 24
"""Spares at hand or ordered at most."""
LOT = 8
"""So many are ordered together. So there are 17 at least when nothing has come for a while: that is the burst which is
served without waiting for a fork."""
_AGAIN_S = 1.0
_PATIENCE_S = 10.0
"""How long an order may wait for its answer."""
_END_TAKES_S = 1.0


class Spares:
    """Orders spares, and gives clients to them."""

    def __init__(
        self,
        exchange: Exchange,
        helpers: Helpers,
        program: HelperProgram,
        forge: Forge,
        *,
        most: int,
        begun: Callable[[], None],
        changed: Callable[[], None],
        ended: Callable[[Ended], None],
        orphaned: Callable[[set[int]], None],
        logger: logging.Logger,
    ) -> None:
        """`most`: of spares, as there are never more clients.

        `begun`: the first nursery is ready. `changed`: `can_answer` is true now. `ended`: a child has ended, as the
        nursery says. `orphaned`: nobody will tell how these children end.
        """
        self._loop = exchange.loop
        self._send = exchange.send
        self._helpers = helpers
        self._forge = forge
        self._wanted = max(1, min(SPARES, most))
        self._begun = begun
        self._changed = changed
        self._ended = ended
        self._orphaned = orphaned
        self._logger = logger
        self._row = Helper(
            role=Role.NURSERY,
            peer=NURSERY,
            program=program,
            handlers={
                Kind.REHEARSED: self._rehearsed,
                Kind.BORN: self._born,
                Kind.UNBORN: self._unborn,
                Kind.ENDED: self._reported,
            },
            closed=self._closed,
            may_wait=lambda: self.has_begun,
            means=self._judge,
        )
        self.has_begun = False
        """A nursery was ready once."""
        self._is_ready = False
        self._last_number = 0
        self._ordered: dict[int, list[Channel]] = {}
        self._owes_since = 0.0
        """Since when the nursery owes an answer, if something is ordered."""
        self._spares: dict[int, Channel] = {}
        """By process number, the oldest first."""
        self._reported_on: set[int] = set()
        """Processes whose ends the nursery reports, and of which it was not asked yet."""
        self._asked: set[int] = set()
        """Processes that it was asked to reap."""
        self._dismissed: set[int] = set()
        """Spares that are ending, at the end of the broker."""
        self._failure = ""
        self._is_waiting = False
        self._is_renewing = False
        self._is_over = False
        self._then: Callable[[], None] | None = None

    def start(self) -> None:
        """Fork the first one."""
        self._helpers.start(self._row)

    def _start_anew(self) -> None:
        if not self._is_over:
            self.start()

    # -- clients

    @property
    def can_answer(self) -> bool:
        """There is a spare for a client, or a reason why there is none."""
        return bool(self._spares or self._failure)

    @property
    def count(self) -> int:
        """Spares that are at hand or ordered; each has a descriptor here."""
        return len(self._spares) + sum(map(len, self._ordered.values()))

    @property
    def pids(self) -> list[int]:
        """Processes that wait for a client."""
        return list(self._spares)

    def give(self, client: Connection, peer: Peer) -> tuple[int, Channel]:
        """Give a client to a spare, with its socket: the process, and the channel to it. The socket stays open here.

        Raises:
            OSError: the system has no room for a process; or all spares were killed while they waited.
        """
        begin = (
            (Begin.TLS if client.is_tls else 0)
            | (Begin.PROXIED if client.is_proxied else 0)
            | (Begin.WEB if client.is_web else 0)
            | (Begin.FORWARDED if client.is_forwarded else 0)
            | (Begin.SUSPECT if client.is_suspect else 0)
        )
        envelope = pack(Kind.SERVE, token=begin, number=peer, destination=client.address.encode())
        while self._spares:
            pid = next(iter(self._spares))
            channel = self._spares.pop(pid)
            if channel.hand(envelope, [client.socket.fileno()]):
                if crash is not None:
                    crash("parent.handed", "")
                self._order()
                return pid, channel
            channel.close()
            self.closed(pid)
        self._order()
        # one client is told; others wait in the backlog for what the next try brings
        reason, self._failure = self._failure, ""
        raise OSError(errno.EAGAIN, reason or "the processes that waited for clients were killed")

    # -- orders

    def _order(self) -> None:
        """Have as many spares as are wanted, at hand or ordered; in lots."""
        nursery = self._helpers.find(Role.NURSERY)
        if nursery is None or not self._is_ready or self._is_over or self._is_waiting:
            return
        lot = min(LOT, max(1, self._wanted // 3))
        try:
            while self._wanted - self.count >= lot:
                if not self._order_lot(nursery.channel, lot):
                    self._order_later()
                    return
                if crash is not None:
                    crash("parent.ordered", "")
        except OSError as error:
            self._fail(error.strerror or str(error))

    def _order_lot(self, nursery: Channel, count: int) -> bool:
        """Order so many spares; False: the nursery takes no order now. Raises OSError if no descriptor is left."""
        ours: list[socket.socket] = []
        theirs: list[socket.socket] = []
        is_ordered = False
        try:
            for _ in range(count):
                near, far = open_pair()
                far.setblocking(True)
                ours.append(near)
                theirs.append(far)
            order = pack(Kind.SPARES, number=self._last_number + 1)
            is_ordered = nursery.hand(order, [end.fileno() for end in theirs])
        finally:
            for end in theirs if is_ordered else [*theirs, *ours]:
                end.close()
        if is_ordered:
            if not self._ordered:
                self._owes_since = self._loop.now
            self._last_number += 1
            self._ordered[self._last_number] = list(map(self._forge.make_channel, ours))
        return is_ordered

    def _order_later(self) -> None:
        if not self._is_waiting:
            self._is_waiting = True
            self._loop.call_at(self._loop.now + _AGAIN_S, self._order_again)

    def _order_again(self) -> None:
        self._is_waiting = False
        self._order()

    def _fail(self, reason: str) -> None:
        """There is no room for a process: nothing is ordered for a while, and clients are told if no spare is left."""
        self._failure = reason
        self._order_later()
        self._changed()

    # -- what the nursery says

    def _rehearsed(self, _envelope: Envelope) -> None:
        self._is_ready = True
        self._order()
        if not self.has_begun:
            self.has_begun = True
            self._begun()

    def _born(self, envelope: Envelope) -> None:
        check(envelope, OF_NURSERY)
        channels = self._ordered.pop(envelope.number, [])
        pids = struct.unpack(f">{envelope.count}I", envelope.payload)
        if len(pids) > len(channels):
            raise EnvelopeError(f"BORN {envelope.number} of {len(pids)}, {len(channels)} were ordered")
        self._owes_since = self._loop.now
        self._spares.update(zip(pids, channels, strict=False))
        for channel in channels[len(pids) :]:
            channel.close()
        if WAY is not Way.SIBLING:
            self._reported_on.update(pids)
        if self._is_over or self._is_renewing:
            self._dismiss()
        elif pids:
            self._failure = ""
            self._changed()

    def _unborn(self, envelope: Envelope) -> None:
        check(envelope, OF_NURSERY)
        self._fail(to_text(envelope.block))

    def _reported(self, envelope: Envelope) -> None:
        check(envelope, OF_NURSERY)
        if envelope.number not in self._asked:
            raise EnvelopeError(f"ENDED of process {envelope.number}, which it was not asked for")
        self._asked.remove(envelope.number)
        self._ended(Ended(envelope.number, envelope.token, envelope.serial / 1e6, envelope.count))

    def check(self) -> None:
        """Kill a nursery that does not answer, replace spares that have ended. To be called about once a second."""
        if self._ordered and self._loop.now - self._owes_since > _PATIENCE_S:
            self._logger.warning("nursery: killed, has not answered an order for %.0f s", _PATIENCE_S)
            self._helpers.kill(Role.NURSERY)
            self._owes_since = self._loop.now
        if WAY is not Way.SIBLING:
            self._replace_dead()

    def _replace_dead(self) -> None:
        """Their channels tell: a spare says nothing, so what can be read is an end."""
        poll = select.poll()
        pids = {channel.fileno(): pid for pid, channel in self._spares.items()}
        for fd in pids:
            poll.register(fd, select.POLLIN)
        for fd, _ in poll.poll(0):
            self._spares.pop(pids[fd]).close()
            self.closed(pids[fd])
        self._order()

    # -- ends of children

    def reaped(self, ended: Ended) -> None:
        """A process has ended: it may be a spare."""
        channel = self._spares.pop(ended.pid, None)
        if channel is not None:
            channel.close()
            self._order()
        self._dismissed.discard(ended.pid)
        self._look_for_end()

    def closed(self, pid: int) -> None:
        """The channel of a child or spare has ended: if the nursery is to reap it, ask for that."""
        if pid in self._reported_on:
            self._reported_on.remove(pid)
            self._asked.add(pid)
            self._tell_reap(pid)

    def kill(self, pid: int) -> None:
        """End a child at once, which has not been reaped as far as is known here."""
        if pid in self._asked:
            self._tell_reap(pid, Flag.FINAL)
        else:
            with suppress(ProcessLookupError):  # an orphan that init was quicker to reap
                os.kill(pid, signal.SIGKILL)

    def _tell_reap(self, pid: int, flags: int = 0) -> None:
        nursery = self._helpers.find(Role.NURSERY)
        if nursery is not None:
            self._send(nursery, pack(Kind.REAP, number=pid, flags=flags))

    # -- its end

    def _closed(self, _reason: str) -> None:
        self._is_ready = False
        self._forget_orders()
        if WAY is not Way.SIBLING:
            self._close_spares()
            orphans = self._reported_on | self._asked
            self._reported_on, self._asked = set(), set()
            self._orphaned(orphans)

    def _judge(self, _status: int) -> Meaning:
        if self._is_over:
            self._loop.call_at(self._loop.now, self._look_for_end)
            return Meaning.NOTHING
        if self._is_renewing:
            self._is_renewing = False
            self._loop.call_at(self._loop.now, self._start_anew)
            return Meaning.NOTHING
        return Meaning.RESTART if self.has_begun else Meaning.SHUTDOWN

    def renew(self) -> None:
        """What children are given has changed: let the spares end, and have another nursery, of the present state."""
        if self._is_over:
            return
        self._dismiss()
        if self._helpers.find(Role.NURSERY) is not None:
            self._is_renewing, self._is_ready = True, False
            self._helpers.kill(Role.NURSERY)

    def stop(self) -> None:
        """No client comes any more: let the spares end, and the nursery as well if it is not needed to reap."""
        self._is_over = True
        self._dismiss()
        if WAY is Way.SIBLING:
            self._send_close()

    def _send_close(self) -> None:
        nursery = self._helpers.find(Role.NURSERY)
        if nursery is not None:
            self._send(nursery, pack(Kind.CLOSE))

    def finish(self) -> None:
        """No child is left."""
        if WAY is not Way.SIBLING:
            self._send_close()

    def await_end(self, then: Callable[[], None]) -> None:
        """Call `then` when all have ended; after a second they are not waited for."""
        self._then = then
        self._loop.call_at(self._loop.now + _END_TAKES_S, self._give_up)
        self._look_for_end()

    def _dismiss(self) -> None:
        """Spares end with their channels."""
        if WAY is Way.SIBLING:
            self._dismissed.update(self._spares)
        self._close_spares()

    def _look_for_end(self) -> None:
        if not self._dismissed and self._helpers.find(Role.NURSERY) is None:
            self._go_on()

    def _go_on(self) -> None:
        then, self._then = self._then, None
        if then is not None:
            then()

    def _give_up(self) -> None:
        """It is stopped, for one: nothing of it is missed."""
        self._helpers.kill(Role.NURSERY)
        self._go_on()

    def close(self) -> None:
        """Close all channels, at the parent's own end."""
        self._forget_orders()
        self._close_spares()

    def _forget_orders(self) -> None:
        for channels in self._ordered.values():
            for channel in channels:
                channel.close()
        self._ordered.clear()

    def _close_spares(self) -> None:
        for channel in self._spares.values():
            channel.close()
        self._spares.clear()
