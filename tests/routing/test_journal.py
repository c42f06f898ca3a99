"""What the store is told, and whose receipts wait for it."""

from __future__ import annotations

import pytest

from forkbroker.routing import sending
from forkbroker.routing.keeping import journal
from forkbroker.routing.keeping.telling import WINDOW_OCTETS
from forkbroker.routing.queues.policies import Full, Policy, QueuePolicy
from forkbroker.wire.details import Wishes
from forkbroker.wire.envelope import Envelope, pack_settle, with_fence
from forkbroker.wire.fan import unpack_fan
from forkbroker.wire.kinds import Flag, Kind, Outcome

from .simulation import Child, World, make, make_send
from .stock import Stock
from .twins import hand_over

A = b"/queue/a"
MIB = 1_048_576


def make_world() -> tuple[World, Child]:
    world = World(stock=Stock())
    return world, world.add_child()


def told(world: World) -> list[Envelope]:
    """What the store has been told and not read."""
    world.deliver()
    return list(world.stock.told)


def write(world: World, child: Child, *, fence: int = 0, count: int = 1) -> None:
    world.send(child, A, [b"x"] * count, fence=fence, persistent=True)


def fence(number: int) -> Envelope:
    return make(Kind.FENCE, number=number)


# ---------------------------------------------------------------- receipts


def test_the_receipt_of_what_is_persistent_comes_behind_the_commit() -> None:
    """Not when the store was told, and not when it has read."""
    world, child = make_world()

    write(world, child, fence=1)
    assert world.answers(child) == []
    assert not world.router.is_committed
    world.stock.work()
    assert world.answers(child) == []
    world.hear_store()

    assert world.answers(child) == [(Kind.FENCED, 1)]
    assert world.router.is_committed


def test_who_changed_nothing_in_the_store_waits_for_nothing() -> None:
    """Not for others either."""
    world, child = make_world()
    other = world.add_child()

    write(world, child, fence=1)
    world.send(other, A, [b"y"], fence=7)

    assert world.answers(other) == [(Kind.FENCED, 7)]
    assert world.answers(child) == []


def test_whatever_answers_a_peer_that_waits_waits_behind() -> None:
    """Receipts of messages that aren't persistent, and refusals: in the order of the asking."""
    world, child = make_world()

    write(world, child, fence=1)
    world.send(child, A, [b"y"], fence=2)
    world.subscribe(child, b"/reply-queue/8-others", token=5, fence=3)
    write(world, child, fence=4)
    world.tell(child, fence(5))
    assert world.answers(child) == []
    world.run_store()

    assert world.answers(child) == [
        (Kind.FENCED, 1), (Kind.FENCED, 2), (Kind.REFUSED, 3), (Kind.FENCED, 4), (Kind.FENCED, 5),
    ]  # fmt: skip


def test_a_commit_answers_what_came_before_it_and_no_more() -> None:
    """The store commits in groups."""
    world, child = make_world()
    for number in range(1, 6):
        write(world, child, fence=number)
    world.deliver()

    world.stock.work(2)
    world.hear_store()
    assert world.answers(child) == [(Kind.FENCED, 1), (Kind.FENCED, 2)]
    world.stock.work()
    world.hear_store()

    assert world.answers(child) == [(Kind.FENCED, 3), (Kind.FENCED, 4), (Kind.FENCED, 5)]


def test_what_was_committed_before_delays_nobody() -> None:
    """The next fence is answered at once."""
    world, child = make_world()
    write(world, child)
    world.run_store()

    world.tell(child, fence(2))

    assert world.answers(child) == [(Kind.FENCED, 2)]


def test_nobody_need_ask_while_nothing_waits() -> None:
    """From the first change on, and until a turn finds that nothing is left: an answer in between waits its time."""
    world, child = make_world()
    world.turn()
    journal = world.router._journal
    assert not journal.is_busy

    write(world, child, fence=1)
    assert journal.is_busy
    world.turn()
    assert journal.is_busy
    world.run_store()
    world.turn()

    assert not journal.is_busy
    assert world.answers(child) == [(Kind.FENCED, 1)]
    hand_over(world)
    world.turn()
    assert not world.router._journal.is_busy


