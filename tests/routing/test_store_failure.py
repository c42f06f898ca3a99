"""A store that can't do its work, or that ends: who is refused, and what the next one is told."""

from __future__ import annotations

import pytest

from forkbroker.routing.peers import STORE
from forkbroker.routing.queues.policies import Policy, QueuePolicy
from forkbroker.wire.envelope import Envelope
from forkbroker.wire.kinds import Flag, Kind, Outcome

from .simulation import Child, World, make, make_send
from .stock import Stock

A, B, TOPIC = b"/queue/a", b"/queue/b", b"/topic/t"
WHY = "no space left on /var"


def make_world(policy: QueuePolicy | None = None, *, memory: int = 1 << 26) -> tuple[World, Child]:
    world = World(Policy(queue=policy or QueuePolicy(), queue_memory=memory), slots=64, stock=Stock())
    return world, world.add_child()


# ---------------------------------------------------------------- who is refused, and who isn't


def test_who_sends_persistent_messages_is_refused_with_the_reason() -> None:
    """It gets neither a receipt that lies, nor none; it is told at once."""
    world, child = make_world()
    world.kill_store(WHY)

    world.send(child, A, [b"1"], persistent=True, fence=3)

    assert world.answers(child) == [(Kind.REFUSED, 3)]
    assert world.router.views() == []
    world.send(child, A, [b"1"], persistent=True)
    assert world.refusal(child) == f"persistent messages cannot be stored now: {WHY}"


def test_others_go_on() -> None:
    """What is not persistent, and topics, and those who consume."""
    world, child = make_world()
    listener = world.add_child()
    world.subscribe(listener, TOPIC)
    world.subscribe(listener, A, token=2)
    world.kill_store(WHY)

    world.send(child, A, [b"1"], fence=1)
    world.send(child, TOPIC, [b"2"], fence=2)

    assert world.answers(child) == [(Kind.FENCED, 1), (Kind.FENCED, 2)]
    assert world.consume(listener) == [b"1"]


def test_a_queue_whose_messages_are_all_persistent_refuses_all() -> None:
    """Whatever the sender says."""
    world, child = make_world(QueuePolicy(persistent=True))
    world.kill_store(WHY)

    world.send(child, A, [b"1"], fence=3)

    assert world.answers(child) == [(Kind.REFUSED, 3)]


def test_persistent_messages_to_a_topic_are_refused_if_they_are_to_be_kept() -> None:
    """Nobody gets them then; a topic without durable subscriptions keeps nothing."""
    world, child = make_world()
    listener, reader = world.add_child(), world.add_child()
    world.subscribe(listener, TOPIC)
    world.subscribe(reader, TOPIC, durable=b"/dsub/me")
    world.run_store()
    world.kill_store(WHY)

    world.send(child, TOPIC, [b"1"], persistent=True, fence=1)

    assert world.answers(child) == [(Kind.REFUSED, 1)]
    assert not listener.inbox


def test_a_durable_subscription_cannot_begin_and_one_that_is_there_is_read() -> None:
    """Its messages are there."""
    world, child = make_world()
    reader = world.add_child()
    world.subscribe(reader, TOPIC, durable=b"/dsub/me")
    world.run_store()
    world.send(child, TOPIC, [b"1"])
    world.kill_store(WHY)

    world.subscribe(child, TOPIC, durable=b"/dsub/you")
    assert world.refusal(child) == f"durable subscription /dsub/you cannot be created: {WHY}"
    assert world.consume(reader) == [b"1"]


def test_a_transaction_with_one_persistent_message_is_refused_as_a_whole() -> None:
    """Its others are not sent either."""
    world, child = make_world()
    world.kill_store(WHY)
    parts = [make_send(B, [b"1"]).raw, make_send(A, [b"2"], persistent=True).raw]

    world.tell(child, make(Kind.TRANSACTION, count=2, payload=parts, flags=Flag.FENCE, number=6))

    assert world.answers(child) == [(Kind.REFUSED, 6)]
    assert world.router.views() == []


def test_what_is_sent_to_a_temporary_queue_needs_no_store() -> None:
    """It ends with its owner, whatever its sender says."""
    world, child = make_world(QueuePolicy(persistent=True))
    owner, name = world.add_child(), b"/reply-queue/7-x"
    world.subscribe(owner, name, flags=Flag.TEMPORARY)
    world.send(child, name, [b"1"], persistent=True)
    world.deliver()
    assert not world.stock.told
    world.kill_store(WHY)
    world.send(child, name, [b"2"], persistent=True)

    assert world.answers(child) == []
    assert world.consume(owner) == [b"1", b"2"]


