"""Children played by the test: they answer offers as real ones do, with semaphores that are plain numbers."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from forkbroker.routing.peers import Peer
from forkbroker.routing.policies import Policy
from forkbroker.routing.router import Router
from forkbroker.wire.envelope import Envelope, pack, pack_pieces, pack_settle
from forkbroker.wire.kinds import Flag, Kind, Outcome

DLQ = b"/queue/DLQ"


class Semaphores:
    """A pool whose values anybody can read."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.values = [0] * size

    def post(self, slot: int) -> None:
        assert not self.values[slot], "a slot in use was posted again"
        self.values[slot] += 1

    def try_acquire(self, slot: int) -> bool:
        if not self.values[slot]:
            return False
        self.values[slot] -= 1
        return True


def make_send(destination: bytes, bodies: Sequence[bytes], *, fence: int = 0) -> Envelope:
    """A SEND as a child packs it."""
    flags, payload = pack_pieces(bodies)
    return make(
        Kind.SEND,
        flags=flags | (Flag.FENCE if fence else 0),
        number=fence,
        count=len(bodies),
        destination=destination,
        block=b"session-1\n\n",
        payload=payload,
    )


def make(kind: Kind, **fields: object) -> Envelope:
    """Any envelope, as the other side decodes it."""
    return Envelope(b"".join(pack(kind, **fields)))  # type: ignore[arg-type]


@dataclass
class Child:
    """One client's child: what it was sent and has not read, what it subscribed to, what it holds."""

    peer: Peer
    inbox: deque[Envelope] = field(default_factory=deque)
    outbox: deque[Envelope] = field(default_factory=deque)
    tokens: dict[int, bytes] = field(default_factory=dict)
    held: dict[int, dict[int, bytes]] = field(default_factory=dict)
    """By token: serial -> body."""
    is_stopped: bool = False
    is_waiting: bool = False
    """It has passed, and owes a READY."""


class World:
    """A router, its children, and the channels between them."""

    def __init__(self, policy: Policy | None = None, slots: int = 4) -> None:
        self.semaphores = Semaphores(slots)
        self.router = Router(policy or Policy(), self.semaphores, lambda: 1_800_000_000.0)
        self.children: dict[Peer, Child] = {}
        self.now = 0.0
        self._next_peer = 1

    def add_child(self) -> Child:
        """A new child without subscriptions."""
        child = Child(Peer(self._next_peer))
        self._next_peer += 1
        self.children[child.peer] = child
        self.router.add_peer(child.peer)
        return child

    def subscribe(
        self, child: Child, name: bytes, *, token: int = 1, credit: int = 1000, flags: int = 0, fence: int = 0
    ) -> None:
        """The child asks, and the router hears it at once."""
        if fence:
            flags |= Flag.FENCE
        fields = {"destination": name, "token": token, "count": credit, "flags": flags, "number": fence}
        child.tokens[token] = name
        child.held[token] = {}
        self.tell(child, make(Kind.SUBSCRIBE, **fields))

    def unsubscribe(self, child: Child, token: int = 1) -> None:
        """As `subscribe`."""
        del child.held[token]
        self.tell(child, make(Kind.UNSUBSCRIBE, destination=child.tokens.pop(token), token=token))

    def send(self, child: Child, name: bytes, bodies: Iterable[bytes], *, fence: int = 0) -> None:
        """One SEND."""
        self.tell(child, make_send(name, list(bodies), fence=fence))

    def tell(self, child: Child, *envelopes: Envelope) -> None:
        """The router receives what waits in the child's channel, and these."""
        child.outbox.extend(envelopes)
        self.hear(child)

    def hear(self, child: Child) -> None:
        """The router receives what waits in the child's channel."""
        while child.outbox:
            self.router.receive(child.peer, child.outbox.popleft(), self.now)

    def turn(self) -> list[tuple[Peer, Envelope]]:
        """One turn of the parent's loop: everything is heard, offers are made, everything is sent."""
        for child in list(self.children.values()):
            self.hear(child)
        self.router.tick(self.now)
        return self.deliver()

    def deliver(self) -> list[tuple[Peer, Envelope]]:
        """What the router has to say goes to the children that are there."""
        sent = [(peer, Envelope(b"".join(buffers))) for peer, buffers in self.router.take()]
        for peer, envelope in sent:
            if peer in self.children:
                self.children[peer].inbox.append(envelope)
        return sent

    def read(self, child: Child, kind: Kind) -> Envelope:
        """The next envelope that the child was sent, which is of this kind."""
        envelope = child.inbox.popleft()
        assert envelope.kind is kind, f"{envelope.kind.name}: {envelope.block!r}"
        return envelope

    def claim(self, child: Child, offer: Envelope) -> bool:
        """The child tries the semaphore and tells the outcome, but the router has not heard it yet."""
        if not self.semaphores.try_acquire(offer.slot):
            self.answer(child, Kind.LOST, offer)
            return False
        self.hold(child, offer)
        self.answer(child, Kind.CLAIMED, offer)
        return True

    def hold(self, child: Child, offer: Envelope) -> None:
        """The child delivers."""
        for position, body in enumerate(offer.pieces()):
            child.held[offer.token][offer.serial + position] = bytes(body)

    def answer(self, child: Child, kind: Kind, offer: Envelope) -> None:
        assert offer.kind is Kind.OFFER, (offer.kind, offer.block)
        """Into the channel."""
        child.outbox.append(make(kind, number=offer.number, token=offer.token))

    def settle(
        self, child: Child, serial: int, count: int = 1, outcome: Outcome = Outcome.ACKNOWLEDGED, *, token: int = 1
    ) -> None:
        """Into the channel."""
        child.outbox.append(Envelope(pack_settle(token, [(serial, count, outcome)])[0]))
        for gone in range(serial, serial + count):
            child.held[token].pop(gone, None)

    def end(self, child: Child) -> None:
        """The child's process ends; what it wrote before is heard."""
        self.hear(child)
        del self.children[child.peer]
        self.router.peer_ended(child.peer, self.now)

    def take_one(self, child: Child) -> Envelope:
        """A turn; the child claims the offer that it has got, and the router hears it."""
        self.turn()
        offer = self.read(child, Kind.OFFER)
        assert self.claim(child, offer)
        self.hear(child)
        return offer
