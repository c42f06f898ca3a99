"""Children that lie: whatever one of them says, it harms itself alone, now and later, and the store as little."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.lies import LIES, SEND, join

from forkbroker.errors import EnvelopeError
from forkbroker.routing.peers import STORE
from forkbroker.routing.queues.policies import Policy, QueuePolicy
from forkbroker.store.changes import unpack_change
from forkbroker.wire.details import MAX_MOMENT, Wishes
from forkbroker.wire.envelope import SETTLEMENT, Envelope, pack_pieces, pack_settle
from forkbroker.wire.fields import OF_CHILD, check
from forkbroker.wire.kinds import Flag, Kind, Outcome

from .simulation import World, make
from .stock import Stock

HONEST = b"/queue/honest"
DAY_S = 86_400.0
_NO_CHANGES = (Kind.FETCH, Kind.RETOLD, Kind.TOGETHER, Kind.SET_ASIDE)


class Court:
    """A world in which one child may say anything, and others say the truth."""

    def __init__(self) -> None:
        policy = Policy(queue=QueuePolicy(ttl=5 * 60_000), answer_timeout_s=1.0)
        self.world = World(policy, slots=4, stock=Stock())
        self.producer, self.consumer = self.world.add_child(), self.world.add_child()
        self.world.subscribe(self.consumer, HONEST)
        self.world.subscribe(self.consumer, b"/topic/#", token=2)
        self.world.subscribe(self.consumer, b"/topic/a", token=3, durable=b"/dsub/a")
        self.world.subscribe(self.consumer, b"/queue/a", token=4)
        self.sent: list[bytes] = []
        self.got: list[bytes] = []
        self.liar = self.world.add_child()
        self.convicted = 0

    def say(self, raw: bytes) -> None:
        """The liar says it, and ends if it was caught."""
        try:
            self.world.router.receive(self.liar.peer, Envelope(raw), self.world.now)
        except (EnvelopeError, AssertionError):
            self.convicted += 1
            self.world.end(self.liar)
            self.liar = self.world.add_child()

    def turn(self) -> None:
        """All others do their part: the store can decode what it is told, the consumer what it gets."""
        self.world.router.tick(self.world.now)
        for peer, envelope in self.world.deliver():
            if peer == STORE and envelope.kind not in _NO_CHANGES:
                unpack_change([envelope])
        self.world.run_store()
        while self.consumer.inbox:
            self.read(self.consumer.inbox.popleft())
        self.world.hear(self.consumer)

    def read(self, envelope: Envelope) -> None:
        """What the honest consumer gets can be delivered."""
        if envelope.kind is Kind.SEND:
            check(envelope, OF_CHILD)
        elif envelope.kind is Kind.OFFER:
            assert len(envelope.pieces()) == envelope.count
            assert envelope.block.startswith(b"-")
            assert envelope.details.priority <= 9
            if self.world.claim(self.consumer, envelope):
                self.world.settle(self.consumer, envelope.serial, envelope.count, token=envelope.token)
                self.got += [bytes(piece) for piece in envelope.pieces() if envelope.destination == HONEST]

    def work(self) -> None:
        """One honest message goes its way."""
        body = b"%d" % len(self.sent)
        self.sent.append(body)
        self.world.send(self.producer, HONEST, [body], persistent=True, fence=len(self.sent))
        for _ in range(4):
            self.turn()

    def end(self) -> None:
        """The liar goes, time passes, and nobody else has noticed anything."""
        self.world.end(self.liar)
        for seconds in (2.0, 6.0, 400.0, 2 * DAY_S):
            self.world.pass_time(seconds)
            self.work()
        list(self.world.router.describe())
        self.world.router.views()
        self.world.end(self.consumer)
        self.turn()

        assert self.got == self.sent
        assert not any(self.world.semaphores.values)


@settings(max_examples=150, suppress_health_check=[HealthCheck.data_too_large])
@given(st.lists(LIES, min_size=1, max_size=8))
def test_whatever_a_child_says_the_others_go_on(lies: list[bytes]) -> None:
    """Of every kind, and as many as it can say; the router, the store and the consumers never fail for it."""
    court = Court()
    for lie in lies:
        court.say(lie)
        court.turn()

    court.work()
    court.end()


SHOWN = [
    join(Kind.SEND, **{**SEND, "section": Wishes(ttl=2**64 - 1).pack()}),
    join(Kind.SEND, **{**SEND, "section": Wishes(delay=1, deliver_at=MAX_MOMENT + 1).pack()}),
    join(Kind.SEND, **{**SEND, "section": Wishes(priority=10).pack()}),
    join(Kind.SEND, **{**SEND, "index": 0xFFFF_FFFF}),
    join(Kind.SEND, **{**SEND, "destination": b"/topic/a", "count": 0}),
    join(Kind.SEND, **{**SEND, "destination": b"/dsub/b"}),
    join(Kind.SEND, **{**SEND, "flags": Flag.MIXED | Flag.UNIFORM | Flag.PERSISTENT, "block": b"-s-1\n"}),
    join(Kind.SETTLE, token=1, count=1, payload=[SETTLEMENT.pack(1, 0, 2)]),
    join(Kind.TRANSACTION, count=2, payload=[join(Kind.SEND, **SEND), join(Kind.SEND, **{**SEND, "index": 2**32 - 1})]),
]


@pytest.mark.parametrize("lie", SHOWN)
def test_a_lie_is_its_childs_end(lie: bytes) -> None:
    """Before anything of it is applied: nothing of it is in a queue, on its way, or told to the store."""
    court = Court()
    before = (court.world.router.views(), court.world.router._journal.last)
    court.say(lie)

    assert court.convicted == 1
    assert (court.world.router.views(), court.world.router._journal.last) == before
    court.work()
    court.end()


def test_what_the_store_says_is_checked_as_well() -> None:
    """Its rows may have been edited: the store's process ends, not the parent."""
    world = World()
    flags, payload = pack_pieces([b"x", b"y"])
    page = {"flags": flags, "count": 2, "destination": b"/queue/a", "block": b"-s-1\n\n", "payload": payload}
    for lie in (
        make(Kind.OPENING, serial=2**63 - 1),
        make(Kind.PAGE, **{**page, "index": 2**32 - 1}),
        make(Kind.BACKLOG, destination=b"/queue/a", index=10, count=1),
    ):
        with pytest.raises(EnvelopeError):
            world.router.receive_stored(lie, world.now)
    assert world.router.views() == []


