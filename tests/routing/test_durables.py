"""Durable subscriptions: what waits for whom, since when, and until when."""

from __future__ import annotations

import pytest

from forkbroker.errors import EnvelopeError
from forkbroker.routing import sending
from forkbroker.routing.keeping.fans import MESSAGE_OCTETS
from forkbroker.routing.queues.policies import Full, Policy, QueuePolicy
from forkbroker.wire.envelope import Envelope
from forkbroker.wire.fan import unpack_fan
from forkbroker.wire.kinds import Flag, Kind

from .simulation import Child, World, make, make_send
from .stock import Stock
from .twins import hand_over

TOPIC, ALL = b"/topic/news.today", b"/topic/news.#"
ME, YOU = b"/dsub/me", b"/dsub/you"
DAY_MS = 86_400_000


def make_world(policy: QueuePolicy | None = None, *, limit: int = 1000, **rest: int) -> tuple[World, Child, Child]:
    world = World(
        Policy(durable=policy or QueuePolicy(), max_durables=limit, **rest),  # type: ignore[arg-type]
        stock=Stock(),
    )
    return world, world.add_child(), world.add_child()


def names(world: World) -> list[bytes]:
    return [view.name for view in world.router.views()]


def told(world: World) -> list[Envelope]:
    world.deliver()
    return list(world.stock.told)


# ---------------------------------------------------------------- what waits


def test_messages_wait_from_the_first_subscription_on() -> None:
    """Not those before it; in their order, and while nobody reads."""
    world, producer, reader = make_world()
    world.send(producer, TOPIC, [b"0"])
    world.subscribe(reader, TOPIC, durable=ME)
    world.send(producer, TOPIC, [b"1"])
    world.end(reader)
    world.send(producer, TOPIC, [b"2", b"3"])
    again = world.add_child()
    world.subscribe(again, TOPIC, durable=ME)

    assert world.consume(again) == [b"1", b"2", b"3"]


def test_what_is_delivered_names_the_queue_and_not_the_topic_in_its_header() -> None:
    """The topic stands within the envelope's block, as its sender's child wrote it."""
    world, producer, reader = make_world()
    world.subscribe(reader, TOPIC, durable=ME)
    world.send(producer, TOPIC, [b"1"])

    assert world.take_one(reader).destination == ME


def test_a_pattern_gets_what_it_matches() -> None:
    """And nothing else."""
    world, producer, reader = make_world()
    world.subscribe(reader, ALL, durable=ME)
    for name in (TOPIC, b"/topic/weather", b"/topic/news", b"/topic/news.a.b"):
        world.send(producer, name, [name])

    assert world.consume(reader) == [TOPIC, b"/topic/news", b"/topic/news.a.b"]


def test_each_durable_subscription_has_its_own_copy() -> None:
    """Beside those who just listen; a subscription that comes later gets what comes later."""
    world, producer, reader = make_world()
    listener = world.add_child()
    world.subscribe(reader, TOPIC, durable=ME)
    world.send(producer, TOPIC, [b"1"])
    world.subscribe(reader, ALL, durable=YOU, token=2)
    world.subscribe(listener, TOPIC)
    world.send(producer, TOPIC, [b"2"])

    found = [(offer.destination, bytes(body)) for offer in world.consume_offers(reader) for body in offer.pieces()]

    assert sorted(found) == [(ME, b"1"), (ME, b"2"), (YOU, b"2")]
    assert [envelope.kind for envelope in listener.inbox] == [Kind.SEND]


def test_several_readers_share_one_subscription() -> None:
    """Each message goes to one of them."""
    world, producer, one = make_world()
    two = world.add_child()
    for child in (one, two):
        world.subscribe(child, TOPIC, durable=ME, credit=1)
    world.send(producer, TOPIC, [b"1", b"2"])
    world.turn()

    bodies = {bytes(world.read(child, Kind.OFFER).pieces()[0]) for child in (one, two)}

    assert bodies == {b"1", b"2"}


