"""Topics, fences, transactions and nonsense."""

from __future__ import annotations

import pytest

from forkbroker.errors import EnvelopeError
from forkbroker.routing.keeping.journal import MAX_OCTETS
from forkbroker.routing.queues.policies import Full, Policy, QueuePolicy, QueueRule
from forkbroker.wire.details import Wishes
from forkbroker.wire.envelope import Envelope, pack_settle
from forkbroker.wire.kinds import Flag, Kind, Outcome

from .simulation import World, make, make_send
from .stock import Stock

A = b"/queue/a"
NEWS = b"/topic/news.today"


# ---------------------------------------------------------------- topics


# ---------------------------------------------------------------- fences


def test_topic_messages_hold_up_nothing_else() -> None:
    """Turns in which nothing else comes are short ones, but what is due is dealt with, and what comes behind it."""
    world = World(Policy(queue=QueuePolicy(lease=1000)))
    talker, holder, other = world.add_child(), world.add_child(), world.add_child()
    world.subscribe(holder, b"/queue/a")
    world.send(talker, b"/queue/a", [b"1"])
    (offer,) = world.offers(holder)
    assert world.claim(holder, offer)
    world.hear(holder)
    world.subscribe(other, b"/queue/a")
    world.turn()
    for _ in range(20):
        world.send(talker, b"/topic/a", [b"news"])
        world.pass_time(0.05)
        world.turn()

    assert world.consume(other) == [b"1"]
    world.send(talker, b"/topic/a", [b"news"])
    world.send(talker, b"/queue/a", [b"2"])
    world.turn()
    assert world.consume(other) == [b"2"]


def test_fences_are_answered_in_order_with_everything_else() -> None:
    """SUBSCRIBE's before any message of it; SEND's behind the sender's own copy."""
    world = World()
    child = world.add_child()
    world.send(child, A, [b"1"], fence=1)
    world.subscribe(child, A, fence=2)
    world.subscribe(child, NEWS, token=2, fence=3)
    world.send(child, NEWS, [b"2"], fence=4)
    world.tell(child, make(Kind.FENCE, number=5))
    world.turn()

    found = [(envelope.kind, envelope.number) for envelope in child.inbox]

    assert found == [
        (Kind.FENCED, 1), (Kind.FENCED, 2), (Kind.FENCED, 3), (Kind.SEND, 4), (Kind.FENCED, 4), (Kind.FENCED, 5),
        (Kind.OFFER, 1),
    ]  # fmt: skip


# ---------------------------------------------------------------- transactions


def test_a_transaction_is_applied_as_a_whole() -> None:
    """Sends to topics and queues, and settlements; then its fence."""
    world = World()
    child = world.add_child()
    world.subscribe(child, A, credit=1)
    world.subscribe(child, NEWS, token=2)
    world.send(child, A, [b"1"])
    offer = world.take_one(child)
    settle = Envelope(pack_settle(1, [(offer.serial, 1, Outcome.ACKNOWLEDGED)])[0])
    parts = [make_send(A, [b"2"]).raw, settle.raw, make_send(NEWS, [b"3"]).raw]

    world.tell(child, make(Kind.TRANSACTION, count=3, payload=parts, flags=Flag.FENCE, number=7))
    world.turn()

    assert [envelope.kind for envelope in child.inbox] == [Kind.SEND, Kind.FENCED, Kind.OFFER]
    assert world.router.counters.messages_acknowledged == 1
    assert world.router.counters.messages_received == 3


@pytest.mark.parametrize(
    ("policy", "refused"),
    [
        (Policy(max_queues=2), b"/queue/c does not exist"),
        (Policy(rules=(QueueRule(A, {"max_bytes": 1, "full": Full.REFUSE}),)), b"/queue/a is full"),
    ],
)
def test_a_transaction_that_is_refused_leaves_no_trace(policy: Policy, refused: bytes) -> None:
    """One refusal refuses all."""
    world = World(policy)
    child = world.add_child()
    world.send(child, A, [b"1"])
    names = [b"/queue/b", b"/reply-queue/none", b"/queue/b", NEWS, b"/queue/c", A]
    world.subscribe(child, NEWS)
    parts = [make_send(name, [b"2"]).raw for name in names]

    world.tell(child, make(Kind.TRANSACTION, count=6, payload=parts, flags=Flag.FENCE, number=7))
    sent = world.turn()

    assert [(envelope.kind, envelope.number) for _, envelope in sent] == [(Kind.REFUSED, 7)]
    assert refused in sent[0][1].block
    assert [(view.name, view.ready) for view in world.router.views()] == [(A, 1)]
    assert world.router.counters.messages_refused == 6


@pytest.mark.parametrize(
    "broken",
    [
        make(Kind.SUBSCRIBE, destination=A),
        make(Kind.SEND, destination=NEWS, count=1),
        make(Kind.SETTLE, token=1, count=1, payload=[bytes(13)]),
        make(Kind.SETTLE, token=1, count=1, payload=[b"short"]),
        make(Kind.SEND, destination=A, count=1, section=b"nonsense", payload=[b"\0\0\0\x01", b"1"], flags=Flag.UNIFORM),
    ],
)
def test_a_transaction_with_nonsense_is_applied_not_at_all(broken: Envelope) -> None:
    """Whatever stands before it."""
    world = World()
    child = world.add_child()

    with pytest.raises(EnvelopeError):
        world.tell(child, make(Kind.TRANSACTION, count=2, payload=[make_send(A, [b"2"]).raw, broken.raw]))
    assert world.router.views() == []


