"""Workers that are killed at random, and messages that crash their processes: who of them is blamed for what."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from forkbroker.routing.queues.policies import Policy, QueuePolicy
from forkbroker.wire.details import Reason
from forkbroker.wire.envelope import Envelope
from forkbroker.wire.kinds import Kind

from .simulation import DLQ, Child, World

JOBS = b"/queue/jobs"
WORKERS = 8
TICK_S = 0.05
POISON_AFTER = 3


class Worker:
    """A client's child: it works on one job after the other, each for some ticks. Of poison it dies at the claim."""

    def __init__(self, world: World, prefetch: int) -> None:
        self.world = world
        self.child: Child = world.add_child()
        self.jobs: list[tuple[Envelope, int]] = []
        self.left = 0
        world.subscribe(self.child, JOBS, credit=prefetch)

    def read(self) -> bool:
        """Claim what is offered; tell whether the worker has survived that."""
        while self.child.inbox:
            offer = self.child.inbox.popleft()
            if offer.kind is not Kind.OFFER or not self.world.claim(self.child, offer):
                continue
            self.jobs += [(offer, position) for position in range(offer.count)]
            if any(bytes(piece).startswith(b"poison") for piece in offer.pieces()):
                return False
        return True

    def work(self, random: Random) -> bool:
        """One tick; tell whether a job is done."""
        if not self.jobs:
            return False
        self.left = self.left or random.randint(1, 3)
        self.left -= 1
        if self.left:
            return False
        offer, position = self.jobs.pop(0)
        self.world.settle(self.child, offer.serial + position)
        return True


class Shop:
    """Workers, their jobs, and the hand that kills."""

    def __init__(self, seed: int, jobs: int, *, prefetch: int, poison: int = 0, kills: int = 0) -> None:
        self.random = random = Random(seed)
        policy = QueuePolicy(poison_after=POISON_AFTER, max_deliveries=0)
        self.world = World(Policy(queue=policy), slots=256)
        self.prefetch, self.jobs, self.kills, self.done = prefetch, jobs, kills, 0
        bodies = [b"job %d" % number for number in range(jobs - poison)]
        for number in range(poison):
            bodies.insert(random.randint(0, len(bodies)), b"poison %d" % number)
        producer = self.world.add_child()
        for first in range(0, jobs, 10):
            self.world.send(producer, JOBS, bodies[first : first + 10])
        self.workers = [Worker(self.world, prefetch) for _ in range(WORKERS)]
        self.absent: list[int] = []
        self.alone: Counter[bytes] = Counter()
        """By poison: crashes of processes that held nothing else."""

    def run(self) -> None:
        """Until all is done, or set aside."""
        ticks = 2 * self.jobs // WORKERS
        chance = 1.2 * self.kills / ticks
        for _ in range(20 * ticks):
            if self.done + self.count_letters() == self.jobs:
                return
            self.tick(chance)
        raise AssertionError("jobs are left")

    def tick(self, chance: float) -> None:
        self.world.pass_time(TICK_S)
        self.world.turn()
        for worker in list(self.workers):
            if not worker.read():
                self.crash(worker)
            else:
                self.done += worker.work(self.random)
        if self.kills and self.workers and self.random.random() < chance:
            self.kills -= 1
            self.crash(self.random.choice(self.workers))
        self.absent = [ticks - 1 for ticks in self.absent]
        while self.absent and self.absent[0] <= 0:
            self.absent.pop(0)
            self.workers.append(Worker(self.world, self.prefetch))

    def crash(self, worker: Worker) -> None:
        """Its client comes again in a moment."""
        held = [body for bodies in worker.child.held.values() for body in bodies.values()]
        acknowledged = sum(envelope.kind is Kind.SETTLE for envelope in worker.child.outbox)
        if len(held) == 1 and not acknowledged:
            self.alone[held[0]] += 1
        self.workers.remove(worker)
        self.absent.append(self.random.randint(1, 6))
        self.world.end(worker.child, "by SIGKILL")

    def count_letters(self) -> int:
        return sum(view.ready for view in self.world.router.views() if view.name == DLQ)

    def read_letters(self) -> list[Envelope]:
        reader = self.world.add_child()
        self.world.subscribe(reader, DLQ)
        return self.world.consume_offers(reader)


def bodies_of(letters: list[Envelope]) -> list[bytes]:
    return sorted(bytes(piece) for letter in letters for piece in letter.pieces())


@pytest.mark.parametrize("prefetch", [5, 1])
@pytest.mark.parametrize("seed", range(3))
def test_random_kills_convict_nobody(seed: int, prefetch: int) -> None:
    """200 of them over eight workers and 3,000 jobs: every job is done, and none is set aside."""
    shop = Shop(seed, 3000, prefetch=prefetch, kills=200)

    shop.run()

    assert (shop.kills, shop.done, shop.read_letters()) == (0, 3000, [])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("prefetch", [1, 5, 50])
def test_poison_is_set_aside_after_so_many_crashes_at_which_it_was_alone(seed: int, prefetch: int) -> None:
    """Exactly so many, where nothing else crashes; and none of what stood beside it with it."""
    shop = Shop(seed, 300, prefetch=prefetch, poison=1)

    shop.run()

    letters = shop.read_letters()
    assert bodies_of(letters) == [b"poison 0"]
    assert letters[0].details.reason is Reason.POISON
    assert shop.alone == {b"poison 0": POISON_AFTER}


@pytest.mark.parametrize("seed", range(3))
def test_all_poison_among_random_kills_is_set_aside_and_nothing_else(seed: int) -> None:
    """It crashes its process faster than others crash."""
    shop = Shop(seed, 1000, prefetch=5, poison=5, kills=60)

    shop.run()

    assert bodies_of(shop.read_letters()) == [b"poison %d" % number for number in range(5)]
    assert shop.done == 995