def test_the_receipt_of_an_acknowledgement_waits_for_the_deletion() -> None:
    """Else the message might come again after its receipt. That of what was never persistent does not wait."""
    world, child = make_world()
    write(world, child)
    world.send(child, A, [b"y"])
    world.subscribe(child, A)
    world.run_store()
    first, second = world.offers(child)
    for number, offer in ((8, second), (9, first)):
        assert world.claim(child, offer)
        settle = pack_settle(1, [(offer.serial, 1, Outcome.ACKNOWLEDGED)])
        world.tell(child, Envelope(bytes(with_fence(settle, number)[0])))

    assert world.answers(child)[-1:] == [(Kind.FENCED, 8)]
    world.run_store()
    assert world.answers(child) == [(Kind.FENCED, 9)]
    assert world.stock.rows == {}


def test_a_peer_that_has_ended_is_answered_no_more() -> None:
    """Its changes are committed all the same."""
    world, child = make_world()
    write(world, child, fence=1)

    world.end(child)
    assert (world.router._journal._behind, world.router._journal._waiting) == ({}, {})
    world.deliver()
    world.stock.work()
    world.hear_store()

    assert world.router.take() == []
    assert len(world.stock.rows) == 1


# ---------------------------------------------------------------- changes


def test_changes_are_numbered_without_a_gap() -> None:
    """So that one number says which of them are committed."""
    world, child = make_world()
    write(world, child)
    write(world, child, count=3)
    world.subscribe(child, A)
    for outcome in (Outcome.RELEASED, Outcome.REJECTED):
        offer = world.take_one(child)
        child.inbox.clear()
        world.settle(child, offer.serial, 1, outcome)
        world.hear(child)

    found = [(envelope.kind, envelope.number) for envelope in told(world)]

    assert found == [(Kind.WRITE, 1), (Kind.WRITE, 2), (Kind.UPDATE, 3), (Kind.MOVE, 4)]


def test_a_transaction_is_one_change() -> None:
    """Both or none of what it sends and settles; nothing is told of what is not persistent."""
    world, child = make_world()
    write(world, child)
    world.subscribe(child, A)
    world.run_store()
    (offer,) = world.offers(child)
    world.claim(child, offer)
    world.hear(child)
    settle = pack_settle(1, [(offer.serial, 1, Outcome.ACKNOWLEDGED)])[0]
    parts = [make_send(A, [b"1"], persistent=True).raw, settle, make_send(A, [b"2"]).raw]

    world.tell(child, make(Kind.TRANSACTION, count=3, payload=parts, flags=Flag.FENCE, number=4))

    assert [(part.kind, part.number) for part in told(world)] == [
        (Kind.WRITE, 0),
        (Kind.DELETE, 0),
        (Kind.TOGETHER, 2),
    ]
    assert world.answers(child) == []
    world.run_store()
    assert world.answers(child) == [(Kind.FENCED, 4)]


def test_a_transaction_without_persistent_messages_tells_the_store_nothing() -> None:
    """And waits for nothing."""
    world, child = make_world()

    world.tell(child, make(Kind.TRANSACTION, count=1, payload=[make_send(A, [b"1"]).raw], flags=Flag.FENCE, number=4))

    assert told(world) == []
    assert world.answers(child) == [(Kind.FENCED, 4)]


def test_what_was_never_told_cannot_be_committed() -> None:
    """A store that says so is broken."""
    world, child = make_world()
    write(world, child, fence=1)

    with pytest.raises(AssertionError, match="change 2 is committed"):
        world.router.receive_stored(make(Kind.COMMITTED, number=2), 0.0)
    assert world.answers(child) == []


def test_who_brings_more_than_the_store_writes_is_held() -> None:
    """64 MiB; until four fifths of that are left."""
    world = World(Policy(queue_memory=1024 * MIB), stock=Stock())
    child = world.add_child()
    envelope = make_send(A, [b"x" * MIB], persistent=True)

    for _ in range(63):
        world.tell(child, envelope)
    assert world.answers(child) == []
    world.tell(child, envelope)
    assert world.answers(child) == [(Kind.HOLD, 0)]
    world.stock.work(12)
    world.hear_store()
    assert world.answers(child) == []
    world.stock.work(2)
    world.hear_store()

    assert world.answers(child) == [(Kind.RESUME, 0)]


