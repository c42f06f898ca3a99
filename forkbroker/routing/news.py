"""What happens, for whoever has subscribed to the topics below `/topic/$SYS/events/`.

A rule that has something to tell asks for `listeners` first, so nothing of it is made while there are none. Events wait
here until the parent process publishes them, at the end of the turn in which they happened. A flood of them (clients
that connect and go, a thousand dead letters) does not make a turn long: what is too much for one is only counted.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from forkbroker.routing.handover import Rule

MOST = 200
"""Events in one turn at most: some 5 ms of work to publish them."""

EVENTS = {
    "connect": "A client has logged in.",
    "disconnect": "A client that had logged in is gone.",
    "queue-made": "There is one queue more.",
    "queue-deleted": "A queue has ended.",
    "queue-full": "A queue has reached a limit.",
    "dead-letter": "Messages were moved to the dead letters.",
    "store": "The store works, or does not.",
    "reload": "The configuration was read again.",
    "phase": "The end of the broker has begun, or has come further; or the broker is drained, or is no longer.",
}
"""The last level of the topic of each event, and what has happened."""


class News(Rule):
    """What has happened in this turn."""

    ANEW = ("listeners", "names", "waiting", "missed")
    """Listeners are counted anew; nothing waits between two turns."""

    def __init__(self) -> None:
        """Start without listeners."""
        self.listeners = 0
        """How many listen to what the broker says of itself: rules look here first."""
        self.names: Counter[bytes] = Counter()
        """The names, and widened patterns, that they listen to."""
        self.waiting: list[tuple[str, dict[str, Any]]] = []
        """What is to be published: events, and what is to be said of each."""
        self.missed = 0
        """Events that were too much for their turn, and are to be told of with the next one."""

    def listen(self, name: bytes) -> None:
        """Somebody subscribes to a name or pattern below `/topic/$SYS/`."""
        self.names[name] += 1
        self.listeners += 1

    def ignore(self, name: bytes) -> None:
        """The opposite of one `listen`."""
        self.names[name] -= 1
        if not self.names[name]:
            del self.names[name]
        self.listeners -= 1

    def tell(self, event: str, **details: Any) -> None:
        """Something has happened; `event` is one of `EVENTS`, `details` are JSON."""
        if len(self.waiting) < MOST:
            self.waiting.append((event, details))
        else:
            self.missed += 1

    def take(self) -> list[tuple[str, dict[str, Any]]]:
        """What is to be published, each once. The first one says how many were left out before it."""
        taken, self.waiting = self.waiting, []
        return taken