def test_by_its_own_name_it_is_read_like_a_queue() -> None:
    """If it exists."""
    world, producer, reader = make_world()
    other = world.add_child()
    world.subscribe(other, ME)
    assert world.refusal(other) == "there is no durable subscription /dsub/me"
    world.subscribe(reader, TOPIC, durable=ME)
    world.unsubscribe(reader)
    world.send(producer, TOPIC, [b"1"])

    world.subscribe(other, ME, token=2)

    assert world.consume(other) == [b"1"]


# ---------------------------------------------------------------- its life


def test_a_subscription_without_reader_and_messages_is_there_all_the_same() -> None:
    """It is not forgotten as an empty queue is."""
    world, _, reader = make_world()
    world.subscribe(reader, TOPIC, durable=ME)
    world.unsubscribe(reader)

    assert names(world) == [ME]


def test_one_name_is_one_subscription() -> None:
    """Under another topic it is refused, with what to do."""
    world, _, reader = make_world()
    world.subscribe(reader, TOPIC, durable=ME)

    world.subscribe(reader, ALL, durable=ME, token=2)

    assert world.refusal(reader) == (
        "durable subscription /dsub/me is to /topic/news.today, not to /topic/news.#; "
        "delete it by UNSUBSCRIBE, or choose another name"
    )


def test_deleting_takes_what_waits_with_it() -> None:
    """Wherever it is: the next one of this name begins anew."""
    world, producer, reader = make_world(queue_memory=50_000)
    world.subscribe(reader, TOPIC, durable=ME, credit=1)
    for number in range(20):
        world.send(producer, TOPIC, [b"%9999d" % number], persistent=number % 2 == 0)
    world.run_store()
    world.take_one(reader)

    world.delete_durable(reader, ME, token=1, fence=3)
    world.run_store()

    assert world.answers(reader) == [(Kind.FENCED, 3)]
    assert names(world) == []
    assert not (world.stock.rows or world.stock.spilled or world.stock.durables)
    assert world.router._queues.window.used == 0
    world.subscribe(reader, TOPIC, durable=ME, token=2)
    world.send(producer, TOPIC, [b"new"])
    assert world.consume(reader) == [b"new"]


def test_who_deletes_what_another_one_reads_is_refused() -> None:
    """Nothing is lost by that; to delete what is not there is no error."""
    world, _, reader = make_world()
    other = world.add_child()
    world.subscribe(reader, TOPIC, durable=ME)

    world.delete_durable(other, ME)
    assert world.refusal(other) == "durable subscription /dsub/me is in use by another client"
    assert names(world) == [ME]
    world.delete_durable(other, YOU, fence=2)
    assert world.answers(other) == [(Kind.FENCED, 2)]


def test_so_many_durable_subscriptions_and_no_more() -> None:
    """The reason names the limit; one that ends makes room."""
    world, _, reader = make_world(limit=1)
    world.subscribe(reader, TOPIC, durable=ME)

    world.subscribe(reader, TOPIC, durable=YOU, token=2)
    assert world.refusal(reader) == "there are 1 durable subscriptions already, the limit (max-durables)"
    world.delete_durable(reader, ME, token=1)
    world.subscribe(reader, TOPIC, durable=YOU, token=3)

    assert names(world) == [YOU]


def test_a_name_or_pattern_that_is_none_makes_nothing() -> None:
    """Nonsense of a child: a queue can't be made durable by it."""
    world, _, reader = make_world()

    with pytest.raises(EnvelopeError, match="not the name of a durable subscription"):
        world.subscribe(reader, TOPIC, durable=b"/queue/a")
    with pytest.raises(EnvelopeError, match="last level"):
        world.tell(
            reader, make(Kind.SUBSCRIBE, destination=b"/topic/#.a", block=ME, flags=Flag.DURABLE, token=3, count=1)
        )
    assert names(world) == []
    assert told(world) == []