def test_a_crash_without_a_reason_refuses_nobody() -> None:
    """Another one is started at once: who sends waits for its receipt a little longer."""
    world, child = make_world()
    world.kill_store()

    world.send(child, A, [b"1"], persistent=True, fence=3)
    assert world.answers(child) == []
    world.open_store()
    world.run_store()

    assert world.answers(child) == [(Kind.FENCED, 3)]
    assert len(world.stock.rows) == 1


def test_before_the_first_store_is_open_receipts_wait() -> None:
    """As for any commit."""
    world = World()
    child = world.add_child()
    world.send(child, A, [b"1"], persistent=True, fence=3)
    assert world.answers(child) == []

    world.open_store(is_fresh=True)
    world.run_store()

    assert world.answers(child) == [(Kind.FENCED, 3)]


# ---------------------------------------------------------------- what a new one is told


def test_a_new_store_is_told_again_what_was_not_committed() -> None:
    """In the old order, under the old numbers, and nothing else."""
    world, child = make_world()
    for number in range(1, 7):
        world.send(child, A, [b"%d" % number], persistent=True, fence=number)
    world.deliver()
    world.stock.work(2)
    world.hear_store()
    # two more are committed, and nobody knows
    world.stock.work(2)
    world.kill_store()
    assert world.answers(child) == [(Kind.FENCED, 1), (Kind.FENCED, 2)]

    world.open_store()

    assert [(envelope.kind, envelope.number) for envelope in world.stock.told] == [
        (Kind.WRITE, 3), (Kind.WRITE, 4), (Kind.WRITE, 5), (Kind.WRITE, 6),
    ]  # fmt: skip
    world.run_store()
    assert world.answers(child) == [(Kind.FENCED, number) for number in range(3, 7)]
    assert [row.body for row in world.stock.rows.values()] == [b"1", b"2", b"3", b"4", b"5", b"6"]


@pytest.mark.parametrize("committed", range(5))
def test_each_kind_of_change_does_no_harm_when_it_comes_again(committed: int) -> None:
    """However many of them the dead store had committed without a word: what is left is the same."""
    world, child = make_world()
    worker = world.add_child()
    world.send(child, A, [b"1", b"2", b"3"], persistent=True)
    world.subscribe(worker, A, credit=3)
    offer = world.take_one(worker)
    for place, outcome in enumerate((Outcome.ACKNOWLEDGED, Outcome.REJECTED, Outcome.RELEASED)):
        world.settle(worker, offer.serial + place, 1, outcome)
    world.turn()
    assert len(world.stock.told) == 4

    world.stock.work(committed)
    world.kill_store()
    world.open_store()
    world.run_store()

    found = sorted((row.body, row.queue, row.deliveries) for row in world.stock.rows.values())
    assert found == [(b"2", b"/queue/DLQ", 1), (b"3", A, 1)]
    assert world.router.is_committed


def test_what_is_told_again_comes_before_all_that_is_new() -> None:
    """And its end is told, so that the store can write it together, or not at all."""
    world, child = make_world(memory=50_000)
    for number in range(20):
        world.send(child, A, [b"%-5000d" % number])
    world.subscribe(child, A)
    world.deliver()
    world.kill_store()
    world.stock.open(is_fresh=False)

    world.hear_store()
    world.send(child, A, [b"new"], persistent=True)
    world.router.tick(world.now)

    kinds = [Envelope(b"".join(buffers)).kind for peer, buffers in world.router.take() if peer == STORE]
    end = kinds.index(Kind.RETOLD)
    assert set(kinds[:end]) == {Kind.SPILL}
    assert Kind.WRITE in kinds[end:]
    assert Kind.FETCH in kinds[end:]
    assert kinds.count(Kind.RETOLD) == 1


def test_what_happened_while_there_was_no_store_is_told_to_the_next_one() -> None:
    """Acknowledgements, above all: their receipts wait for it."""
    world, child = make_world()
    worker = world.add_child()
    world.send(child, A, [b"1"], persistent=True)
    world.run_store()
    world.subscribe(worker, A)
    world.kill_store(WHY)
    offer = world.take_one(worker)
    world.settle(worker, offer.serial)
    world.tell(worker, make(Kind.FENCE, number=4))
    assert world.answers(worker) == []

    world.open_store()
    world.run_store()

    assert world.answers(worker) == [(Kind.FENCED, 4)]
    assert not world.stock.rows


def test_with_a_new_store_persistent_messages_are_welcome_again() -> None:
    """The reason is gone with the one that gave it."""
    world, child = make_world()
    world.kill_store(WHY)
    world.open_store()

    world.send(child, A, [b"1"], persistent=True, fence=3)
    world.run_store()

    assert world.answers(child) == [(Kind.FENCED, 3)]


