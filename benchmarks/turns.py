"""How long the parent is away at most: one turn of its work, in states that make work.

While the parent does one thing it does nothing else: it accepts no client and routes no message. So the longest turn
counts, and not how long a thing takes in all. Here the router is driven as the parent drives it (receive what one read
has brought, tick, take), without processes and sockets, in states that are larger than they should be. The figure is
processor time.
"""

from procedures import Bench, Row
from scenarios import Unit
from stage import BATCH, Stage, make, send, subscribe

from forkbroker.routing.queues.policies import Full, QueuePolicy, QueueRule
from forkbroker.wire.details import Wishes
from forkbroker.wire.envelope import Envelope, pack_pieces, pack_settle
from forkbroker.wire.kinds import Flag, Kind, Outcome

TARGET_MS = 50.0


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
        stage.turn(stage.add_peer(), send(b"/topic/t", BATCH, flags=Flag.PERSISTENT))
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
        stage.turn(peers[0], send(b"/topic/t", BATCH))
        stage.turn(peers[0], send(b"/queue/q", BATCH))
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


def large_transaction() -> float:
    """A COMMIT of 10,000 persistent SENDs to 5,000 queues."""
    stage = Stage()
    parts = [send(b"/queue/%d" % (number % 5_000), flags=Flag.PERSISTENT).raw for number in range(10_000)]
    envelope = make(Kind.TRANSACTION, count=len(parts), payload=parts)
    stage.begin()
    stage.turn(stage.add_peer(), envelope)
    stage.rest()
    return stage.longest_ms


def cumulative_ack() -> float:
    """One ACK for 20,000 persistent messages, each of which came alone."""
    stage = Stage()
    stage.fill(b"/queue/a", 20_000, together=1, flags=Flag.PERSISTENT)
    peer = stage.add_peer()
    serials = stage.hold(peer, stage.turn(peer, subscribe(b"/queue/a", credit=30_000)))
    stage.begin()
    stage.turn(peer, Envelope(pack_settle(1, [(serials[0], len(serials), Outcome.ACKNOWLEDGED)])[0]))
    stage.rest()
    return stage.longest_ms


def small_envelopes() -> float:
    """One read brings 2,000 small persistent SENDs, each to another queue."""
    stage = Stage()
    envelopes = [send(b"/queue/%d" % number, flags=Flag.PERSISTENT) for number in range(2_000)]
    stage.begin()
    stage.turn(stage.add_peer(), *envelopes)
    stage.rest()
    return stage.longest_ms


def many_subscriptions() -> float:
    """A child ends that has 5,000 patterns, and consumes from 4,990 temporary queues with messages."""
    stage = Stage()
    peer = stage.add_peer()
    for number in range(4_990):
        name = b"/reply-queue/secret/%d" % number
        stage.turn(peer, subscribe(name, number + 1, flags=Flag.TEMPORARY), send(name, 20))
        stage.turn(peer, subscribe(b"/topic/%d.*.a.b.c.d.#" % number, 10_000 + number))
    stage.begin()
    stage.measure(lambda: stage.router.peer_ended(peer, stage.now))  # type: ignore[arg-type]
    stage.rest()
    return stage.longest_ms


def patterns_of_stars() -> float:
    """4,096 patterns mix `*` with the levels of one name, to which a message comes."""
    stage = Stage()
    peer = stage.add_peer()
    for mix in range(4_096):
        pattern = b".".join(b"*" if mix >> place & 1 else b"a" for place in range(12))
        stage.turn(peer, subscribe(b"/topic/%b.x" % pattern, mix + 1))
    stage.begin()
    stage.turn(peer, send(b"/topic/" + b".".join([b"a"] * 12)))
    return stage.longest_ms


def retold() -> float:
    """A new store process is told 200,000 changes again, and commits them."""
    stage = Stage()
    peer = stage.add_peer()
    for _ in range(200_000):
        stage.turn(peer, send(b"/queue/a", flags=Flag.PERSISTENT))
    stage.begin()
    stage.measure(lambda: stage.router.store_ended(""))
    stage.measure(stage.open_store)
    stage.rest()
    stage.measure(lambda: stage.router.receive_stored(make(Kind.COMMITTED, number=200_000), stage.now))
    stage.rest()
    return stage.longest_ms


