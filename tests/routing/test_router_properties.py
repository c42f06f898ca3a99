"""Exactly one: whatever children do, and whenever they end, each message is settled once, and nothing is held twice."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from forkbroker.routing.queues.policies import Policy, QueuePolicy
from forkbroker.wire.envelope import Envelope, pack_settle
from forkbroker.wire.kinds import Flag, Kind, Outcome

from .simulation import AT_ONCE, DLQ, Child, World, make, make_send

QUEUES = [b"/queue/a", b"/queue/b"]
STEPS = 600


class Chaos:
    """A world in which everything happens at random, and a ledger that knows what may be true."""

    def __init__(self, seed: int, steps: int = AT_ONCE) -> None:
        self.random = random = Random(seed)
        policy = Policy(
            offer_candidates=random.choice([1, 2, 3, 10]),
            queue=QueuePolicy(max_deliveries=random.choice([0, 2, 3]), dead_letter=DLQ),
            answer_timeout_s=5.0,
        )
        self.world = World(policy, slots=random.choice([1, 3, 8]), steps=steps)
        self.sent: dict[bytes, list[bytes]] = {name: [] for name in QUEUES}
        self.first_offers: dict[bytes, list[bytes]] = {name: [] for name in QUEUES}
        self.offered: set[bytes] = set()
        self.holder: dict[bytes, Child] = {}
        self.delivered: Counter[bytes] = Counter()
        self.acknowledged: Counter[bytes] = Counter()
        self.producer = self.world.add_child()
        self.next_token = 1
        self.credit: dict[int, int] = {}
        # few messages make several candidates race for each, many make long runs
        self.sizes = random.choice([[1], [1, 2], [1, 5, 20]])

    @property
    def consumers(self) -> list[Child]:
        return [child for child in self.world.children.values() if child is not self.producer]

    def run(self) -> None:
        steps = [
            (self.send, 6), (self.turn, 10), (self.read, 24), (self.settle, 12), (self.subscribe, 4),
            (self.unsubscribe, 1), (self.kill, 2), (self.stop, 1), (self.resume, 2), (self.wait, 2),
            (self.get_ready, 3), (self.send_transaction, 2),
        ]  # fmt: skip
        actions, weights = zip(*steps, strict=True)
        for action in self.random.choices(actions, weights, k=STEPS):
            action()

    def finish(self) -> None:
        """The unruly ones end, and an honest consumer settles what is left."""
        for child in self.consumers:
            self.die(child)
        last = self.world.add_child()
        for token, name in enumerate([*QUEUES, DLQ], self.next_token):
            self.world.subscribe(last, name, token=token, credit=STEPS)
        self.turn()
        while last.inbox or self.world.router.deadline() is not None:
            while last.inbox:
                self.claim(last, last.inbox.popleft())
            for token, held in last.held.items():
                for serial in list(held):
                    self.settle_range(last, token, serial, 1, Outcome.ACKNOWLEDGED)
            self.turn()

    # ------------------------------------------------------------------ what can happen

    def send(self) -> None:
        name, bodies = self.new_messages()
        self.world.send(self.producer, name, bodies)

    def send_transaction(self) -> None:
        parts = [make_send(*self.new_messages()).raw for _ in range(self.random.randint(1, 3))]
        self.world.tell(self.producer, make(Kind.TRANSACTION, count=len(parts), payload=parts))

    def new_messages(self) -> tuple[bytes, list[bytes]]:
        name = self.random.choice(QUEUES)
        count = self.random.choice(self.sizes)
        start = len(self.sent[name])
        bodies = [b"%s %d" % (name, number) for number in range(start, start + count)]
        self.sent[name] += bodies
        return name, bodies

    def turn(self) -> None:
        last: Counter[bytes] = Counter()
        for _, envelope in self.world.turn():
            if envelope.kind is Kind.OFFER:
                assert envelope.serial >= last[envelope.destination], "not its old place in the order"
                last[envelope.destination] = envelope.serial
            if envelope.kind is Kind.OFFER and envelope.destination != DLQ:
                for body in map(bytes, envelope.pieces()):
                    if body not in self.offered:
                        self.offered.add(body)
                        self.first_offers[envelope.destination].append(body)

    def read(self) -> None:
        """A child looks at an offer; it may die at each step."""
        child = self.pick([child for child in self.consumers if child.inbox and not child.is_stopped])
        if child is None:
            return
        offer = child.inbox.popleft()
        if offer.token not in child.tokens:
            self.world.answer(child, Kind.PASSED, offer)
        elif self.random.random() < 0.1:
            self.world.answer(child, Kind.PASSED, offer)
            child.is_waiting = True
        elif self.random.random() < 0.05:
            self.die(child)
        else:
            self.claim(child, offer)

    def claim(self, child: Child, offer: Envelope) -> None:
        if not self.world.claim(child, offer):
            return
        for body in map(bytes, offer.pieces()):
            assert body not in self.holder, "held by two at once"
            assert offer.deliveries == self.delivered[body], "marked wrongly"
            self.holder[body] = child
            self.delivered[body] += 1
        assert len(child.held[offer.token]) <= self.credit.get(offer.token, STEPS), "more than its credit"
        dice = self.random.random()
        if dice < 0.05:
            child.outbox.pop()
        if dice < 0.1 and child in self.consumers[:-1]:
            self.die(child)
        elif dice < 0.05:
            self.world.answer(child, Kind.CLAIMED, offer)

    def settle(self) -> None:
        child = self.pick([child for child in self.consumers if any(child.held.values()) and not child.is_stopped])
        if child is None:
            return
        token = self.random.choice([token for token, held in child.held.items() if held])
        serial = self.random.choice(list(child.held[token]))
        self.settle_range(child, token, serial, self.random.choice([1, 1, 2, 5, 50]), self.random.choice(list(Outcome)))
        if self.random.random() < 0.05:
            self.die(child)

    def settle_range(self, child: Child, token: int, serial: int, count: int, outcome: Outcome) -> None:
        for each in range(serial, serial + count):
            body = child.held[token].pop(each, None)
            if body is not None:
                self.acknowledged[body] += outcome is Outcome.ACKNOWLEDGED
                self.delivered[body] -= outcome is Outcome.UNTOUCHED
                del self.holder[body]
        settle = Envelope(pack_settle(token, [(serial, count, outcome)])[0])
        if self.random.random() < 0.3:
            settle = make(Kind.TRANSACTION, count=1, payload=[settle.raw])
        child.outbox.append(settle)

    def subscribe(self) -> None:
        if len(self.consumers) < 5:
            self.world.add_child()
        child = self.random.choice(self.consumers)
        if child.is_stopped or len(child.tokens) > 2:
            return
        self.credit[self.next_token] = self.random.choice([1, 1, 3, 100])
        self.world.subscribe(
            child,
            self.random.choice([*QUEUES, *QUEUES, DLQ]),
            token=self.next_token,
            credit=self.credit[self.next_token],
            flags=self.random.choice([0, 0, 0, Flag.AUTO, Flag.EXCLUSIVE]),
        )
        self.next_token += 1

    def unsubscribe(self) -> None:
        child = self.pick([child for child in self.consumers if child.tokens and not child.is_stopped])
        if child is not None:
            token = self.random.choice(list(child.tokens))
            self.let_go(child, token)
            self.world.unsubscribe(child, token)

    def kill(self) -> None:
        child = self.pick(self.consumers)
        if child is not None:
            self.die(child)

    def die(self, child: Child) -> None:
        for token in child.held:
            self.let_go(child, token)
        self.world.end(child)

    def let_go(self, child: Child, token: int) -> None:
        for body in child.held[token].values():
            del self.holder[body]

    def stop(self) -> None:
        child = self.pick(self.consumers)
        if child is not None:
            child.is_stopped = True

    def resume(self) -> None:
        for child in self.consumers:
            child.is_stopped = False

    def wait(self) -> None:
        deadline = self.world.router.deadline()
        if deadline is not None:
            self.world.now = max(self.world.now, deadline)

    def get_ready(self) -> None:
        for child in self.consumers:
            if child.is_waiting and not child.is_stopped:
                child.is_waiting = False
                child.outbox.append(make(Kind.READY))

    def pick(self, children: list[Child]) -> Child | None:
        return self.random.choice(children) if children else None


@pytest.mark.parametrize("steps", [AT_ONCE, 1, 3, 20])
@pytest.mark.parametrize("seed", range(60))
def test_every_message_is_settled_once_whatever_happens(seed: int, steps: int) -> None:
    """None is lost, none is acknowledged twice, none is held by two, each further delivery is counted and marked.

    However little of what was received and of what came back is done in one turn.
    """
    chaos = Chaos(seed, steps)

    chaos.run()
    chaos.finish()

    everything = Counter(body for bodies in chaos.sent.values() for body in bodies)
    assert chaos.acknowledged == everything
    assert not chaos.holder
    assert chaos.world.semaphores.values == [0] * chaos.world.semaphores.size
    assert chaos.world.router.deadline() is None
    assert all(view.ready == view.unsettled == view.octets == 0 for view in chaos.world.router.views())
    assert chaos.world.router.counters.messages_acknowledged == len(everything)


@pytest.mark.parametrize("steps", [AT_ONCE, 1, 7])
@pytest.mark.parametrize("seed", range(12))
def test_messages_are_first_offered_in_the_order_of_sending(seed: int, steps: int) -> None:
    """Whatever comes back in between, and however long that takes."""
    chaos = Chaos(seed, steps)

    chaos.run()
    chaos.finish()

    assert chaos.first_offers == chaos.sent


@pytest.mark.parametrize("workers", [2, 4, 7, 20])
@pytest.mark.parametrize("backlog", [0, 1000])
@pytest.mark.parametrize("seed", range(3))
def test_equal_workers_with_prefetch_1_get_equal_shares(workers: int, backlog: int, seed: int) -> None:
    """With a deep queue and with one that is nearly empty nobody gets more than twice another's share."""
    random = Random(seed)
    world = World(Policy(answer_timeout_s=1000.0), slots=64)
    producer = world.add_child()
    children = [world.add_child() for _ in range(workers)]
    for child in children:
        world.subscribe(child, QUEUES[0], credit=1)
    shares = Counter({child.peer: 0 for child in children})
    world.send(producer, QUEUES[0], [b""] * min(1000, backlog) or [b""])
    work: list[tuple[Child, int, int]] = []
    for time in range(100 * workers):
        if not backlog:
            world.send(producer, QUEUES[0], [b""])
        for child, serial, due in work[:]:
            if due <= time:
                work.remove((child, serial, due))
                world.settle(child, serial)
        world.turn()
        # in a race anybody may be first
        for child in random.sample(children, workers):
            while child.inbox:
                offer = world.read(child, Kind.OFFER)
                if world.claim(child, offer):
                    shares[child.peer] += 1
                    work.append((child, offer.serial, time + 3))

    assert max(shares.values()) <= 2 * min(shares.values())
