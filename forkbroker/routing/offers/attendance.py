"""Consumers come and go: SUBSCRIBE, UNSUBSCRIBE, and the end of a child."""

from __future__ import annotations

from collections.abc import Iterator

from forkbroker.errors import EnvelopeError
from forkbroker.routing.chores import Work
from forkbroker.routing.keeping.custody import Custody
from forkbroker.routing.offers.blame import Crash
from forkbroker.routing.offers.clientele import Clientele
from forkbroker.routing.offers.consumers import Consumer
from forkbroker.routing.offers.offers import Offers
from forkbroker.routing.peers import Peer, Token
from forkbroker.routing.queues.queue import Queue
from forkbroker.routing.queues.registry import Queues, is_durable, refuse_to_create
from forkbroker.routing.topics.durables import Durables
from forkbroker.wire.envelope import Envelope
from forkbroker.wire.kinds import Flag


class Attendance:
    """Who consumes from which queue, from its beginning to its end."""

    def __init__(
        self, queues: Queues, custody: Custody, durables: Durables, clientele: Clientele, offers: Offers
    ) -> None:
        self._queues = queues
        self._custody = custody
        self._durables = durables
        self._clientele = clientele
        self._offers = offers

    def subscribe(self, peer: Peer, envelope: Envelope) -> str | None:
        """A new consumer, or the reason why not; or another credit for one that there is.

        Raises:
            EnvelopeError: the token is in use for something else, or this is not what temporary queues are called.
            PatternError: a durable subscription is to a pattern that cannot be used.
        """
        token, flags = Token(envelope.token), envelope.flags
        child = self._clientele.children[peer]
        if token in child.consumers:
            self._change_credit(child.consumers[token], envelope)
            return None
        queue = self._open(peer, envelope)
        if isinstance(queue, str):
            return queue
        consumer = Consumer(
            self._clientele.consumers_of(queue),
            child,
            token=token,
            credit=envelope.count,
            auto=bool(flags & Flag.AUTO),
            exclusive=bool(flags & Flag.EXCLUSIVE),
            keeps=envelope.index,
        )
        self._clientele.enlist(consumer)
        return None

    def _change_credit(self, consumer: Consumer, envelope: Envelope) -> None:
        flags = envelope.flags
        name = envelope.block if flags & Flag.DURABLE else envelope.destination
        is_same = (consumer.auto, consumer.exclusive) == (bool(flags & Flag.AUTO), bool(flags & Flag.EXCLUSIVE))
        if name != consumer.queue.name or not is_same:
            raise EnvelopeError(f"SUBSCRIBE: token {consumer.token} is in use")
        consumer.set_credit(envelope.count, envelope.index)
        consumer.row.change_team()
        consumer.row.refresh(consumer)

    def _open(self, peer: Peer, envelope: Envelope) -> Queue | str:
        """The queue that a SUBSCRIBE means."""
        name = envelope.destination
        is_bound = envelope.flags & Flag.EXISTING
        if envelope.flags & Flag.DURABLE:
            name = envelope.block
            if not is_durable(name):
                raise EnvelopeError(f"SUBSCRIBE: {name!r} is not the name of a durable subscription")
            if is_bound and self._durables.find(name) is None:
                return refuse_to_create("durable subscription", name)
            refusal = self._durables.open(name, envelope.destination, peer)
            if refusal is not None:
                return refusal
        elif is_bound and self._queues.find(name) is None:
            return refuse_to_create("queue", name)
        return self._queues.open(name, peer, is_temporary=bool(envelope.flags & Flag.TEMPORARY))

    def unsubscribe(self, peer: Peer, token: Token) -> Work:
        """End of a consumer, if it is one: a SUBSCRIBE may have been refused, and its child not know it yet."""
        consumer = self._clientele.children[peer].consumers.pop(token, None)
        if consumer is not None:
            yield from self._end(consumer)
        return None

    def peer_ended(self, peer: Peer, crash: str) -> Iterator[None]:
        """All that the peer has sent was applied, and nothing more comes: take back what it held, step by step.

        `crash`: how its process ended, if it crashed.
        """
        child = self._clientele.take_out(peer)
        blamed = self._offers.end_offers(child, crash)
        yield
        for consumer in child.consumers.values():
            yield from self._end(consumer, blamed)
        self._clientele.forget_child(child)

    def _end(self, consumer: Consumer, crash: Crash | None = None) -> Iterator[None]:
        queue = consumer.queue
        self._clientele.dismiss(consumer)
        self._custody.end_consumption(queue)
        self._durables.end_consumption(queue)
        yield from self._offers.give_back(consumer, crash)
        self._clientele.unblock(consumer)
        self._queues.tidy(queue)
        yield