def test_who_brings_nothing_for_the_store_is_not_held_for_it() -> None:
    """Neither who sends what is not persistent, nor who settles: that makes room."""
    world = World(Policy(queue_memory=1024 * MIB), stock=Stock())
    child, other, worker = (world.add_child() for _ in range(3))
    world.subscribe(worker, A, credit=1)
    for _ in range(64):
        world.tell(child, make_send(A, [b"x" * MIB], persistent=True))
    offer = world.take_one(worker)

    world.send(other, A, [b"x"])
    world.settle(worker, offer.serial)
    world.hear(worker)

    assert world.answers(other) == []
    assert world.answers(worker) == []


# ---------------------------------------------------------------- how much is told at once


def make_fan(durables: int) -> tuple[World, Child]:
    """Durable subscriptions to one topic, that the store knows."""
    world = World(Policy(queue_memory=1 << 30), stock=Stock())
    reader = world.add_child()
    for number in range(durables):
        world.subscribe(reader, b"/topic/t", durable=b"/dsub/%d" % number, token=number + 1, credit=0)
    world.run_store()
    return world, world.add_child()


def queues_of(envelopes: list[Envelope]) -> list[bytes]:
    """Who gets what these write."""
    found = []
    for envelope in envelopes:
        if envelope.kind is Kind.FAN:
            found += [queue for _, queue in unpack_fan(envelope)[0]]
        elif envelope.kind is Kind.WRITE:
            found.append(envelope.destination)
    return found


def test_a_large_message_for_three_durables_is_told_one_by_one() -> None:
    """No envelope is larger than what the client has sent; the receipt waits for the last one."""
    world, child = make_fan(3)
    body = bytes(45 * MIB)

    world.send(child, b"/topic/t", [body], persistent=True, fence=1)
    envelopes = told(world)

    assert [envelope.kind for envelope in envelopes] == [Kind.WRITE] * 3
    assert max(len(envelope.raw) for envelope in envelopes) < 46 * MIB
    assert len({envelope.number for envelope in envelopes}) == 3
    assert sorted(queues_of(envelopes)) == [b"/dsub/0", b"/dsub/1", b"/dsub/2"]
    world.stock.work(2)
    world.hear_store()
    assert (Kind.FENCED, 1) not in world.answers(child)
    world.run_store()
    assert (Kind.FENCED, 1) in world.answers(child)


def test_a_batch_for_a_thousand_durables_is_told_in_pieces() -> None:
    """What is told is a fraction of what is to be written, each piece is bounded, and so is what is told at once."""
    world, child = make_fan(1000)

    world.send(child, b"/topic/t", [bytes(1000)] * 256, persistent=True, fence=1)
    envelopes = []
    while news := told(world):
        assert sum(256_000 * len(queues_of([envelope])) for envelope in news) < WINDOW_OCTETS + 8 * MIB
        envelopes += news
        world.stock.work()
        world.hear_store()

    assert {envelope.kind for envelope in envelopes} == {Kind.FAN}
    assert sum(len(envelope.raw) for envelope in envelopes) < 16 * MIB
    assert all(len(unpack_fan(envelope)[0]) * 256_000 < 8 * MIB for envelope in envelopes)
    assert sorted(queues_of(envelopes)) == sorted(b"/dsub/%d" % number for number in range(1000))
    assert world.answers(child) == [(Kind.HOLD, 0), (Kind.RESUME, 0), (Kind.FENCED, 1)]


