"""What every rule of routing has at hand: time, turns, figures, and what it has to say to others.

One kit belongs to one router. A rule takes from it what it needs, so that its constructor names only the parts of the
house that it works with.
"""

from __future__ import annotations

from collections.abc import Callable

from forkbroker.routing.chores import STEPS, Chores
from forkbroker.routing.counters import Counters
from forkbroker.routing.handover import Rule
from forkbroker.routing.news import News
from forkbroker.routing.peers import Outbox, Peer
from forkbroker.routing.rows import Rows
from forkbroker.routing.timers import Timers


class Kit(Rule):
    """The things that all rules of one router share."""

    DUMPED = ("timers", "counters", "notes", "events", "rejected", "culprits")
    ANEW = ("steps", "is_at_rest", "rows", "chores", "out", "news")
    """Rows, chores and what is to be sent are empty when a dump is made."""
    __slots__ = (
        "chores",
        "counters",
        "culprits",
        "events",
        "is_at_rest",
        "news",
        "notes",
        "out",
        "rejected",
        "rows",
        "steps",
        "timers",
    )

    def __init__(self, wall: Callable[[], float], steps: int = STEPS) -> None:
        """`wall` gives seconds since the epoch; `steps`: so many of each kind of work in one turn."""
        self.steps = steps
        self.timers = Timers(wall)
        self.rows = Rows(steps)
        """What peers have sent, and what is still to be done about it."""
        self.chores = Chores(steps)
        """What is too long for one turn."""
        self.is_at_rest = False
        """Since the last turn nothing has come but what was only forwarded: nothing follows from it."""
        self.counters = Counters()
        self.out: Outbox = []
        """What is to be sent."""
        self.notes: list[str] = []
        """What an administrator should know."""
        self.events: list[str] = []
        """Normal events that are worth a line in the log."""
        self.rejected: list[tuple[Peer, str]] = []
        """Dead letters by NACK: the peer that has sent it, and what is to be said of it in the log."""
        self.news = News()
        """What happens, for whoever has subscribed to it."""
        self.culprits: dict[Peer, str] = {}
        """Peers that are to be ended, and why."""
