"""A router without processes, and how long its longest turn took: the stage of `turns.py`."""

import time
from collections import deque
from collections.abc import Callable, Iterable

from forkbroker.posix import collector
from forkbroker.routing.queues.policies import Policy
from forkbroker.routing.router import Router
from forkbroker.wire.details import NO_WISHES, Wishes
from forkbroker.wire.envelope import Envelope, pack, pack_pieces
from forkbroker.wire.kinds import Kind

BATCH = 256
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

    def __init__(self, *, is_open: bool = True, **policy: object) -> None:
        self.wall = _NOON
        self.now = 0.0
        self.semaphores = Semaphores()
        self.router = Router(Policy(queue_memory=2**31, **policy), self.semaphores, lambda: self.wall)  # type: ignore[arg-type]
        self.longest_ms = 0.0
        self._peers = 0
        if is_open:
            self.open_store()

    def open_store(self) -> None:
        """A store that has nothing, and never answers."""
        self.tell(make(Kind.OPENING, serial=1))
        self.tell(make(Kind.OPENED))

    def tell(self, envelope: Envelope) -> None:
        """A word of the store."""
        self.router.receive_stored(envelope, self.now)

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
        for peer in list(self.router.waiting):
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

    def fill(
        self,
        destination: bytes,
        messages: int,
        wishes: Wishes = NO_WISHES,
        *,
        together: int = BATCH,
        flags: int = 0,
    ) -> None:
        """So many messages."""
        peer = self.add_peer()
        for _ in range(messages // together):
            self.turn(peer, send(destination, together, wishes, flags=flags))

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


def send(destination: bytes, count: int = 1, wishes: Wishes = NO_WISHES, *, flags: int = 0, fence: int = 0) -> Envelope:
    """A SEND of so many small messages."""
    form, payload = pack_pieces([b"%100d" % number for number in range(count)])
    section = b"" if wishes is NO_WISHES else wishes.pack()
    return make(
        Kind.SEND,
        flags=flags | form,
        count=count,
        number=fence,
        destination=destination,
        block=b"-session-1\ndestination:x\n\n",
        section=section,
        payload=payload,
    )


def subscribe(destination: bytes, token: int = 1, *, credit: int = 1, flags: int = 0, block: bytes = b"") -> Envelope:
    """A SUBSCRIBE."""
    return make(Kind.SUBSCRIBE, destination=destination, token=token, count=credit, flags=flags, block=block)