def test_a_transaction_has_what_it_says() -> None:
    """No more, no less."""
    world = World()
    child = world.add_child()

    with pytest.raises(EnvelopeError, match="TRANSACTION of 2 has 1"):
        world.tell(child, make(Kind.TRANSACTION, count=2, payload=[make_send(A, [b"2"]).raw]))


# ---------------------------------------------------------------- nonsense


@pytest.mark.parametrize("kind", [Kind.CONNECTED, Kind.LEAVING, Kind.OFFER, Kind.FENCED, Kind.CLOSE])
def test_what_is_not_the_routers_business_is_an_error(kind: Kind) -> None:
    """The parent keeps it to itself."""
    world = World()
    child = world.add_child()

    with pytest.raises(EnvelopeError, match=f"{kind.name} is not"):
        world.tell(child, make(kind))


def test_a_half_broken_settlement_changes_nothing() -> None:
    """It is decoded before it is applied."""
    world = World()
    child = world.add_child()
    world.subscribe(child, A)
    world.send(child, A, [b"1"])
    offer = world.take_one(child)
    good = pack_settle(1, [(offer.serial, 1, Outcome.ACKNOWLEDGED)])[0]

    with pytest.raises(EnvelopeError):
        world.tell(child, make(Kind.SETTLE, token=1, count=2, payload=[bytes(good[48:]), bytes(13)]))
    assert world.router.views()[0].unsettled == 1


# ---------------------------------------------------------------- when there is something to do


def test_the_deadline_is_that_of_what_is_due_first() -> None:
    """An offer that is not answered, or what waits for its time: whichever is there, and the nearer one of both."""
    world = World(Policy(answer_timeout_s=2.0), start_s=100.0)
    child = world.add_child()
    assert world.router.deadline() is None

    world.send(child, b"/queue/later", [b"x"], wishes=Wishes(delay=3000))
    assert world.router.deadline() == pytest.approx(103.0)
    world.subscribe(child, b"/queue/a")
    world.send(child, b"/queue/a", [b"x"])
    world.turn()
    assert world.router.deadline() == pytest.approx(102.0)
    world.send(child, b"/queue/later", [b"x"], wishes=Wishes(delay=1000))
    assert world.router.deadline() == pytest.approx(101.0)

    world.claim(child, world.read(child, Kind.OFFER))
    world.pass_time(1)
    world.turn()
    assert world.router.deadline() == pytest.approx(103.0)


def test_an_offer_alone_has_a_deadline() -> None:
    """Where nothing else waits for its time."""
    world = World(Policy(answer_timeout_s=2.0), start_s=100.0)
    child = world.add_child()
    world.subscribe(child, b"/queue/a")
    world.send(child, b"/queue/a", [b"x"])
    world.turn()

    assert world.router.deadline() == pytest.approx(102.0)


def test_what_one_turn_could_not_do_is_due_at_once() -> None:
    """At the time of the last word, a child's or the store's, and not at that of an earlier one."""
    world = World(stock=Stock(), steps=1)
    child = world.add_child()
    for name in (b"/queue/a", b"/queue/b", b"/queue/c"):
        world.send(child, name, [b"x"], persistent=True)
        world.catch_up(child)
    world.run_store()
    world.kill_store()
    world.pass_time(7)
    world.open_store()
    assert not world.router.is_applied
    assert world.router.deadline() == world.now
    while not world.router.is_applied:
        world.turn()
    assert world.router.deadline() is None

    world.pass_time(7)
    for _ in range(3):
        world.send(child, b"/queue/a", [b"x"])
    assert world.router.deadline() == world.now


def test_an_answer_is_awaited_while_the_store_commits() -> None:
    """Not for a message that the store is not told of."""
    world = World(Policy(), stock=Stock())
    child = world.add_child()
    seen = []
    for persistent in (False, True):
        world.send(child, b"/queue/a", [b"x"], persistent=persistent)
        world.turn()
        seen.append(world.router.awaits_commit)
    world.run_store()
    world.turn()

    assert [*seen, world.router.awaits_commit] == [False, True, False]


def test_the_store_is_behind_while_producers_wait_for_it() -> None:
    """Not any more when it has failed: it will not catch up, and producers are refused."""
    world = World(Policy(queue_memory=1 << 30), stock=Stock())
    child = world.add_child()
    assert not world.router.is_behind
    for _ in range(MAX_OCTETS // 9_000_000 + 1):
        world.send(child, b"/queue/a", [bytes(9_000_000)], persistent=True)
        world.turn()
    assert world.router.is_behind
    assert (Kind.HOLD, 0) in world.answers(child)

    world.kill_store("the disk is gone")
    world.turn()
    assert not world.router.is_behind
