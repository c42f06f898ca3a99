"""Messages for later: when they come, how often, and where they wait."""

from __future__ import annotations

import pytest

from forkbroker.errors import EnvelopeError
from forkbroker.routing.queues.policies import Full, Policy, QueuePolicy
from forkbroker.routing.timers import BUDGET
from forkbroker.wire.details import Details, Wishes
from forkbroker.wire.envelope import with_index
from forkbroker.wire.kinds import Flag, Kind

from .simulation import NOON, Child, World, make, make_send
from .stock import Row, Stock
from .twins import hand_over

A = b"/queue/a"
NOON_MS = int(NOON * 1000)


def make_world(**policy: int) -> tuple[World, Child, Child]:
    world = World(Policy(**policy), stock=Stock())  # type: ignore[arg-type]
    producer, consumer = world.add_child(), world.add_child()
    world.subscribe(consumer, A)
    return world, producer, consumer


def send(world: World, child: Child, body: bytes, *, persistent: bool = False, **wishes: int | bytes) -> None:
    world.send(child, A, [body], persistent=persistent, wishes=Wishes(**wishes))  # type: ignore[arg-type]


def seconds_of(world: World, consumer: Child, until: int) -> list[int]:
    """In which seconds from now something comes."""
    found = []
    for second in range(until + 1):
        found += [second] * len(world.consume(consumer))
        world.pass_time(1)
    return found


# ---------------------------------------------------------------- once


def test_a_delayed_message_comes_when_its_time_has_come() -> None:
    """At that moment, which the router knows beforehand."""
    world, producer, consumer = make_world()
    send(world, producer, b"later", delay=3000)

    assert world.router.deadline() == pytest.approx(3.0)
    world.pass_time(2.999)
    assert world.consume(consumer) == []
    world.pass_time(0.001)

    assert world.consume(consumer) == [b"later"]
    assert world.router.deadline() is None


def test_delayed_messages_overtake_nothing_that_was_there_before_their_time() -> None:
    """They get their place when their time comes: among each other by their times."""
    world, producer, consumer = make_world()
    world.unsubscribe(consumer)
    send(world, producer, b"third", delay=2000)
    send(world, producer, b"second", delay=1000)
    world.send(producer, A, [b"first"])
    world.pass_time(2)
    world.turn()
    world.send(producer, A, [b"fourth"])
    world.subscribe(consumer, A)

    assert world.consume(consumer) == [b"first", b"second", b"third", b"fourth"]


def test_a_moment_is_a_moment_and_a_delay_is_added_to_it() -> None:
    """What is not in the future comes at once."""
    world, producer, consumer = make_world()
    send(world, producer, b"2", deliver_at=NOON_MS + 2000)
    send(world, producer, b"5", deliver_at=NOON_MS + 2000, delay=3000)
    send(world, producer, b"0", deliver_at=NOON_MS - 5000)

    assert seconds_of(world, consumer, 6) == [0, 2, 5]


def test_a_delayed_message_is_no_message_of_its_queue_yet() -> None:
    """Nobody can see it there, and a queue with nothing else is forgotten."""
    world, producer, consumer = make_world()
    world.unsubscribe(consumer)

    send(world, producer, b"later", delay=3000)
    assert world.router.views() == []
    assert [line for line in world.router.describe() if line.startswith("schedule: 1 messages")]
    world.pass_time(3)
    world.turn()

    assert world.view(A).ready == 1
    assert not [line for line in world.router.describe() if line.startswith("schedule")]


def test_what_waits_may_use_so_much_memory_and_no_more() -> None:
    """Then it is refused with the limit's name; what is not delayed is not concerned, and time makes room."""
    world, producer, consumer = make_world(max_delayed_bytes=10_000)
    send(world, producer, b"x" * 10_000, delay=1000)

    world.send(producer, A, [b"y"], fence=4, wishes=Wishes(delay=5))
    reason = world.refusal(producer)
    assert "1 delayed messages use 10," in reason
    assert reason.endswith("the limit (max-delayed-bytes) is 10,000")
    send(world, producer, b"now", priority=3)
    assert world.consume(consumer) == [b"now"]
    world.pass_time(1)
    world.consume(consumer)

    send(world, producer, b"y", delay=5)
    assert world.answers(producer) == []