def test_a_message_that_is_sent_again_waits_for_the_last_piece_of_the_first() -> None:
    """Its receipt says that all durable subscriptions have it."""
    world, child = make_fan(3)
    other = world.add_child()
    wishes = Wishes(dedup_id=b"d")
    world.send(child, b"/topic/t", [bytes(9 * MIB)], persistent=True, wishes=wishes, fence=1)
    world.send(other, b"/topic/t", [bytes(9 * MIB)], persistent=True, wishes=wishes, fence=2)
    world.deliver()
    world.stock.work(2)
    world.hear_store()
    assert world.answers(other) == []
    world.run_store()

    assert world.answers(other) == [(Kind.FENCED, 2)]
    assert len(world.stock.rows) == 3


def test_what_has_to_make_room_is_told_behind_what_comes() -> None:
    """Durable subscriptions at their limit: the new messages once for all, then what each loses."""
    world = World(Policy(durable=QueuePolicy(max_length=1, full=Full.DROP_OLDEST)), stock=Stock())
    reader, child = world.add_child(), world.add_child()
    for token, name in enumerate((b"/dsub/a", b"/dsub/b"), start=1):
        world.subscribe(reader, b"/topic/t", durable=name, token=token, credit=0)
    world.send(child, b"/topic/t", [b"1"], persistent=True)
    world.run_store()

    world.send(child, b"/topic/t", [b"2"], persistent=True)

    assert [envelope.kind for envelope in told(world)] == [Kind.FAN, Kind.DELETE, Kind.DELETE, Kind.TOGETHER]
    world.run_store()
    assert sorted((row.queue, row.body) for row in world.stock.rows.values()) == [
        (b"/dsub/a", b"2"),
        (b"/dsub/b", b"2"),
    ]


def test_a_transaction_for_many_durables_is_one_change_and_has_its_bodies_once() -> None:
    """However many; both or none of its parts."""
    world, child = make_fan(30)
    parts = [make_send(b"/topic/t", [bytes(MIB)], persistent=True).raw, make_send(A, [b"1"], persistent=True).raw]

    world.tell(child, make(Kind.TRANSACTION, count=2, payload=parts, flags=Flag.FENCE, number=4))
    envelopes = told(world)

    assert [(envelope.kind, bool(envelope.number)) for envelope in envelopes] == [
        (Kind.FAN, False),
        (Kind.WRITE, False),
        (Kind.TOGETHER, True),
    ]
    assert sum(len(envelope.raw) for envelope in envelopes) < 2 * MIB
    world.run_store()
    assert len(world.stock.rows) == 31


