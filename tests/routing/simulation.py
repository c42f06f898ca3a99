"""Children played by the test: they answer offers as real ones do, with semaphores that are plain numbers."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from forkbroker.cli import conversion
from forkbroker.config.evaluation import make_settings
from forkbroker.config.settings import Settings
from forkbroker.routing.counters import QueueView
from forkbroker.routing.peers import STORE, Peer
from forkbroker.routing.queues.policies import Policy
from forkbroker.routing.router import Router
from forkbroker.wire.details import DURABLY, NO_WISHES, PLAIN, Wishes
from forkbroker.wire.envelope import KIND_AT, Envelope, pack, pack_pieces, pack_settle
from forkbroker.wire.fields import OF_STORE, check
from forkbroker.wire.kinds import Flag, Kind, Outcome

from .stock import Stock

NOON = 1_800_000_000.0
"""What the clock on the wall shows at first, in seconds."""
DLQ = b"/queue/DLQ"
OFFERS = (Kind.OFFER, Kind.AHEAD)
APART = Wishes(priority=5)
"""Of messages that are not put together with others."""
AT_ONCE = 1_000_000
"""Steps in one turn: all that a test does."""


@dataclass(frozen=True)
class Bounds:
    """Octets of one envelope, at most: what each channel of a broker takes."""

    up: int
    """From a child."""
    passed: int
    """To a child, to the store, and from it."""

    @classmethod
    def of(cls, settings: Settings) -> Bounds:
        """As the command derives them."""
        return cls(conversion.max_envelope(settings), conversion.max_passed(settings))


BOUNDS = Bounds.of(make_settings({}))
"""Those of a broker without options."""


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


def make_send(
    destination: bytes,
    bodies: Sequence[bytes],
    *,
    fence: int = 0,
    persistent: bool = False,
    bare: bool = False,
    wishes: Wishes = NO_WISHES,
    batch: int = 1,
) -> Envelope:
    """A SEND as a child packs it. `batch` is what makes its message-ids others than those of another SEND."""
    flags, payload = pack_pieces(bodies)
    flags |= Flag.FENCE if fence else 0
    flags |= Flag.PERSISTENT if persistent else 0
    flags |= Flag.BARE if bare else 0
    return make(
        Kind.SEND,
        flags=flags,
        number=fence,
        count=len(bodies),
        destination=destination,
        block=b"-session-%d\n\n" % batch,
        section=b"" if wishes is NO_WISHES else wishes.pack(),
        payload=payload,
    )


class Named(Envelope):
    """Messages that were put together, with pieces that are the bodies as in other envelopes."""

    __slots__ = ("names",)
    names: list[bytes]


def names_of(told: Envelope) -> list[bytes]:
    """The message-ids."""
    if isinstance(told, Named):
        return told.names
    end = told.block.partition(b"\n")[0]
    return [b"%d%b" % (number, end) for number in range(told.index, told.index + told.count)]


def with_bodies(told: Envelope) -> Envelope:
    """The same envelope with bodies alone as its pieces: some come with a name and lines in front of each."""
    if not told.flags & Flag.NAMED:
        return told
    check(replace_kind(told), OF_STORE)
    parts = [bytes(piece).partition(b"\n\n") for piece in told.pieces()]
    form, payload = pack_pieces([body for _, _, body in parts])
    raw = pack(
        told.kind,
        flags=told.flags & ~(Flag.NAMED | Flag.MIXED | Flag.UNIFORM | Flag.SECTION) | form,
        token=told.token,
        slot=told.slot,
        count=told.count,
        number=told.number,
        serial=told.serial,
        deliveries=told.deliveries,
        destination=told.destination,
        block=b"-named\n\n",
        section=b"" if told.details in (PLAIN, DURABLY) else told.details.pack(),
        payload=payload,
    )
    named = Named(b"".join(raw))
    named.names = [name.partition(b"\n")[0] for name, _, _ in parts]
    return named


def replace_kind(told: Envelope) -> Envelope:
    """The same as the store could have told it."""
    raw = bytearray(told.raw)
    raw[KIND_AT] = Kind.PAGE
    raw[8:16] = raw[24:32] = bytes(8)
    return Envelope(raw)


def make(kind: Kind, **fields: object) -> Envelope:
    """Any envelope, as the other side decodes it."""
    return Envelope(b"".join(pack(kind, **fields)))  # type: ignore[arg-type]


@dataclass
class Kept:
    """An offer ahead, and how many of its messages the child has tried."""

    offer: Envelope
    tried: int = 0


@dataclass
class Child:
    """One client's child: what it was sent and has not read, what it subscribed to, what it holds."""

    peer: Peer
    inbox: deque[Envelope] = field(default_factory=deque)
    outbox: deque[Envelope] = field(default_factory=deque)
    tokens: dict[int, bytes] = field(default_factory=dict)
    held: dict[int, dict[int, bytes]] = field(default_factory=dict)
    """By token: serial -> body."""
    kept: deque[Kept] = field(default_factory=deque)
    """What it was offered ahead, and has not tried yet."""
    is_stopped: bool = False
    is_waiting: bool = False
    """It has passed, and owes a READY."""


