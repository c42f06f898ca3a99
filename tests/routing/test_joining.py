"""Messages that came one by one are offered together: in one envelope, in which each has its own message-id."""

from __future__ import annotations

import pytest

from forkbroker.routing.peers import Peer
from forkbroker.routing.queues.policies import Policy, QueuePolicy
from forkbroker.routing.queues.runs import Run, join, make_run
from forkbroker.session.messages import Messages, message_opening
from forkbroker.stomp.versions import V10, V11, V12, Version
from forkbroker.wire.details import DURABLY, Wishes
from forkbroker.wire.envelope import FEW, MAX_NAMED, MAX_NAMED_OCTETS, Envelope, pack_pieces
from forkbroker.wire.kinds import Flag, Kind, Outcome

from .audit import audit
from .simulation import DLQ, Child, World, make
from .stock import Stock

A, B = b"/queue/a", b"/queue/b"
OPENING = message_opening("1", V12)


def make_world(*, stock: bool = False, **policy: object) -> tuple[World, Child]:
    world = World(Policy(queue=QueuePolicy(**policy)), stock=Stock() if stock else None)  # type: ignore[arg-type]
    return world, world.add_child()


def send_singly(world: World, producer: Child, *bodies: bytes, name: bytes = A, persistent: bool = False) -> None:
    for body in bodies:
        world.send(producer, name, [body], persistent=persistent)


def add_consumer(world: World, name: bytes = A, **fields: int) -> Child:
    """One that has subscribed."""
    child = world.add_child()
    world.subscribe(child, name, **fields)
    return child


def numbers(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count)]


def offers_to(world: World, child: Child) -> list[list[bytes]]:
    """The bodies of each offer that is made now."""
    return [[bytes(body) for body in offer.pieces()] for offer in world.offers(child)]


def make_batch(
    number: int, bodies: list[bytes], *, index: int = 0, lines: bytes = b"a:1\n", flags: int = 0
) -> Envelope:
    """As a child has packed it; MIXED: with other lines in each piece."""
    block, pieces = b"-s-%d\n%b\n" % (number, lines), bodies
    if flags & Flag.MIXED:
        block, pieces = b"-s-%d\n" % number, [b"%bb:%d\n\n%b" % (lines, at, body) for at, body in enumerate(bodies)]
    form, payload = pack_pieces(pieces)
    return make(
        Kind.SEND, flags=flags | form, index=index, count=len(bodies), destination=A, block=block, payload=payload
    )


def frames_of(run: Run, version: Version, delivery: int = 1) -> list[tuple[bytes, bytes]]:
    """The MESSAGE frames of its messages, one by one: with a name to acknowledge, from this number on, and without."""
    messages, opening = Messages(run.envelope, version), message_opening("1", version)
    found = []
    for number, place in enumerate(range(run.first, run.first + run.count), delivery):
        acknowledged = messages.acknowledged_frames(opening, 7, place, 1, number)
        found.append((b"".join(map(bytes, acknowledged)), b"".join(map(bytes, messages.frames(opening, place, 1)))))
    return found


# ---------------------------------------------------------------- one envelope of many


BATCHES = [
    make_batch(1, [b"x"]),
    make_batch(2, [b"", b"yy"], index=5),
    make_batch(3, [b"\n\n", b"z"], flags=Flag.MIXED),
    make_batch(4, [b"\0"], lines=b"c:\\c\xc3\xa9\n", flags=Flag.ESCAPED),
    make_batch(5, [b"v", b"w", b"x"], lines=b"c:\\n\n", flags=Flag.MIXED | Flag.ESCAPED),
    make_batch(6, [b"x"], lines=b""),
]


@pytest.mark.parametrize("version", [V10, V11, V12], ids=["1.0", "1.1", "1.2"])
def test_clients_get_the_same_frames(version: Version) -> None:
    """Names, header lines in whatever form they came, bodies; also of what is put together twice, or in parts."""
    runs, serial = list[Run](), 1
    for envelope in BATCHES:
        runs.append(make_run(envelope, serial))
        serial += envelope.count
    apart = [frame for run in runs for frame in frames_of(run, version, run.serial)]

    front = join(runs[:3])
    front.split(1)
    whole = join([runs[0], front, *runs[3:]])

    assert (whole.serial, whole.count) == (1, serial - 1)
    assert frames_of(whole, version) == apart
    assert whole.message_id(1) == b"5-s-2"
    assert [whole.message_id(place) for place in range(whole.count)] == [
        run.message_id(place) for run in runs for place in range(run.count)
    ]