def test_a_transaction_that_makes_too_many_copies_is_refused(monkeypatch) -> None:
    """All of it, with the figures; up to the limit it is taken."""
    monkeypatch.setattr(sending, "MAX_COPIES", MIB)
    world, child = make_fan(5)
    fits, exceeds = (make_send(b"/topic/t", [bytes(MIB // 4 - size)], persistent=True).raw for size in (400, 0))
    one = make_send(A, [b"1"], persistent=True).raw

    world.tell(child, make(Kind.TRANSACTION, count=2, payload=[one, exceeds], flags=Flag.FENCE, number=4))
    assert "bytes of copies for durable subscriptions" in world.refusal(child)
    assert not world.stock.rows
    world.tell(child, make(Kind.TRANSACTION, count=2, payload=[one, fits], flags=Flag.FENCE, number=5))
    world.run_store()

    assert len(world.stock.rows) == 6


def test_a_queue_that_ends_is_purged_in_the_store_if_the_store_has_anything_of_it() -> None:
    """What was spilled would stay there otherwise."""
    world = World(Policy(queue_memory=1000), stock=Stock())
    owner, child = world.add_child(), world.add_child()
    world.subscribe(owner, b"/reply-queue/x", flags=Flag.TEMPORARY, credit=0)
    for _ in range(3):
        world.send(child, b"/reply-queue/x", [bytes(1000)])
    world.run_store()
    assert world.stock.spilled

    world.unsubscribe(owner)

    assert [(one.kind, one.destination) for one in told(world)] == [(Kind.PURGE, b"/reply-queue/x")]
    world.run_store()
    assert not world.stock.spilled


def test_answers_that_waited_for_a_commit_are_sent_in_portions() -> None:
    """So many in one turn, in the order of the asking; the router says that it is not done before the last one."""
    world, child = make_world()
    write(world, child)
    for number in range(1, 4_501):
        world.tell(child, fence(number))
    world.deliver()
    world.stock.work()
    world.hear_store()

    said = [world.answers(child)]
    assert not world.router.is_applied
    while not world.router.is_applied:
        world.turn()
        said.append(world.answers(child))

    assert [len(part) for part in said] == [2_000, 2_000, 500]
    assert [number for part in said for _, number in part] == list(range(1, 4_501))
    assert world.router.deadline() is None


def test_a_commit_looks_at_so_many_peers_in_one_turn() -> None:
    """However many wait, and although nothing is to be sent to most of them."""
    world = World(stock=Stock())
    children = [world.add_child() for _ in range(2_100)]
    for child in children:
        write(world, child, fence=7)
    while not world.router.is_applied:
        world.turn()
    world.deliver()
    world.stock.work(1)
    world.hear_store()

    assert world.answers(children[0]) == [(Kind.FENCED, 7)]
    assert not world.router.is_applied
    world.turn()
    assert world.router.is_applied
    world.run_store()
    while not world.router.is_applied:
        world.turn()
    assert all(world.answers(child) == [(Kind.FENCED, 7)] for child in children[1:])


# ---------------------------------------------------------------- in another router


def test_receipts_wait_for_the_store_in_another_router() -> None:
    """Of what was told, and of what an answer waits for that comes later."""
    world, child = make_world()
    other = world.add_child()
    write(world, child, fence=1)
    write(world, child)

    hand_over(world)
    world.tell(child, fence(2))
    world.tell(other, fence(3))
    assert (world.answers(child), world.answers(other)) == ([], [(Kind.FENCED, 3)])
    world.stock.work(1)
    world.hear_store()
    hand_over(world)

    assert world.answers(child) == [(Kind.FENCED, 1)]
    world.run_store()
    assert world.answers(child) == [(Kind.FENCED, 2)]
    hand_over(world)
    assert world.router.is_committed
    write(world, child)
    assert [envelope.number for envelope in told(world)] == [3]


def test_the_receipts_for_which_a_turn_was_too_short_come_from_another_router(monkeypatch) -> None:
    """What they wait for is committed."""
    monkeypatch.setattr(journal, "_ANSWERS", 2)
    world, child = make_world()
    for number in (1, 2, 3):
        write(world, child, fence=number)
    world.run_store()
    assert [number for _, number in world.answers(child)] == [1, 2]

    hand_over(world)
    world.turn()

    assert [number for _, number in world.answers(child)] == [3]


def test_another_router_refuses_what_the_store_has_no_room_for() -> None:
    """Or what it can't write; it has heard no word of its own."""
    world, child = make_world()
    world.router.receive_stored(make(Kind.DISK, token=1, block=b"the disk is full", serial=0), 0.0)

    hand_over(world)
    write(world, child)
    assert "the disk is full" in world.refusal(child)
    world.router.receive_stored(make(Kind.DISK, serial=1 << 40), 0.0)
    world.kill_store("the database is gone")
    hand_over(world)
    write(world, child)

    assert "the database is gone" in world.refusal(child)


def test_a_store_that_ends_again_and_again_fails_in_another_router() -> None:
    """One of its ends was heard by the router before."""
    world, _ = make_world()
    world.kill_store()

    hand_over(world)
    world.kill_store()

    assert "exited 2 times" in world.router._journal.failure


def test_who_is_held_for_the_store_goes_on_in_another_router() -> None:
    """When there is less to write; and how much room the store has is known."""
    world, child = make_world()
    other = world.add_child()
    world.router.receive_stored(make(Kind.DISK, serial=40_000), 0.0)
    world.send(child, A, [bytes(20_000)], persistent=True)
    assert world.answers(child) == [(Kind.HOLD, 0)]

    hand_over(world)
    world.send(other, A, [bytes(50_000)], persistent=True)
    assert "the disk has room for 40,000 bytes" in Envelope(world.router.out[-1][1][0]).block.decode()
    world.deliver()
    world.stock.work()
    world.hear_store()

    assert world.answers(child) == [(Kind.RESUME, 0)]
