"""Workers with prefetch 1 that are offered messages ahead, at random: with kills, stops, rivals and recalls."""

from __future__ import annotations

from random import Random

import pytest

from forkbroker.wire.details import Wishes
from forkbroker.wire.envelope import Envelope
from forkbroker.wire.fields import MAX_AHEAD
from forkbroker.wire.kinds import Flag, Kind, Outcome

from .audit import audit
from .simulation import Child, Kept, World

NAME = b"/queue/jobs"
SLOTS = 24
LIVES = 30


class Worker:
    """A child whose client has credit for one message, as `session/queue_delivery.py` has it."""

    def __init__(self, life: Life, *, exclusive: bool) -> None:
        self.life = life
        self.child: Child = life.world.add_child()
        self.last: dict[int, int] = {}
        """By priority: the last message that it got for the first time."""
        self.skips = self.is_stopped = False
        self.is_trying = False
        """It is on its way through what it keeps, and reads nothing before that is done."""
        flags = Flag.EXCLUSIVE if exclusive else 0
        life.world.subscribe(self.child, NAME, credit=1, keeps=MAX_AHEAD, flags=flags)

    @property
    def held(self) -> dict[int, bytes]:
        return self.child.held[1]

    def read(self) -> None:
        """The next envelope."""
        world, child = self.life.world, self.child
        envelope = child.inbox.popleft()
        if envelope.kind is Kind.WITHDRAW:
            world.withdraw(child, envelope.number)
        elif envelope.kind is Kind.AHEAD and self.skips:
            world.leave(child, Kept(envelope))
        elif envelope.kind is Kind.AHEAD:
            child.kept.append(Kept(envelope))
            self.is_trying = not self.held
        else:
            assert envelope.kind is Kind.OFFER
            assert not self.held, "an offer that it has no credit for"
            self.skips = False
            self.claim(envelope)

    def claim(self, offer: Envelope) -> None:
        if self.life.world.claim(self.child, offer):
            self.life.note_claim(self, offer, offer.serial)

    def try_ahead(self) -> None:
        """The next semaphore of what it keeps, while others do what they do."""
        offer = self.child.kept[0].offer
        serial = self.life.world.try_ahead(self.child)
        if serial:
            self.life.note_claim(self, offer, serial)
        self.is_trying = bool(self.child.kept) and not self.held

    def settle(self, outcome: Outcome) -> None:
        """ACK: go on with what is kept. NACK: leave that to what comes back."""
        world, child = self.life.world, self.child
        (serial,) = self.held
        if outcome is Outcome.ACKNOWLEDGED:
            self.life.done.add(serial)
            world.settle(child, serial)
            self.is_trying = bool(child.kept)
            return
        self.skips = True
        while child.kept:
            world.leave(child, child.kept.popleft())
        world.settle(child, serial, outcome=outcome)