def test_another_failure_without_a_word_keeps_the_reason() -> None:
    """A store that can't even say what is wrong is not one that works."""
    world, child = make_world()
    world.kill_store(WHY)

    world.router.store_ended("")

    world.send(child, A, [b"1"], persistent=True)
    assert world.refusal(child).endswith(WHY)


# ---------------------------------------------------------------- one that can't be written to


def refuses(world: World) -> str:
    """Why a persistent message of one that has sent none before is refused at once; empty if it isn't."""
    child = world.add_child()
    world.send(child, B, [b"x"], persistent=True)
    world.deliver()
    refused = [envelope for envelope in child.inbox if envelope.kind is Kind.REFUSED]
    return refused[-1].block.decode() if refused else ""


def test_a_store_that_ends_twice_and_writes_nothing_has_failed() -> None:
    """Who sends is told at once instead of waiting for ever; until it writes again."""
    world, child = make_world()
    world.send(child, A, [b"1"], persistent=True)
    world.kill_store()
    world.open_store()
    assert refuses(world) == ""
    world.kill_store()

    assert "exited 2 times" in refuses(world)
    world.open_store()
    assert "exited 2 times" in refuses(world)
    world.run_store()
    assert refuses(world) == ""


def test_who_waits_for_a_receipt_is_refused_at_once_too() -> None:
    """What it waits for may never come: else it would go on sending for ever, and hear nothing."""
    world, child = make_world()
    world.send(child, A, [b"1"], persistent=True, fence=1)
    world.kill_store(WHY)

    world.send(child, A, [b"2"], persistent=True, fence=2)

    assert world.answers(child) == [(Kind.REFUSED, 2)]


def test_two_ends_with_a_commit_in_between_refuse_nobody() -> None:
    """Somebody kills it now and then."""
    world, child = make_world()
    for _ in range(3):
        world.send(child, A, [b"1"], persistent=True)
        world.kill_store()
        assert refuses(world) == ""
        world.open_store()
        world.run_store()


def test_ends_of_a_store_that_has_nothing_to_write_refuse_nobody() -> None:
    """It has opened, which is all that it could do."""
    world, _ = make_world()
    for _ in range(3):
        world.kill_store()
        world.open_store()

    assert refuses(world) == ""


def test_a_reason_holds_until_what_was_told_is_written() -> None:
    """A store that opens and fails again at the same group would hold whoever sends in between."""
    world, child = make_world()
    world.send(child, A, [b"1"], persistent=True)
    world.kill_store(WHY)
    world.open_store()

    assert WHY in refuses(world)
    world.run_store()
    assert refuses(world) == ""


def die_at(world: World, number: int) -> None:
    """The store announces a change, and dies."""
    world.stock.say(Kind.TRYING, number=number)
    world.kill_store(heard=1_000_000)
    world.open_store()


def test_a_change_that_kills_the_store_twice_is_set_aside_and_its_sender_refused() -> None:
    """The others get their receipts; its octets are kept, and what says more of its messages meets nothing."""
    world, child = make_world()
    bad, worker = world.add_child(), world.add_child()
    world.send(child, A, [b"1"], persistent=True, fence=1)
    world.send(bad, A, [b"bad"], persistent=True, fence=5)
    world.send(child, A, [b"2"], persistent=True, fence=2)
    world.deliver()
    die_at(world, 2)
    assert world.answers(bad) == []
    die_at(world, 2)
    world.run_store()

    assert world.answers(child) == [(Kind.FENCED, 1), (Kind.FENCED, 2)]
    refused = world.children[bad.peer].inbox.popleft()
    assert (refused.kind, refused.number) == (Kind.REFUSED, 5)
    assert b"has died of this twice" in refused.block
    assert [row.body for row in world.stock.rows.values()] == [b"1", b"2"]
    kept = Envelope(b"".join(world.stock.aside))
    assert (kept.kind, kept.number, kept.pieces()) == (Kind.WRITE, 2, [b"bad"])
    world.subscribe(worker, A)
    assert world.consume(worker) == [b"1", b"bad", b"2"]
    assert not world.stock.rows


def test_a_change_that_is_declined_is_refused_too() -> None:
    """The store lives, and has kept it; another process is not told it."""
    world, child = make_world()
    world.send(child, A, [b"bad"], persistent=True, fence=5)
    world.deliver()
    world.stock.say(Kind.DECLINED, number=1, block=b"piece 0 has no empty line")
    world.hear_store()
    world.kill_store()
    world.open_store()
    assert [envelope.kind for envelope in world.stock.told] == [Kind.TOGETHER]
    world.run_store()

    (refused,) = child.inbox
    assert (refused.kind, refused.number) == (Kind.REFUSED, 5)
    assert refused.block == b"the store cannot write this: piece 0 has no empty line"
    assert world.router.is_committed