def deleted_on_a_full_disk() -> float:
    """4,000 deletions are done ahead of 20,000 changes that wait for room."""
    stage = Stage()
    stage.fill(b"/queue/a", 10_000, together=1, flags=Flag.PERSISTENT)
    peer = stage.add_peer()
    for serial in stage.hold(peer, stage.turn(peer, subscribe(b"/queue/a", credit=10_000))):
        stage.turn(peer, Envelope(pack_settle(1, [(serial, 1, Outcome.ACKNOWLEDGED)])[0]))
    first = stage.router._journal.last - 9_999
    words = [make(Kind.DELETED, number=first + number) for number in range(4_000)]
    stage.begin()
    stage.measure(lambda: [stage.router.receive_stored(word, stage.now) for word in words])
    return stage.longest_ms


def receipts() -> float:
    """A commit lets 20,000 receipts of 2,000 children go out."""
    stage = Stage()
    peers = [stage.add_peer() for _ in range(2_000)]
    for peer in peers:
        for number in range(10):
            stage.turn(peer, send(b"/queue/a", flags=Flag.PERSISTENT | Flag.FENCE, fence=number + 1))
    stage.begin()
    stage.measure(lambda: stage.router.receive_stored(make(Kind.COMMITTED, number=20_000), stage.now))
    stage.rest()
    return stage.longest_ms


def room_is_made() -> float:
    """A message of 62 MiB takes the place of 90,000 persistent ones, which become dead letters."""
    policy = QueuePolicy(max_bytes=67_108_864, full=Full.DEAD_LETTER)
    stage = Stage(queue=policy, rules=(QueueRule(b"/queue/DLQ", {"max_bytes": 0}),))
    stage.fill(b"/queue/a", 90_000, together=1, flags=Flag.PERSISTENT)
    form, payload = pack_pieces([bytes(65_011_712)])
    large = make(Kind.SEND, flags=form, count=1, destination=b"/queue/a", block=b"-1\n\n", payload=payload)
    stage.begin()
    stage.turn(stage.add_peer(), large)
    stage.rest()
    return stage.longest_ms


def delayed_ends() -> float:
    """A temporary queue ends to which 100,000 delayed messages were to come."""
    stage = Stage(max_delayed_bytes=2**31)
    owner = stage.add_peer()
    stage.turn(owner, subscribe(b"/reply-queue/secret/a", flags=Flag.TEMPORARY))
    stage.fill(b"/reply-queue/secret/a", 100_000, Wishes(delay=60_000), together=1)
    stage.begin()
    stage.measure(lambda: stage.router.peer_ended(owner, stage.now))  # type: ignore[arg-type]
    stage.rest()
    return stage.longest_ms


def consumed_in_time() -> float:
    """100,000 messages with a ttl were consumed before it."""
    stage = Stage()
    stage.fill(b"/queue/a", 100_000, Wishes(ttl=60_000), together=1)
    peer = stage.add_peer()
    waiting = stage.turn(peer, subscribe(b"/queue/a", credit=1_000_000, flags=Flag.AUTO))
    while waiting:
        offer = waiting.pop()
        stage.semaphores.try_acquire(offer.slot)
        settled = Envelope(pack_settle(1, [(offer.serial, offer.count, Outcome.ACKNOWLEDGED)])[0])
        waiting += stage.turn(peer, make(Kind.CLAIMED, number=offer.number, token=1), settled)
    stage.pass_time(61)
    stage.begin()
    stage.rest()
    return stage.longest_ms


def backlog_after_start() -> float:
    """The store has 9,990 queues from before; all are consumed, and it ends and is there again."""
    stage = Stage(is_open=False)
    stage.tell(make(Kind.OPENING, serial=10_000_000))
    for number in range(9_990):
        stage.tell(make(Kind.BACKLOG, destination=b"/queue/%d" % number, index=4, count=100, number=10_000, serial=1))
    peer = stage.add_peer()
    stage.begin()
    stage.measure(lambda: stage.tell(make(Kind.OPENED)))
    stage.rest()
    for number in range(9_990):
        stage.turn(peer, subscribe(b"/queue/%d" % number, number + 1))
    stage.measure(lambda: stage.router.store_ended(""))
    stage.measure(stage.open_store)
    stage.rest()
    return stage.longest_ms


def stop() -> float:
    """The broker is told to end with 100 children of 1,000 subscriptions each."""
    stage = Stage()
    for _ in range(100):
        peer = stage.add_peer()
        for number in range(1_000):
            stage.turn(peer, subscribe(b"/queue/%d" % number, number + 1))
    stage.begin()
    stage.measure(stage.router.stop_offers)
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
    large_transaction,
    cumulative_ack,
    small_envelopes,
    many_subscriptions,
    patterns_of_stars,
    retold,
    deleted_on_a_full_disk,
    receipts,
    room_is_made,
    delayed_ends,
    consumed_in_time,
    backlog_after_start,
    stop,
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