class World:
    """A router, its children and its store, and the channels between them."""

    def __init__(
        self,
        policy: Policy | None = None,
        slots: int = 64,
        stock: Stock | None = None,
        *,
        start_s: float = 0.0,
        opens: bool = True,
        steps: int = AT_ONCE,
        bounds: Bounds = BOUNDS,
    ) -> None:
        """`stock`: what a store has from before; without it there is none. `start_s`: so long after noon.

        `opens`: at once; else the test does it. `steps`: of work in one turn. `bounds`: what the channels take.
        """
        self.bounds = bounds
        self.semaphores = Semaphores(slots)
        self.wall = NOON + start_s
        self.policy = policy or Policy()
        self.steps = steps
        self.router = Router(self.policy, self.semaphores, lambda: self.wall, steps=steps)
        self.children: dict[Peer, Child] = {}
        self.now = start_s
        self._next_peer = 1
        self.stock = stock or Stock()
        self.stock.max_envelope = bounds.passed
        if stock is not None and opens:
            self.open_store(is_fresh=True)
        elif stock is None and opens:
            self._open_and_close_store()

    def pass_time(self, seconds: float) -> None:
        """For both clocks."""
        self.now += seconds
        self.wall += seconds

    # -- the store

    def open_store(self, *, is_fresh: bool = False) -> None:
        """Another process of it, and the router hears what it says, with a turn of its loop between any two words."""
        self.stock.open(is_fresh=is_fresh)
        while self.stock.said and is_fresh:
            self.hear_store(1)
            self.turn()
        self.hear_store()
        self.deliver()

    def _open_and_close_store(self) -> None:
        """The first one was open, so that time passes; nothing is told to it, and no other one comes."""
        self.router.receive_stored(make(Kind.OPENING, serial=1), self.now)
        self.router.receive_stored(make(Kind.OPENED), self.now)
        self.router.store_ended("")
        self.router.take()

    def run_store(self) -> None:
        """The store does all that it was told, and says it, and so on until nothing is left."""
        self.deliver()
        while self.stock.told or self.stock.said:
            self.stock.work()
            if self.stock.is_dying:
                self.kill_store(heard=len(self.stock.said))
                self.open_store()
            self.hear_store()
            if not self.stock.is_up_to_date:
                # there was more to be told again than one turn tells
                self.router.tick(self.now)
            self.deliver()

    def hear_store(self, most: int = 1_000_000) -> None:
        """The router receives what waits in the store's channel, so many envelopes at most."""
        for _ in range(min(most, len(self.stock.said))):
            envelope = self.stock.said.popleft()
            assert len(envelope.raw) <= self.bounds.passed, "the store says more than its channel takes"
            self.router.receive_stored(envelope, self.now)

    def kill_store(self, reason: str = "", *, heard: int = 0) -> None:
        """What it has not read is lost; of what it said the first `heard` envelopes are heard."""
        self.stock.kill(heard)
        self.hear_store()
        self.router.store_ended(reason)
        # what was meant for this process does not reach the next one
        self.deliver()

    # -- children

    def add_child(self) -> Child:
        """A new child without subscriptions."""
        child = Child(Peer(self._next_peer))
        self._next_peer += 1
        self.children[child.peer] = child
        self.router.add_peer(child.peer)
        return child

    def subscribe(
        self,
        child: Child,
        name: bytes,
        *,
        token: int = 1,
        credit: int = 1000,
        flags: int = 0,
        fence: int = 0,
        durable: bytes = b"",
        keeps: int = 0,
    ) -> None:
        """The child asks, and the router hears it at once."""
        flags |= (Flag.FENCE if fence else 0) | (Flag.DURABLE if durable else 0)
        fields = {
            "destination": name, "token": token, "count": credit, "flags": flags, "number": fence, "block": durable,
            "index": keeps,
        }  # fmt: skip
        child.tokens[token] = durable or name
        child.held[token] = {}
        self.tell(child, make(Kind.SUBSCRIBE, **fields))

    def unsubscribe(self, child: Child, token: int = 1) -> None:
        """As `subscribe`."""
        del child.held[token]
        self.tell(child, make(Kind.UNSUBSCRIBE, destination=child.tokens.pop(token), token=token))

    def delete_durable(self, child: Child, durable: bytes, *, token: int = 0, fence: int = 0) -> None:
        """As `subscribe`; `token`: what of the child ends with it."""
        if token:
            del child.held[token], child.tokens[token]
        flags = Flag.DURABLE | (Flag.FENCE if fence else 0)
        self.tell(child, make(Kind.UNSUBSCRIBE, block=durable, token=token, flags=flags, number=fence))

    def send(
        self,
        child: Child,
        name: bytes,
        bodies: Iterable[bytes],
        *,
        fence: int = 0,
        persistent: bool = False,
        wishes: Wishes = NO_WISHES,
    ) -> None:
        """One SEND."""
        self.tell(child, make_send(name, list(bodies), fence=fence, persistent=persistent, wishes=wishes))

    def tell(self, child: Child, *envelopes: Envelope) -> None:
        """The router receives what waits in the child's channel, and these."""
        child.outbox.extend(envelopes)
        self.hear(child)

    def hear(self, child: Child) -> None:
        """The router receives what waits in the child's channel."""
        while child.outbox:
            envelope = child.outbox.popleft()
            assert len(envelope.raw) <= self.bounds.up, "a child says more than its channel takes"
            self.router.receive(child.peer, envelope, self.now)

    def catch_up(self, child: Child) -> None:
        """Turns pass until all that the child has sent is applied; nothing is sent meanwhile."""
        while child.peer in self.router.waiting:
            self.router.go_on(child.peer, self.now)
            self.router.tick(self.now)

    def turn(self) -> list[tuple[Peer, Envelope]]:
        """One turn of the parent's loop: everything is heard, offers are made, everything is sent."""
        for child in list(self.children.values()):
            self.hear(child)
        for peer in list(self.router.waiting):
            self.router.go_on(peer, self.now)
        self.router.tick(self.now)
        return self.deliver()

    def deliver(self) -> list[tuple[Peer, Envelope]]:
        """What the router has to say goes to the children that are there, and to the store."""
        sent: list[tuple[Peer, Envelope]] = []
        for peer, buffers in self.router.take():
            envelope = Envelope(b"".join(buffers))
            if peer in self.children:
                assert len(envelope.raw) <= self.bounds.passed, "a child is told more than its channel takes"
                envelope = with_bodies(envelope)
                self.children[peer].inbox.append(envelope)
            elif peer == STORE and self.stock.is_open:
                self.stock.tell(envelope)
            sent.append((peer, envelope))
        self.router.asked.clear()  # what is asked of the broker itself is the parent's to carry out
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

    def try_ahead(self, child: Child) -> int:
        """The child tries the next message of the first offer that it keeps, and tells; the router has not heard it.

        Return the serial of the message that it has by that; 0: somebody else has it.
        """
        kept = child.kept[0]
        offer, at = kept.offer, kept.tried
        kept.tried += 1
        serial = 0
        if self.semaphores.try_acquire(offer.slot + at):
            serial = offer.serial + at
            child.held[offer.token][serial] = bytes(offer.pieces()[at])
            child.outbox.append(make(Kind.CLAIMED, number=offer.number, token=offer.token, serial=serial))
        if kept.tried == offer.count:
            child.kept.popleft()
            if not serial:
                # else the claim says it
                self.leave(child, kept)
        return serial

    def take_ahead(self, child: Child) -> list[bytes]:
        """The child has credit for one message, and tries what it keeps until it has one: its body, if there is one."""
        while child.kept:
            serial = self.try_ahead(child)
            if serial:
                return [body for held in child.held.values() if (body := held.get(serial)) is not None]
        return []

    def leave(self, child: Child, kept: Kept, kind: Kind = Kind.LOST) -> None:
        """Into the channel: the child does not keep this any more."""
        offer = kept.offer
        child.outbox.append(make(kind, number=offer.number, token=offer.token, index=kept.tried))

    def withdraw(self, child: Child, number: int) -> None:
        """The child hears WITHDRAW: what it does not keep any more it has answered."""
        for kept in child.kept:
            if kept.offer.number == number:
                child.kept.remove(kept)
                self.leave(child, kept)
                return

    def hold(self, child: Child, offer: Envelope) -> None:
        """The child delivers."""
        for position, body in enumerate(offer.pieces()):
            child.held[offer.token][offer.serial + position] = bytes(body)

    def answer(self, child: Child, kind: Kind, offer: Envelope) -> None:
        """Into the channel."""
        assert offer.kind in OFFERS, (offer.kind, offer.block)
        child.outbox.append(make(kind, number=offer.number, token=offer.token))

    def settle(
        self,
        child: Child,
        serial: int,
        count: int = 1,
        outcome: Outcome = Outcome.ACKNOWLEDGED,
        *,
        token: int = 1,
        reason: bytes = b"",
    ) -> None:
        """Into the channel, with the claim behind which it comes, as children tell it."""
        last = child.outbox[-1] if child.outbox else None
        claimed = 0
        entries = [(serial, count, outcome)]
        if last is not None and last.kind is Kind.CLAIMED and last.token == token and not reason:
            claimed, is_ahead = last.number, last.serial > 0
            child.outbox.pop()
            before = child.outbox[-1] if child.outbox else None
            if is_ahead and before is not None and before.kind is Kind.SETTLE and before.serial == claimed:
                # what was settled of one offer is told together
                entries = before.settlements() + entries
                child.outbox.pop()
        child.outbox.append(Envelope(pack_settle(token, entries, reason, claimed=claimed)[0]))
        for gone in range(serial, serial + count):
            child.held[token].pop(gone, None)

    def end(self, child: Child, crash: str = "") -> None:
        """The child's process ends; what it wrote before is heard. `crash`: how it ended, if it crashed."""
        self.hear(child)
        del self.children[child.peer]
        self.router.peer_ended(child.peer, self.now, crash)

    def take_one(self, child: Child) -> Envelope:
        """A turn; the child claims the offer that it has got, and the router hears it."""
        self.turn()
        offer = self.read(child, Kind.OFFER)
        assert self.claim(child, offer)
        self.hear(child)
        return offer

    def consume(self, child: Child) -> list[bytes]:
        """The child takes and acknowledges all that there is for it, and the store does its part: the bodies."""
        return [bytes(piece) for offer in self.consume_offers(child) for piece in offer.pieces()]

    def consume_offers(self, child: Child) -> list[Envelope]:
        """The same: the offers that it got."""
        claimed: list[Envelope] = []
        while offers := self.offers(child):
            for offer in offers:
                if self.claim(child, offer):
                    claimed.append(offer)
                    self.settle(child, offer.serial, offer.count, token=offer.token)
        return claimed

    def offers(self, child: Child) -> list[Envelope]:
        """What the child is offered now, when the store has done its part; all else stays in its inbox."""
        self.turn()
        while self.stock.is_open and (self.stock.told or self.stock.said):
            self.run_store()
            self.turn()
        offers = [envelope for envelope in child.inbox if envelope.kind is Kind.OFFER]
        child.inbox = deque(envelope for envelope in child.inbox if envelope.kind is not Kind.OFFER)
        return offers

    def answers(self, child: Child) -> list[tuple[Kind, int]]:
        """(kind, number) of what the child was told, but for offers."""
        self.deliver()
        found: list[tuple[Kind, int]] = [
            (envelope.kind, envelope.number) for envelope in child.inbox if envelope.kind is not Kind.OFFER
        ]
        child.inbox = deque(envelope for envelope in child.inbox if envelope.kind is Kind.OFFER)
        return found

    def refusal(self, child: Child) -> str:
        """The reason that stands in the last answer, a REFUSED, when the store has done its part."""
        self.run_store() if self.stock.is_open else self.deliver()
        envelope = child.inbox.pop()
        assert envelope.kind is Kind.REFUSED, envelope.kind
        return envelope.block.decode()

    def view(self, name: bytes) -> QueueView:
        """The queue of this name."""
        (view,) = [view for view in self.router.views() if view.name == name]
        return view
