"""What clients send: to which part of the house a SEND belongs, alone or in a transaction; and the way to topics.

What a destination means for a SEND is said once, by `Sending.target_for`. All ways, to topics (`Forwarding`), into
queues (`jobs/intake.py`) and to nowhere, have the same verbs: `send` what comes alone, `plan` what comes in a
transaction, and `bring` what was planned.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat
from typing import Protocol

from forkbroker.destinations import QUEUES
from forkbroker.routing.chores import Work, advance
from forkbroker.routing.jobs.intake import Intake
from forkbroker.routing.jobs.planning import TransactionPlan
from forkbroker.routing.keeping.journal import MAX_COPIES, Draft, Journal
from forkbroker.routing.kit import Kit
from forkbroker.routing.offers.ahead import AheadOffer
from forkbroker.routing.offers.claims import Event
from forkbroker.routing.offers.offering import Offering
from forkbroker.routing.peers import Peer, Token
from forkbroker.routing.queues.policies import Full
from forkbroker.routing.queues.queue import Queue
from forkbroker.routing.queues.registry import UNMADE, Queues, shown
from forkbroker.routing.queues.runs import make_run
from forkbroker.routing.topics.interest import MANY
from forkbroker.routing.topics.topics import Topics
from forkbroker.wire.envelope import Envelope
from forkbroker.wire.fields import check_parts
from forkbroker.wire.kinds import Flag, Kind
from forkbroker.wire.rendering import render

_PERSISTENT = int(Flag.PERSISTENT)
_BARE = int(Flag.BARE)
_STEP = 50
"""So many receivers take as long as one more envelope."""


class Target(Protocol):
    """Where the messages of a SEND go."""

    def send(self, peer: Peer, envelope: Envelope) -> str | None:
        """A SEND that comes alone; or the reason why it can't be."""

    def plan(self, peer: Peer, part: Envelope, plan: TransactionPlan) -> str | None:
        """Why this SEND of a transaction can't be, after what is planned; if it can, it is planned as well."""

    def bring(self, peer: Peer, envelope: Envelope) -> None:
        """A SEND that was not refused."""


