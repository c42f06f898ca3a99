"""The router: envelopes from peers in, envelopes to peers out.

Three verbs: `receive` what a peer has sent, `tick` when time has passed and once a turn of the loop, `take` what is to
be sent. Topics are forwarded at once and untouched, to whoever may be interested (`forkbroker.routing.interest`);
messages to queues wait (`forkbroker.routing.queues`) and are offered (`forkbroker.routing.deliveries`).

What is to be sent to one peer leaves in the order in which it came about, so FENCED says that all before its fence
has been applied, and stands before everything that came of it later.

Nonsense from a child raises, and ends that child; it does no harm to others.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import repeat

from forkbroker.destinations import DestinationError, is_queue
from forkbroker.errors import EnvelopeError
from forkbroker.routing.claims import Event, Slots
from forkbroker.routing.counters import Counters, QueueView
from forkbroker.routing.deliveries import Deliveries
from forkbroker.routing.holds import Outbox
from forkbroker.routing.interest import Everybody, Interest, Interested
from forkbroker.routing.peers import Peer, Token
from forkbroker.routing.policies import Policy
from forkbroker.routing.queues import Queues
from forkbroker.wire.envelope import Envelope, pack
from forkbroker.wire.kinds import Flag, Kind

_FENCE = int(Flag.FENCE)


class Router:
    """Topics and queues of one broker."""

    def __init__(self, policy: Policy, slots: Slots) -> None:
        """`slots` are the router's alone to post."""
        self.counters = Counters()
        self._out: Outbox = []
        self._interest: Interested = Everybody() if policy.broadcast_all else Interest()
        self._queues = Queues(policy, self.counters, self._out)
        self._deliveries = Deliveries(policy, slots, self._queues, self.counters, self._out)
        # each gives None, or the reason of a refusal
        self._methods: dict[Kind, Callable[[Peer, Envelope], str | None]] = {
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

    def add_peer(self, peer: Peer) -> None:
        """A new peer; its number was never used before."""
        self._interest.add_peer(peer)
        self._deliveries.add_peer(peer)

    def peer_ended(self, peer: Peer, now: float) -> None:
        """The peer's process is gone, and all that it has sent was received."""
        self._interest.peer_ended(peer)
        self._deliveries.peer_ended(peer)
        self._queues.peer_ended(peer)

    def receive(self, peer: Peer, envelope: Envelope, now: float) -> None:
        """Apply what a peer has sent.

        Raises:
            EnvelopeError: it can't be decoded, is not the router's business, or makes no sense.
            AssertionError: it claims what can't be.
        """
        method = self._methods.get(envelope.kind)
        if method is None:
            raise EnvelopeError(f"{envelope.kind.name} is not the router's business")
        reason = method(peer, envelope)
        is_fence = envelope.flags & _FENCE or envelope.kind is Kind.FENCE
        if reason is not None:
            number = envelope.number if is_fence else 0
            self._out.append((peer, pack(Kind.REFUSED, number=number, block=reason.encode())))
        elif is_fence:
            self._out.append((peer, pack(Kind.FENCED, number=envelope.number)))

    def tick(self, now: float) -> None:
        """Make the offers that have become possible, and deal with what is overdue."""
        self._deliveries.tick(now)

    def deadline(self) -> float | None:
        """When `tick` has something to do even if nothing is received (seconds); None: never."""
        return self._deliveries.deadline()

    def find_silent(self, since: float) -> set[Peer]:
        """Peers that have owed an answer since then (seconds): what they keep from others, their end would free."""
        return self._deliveries.find_silent(since)

    def take(self) -> Outbox:
        """What is to be sent since the last `take`, in order. A list of buffers may stand there for several peers."""
        out = self._out.copy()
        self._out.clear()
        return out

    def views(self) -> list[QueueView]:
        """All queues as they are now."""
        return self._queues.views()

    def _send(self, peer: Peer, envelope: Envelope) -> str | None:
        destination = envelope.destination
        if not is_queue(destination):
            self._forward(envelope)
            return None
        reason = self._queues.find_refusal(peer, destination)
        if reason is not None:
            self.counters.messages_refused += envelope.count
            return reason
        self._queues.send(peer, envelope)
        self.counters.messages_received += envelope.count
        return None

    def _forward(self, envelope: Envelope) -> None:
        peers = self._interest.peers_for(envelope.destination)
        counters, count = self.counters, envelope.count
        counters.messages_received += count
        counters.messages_forwarded += count * len(peers)
        self._out.extend(zip(peers, repeat([envelope.raw])))

    def _subscribe(self, peer: Peer, envelope: Envelope) -> str | None:
        if is_queue(envelope.destination):
            return self._deliveries.subscribe(peer, envelope)
        try:
            self._interest.add(peer, envelope.destination)
        except DestinationError as error:
            raise EnvelopeError(f"SUBSCRIBE: {error}") from None
        return None

    def _unsubscribe(self, peer: Peer, envelope: Envelope) -> None:
        if is_queue(envelope.destination):
            self._deliveries.unsubscribe(peer, Token(envelope.token))
            return
        try:
            self._interest.remove(peer, envelope.destination)
        except KeyError:
            raise EnvelopeError(f"UNSUBSCRIBE: no interest in {envelope.destination!r}") from None

    def _ready(self, peer: Peer, envelope: Envelope) -> None:
        self._deliveries.become_ready(peer)

    def _claimed(self, peer: Peer, envelope: Envelope) -> None:
        self._deliveries.answer(peer, envelope, Event.CLAIMED)

    def _lost(self, peer: Peer, envelope: Envelope) -> None:
        self._deliveries.answer(peer, envelope, Event.LOST)

    def _passed(self, peer: Peer, envelope: Envelope) -> None:
        self._deliveries.answer(peer, envelope, Event.PASSED)

    def _settle(self, peer: Peer, envelope: Envelope) -> None:
        # decoded as a whole first: a bad entry must not leave half of it applied
        self._deliveries.settle(peer, Token(envelope.token), list(envelope.settlements()))

    def _fence(self, peer: Peer, envelope: Envelope) -> None:
        """All before it has been applied."""

    def _transaction(self, peer: Peer, envelope: Envelope) -> str | None:
        """All of it or nothing: whatever may fail is tried before the first part is applied."""
        parts = envelope.nested()
        if len(parts) != envelope.count:
            raise EnvelopeError(f"TRANSACTION of {envelope.count} has {len(parts)} envelopes")
        reason = self._find_refusal(peer, parts)
        if reason is not None:
            self.counters.messages_refused += sum(part.count for part in parts if part.kind is Kind.SEND)
            return reason
        for part in parts:
            if part.kind is Kind.SETTLE:
                self._settle(peer, part)
            elif is_queue(part.destination):
                self._queues.send(peer, part)
                self.counters.messages_received += part.count
            else:
                self._forward(part)
        return None

    def _find_refusal(self, peer: Peer, parts: list[Envelope]) -> str | None:
        made: set[bytes] = set()
        for part in parts:
            if part.kind is Kind.SETTLE:
                list(part.settlements())
            elif part.kind is not Kind.SEND:
                raise EnvelopeError(f"TRANSACTION with {part.kind.name}")
            else:
                part.bounds(0, part.count)
                if is_queue(part.destination):
                    reason = self._queues.find_refusal(peer, part.destination, made)
                    if reason is not None:
                        return reason
                    if self._queues.would_make(part.destination):
                        made.add(part.destination)
        return None
