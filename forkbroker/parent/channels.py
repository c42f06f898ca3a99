"""The channels to all processes: what the router wants to be sent is queued there, and flushed once a turn.

So what ten children say to one in a turn is one system call. Who waits for whom is in `flow`. What a process says is
read by who has forked it (`processes`), which is told as well if that went wrong, or if the channel has ended.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from forkbroker.parent.flow import Flow, FlowPolicy
from forkbroker.parent.roster import Client, Process
from forkbroker.parent.routes import Routes
from forkbroker.posix.crashpoints import reach as crash
from forkbroker.posix.loop import Loop
from forkbroker.routing.peers import Peer
from forkbroker.wire.envelope import KIND_AT, Buffer
from forkbroker.wire.kinds import Kind
from forkbroker.wire.receive_memory import ReceiveMemory

P = TypeVar("P", bound=Process)

_CRASH_AFTER: dict[int, str] = {Kind.OFFER: "parent.offered", Kind.WRITE: "parent.written"}
"""Fault seams behind the turn in which one of these is sent."""


class Channels:
    """The loop, the router, and the channels between it and the processes."""

    def __init__(self, loop: Loop, router: Routes, policy: FlowPolicy, budget: ReceiveMemory) -> None:
        """`budget`: what all channels to clients' children share for the large envelopes that they receive."""
        self.loop = loop
        self.router = router
        self.flow = Flow(loop, policy, budget, self.send)
        self._budget = budget
        self._reachable: dict[Peer, Process] = {}
        self._touched: set[Process] = set()
        self._crash_at = ""

    def join(self, process: P, read: Callable[[P], None], ended: Callable[[P, Exception | None], None]) -> None:
        """A process runs: what is for it is sent, and while it has sent something, `hear` is called with the others."""
        self._reachable[process.peer] = process
        self.flow.joined(process)
        self.loop.watch(process.fd, partial(self.hear, process, read, ended), lambda: self._flush(process))

    def hear(self, process: P, work: Callable[[P], None], ended: Callable[[P, Exception | None], None]) -> None:
        """Do something that the process has asked for.

        `ended` is called with what went wrong, or with None if the channel has ended.
        """
        try:
            work(process)
        except Exception as fault:
            ended(process, fault)
        else:
            if process.channel.closed:
                ended(process, None)

    def part(self, process: Process) -> None:
        """The channel has ended, or is not to be believed any more; who calls this closes it."""
        self.flow.gone(process)
        del self._reachable[process.peer]
        self._touched.discard(process)
        self.loop.forget(process.fd)

    def find(self, peer: Peer) -> Process | None:
        """The process with this number, if its channel is open."""
        return self._reachable.get(peer)

    def send(self, process: Process, buffers: Sequence[Buffer]) -> None:
        """Queue an envelope for a process, to be flushed at the turn's end."""
        process.channel.send(buffers)
        self._touched.add(process)

    def dispatch(self, cause: Client | None) -> None:
        """Queue what the router wants to be sent, as far as its receivers are still there. The hot path.

        `cause`: the child to be held if that is too much for a receiver; nobody, if it has to be heard by all.
        """
        reachable, touch = self._reachable.get, self._touched.add
        for peer, buffers in self.router.take():
            if crash is not None:
                self._crash_at = _CRASH_AFTER.get(buffers[0][KIND_AT], self._crash_at)
            process = reachable(peer)
            if process is not None:
                channel = process.channel
                channel.send(buffers)
                touch(process)
                if channel.pending > process.high:
                    self.flow.exceeded(cause, process, buffers)

    def crash_at_turn_end(self, point: str) -> None:
        """A fault seam: the parent may be made to crash there."""
        self._crash_at = point

    def end_turn(self) -> None:
        """One gather write for each channel that something was queued for."""
        if self.router.is_behind is not self._budget.is_paused:
            # what was received and is not written yet is in memory as well
            self._budget.pause(self.router.is_behind)
        if self._budget.granted:
            self.flow.feed()
        touched, self._touched = self._touched, set()
        for process in touched:
            self._flush(process)
        if crash is not None and self._crash_at:
            crash(self._crash_at, "")
            self._crash_at = ""

    def _flush(self, process: Process) -> None:
        is_done = process.channel.flush()
        if is_done is process.writing:
            process.writing = not is_done
            self.loop.want_writable(process.fd, process.writing)
        if self.flow.held_by:
            self.flow.flushed(process)

    def close(self) -> None:
        """Close all channels, at the parent's own end."""
        for process in self._reachable.values():
            process.channel.close()