class Life:
    """A broker with one queue."""

    def __init__(self, dice: Random) -> None:
        self.dice = dice
        self.world = World(slots=SLOTS)
        self.producer = self.world.add_child()
        self.forgotten_up_to = 0
        """The last offer of which the order is not looked at."""
        self.sent = self.ahead = self.recalled = self.shared = 0
        self.done: set[int] = set()
        self.workers: list[Worker] = []
        self.join()

    def note_claim(self, worker: Worker, offer: Envelope, serial: int) -> None:
        """Nobody has it, it was not settled, and who gets it for the first time has had nothing younger."""
        assert serial not in self.done
        assert [one for one in self.workers if serial in one.held] == [worker]
        self.shared += offer.kind is Kind.AHEAD and len(self.workers) > 1
        if not offer.deliveries and offer.number > self.forgotten_up_to:
            priority = offer.details.priority
            assert worker.last.get(priority, 0) < serial, "not in order"
            worker.last[priority] = serial

    def forget_order(self) -> None:
        """Somebody has not taken what it had credit for: that may be older than what others have got meanwhile."""
        self.forgotten_up_to = self.world.router._offering.claims._number
        for worker in self.workers:
            worker.last.clear()

    # -- what may happen

    def join(self) -> None:
        if len(self.workers) < 3:
            self.workers.append(Worker(self, exclusive=self.dice.random() < 0.2))

    def send(self) -> None:
        count, priority = self.dice.randint(1, 12), self.dice.choice([4, 4, 4, 4, 9, 1])
        self.world.send(self.producer, NAME, [b"x"] * count, wishes=Wishes(priority=priority))
        self.sent += count

    def turn(self) -> None:
        counters = self.world.router.counters
        overdue = counters.offers_overdue
        sent = self.world.turn()
        if counters.offers_overdue > overdue:
            self.forget_order()
        for _, envelope in sent:
            self.ahead += envelope.count * (envelope.kind is Kind.AHEAD)
            self.recalled += envelope.kind is Kind.WITHDRAW
        audit(self.world.router)
        self.check_fair()

    def check_fair(self) -> None:
        """Nobody who could have a message is left without one while another one keeps some."""
        kept = self.world.router._offering.ahead.kept
        assert sum(offer.count for offer in kept.values()) <= SLOTS // 2
        for worker in self.workers:
            consumer = self.world.router._offering.clientele.children[worker.child.peer].consumers[1]
            if consumer in consumer.row.willing:
                assert not any(offer.count - offer.tried for offer in kept.values())

    def read(self) -> None:
        readers = [worker for worker in self.workers if worker.child.inbox and not worker.is_stopped]
        if readers and not (reader := self.dice.choice(readers)).is_trying:
            reader.read()

    def try_ahead(self) -> None:
        """A worker that has credit tries one more of what it keeps."""
        if triers := [worker for worker in self.workers if worker.is_trying and not worker.is_stopped]:
            self.dice.choice(triers).try_ahead()

    def settle(self) -> None:
        holders = [worker for worker in self.workers if worker.held and not worker.is_stopped]
        if holders:
            # what is passed on while somebody else has something younger comes to that one too late
            is_alone = len(self.workers) == 1
            outcome = Outcome.RELEASED if is_alone and self.dice.random() < 0.1 else Outcome.ACKNOWLEDGED
            self.dice.choice(holders).settle(outcome)

    def stop_or_continue(self) -> None:
        worker = self.dice.choice(self.workers)
        worker.is_stopped = not worker.is_stopped

    def kill(self) -> None:
        """Between any two of its steps, or after a claim that it could not tell; another one may come."""
        worker = self.dice.choice(self.workers)
        outbox = worker.child.outbox
        while outbox and outbox[-1].kind in (Kind.CLAIMED, Kind.LOST) and self.dice.random() < 0.5:
            outbox.pop()
        self.workers.remove(worker)
        self.world.end(worker.child, self.dice.choice(["by SIGKILL", ""]))
        self.forget_order()
        self.world.turn()
        if not self.workers:
            self.join()

    def wait(self) -> None:
        self.world.pass_time(self.dice.choice([0.0005] * 8 + [0.05, 0.12]))

    def finish(self) -> None:
        """All comes to rest."""
        for worker in self.workers:
            worker.is_stopped = False
        for _ in range(self.sent * 20 + 1000):
            self.turn()
            self.world.pass_time(0.001)
            for worker in self.workers:
                while worker.is_trying or worker.child.inbox:
                    worker.try_ahead() if worker.is_trying else worker.read()
                if worker.held:
                    worker.settle(Outcome.ACKNOWLEDGED)
            is_busy = any(worker.child.inbox or worker.is_trying for worker in self.workers)
            if len(self.done) == self.sent and not is_busy:
                break
            # suspects stand alone for a while
            self.world.pass_time(0.2 * (self.dice.random() < 0.1))
        self.turn()
        assert len(self.done) == self.sent
        offering = self.world.router._offering
        assert offering.claims.free.bit_count() == SLOTS and not offering.ahead.kept
        assert self.world.semaphores.values == [0] * SLOTS


ACTIONS = [
    *[Life.send] * 6,
    *[Life.turn] * 16,
    *[Life.read] * 16,
    *[Life.settle] * 16,
    *[Life.try_ahead] * 24,
    *[Life.wait] * 4,
    Life.stop_or_continue,
]
RARE = [Life.join, Life.kill, Life.kill]


@pytest.mark.parametrize("seed", range(LIVES))
def test_whatever_happens_nobody_waits_and_nothing_is_overtaken(seed: int) -> None:
    """Whole lives; `Life` says what is checked."""
    dice = Random(seed)
    life = Life(dice)
    for _ in range(600):
        dice.choice(RARE if dice.random() < 0.01 else ACTIONS)(life)
    life.finish()


def test_much_is_offered_ahead_and_recalled_in_these_lives() -> None:
    """Else they would show nothing."""
    dice = Random(1)
    life = Life(dice)
    for _ in range(10_000):
        dice.choice(RARE if dice.random() < 0.01 else ACTIONS)(life)

    assert life.ahead > 200
    assert life.shared > 100
    assert life.recalled > 20
