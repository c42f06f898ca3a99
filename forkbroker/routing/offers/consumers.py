"""Consumers of a queue, and in which order they are asked.

A consumer is *willing* while it has credit, its child has room and answers, and no exclusive consumer keeps it out.
The willing ones stand in a row: who is asked goes to its end, who was asked and was not the fastest goes back to its
head, so that the one served longest ago is asked first. Being willing is noted when it changes, not looked for when
an offer is made: a hundred consumers that wait cost nothing.

Some bounds are not the consumer's but its child's: how many offers all its subscriptions leave unanswered, how many
octets they hold together, and whether the child is kept for a message that a crash has made suspect. They are looked at
when the consumer's turn comes. One that its child keeps out leaves the row, and comes back when something of the child
has changed: a child with a thousand subscriptions costs nothing while it is full.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Sequence
from itertools import islice

from forkbroker.routing.handover import Record
from forkbroker.routing.offers.holdings import Holdings
from forkbroker.routing.peers import Peer, Token
from forkbroker.routing.queues.queue import Queue
from forkbroker.routing.queues.runs import Run

Key = tuple[Peer, Token]


MAX_TEAM = 8
"""Consumers that share what is offered ahead, at most: each of them gets all of it."""
QUICK_S = 0.01
"""Who settles a message within this time (seconds) is quick. Its child may tell it 5 ms later."""


class Child(Record):
    """One peer as a consumer: all its subscriptions to queues, and what they were offered and hold together."""

    ANEW = ("max_octets",)
    """From who keeps all of them."""
    __slots__ = (
        "consumers",
        "has_ended",
        "has_suspect",
        "is_stopped",
        "kept_for",
        "kept_out",
        "max_octets",
        "octets",
        "open_offers",
        "passed",
        "peer",
        "withheld",
    )

    def __init__(self, peer: Peer, max_octets: int) -> None:
        """Start without subscriptions, which may be offered and hold `max_octets` together."""
        self.peer = peer
        self.max_octets = max_octets
        self.consumers: dict[Token, Consumer] = {}
        self.passed: list[Consumer] = []
        """Those that wait for READY."""
        self.kept_out: dict[Consumer, None] = {}
        """Those that are not willing because of what the others have; a dict for its order."""
        self.open_offers = 0
        """Offers that it has not answered."""
        self.octets = 0
        """The cost of what it was offered and holds."""
        self.withheld = 0
        """Messages that it lost by a lease, and has not settled since."""
        self.kept_for: Queue | None = None
        """The queue for whose suspect message it is kept: nothing else is offered to it."""
        self.has_suspect = False
        """The suspect was offered to it; else it is to become idle first."""
        self.has_ended = False
        """Its process is gone: nothing is offered to it any more."""
        self.is_stopped = False
        """The broker ends: nothing more is offered to those of its subscriptions that acknowledge."""

    @property
    def is_idle(self) -> bool:
        """It holds nothing, and nothing is on its way to it, for none of its subscriptions."""
        return not (self.octets or self.withheld)


class Consumer(Record):
    """One subscription of one child to one queue."""

    ANEW = ("key", "peer", "queue")
    __slots__ = (
        "auto",
        "child",
        "credit",
        "exclusive",
        "free",
        "has_passed",
        "is_gone",
        "is_quick",
        "is_returning",
        "keeps",
        "key",
        "octets",
        "overdue",
        "peer",
        "queue",
        "row",
        "since",
        "token",
        "unsettled",
        "withheld",
    )

    def __init__(
        self, row: Consumers, child: Child, *, token: Token, credit: int, auto: bool, exclusive: bool, keeps: int = 0
    ) -> None:
        """`row`: all of its queue; `credit` is in messages; `auto`: deliveries settle when written.

        `keeps`: so many messages can be offered to it ahead of its credit.
        """
        self.row = row
        self.queue = row.queue
        self.child = child
        self.peer = child.peer
        self.token = token
        self.key: Key = (child.peer, token)
        self.auto = auto
        self.exclusive = exclusive
        self.credit = credit
        self.free = credit
        """Credit that neither an open offer nor an unsettled message uses. It is below 0 after it was made less, and
        while something is offered ahead."""
        self.keeps = keeps
        self.since = 0.0
        """When it was offered a message that it had credit for, or settled one (seconds): the later of both."""
        self.is_quick = False
        """It settled its last message soon after that: it does little else but wait for the next one."""
        self.octets = 0
        """The cost of what it was offered and holds."""
        self.has_passed = False
        """The child had no room: not asked before it says READY."""
        self.overdue = 0
        """Offers that it has not answered for too long: not asked before it answers."""
        self.is_gone = False
        """Unsubscribed, or its child ended: open offers may still name it."""
        self.is_returning = False
        """What it held is being given back to the queue, in several turns of the loop."""
        self.unsettled = Holdings()
        self.withheld = 0
        """Credit of messages whose lease has ended, until they are settled after all."""

    def rebuild(self) -> None:
        """Note who and whose it is."""
        self.queue, self.peer = self.row.queue, self.child.peer
        self.key = (self.peer, self.token)

    def set_credit(self, credit: int, keeps: int) -> None:
        """Give it more, or less: then what it is offered and holds already may be more than that for a while."""
        self.free += credit - self.credit
        self.credit, self.keeps = credit, keeps

    def note_settled(self, now: float, *, has_returned: bool) -> None:
        """Find out whether it is quick; not if it gave something back, which it is to have before anything else."""
        self.is_quick = now - self.since < QUICK_S and not has_returned
        self.since = now

    @property
    def takes_ahead(self) -> bool:
        """Whether it is worth while to offer it something ahead: it is quick, and has something to do."""
        return self.is_quick and self.free <= 0 and not (self.has_passed or self.overdue)

    @property
    def room(self) -> int:
        """Octets that it may be offered now: then it has as much as is left for its child's others."""
        return (self.child.max_octets - self.child.octets - self.octets) // 2

    def accepts(self, run: Run, most_offers: int) -> bool:
        """Whether its child may be offered the first message of this run, having so many open offers at most."""
        child = self.child
        if child.kept_for is not None or child.open_offers >= most_offers:
            return False
        # `is_served` and `room`, which this would have to call for each offer
        if child.has_ended or (child.is_stopped and not self.auto):
            return False
        room = (child.max_octets - child.octets - self.octets) // 2
        return run.cost <= room or child.is_idle or run.cost_of(1) <= room

    @property
    def is_served(self) -> bool:
        """Whether anything may be offered to it, as far as that is its child's business."""
        child = self.child
        return not (child.has_ended or (child.is_stopped and not self.auto))

    def charge(self, count: int, octets: int) -> None:
        """It is offered this."""
        self.free -= count
        self.octets += octets
        self.child.octets += octets
        self.child.open_offers += 1

    def hold(self, octets: int) -> None:
        """It has claimed a message of so many octets that it was offered ahead."""
        self.free -= 1
        self.octets += octets
        self.child.octets += octets

    def discharge(self, octets: int) -> None:
        """It has this no more: what is settled, taken back, or was not claimed. Its credit is the caller's business."""
        self.octets -= octets
        self.child.octets -= octets

    def take_back(self, count: int, octets: int, *, has_passed: bool) -> None:
        """It was offered this, and has not got it: its credit is its own again.

        If it `has_passed`, its child had no room: it is not asked before READY.
        """
        self.free += count
        self.discharge(octets)
        if has_passed and not self.is_gone:
            self.has_passed = True
            self.child.passed.append(self)

    def withhold(self, count: int) -> None:
        """It has lost so many messages by a lease: their credit comes back with their settlement."""
        self.withheld += count
        self.child.withheld += count

    def regain(self, late: int) -> None:
        """So many messages that it did not hold were settled: those whose lease had ended, if there were such."""
        credit = min(late, self.withheld)
        self.withhold(-credit)
        self.free += credit