def test_the_administrator_hears_of_each_beginning_and_end() -> None:
    """Once."""
    world, _, reader = make_world()
    world.subscribe(reader, TOPIC, durable=ME)
    world.subscribe(reader, TOPIC, durable=ME, token=2)
    assert world.router.take_events() == ["durable subscription /dsub/me to /topic/news.today: created"]
    for token in (1, 2):
        world.unsubscribe(reader, token)

    world.delete_durable(reader, ME)

    assert world.router.take_events() == ["durable subscription /dsub/me to /topic/news.today: deleted"]
    assert world.router.take_events() == []


# ---------------------------------------------------------------- its end by time


def test_one_that_nobody_uses_ends() -> None:
    """So long after its last reader has left, not after its making, and not while somebody reads."""
    world, producer, reader = make_world(QueuePolicy(idle_expiry=DAY_MS))
    world.subscribe(reader, TOPIC, durable=ME)
    for _ in range(3):
        world.pass_time(DAY_MS / 1000)
        world.turn()
    world.send(producer, TOPIC, [b"1"], persistent=True)
    world.unsubscribe(reader)

    world.pass_time(DAY_MS / 1000 - 1)
    world.turn()
    assert names(world) == [ME]
    world.pass_time(1)
    world.turn()

    assert names(world) == []
    assert world.router.take_events()[-1].endswith("expired, no client used it for 86,400 s")
    world.run_store()
    assert not (world.stock.rows or world.stock.durables)


def test_the_store_is_told_of_its_use_now_and_then() -> None:
    """Often enough that a restart does not end what is in use; not at each turn of a busy reader."""
    world, _, reader = make_world(QueuePolicy(idle_expiry=DAY_MS))
    for second in range(100):
        world.subscribe(reader, TOPIC, durable=ME, token=second + 1)
        world.unsubscribe(reader, second + 1)
        world.pass_time(1)
    assert [envelope.kind for envelope in told(world)] == [Kind.DEFINE]

    world.pass_time(3600)
    world.subscribe(reader, TOPIC, durable=ME, token=1000)
    world.run_store()

    (kept,) = world.stock.durables.values()
    assert kept == (TOPIC, int(world.wall * 1000))


def test_a_reader_that_leaves_has_used_it() -> None:
    """The time counts from there, though no other event is near."""
    world, _, reader = make_world(QueuePolicy(idle_expiry=1000))
    world.subscribe(reader, TOPIC, durable=ME)
    world.pass_time(0.9)
    world.unsubscribe(reader)

    world.pass_time(0.99)
    world.turn()
    assert names(world) == [ME]
    world.pass_time(0.02)
    world.turn()
    assert names(world) == []


def test_one_that_was_deleted_does_not_end_a_second_time() -> None:
    """Its old time means nothing any more: not for the broker, and not for the next one of its name."""
    world, _, reader = make_world(QueuePolicy(idle_expiry=1000))
    world.subscribe(reader, TOPIC, durable=ME)
    world.delete_durable(reader, ME, token=1)
    world.pass_time(0.6)
    world.turn()
    world.subscribe(reader, TOPIC, durable=ME)
    world.unsubscribe(reader)
    world.pass_time(0.6)
    world.turn()

    assert names(world) == [ME]
    assert [note.rpartition(": ")[2] for note in world.router.take_events()] == ["created", "deleted", "created"]
    world.delete_durable(reader, ME)
    world.pass_time(2)
    world.turn()
    assert [note.rpartition(": ")[2] for note in world.router.take_events()] == ["deleted"]


@pytest.mark.parametrize(("idle_ms", "told_after_ms"), [(3_600_000, 360_000), (5_000, 1_000), (30 * DAY_MS, 3_600_000)])
def test_the_store_hears_of_use_after_a_tenth_of_the_expiry(idle_ms: int, told_after_ms: int) -> None:
    """But not more often than each second, and each hour at least."""
    world, _, reader = make_world(QueuePolicy(idle_expiry=idle_ms))
    world.subscribe(reader, TOPIC, durable=ME)
    world.pass_time((told_after_ms - 1) / 1000)
    world.unsubscribe(reader)
    assert [envelope.kind for envelope in told(world)] == [Kind.DEFINE]

    world.subscribe(reader, TOPIC, durable=ME)
    world.pass_time(told_after_ms / 1000)
    world.unsubscribe(reader)

    assert [envelope.kind for envelope in told(world)] == [Kind.DEFINE, Kind.DEFINE]