def test_what_is_declined_and_wants_no_receipt_is_refused_by_itself() -> None:
    """As any other SEND that is refused; and once."""
    world, child = make_world()
    world.send(child, A, [b"bad"], persistent=True)
    world.deliver()
    world.stock.say(Kind.DECLINED, number=1, block=b"why")
    world.run_store()

    assert world.answers(child) == [(Kind.REFUSED, 0)]


def test_only_whom_it_concerns_is_refused() -> None:
    """The next receipt of the same sender is of another change; one that has left can't be told."""
    world, child = make_world()
    other = world.add_child()
    for fence in (1, 2, 3):
        world.send(child, A, [b"x"], persistent=True, fence=fence)
    world.send(other, A, [b"bad"], persistent=True, fence=9)
    world.deliver()
    world.end(other)
    for number in (2, 4):
        world.stock.say(Kind.DECLINED, number=number, block=b"why")
    world.run_store()

    assert world.answers(child) == [(Kind.FENCED, 1), (Kind.REFUSED, 2), (Kind.FENCED, 3)]


def test_what_is_not_there_can_not_be_declined() -> None:
    """A store that says so is broken."""
    world, _ = make_world()

    with pytest.raises(AssertionError, match="change 7 is declined"):
        world.router.receive_stored(make(Kind.DECLINED, number=7), 0.0)


def test_a_message_that_only_the_store_should_have_had_is_missing_and_nothing_else() -> None:
    """It was paged out; the queue goes on behind it, and is empty in the end."""
    world, child = make_world(memory=10_000)
    reader = world.add_child()
    for number in range(6):
        world.send(child, A, [b"%-5000d" % number], persistent=True)
    world.deliver()
    world.stock.say(Kind.DECLINED, number=5, block=b"why")
    world.hear_store()
    world.kill_store()
    world.open_store()
    world.run_store()
    world.subscribe(reader, A)

    assert [int(body) for body in world.consume(reader)] == [0, 1, 2, 3, 5]
    view = world.view(A)
    assert (view.ready, view.unsettled, view.octets, view.paged) == (0, 0, 0, 0)


# ---------------------------------------------------------------- what is done before its time


def test_the_receipt_of_an_ack_does_not_wait_for_what_has_no_room() -> None:
    """A consumer that waits for it would never settle what makes room."""
    world, child = make_world()
    worker = world.add_child()
    world.send(child, A, [b"1", b"2"], persistent=True)
    world.run_store()
    world.subscribe(worker, A)
    (offer,) = world.offers(worker)
    world.claim(worker, offer)
    world.send(child, B, [b"large"], persistent=True, fence=1)
    world.settle(worker, offer.serial)
    world.tell(worker, make(Kind.FENCE, number=4))
    world.settle(worker, offer.serial + 1)
    world.tell(worker, make(Kind.FENCE, number=5))
    assert world.answers(worker) == []

    world.stock.say(Kind.DELETED, number=3)
    world.hear_store()

    assert world.answers(worker) == [(Kind.FENCED, 4)]
    world.stock.say(Kind.DELETED, number=4)
    world.hear_store()
    assert world.answers(worker) == [(Kind.FENCED, 5)]
    world.tell(worker, make(Kind.FENCE, number=6))
    assert world.answers(worker) == [(Kind.FENCED, 6)]
    assert world.answers(child) == []
    world.run_store()
    assert world.answers(child) == [(Kind.FENCED, 1)]


def test_the_receipt_of_one_that_also_waits_for_another_change_waits_on() -> None:
    """It has sent a message itself, or again what another one has sent."""
    world, child = make_world()
    worker = world.add_child()
    world.send(child, A, [b"1"], persistent=True)
    world.run_store()
    world.subscribe(worker, A)
    (offer,) = world.offers(worker)
    world.claim(worker, offer)
    world.send(worker, B, [b"result"], persistent=True)
    world.settle(worker, offer.serial)
    world.tell(worker, make(Kind.FENCE, number=4))

    world.stock.say(Kind.DELETED, number=3)
    world.hear_store()

    assert world.answers(worker) == []
    world.run_store()
    assert world.answers(worker) == [(Kind.FENCED, 4)]


def test_what_is_not_there_can_not_be_done() -> None:
    """A store that says so is broken."""
    world, _ = make_world()

    with pytest.raises(AssertionError, match="change 7 is done"):
        world.router.receive_stored(make(Kind.DELETED, number=7), 0.0)
