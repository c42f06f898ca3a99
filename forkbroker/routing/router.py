"""The router: envelopes from peers in, envelopes to peers out.

Three verbs: `receive` what a peer has sent, `tick` when time has passed and once a turn of the loop, `take` what is to
be sent. Topics are forwarded at once and untouched, to whoever may be interested; messages to queues wait and are
offered. What the store says comes in by a door of its own (`stored.py`).

What is to be sent to one peer leaves in the order in which it came about, but for FENCED and REFUSED: FENCED says that
all before its fence has been applied and, as far as it is persistent, written.

Nonsense from a child raises, and ends that child; it does no harm to others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from math import inf
from typing import Any

from forkbroker.destinations import is_queue
from forkbroker.errors import EnvelopeError
from forkbroker.patterns import PatternError
from forkbroker.routing.ages import Ages
from forkbroker.routing.chores import STEPS, Work
from forkbroker.routing.counters import QueueView
from forkbroker.routing.handover import Rule, dump, load
from forkbroker.routing.holding import Holding
from forkbroker.routing.jobs.jobs import Jobs
from forkbroker.routing.keeping.keeping import Keeping
from forkbroker.routing.kit import Kit
from forkbroker.routing.moving import Moving
from forkbroker.routing.offers.claims import Slots
from forkbroker.routing.offers.offering import Offering
from forkbroker.routing.offers.offers import EVENTS
from forkbroker.routing.peers import Outbox, Peer, Token
from forkbroker.routing.queues.policies import Policy
from forkbroker.routing.records import RECORDS
from forkbroker.routing.sending import Forwarding, Sending
from forkbroker.routing.sights import Sights
from forkbroker.routing.stored import Stored
from forkbroker.routing.topics.topics import Topics
from forkbroker.wire.envelope import Buffer, Envelope, pack, pack_number
from forkbroker.wire.fields import OF_CHILD, check_head
from forkbroker.wire.kinds import Flag, Kind

_FENCE = int(Flag.FENCE)
_BRINGING = (Kind.SEND, Kind.TRANSACTION)
"""What the journal grows by."""


class Router(Rule):
    """Topics and queues of one broker."""

    DUMPED = ("_kit", "_keeping", "_jobs", "_topics", "_offering", "_stored", "_ages", "holding")
    ANEW = (
        *("_next", "_methods", "waiting", "awaits_commit", "is_behind"),
        *("asked", "sights", "moving", "durables", "delays", "news"),
    )

    def __init__(self, policy: Policy, slots: Slots, wall: Callable[[], float], *, steps: int = STEPS) -> None:
        """`slots` are the router's alone to post; `wall` gives seconds since the epoch.

        `steps`: so many of each kind of work in one turn of the parent's loop; what is left goes on in the next one.

        Nothing is told to the store, and what is persistent waits for it, until it is OPENED. Nor does `tick` do
        anything before the first store is: a delayed message that fired between two others which the store tells of
        would get a serial that one of those has.
        """
        kit = self._kit = Kit(wall, steps)
        self._next = inf
        """When there is something to do, if the router is at rest."""
        self.counters = kit.counters
        self._timers = kit.timers
        self._rows = kit.rows
        self.waiting: Mapping[Peer, object] = kit.rows.by_peer
        """Peers of which something is to be applied, or whose end is: no more should be received from these."""
        self.news = kit.news
        """What happens, and whether anybody wants to know: the parent adds to it, and takes it out in each turn."""
        self.out = kit.out
        """What `take` returns next; to read."""
        self.awaits_commit = False
        """After the last turn the store had been told of something that it had not answered."""
        self.is_behind = False
        """The store had so much to write in the last turn that producers wait; one that can't write holds nobody, it
        refuses."""
        self.asked: list[tuple[Peer, Envelope]] = []
        """ASKs, in the order in which they came to be applied: the parent takes them out in each turn."""
        self.culprits = kit.culprits
        """Peers that have sent what can't be dealt with, as has shown later, and why. Who has ended one removes it."""
        self.rejected = kit.rejected
        """Dead letters by NACK, for the log: the parent takes them out in each turn."""
        keeping = self._keeping = Keeping(kit, policy)
        self._queues, self._journal = keeping.queues, keeping.journal
        jobs = self._jobs = Jobs(kit, policy, keeping)
        self._topics = Topics(kit, policy, keeping)
        offering = self._offering = Offering(kit, policy, slots, keeping, jobs.returns, self._topics.durables)
        self.holding = Holding(kit, keeping.queues, keeping.journal)
        """Queues that an administrator holds."""
        self._stored = Stored(kit, keeping, jobs, self._topics, self.holding)
        self._ages = Ages()
        self.sights = Sights(kit, keeping, self._topics, jobs.delays, offering.clientele, self._ages)
        """What there is, for whoever looks."""
        self.durables = self._topics.durables
        """Durable subscriptions."""
        self.delays = jobs.delays
        """Messages that wait for their time."""
        self.moving = Moving(kit, keeping, jobs.returns)
        """What an administrator does with messages."""
        forwarding = Forwarding(kit, keeping.queues, keeping.journal, self._topics, jobs.intake)
        sending = Sending(kit, keeping.queues, jobs.intake, forwarding, offering, keeping.journal)
        # each gives None, or the reason of a refusal, or steps that end with one of these
        self._methods: dict[Kind, Callable[[Peer, Envelope], str | Work | None]] = {
            Kind.SEND: sending.send,
            Kind.TRANSACTION: sending.transaction,
            Kind.SUBSCRIBE: self._subscribe,
            Kind.UNSUBSCRIBE: self._unsubscribe,
            Kind.READY: self._ready,
            **dict.fromkeys(EVENTS, offering.offers.receive),
            Kind.SETTLE: sending.settle,
            Kind.PARK: offering.parking.park,
            Kind.UNPARK: offering.parking.unpark,
            Kind.FENCE: self._fence,
            Kind.ASK: self._ask,
        }

    def adopt(self, policy: Policy) -> None:
        """Heed other settings: new queues and subscriptions at once, queues that exist in steps.

        What is fixed for the life of a router stays: `broadcast_all` and `queue_memory`.
        """
        self._kit.is_at_rest = False
        self._queues.adopt(policy)
        self._topics.durables.limit = policy.max_durables
        self._jobs.adopt(policy)
        self._offering.adopt(policy)
        self._kit.chores.add(self._adapt())

    def _adapt(self) -> Iterator[None]:
        for queue in self._queues.all():
            if not queue.is_gone and self._queues.adapt(queue):
                yield from self._offering.leases.renew(queue)
                self._topics.durables.watch_again(queue.name)
                self._jobs.returns.make_room(queue)
            yield

    def add_peer(self, peer: Peer) -> None:
        """A new peer; its number was never used before."""
        self._topics.interest.add_peer(peer)
        self._offering.clientele.add_peer(peer)

    def allot(self, user: str, max_queues: int, max_octets: int, peer: Peer | None = None) -> None:
        """So many queues, and octets in them, may the clients of a user make, of which this peer is one; 0: any."""
        self._queues.accounts.allot(user, max_queues, max_octets, peer)

    def allotted(self) -> list[str]:
        """The users to whom something is allotted."""
        return self._queues.accounts.users()

    def peer_ended(self, peer: Peer, now: float, crash: str = "") -> None:
        """The peer's process is gone, and all that it has sent was received; `crash`: how it ended, if it crashed."""
        self._timers.now = now
        self._kit.is_at_rest = False
        self._offering.clientele.begin_to_end(peer)
        self._rows.end(peer, lambda: self._end_peer(peer, crash))

    def _end_peer(self, peer: Peer, crash: str) -> Work:
        yield from self._offering.attendance.peer_ended(peer, crash)
        yield from self._topics.interest.peer_ended(peer)
        self._queues.peer_ended(peer)
        self._jobs.delays.peer_ended(peer)
        self._journal.peer_ended(peer)
        return None

    def store_ended(self, reason: str) -> None:
        """The store's process is gone; `reason` when it could not do its work. Another one will be OPENED."""
        self._kit.is_at_rest = False
        self._stored.ended(reason)

    def receive(self, peer: Peer, envelope: Envelope, now: float) -> None:
        """Apply what a peer has sent, or let it wait: what is too much for one turn, and what comes behind that.

        Raises:
            EnvelopeError: it can't be decoded, is not the router's business, or makes no sense.
            AssertionError: it claims what can't be.
        """
        self._timers.now = now
        kind = envelope.kind
        if kind not in self._methods:
            raise EnvelopeError(f"{kind.name} is not the router's business")
        fields = check_head(envelope, OF_CHILD)
        if kind is not Kind.TRANSACTION:
            # else its parts are checked before any of them is applied, but not all in one turn
            fields.content(envelope)
        envelope.sender = peer
        if kind is not Kind.SEND:
            # where a SEND goes it is known whether more than forwarding follows
            self._kit.is_at_rest = False
        if not self._rows.take_turn(peer):
            self._kit.is_at_rest = False
            self._rows.put(peer, lambda: self._apply(peer, envelope))
            return
        work = self._apply(peer, envelope)
        if work is not None:
            self._rows.start(peer, work)

    def go_on(self, peer: Peer, now: float) -> None:
        """Apply some more of what the peer has sent: to be called once in each turn for each that is waiting.

        Raises:
            EnvelopeError, AssertionError: as `receive`. The rest of what waits is forgotten then.
        """
        self._timers.now = now
        self._kit.is_at_rest = False
        try:
            self._rows.go_on(peer)
        except (EnvelopeError, AssertionError) as error:
            if not self._rows.has_ended(peer):
                raise
            self._kit.notes.append(f"client {peer}: sent an invalid envelope before it ended: {error}")

    def _apply(self, peer: Peer, envelope: Envelope) -> Work | None:
        journal, kind = self._journal, envelope.kind
        before = journal.last
        outcome = self._methods[kind](peer, envelope)
        if outcome is not None and not isinstance(outcome, str):
            return self._work_off(peer, envelope, outcome)
        if outcome is None and journal.last == before and kind is not Kind.FENCE and not envelope.flags & _FENCE:
            # nothing follows from it: most envelopes are like that, so they come no further
            return None
        has_brought = journal.last != before and self._attribute(peer, before)
        self._finish(peer, envelope, outcome, has_brought=has_brought)
        return None

    def _work_off(self, peer: Peer, envelope: Envelope, work: Work) -> Work:
        has_brought = False
        while True:
            before = self._journal.last
            try:
                next(work)
            except StopIteration as end:
                has_brought |= self._attribute(peer, before)
                self._finish(peer, envelope, end.value, has_brought=has_brought)
                return None
            has_brought |= self._attribute(peer, before)
            yield

    def _attribute(self, peer: Peer, before: int) -> bool:
        """Note that the peer has brought about what the store was told since; tell whether there is any of that."""
        if self._journal.last == before:
            return False
        self._journal.attribute(peer, before)
        return True

    def _finish(self, peer: Peer, envelope: Envelope, reason: str | None, *, has_brought: bool) -> None:
        """The envelope is applied, or refused."""
        journal = self._journal
        if has_brought and journal.is_full and envelope.kind in _BRINGING:
            self._keeping.custody.hold_for_store(peer)
        is_fence = envelope.flags & _FENCE or envelope.kind is Kind.FENCE
        if reason is not None:
            number = envelope.number if is_fence else 0
            journal.refuse(peer, pack(Kind.REFUSED, number=number, block=reason.encode()))
        elif is_fence:
            fenced = pack_number(Kind.FENCED, envelope.number)
            if journal.is_busy:
                journal.answer(peer, fenced)
            else:
                # nobody waits for anything
                self.out.append((peer, fenced))

    def receive_stored(self, envelope: Envelope, now: float) -> None:
        """Apply what the store says.

        Raises:
            EnvelopeError: it can't be decoded, or is not the router's business.
            AssertionError: it can't be true.
        """
        self._timers.now = now
        self._kit.is_at_rest = False
        self._stored.receive(envelope)

    def tick(self, now: float) -> bool:
        """Make the offers that have become possible, and deal with what is due or overdue.

        False: nothing has come and nothing was due, so `deadline` is what it was. The hot path: no rule is called that
        has nothing to do.
        """
        if not self._stored.has_opened:
            return False
        kit, timers, offering = self._kit, self._timers, self._offering
        timers.now = now
        kit.rows.renew()
        if kit.is_at_rest and now < self._next:
            return False
        if self._journal.is_busy or self._keeping.custody.pending:
            self._stored.tick()
        if kit.chores.has_run:
            kit.chores.go_on()
        if timers.next_wait <= now or timers.next_date < inf:
            timers.run_due()
        if self._queues.expiring:
            self._jobs.returns.tick()
        if offering.claims.timely or offering.ahead.kept:
            offering.offers.end_overdue(now)
        if offering.clientele.eased:
            offering.clientele.ease()
        if self._queues.changed:
            offering.offers.tick(now)
        self.awaits_commit = self._journal.is_busy
        self.is_behind = self._journal.telling.octets >= self._journal.most and not self._journal.refusal
        self._next = self._find_deadline()
        # dates follow the system clock, which may have been set when they are looked at again
        kit.is_at_rest = timers.next_date == inf
        return True

    def stop_offers(self) -> None:
        """Make no new deliveries to who acknowledges: the broker ends, and they only settle what they have."""
        self._kit.is_at_rest = False
        self._offering.clientele.stop()
        self._offering.parking.stop()

    def deadline(self) -> float | None:
        """When `tick` has something to do even if nothing is received (seconds); None: never."""
        if not self._stored.has_opened:
            return None
        when = self._next if self._kit.is_at_rest else self._find_deadline()
        return when if when < inf else None

    def _find_deadline(self) -> float:
        timers, offering = self._timers, self._offering
        if self._queues.expiring or self.waiting or self._kit.chores.all:
            return timers.now
        if (self._journal.is_busy or self._keeping.custody.pending) and not self.is_applied:
            return timers.now
        overdue = due = None
        if self._queues.changed or offering.claims.timely or offering.ahead.kept:
            overdue = offering.offers.deadline()
        if timers.next_wait < inf or timers.next_date < inf:
            due = timers.deadline()
        return min(inf if overdue is None else overdue, inf if due is None else due)

    def find_silent(self, since: float) -> set[Peer]:
        """Peers that have owed an answer since then (seconds): what they keep from others, their end would free."""
        return self._offering.claims.find_silent(since)

    def take(self) -> Outbox:
        """What is to be sent since the last `take`, in order. A list of buffers may stand there for several peers."""
        out = self._kit.out.copy()
        self._kit.out.clear()
        return out

    @property
    def last_change(self) -> int:
        """The number of the last change of what is stored."""
        return self._journal.last

    @property
    def is_committed(self) -> bool:
        """All that was received is applied, and what of it was told to the store will survive."""
        return self._journal.is_committed and self.is_applied

    @property
    def is_applied(self) -> bool:
        """All that was received is applied, and told to the store."""
        has_work, custody = self.waiting or self._kit.chores.all, self._keeping.custody
        return not (has_work or self._journal.is_behind or (custody.pending and custody.has_hidden()))

    def take_notes(self) -> list[str]:
        """What an administrator should know, each once."""
        notes = self._kit.notes.copy()
        self._kit.notes.clear()
        return notes

    def take_events(self) -> list[str]:
        """Return what is worth a line in the log and needs no attention, each once."""
        events = self._kit.events.copy()
        self._kit.events.clear()
        return events

    def describe(self) -> Iterable[str]:
        """Queues, durable subscriptions and the schedule, a line for each."""
        return self.sights.describe()

    def views(self) -> list[QueueView]:
        """All queues as they are now."""
        return self._queues.views()

    def find_listeners(self, destination: bytes) -> tuple[Peer, ...]:
        """The peers that may want what the broker itself sends to this topic."""
        return self._topics.interest.peers_for(destination)

    def note_time(self, now: float) -> None:
        """To be called about once a second: what comes from now on is younger, and what was rejected is told."""
        self._ages.note(self._queues.next_serial, now)
        self._jobs.returns.note_rejected()

    # -- what clients ask of the broker itself, as the parent carries it out

    @contextmanager
    def on_behalf_of(self, peer: Peer, now: float) -> Iterator[None]:
        """What is changed meanwhile is changed for this peer: `answer` waits until it will survive."""
        self._timers.now = now
        self._kit.is_at_rest = False
        before = self._journal.last
        try:
            yield
        finally:
            self._attribute(peer, before)

    def answer(self, peer: Peer, buffers: list[Buffer]) -> None:
        """Send this to the peer when all that it has brought about is committed."""
        self._journal.answer(peer, buffers)

    # -- another program

    @property
    def is_between_turns(self) -> bool:
        """Nothing is half done, and all that is to be sent was taken: what is known now can be handed over."""
        return not (self.waiting or self._kit.chores.all or self._kit.out or self.asked)

    def dump(self) -> dict[str, Any]:
        """Return all that is known, as plain data (`handover.py`).

        Raises:
            AssertionError: something is half done, as `is_between_turns` tells. Turns without new envelopes end that.
        """
        if not self.is_between_turns:
            raise AssertionError("rows, chores and what is to be sent are not empty, and cannot be dumped")
        return dump(self)

    def load(self, data: dict[str, Any]) -> None:
        """Know what another router has dumped; this one is new.

        The slots are those of the other one: an offer under way is known by the number of its semaphore.

        Raises:
            HandoverError: another version of this program has made the dump, or another configuration.
        """
        load(self, data, RECORDS)

    # -- what clients ask for; what they send is `Sending`'s

    def _subscribe(self, peer: Peer, envelope: Envelope) -> str | None:
        try:
            if envelope.flags & Flag.DURABLE or is_queue(envelope.destination):
                return self._offering.attendance.subscribe(peer, envelope)
            self._rows.spend(len(envelope.destination) // 32)
            self._topics.interest.add(peer, envelope.destination, envelope.block)
        except PatternError as error:
            raise EnvelopeError(f"SUBSCRIBE: {error}") from None
        return None

    def _unsubscribe(self, peer: Peer, envelope: Envelope) -> str | Work | None:
        if envelope.flags & Flag.DURABLE:
            return self._delete_durable(peer, envelope)
        if is_queue(envelope.destination):
            return self._offering.attendance.unsubscribe(peer, Token(envelope.token))
        try:
            self._topics.interest.remove(peer, envelope.destination)
        except KeyError:
            raise EnvelopeError(f"UNSUBSCRIBE: no interest in {envelope.destination!r}") from None
        except PatternError as error:
            raise EnvelopeError(f"UNSUBSCRIBE: {error}") from None
        return None

    def _delete_durable(self, peer: Peer, envelope: Envelope) -> Work:
        if envelope.token:
            yield from self._offering.attendance.unsubscribe(peer, Token(envelope.token))
        return self._topics.durables.delete(envelope.block)

    def _ready(self, peer: Peer, envelope: Envelope) -> None:
        self._offering.clientele.become_ready(peer)

    def _ask(self, peer: Peer, envelope: Envelope) -> None:
        """All before it has been applied, and the parent may carry it out."""
        self.asked.append((peer, envelope))

    def _fence(self, peer: Peer, envelope: Envelope) -> None:
        """All before it has been applied."""
