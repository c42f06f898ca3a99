"""How long the parent is away at most: one turn of its work, in states that make work.

While the parent does one thing it does nothing else: it accepts no client and routes no message. So the longest turn
counts, and not how long a thing takes in all. Here the router is driven as the parent drives it (receive what one read
has brought, tick, take), without processes and sockets, in states that are larger than they should be. The figure is
processor time.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable

from procedures import Bench, Row
from scenarios import Unit

from forkbroker.posix import collector
from forkbroker.routing.policies import Policy, QueuePolicy
from forkbroker.routing.router import Router
from forkbroker.wire.details import NO_WISHES, Wishes
from forkbroker.wire.envelope import Envelope, pack, pack_pieces, pack_settle
from forkbroker.wire.kinds import Flag, Kind, Outcome

TARGET_MS = 50.0
_BATCH = 256
_NOON = 1_800_000_000.0


class Semaphores:
    """Plain numbers, as there is one process."""

    def __init__(self, size: int = 256) -> None:
        self.size = size
        self._values = [0] * size

    def post(self, slot: int) -> None:
        """See `SemaphorePool`."""
        self._values[slot] += 1

    def try_acquire(self, slot: int) -> bool:
        """See `SemaphorePool`."""
        if self._values[slot]:
            self._values[slot] -= 1
            return True
        return False


class Stage:
    """A router, and the longest turn since `begin`."""

    def __init__(self, **policy: object) -> None:
        self.wall = _NOON
        self.now = 0.0
        self.semaphores = Semaphores()
        self.router = Router(Policy(queue_memory=2**31, **policy), self.semaphores, lambda: self.wall)  # type: ignore[arg-type]
        self.longest_ms = 0.0
        self._peers = 0
        self.open_store()

    def open_store(self) -> None:
        """A store that has nothing, and never answers."""
        self.router.receive_stored(make(Kind.OPENING, serial=1), self.now)
        self.router.receive_stored(make(Kind.OPENED), self.now)

    def add_peer(self) -> int:
        """A child."""
        self._peers += 1
        self.router.add_peer(self._peers)  # type: ignore[arg-type]
        return self._peers

    def pass_time(self, seconds: float) -> None:
        """On both clocks."""
        self.now += seconds
        self.wall += seconds

    def begin(self) -> None:
        """From here on it counts."""
        collector.settle()
        self.longest_ms = 0.0

    def turn(self, peer: int = 0, *envelopes: Envelope) -> list[Envelope]:
        """One turn of the parent: what it sends."""
        return self.measure(lambda: [self.router.receive(peer, one, self.now) for one in envelopes])  # type: ignore[arg-type]

    def measure(self, work: Callable[[], object]) -> list[Envelope]:
        """A turn in which this is done."""
        began = time.process_time()
        work()
        for peer in self.router.waiting:
            self.router.go_on(peer, self.now)
        self.router.tick(self.now)
        sent = self.router.take()
        self.longest_ms = max(self.longest_ms, (time.process_time() - began) * 1000)
        return [Envelope(b"".join(buffers)) for _, buffers in sent if buffers[0][5] == Kind.OFFER]

    def rest(self, turns: int = 2000) -> None:
        """Turns until nothing is due any more, so many at most."""
        for _ in range(turns):
            self.turn()
            deadline = self.router.deadline()
            if deadline is None or deadline > self.now:
                return

    def fill(self, destination: bytes, messages: int, wishes: Wishes = NO_WISHES, *, together: int = _BATCH) -> None:
        """So many messages."""
        peer = self.add_peer()
        for _ in range(messages // together):
            self.turn(peer, send(destination, together, wishes))

    def hold(self, peer: int, offers: Iterable[Envelope]) -> list[int]:
        """The child claims these, and all that it is offered then; the serials that it holds by that."""
        serials: list[int] = []
        waiting = deque(offers)
        while waiting:
            offer = waiting.popleft()
            if self.semaphores.try_acquire(offer.slot):
                serials += range(offer.serial, offer.serial + offer.count)
                waiting += self.turn(peer, make(Kind.CLAIMED, number=offer.number, token=offer.token))
        return serials


def make(kind: Kind, **fields: object) -> Envelope:
    """An envelope as the parent reads it."""
    return Envelope(b"".join(pack(kind, **fields)))  # type: ignore[arg-type]


def send(destination: bytes, count: int = 1, wishes: Wishes = NO_WISHES, *, flags: int = 0) -> Envelope:
    """A SEND of so many small messages."""
    form, payload = pack_pieces([b"%100d" % number for number in range(count)])
    section = b"" if wishes is NO_WISHES else wishes.pack()
    return make(
        Kind.SEND,
        flags=flags | form,
        count=count,
        destination=destination,
        block=b"-session-1\ndestination:x\n\n",
        section=section,
        payload=payload,
    )


def subscribe(destination: bytes, token: int = 1, *, credit: int = 1, flags: int = 0, block: bytes = b"") -> Envelope:
    """A SUBSCRIBE."""
    return make(Kind.SUBSCRIBE, destination=destination, token=token, count=credit, flags=flags, block=block)


def delayed() -> float:
    """100,000 delayed messages are due at once."""
    stage = Stage(max_delayed_bytes=2**31)
    stage.fill(b"/queue/a", 100_000, Wishes(delay=60_000), together=1)
    stage.pass_time(61)
    stage.begin()
    stage.rest()
    return stage.longest_ms


def expired() -> float:
    """300,000 messages have a ttl; a part of them expires again and again."""
    stage = Stage()
    for part in range(10):
        stage.fill(b"/queue/a", 30_000, Wishes(ttl=60_000 + part), together=3)
    stage.begin()
    for _ in range(20):
        stage.pass_time(3.1)
        stage.rest()
    return stage.longest_ms


def many_queues() -> float:
    """10,000 queues are listed, and the store ends and is there again."""
    stage = Stage()
    peer = stage.add_peer()
    for number in range(9_990):
        stage.turn(peer, send(b"/queue/%d" % number))
    stage.begin()
    lines = iter(stage.router.describe())
    while stage.measure(lambda: [next(lines, None) for _ in range(100)]) is not None and next(lines, None):
        pass
    stage.measure(lambda: stage.router.store_ended("the disk is full"))
    stage.measure(stage.open_store)
    stage.rest()
    return stage.longest_ms


def many_durables() -> float:
    """1,000 durable subscriptions get a batch of 256."""
    stage = Stage()
    peer = stage.add_peer()
    for number in range(1_000):
        stage.turn(peer, subscribe(b"/topic/t", number + 1, flags=Flag.DURABLE, block=b"/dsub/%d" % number))
        stage.turn(peer, make(Kind.UNSUBSCRIBE, destination=b"/dsub/%d" % number, token=number + 1))
    stage.begin()
    for _ in range(5):
        stage.turn(stage.add_peer(), send(b"/topic/t", _BATCH, flags=Flag.PERSISTENT))
        stage.rest()
    return stage.longest_ms


def many_patterns() -> float:
    """2,000 patterns: names that were never seen, and one more pattern after each."""
    stage = Stage()
    peer = stage.add_peer()
    for number in range(2_000):
        stage.turn(peer, subscribe(b"/topic/%d.*.#" % number, number + 1))
    stage.begin()
    for number in range(500):
        stage.turn(peer, send(b"/topic/%d.x.y.%d" % (number, number)))
        stage.turn(peer, subscribe(b"/topic/%d.#" % number, 10_000 + number))
    return stage.longest_ms


def many_children() -> float:
    """2,000 children have subscribed to one topic, and end one after the other."""
    stage = Stage()
    peers = [stage.add_peer() for _ in range(2_000)]
    for peer in peers:
        stage.turn(peer, subscribe(b"/topic/t"), subscribe(b"/queue/q", 2))
    stage.begin()
    for _ in range(20):
        stage.turn(peers[0], send(b"/topic/t", _BATCH))
        stage.turn(peers[0], send(b"/queue/q", _BATCH))
    for peer in peers[1:]:
        stage.measure(lambda peer=peer: stage.router.peer_ended(peer, stage.now))  # type: ignore[misc]
    return stage.longest_ms


def many_unsettled() -> float:
    """20,000 messages of a leased queue are unsettled: a COMMIT of 1,000 ACKs, then the end of the child."""
    stage = Stage(queue=QueuePolicy(lease=3_600_000))
    stage.fill(b"/queue/a", 20_000, together=1)
    peer = stage.add_peer()
    serials = stage.hold(peer, stage.turn(peer, subscribe(b"/queue/a", credit=30_000)))
    stage.begin()
    entries = [(serial, 1, Outcome.ACKNOWLEDGED) for serial in serials[::20][:1000]]
    payload = pack_settle(1, entries)
    stage.turn(peer, make(Kind.TRANSACTION, count=1, payload=payload))
    stage.measure(lambda: stage.router.peer_ended(peer, stage.now, "killed"))  # type: ignore[arg-type]
    stage.rest()
    return stage.longest_ms


def leases_end() -> float:
    """20,000 messages are taken back from a consumer at once."""
    stage = Stage(queue=QueuePolicy(lease=60_000))
    stage.fill(b"/queue/a", 20_000, together=1)
    peer = stage.add_peer()
    stage.hold(peer, stage.turn(peer, subscribe(b"/queue/a", credit=30_000)))
    stage.pass_time(61)
    stage.begin()
    stage.rest()
    return stage.longest_ms


def temporary_queue_ends() -> float:
    """A temporary queue with 300,000 messages ends with its owner."""
    stage = Stage()
    owner = stage.add_peer()
    name = b"/reply-queue/secret/a"
    stage.turn(owner, subscribe(name, credit=1, flags=Flag.TEMPORARY))
    stage.fill(name, 300_000)
    stage.begin()
    stage.measure(lambda: stage.router.peer_ended(owner, stage.now))  # type: ignore[arg-type]
    stage.rest()
    return stage.longest_ms


STATES = (
    delayed,
    expired,
    many_queues,
    many_durables,
    many_patterns,
    many_children,
    many_unsettled,
    leases_end,
    temporary_queue_ends,
)


def measure_turns(_: Bench) -> list[Row]:
    """A row for each state."""
    rows = []
    for state in STATES:
        row = Row(f"turn-{state.__name__}", f"longest turn: {state.__doc__}", None, Unit.MILLISECONDS)
        row.target = TARGET_MS
        row.figure = state()
        rows.append(row)
    return rows
