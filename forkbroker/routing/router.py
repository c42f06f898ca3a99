"""The router: envelopes from peers in, envelopes to peers out.

Three verbs: `receive` what a peer has sent, `tick` when time has passed and once a turn of the loop, `take` what is to
be sent. Topics are forwarded at once and untouched, to whoever may be interested (`forkbroker.routing.interest`);
messages to queues wait (`forkbroker.routing.queues`) and are offered (`forkbroker.routing.deliveries`).

The store is a peer like others (`STORE`): it is told what is to survive, and what memory has no room for, and gives
it back (`forkbroker.routing.journal`, `forkbroker.routing.paging`).

What is to be sent to one peer leaves in the order in which it came about, but for FENCED and REFUSED: FENCED says that
all before its fence has been applied and, as far as it is persistent, written.

Nonsense from a child raises, and ends that child; it does no harm to others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import repeat
from math import inf

from forkbroker.destinations import is_queue
from forkbroker.errors import EnvelopeError
from forkbroker.patterns import PatternError
from forkbroker.routing.chores import STEPS, Work, advance
from forkbroker.routing.claims import Event, Slots
from forkbroker.routing.counters import Counters, QueueView
from forkbroker.routing.delays import DelayLimits, Delays
from forkbroker.routing.deliveries import Deliveries
from forkbroker.routing.duplicates import Duplicates
from forkbroker.routing.durables import Durables
from forkbroker.routing.intake import Intake
from forkbroker.routing.interest import Everybody, Interest, Interested
from forkbroker.routing.journal import MAX_COPIES, Draft, Journal
from forkbroker.routing.listing import describe
from forkbroker.routing.misfits import Misfits
from forkbroker.routing.paging import Paging
from forkbroker.routing.peers import Outbox, Peer, Token
from forkbroker.routing.planning import Plan
from forkbroker.routing.policies import Full, Policy
from forkbroker.routing.queue import Queue
from forkbroker.routing.queues import Queues, shown
from forkbroker.routing.returns import Returns
from forkbroker.routing.rows import Rows
from forkbroker.routing.runs import make_run
from forkbroker.routing.strays import Strays
from forkbroker.routing.timers import Timers
from forkbroker.wire.envelope import Envelope, pack
from forkbroker.wire.fields import OF_CHILD, OF_STORE, check, check_head, check_parts
from forkbroker.wire.kinds import Flag, Kind

_FENCE = int(Flag.FENCE)
_PERSISTENT = int(Flag.PERSISTENT)
_BARE = int(Flag.BARE)
_BRINGING = (Kind.SEND, Kind.TRANSACTION)
"""What the journal grows by."""


class Router:
    """Topics and queues of one broker."""

    def __init__(self, policy: Policy, slots: Slots, wall: Callable[[], float], *, steps: int = STEPS) -> None:
        """`slots` are the router's alone to post; `wall` gives seconds since the epoch.

        `steps`: so many of each kind of work in one turn of the parent's loop; what is left goes on in the next one.

        Nothing is told to the store, and what is persistent waits for it, until it is OPENED. Nor does `tick` do
        anything before the first store is: a delayed message that fired between two others which the store tells of
        would get a serial that one of those has.
        """
        self.counters = Counters()
        self._has_opened = False
        self._is_at_rest = False
        """Since the last `tick` nothing has come but what was only forwarded: there is nothing to do before `_next`."""
        self._next = inf
        self._knows_serial = False
        self._out: Outbox = []
        self._steps = steps
        self._rows = Rows(steps)
        self._interest: Interested = Everybody() if policy.broadcast_all else Interest()
        self._timers = Timers(wall)
        self._journal = Journal(self._out)
        self._duplicates = Duplicates()
        self._queues = Queues(policy, self.counters, self._journal, self._timers, self._out, steps=steps)
        self._paging = Paging(self._queues, self._journal)
        self._returns = Returns(self._queues, self._paging, self.counters, self._journal)
        self._strays = Strays(self._returns.notes)
        self._durables = Durables(
            self._queues, self._journal, self._timers, self._returns.notes, limit=policy.max_durables
        )
        self._misfits = Misfits(self._returns.notes)
        self._delays = Delays(
            self._queues,
            self._returns,
            self._misfits,
            self.counters,
            self._journal,
            self._timers,
            DelayLimits(
                octets=policy.max_delayed_bytes,
                min_period=policy.min_repeat_period,
                max_repeating=policy.max_repeating,
            ),
        )
        self._intake = Intake(
            self._queues,
            self._returns,
            self._delays,
            self._duplicates,
            self.counters,
            self._journal,
            self._timers,
        )
        self._deliveries = Deliveries(
            policy,
            slots,
            self._queues,
            self._returns,
            self._misfits,
            self._paging,
            self._durables,
            self.counters,
            self._timers,
            self._rows,
            self._out,
            steps=steps,
        )
        # each gives None, or the reason of a refusal, or steps that end with one of these
        self._methods: dict[Kind, Callable[[Peer, Envelope], str | Work | None]] = {
            Kind.SEND: self._send,
            Kind.SUBSCRIBE: self._subscribe,
            Kind.UNSUBSCRIBE: self._unsubscribe,
            Kind.READY: self._ready,
            Kind.CLAIMED: self._claimed,
            Kind.LOST: self._lost,
            Kind.PASSED: self._passed,
            Kind.SETTLE: self._settle,
            Kind.TRANSACTION: self._transaction,
            Kind.FENCE: self._fence,
        }
        self._stored: dict[Kind, Callable[[Envelope], None]] = {
            Kind.COMMITTED: self._committed,
            Kind.PAGE: self._page,
            Kind.PAGED: self._paged,
            Kind.DISK: self._heed_disk,
            Kind.OPENING: self._opening,
            Kind.BACKLOG: self._backlog,
            Kind.TRYING: self._trying,
            Kind.DECLINED: self._declined,
            Kind.DELETED: self._deleted,
            Kind.DURABLE: self._restore_durable,
            Kind.DUPLICATE: self._restore_duplicate,
            Kind.OPENED: self._opened,
        }

    def add_peer(self, peer: Peer) -> None:
        """A new peer; its number was never used before."""
        self._interest.add_peer(peer)
        self._deliveries.add_peer(peer)

    def peer_ended(self, peer: Peer, now: float, crash: str = "") -> None:
        """The peer's process is gone, and all that it has sent was received; `crash`: how it ended, if it crashed."""
        self._timers.now = now
        self._is_at_rest = False
        self._deliveries.begin_to_end(peer)
        self._rows.end(peer, lambda: self._end_peer(peer, crash))

    def _end_peer(self, peer: Peer, crash: str) -> Work:
        yield from self._deliveries.peer_ended(peer, crash)
        yield from self._interest.peer_ended(peer)
        self._queues.peer_ended(peer)
        self._delays.peer_ended(peer)
        self._journal.peer_ended(peer)
        return None

    def store_ended(self, reason: str) -> None:
        """The store's process is gone; `reason` when it could not do its work. Another one will be OPENED."""
        self._is_at_rest = False
        self._journal.closed(reason)
        self._paging.closed()
        if self._journal.failure:
            # who brings more of what is persistent is refused from now on, and nobody waits for what the store has
            self._queues.holds.release(self._journal)
            self._go_on()

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
            # a SEND says so itself, where it is more than forwarded
            self._is_at_rest = False
        if not self._rows.take_turn(peer):
            self._is_at_rest = False
            self._rows.put(peer, lambda: self._apply(peer, envelope))
            return
        work = self._apply(peer, envelope)
        if work is not None:
            self._rows.start(peer, work)

    def is_waiting(self, peer: Peer) -> bool:
        """Whether something that the peer has sent is still to be applied: no more should be received from it."""
        return peer in self._rows

    @property
    def waiting(self) -> list[Peer]:
        """All peers of which something is to be applied, or whose end is; first whose turn it is."""
        return self._rows.peers

    def go_on(self, peer: Peer, now: float) -> None:
        """Apply some more of what the peer has sent: to be called once in each turn for each that is waiting.

        Raises:
            EnvelopeError, AssertionError: as `receive`. The rest of what waits is forgotten then.
        """
        self._timers.now = now
        self._is_at_rest = False
        try:
            self._rows.go_on(peer)
        except (EnvelopeError, AssertionError) as error:
            if not self._rows.has_ended(peer):
                raise
            self._returns.notes.append(f"client {peer}: broke the contract between processes before it ended: {error}")

    def _apply(self, peer: Peer, envelope: Envelope) -> Work | None:
        journal, kind = self._journal, envelope.kind
        before = journal.last
        outcome = self._methods[kind](peer, envelope)
        if outcome is not None and not isinstance(outcome, str):
            return self._work_off(peer, envelope, outcome)
        if outcome is None and journal.last == before and kind is not Kind.FENCE and not envelope.flags & _FENCE:
            # nothing follows from it: most envelopes are like that, so they come no further
            return None
        self._finish(peer, envelope, outcome, has_brought=self._attribute(peer, before))
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
            self._queues.hold_for_store(peer)
        is_fence = envelope.flags & _FENCE or envelope.kind is Kind.FENCE
        if reason is not None:
            number = envelope.number if is_fence else 0
            journal.refuse(peer, pack(Kind.REFUSED, number=number, block=reason.encode()))
        elif is_fence:
            journal.answer(peer, pack(Kind.FENCED, number=envelope.number))

    def receive_stored(self, envelope: Envelope, now: float) -> None:
        """Apply what the store says.

        Raises:
            EnvelopeError: it can't be decoded, or is not the router's business.
            AssertionError: it can't be true.
        """
        self._timers.now = now
        self._is_at_rest = False
        check(envelope, OF_STORE)
        self._stored[envelope.kind](envelope)

    def tick(self, now: float) -> None:
        """Make the offers that have become possible, and deal with what is due or overdue."""
        if not self._has_opened:
            return
        self._timers.now = now
        self._rows.renew()
        if self._is_at_rest and now < self._next:
            return
        self._journal.go_on()
        if self._journal.held or self._queues.has_hidden(self._journal.committed):
            self._show_committed()
        self._queues.chores.go_on()
        self._timers.run_due()
        if self._queues.expiring:
            self._returns.tick()
        self._deliveries.tick(now)
        self._next = self._find_deadline()
        # dates follow the system clock, which may have been set when they are looked at again
        self._is_at_rest = not self._timers.has_dates

    def stop_offers(self) -> None:
        """Make no new deliveries to who acknowledges: the broker ends, and they only settle what they have."""
        self._is_at_rest = False
        self._deliveries.stop_offers()

    def deadline(self) -> float | None:
        """When `tick` has something to do even if nothing is received (seconds); None: never."""
        if not self._has_opened:
            return None
        when = self._next if self._is_at_rest else self._find_deadline()
        return when if when < inf else None

    def _find_deadline(self) -> float:
        if self._queues.expiring or not self.is_applied:
            return self._timers.now
        overdue, due = self._deliveries.deadline(), self._timers.deadline()
        return min(inf if overdue is None else overdue, inf if due is None else due)

    def find_silent(self, since: float) -> set[Peer]:
        """Peers that have owed an answer since then (seconds): what they keep from others, their end would free."""
        return self._deliveries.find_silent(since)

    def take(self) -> Outbox:
        """What is to be sent since the last `take`, in order. A list of buffers may stand there for several peers."""
        out = self._out.copy()
        self._out.clear()
        return out

    @property
    def is_committed(self) -> bool:
        """All that was received is applied, and what of it was told to the store will survive."""
        return self._journal.is_committed and self.is_applied

    @property
    def is_applied(self) -> bool:
        """All that was received is applied, and told to the store."""
        has_hidden = self._queues.has_hidden(self._journal.committed)
        return not (self._rows or self._queues.chores or self._journal.is_behind or has_hidden)

    @property
    def is_behind(self) -> bool:
        """The store has so much to write that producers wait; one that can't write holds nobody, it refuses."""
        return self._journal.is_full and not self._journal.refusal

    def take_culprits(self) -> list[tuple[Peer, str]]:
        """Peers that have sent what can't be dealt with, as has shown later, and why: they are to be ended."""
        return self._misfits.take()

    def take_notes(self) -> list[str]:
        """What an administrator should know, each once."""
        notes, self._journal.notes = self._journal.notes, []
        return self._returns.take_notes() + notes

    def describe(self) -> Iterable[str]:
        """Queues, durable subscriptions and the schedule, a line for each."""
        return describe(self._queues, self._durables, self._delays)

    def views(self) -> list[QueueView]:
        """All queues as they are now."""
        return self._queues.views()

    def _send(self, peer: Peer, envelope: Envelope) -> str | None:
        if not is_queue(envelope.destination):
            return self._publish(peer, envelope)
        self._is_at_rest = False
        reason = self._intake.find_refusal(peer, envelope)
        if reason is not None:
            self.counters.messages_refused += envelope.count
            return reason
        self._intake.send(peer, envelope)
        self.counters.messages_received += envelope.count
        return None

    def _publish(self, peer: Peer, envelope: Envelope) -> str | None:
        """To a topic: to who listens now, and into the queues of durable subscriptions."""
        queues = self._durables.queues_for(envelope.destination)
        if queues:
            self._is_at_rest = False
            reason = self._find_refusal_of_durables(envelope, queues)
            if reason is not None:
                self.counters.messages_refused += envelope.count
                return reason
            self._keep(peer, envelope, queues)
        self._forward(envelope, queues)
        return None

    def _keep(self, peer: Peer, envelope: Envelope, queues: tuple[Queue, ...]) -> None:
        """What is sent to a topic, for durable subscriptions."""
        if not queues:
            return
        self._rows.spend(len(queues) // 4)
        with self._journal.fan_out(envelope, len(queues)):
            for queue in queues:
                self._intake.put(peer, queue, envelope)
                if queue.policy.full is Full.HOLD:
                    self._queues.hold(peer, queue)

    def _find_refusal_of_durables(self, envelope: Envelope, queues: tuple[Queue, ...]) -> str | None:
        refusal = self._journal.find_refusal(len(envelope.raw)) if queues else ""
        if refusal and (envelope.flags & _PERSISTENT or any(queue.policy.persistent for queue in queues)):
            return f"persistent messages can't be stored now: {refusal}"
        for queue in queues:
            excess = self._queues.find_excess(queue) if queue.policy.full is Full.REFUSE else None
            if excess is not None:
                return f"durable subscription {shown(queue.name)} {excess}"
        return None

    def _forward(self, envelope: Envelope, queues: tuple[Queue, ...]) -> None:
        """To all who listen now; `queues` are those of durable subscriptions, which have it already."""
        peers = self._interest.peers_for(envelope.destination)
        if envelope.flags & _BARE and not (peers or queues):
            self._strays.note(envelope.destination)
        counters, count = self.counters, envelope.count
        counters.messages_received += count
        counters.messages_forwarded += count * len(peers)
        self._rows.spend(len(peers) // 50)
        self._out.extend(zip(peers, repeat([envelope.raw])))

    def _subscribe(self, peer: Peer, envelope: Envelope) -> str | None:
        try:
            if envelope.flags & Flag.DURABLE or is_queue(envelope.destination):
                return self._deliveries.subscribe(peer, envelope)
            self._rows.spend(len(envelope.destination) // 32)
            self._interest.add(peer, envelope.destination)
        except PatternError as error:
            raise EnvelopeError(f"SUBSCRIBE: {error}") from None
        return None

    def _unsubscribe(self, peer: Peer, envelope: Envelope) -> str | Work | None:
        if envelope.flags & Flag.DURABLE:
            return self._delete_durable(peer, envelope)
        if is_queue(envelope.destination):
            return self._deliveries.unsubscribe(peer, Token(envelope.token))
        try:
            self._interest.remove(peer, envelope.destination)
        except KeyError:
            raise EnvelopeError(f"UNSUBSCRIBE: no interest in {envelope.destination!r}") from None
        return None

    def _delete_durable(self, peer: Peer, envelope: Envelope) -> Work:
        if envelope.token:
            yield from self._deliveries.unsubscribe(peer, Token(envelope.token))
        return self._durables.delete(envelope.block)

    def _ready(self, peer: Peer, envelope: Envelope) -> None:
        self._deliveries.become_ready(peer)

    def _claimed(self, peer: Peer, envelope: Envelope) -> None:
        self._deliveries.answer(peer, envelope, Event.CLAIMED)

    def _lost(self, peer: Peer, envelope: Envelope) -> None:
        self._deliveries.answer(peer, envelope, Event.LOST)

    def _passed(self, peer: Peer, envelope: Envelope) -> None:
        self._deliveries.answer(peer, envelope, Event.PASSED)

    def _settle(self, peer: Peer, envelope: Envelope) -> Work | None:
        return self._deliveries.settle(peer, Token(envelope.token), envelope.settlements())

    def _fence(self, peer: Peer, envelope: Envelope) -> None:
        """All before it has been applied."""

    def _transaction(self, peer: Peer, envelope: Envelope) -> Work:
        """All of it or nothing: whatever may fail is tried before the first part is applied.

        What others do between two steps of a long one may fill what was not full; that does not undo it. But no lease
        ends meanwhile, and the store is told of nothing that came later before it is told of this.
        """
        yield from check_parts(envelope)
        parts = envelope.nested()
        for part in parts:
            part.sender = peer
        reason = yield from self._find_refusal(peer, parts)
        if reason is not None:
            self.counters.messages_refused += sum(part.count for part in parts if part.kind is Kind.SEND)
            return reason
        draft = Draft()
        try:
            for part in parts:
                yield from self._apply_part(peer, part, draft)
        finally:
            # what was applied is told, even if an error ends it
            self._journal.finish(draft)
        return None

    def _apply_part(self, peer: Peer, part: Envelope, draft: Draft) -> Iterator[None]:
        with self._journal.part_of(draft):
            work = self._settle(peer, part) if part.kind is Kind.SETTLE else None
            if part.kind is Kind.SEND:
                self._bring(peer, part)
        yield
        is_done = work is None
        while work is not None and not is_done:
            with self._journal.part_of(draft):
                is_done = advance(work)
            yield

    def _bring(self, peer: Peer, part: Envelope) -> None:
        """A SEND of a transaction that was not refused."""
        if is_queue(part.destination):
            self._intake.send(peer, part)
            self.counters.messages_received += part.count
        else:
            queues = self._durables.queues_for(part.destination)
            self._keep(peer, part, queues)
            self._forward(part, queues)

    def _find_refusal(self, peer: Peer, parts: list[Envelope]) -> Work:
        copies = 0
        for part in parts:
            copies += self._durables.weigh_copies(part) if part.kind is Kind.SEND else 0
            yield
        if copies > MAX_COPIES:
            return (
                f"the transaction would have the store write {copies:,} octets of copies for durable subscriptions "
                f"at once, the limit is {MAX_COPIES:,}: send its messages to topics in smaller transactions"
            )
        plan = Plan()
        for part in parts:
            reason = None
            if part.kind is not Kind.SETTLE:
                reason = self._find_refusal_of_part(peer, part, plan)
            elif (yield from self._deliveries.has_lost(peer, Token(part.token), part.settlements())):
                reason = "the transaction settles messages that are no longer its client's: a lease has ended"
            if reason is not None:
                return reason
            yield
        return None

    def _find_refusal_of_part(self, peer: Peer, part: Envelope, plan: Plan) -> str | None:
        """Why this SEND can't be, after what is planned; if it can, it is planned as well."""
        if is_queue(part.destination):
            return self._intake.find_refusal_of_part(peer, part, plan)
        queues = self._durables.queues_for(part.destination)
        reason = self._find_refusal_of_durables(part, queues)
        for queue in queues:
            if reason is None and queue.policy.full is Full.REFUSE:
                excess = self._intake.find_excess_of_part(queue.name, make_run(part, 0), plan)
                reason = None if excess is None else f"durable subscription {shown(queue.name)} {excess}"
        return reason

    # -- the store

    def _opening(self, envelope: Envelope) -> None:
        self._queues.resume_serials(envelope.serial)
        self._knows_serial = True

    def _require_serial(self, kind: Kind) -> None:
        if not self._knows_serial:
            raise AssertionError(f"{kind.name} before OPENING: the first free serial is not known")

    def _backlog(self, envelope: Envelope) -> None:
        self._require_serial(envelope.kind)
        self._paging.restore(envelope)

    def _opened(self, envelope: Envelope) -> None:
        self._require_serial(envelope.kind)
        self._journal.opened()
        if not self._has_opened:
            # what the store has from before is told to the first one alone
            self._has_opened = True
            self._durables.drop_unknown()
            self._delays.opened()
        self._queues.chores.add(self._visit_all(self._meet_store))

    def _committed(self, envelope: Envelope) -> None:
        journal = self._journal
        has_failed = bool(journal.failure)
        journal.commit(envelope.number)
        self._show_committed()
        if has_failed:
            self._go_on()

    def _show_committed(self) -> None:
        """Show consumers a turn's part of what waited to be committed, and let producers go on that waited as well."""
        journal = self._journal
        for queue in self._queues.commit(journal.committed, self._steps):
            self._returns.make_room(queue)
        if journal.held and journal.has_room:
            self._queues.holds.release(journal)

    def _page(self, envelope: Envelope) -> None:
        details = envelope.details
        if details.due:
            self._require_serial(envelope.kind)
            self._delays.restore(envelope.destination, make_run(envelope, envelope.serial, details))
            return
        queue = self._queues.find(envelope.destination)
        if queue is not None:
            self._paging.page(queue, envelope)
            self._returns.make_room(queue)

    def _paged(self, envelope: Envelope) -> None:
        queue = self._queues.find(envelope.destination)
        if queue is not None:
            self._paging.paged(queue, envelope)
            self._returns.make_room(queue)

    def _heed_disk(self, envelope: Envelope) -> None:
        journal = self._journal
        was_short = bool(journal.shortage)
        journal.heed_disk(envelope.block.decode(errors="replace") if envelope.token else "", envelope.serial)
        if journal.held and (journal.shortage or journal.has_room):
            # while there is a shortage who brings more is refused
            self._queues.holds.release(journal)
        if was_short and not envelope.token:
            self._go_on()

    def _trying(self, envelope: Envelope) -> None:
        self._journal.trying(envelope.number)

    def _deleted(self, envelope: Envelope) -> None:
        self._journal.deleted(envelope.number)

    def _declined(self, envelope: Envelope) -> None:
        self._journal.declined(envelope.number, envelope.block.decode(errors="replace"))

    def _go_on(self) -> None:
        """The store can take and give again, or nothing is to wait for it."""
        self._queues.chores.add(self._visit_all(self._let_go_on))

    def _visit_all(self, visit: Callable[[Queue], None]) -> Iterator[None]:
        """Do this for each queue that there is now, and then still is."""
        for queue in self._queues.all():
            if not queue.is_gone:
                visit(queue)
            yield

    def _let_go_on(self, queue: Queue) -> None:
        self._queues.changed[queue] = None
        self._queues.tidy(queue)

    def _meet_store(self, queue: Queue) -> None:
        """A store process is there, which knows nothing of what another one was asked for."""
        self._let_go_on(queue)
        if not queue.is_gone:
            self._paging.peek(queue)
            self._returns.make_room(queue)

    def _restore_durable(self, envelope: Envelope) -> None:
        self._require_serial(envelope.kind)
        self._durables.restore(envelope.destination, envelope.block, envelope.serial)

    def _restore_duplicate(self, envelope: Envelope) -> None:
        now_ms = self._timers.wall_ms()
        self._duplicates.remember(envelope.destination, envelope.block, envelope.number, 0, now_ms)