# ---------------------------------------------------------------- again


def test_a_repeated_message_comes_so_many_times_more() -> None:
    """The first time after the delay, then a period apart."""
    world, producer, consumer = make_world()
    send(world, producer, b"again", delay=1000, period=2000, repeat=2)

    assert seconds_of(world, consumer, 12) == [1, 3, 5]
    assert world.router.deadline() is None


def test_a_repeated_message_without_a_delay_comes_at_its_own_pace() -> None:
    """Its child has told when it comes first; a period alone does not repeat."""
    world, producer, consumer = make_world()
    send(world, producer, b"once", period=2000)
    send(world, producer, b"never", repeat=3)

    assert seconds_of(world, consumer, 6) == [0, 0]


def test_a_message_may_come_without_end() -> None:
    """`repeat` is -1."""
    world, producer, consumer = make_world()
    send(world, producer, b"tick", delay=1000, period=1000, repeat=-1)

    assert seconds_of(world, consumer, 50) == list(range(1, 51))


def test_each_repetition_is_a_message_of_its_own() -> None:
    """With its own serial and its own number in the message-id, so that each can be acknowledged."""
    world, producer, consumer = make_world()
    world.send(producer, A, [b"a", b"b"], wishes=Wishes(delay=1000, period=1000, repeat=2))
    world.pass_time(1)
    offers = world.consume_offers(consumer)
    world.pass_time(1)
    offers += world.consume_offers(consumer)

    first, second = offers
    assert second.serial >= first.serial + 2
    assert (first.index, second.index) == (0, 2)
    assert first.details.period == first.details.repeat == first.details.due == 0


@pytest.mark.parametrize("persistent", [False, True])
def test_what_was_missed_is_not_made_up_for(persistent: bool) -> None:
    """The broker stood still for a while: one comes, and then the next one in its old rhythm."""
    world, producer, consumer = make_world()
    send(world, producer, b"tick", delay=1000, period=10_000, repeat=5, persistent=persistent)

    world.pass_time(35)

    assert seconds_of(world, consumer, 60) == [0, 6, 16]


def test_a_cron_line_names_the_times() -> None:
    """Each minute here, and without end."""
    world, producer, consumer = make_world()
    send(world, producer, b"tick", cron=b"* * * * *")
    start = int(60 - NOON % 60)

    assert seconds_of(world, consumer, 200) == [start, start + 60, start + 120]


def test_a_cron_line_that_cannot_be_read_is_its_childs_fault() -> None:
    """The child should have checked it."""
    world, producer, _ = make_world()

    with pytest.raises(EnvelopeError, match="fields"):
        send(world, producer, b"tick", cron=b"* * *")
    assert world.router.deadline() is None


# ---------------------------------------------------------------- in the store


def test_a_persistent_delayed_message_waits_in_the_store_and_moves_to_its_queue() -> None:
    """One WRITE, one MOVE, one DELETE."""
    world, producer, consumer = make_world()
    send(world, producer, b"later", delay=3000, persistent=True)
    world.run_store()
    ((serial, row),) = world.stock.rows.items()
    assert row.details.due == NOON_MS + 3000
    world.pass_time(3)
    world.turn()
    world.stock.work()
    ((new_serial, moved),) = world.stock.rows.items()

    assert new_serial > serial
    assert (moved.details.due, moved.queue, moved.body) == (0, A, b"later")
    world.hear_store()
    (offer,) = world.consume_offers(consumer)
    assert offer.serial == new_serial
    assert not world.stock.rows