@pytest.mark.parametrize("others", [0, 1])
def test_a_claim_without_the_semaphore_is_a_lie(others: int) -> None:
    """The liar ends; the message goes to another one, and the slot is as good as new."""
    world = World(slots=1)
    producer, liar = world.add_child(), world.add_child()
    honest = [world.add_child() for _ in range(others)]
    for child in (liar, *honest):
        world.subscribe(child, HONEST)
    world.send(producer, HONEST, [b"x"])
    world.turn()
    world.answer(liar, Kind.CLAIMED, world.read(liar, Kind.OFFER))
    with pytest.raises(AssertionError, match="has not taken its semaphore"):
        world.hear(liar)
    world.end(liar)
    last = honest[0] if honest else world.add_child()
    if not honest:
        world.subscribe(last, HONEST)

    assert world.consume(last) == [b"x"]
    assert world.semaphores.values == [0]


@pytest.mark.parametrize("has_taken", [True, False])
def test_a_claim_that_comes_with_a_settlement_is_one(has_taken: bool) -> None:
    """It is believed, or not, as one that comes alone; what is not is not settled either."""
    world = World(slots=1)
    producer, child = world.add_child(), world.add_child()
    world.subscribe(child, HONEST)
    world.send(producer, HONEST, [b"x"])
    world.turn()
    offer = world.read(child, Kind.OFFER)
    if has_taken:
        assert world.semaphores.try_acquire(offer.slot)
    settle = pack_settle(offer.token, [(offer.serial, 1, Outcome.ACKNOWLEDGED)], claimed=offer.number)
    if has_taken:
        world.tell(child, Envelope(settle[0]))
    else:
        with pytest.raises(AssertionError, match="has not taken its semaphore"):
            world.tell(child, Envelope(settle[0]))

    counters = world.router.counters
    assert (counters.messages_claimed, counters.messages_acknowledged) == ((1, 1) if has_taken else (0, 0))


def test_no_claim_comes_with_a_settlement_of_a_transaction() -> None:
    """A transaction may wait; a claim does not."""
    court = Court()
    (settle,) = pack_settle(1, [(1, 1, Outcome.ACKNOWLEDGED)], claimed=1)
    court.say(join(Kind.TRANSACTION, count=1, payload=[settle]))

    assert court.convicted == 1