@pytest.mark.parametrize("version", [V10, V11, V12], ids=["1.0", "1.1", "1.2"])
def test_many_frames_at_once_are_those_of_each(version: Version) -> None:
    """In columns, or message by message."""
    run = join([make_run(envelope, serial) for serial, envelope in enumerate([BATCHES[0], *BATCHES[3:4]], 1)])
    messages = Messages(run.envelope, version)
    opening = message_opening("1", version)

    together = b"".join(map(bytes, messages.acknowledged_frames(opening, 7, 0, 2, 1)))

    assert together == b"".join(frame for frame, _ in frames_of(run, version))
    assert b"".join(map(bytes, messages.frames(opening, 0, 2))) == b"".join(bare for _, bare in frames_of(run, version))
    assert b"message-id:0-s-4" in together


def test_the_sender_of_all_is_known_and_that_of_some_is_not() -> None:
    """It may have to answer for what can't be sent."""
    one, other = make_run(make_batch(1, [b"x"]), 1), make_run(make_batch(2, [b"y"]), 2)
    one.envelope.sender = other.envelope.sender = Peer(3)
    assert join([one, other]).envelope.sender == 3
    other.envelope.sender = Peer(4)
    assert join([one, other]).envelope.sender == 0


# ---------------------------------------------------------------- what is offered


def test_messages_of_several_clients_are_offered_together() -> None:
    """In their order, and as much of each queue as the consumer may have."""
    world, producer = make_world()
    other, consumer = world.add_child(), world.add_child()
    for number in range(0, 10, 2):
        send_singly(world, producer, b"%d" % number)
        send_singly(world, other, b"%d" % (number + 1))
    world.subscribe(consumer, A, credit=7)

    assert offers_to(world, consumer) == [numbers(7)]
    audit(world.router)


def test_each_of_two_consumers_has_its_part() -> None:
    """As of a batch: one that has more credit does not take all."""
    world, producer = make_world()
    send_singly(world, producer, *numbers(10))
    one, two = world.add_child(), world.add_child()
    world.subscribe(one, A)
    world.subscribe(two, A)
    world.turn()

    assert offers_to(world, one) + offers_to(world, two) == [numbers(10)[:5], numbers(10)[5:]]