def test_a_repetition_and_its_next_time_are_one_change() -> None:
    """Whatever the store dies of, there is neither a second copy nor none."""
    world, producer, _ = make_world()
    send(world, producer, b"tick", delay=1000, period=1000, repeat=-1, persistent=True)
    world.run_store()

    world.pass_time(1)
    world.turn()

    changes = [envelope.kind for envelope in world.stock.told if envelope.kind is not Kind.FETCH]
    assert changes == [Kind.WRITE, Kind.MOVE, Kind.TOGETHER]
    world.run_store()
    assert sorted(row.details.due for row in world.stock.rows.values()) == [0, NOON_MS + 2000]
    assert sorted(row.index for row in world.stock.rows.values()) == [0, 1]


def test_the_store_is_told_of_a_firing_once_and_only_if_the_message_is_persistent() -> None:
    """One MOVE; nothing at all of a message that is not to survive."""
    for persistent, kinds in ((True, [Kind.MOVE]), (False, [])):
        world, producer, _ = make_world()
        send(world, producer, b"later", delay=1000, persistent=persistent)
        world.run_store()
        world.pass_time(1)
        world.turn()

        assert [envelope.kind for envelope in world.stock.told] == kinds


def test_a_repetition_that_is_not_persistent_is_not_told_to_the_store() -> None:
    """Neither the copy nor the next time."""
    world, producer, _ = make_world()
    send(world, producer, b"tick", delay=1000, period=1000, repeat=-1)
    world.pass_time(1)
    world.turn()

    assert not world.stock.told


def test_the_number_of_a_repetition_stays_within_its_range() -> None:
    """A message that was repeated for months goes on with 1."""
    world, producer, consumer = make_world()
    raw = make_send(A, [b"x"], wishes=Wishes(delay=1000, period=1000, repeat=-1))
    world.tell(producer, with_index(raw, 2**32 - 2))
    indexes = []
    for _ in range(4):
        world.pass_time(1)
        indexes += [offer.index for offer in world.consume_offers(consumer)]

    assert indexes == [2**32 - 2, 2**32 - 1, 1, 2]


def test_many_that_are_due_at_once_come_in_portions() -> None:
    """One turn does a part of them, in their order, and the next one goes on at once."""
    for wishes in (Wishes(delay=1000), Wishes(deliver_at=NOON_MS + 1000)):
        world = World(Policy(max_delayed_bytes=1 << 26))
        producer = world.add_child()
        for number in range(3 * BUDGET - 1):
            world.send(producer, A, [b"%d" % number], wishes=wishes)
        world.pass_time(1)
        come = []
        while world.router.deadline() is not None:
            assert world.router.deadline() <= world.now  # type: ignore[operator]
            world.turn()
            come.append(world.view(A).ready)

        assert come == [BUDGET, 2 * BUDGET, 3 * BUDGET - 1]


def test_delayed_messages_that_come_heed_the_limit_of_their_queue() -> None:
    """One that drops its oldest messages does so then."""
    policy = Policy(queue=QueuePolicy(max_length=2, full=Full.DROP_OLDEST))
    world = World(policy)
    producer, consumer = world.add_child(), world.add_child()
    for number in range(4):
        send(world, producer, b"%d" % number, delay=1000)
    world.pass_time(1)
    world.turn()
    world.subscribe(consumer, A)

    assert world.consume(consumer) == [b"2", b"3"]


def test_a_delayed_message_may_expire_meanwhile() -> None:
    """It is dropped when it comes, not delivered."""
    world, producer, consumer = make_world()
    world.send(producer, A, [b"late"], wishes=Wishes(delay=3000, ttl=1000))
    world.send(producer, A, [b"good"], wishes=Wishes(delay=3000, ttl=9000))
    world.pass_time(3)

    assert world.consume(consumer) == [b"good"]
    assert world.router.counters.messages_expired == 1


