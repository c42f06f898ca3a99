"""Consumers of a queue, and in which order they are asked.

A consumer is *willing* while it has credit, its child has room and answers, and no exclusive consumer keeps it out.
The willing ones stand in a row: who is asked goes to its end, who was asked and was not the fastest goes back to its
head, so that the one served longest ago is asked first. Being willing is noted when it changes, not looked for when
an offer is made: a hundred consumers that wait cost nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from forkbroker.routing.peers import Peer, Token
from forkbroker.routing.unsettled import Unsettled

if TYPE_CHECKING:
    from forkbroker.routing.queue import Queue


MAX_OPEN_OFFERS = 16
"""Offers that one consumer may leave unanswered: a child that is stopped must not use up the slots of all others."""


class Consumer:
    """One subscription of one child to one queue."""

    __slots__ = (
        "auto",
        "exclusive",
        "free",
        "has_passed",
        "is_gone",
        "is_guarded",
        "key",
        "open_offers",
        "overdue",
        "peer",
        "queue",
        "token",
        "unsettled",
        "withheld",
    )

    def __init__(self, queue: Queue, *, peer: Peer, token: Token, credit: int, auto: bool, exclusive: bool) -> None:
        """`credit` is in messages; `auto`: deliveries settle when written."""
        self.queue = queue
        self.peer = peer
        self.token = token
        self.key = (peer, token)
        self.auto = auto
        self.exclusive = exclusive
        self.free = credit
        """Credit that neither an open offer nor an unsettled message uses."""
        self.has_passed = False
        """The child had no room: not asked before it says READY."""
        self.open_offers = 0
        """Offers that it has not answered."""
        self.overdue = 0
        """Offers that it has not answered for too long: not asked before it answers."""
        self.is_gone = False
        """Unsubscribed, or its child ended: open offers may still name it."""
        self.is_guarded = False
        """It was offered, or holds, a message that a crash has made suspect: alone, or others would be suspect too."""
        self.unsettled = Unsettled()
        self.withheld = 0
        """Credit of messages whose lease has ended, until they are settled after all."""

    @property
    def is_idle(self) -> bool:
        """It holds nothing, and nothing is on its way to it."""
        return not (self.unsettled or self.open_offers or self.withheld)

    def regain(self, late: int) -> None:
        """So many messages that it did not hold were settled: those whose lease had ended, if there were such."""
        credit = min(late, self.withheld)
        self.withheld -= credit
        self.free += credit


class Consumers:
    """All consumers of one queue."""

    __slots__ = ("_all", "_exclusive", "willing")

    def __init__(self) -> None:
        """Start without any."""
        self._all: dict[Consumer, None] = {}
        self._exclusive: dict[Consumer, None] = {}
        self.willing: OrderedDict[Consumer, None] = OrderedDict()
        """Who can be asked now, first the one to ask first."""

    def __len__(self) -> int:
        """How many there are."""
        return len(self._all)

    def add(self, consumer: Consumer) -> None:
        """A new one. The first exclusive one shuts all others out."""
        self._all[consumer] = None
        if consumer.exclusive:
            self._exclusive[consumer] = None
            self._refresh_all()
        else:
            self.refresh(consumer)

    def remove(self, consumer: Consumer) -> None:
        """It ended. The oldest exclusive one that is left takes over; without any, all are served again."""
        del self._all[consumer]
        self.willing.pop(consumer, None)
        if consumer.exclusive:
            del self._exclusive[consumer]
            self._refresh_all()

    def refresh(self, consumer: Consumer) -> None:
        """Note whether this one, which is no consumer any more or whose state has changed, is willing now."""
        if consumer.is_guarded and consumer.is_idle:
            consumer.is_guarded = False
        if (
            consumer.free > 0
            and consumer.open_offers < MAX_OPEN_OFFERS
            and not consumer.has_passed
            and not consumer.overdue
            and not consumer.is_gone
            and not consumer.is_guarded
            and (not self._exclusive or consumer is next(iter(self._exclusive)))
        ):
            self.willing[consumer] = None
        else:
            self.willing.pop(consumer, None)

    def settle_by(self, peer: Peer) -> bool:
        """Whether this peer acknowledges messages of the queue."""
        return any(consumer.peer == peer and not consumer.auto for consumer in self._all)

    def take(self, most: int) -> list[Consumer]:
        """The first `most` of the row, or as many as there are; they leave it. `charge` puts them back."""
        pop = self.willing.popitem
        return [pop(last=False)[0] for _ in range(min(most, len(self.willing)))]

    def take_idle(self) -> list[Consumer]:
        """The first of the row that holds nothing, if there is one; it leaves the row."""
        for consumer in self.willing:
            if consumer.is_idle:
                del self.willing[consumer]
                return [consumer]
        return []

    def charge(self, taken: list[Consumer], count: int) -> None:
        """These were offered `count` messages: whose credit allows more goes to the end of the row."""
        for consumer in taken:
            consumer.free -= count
            consumer.open_offers += 1
            if consumer.free > 0 and consumer.open_offers < MAX_OPEN_OFFERS:
                self.willing[consumer] = None

    def prefer(self, consumer: Consumer) -> None:
        """It was asked, and got nothing: ask it first, if it is willing."""
        if consumer in self.willing:
            self.willing.move_to_end(consumer, last=False)

    def _refresh_all(self) -> None:
        for consumer in self._all:
            self.refresh(consumer)
