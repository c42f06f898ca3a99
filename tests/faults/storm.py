"""A broker under load whose processes are killed again and again: the store, the parent, clients' processes, all.

One storm is an episode: rounds of load, each ended by a harm; then everything is drained, everything is killed once
more, and the book (`faults.book`) must balance. Harms, options and traffic come from one seed. What the system's
scheduler does is not in it: the same seed makes the same kind of trouble, not the very same one.
"""

from __future__ import annotations

import os
import random
import select
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from faults.book import Book
from faults.scene import Client
from faults.traffic import (
    DONE,
    LARGE,
    MAX_DELAY_MS,
    NEWS,
    QUEUES,
    WORK,
    Consumer,
    LightProducer,
    Party,
    Producer,
    Repeater,
    Trader,
    subscribe_to,
)
from support.deadline import stretched

from forkbroker.testing.broker import PATIENCE_S, RunningBroker

OPTIONS = (
    "--durable-expiry",
    "1d",
    "--max-deliveries",
    "0",
    "--policy",
    "/queue/# poison-after=0",
    "--policy",
    "/dsub/# poison-after=0",
)
"""Killed clients are no fault of a message here."""
SHALLOW = ("--queue-memory", "1 MiB")
"""The store has a part of the messages alone."""
EXPECTED = (
    "the broker is shutting down",
    # two kills of the store, one soon after the other
    "refused: persistent messages cannot be stored now: the store process exited",
)
"""What an ERROR may begin with."""
_TURN_S = 0.02
_MARKER = "marker"
_AHEAD = 2000