def test_what_is_delayed_for_a_temporary_queue_that_has_ended_is_dropped() -> None:
    """It is no queue that a message makes."""
    world, producer, consumer = make_world()
    name = b"/reply-queue/7-x"
    world.subscribe(consumer, name, token=2, flags=Flag.TEMPORARY)
    world.send(producer, name, [b"late"], wishes=Wishes(delay=1000))
    world.unsubscribe(consumer, 2)
    world.pass_time(1)
    world.turn()

    assert [view.name for view in world.router.views()] == [A]


# ---------------------------------------------------------------- limits


def refused(world: World, child: Child, name: bytes, **wishes: int | bytes) -> str:
    """The reason why the child may not send this; empty if it may."""
    before = world.router.counters.messages_refused
    world.send(child, name, [b"x"], wishes=Wishes(**wishes))  # type: ignore[arg-type]
    return world.refusal(child) if world.router.counters.messages_refused > before else ""


def test_a_queue_to_which_something_will_come_counts_as_one() -> None:
    """Though it does not exist: else a later start would have more than are permitted. Its own name stays free."""
    world, producer, consumer = make_world(max_queues=3)
    assert refused(world, producer, b"/queue/1", delay=1000) == ""
    assert refused(world, producer, b"/queue/2", delay=5000) == ""

    assert refused(world, producer, b"/queue/3", delay=1000).endswith("the limit (max-queues)")
    assert refused(world, producer, b"/queue/3").endswith("the limit (max-queues)")
    assert refused(world, producer, b"/queue/1", delay=1000) == ""
    assert refused(world, producer, b"/queue/1") == ""
    world.pass_time(1)
    world.subscribe(consumer, b"/queue/1", token=2)
    assert len(world.consume(consumer)) == 3
    world.unsubscribe(consumer, 2)
    assert refused(world, producer, b"/queue/3", delay=1000) == ""
    assert refused(world, producer, b"/queue/4", delay=1000).endswith("the limit (max-queues)")


def test_what_waits_counts_when_its_queue_is_forgotten_and_made_again() -> None:
    """No name is counted twice."""
    world, producer, consumer = make_world(max_queues=3)
    send(world, producer, b"late", delay=1000)
    for _ in range(3):
        world.unsubscribe(consumer)
        assert world.router.views() == []
        world.subscribe(consumer, A)

    assert refused(world, producer, b"/queue/1") == ""
    assert refused(world, producer, b"/queue/2") == ""
    assert refused(world, producer, b"/queue/3").endswith("the limit (max-queues)")


@pytest.mark.parametrize("full", [Full.HOLD, Full.REFUSE])
def test_what_waits_counts_in_its_queue(full: Full) -> None:
    """Its sender is refused: it can't be held until next week. Other queues do not matter."""
    world = World(Policy(queue=QueuePolicy(max_length=3, full=full)))
    producer = world.add_child()
    world.send(producer, A, [b"now"])
    for _ in range(2):
        assert refused(world, producer, A, delay=1000) == ""

    reason = (
        "queue /queue/a would have more messages than its limit, 3 (max-queue-length, or a policy); "
        "2 delayed messages count as well"
    )
    assert refused(world, producer, A, delay=1000) == reason
    assert refused(world, producer, b"/queue/b", delay=1000) == ""
    world.pass_time(1)
    world.turn()
    assert world.view(A).ready == 3


def test_what_waits_counts_in_octets_as_well() -> None:
    """With the overhead of each."""
    world = World(Policy(queue=QueuePolicy(max_bytes=2000)))
    producer = world.add_child()
    for _ in range(4):
        assert refused(world, producer, A, delay=1000) == ""

    assert "max-queue-bytes" in refused(world, producer, A, delay=1000)


def test_a_full_queue_holds_who_sends_for_later_as_it_holds_others() -> None:
    """It is full now, and will have room before long."""
    world = World(Policy(queue=QueuePolicy(max_length=1)))
    producer, other = world.add_child(), world.add_child()
    world.send(other, A, [b"late"], wishes=Wishes(delay=9000))
    world.send(producer, A, [b"now"])
    assert world.answers(producer) == [(Kind.HOLD, 0)]

    assert refused(world, other, A, delay=1000) == ""
    assert world.answers(other) == [(Kind.HOLD, 0)]


