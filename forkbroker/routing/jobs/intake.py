"""A SEND to a queue: may it come in, is it a second time the same, and does it come in now or later."""

from __future__ import annotations

from forkbroker.cron import CronError
from forkbroker.errors import EnvelopeError
from forkbroker.routing.handover import Rule
from forkbroker.routing.jobs.delays import Delays
from forkbroker.routing.jobs.duplicates import Duplicates
from forkbroker.routing.jobs.planning import NOTHING_PLANNED, TransactionPlan, octets_before_last
from forkbroker.routing.jobs.recurrence import first_due
from forkbroker.routing.jobs.returns import Returns
from forkbroker.routing.keeping.custody import Custody
from forkbroker.routing.keeping.journal import Journal
from forkbroker.routing.kit import Kit
from forkbroker.routing.peers import Peer
from forkbroker.routing.queues.accounts import Account
from forkbroker.routing.queues.policies import Full, QueuePolicy
from forkbroker.routing.queues.queue import Queue
from forkbroker.routing.queues.registry import Queues, refuse_to_create, shown
from forkbroker.routing.queues.runs import Run, make_run
from forkbroker.wire.details import DURABLY, PLAIN, Details, Wishes
from forkbroker.wire.envelope import Envelope
from forkbroker.wire.kinds import Flag

_PERSISTENT = int(Flag.PERSISTENT)
_SECTION = int(Flag.SECTION)
_EXISTING = int(Flag.EXISTING)