def test_no_envelope_has_more_than_so_many_messages_or_octets() -> None:
    """The others are in the next one."""
    world, producer = make_world()
    consumer = world.add_child()
    send_singly(world, producer, *numbers(MAX_NAMED + 1))
    send_singly(world, producer, *[bytes(MAX_NAMED_OCTETS // 2 - 20)] * 3, name=B)
    world.subscribe(consumer, A, token=1)
    world.subscribe(consumer, B, token=2)

    assert sorted(map(len, offers_to(world, consumer))) == [1, 1, 2, MAX_NAMED]
    audit(world.router)


def test_header_lines_count_as_well() -> None:
    """Each message gets all of them, also of a batch that has them once."""
    world, producer = make_world()
    consumer = world.add_child()
    long = b"a:" + b"x" * (MAX_NAMED_OCTETS // 4) + b"\n"
    for number, bodies in enumerate(([b"1"], [b"2", b"3"], [b"4"]), 1):
        world.tell(producer, make_batch(number, bodies, lines=long))
    world.subscribe(consumer, A)

    assert offers_to(world, consumer) == [[b"1", b"2", b"3"], [b"4"]]


def test_what_is_unlike_is_offered_by_itself() -> None:
    """What may be lost, or has a priority or an end; another queue's message in between; batches; what came back."""
    world, producer = make_world(stock=True)
    consumer = world.add_child()
    send_singly(world, producer, b"0", b"1")
    send_singly(world, producer, b"2", b"3", persistent=True)
    world.send(producer, A, [b"4"], wishes=Wishes(ttl=60_000))
    world.send(producer, A, [b"5"] * FEW)
    send_singly(world, producer, b"6")
    send_singly(world, producer, b"-", name=B)
    send_singly(world, producer, b"7")
    world.subscribe(consumer, A)

    assert offers_to(world, consumer) == [[b"0", b"1"], [b"2", b"3"], [b"4"], [b"5"] * FEW, [b"6"], [b"7"]]
    audit(world.router)


def test_what_was_there_before_the_start_is_not_put_together_with_what_is_new() -> None:
    """It may have been delivered, which its frames say."""
    world, producer = make_world(stock=True)
    send_singly(world, producer, *numbers(3), persistent=True)
    world.run_store()
    world.stock.kill()
    world = World(Policy(), stock=world.stock)
    producer, consumer = world.add_child(), world.add_child()
    send_singly(world, producer, b"3", b"4", persistent=True)
    world.subscribe(consumer, A)
    found = world.offers(consumer)

    # the store is asked for one message at first
    assert [[bytes(body) for body in offer.pieces()] for offer in found] == [[b"0"], [b"1", b"2"], [b"3", b"4"]]
    assert [bool(offer.flags & Flag.RECOVERED) for offer in found] == [True, True, False]


def test_workers_share_what_came_one_by_one() -> None:
    """Each message is one worker's, and all of them are offered with one word."""
    world, producer = make_world()
    send_singly(world, producer, *numbers(20))
    team = [world.add_child() for _ in range(2)]
    for worker in team:
        world.subscribe(worker, A, credit=1, keeps=8)
    for worker in team:
        world.take_one(worker)
    for worker in team:
        world.settle(worker, next(iter(worker.held[1])))
        world.hear(worker)
    for _ in range(3):
        world.turn()
        for worker in team:
            while worker.inbox and worker.inbox[0].kind is Kind.OFFER:
                world.claim(worker, worker.inbox.popleft())
                world.settle(worker, next(iter(worker.held[1])))
    ahead = [offer for worker in team for offer in worker.inbox if offer.kind is Kind.AHEAD]

    assert len(ahead) == 2
    assert ahead[0].count > 2
    assert ahead[0].pieces() == ahead[1].pieces()
    audit(world.router)


# ---------------------------------------------------------------- what becomes of it


def test_some_of_them_are_settled_and_others_come_again() -> None:
    """In their old place, with their own names, and alone if need be; nothing is left in the end."""
    world, producer = make_world()
    send_singly(world, producer, *numbers(6))
    consumer = add_consumer(world, credit=5)
    offer = world.take_one(consumer)
    assert offer.count == 5

    world.settle(consumer, offer.serial + 1, 2)
    world.settle(consumer, offer.serial + 3, 1, Outcome.RELEASED)
    world.hear(consumer)
    world.end(consumer)
    heir = add_consumer(world)
    again = [(bytes(body), offer.deliveries) for offer in world.consume_offers(heir) for body in offer.pieces()]

    assert again == [(b"0", 1), (b"3", 1), (b"4", 1), (b"5", 0)]
    assert world.view(A).octets == 0
    audit(world.router)


def test_what_comes_back_unread_is_offered_as_before() -> None:
    """Nothing is put to it."""
    world, producer = make_world()
    send_singly(world, producer, *numbers(4))
    consumer = add_consumer(world, credit=3)
    world.turn()
    world.end(consumer)
    heir = add_consumer(world)

    assert offers_to(world, heir) == [numbers(4)[:3], numbers(4)[3:]]
    audit(world.router)


def test_the_store_forgets_them_together() -> None:
    """With one change, of all that is acknowledged at once."""
    world, producer = make_world(stock=True)
    send_singly(world, producer, *numbers(5), persistent=True)
    consumer = add_consumer(world)
    offer = world.take_one(consumer)
    world.run_store()
    world.settle(consumer, offer.serial, 5)
    world.turn()

    assert [(told.kind, told.count) for told in world.stock.told] == [(Kind.DELETE, 5)]
    world.run_store()
    assert not world.stock.rows


@pytest.mark.parametrize("persistent", [False, True])
def test_dead_letters_keep_their_names(persistent: bool) -> None:
    """In memory and in the store, whose rows are moved."""
    world, producer = make_world(stock=True)
    send_singly(world, producer, *numbers(3), persistent=persistent)
    consumer = add_consumer(world)
    world.run_store()
    offer = world.take_one(consumer)
    before = {row.body: (row.index, row.block) for row in world.stock.rows.values()}
    world.settle(consumer, offer.serial, 3, Outcome.REJECTED)
    world.hear(consumer)
    world.run_store()
    after = {row.body: (row.index, row.block) for row in world.stock.rows.values()}

    reader = add_consumer(world, DLQ)
    assert world.consume(reader) == numbers(3)
    assert (before, len(before)) == (after, 3 * persistent)


def test_details_stay_those_of_each() -> None:
    """All that are put together have the same ones."""
    world, producer = make_world(stock=True)
    send_singly(world, producer, *numbers(3), persistent=True)
    consumer = add_consumer(world)

    (offer,) = world.offers(consumer)
    assert offer.details is DURABLY