def test_a_queue_that_loses_its_oldest_messages_refuses_none_for_later() -> None:
    """It makes room when they come."""
    world = World(Policy(queue=QueuePolicy(max_length=1, full=Full.DROP_OLDEST)))
    producer = world.add_child()

    assert [refused(world, producer, A, delay=1000) for _ in range(3)] == [""] * 3


def test_the_delayed_messages_of_a_transaction_count_too() -> None:
    """Together they would be more than the queue may hold: none is accepted."""
    for policy in (Policy(queue=QueuePolicy(max_length=2)), Policy(max_repeating=2)):
        world = World(policy)
        producer = world.add_child()
        parts = [make_send(A, [b"x"], wishes=Wishes(delay=1000, period=1000, repeat=1)).raw for _ in range(3)]
        world.tell(producer, make(Kind.TRANSACTION, count=3, payload=parts, flags=Flag.FENCE, number=7))

        assert "limit" in world.refusal(producer)
        assert world.router.deadline() is None


def test_a_period_has_a_shortest_length() -> None:
    """Once a millisecond for ever would be half a processor. A message that does not repeat has none."""
    world, producer, _ = make_world(min_repeat_period=500)

    reason = "a message cannot be repeated every 499 ms, the shortest period is 500 ms (min-repeat-period)"
    assert refused(world, producer, A, delay=499, period=499, repeat=1) == reason
    assert refused(world, producer, A, delay=500, period=500, repeat=1) == ""
    assert refused(world, producer, A, delay=1) == ""


@pytest.mark.parametrize("wishes", [{"delay": 1000, "period": 1000, "repeat": 1}, {"cron": b"* * * * *"}])
def test_a_client_may_have_so_many_messages_that_repeat(wishes: dict[str, int | bytes]) -> None:
    """Until they have come for the last time; those that come once do not count, and other clients' neither."""
    world, producer, other = make_world(max_repeating=2)
    for _ in range(2):
        assert refused(world, producer, A, **wishes) == ""

    reason = "this client has 2 messages that repeat, the limit (max-repeating) is 2"
    assert refused(world, producer, A, **wishes) == reason
    assert refused(world, producer, A, delay=1000) == ""
    assert refused(world, other, A, **wishes) == ""


def test_what_has_come_for_the_last_time_makes_room_for_another_one() -> None:
    """And the end of its sender leaves nothing that is counted."""
    world, producer, consumer = make_world(max_repeating=1)
    assert refused(world, producer, A, delay=1000, period=1000, repeat=1) == ""
    world.pass_time(1)
    world.consume(consumer)
    assert refused(world, producer, A, delay=1000, period=1000, repeat=1)
    world.pass_time(1)
    world.consume(consumer)

    assert refused(world, producer, A, delay=1000, period=1000, repeat=1) == ""
    world.end(producer)
    world.pass_time(2)
    world.consume(consumer)
    assert (world.router._jobs.delays._owners, world.router._jobs.delays._repeating) == ({}, {})


# ---------------------------------------------------------------- lines that can't be read