class Forwarding:
    """The way to whoever has subscribed to a topic."""

    def __init__(self, kit: Kit, queues: Queues, journal: Journal, topics: Topics, intake: Intake) -> None:
        self._kit = kit
        self._counters = kit.counters
        self._rows = kit.rows
        self._out = kit.out
        self._queues = queues
        self._journal = journal
        self._interest = topics.interest
        self._known = topics.interest.known
        self._durables = topics.durables
        self._strays = topics.strays
        self._intake = intake

    def send(self, peer: Peer, envelope: Envelope) -> str | None:
        """A SEND that comes alone; or the reason why it can't be.

        Raises:
            EnvelopeError: it can't be decoded.
        """
        queues = self._durables.queues_for(envelope.destination) if self._durables.all else ()
        if queues:
            self._kit.is_at_rest = False
            reason = self._find_refusal(envelope, queues)
            if reason is not None:
                self._counters.messages_refused += envelope.count
                return reason
            self._keep(peer, envelope, queues)
        self._forward(envelope, queues)
        return None

    def plan(self, peer: Peer, part: Envelope, plan: TransactionPlan) -> str | None:
        """Why this SEND of a transaction can't be, after what is planned; if it can, it is planned as well."""
        queues = self._durables.queues_for(part.destination)
        reason = self._find_refusal(part, queues)
        for queue in queues:
            if reason is None and queue.policy.full is Full.REFUSE:
                excess = self._intake.find_excess_of_part(queue.name, make_run(part, 0), plan)
                reason = None if excess is None else f"durable subscription {shown(queue.name)} {excess}"
        return reason

    def bring(self, peer: Peer, envelope: Envelope) -> None:
        """A SEND that was not refused.

        Raises:
            EnvelopeError: it can't be decoded.
        """
        queues = self._durables.queues_for(envelope.destination)
        self._keep(peer, envelope, queues)
        self._forward(envelope, queues)

    def weigh_copies(self, part: Envelope) -> int:
        """Octets that the store has to write for a SEND, beside what it has to for one durable subscription."""
        return self._durables.weigh_copies(part)

    def _find_refusal(self, envelope: Envelope, queues: tuple[Queue, ...]) -> str | None:
        refusal = self._journal.find_refusal(len(envelope.raw)) if queues else ""
        if refusal and (envelope.flags & _PERSISTENT or any(queue.policy.persistent for queue in queues)):
            return f"persistent messages cannot be stored now: {refusal}"
        for queue in queues:
            excess = self._queues.find_excess(queue) if queue.policy.full is Full.REFUSE else None
            if excess is not None:
                if self._kit.news.listeners:
                    self._queues.tell_full(queue, excess)
                return f"durable subscription {shown(queue.name)} {excess}"
        return None

    def _keep(self, peer: Peer, envelope: Envelope, queues: tuple[Queue, ...]) -> None:
        """For durable subscriptions."""
        if not queues:
            return
        self._rows.spend(len(queues) // 4)
        with self._journal.fan_out(envelope, len(queues)):
            for queue in queues:
                self._intake.put(peer, queue, envelope)
                if queue.policy.full is Full.HOLD:
                    self._queues.hold(peer, queue)

    def _forward(self, envelope: Envelope, queues: tuple[Queue, ...]) -> None:
        """To all who listen now; `queues` are those of durable subscriptions, which have it already."""
        peers = self._known(envelope.destination)
        if peers is None:
            peers = self._interest.peers_for(envelope.destination)
        if envelope.flags & _BARE and not (peers or queues):
            self._strays.note(envelope.destination)
        counters, count = self._counters, envelope.count
        counters.messages_received += count
        counters.messages_forwarded += count * len(peers)
        if len(peers) >= MANY:
            self._rows.spend(len(peers) // _STEP)
            peers = self._forward_to_groups(envelope)
        self._out.extend(zip(peers, repeat([envelope.raw])))

    def _forward_to_groups(self, envelope: Envelope) -> tuple[Peer, ...]:
        """Give many whose frames are the same these frames; return who is to get the envelope as it is."""
        groups, others = self._interest.groups_for(envelope.destination)
        for opening, peers in groups:
            self._out.extend(zip(peers, repeat(render(envelope, opening, len(peers)) or [envelope.raw])))
        return others


class Nowhere:
    """The way of what is sent to a queue that is gone, and that no SEND makes again: it is dropped."""

    def __init__(self, kit: Kit) -> None:
        self._counters = kit.counters

    def send(self, peer: Peer, envelope: Envelope) -> str | None:
        """A SEND that comes alone: it is never refused."""
        self.bring(peer, envelope)
        return None

    def plan(self, peer: Peer, part: Envelope, plan: TransactionPlan) -> str | None:
        """A SEND of a transaction: it is never refused, and counts against no limit."""
        return None

    def bring(self, peer: Peer, envelope: Envelope) -> None:
        """A SEND, be it planned or not."""
        self._counters.messages_received += envelope.count
        self._counters.messages_dropped += envelope.count


class Sending:
    """SEND and TRANSACTION."""

    def __init__(
        self, kit: Kit, queues: Queues, intake: Target, forwarding: Forwarding, offering: Offering, journal: Journal
    ) -> None:
        """`intake` is the way into queues, `forwarding` the way to topics."""
        self._counters = kit.counters
        self._queues = queues
        self._intake = intake
        self._forwarding = forwarding
        self._nowhere = Nowhere(kit)
        self._leases = offering.leases
        self._offers = offering.offers
        self._sharing = offering.sharing
        self._journal = journal

    def target_for(self, destination: bytes) -> Target:
        """What a destination means for a SEND.

        A topic: all who listen now, and the queues of durable subscriptions that match.

        A queue: the one of this name, which the SEND makes if need be. A temporary one (`/reply-queue/`) is made by
        its owner alone: what is sent to one that is gone is dropped. It is the same with the queue of a durable
        subscription.
        """
        if not destination.startswith(QUEUES):
            return self._forwarding
        if destination.startswith(UNMADE) and self._queues.find(destination) is None:
            return self._nowhere
        return self._intake

    def send(self, peer: Peer, envelope: Envelope) -> str | None:
        """SEND; or the reason why it can't be.

        Raises:
            EnvelopeError: it can't be decoded.
        """
        return self.target_for(envelope.destination).send(peer, envelope)

    def settle(self, peer: Peer, envelope: Envelope) -> Work | None:
        """SETTLE, and before it the claim that came with it. Many are returned as steps to be done.

        Raises:
            AssertionError: this child can't have claimed that.
        """
        token, reason = Token(envelope.token), envelope.block if envelope.block_length else b""
        if envelope.serial:
            offer = self._offers.find(envelope.serial)
            if isinstance(offer, AheadOffer):
                return self._sharing.settle(offer, peer, envelope)
            self._offers.answer(peer, token, offer, Event.CLAIMED)
        return self._leases.settle(peer, token, envelope.settlements(), reason)

    def transaction(self, peer: Peer, envelope: Envelope) -> Work:
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
            self._counters.messages_refused += sum(part.count for part in parts if part.kind is Kind.SEND)
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
            work = self.settle(peer, part) if part.kind is Kind.SETTLE else None
            if part.kind is Kind.SEND:
                self.target_for(part.destination).bring(peer, part)
        yield
        is_done = work is None
        while work is not None and not is_done:
            with self._journal.part_of(draft):
                is_done = advance(work)
            yield

    def _find_refusal(self, peer: Peer, parts: list[Envelope]) -> Work:
        copies = 0
        for part in parts:
            copies += self._forwarding.weigh_copies(part) if part.kind is Kind.SEND else 0
            yield
        if copies > MAX_COPIES:
            return (
                f"the transaction would have the store write {copies:,} bytes of copies for durable subscriptions "
                f"at once, the limit is {MAX_COPIES:,}: send its messages to topics in smaller transactions"
            )
        plan = TransactionPlan()
        for part in parts:
            reason = None
            if part.kind is not Kind.SETTLE:
                reason = self.target_for(part.destination).plan(peer, part, plan)
            elif (yield from self._leases.has_lost(peer, Token(part.token), part.settlements())):
                reason = "transaction refused, nothing applied: the lease of a message that it settles has ended"
            if reason is not None:
                return reason
            yield
        return None