class Consumers(Record):
    """All consumers of one queue."""

    ANEW = ("_exclusive", "_readers", "_settling", "changed", "eased", "team", "willing")
    __slots__ = (
        "_all",
        "_common",
        "_exclusive",
        "_first",
        "_readers",
        "_settling",
        "changed",
        "eased",
        "queue",
        "team",
        "teams",
        "willing",
    )

    def __init__(self, queue: Queue, changed: dict[Queue, None], eased: dict[Child, None]) -> None:
        """Start without any. What the queue has to know of them is noted with it from now on.

        In `changed` and `eased` it is noted for which queues and children an offer may have become possible.
        """
        self.queue = queue
        self.changed = changed
        self.eased = eased
        self._readers = queue.readers
        self._all: dict[Consumer, None] = {}
        self._exclusive: OrderedDict[Consumer, None] = OrderedDict()
        self._common: OrderedDict[Consumer, None] = OrderedDict()
        """The willing ones that are not exclusive."""
        self._first: OrderedDict[Consumer, None] = OrderedDict()
        """The first exclusive one, if it is willing."""
        self._settling: dict[Peer, int] = {}
        """How many of each peer acknowledge."""
        self.willing = self._common
        """Who can be asked now, as far as its child allows it, first the one to ask first."""
        self.team: tuple[Consumer, ...] = ()
        """All that messages go to (the first exclusive one, or all), if they are few and may be offered some ahead."""
        self.teams = 0
        """So many teams there have been."""
        self._readers.all, self._readers.willing = self._all, self.willing
        self._readers.settling = self._settling

    def rebuild(self) -> None:
        """Note which of them are exclusive, and what the queue has to know."""
        self._exclusive = OrderedDict((consumer, None) for consumer in self._all if consumer.exclusive)
        self._settling = dict(Counter(consumer.peer for consumer in self._all if not consumer.auto))
        self._readers = self.queue.readers
        self._readers.all, self._readers.settling = self._all, self._settling
        self.willing = self._readers.willing = self._first if self._exclusive else self._common
        self._find_team()

    def __len__(self) -> int:
        """How many there are."""
        return len(self._all)

    def add(self, consumer: Consumer) -> None:
        """A new one. The first exclusive one shuts all others out."""
        self._all[consumer] = None
        if not consumer.auto:
            self._settling[consumer.peer] = self._settling.get(consumer.peer, 0) + 1
        if consumer.exclusive:
            self._exclusive[consumer] = None
            if len(self._exclusive) == 1:
                self._choose()
        else:
            self.place(consumer)
        self.change_team()

    def remove(self, consumer: Consumer) -> None:
        """It ended. The oldest exclusive one that is left takes over; without any, all are served again."""
        del self._all[consumer]
        if not consumer.auto:
            self._settling[consumer.peer] -= 1
            if not self._settling[consumer.peer]:
                del self._settling[consumer.peer]
        self._common.pop(consumer, None)
        if consumer.exclusive:
            was_first = consumer is next(iter(self._exclusive))
            del self._exclusive[consumer]
            if was_first:
                self._choose()
        self.change_team()

    def _choose(self) -> None:
        """There is another first exclusive one, or none. Costs the same however many others there are."""
        self._first.clear()
        first = next(iter(self._exclusive), None)
        self.willing = self._readers.willing = self._common if first is None else self._first
        if first is not None:
            self.place(first)

    def change_team(self) -> None:
        """There are others, or one of them may be offered more, or less."""
        self.teams += 1
        self._find_team()

    def _find_team(self) -> None:
        members = tuple(islice(self._exclusive, 1) if self._exclusive else islice(self._all, MAX_TEAM + 1))
        self.team = members if len(members) <= MAX_TEAM and all(one.keeps for one in members) else ()

    def refresh(self, consumer: Consumer) -> None:
        """Something of the consumer has changed: it may be willing now, or not be any more."""
        self.place(consumer)
        self.changed[self.queue] = None
        child = consumer.child
        if child.kept_out or child.kept_for is not None:
            # what has come back may permit offers to others of its subscriptions, or end what it is kept for
            self.eased[child] = None

    def place(self, consumer: Consumer) -> None:
        """Note whether this one, which is no consumer any more or whose state has changed, is willing now."""
        row = self._first if consumer.exclusive else self._common
        if (
            consumer.free > 0
            and not consumer.has_passed
            and not consumer.overdue
            and not consumer.is_gone
            and (not consumer.exclusive or consumer is next(iter(self._exclusive)))
        ):
            row[consumer] = None
        else:
            row.pop(consumer, None)

    def take(self, most: int, run: Run, most_offers: int) -> list[Consumer]:
        """Take the first `most` out of the row that accept this run, or as many as there are.

        Those that failed with it are taken only if there is no other one, and then the one that did so longest ago.
        `charge` puts them back.
        """
        willing, avoid = self.willing, run.avoid
        found: list[Consumer] = []
        avoided: list[Consumer] = []
        while willing and len(found) < most:
            consumer, _ = willing.popitem(last=False)
            if not consumer.accepts(run, most_offers):
                consumer.child.kept_out[consumer] = None
            elif consumer.key in avoid:
                avoided.append(consumer)
            else:
                found.append(consumer)
        if not avoided:
            return found
        if not found:
            found.append(min(avoided, key=lambda consumer: avoid.index(consumer.key)))
        for consumer in reversed(avoided):
            if consumer not in found:
                willing[consumer] = None
                willing.move_to_end(consumer, last=False)
        return found

    def take_idle(self, avoid: Sequence[Key] = ()) -> Consumer | None:
        """Take the first one out of the row whose child holds nothing at all, and is not kept for another queue.

        Those to `avoid` are not taken while another one is willing, which may become idle.
        """
        is_there_another = any(consumer.key not in avoid for consumer in self.willing)
        for consumer in self.willing:
            child = consumer.child
            is_free = child.is_idle and (child.kept_for is None or child.kept_for is consumer.queue)
            if is_free and consumer.is_served and not (is_there_another and consumer.key in avoid):
                del self.willing[consumer]
                return consumer
        return None

    def charge(self, taken: list[Consumer], count: int, octets: int) -> None:
        """These were offered `count` messages: whose credit allows more goes to the end of the row."""
        for consumer in taken:
            consumer.charge(count, octets)
            if consumer.free > 0:
                self.willing[consumer] = None

    def prefer(self, consumer: Consumer) -> None:
        """It was asked, and got nothing: ask it first, if it is willing."""
        if consumer in self.willing:
            self.willing.move_to_end(consumer, last=False)
