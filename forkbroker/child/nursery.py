"""The nursery: a process that is there to be forked, so that children share as much as can be shared.

It is forked early, before the parent has anything of a client's. It plays a client through (`rehearsal`), so that what
the interpreter makes when code gets warm is made, freezes all that, and then does one thing only: when the parent
orders *spares*, it forks them. A spare is a child that waits for its client, which the parent hands to it later, with
the socket (`spare`). So no fork stands between a client and its process, and the parent's pages, which change all the
time, are not copied for each client.

    parent ── SPARES, with the children's ends of their channels ──> nursery ── fork, as often ──> spares
    parent <── BORN with their process numbers; UNBORN with the reason if that are not all ── nursery
    parent ── SERVE, with the client's socket ──> spare, which is the client's child from now on

The nursery writes to its own pages as well while it works, and what it writes between two forks is no longer shared
by what it has forked before. So spares are ordered several at a time, and nothing is done between their forks.

The forks are those of `posix.births`. Where a spare is the parent's own child, the parent hears of its end by itself.
Elsewhere it is the nursery's, and the parent asks for it (REAP) when the channel of a child has ended: only then the
nursery reaps that child, and reports (ENDED). So a number that the parent may still want to kill is no other process's.

When the log's file is opened again, or its level changes, the nursery is told (LOG), and so it is when a reload has
changed what children are given (EQUIP): then it plays a client through again. It is not replaced for that, as the next
one would be forked from a parent that has clients' messages: each child would inherit them, and each fork copy more.

The nursery has no state that anybody would miss. When it is killed the next one is started, and its spares and
children go on. When the parent is gone, the nursery ends.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from os import close

from forkbroker.errors import EnvelopeError, Exit
from forkbroker.posix import births, children, collector, image
from forkbroker.posix.children import run
from forkbroker.posix.crashpoints import reach as crash
from forkbroker.posix.titles import set_title
from forkbroker.wire import descriptors
from forkbroker.wire.envelope import Buffer, Envelope, pack
from forkbroker.wire.kinds import Flag, Kind

SpareProgram = Callable[[int], int]
"""What a spare runs: (the descriptor of its end of the channel, blocking); returns the exit status."""

Equip = Callable[[bytes], SpareProgram]
"""Takes over what the parent tells of other equipment, at the beginning nothing; plays a client through; returns what a
spare runs."""

LogProgram = Callable[[str], None]
"""Goes on in the log as it is now: (its level, or "" for that of before)."""

_TITLE = "nursery"
_LOOK_S = 0.05
"""How often is looked whether a process has ended that has only closed its channel."""
_END_TAKES_S = 0.5
"""How long spares may take to end: half of what the parent waits for the nursery."""


def _ignore(_level: str) -> None:
    """There is no log."""


def main(end: socket.socket, equip: Equip, follow_log: LogProgram = _ignore) -> int:
    """Fork a process for each one that is ordered through `end`; returns the exit status."""
    nursery, told = Nursery(end, follow_log), b""
    while True:
        set_title(_TITLE)
        spare = equip(told)
        set_title(_TITLE)  # after that of the client that was played
        collector.settle_for_forks()
        image.take()
        news = nursery.run(spare)
        if news is None:
            return Exit.OK
        told = news
        if crash is not None:
            crash("nursery.learning", "")
        collector.unsettle()


class Nursery:
    """What the process has."""

    def __init__(self, end: socket.socket, follow_log: LogProgram) -> None:
        """`end`: of the channel to the parent; `follow_log`: see `LogProgram`."""
        self._end = end
        self._follow_log = follow_log
        self._mine: set[int] = set()
        """Those that were forked here and are not reaped, where forked processes are this one's own."""
        self._ending: set[int] = set()
        """Processes that are to be reaped as soon as they have ended."""

    def run(self, spare: SpareProgram) -> bytes | None:
        """Do what is ordered, until the parent tells of other equipment, which is returned; None: it has had enough, or
        is gone.
        """
        self._end.setblocking(True)
        self._tell(pack(Kind.REHEARSED))
        poll = select.poll()
        poll.register(self._end, select.POLLIN)
        while True:
            if self._ending and not poll.poll(_LOOK_S * 1000):
                self._reap()
                continue
            received = descriptors.receive(self._end)
            if received is None:
                return None
            order, fds = Envelope(received[0]), received[1]
            if order.kind is Kind.SPARES:
                self._bear(order.number, fds, spare)
            elif order.kind is Kind.REAP:
                self._look_after(order.number, is_killed=bool(order.flags & Flag.FINAL))
            elif order.kind is Kind.LOG:
                self._follow_log(bytes(order.block).decode())
            elif order.kind is Kind.EQUIP:
                return bytes(order.payload)
            elif order.kind is Kind.CLOSE:
                self._end_spares()
                return None
            else:
                raise EnvelopeError(f"{order.kind.name} for the nursery")

    def _bear(self, number: int, fds: tuple[int, ...], spare: SpareProgram) -> None:
        """Fork a spare for each descriptor, and report."""
        if crash is not None:
            crash("nursery.ordered", "")
        pids: list[int] = []
        failure = ""
        bear, append, end, others = births.bear, pids.append, self._end.fileno(), iter(fds)
        set_title("spare")  # theirs as well: none of them has to write to that page
        for fd in others:
            try:
                pid = bear()
                if pid < 0:
                    raise births.refusal()
            except OSError as error:
                failure = error.strerror or str(error)
                close(fd)
                break
            if not pid:
                # Nothing of the nursery's stays open. Its frames stay: to leave them would be to write to each object
                # that they hold.
                close(end)
                for other in others:
                    close(other)
                run(spare, fd)
            close(fd)
            append(pid)
            if crash is not None:
                crash("nursery.born", "")
        set_title(_TITLE)
        for other in others:
            close(other)
        if births.METHOD is not births.Method.SIBLING:
            self._mine.update(pids)
        self._tell(pack(Kind.BORN, number=number, count=len(pids), payload=[struct.pack(f">{len(pids)}I", *pids)]))
        if failure:
            self._tell(pack(Kind.UNBORN, block=failure.encode()))
        if crash is not None:
            crash("nursery.told", "")

    def _look_after(self, pid: int, *, is_killed: bool) -> None:
        """Reap this process soon. If that is done already, the parent has not heard it yet, and hears it now."""
        if pid in self._mine:
            self._ending.add(pid)
            if is_killed:
                os.kill(pid, signal.SIGKILL)
            self._reap()

    def _reap(self) -> None:
        """Report those that have ended; the others are looked for again."""
        for pid in list(self._ending):
            ended = children.reap_one(pid)
            if ended is not None:
                self._ending.remove(pid)
                self._mine.remove(pid)
                self._tell(
                    pack(
                        Kind.ENDED,
                        token=ended.status,
                        number=pid,
                        serial=round(ended.cpu_s * 1e6),
                        count=ended.peak_kib,
                    )
                )

    def _end_spares(self) -> None:
        """What is left here of spares gets no client, and ends; or it is stopped, for one, and killed."""
        until = time.monotonic() + _END_TAKES_S
        while self._mine and time.monotonic() < until:
            self._mine = {pid for pid in self._mine if children.reap_one(pid) is None}
            if self._mine:
                time.sleep(_LOOK_S)
        for pid in self._mine:
            os.kill(pid, signal.SIGKILL)
        children.await_all()

    def _tell(self, buffers: list[Buffer]) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):  # the parent is gone, as `run` will find
            self._end.sendall(b"".join(buffers))