def test_lives_of_durable_subscriptions_leave_nothing_behind() -> None:
    """Made and deleted, a thousand times: no entry in a table, a cache or the timers."""
    world, producer, reader = make_world(QueuePolicy(idle_expiry=DAY_MS))
    for number in range(1000):
        name, topic = b"/dsub/%d" % number, b"/topic/%d.%s" % (number, b"#" if number % 2 else b"a")
        world.subscribe(reader, topic, durable=name)
        world.send(producer, topic.replace(b"#", b"b"), [b"1"])
        world.delete_durable(reader, name, token=1)
    world.run_store()

    durables = world.router._topics.durables
    assert (len(durables), durables._audience._names, len(durables._audience._patterns)) == (0, {}, 0)
    assert len(world.router._timers) == 0
    assert len(world.router._timers._dates) < 200
    assert world.router.views() == []


# ---------------------------------------------------------------- limits, and the store


def test_by_default_who_is_away_holds_back_nobody() -> None:
    """The oldest messages are dropped."""
    world = World(Policy(durable=QueuePolicy(max_length=3, full=Full.DROP_OLDEST)), stock=Stock())
    producer, reader = world.add_child(), world.add_child()
    world.subscribe(reader, TOPIC, durable=ME)
    world.unsubscribe(reader)
    for number in range(10):
        world.send(producer, TOPIC, [b"%d" % number])
    assert world.answers(producer) == []

    world.subscribe(reader, TOPIC, durable=ME, token=2)

    assert world.consume(reader) == [b"7", b"8", b"9"]


def test_a_full_one_may_refuse_the_publishers_of_its_topic() -> None:
    """Nobody gets the message then: neither other durable subscriptions, nor who listens."""
    world, producer, reader = make_world(QueuePolicy(max_length=1, full=Full.REFUSE))
    listener = world.add_child()
    world.subscribe(reader, TOPIC, durable=ME, credit=0)
    world.send(producer, TOPIC, [b"1"])
    world.subscribe(reader, TOPIC, durable=YOU, token=2, credit=0)
    world.subscribe(listener, TOPIC)

    world.send(producer, TOPIC, [b"2"], fence=4)

    assert world.refusal(producer) == (
        "durable subscription /dsub/me is full: 1 messages, the limit is 1 (max-queue-length, or a policy)"
    )
    assert world.view(YOU).ready == 0
    assert not listener.inbox


def test_a_full_one_may_hold_the_publishers_of_its_topic() -> None:
    """Until there is room."""
    world, producer, reader = make_world(QueuePolicy(max_length=2, full=Full.HOLD))
    world.subscribe(reader, TOPIC, durable=ME)
    for _ in range(2):
        world.send(producer, TOPIC, [b"1"])
    assert world.answers(producer) == [(Kind.HOLD, 0)]

    world.consume(reader)

    assert world.answers(producer) == [(Kind.RESUME, 0)]


def test_what_one_send_gives_to_several_durables_is_told_once() -> None:
    """A list of the queues, with a serial each, and the messages once."""
    world, producer, reader = make_world()
    world.subscribe(reader, TOPIC, durable=ME)
    world.subscribe(reader, ALL, durable=YOU, token=2)
    world.run_store()

    world.send(producer, TOPIC, [b"1"], persistent=True, fence=9)

    (change,) = told(world)
    targets, batch = unpack_fan(change)
    assert [queue for _, queue in targets] == [ME, YOU]
    assert (batch.kind, batch.pieces()) == (Kind.WRITE, [b"1"])
    assert world.answers(producer) == []
    world.run_store()
    assert world.answers(producer) == [(Kind.FENCED, 9)]


