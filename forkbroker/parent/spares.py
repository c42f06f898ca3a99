"""Spares: processes that wait for a client, each on the channel that it keeps.

A client's child is forked before there is a client for it, by the nursery, which has nothing of the parent's and of
other clients. A spare has a number until it gets a client; so many of them are kept at hand. With none at hand,
connections wait in the listen backlog. If the system has no room for a process, `give` says so, and more spares are
ordered a second later.
"""

from __future__ import annotations

import errno
import select
import socket
import struct
from collections.abc import Callable

from forkbroker.errors import EnvelopeError
from forkbroker.parent.helpers import Helpers
from forkbroker.parent.listener import Connection
from forkbroker.parent.processes import Forge
from forkbroker.parent.reaper import Reaper
from forkbroker.parent.roster import to_text
from forkbroker.posix.births import METHOD, Method
from forkbroker.posix.children import Ended, is_child
from forkbroker.posix.crashpoints import reach as crash
from forkbroker.routing.peers import Peer
from forkbroker.wire.channel import Channel, open_pair
from forkbroker.wire.envelope import Envelope, pack
from forkbroker.wire.fields import OF_NURSERY, check
from forkbroker.wire.kinds import Begin, Kind, Role

SPARES = 24
"""Spares at hand or ordered at most."""
LOT = 8
"""So many are ordered together. So there are 17 at least when nothing has come for a while: that is the burst which is
served without waiting for a fork."""
PATIENCE_S = 10.0
"""How long an order may wait for its answer."""
_AGAIN_S = 1.0


class Spares:
    """Orders spares, and gives clients to them."""

    def __init__(
        self, helpers: Helpers, forge: Forge, reaper: Reaper, *, most: int, changed: Callable[[], None]
    ) -> None:
        """`most`: of spares, as there are never more clients. `changed`: `can_answer` is true now."""
        self._loop = helpers.loop
        self._helpers = helpers
        self._forge = forge
        self._reaper = reaper
        self._wanted = max(1, min(SPARES, most))
        self._changed = changed
        self._is_open = False
        """The nursery takes orders, and what it forks is of use."""
        self._last_number = 0
        self._first_number = 0
        """Of the first order whose spares are of use."""
        self._ordered: dict[int, list[Channel]] = {}
        self._owes_since = 0.0
        """Since when the nursery owes an answer, if something is ordered, or takes no order."""
        self._is_refused = False
        """It has not read what it was told before, and has no room for the last order."""
        self._spares: dict[int, Channel] = {}
        """By process number, the oldest first."""
        self._dismissed: dict[int, float] = {}
        """Those that are to end, and since when, where their ends are told."""
        self._failure = ""
        self._is_waiting = False

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
            self._reaper.closed(pid)
        self._order()
        # one client is told; others wait in the backlog for what the next try brings
        reason, self._failure = self._failure, ""
        raise OSError(errno.EAGAIN, reason or "the processes that waited for clients were killed")

    # -- orders

    def _order(self) -> None:
        """Have as many spares as are wanted, at hand or ordered; in lots."""
        nursery = self._helpers.find(Role.NURSERY)
        if nursery is None or not self._is_open or self._is_waiting:
            return
        lot = min(LOT, max(1, self._wanted // 3))
        try:
            while self._wanted - self.count >= lot:
                if not self._order_lot(nursery.channel, lot):
                    if not (self._ordered or self._is_refused):
                        self._owes_since = self._loop.now
                    self._is_refused = True
                    self._order_later()
                    return
                self._is_refused = False
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

    # -- the nursery

    def go_on(self) -> None:
        """A nursery has begun: order."""
        self._is_open = True
        self._order()

    def pause(self) -> None:
        """Order nothing, and let whatever is still born end."""
        self._is_open = False

    def born(self, envelope: Envelope) -> None:
        """BORN: what was ordered, or less. Raises EnvelopeError: more than was ordered."""
        check(envelope, OF_NURSERY)
        channels = self._ordered.pop(envelope.number, [])
        pids = struct.unpack(f">{envelope.count}I", envelope.payload)
        if len(pids) > len(channels):
            raise EnvelopeError(f"BORN {envelope.number} of {len(pids)}, {len(channels)} were ordered")
        self._owes_since = self._loop.now
        self._reaper.born(pids)
        self._spares.update(zip(pids, channels, strict=False))
        for channel in channels[len(pids) :]:
            channel.close()
        if METHOD is Method.SIBLING:
            # one that was killed at once may have been reaped before this was read
            for pid in [pid for pid in pids if not is_child(pid)]:
                self._forget(pid)
        if not self._is_open:
            self.dismiss()
        elif envelope.number < self._first_number:
            self._replace_all()  # orders are answered in their order: there are no others yet
        elif pids:
            self._failure = ""
            self._changed()

    def unborn(self, envelope: Envelope) -> None:
        """UNBORN: the system has no room for a process."""
        check(envelope, OF_NURSERY)
        self._fail(to_text(envelope.block))

    def is_late(self) -> bool:
        """Tell, once, that the nursery has owed an answer, or has taken no order, for too long."""
        is_owed = bool(self._ordered) or self._is_refused
        if not is_owed or self._loop.now - self._owes_since <= PATIENCE_S:
            return False
        self._owes_since = self._loop.now
        return True

    def nursery_ended(self) -> None:
        """The nursery's channel has ended. Spares stay whose own ends will be told."""
        self.pause()
        self._is_refused = False
        self._forget_orders()
        if METHOD is not Method.SIBLING:
            self._close_spares()

    # -- ends of spares

    def replace_dead(self) -> None:
        """Their channels tell: a spare says nothing, so what can be read is an end."""
        poll = select.poll()
        pids = {channel.fileno(): pid for pid, channel in self._spares.items()}
        for fd in pids:
            poll.register(fd, select.POLLIN)
        for fd, _ in poll.poll(0):
            self._spares.pop(pids[fd]).close()
            self._reaper.closed(pids[fd])
        self._order()

    def reaped(self, ended: Ended) -> None:
        """A process has ended: it may be a spare."""
        self._forget(ended.pid)
        self._dismissed.pop(ended.pid, None)

    def _forget(self, pid: int) -> None:
        channel = self._spares.pop(pid, None)
        if channel is not None:
            channel.close()
            self._order()

    def closed(self, pid: int) -> None:
        """The channel of a client's child has ended."""
        self._reaper.closed(pid)

    def kill(self, pid: int) -> None:
        """End a client's child at once, which has not been reaped as far as is known here."""
        self._reaper.kill(pid)

    def renew(self) -> None:
        """Let the spares end, also those that are ordered and not born yet, and order others."""
        self._first_number = self._last_number + 1
        self._replace_all()

    def _replace_all(self) -> None:
        self.dismiss()
        self._order()

    def dismiss(self) -> None:
        """Let the spares end, with their channels."""
        pids = self.pids
        if METHOD is Method.SIBLING:
            self._dismissed.update(dict.fromkeys(pids, self._loop.now))
        self._close_spares()
        for pid in pids:
            self._reaper.closed(pid)

    def kill_dismissed(self, within_s: float) -> int:
        """Kill those that have not ended within so many seconds, as they are stopped, for one; tell how many."""
        late = [pid for pid, since in self._dismissed.items() if self._loop.now - since >= within_s]
        for pid in late:
            self._dismissed[pid] = self._loop.now
            # a sibling that was not reaped: the number is its own
            self._reaper.kill(pid)
        return len(late)

    @property
    def are_ending(self) -> bool:
        """Some that were dismissed have not ended, as far as is told."""
        return bool(self._dismissed)

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