def test_a_job_whose_line_cannot_be_read_is_kept_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the library is missing: it does not come, the start names it, and a later start goes on with it."""
    world, producer, _ = make_world()
    for body in (b"tick", b"tock"):
        send(world, producer, body, cron=b"* * * * *", persistent=True)
    send(world, producer, b"once", delay=1000, persistent=True)
    world.run_store()
    rows = {serial: row for serial, row in world.stock.rows.items() if row.details.cron}

    monkeypatch.setattr("forkbroker.cron.HAS_CRON", False)
    world.stock.kill()
    world = World(Policy(), stock=world.stock, start_s=120.0)
    assert world.router.take_notes() == [
        "queue /queue/a: not repeated before a restart, the cron line cannot be read: messages 1, 2: "
        "cron lines cannot be read: pip install forkbroker[cron]"
    ]
    consumer = world.add_child()
    world.subscribe(consumer, A)
    world.pass_time(120)
    assert world.consume(consumer) == [b"once"]
    assert world.stock.rows == rows
    assert world.router.take_notes() == []

    monkeypatch.setattr("forkbroker.cron.HAS_CRON", True)
    world.stock.kill()
    world = World(Policy(), stock=world.stock, start_s=300.0)
    consumer = world.add_child()
    world.subscribe(consumer, A)
    assert sorted(world.consume(consumer)) == [b"tick", b"tock"]
    world.pass_time(60)
    assert sorted(world.consume(consumer)) == [b"tick", b"tock"]


def test_a_line_of_another_version_is_kept_as_it_is_too() -> None:
    """Or one that somebody has mended by hand: each queue and reason has its line."""
    stock = Stock()
    for serial, (queue, line) in enumerate([(A, b"@daily"), (b"/queue/b", b"@daily"), (A, b"0 0 31 2 *")], 1):
        details = Details(persistent=True, due=NOON_MS - 1000, cron=line)
        stock.rows[serial] = Row(serial, queue, 0, b"-s-1\n\n", b"x", 0, details)
    world = World(Policy(), stock=stock)
    world.pass_time(3600)
    world.turn()
    world.run_store()

    assert len(stock.rows) == 3
    assert world.router.views() == []
    notes = world.router.take_notes()
    assert [note.split(":")[0] for note in notes] == ["queue /queue/a", "queue /queue/b", "queue /queue/a"]
    assert [note.split("read: ")[1].split(":")[0] for note in notes] == ["message 1", "message 2", "message 3"]


def test_a_line_that_names_no_time_any_more_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was readable when it was sent, and is not when its time comes: it stays, and is told once."""
    world, producer, consumer = make_world()
    send(world, producer, b"tick", cron=b"* * * * *", persistent=True)
    monkeypatch.setattr("forkbroker.cron.HAS_CRON", False)
    world.pass_time(60)

    assert world.consume(consumer) == []
    (note,) = world.router.take_notes()
    assert "message 1: cron lines cannot be read" in note
    world.pass_time(600)
    world.turn()
    assert world.router.take_notes() == []
    assert len(world.stock.rows) == 1