def test_the_receipt_of_a_new_subscription_waits_for_the_store() -> None:
    """What it promises is to survive."""
    world, _, reader = make_world()

    world.subscribe(reader, TOPIC, durable=ME, fence=1)

    assert world.answers(reader) == []
    world.run_store()
    assert world.answers(reader) == [(Kind.FENCED, 1)]


def test_a_transaction_reaches_durable_subscriptions_too() -> None:
    """Its topics as well as its queues."""
    world, producer, reader = make_world()
    world.subscribe(reader, TOPIC, durable=ME)
    parts = [make_send(TOPIC, [b"1"]).raw, make_send(TOPIC, [b"2"], persistent=True).raw]

    world.tell(producer, make(Kind.TRANSACTION, count=2, payload=parts))

    assert world.consume(reader) == [b"1", b"2"]


@pytest.mark.parametrize(("readers", "copies"), [(0, 0), (1, 0), (2, 1), (4, 3)])
def test_a_copy_for_each_subscription_but_the_first_is_weighed(readers: int, copies: int) -> None:
    """The whole envelope, and what each message costs beside it; the first one is counted by who sends."""
    world, _, reader = make_world()
    for number in range(readers):
        world.subscribe(reader, TOPIC, durable=b"/dsub/%d" % number, token=number + 1)
    envelope = make_send(TOPIC, [b"1", b"22", b"333"])

    assert world.router._topics.durables.weigh_copies(envelope) == copies * (len(envelope.raw) + 3 * MESSAGE_OCTETS)


def test_a_transaction_has_no_more_copies_than_are_permitted(monkeypatch: pytest.MonkeyPatch) -> None:
    """To the octet."""
    world, producer, reader = make_world()
    for number in range(3):
        world.subscribe(reader, TOPIC, durable=b"/dsub/%d" % number, token=number + 1)
    part = make_send(TOPIC, [b"1"], persistent=True)
    transaction = make(Kind.TRANSACTION, count=2, payload=[part.raw, part.raw], flags=Flag.FENCE, number=1)
    weight = 2 * world.router._topics.durables.weigh_copies(part)

    monkeypatch.setattr(sending, "MAX_COPIES", weight - 1)
    world.tell(producer, transaction)
    assert "copies" in world.refusal(producer)
    monkeypatch.setattr(sending, "MAX_COPIES", weight)
    world.tell(producer, transaction)
    world.run_store()

    assert world.answers(producer) == [(Kind.FENCED, 1)]


# ---------------------------------------------------------------- in another router


def test_a_durable_subscription_is_known_to_another_router() -> None:
    """What is sent to its topic waits, it can't be opened to another one, and it can be deleted."""
    world, producer, reader = make_world()
    world.subscribe(reader, ALL, durable=ME)
    world.end(reader)

    hand_over(world)
    world.send(producer, TOPIC, [b"1"])
    world.subscribe(producer, TOPIC, durable=ME)
    assert "is to /topic/news.#, not to" in world.refusal(producer)
    reader = world.add_child()
    world.subscribe(reader, ALL, durable=ME)
    assert world.consume(reader) == [b"1"]
    hand_over(world)
    world.delete_durable(reader, ME, token=1)
    world.send(producer, TOPIC, [b"2"])

    assert names(world) == []


def test_a_durable_subscription_that_nobody_uses_ends_in_another_router() -> None:
    """By the time of its last use."""
    world, _, reader = make_world(QueuePolicy(idle_expiry=DAY_MS))
    world.subscribe(reader, TOPIC, durable=ME)
    world.pass_time(1_000)
    world.end(reader)

    hand_over(world)
    world.pass_time(DAY_MS / 1000 - 1)
    world.turn()
    assert names(world) == [ME]
    world.pass_time(1)
    world.turn()

    assert names(world) == []
