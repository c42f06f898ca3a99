"""Children that are kept for a message that a crash has made suspect (see `blame.py`): nothing else is offered to them.

A suspect goes to a child that holds nothing, and the child is kept for it until it holds nothing again. While no child
of the queue's consumers is idle, one of them is kept until it is, and the queue offers nothing: what its consumers hold
keeps them busy. As soon as any of them is idle, it gets the suspect, and the others go on.

Both end after a time, as there are consumers that settle nothing before they have several messages. Then the suspect
stands beside others, and a crash that comes convicts none of them. The time grows with the message's deliveries, so a
message whose consumer crashes late is alone for long enough in the end.
"""

from __future__ import annotations

from forkbroker.routing.handover import Rule
from forkbroker.routing.offers.consumers import Child
from forkbroker.routing.peers import Peer
from forkbroker.routing.queues.queue import Queue
from forkbroker.routing.queues.runs import Run
from forkbroker.routing.timers import Timers

MAX_GUARD_S = 600.0
"""For so long a child is kept for a suspect that it has, at most."""
MAX_WAIT_S = 10.0
"""For so long a queue waits for an idle child, at most: all that stands behind the suspect waits with it."""


class Guards(Rule):
    """All children that are kept for a suspect, and all queues that wait for an idle one."""

    DUMPED = ("_kept", "waiting")

    def __init__(self, timers: Timers, changed: dict[Queue, None], eased: dict[Child, None]) -> None:
        """In `changed` and `eased` it is noted for which queues and children an offer may have become possible."""
        self._timers = timers
        self._timer = timers.add("guard", self._end)
        self._changed = changed
        self._eased = eased
        self._kept: dict[Peer, Child] = {}
        self.waiting: dict[Queue, tuple[float, Child]] = {}
        """Queues that wait for an idle child: until when, and which one is to become so; to read."""

    def give(self, child: Child, queue: Queue, run: Run) -> None:
        """The idle child is offered this suspect."""
        self.stop_waiting(queue)
        self._keep(child, queue, _grow(run, MAX_GUARD_S))
        child.has_suspect = True

    def must_wait(self, queue: Queue, run: Run, child: Child) -> bool:
        """No child is idle: tell whether to wait for that. `child`, which is kept for nothing, is to become so."""
        if queue not in self.waiting:
            wait_s = _grow(run, MAX_WAIT_S)
            self.waiting[queue] = (self._timers.now + wait_s, child)
            self._keep(child, queue, wait_s)
        return self._timers.now < self.waiting[queue][0]

    def stop_waiting(self, queue: Queue) -> None:
        """The queue has no suspect in front any more, or nobody to give it to, or an idle child."""
        _, child = self.waiting.pop(queue, (0.0, None))
        if child is not None and child.kept_for is queue and not child.has_suspect:
            self.let_go(child)

    def become_idle(self, child: Child) -> None:
        """The child holds nothing now: it has settled the suspect, or is ready for it."""
        if child.kept_for is not None and not child.has_suspect:
            self._changed[child.kept_for] = None
        elif child.kept_for is not None:
            self.let_go(child)

    def forget(self, child: Child) -> None:
        """The child has ended."""
        queue = child.kept_for
        if queue is None:
            return
        if queue in self.waiting and self.waiting[queue][1] is child:
            del self.waiting[queue]
        self.let_go(child)

    def let_go(self, child: Child) -> None:
        """Keep the child for nothing any more."""
        del self._kept[child.peer]
        self._timer.cancel(child.peer)
        if child.kept_for is not None:
            self._changed[child.kept_for] = None
        child.kept_for, child.has_suspect = None, False
        self._eased[child] = None

    def _keep(self, child: Child, queue: Queue, for_s: float) -> None:
        child.kept_for = queue
        self._kept[child.peer] = child
        self._timer.after(for_s * 1000, child.peer)

    def _end(self, peer: Peer) -> None:
        self.let_go(self._kept[peer])


def _grow(run: Run, most: float) -> float:
    """A time (seconds) that doubles with each delivery: one second after the first."""
    return float(min(most, 1 << max(0, min(run.deliveries, 16) - 1)))
