"""A SEND to a topic: to who listens now, and into the queues of durable subscriptions."""

from __future__ import annotations

from itertools import repeat

from forkbroker.routing.jobs.intake import Intake
from forkbroker.routing.jobs.planning import Plan
from forkbroker.routing.keeping.journal import Journal
from forkbroker.routing.kit import Kit
from forkbroker.routing.peers import Peer
from forkbroker.routing.queues.policies import Full
from forkbroker.routing.queues.queue import Queue
from forkbroker.routing.queues.registry import Queues, shown
from forkbroker.routing.queues.runs import make_run
from forkbroker.routing.topics.topics import Topics
from forkbroker.wire.envelope import Envelope
from forkbroker.wire.kinds import Flag

_PERSISTENT = int(Flag.PERSISTENT)
_BARE = int(Flag.BARE)
_MANY = 50
"""So many receivers take as long as one more envelope."""


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

    def plan(self, peer: Peer, part: Envelope, plan: Plan) -> str | None:
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

    def _find_refusal(self, envelope: Envelope, queues: tuple[Queue, ...]) -> str | None:
        refusal = self._journal.find_refusal(len(envelope.raw)) if queues else ""
        if refusal and (envelope.flags & _PERSISTENT or any(queue.policy.persistent for queue in queues)):
            return f"persistent messages cannot be stored now: {refusal}"
        for queue in queues:
            excess = self._queues.find_excess(queue) if queue.policy.full is Full.REFUSE else None
            if excess is not None:
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
        peers = self._interest.peers_for(envelope.destination)
        if envelope.flags & _BARE and not (peers or queues):
            self._strays.note(envelope.destination)
        counters, count = self._counters, envelope.count
        counters.messages_received += count
        counters.messages_forwarded += count * len(peers)
        if len(peers) >= _MANY:
            self._rows.spend(len(peers) // _MANY)
        self._out.extend(zip(peers, repeat([envelope.raw])))