class Intake(Rule):
    """The way into queues: into one that exists, or that is made by the SEND."""

    DUMPED = ("_duplicates",)

    def __init__(
        self, kit: Kit, queues: Queues, journal: Journal, custody: Custody, returns: Returns, delays: Delays
    ) -> None:
        self._kit = kit
        self._counters = kit.counters
        self._timers = kit.timers
        self._queues = queues
        self._journal = journal
        self._custody = custody
        self._returns = returns
        self._delays = delays
        self._duplicates = Duplicates()

    def send(self, peer: Peer, envelope: Envelope) -> str | None:
        """A SEND that comes alone; or the reason why it can't be.

        Raises:
            EnvelopeError: it can't be decoded.
        """
        self._kit.is_at_rest = False
        queue = self._queues.find(envelope.destination)
        reason = self._find_refusal(peer, queue, envelope, NOTHING_PLANNED)
        if reason is not None:
            self._counters.messages_refused += envelope.count
            return reason
        self._bring(peer, queue, envelope)
        return None

    def _find_refusal(self, peer: Peer, queue: Queue | None, envelope: Envelope, plan: TransactionPlan) -> str | None:
        """Why the peer may not send this now to the queue, if there is one yet, after what is planned."""
        queues, name = self._queues, envelope.destination
        policy = queue.policy if queue is not None else queues.policy_for(name)
        is_persistent = envelope.flags & _PERSISTENT or policy.persistent
        if is_persistent and (queue is None or queue.owner is None):
            refusal = self._journal.find_refusal(len(envelope.raw))
            if refusal:
                return f"persistent messages cannot be stored now: {refusal}"
        if envelope.flags & _SECTION and envelope.wishes.is_delayed:
            reason = self._find_refusal_to_delay(peer, envelope, policy, plan)
            if reason is not None:
                return reason
        if queue is None:
            if envelope.flags & _EXISTING and name not in plan.made:
                return refuse_to_create("queue", name)
            reason = None if name in plan.made else queues.find_refusal_to_make(name, len(plan.made), peer)
            return reason or self._find_excess_of_account(name, queues.accounts.of(peer), plan)
        if queue.account is not None and (reason := self._find_excess_of_account(name, queue.account, plan)):
            return reason
        if policy.full.is_losing or not (policy.is_limited or queue.window.refusal):
            return None
        excess = queues.find_excess(queue)
        if excess is None or queues.is_holding(peer, queue):
            return None
        if self._kit.news.listeners:
            queues.tell_full(queue, excess)
        return f"queue {shown(name)} {excess}"

    def _find_excess_of_account(
        self, name: bytes, account: Account | None, plan: TransactionPlan, octets: int = 0
    ) -> str | None:
        """Which quota the account has reached, after what is planned and so many octets more."""
        excess = None if account is None else account.find_excess_octets(plan.octets_of_accounts[account] + octets)
        return None if excess is None else f"queue {shown(name)} accepts no more messages: {excess}"

    def plan(self, peer: Peer, part: Envelope, plan: TransactionPlan) -> str | None:
        """Why this SEND of a transaction can't be, after what is planned; if it can, it is planned as well."""
        reason = self._find_refusal(peer, self._queues.find(part.destination), part, plan)
        if reason is not None:
            return reason
        name, run = part.destination, make_run(part, 0)
        if part.flags & _SECTION and part.wishes.is_delayed:
            if self._delays.would_be_full(plan.delayed_octets + octets_before_last(run)):
                return self._delays.describe_limit()
            plan.delayed_octets += run.memory
            plan.repeating += run.count if part.wishes.is_repeated else 0
            plan.add(name, run)
        elif self._refuses(peer, name):
            excess = self.find_excess_of_part(name, run, plan)
            if excess is not None:
                return f"queue {shown(name)} {excess}"
        queue = self._queues.find(name)
        account = self._queues.accounts.of(peer) if queue is None else queue.account
        if account is not None:
            excess = self._find_excess_of_account(name, account, plan, octets_before_last(run))
            if excess is not None:
                return excess
            plan.octets_of_accounts[account] += run.memory
        if queue is None:
            plan.made.add(name)
        return None

    def find_excess_of_part(self, name: bytes, run: Run, plan: TransactionPlan) -> str | None:
        """Which limit of this queue these messages exceed, after what is planned; if none, they are planned as well."""
        messages = plan.messages(name) + run.count - 1
        excess = self._queues.find_excess_with(name, messages, plan.octets(name) + octets_before_last(run))
        if excess is None:
            plan.add(name, run)
        return excess

    def _refuses(self, peer: Peer, name: bytes) -> bool:
        """Whether the queue of this name refuses this producer's messages when it is at its limit."""
        queue = self._queues.find(name)
        if queue is None:
            return self._queues.policy_for(name).full is Full.REFUSE
        return not queue.policy.full.is_losing and not self._queues.is_holding(peer, queue)

    def _find_refusal_to_delay(
        self, peer: Peer, envelope: Envelope, policy: QueuePolicy, plan: TransactionPlan
    ) -> str | None:
        """Why this may not wait for its time, after what is planned.

        What waits counts in its queue. Its producers can't be held until that has come, which may be in a year: they
        are refused, but where the queue is full already and so holds them in any case.
        """
        reason = self._delays.find_refusal(peer, envelope.wishes, envelope.count, plan.repeating)
        name = envelope.destination
        messages, octets = self._delays.weigh(name)
        messages, octets = messages + plan.messages(name), octets + plan.octets(name)
        queue = self._queues.find(name)
        is_full = queue is not None and self._queues.find_excess(queue) is not None
        if reason or policy.full.is_losing or not messages or (is_full and not self._refuses(peer, name)):
            return reason
        excess = self._queues.find_excess_with(name, messages, octets)
        return None if excess is None else f"queue {shown(name)} {excess}; {messages:,} delayed messages count as well"

    def bring(self, peer: Peer, envelope: Envelope) -> None:
        """A SEND that was not refused.

        Raises:
            EnvelopeError: it can't be decoded.
        """
        self._bring(peer, self._queues.find(envelope.destination), envelope)

    def _bring(self, peer: Peer, queue: Queue | None, envelope: Envelope) -> None:
        queues, name = self._queues, envelope.destination
        if queue is None:
            envelope.bounds(0, envelope.count)  # what can't be decoded makes no queue
            queue = queues.make(name, maker=peer)
        self.put(peer, queue, envelope)
        self._counters.messages_received += envelope.count
        if queue.policy.is_limited or queue.catching_up_until or queue.window.refusal:
            queues.hold(peer, queue)

    def put(self, peer: Peer, queue: Queue, envelope: Envelope) -> None:
        """Let these messages stand in this queue; not if they do already."""
        details = self._read_details(queue, envelope)
        if details.dedup_id and not self._is_new(peer, queue.name, details):
            self._counters.messages_deduplicated += envelope.count
            self._queues.tidy(queue)
            return
        queues = self._queues
        run = make_run(envelope, queues.take_serials(envelope.count), details)
        if queue.account is not None:
            queue.account.add(run.memory)
        if details.due:
            if queue.account is not None and details.persistent:
                self._custody.note_owner(queue)
            self._delays.add(peer, queue.name, run, envelope.wishes)
            queues.tidy(queue)
        else:
            self._custody.append(queue, run)
            if queue.policy.full is not Full.HOLD:
                self._returns.make_room(queue)
        if details.dedup_id:
            now_ms = self._timers.wall_ms()
            number = self._journal.number if details.persistent else 0
            self._duplicates.remember(queue.name, details.dedup_id, details.dedup_until, number, now_ms)

    def _read_details(self, queue: Queue, envelope: Envelope) -> Details:
        policy, flags = queue.policy, envelope.flags
        persistent = bool(flags & _PERSISTENT or policy.persistent) and queue.owner is None
        if not (flags & _SECTION or policy.ttl):
            return DURABLY if persistent else PLAIN
        try:
            return _judge(envelope.wishes, policy, self._timers.wall_ms(), persistent=persistent)
        except CronError as error:
            raise EnvelopeError(f"SEND: {error}") from None

    def restore_duplicate(self, name: bytes, dedup_id: bytes, until_ms: int) -> None:
        """The store has a message with this `dedup-id` from before."""
        self._duplicates.remember(name, dedup_id, until_ms, 0, self._timers.wall_ms())

    def _is_new(self, peer: Peer, name: bytes, details: Details) -> bool:
        """Whether this is not sent again. If it is, its receipt is true when the first one's is."""
        number = self._duplicates.find(name, details.dedup_id, self._timers.wall_ms())
        if number is None:
            return True
        self._journal.wait_for(peer, number)
        return False


def _judge(wishes: Wishes, policy: QueuePolicy, now_ms: int, *, persistent: bool) -> Details:
    """What the queue makes of what the sender wishes."""
    times = [wishes.expires, now_ms + wishes.ttl if wishes.ttl else 0]
    if not any(times) and policy.ttl:
        times.append(now_ms + policy.ttl)
    due, repeat = first_due(wishes, now_ms)
    return Details(
        priority=wishes.priority,
        persistent=persistent,
        expires=min(filter(None, times), default=0),
        due=due,
        period=wishes.period,
        repeat=repeat,
        cron=wishes.cron,
        dedup_id=wishes.dedup_id,
        dedup_until=now_ms + policy.dedup_window if wishes.dedup_id else 0,
    )
