"""One life: a broker, its store and its children, and all that can happen to them, at random.

Each life draws its settings first, so that unlike things come together: small memory or a large one, one durable
subscription to the topic or many, a child that lies or none. The bounds on octets that the rules have for themselves
are a thousandth of what they are (`SMALL`), and the channels take what the command would derive from such small bodies:
so changes that are too large come by chance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

import pytest
from support.lies import make_lie

from forkbroker.cli import conversion
from forkbroker.config.evaluation import make_settings
from forkbroker.routing import sending
from forkbroker.routing.keeping import fans, journal, telling
from forkbroker.routing.queues import queue, window
from forkbroker.routing.queues.policies import Expired, Policy, QueuePolicy, Visible
from forkbroker.store import pages
from forkbroker.wire.details import Wishes
from forkbroker.wire.envelope import Envelope, pack_settle, with_fence
from forkbroker.wire.fields import MAX_AHEAD, OF_CHILD, check
from forkbroker.wire.kinds import Flag, Kind, Outcome

from .audit import audit
from .ledger import Key, Ledger
from .simulation import DLQ, NOON, OFFERS, Bounds, Child, Kept, World, make, make_send
from .stock import DEADLY, UNWRITABLE, Stock

TOPIC, DURABLE = b"/topic/t", b"/dsub/me"
QUEUES = [b"/queue/x", b"/queue/y", DURABLE]
SENT_TO = {DURABLE: TOPIC}
"""What is sent to this topic is for durable subscriptions: one has this name, and there may be others."""
OUTCOMES = [Outcome.ACKNOWLEDGED, *Outcome]
LIES = b"/queue/lies"
LIES_GO_TO = (LIES, LIES, b"/topic/lies", TOPIC, b"/dsub/lies", b"/reply-queue/lies")

SMALL: list[tuple[Any, str, int]] = [
    (conversion, "ENVELOPE_SLACK", 2_000),
    (conversion, "PASSED_SLACK", 2_500),
    (fans, "FAN_OCTETS", 30_000),
    (fans, "NAMES_OCTETS", 1_250),
    (journal, "MAX_OCTETS", 40_000),
    (journal, "MAX_COPIES", 100_000),
    (sending, "MAX_COPIES", 100_000),
    (telling, "WINDOW_OCTETS", 80_000),
    (telling, "_CUT_OCTETS", 1_000),
    (queue, "MAX_OFFER_OCTETS", 8_000),
    (queue, "MAX_NAMED_OCTETS", 6_000),
    (pages, "MAX_NAMED_OCTETS", 6_000),
    (pages, "PAGE_OCTETS", 8_000),
    (window, "FETCH", 6_000),
    (window, "_LEAST", 1_500),
    (window, "_LOW", 12_000),
]
MAX_BODY = 20_000


@contextmanager
def small_bounds() -> Iterator[None]:
    """What the rules permit themselves is small."""
    with pytest.MonkeyPatch.context() as patch:
        for module, name, octets in SMALL:
            patch.setattr(module, name, octets)
        yield


def live(seed: int) -> None:
    """A whole life, with dice of this number. Raises AssertionError, or whatever a rule raises that is wrong."""
    with small_bounds():
        dice = Random(seed)
        life = Life(dice)
        for _ in range(dice.randint(150, 300)):
            dice.choice(ACTIONS)(life, dice)
        life.finish()


class Life:
    """A broker, its store, its children."""

    def __init__(self, random: Random) -> None:
        """`random` decides what kind of life it is."""
        self.visible = random.choice(list(Visible))
        policy = QueuePolicy(
            expired=random.choice(list(Expired)),
            poison_after=random.choice([0, 2]),
            max_deliveries=random.choice([0, 3]),
            redelivery_delay=random.choice([0, 0, 300]),
            visible=self.visible,
        )
        self.policy = Policy(
            offer_candidates=random.choice([1, 3]),
            queue_memory=random.choice([3_000, 12_000, 60_000, 10_000_000]),
            max_unsettled=random.choice([2_000, 20_000, 67_108_864]),
            queue=policy,
            durable=policy,
        )
        self.slots = random.choice([2, 16])
        self.sizes = random.choice([[0, 10, 900, 4_000], [0, 10, 900, 4_000], [10, 4_000, MAX_BODY]])
        self.has_liar = random.random() < 0.35
        self.stumbles = random.random() < 0.3
        """The store meets what it can't write."""
        self.is_short = random.random() < 0.3
        """The disk is full now and then."""
        self.names = [*QUEUES, *QUEUES, DLQ, *([LIES] if self.has_liar else []), *([DLQ] * 3 if self.is_short else [])]
        """What consumers consume from; where the disk is full, rather from what was moved."""
        self.bounds = Bounds.of(make_settings({"max_body": str(MAX_BODY), "max_transaction_size": str(MAX_BODY)}))
        self.ledger = Ledger()
        self.stock = Stock()
        self.fence = self.batch = 0
        self.durables = [DURABLE, *[b"/dsub/%0600d" % each for each in range(random.choice([0, 0, 1, 40]))]]
        self.start(random, 0.0)
        for name in self.durables:
            self.world.subscribe(self.producer, TOPIC, durable=name)
            self.world.unsubscribe(self.producer)
        self.world.run_store()

    def start(self, random: Random, wall_s: float, *, in_order: bool = False) -> None:
        """A broker, so many seconds after noon: it hears its store word by word, and time passes in between."""
        self.world = World(
            self.policy, slots=self.slots, stock=self.stock, start_s=wall_s, opens=False, bounds=self.bounds
        )
        self.stock.open(is_fresh=True, in_order=in_order)
        while self.stock.said:
            self.world.hear_store(random.choice([1, 1, 2, 50]))
            self.world.turn()
            self.world.pass_time(random.choice([0, 0, 0.5]))
        self.producer = self.world.add_child()
        self.liar = self.world.add_child() if self.has_liar else None
        # it only listens
        self.world.subscribe(self.producer, b"/topic/#", token=99)
        self.offers_seen = 0

    # ------------------------------------------------------------------ children

    def rest(self, random: Random) -> None:
        """What other actions shrink to."""

    def send(self, random: Random) -> None:
        name, priority, persistent = random.choice(QUEUES), random.choice([4, 4, 1, 9]), random.random() < 0.6
        delay = random.choice([0, 0, 0, 0, 0, 500, 3000]) if name != DURABLE else 0
        moment = int(self.world.wall * 1000) + delay if delay and random.random() < 0.5 else 0
        ttl = random.choice([0, 0, 0, 0, 0, 2_000])
        wishes = Wishes(priority=priority, delay=0 if moment else delay, deliver_at=moment, ttl=ttl)
        bodies = self.make_bodies(random, random.randint(1, 5))
        fields = {"persistent": persistent, "wishes": wishes, "fence": self.next_fence()}
        send = self.make_send(SENT_TO.get(name, name), bodies, **fields)
        peer = self.producer.peer
        self.ledger.asked(peer, self.fence)
        if self.is_accepted(self.producer, send):
            expires_ms = int(self.world.wall * 1000) + ttl if ttl else 0
            for queue_name in self.get_queues(name):
                self.ledger.sent(
                    peer, queue_name, priority, bodies,
                    is_persistent=persistent, is_delayed=delay > 0, expires_ms=expires_ms,
                )  # fmt: skip
            self.ledger.asked(peer, self.fence)

    def send_one_by_one(self, random: Random) -> None:
        """Some messages, each in a SEND of its own, as clients do that have one job at a time."""
        name, persistent = random.choice(QUEUES[:2]), random.random() < 0.6
        for _ in range(random.randint(2, 6)):
            bodies = self.make_bodies(random, 1)
            if not self.is_accepted(self.producer, self.make_send(name, bodies, persistent=persistent)):
                return
            self.ledger.sent(self.producer.peer, name, 4, bodies, is_persistent=persistent)

    def make_send(self, name: bytes, bodies: list[bytes], **fields: Any) -> Envelope:
        """With message-ids that no other one has."""
        self.batch += 1
        return make_send(name, bodies, batch=self.batch, **fields)

    def make_bodies(self, random: Random, count: int) -> list[bytes]:
        """As many as a client may send at once; perhaps one at which the store stumbles."""
        sizes = [random.choice(self.sizes) for _ in range(count)]
        while sum(sizes) > MAX_BODY:
            sizes.pop()
        mark = random.choice([DEADLY, UNWRITABLE]) if self.stumbles and random.random() < 0.1 else b""
        return self.ledger.make_bodies(sizes or [10], mark)

    def get_queues(self, name: bytes) -> list[bytes]:
        """The queues that get what is sent to this one."""
        return self.durables if name == DURABLE else [name]

    def subscribe(self, random: Random) -> None:
        if len(self.consumers) < 4:
            name, credit = random.choice(self.names), random.choice([1, 3, 1000])
            durable = DURABLE if name == DURABLE else b""
            keeps = MAX_AHEAD if credit == 1 else 0
            child = self.world.add_child()
            self.world.subscribe(child, SENT_TO.get(name, name), credit=credit, durable=durable, keeps=keeps)

    def turn(self, random: Random) -> None:
        self.collect()
        self.world.turn()
        self.check_priorities(self.collect())
        router = self.world.router
        there = sum(view.ready + view.unsettled for view in router.views())
        self.ledger.check_count(there + router._jobs.delays.messages, int(self.world.wall * 1000))
        audit(router)
        self.check_spilled()

    def check_spilled(self) -> None:
        """The store has forgotten what it was told to forget: with other messages the same serial comes again."""
        for serial, chunk in self.stock.spilled.items():
            queue = self.world.router._queues.find(chunk.destination)
            if queue is not None:
                lane = queue.lane(chunk.details.priority)
                assert serial > lane.told, "the store has messages again that it had forgotten"

    def read(self, random: Random) -> None:
        """A child looks at what it was offered; it may die at each step."""
        self.collect()
        readers = [child for child in self.consumers if child.inbox]
        if not readers:
            return
        child = random.choice(readers)
        for _ in range(min(random.randint(1, 4), len(child.inbox))):
            offer, dice = child.inbox.popleft(), random.random()
            if offer.kind is Kind.WITHDRAW:
                self.world.withdraw(child, offer.number)
            elif offer.kind is Kind.AHEAD:
                child.kept.append(Kept(offer))
                if not child.held[1] and not self.take_ahead(child, dice):
                    return
            elif dice < 0.1:
                self.world.answer(child, Kind.PASSED, offer)
                self.world.tell(child, make(Kind.READY))
            elif dice < 0.13:
                self.die(child)
                return
            elif self.world.claim(child, offer):
                self.ledger.claimed(child.peer, offer)
                if dice < 0.17:
                    # before it could tell
                    child.outbox.pop()
                    self.die(child)
                    return

    def take_ahead(self, child: Child, dice: float) -> bool:
        """It has credit, and takes the first of what it keeps that is there; tell whether it lives."""
        while child.kept and not child.held[1]:
            offer = child.kept[0].offer
            serial = self.world.try_ahead(child)
            if serial:
                self.ledger.claimed(child.peer, offer, serial)
                if dice < 0.05:
                    # before it could tell
                    while child.outbox.pop().kind is not Kind.CLAIMED:
                        """Nor what comes behind that."""
                    self.die(child)
                    return False
        return True

    def go_on(self, child: Child, outcome: Outcome) -> None:
        """It has credit again, and may keep something: it tries that, or leaves it to what it has given back."""
        if outcome is Outcome.ACKNOWLEDGED:
            self.take_ahead(child, 1.0)
        while child.kept and outcome is not Outcome.ACKNOWLEDGED:
            self.world.leave(child, child.kept.popleft())

    def settle(self, random: Random) -> None:
        if not self.holders:
            return
        child, outcome = random.choice(self.holders), random.choice(OUTCOMES)
        serials = list(child.held[1])[: random.randint(1, 5)]
        settle = pack_settle(1, [(serial, 1, outcome) for serial in serials])
        for serial in serials:
            del child.held[1][serial]
            self.ledger.settled(child.peer, serial, outcome)
        child.outbox.append(Envelope(bytes(with_fence(settle, self.next_fence())[0])))
        self.ledger.asked(child.peer, self.fence)
        self.go_on(child, outcome)

    def finish_job(self, random: Random) -> None:
        """In one transaction: the job is settled, and its results sent."""
        if not self.holders:
            return
        child, names = random.choice(self.holders), random.choices(QUEUES, k=random.randint(1, 3))
        serial = next(iter(child.held[1]))
        results = {name: self.make_bodies(random, 1) for name in names}
        if sum(len(body) for bodies in results.values() for body in bodies) > MAX_BODY:
            return
        is_doubtful = any(bodies[-1].endswith((DEADLY, UNWRITABLE)) for bodies in results.values())
        sends = [self.make_send(SENT_TO.get(key, key), some, persistent=True).raw for key, some in results.items()]
        payload = [*sends, pack_settle(1, [(serial, 1, Outcome.ACKNOWLEDGED)])[0]]
        fields = {"count": len(payload), "payload": payload, "flags": Flag.FENCE, "number": self.next_fence()}
        self.ledger.asked(child.peer, self.fence)
        if not self.is_accepted(child, make(Kind.TRANSACTION, **fields)):
            return
        keys: list[Key] = []
        for name, bodies in results.items():
            for queue_name in self.get_queues(name):
                keys += self.ledger.sent(
                    child.peer, queue_name, 4, bodies, is_persistent=True, is_doubtful=is_doubtful
                )  # fmt: skip
        del child.held[1][serial]
        job = self.ledger.settled(child.peer, serial, Outcome.ACKNOWLEDGED, is_doubtful=is_doubtful)
        if job is not None and self.ledger.notes[job].is_persistent:
            self.ledger.results.append((job, keys))
        self.ledger.asked(child.peer, self.fence)
        self.go_on(child, Outcome.ACKNOWLEDGED)

    def lie(self, random: Random) -> None:
        """A child says what no child says, among honest words: it ends, and harms nobody else."""
        if self.liar is None:
            return
        for _ in range(random.randint(1, 3)):
            octets = make_lie(random, LIES_GO_TO, self.offers_seen, self.bounds.up)
            try:
                lie = Envelope(octets)
                self.ledger.strangers |= find_bodies(lie)
                self.world.router.receive(self.liar.peer, lie, self.world.now)
            except Exception:
                self.die(self.liar, "by the parent")
                self.liar = self.world.add_child()
                return

    def end_child(self, random: Random) -> None:
        if self.consumers:
            self.die(random.choice(self.consumers), random.choice(["", "by SIGKILL"]))

    def wait(self, random: Random) -> None:
        self.world.pass_time(random.choice([0.05, 0.2, 1.5]))

    # ------------------------------------------------------------------ the store, and the broker

    def store_works(self, random: Random) -> None:
        """A part of what it was told, of which a part is heard."""
        self.world.deliver()
        self.stock.work(random.randint(0, 8))
        if self.stock.is_dying:
            # that it tries this change was written before
            self.world.kill_store(heard=len(self.stock.said))
        else:
            self.world.hear_store(random.randint(0, 12))

    def fill_disk(self, random: Random) -> None:
        if self.is_short and not self.stock.is_full:
            self.stock.fill_disk()

    def free_disk(self, random: Random) -> None:
        if random.random() < 0.4:
            self.stock.free_disk(random.choice([3_000, 60_000, 1 << 40]))

    def kill_store(self, random: Random) -> None:
        """Whatever it has done by then, a part of it is known; the next one is not started at once."""
        if self.stock.is_open:
            self.world.deliver()
            self.stock.work(random.randint(0, 6))
            self.world.kill_store(random.choice(["", "", "the disk is gone"]), heard=random.randint(0, 6))

    def open_store(self, random: Random) -> None:
        """Another one, which the router has still to hear of."""
        if not self.stock.is_open:
            self.stock.open(is_fresh=False)

    def restart(self, random: Random) -> None:
        """All processes are killed at once, and others start."""
        self.collect()
        self.stock.work(random.randint(0, 6))
        self.stock.kill()
        self.start_again(random, in_order=False)

    def stop(self, random: Random) -> None:
        """The broker ends in order, and starts again: nothing is lost, and nothing more than before is marked."""
        self.collect()
        self.world.router.stop_offers()
        self.settle_disk()
        for child in list(self.world.children.values()):
            self.die(child)
        self.world.run_store()
        assert self.world.router.is_committed
        self.stock.kill()
        self.start_again(random, in_order=True)

    def start_again(self, random: Random, *, in_order: bool) -> None:
        self.ledger.restarted(self.stock.rows.values(), int(self.world.wall * 1000), in_order=in_order)
        self.world.pass_time(random.choice([0, 0, 4]))
        self.start(random, self.world.wall - NOON, in_order=in_order)

    # ------------------------------------------------------------------ the end

    def finish(self) -> None:
        """All comes to rest: what is to be delivered is, all fences are passed, and nothing is left anywhere."""
        world = self.world
        self.settle_disk()
        for child in [*self.consumers, *([self.liar] if self.liar else [])]:
            self.die(child)
        last = world.add_child()
        for token, name in enumerate([*QUEUES[:2], DLQ, LIES], 1):
            world.subscribe(last, name, token=token)
        for token, name in enumerate(self.durables, 11):
            world.subscribe(last, TOPIC, token=token, durable=name)
        delivered = set(self.drain(last))

        assert delivered <= set(self.ledger.present)
        for key in set(self.ledger.present) - delivered:
            note = self.ledger.notes[key]
            assert note.is_doubtful or 0 < note.expires_ms <= world.wall * 1000, "lost"
        assert self.ledger.unanswered(self.producer.peer) == []
        self.check_rest()

    def check_rest(self) -> None:
        router = self.world.router
        audit(router)
        assert router.is_committed
        assert (router._queues.window.used, router._journal.octets) == (0, 0)
        assert [view.octets for view in router.views()] == [0] * len(router.views())
        left = [key for row in self.stock.rows.values() if (key := (row.details.origin or row.queue, row.body))]
        assert all(body in self.ledger.strangers or self.ledger.notes[queue, body].is_doubtful for queue, body in left)
        assert self.world.semaphores.values == [0] * self.slots
        timers = {timer for _, _, timer, _ in router._timers.agenda}
        assert self.has_liar or timers <= {"idle-durable"}, timers

    def settle_disk(self) -> None:
        """There is room, and a store that works."""
        self.stock.free_disk()
        if not self.stock.is_open:
            self.stock.open(is_fresh=False)
        self.world.run_store()

    def drain(self, child: Child) -> list[Key]:
        delivered: list[Key] = []
        before = -1
        while len(delivered) > before:
            before = len(delivered)
            # a suspect is alone for a moment
            for _ in range(3):
                self.world.pass_time(2)
                for offer in self.world.consume_offers(child):
                    self.ledger.offered(offer)
                    delivered += [note.key for _, note in self.ledger.notes_of(offer)]
        self.collect()
        return delivered

    # ------------------------------------------------------------------ what the rules need

    @property
    def consumers(self) -> list[Child]:
        return [child for child in self.world.children.values() if child not in (self.producer, self.liar)]

    @property
    def holders(self) -> list[Child]:
        return [child for child in self.consumers if child.held[1]]

    def next_fence(self) -> int:
        self.fence += 1
        return self.fence

    def is_accepted(self, child: Child, envelope: Envelope) -> bool:
        counters = self.world.router.counters
        before = counters.messages_refused
        self.world.tell(child, envelope)
        return counters.messages_refused == before

    def die(self, child: Child, crash: str = "") -> None:
        self.world.end(child, crash)
        self.ledger.ended(child.peer)

    def collect(self) -> list[Envelope]:
        """Note what children were told; offers stay in their inboxes: those that are new."""
        self.world.deliver()
        found: dict[int, Envelope] = {}
        for child in list(self.world.children.values()):
            if not self.note_answers(child):
                continue
            for envelope in child.inbox:
                if envelope.kind in OFFERS and envelope.number > self.offers_seen:
                    found[envelope.number] = envelope
        new = [found[number] for number in sorted(found)]
        self.offers_seen = max(found, default=self.offers_seen)
        for offer in new:
            self.ledger.offered(offer)
            self.check_visible(offer)
        return new

    def note_answers(self, child: Child) -> bool:
        """What it was told, but for offers; tell whether it goes on. Who is refused gets ERROR, and that is the end."""
        told = [envelope for envelope in child.inbox if envelope.kind not in (*OFFERS, Kind.WITHDRAW)]
        for envelope in told:
            child.inbox.remove(envelope)
            if envelope.kind is Kind.SEND:
                check(envelope, OF_CHILD)
            elif envelope.kind is Kind.FENCED and child is not self.liar:
                self.ledger.answered(child.peer, envelope.number)
            elif envelope.kind is Kind.REFUSED and child is not self.liar:
                self.die(child)
                if child is self.producer:
                    self.producer = self.world.add_child()
                return False
        return True

    def check_visible(self, offer: Envelope) -> None:
        """What was delayed is in the store, not in its schedule; by policy, whatever is persistent is there."""
        rows = {(row.details.origin or row.queue, row.body): row for row in self.stock.rows.values()}
        for _, note in self.ledger.notes_of(offer):
            is_hidden = note.is_delayed or self.visible is Visible.COMMITTED
            if note.is_persistent and is_hidden and not note.is_doubtful:
                assert note.key in rows, "offered before it was committed"
                assert not rows[note.key].details.due, "offered while it is in the schedule of the store"

    def check_priorities(self, offers: list[Envelope]) -> None:
        """Who was offered a message could not have had one of a higher priority."""
        lowest: dict[bytes, int] = {}
        for offer in offers:
            priority = offer.details.priority
            assert priority <= lowest.get(offer.destination, priority), "a lower priority came first"
            lowest[offer.destination] = priority
        for name, priority in lowest.items():
            queue = self.world.router._queues.find(name)
            assert queue is not None
            higher = [lane for lane in queue.lanes if lane.priority > priority]
            assert not any(lane.ready for lane in higher)
            is_open = self.world.router._journal.is_open
            # what may not be seen yet comes before what is in the store alone
            assert not (is_open and any(lane.paged and not lane.pending for lane in higher)), "the store has the first"


def find_bodies(lie: Envelope) -> set[bytes]:
    """Whatever the router may take for messages in it."""
    try:
        parts = lie.nested() if lie.kind is Kind.TRANSACTION else [lie]
        return {bytes(body) for part in parts if part.kind is Kind.SEND for body in part.pieces()}
    except Exception:
        return set()


Action = Callable[[Life, Random], None]
WEIGHTS: dict[Action, int] = {
    Life.rest: 1, Life.send: 8, Life.send_one_by_one: 1, Life.subscribe: 4, Life.turn: 10, Life.read: 14,
    Life.settle: 8, Life.finish_job: 2, Life.lie: 4, Life.end_child: 1, Life.wait: 3, Life.store_works: 10,
    Life.kill_store: 1, Life.open_store: 4, Life.fill_disk: 2, Life.free_disk: 3, Life.restart: 1, Life.stop: 1,
}  # fmt: skip
ACTIONS = [action for action, weight in WEIGHTS.items() for _ in range(weight)]