class Storm:
    """One episode. Use it in a `with` block, which ends its broker and its clients."""

    def __init__(
        self,
        directory: Path,
        seed: int,
        *,
        is_deep: bool | None = None,
        env: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
    ) -> None:
        """`directory` is the store's; `env` is the first broker's. `is_deep`: memory has no room for all messages;
        the seed decides if it isn't told.

        `options` are given to every broker, behind those that the seed chooses.
        """
        self.seed = seed
        self.chance = random.Random(seed)
        self.book = Book()
        self.most_ahead = _AHEAD
        """Messages that producers may be ahead of consumers; 0: consumers wait for each."""
        self.harms: Counter[str] = Counter()
        self.faults: list[str] = []
        """What was wrong, apart from the book."""
        self.refusals: list[str] = []
        """ERRORs that were no fault: a kind of storm may expect them."""
        self._directory = directory
        self._env = env or {}
        self._options = OPTIONS + self.chance.choice([(), SHALLOW, ("--offer-candidates", "1")]) + tuple(options)
        self.producers: list[Producer] = [
            Producer(self.book, self.chance, "plain"),
            Repeater(self.book, self.chance, "repeater", (WORK, NEWS)),
            Trader(self.book, self.chance, "trader", (WORK, NEWS), window=5),
            LightProducer(self.book, self.chance, "light", window=10),
        ]
        self.consumers: list[Consumer] = [
            Consumer(self.book, self.chance, "c0", prefetch=1, is_competing=True),
            Consumer(self.book, self.chance, "c1", prefetch=10, makes=0.3, is_competing=True),
            Consumer(self.book, self.chance, "c2", prefetch=50, makes=0.1, is_competing=True),
            Consumer(self.book, self.chance, "done", DONE),
            Consumer(self.book, self.chance, "news", NEWS),
        ]
        if self.chance.random() < 0.3 if is_deep is None else is_deep:
            self._deepen()
        self.broker: RunningBroker

    def _deepen(self) -> None:
        """Let there be more than memory has room for."""
        self._options += SHALLOW
        for producer in self.producers:
            producer.padding = LARGE
        for consumer in self.consumers:
            consumer.zeal = 0.5

    def __enter__(self) -> Self:
        self._start(self._env)
        # so that there is a durable subscription before anybody sends
        self.consumers[-1].connect(self.broker.port)
        return self

    def __exit__(self, *_: object) -> None:
        for party in self._parties():
            party.lose()
        self.broker.__exit__(None, None, None)

    def _parties(self) -> Sequence[Party]:
        return [*self.producers, *self.consumers]

    # -- load

    def rage(self, rounds: int, round_s: float = 0.3) -> None:
        """So many rounds of load and harm."""
        for _ in range(rounds):
            self.load(round_s * self.chance.uniform(0.3, 1.7))
            self.harm()

    def load(self, seconds: float) -> None:
        """Let everybody do what they do for so long."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._turn()

    def load_until(self, condition: Callable[[], object], what: str, seconds: float = 3 * PATIENCE_S) -> None:
        """The same, until something has come true; fail when it doesn't in time."""
        give_up = time.monotonic() + stretched(seconds)
        while not condition():
            assert time.monotonic() < give_up, f"seed {self.seed}: waited in vain: {what}; {self._describe()}"
            self._turn()

    def _turn(self) -> None:
        parties = self._parties()
        select.select([party.client for party in parties if party.client is not None], [], [], _TURN_S)
        for party in parties:
            party.read()
            if party.client is None:
                with suppress(ConnectionError):
                    party.connect(self.broker.port)
        is_behind = self.book.ahead > self.most_ahead
        for party in self.consumers if is_behind else parties:
            party.act()

    # -- harm

    def harm(self) -> None:
        """One of those below."""
        harms = {
            self.kill_store: 25,
            self.kill_some_children: 25,
            self.kill_parent: 15,
            self.kill_everything: 15,
            self.kill_store_and_children: 10,
            self.kill_store_and_parent: 5,
            self.restart: 5,
        }
        (harm,) = self.chance.choices(list(harms), list(harms.values()))
        self.harms[harm.__name__] += 1
        harm()

    def kill_store(self) -> None:
        """The store's process; a new one goes on."""
        self._kill(self.broker.store_pid)

    def kill_some_children(self) -> None:
        """Processes of clients, one after the other."""
        children = dict(self.broker.children())
        for party in self.chance.sample(self._parties(), self.chance.randint(1, 3)):
            if party.client is not None and not party.client.has_ended:
                name = f"client {party.client.address} "
                self._kill(next((pid for pid, title in children.items() if name in title), 0))
                # before anybody else gets what it held
                party.read_to_end()

    def kill_store_and_children(self) -> None:
        """At nearly the same time."""
        self.kill_store()
        self.kill_some_children()

    def kill_parent(self) -> None:
        """All others end by themselves then; a new broker is started at once."""
        self.broker.kill()
        self.start_anew()

    def kill_store_and_parent(self) -> None:
        """The store first."""
        self.kill_store()
        self.kill_parent()

    def kill_everything(self) -> None:
        """All processes at once."""
        os.killpg(self.broker.pid, signal.SIGKILL)
        self.start_anew()

    def restart(self) -> None:
        """In good order, with SIGTERM."""
        self.broker.kill(signal.SIGTERM)
        status = self._end_life()
        if status != 0:
            self.faults.append(f"SIGTERM ended the broker with {status}; {self._describe_log()}")
        self._go_on()

    def start_anew(self) -> None:
        """A new broker on what the one that is dying has left."""
        self._end_life()
        self._go_on()

    def _end_life(self) -> int:
        for party in self._parties():
            party.read_to_end()
        return self.broker.wait()

    def _go_on(self) -> None:
        old = self.broker
        self.book.begin_life()
        try:
            self._start({})
        finally:
            self._look_at(old)
            old.__exit__(None, None, None)

    def _start(self, env: Mapping[str, str]) -> None:
        broker = RunningBroker(*self._options, store_directory=self._directory, env=env)
        # a broker that doesn't start has cleaned up
        broker.__enter__()
        self.broker = broker

    def _kill(self, pid: int) -> None:
        if pid:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    # -- the end

    def finish(self) -> None:
        """Let producers hear all receipts; then take what is left; then kill all, and see that nothing comes back."""
        for producer in self.producers:
            producer.is_done = True
        self.load_until(lambda: not any(party.is_waiting for party in self._parties()), "all receipts", 90)
        for party in self._parties():
            party.lose()
        self.broker.wait_for_children(0)
        drain(self.broker, self.book, self.chance, "drain")
        self.faults += self.book.find_faults()
        os.killpg(self.broker.pid, signal.SIGKILL)
        self._end_life()
        self._go_on()
        before = len(self.book.taken)
        drain(self.broker, self.book, self.chance, "aftermath")
        for taken in self.book.taken[before:]:
            if not taken.text.startswith(_MARKER):
                self.faults.append(f"{taken.text} was there still, although all was drained")
        if (status := self.broker.stop()) != 0:
            self.faults.append(f"SIGTERM ended the broker with {status}; {self._describe_log()}")
        self._look_at(self.broker)

    def _look_at(self, broker: RunningBroker) -> None:
        """What a broker has logged that it should not have."""
        self.faults += [f"logged: {line}" for line in broker.log if "Traceback" in line or "contract" in line]
        for party in self._parties():
            unexpected = [text for text in party.errors if not text.startswith(EXPECTED)]
            self.faults += [f"{party.login} got an ERROR: {text}" for text in unexpected]
            party.errors.clear()

    def count_in_log(self, text: str) -> int:
        """Lines of the present broker that have this."""
        return sum(text in line for line in self.broker.log)

    def _describe(self) -> str:
        waiting = ", ".join(party.login for party in self._parties() if party.is_waiting)
        return f"{waiting or 'nobody'} waits; {self._describe_log()}"

    def _describe_log(self) -> str:
        return "the log ends in:\n" + "\n".join(self.broker.log[-15:])

    def describe(self) -> str:
        """What happened, in figures."""
        again = sum(taken.is_redelivered for taken in self.book.taken)
        harms = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in sorted(self.harms.items()))
        return (
            f"seed {self.seed}: {len(self.book.sent):,} messages sent, {len(self.book.taken):,} delivered, "
            f"{again:,} of them again, {len(self.book.transactions):,} transactions; {harms}"
        )


def drain(broker: RunningBroker, book: Book, chance: random.Random, name: str) -> None:
    """Acknowledge all that there is in a broker, up to markers behind everything else; what came is in the book."""
    with Client(broker.port) as client:
        client.login(login=name)
        markers = [f"{_MARKER}-{name}{place}" for place in range(len(QUEUES))]
        for destination in QUEUES:
            subscribe_to(client, destination, prefetch=100)
        for destination, marker in zip(QUEUES, markers, strict=True):
            book.send(marker, marker).is_confirmed = True
            # only queues have delays
            delay = {"x_delay": MAX_DELAY_MS + 1} if destination == WORK else {}
            client.publish(destination, marker, persistent="true", **delay)
        party = Consumer(book, chance, name, nacks=0.0)
        party.client = client
        give_up = time.monotonic() + stretched(3 * PATIENCE_S)
        while party.is_waiting or not all(book.deliveries(marker) for marker in markers):
            ending = "\n".join(broker.log[-15:])
            assert time.monotonic() < give_up, f"no end of the {name}; the log ends in:\n{ending}"
            select.select([client], [], [], _TURN_S)
            party.read()
            party.act()
