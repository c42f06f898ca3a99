"""Whatever dies and whenever: what was promised is kept, and what is kept comes in its order, once at a time."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forkbroker.routing.claims import State
from forkbroker.routing.policies import Policy, QueuePolicy, Visible
from forkbroker.wire.details import Wishes
from forkbroker.wire.envelope import Envelope, pack_settle, with_fence
from forkbroker.wire.kinds import Flag, Kind, Outcome

from .ledger import Ledger
from .simulation import DLQ, NOON, Child, World, make, make_send
from .stock import Stock

TOPIC, DURABLE = b"/topic/t", b"/dsub/me"
QUEUES = [b"/queue/a", b"/queue/b", DURABLE]
SENT_TO = {DURABLE: TOPIC}
"""What is sent to this topic is for one durable subscription: by any other name a queue."""
OUTCOMES = [Outcome.ACKNOWLEDGED, *Outcome]


class Life:
    """A broker, its store, its children, and all that can happen to them."""

    def __init__(self, random: Random) -> None:
        self.visible = random.choice(list(Visible))
        queue = QueuePolicy(
            poison_after=random.choice([0, 2]), max_deliveries=random.choice([0, 3]), visible=self.visible
        )
        memory = random.choice([3_000, 12_000, 60_000, 10_000_000])
        self.policy = Policy(
            offer_candidates=random.choice([1, 3]),
            queue_memory=memory,
            max_unsettled=random.choice([2_000, 20_000, 1 << 26]),
            queue=queue,
            durable=queue,
        )
        self.slots = random.choice([2, 16])
        self.ledger = Ledger()
        self.stock = Stock()
        self.fence = 0
        self.stubs_seen = 0
        self.start(0.0)
        self.world.subscribe(self.producer, TOPIC, durable=DURABLE)
        self.world.unsubscribe(self.producer)
        self.world.run_store()

    def start(self, wall: float) -> None:
        """So many seconds after noon."""
        self.world = World(self.policy, slots=self.slots, stock=self.stock, start_s=wall)
        self.producer = self.world.add_child()
        self.offers_seen = 0

    # ------------------------------------------------------------------ children

    def rest(self, random: Random) -> None:
        """What other actions shrink to."""

    def send(self, random: Random) -> None:
        name, priority, persistent = random.choice(QUEUES), random.choice([4, 4, 1, 9]), random.random() < 0.6
        delay = random.choice([0, 0, 0, 0, 0, 500, 3000]) if name != DURABLE else 0
        bodies = self.ledger.make_bodies(random.choices([0, 10, 900, 4000], k=random.randint(1, 5)))
        moment = int(self.world.wall * 1000) + delay if delay and random.random() < 0.5 else 0
        wishes = Wishes(priority=priority, delay=0 if moment else delay, deliver_at=moment)
        send = make_send(SENT_TO.get(name, name), bodies, persistent=persistent, wishes=wishes, fence=self.next_fence())
        peer = self.producer.peer
        if self.is_accepted(self.producer, send):
            self.ledger.sent(peer, name, priority, bodies, is_persistent=persistent, is_delayed=delay > 0)
        self.ledger.asked(peer, self.fence)

    def subscribe(self, random: Random) -> None:
        if len(self.world.children) < 5:
            name, credit = random.choice([*QUEUES, *QUEUES, DLQ]), random.choice([1, 3, 1000])
            durable = DURABLE if name == DURABLE else b""
            self.world.subscribe(self.world.add_child(), SENT_TO.get(name, name), credit=credit, durable=durable)

    def turn(self, random: Random) -> None:
        self.collect()
        self.world.turn()
        self.check_priorities(self.collect())
        there = sum(view.ready + view.unsettled for view in self.world.router.views())
        assert there + self.world.router._delays.messages == len(self.ledger.present)
        self.check_figures()

    def check_figures(self) -> None:
        """What is in memory is counted to the octet, and what each child was offered and holds."""
        deliveries, queues = self.world.router._deliveries, self.world.router._queues
        claims = deliveries._claims
        offers = [*claims._overdue.values(), *claims._timely.values()]
        in_use = [offer.run.memory for offer in offers if offer.state is State.OFFERED]
        self.stubs_seen += sum(lane.stubbed for queue in queues.all() for lane in queue.lanes)
        for child in deliveries._children.values():
            held = [run for consumer in child.consumers.values() for run in consumer.unsettled]
            asked = [offer.cost for offer in offers for peer, _ in offer.candidates if peer == child.peer]
            assert (child.octets, child.open_offers) == (sum(run.cost for run in held) + sum(asked), len(asked))
            in_use += [run.memory for run in held if not run.is_stub]
        for queue in queues.all():
            for lane in queue.lanes:
                runs = [*lane.returned, *lane.fresh, *[run for _, run in lane.pending]]
                assert lane.memory == sum(run.memory for run in runs if run.count)
                assert lane.stubbed == sum(run.count for run in lane.stubs)
                in_use.append(lane.memory)
            in_use += [run.memory for run in queue.waiting.values() if not run.is_stub]
        assert queues.window.used == sum(queue.memory for queue in queues.all()) == sum(in_use)

    def read(self, random: Random) -> None:
        """A child looks at what it was offered; it may die at each step."""
        self.collect()
        readers = [child for child in self.consumers if child.inbox]
        if not readers:
            return
        child = random.choice(readers)
        for _ in range(min(random.randint(1, 4), len(child.inbox))):
            offer, dice = child.inbox.popleft(), random.random()
            if dice < 0.1:
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

    def settle(self, random: Random) -> None:
        if not self.holders:
            return
        child, outcome = random.choice(self.holders), random.choice(OUTCOMES)
        serials = list(child.held[1])[: random.randint(1, 5)]
        settle = pack_settle(1, [(serial, 1, outcome) for serial in serials])
        for serial in serials:
            self.ledger.settled(child.peer, child.held[1].pop(serial), outcome)
        child.outbox.append(Envelope(bytes(with_fence(settle, self.next_fence())[0])))
        self.ledger.asked(child.peer, self.fence)

    def finish_job(self, random: Random) -> None:
        """In one transaction: the job is settled, and its result sent."""
        if not self.holders:
            return
        child, name = random.choice(self.holders), random.choice(QUEUES)
        serial, job = next(iter(child.held[1].items()))
        (result,) = self.ledger.make_bodies([10])
        settle = pack_settle(1, [(serial, 1, Outcome.ACKNOWLEDGED)])[0]
        payload = [make_send(SENT_TO.get(name, name), [result], persistent=True).raw, settle]
        fields = {"count": 2, "payload": payload, "flags": Flag.FENCE, "number": self.next_fence()}
        if self.is_accepted(child, make(Kind.TRANSACTION, **fields)):
            del child.held[1][serial]
            if self.ledger.notes[job].is_persistent:
                self.ledger.results[job] = result
            self.ledger.sent(child.peer, name, 4, [result], is_persistent=True)
            self.ledger.settled(child.peer, job, Outcome.ACKNOWLEDGED)
        self.ledger.asked(child.peer, self.fence)

    def end_child(self, random: Random) -> None:
        if self.consumers:
            self.die(random.choice(self.consumers), random.choice(["", "by SIGKILL"]))

    def wait(self, random: Random) -> None:
        self.world.pass_time(random.choice([0.05, 0.2, 1.5]))

    # ------------------------------------------------------------------ the store, and the broker

    def store_works(self, random: Random) -> None:
        self.world.deliver()
        self.stock.work(random.randint(0, 8))
        self.world.hear_store(random.randint(0, 12))

    def kill_store(self, random: Random) -> None:
        """Whatever it has done by then, a part of it is known; the next one is not started at once."""
        if self.stock.is_open:
            self.world.deliver()
            self.stock.work(random.randint(0, 6))
            self.world.kill_store(random.choice(["", "", "the disk is gone"]), heard=random.randint(0, 6))

    def open_store(self, random: Random) -> None:
        if not self.stock.is_open:
            self.world.open_store()

    def restart(self, random: Random) -> None:
        """All processes are killed at once, and others start."""
        self.collect()
        self.stock.work(random.randint(0, 6))
        self.stock.kill()
        self.ledger.restarted(self.stock.rows.values())
        self.start(self.world.wall - NOON)

    # ------------------------------------------------------------------ the end

    def finish(self) -> None:
        """All comes to rest: what is to be delivered is, all fences are passed, and nothing is left anywhere."""
        world = self.world
        if not self.stock.is_open:
            world.open_store()
        for child in self.consumers:
            self.die(child)
        last = world.add_child()
        for token, name in enumerate([*QUEUES, DLQ], 1):
            world.subscribe(last, name, token=token)
        delivered = list(self.drain(last))

        assert sorted(delivered) == sorted(self.ledger.present)
        assert self.ledger.unanswered(self.producer.peer) == []
        router = world.router
        assert router.is_committed
        assert (router._queues.window.used, router._journal.octets) == (0, 0)
        assert [view.octets for view in router.views()] == [0] * len(router.views())
        assert not self.stock.rows
        assert world.semaphores.values == [0] * self.slots

    def drain(self, child: Child) -> list[bytes]:
        delivered: list[bytes] = []
        before = -1
        while len(delivered) > before:
            before = len(delivered)
            # a suspect is alone for a moment
            for _ in range(3):
                self.world.pass_time(2)
                for offer in self.world.consume_offers(child):
                    delivered += map(bytes, offer.pieces())
                    self.ledger.offered(offer)
        self.collect()
        return delivered

    # ------------------------------------------------------------------ what the rules need

    @property
    def consumers(self) -> list[Child]:
        return [child for child in self.world.children.values() if child is not self.producer]

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
        for child in self.world.children.values():
            for envelope in child.inbox:
                if envelope.kind is Kind.FENCED:
                    self.ledger.answered(child.peer, envelope.number)
                elif envelope.kind is Kind.REFUSED:
                    self.ledger.refused(child.peer, envelope.number)
                elif envelope.kind is Kind.OFFER and envelope.number > self.offers_seen:
                    found[envelope.number] = envelope
            for offer in [each for each in child.inbox if each.kind is not Kind.OFFER]:
                child.inbox.remove(offer)
        new = [found[number] for number in sorted(found)]
        self.offers_seen = max(found, default=self.offers_seen)
        for offer in new:
            self.ledger.offered(offer)
            self.check_visible(offer)
        return new

    def check_visible(self, offer: Envelope) -> None:
        """What was delayed is in the store, not in its schedule; by policy, whatever is persistent is there."""
        rows = {row.body: row for row in self.stock.rows.values()}
        for body in map(bytes, offer.pieces()):
            note = self.ledger.notes[body]
            if note.is_persistent and (note.is_delayed or self.visible is Visible.COMMITTED):
                assert body in rows, "offered before it was committed"
                assert not rows[body].details.due, "offered while it is in the schedule of the store"

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
            assert not (self.stock.is_open and any(lane.paged for lane in higher)), "the store has what comes first"


WEIGHTS: dict[Callable[[Life, Random], None], int] = {
    Life.rest: 1, Life.send: 8, Life.subscribe: 4, Life.turn: 10, Life.read: 14, Life.settle: 8, Life.finish_job: 2,
    Life.end_child: 1, Life.wait: 3, Life.store_works: 8, Life.kill_store: 1, Life.open_store: 3, Life.restart: 1,
}  # fmt: skip
ACTIONS = [action for action, weight in WEIGHTS.items() for _ in range(weight)]


@settings(max_examples=150, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(
    seed=st.integers(0, 10**6),
    steps=st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 10**6)), min_size=150, max_size=300),
)
def test_what_was_promised_is_kept(seed: int, steps: list[tuple[Callable[[Life, Random], None], int]]) -> None:
    """Over the deaths of children, of the store and of the broker. Each step has its own dice: fewer steps will do."""
    life = Life(Random(seed))

    for action, dice in steps:
        action(life, Random(dice))

    life.finish()