def test_many_messages_that_cannot_be_read_are_one_line() -> None:
    """The first ones are named, the others are counted."""
    stock = Stock()
    for serial in range(1, 1031):
        details = Details(persistent=True, due=NOON_MS, cron=b"@daily")
        stock.rows[serial] = Row(serial, A, serial // 2, b"-s-1\n\n", b"x", 0, details)
    world = World(Policy(), stock=stock)

    (note,) = [note for note in world.router.take_notes() if "not repeated" in note]
    assert "messages 1, 2, 3," in note
    assert "20 and 1,010 more: " in note
    assert len(note) < 400


def test_what_is_to_come_to_a_durable_subscription_that_is_not_there_stays_in_the_store() -> None:
    """Somebody has edited the database: it makes no queue that nobody could name, and nothing is deleted."""
    stock = Stock()
    stock.rows[7] = Row(7, b"/dsub/gone", 0, b"-s-1\n\n", b"x", 0, Details(persistent=True, due=NOON_MS + 1000))
    world = World(Policy(), stock=stock)
    world.pass_time(2)
    world.turn()
    world.run_store()

    assert world.router.views() == []
    assert list(stock.rows) == [7]
    assert world.router.take_notes() == [
        "queue /dsub/gone: does not exist, the store keeps its delayed messages: message 7"
    ]


@pytest.mark.parametrize(("persistent", "written"), [(True, 2), (False, 0)])
def test_delayed_messages_are_counted_when_they_are_sent(persistent: bool, written: int) -> None:
    """Those that the store is told of as well."""
    world, producer, _ = make_world()
    for body in (b"1", b"2"):
        send(world, producer, body, persistent=persistent, delay=1000)

    assert (world.router.counters.messages_delayed, world.router.counters.messages_written) == (2, written)


@pytest.mark.parametrize("wishes", [Wishes(delay=1000), Wishes(period=1000, repeat=-1)])
def test_what_waits_for_a_durable_subscription_is_deleted_with_it(wishes: Wishes) -> None:
    """In memory and in the store, which does not take it for a part of the queue; what others get of it stays."""
    world = World(Policy(), stock=Stock())
    producer, reader = world.add_child(), world.add_child()
    world.subscribe(reader, b"/topic/t", durable=b"/dsub/me")
    world.subscribe(reader, b"/topic/t", durable=b"/dsub/you", token=2)
    world.send(producer, b"/topic/t", [b"1", b"2"], persistent=True, wishes=wishes)
    world.run_store()
    assert len(world.stock.rows) == 4

    world.delete_durable(reader, b"/dsub/me", token=1)
    world.turn()
    world.run_store()

    assert {row.queue for row in world.stock.rows.values()} == {b"/dsub/you"}
    assert world.router._jobs.delays.messages == 2
    assert list(world.stock.durables) == [b"/dsub/you"]


def test_lines_that_cannot_be_read_at_different_times_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was told is not told again with the next one."""
    world, producer, _ = make_world()
    for cron in (b"* * * * *", b"0 0 1 1 *"):
        send(world, producer, b"tick", cron=cron, persistent=True)
    monkeypatch.setattr("forkbroker.cron.HAS_CRON", False)
    told = []
    for seconds in (60, 366 * 86_400):
        world.pass_time(seconds)
        world.turn()
        told.append([note.partition("message")[2].partition(":")[0] for note in world.router.take_notes()])

    assert told == [[" 1"], [" 2"]]


# ---------------------------------------------------------------- in another router


def test_delayed_messages_come_from_another_router() -> None:
    """Once or again and again, at the times at which they would have come."""
    world, producer, consumer = make_world()
    send(world, producer, b"once", delay=3_000)
    send(world, producer, b"at noon", deliver_at=NOON_MS + 5_000)
    send(world, producer, b"again", period=4_000, repeat=2)

    found = []
    for second in range(10):
        found += [(second, body) for body in world.consume(consumer)]
        hand_over(world)
        world.pass_time(1)

    assert found == [(0, b"again"), (3, b"once"), (4, b"again"), (5, b"at noon"), (8, b"again")]
    delays = world.router._jobs.delays
    assert (delays.messages, delays.octets, delays._repeating) == (0, 0, {producer.peer: 0})


def test_the_limits_of_delayed_messages_hold_in_another_router() -> None:
    """Those in octets, and those for one client."""
    world, producer, _ = make_world(max_delayed_bytes=2_000, max_repeating=1)
    send(world, producer, b"again", period=4_000, repeat=2)

    hand_over(world)
    send(world, producer, b"again", period=4_000, repeat=2)
    assert "max-repeating" in world.refusal(producer)
    send(world, producer, bytes(2_000), delay=1_000)
    hand_over(world)
    send(world, producer, b"later", delay=1_000)

    assert "2 delayed messages use" in world.refusal(producer)


def test_another_router_tells_whose_lines_cannot_be_read() -> None:
    """They are named together, once the store has told of all."""
    stock = Stock()
    for serial in (1, 2):
        details = Details(persistent=True, due=NOON_MS, cron=b"@daily")
        stock.rows[serial] = Row(serial, A, 0, b"-s-1\n\n", b"x", 0, details)
    world = World(stock=stock, opens=False)
    stock.open(is_fresh=True)
    while stock.said:
        hand_over(world)
        world.hear_store(1)

    assert [note.split(":")[2] for note in world.router.take_notes()] == [" messages 1, 2"]
