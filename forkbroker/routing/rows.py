"""What peers have sent and what is still to be done about it, as one turn of the loop does not do more than a part.

In each turn so many steps are done at once, of all peers together; what comes then waits in its peer's row. A step is
one envelope, or one part of an envelope that is much work (a transaction, a cumulative acknowledgement), or of a
peer's end. All that a peer sends is applied in its order, so what comes while something of it waits stands behind that;
its end as well. Peers take turns.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from forkbroker.routing.chores import Work, advance
from forkbroker.routing.peers import Peer

Begin = Callable[[], Work | None]
"""Do something, or return the steps in which it is to be done."""


class _Row:
    """What waits of one peer."""

    __slots__ = ("entries", "has_end", "work")

    def __init__(self) -> None:
        self.work: Work | None = None
        """What has begun."""
        self.entries: deque[Begin] = deque()
        """What comes after it."""
        self.has_end = False
        """The last entry is the peer's end."""

    def drop_words(self) -> bool:
        """Leave nothing but the peer's end; tell whether it is there."""
        self.work = None
        while len(self.entries) > self.has_end:
            self.entries.popleft()
        return bool(self.entries)


class Rows:
    """All peers of which something waits."""

    def __init__(self, steps: int) -> None:
        """`steps`: so many in one turn, and half as many more for what waits: new words must not starve old ones."""
        self._steps = steps
        self._for_new = 0
        self._for_waiting = 0
        self.by_peer: dict[Peer, _Row] = {}
        """Those of whom something waits, first whose turn it is; to read."""
        self._spent = 0
        self.renew()

    def __contains__(self, peer: object) -> bool:
        """Tell whether something of this peer waits."""
        return peer in self.by_peer

    def renew(self) -> None:
        """A new turn."""
        self._for_new = self._steps
        self._for_waiting = (self._steps + 1) // 2

    def take_turn(self, peer: Peer) -> bool:
        """Tell whether what the peer sends now is applied at once; if so it is counted."""
        if self._spent:
            self._for_new -= self._take_spent()
        if self._for_new <= 0 or (self.by_peer and peer in self.by_peer):
            return False
        self._for_new -= 1
        return True

    def spend(self, steps: int) -> None:
        """What is being done takes as long as so many more steps."""
        self._spent += steps

    def _take_spent(self) -> int:
        spent, self._spent = self._spent, 0
        return spent

    def put(self, peer: Peer, begin: Begin) -> None:
        """Do this when all that waits of the peer is done."""
        row = self.by_peer.get(peer)
        if row is None:
            row = self.by_peer[peer] = _Row()
        row.entries.append(begin)

    def end(self, peer: Peer, begin: Begin) -> None:
        """Do this last of all, and at once where nothing waits."""
        if self.take_turn(peer):
            work = begin()
            if work is not None:
                self.start(peer, work)
        else:
            self.put(peer, begin)
            self.by_peer[peer].has_end = True

    def has_ended(self, peer: Peer) -> bool:
        """Tell whether the peer's end waits."""
        return peer in self.by_peer and self.by_peer[peer].has_end

    def start(self, peer: Peer, work: Work) -> None:
        """Nothing of the peer waits: begin with this, and go on with it in further turns if it is long."""
        row = self.by_peer[peer] = _Row()
        row.work = work
        self._for_new -= self._run(peer, row, max(1, self._for_new))

    def go_on(self, peer: Peer) -> None:
        """Do the peer's part of this turn. If this raises, nothing of the peer waits any more but its end."""
        row = self.by_peer.get(peer)
        left = max(0, self._for_new) + self._for_waiting
        if row is None or left <= 0:
            return
        self._for_waiting -= self._run(peer, row, -(-left // len(self.by_peer)))
        if peer in self.by_peer:
            # behind the others
            self.by_peer[peer] = self.by_peer.pop(peer)

    def _run(self, peer: Peer, row: _Row, most: int) -> int:
        """Do so many steps at most; return how many."""
        steps = 0
        try:
            while steps < most and (row.work is not None or row.entries):
                steps += 1
                if row.work is None:
                    row.work = row.entries.popleft()()
                elif advance(row.work):
                    row.work = None
                steps += self._take_spent()
        except Exception:
            if not row.drop_words():
                del self.by_peer[peer]
            raise
        if row.work is None and not row.entries:
            del self.by_peer[peer]
        return steps
