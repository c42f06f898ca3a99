"""Many consumers of one queue, driven by one loop that acknowledges, rejects and kills at random, and writes it down.

Randomness comes from a seed that the test names, so what a test does can be done again, as far as the system's
scheduling permits.
"""

from __future__ import annotations

import random
import select
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field

from faults.scene import Client, kill_child_of
from support.deadline import stretched
from support.ledger import Delivery, Ledger, confirm
from support.rawclient import Frame

from forkbroker.testing.broker import PATIENCE_S, RunningBroker

MARKER = "the end"
"""What is sent last: a consumer that gets it first has an empty queue before it."""


def log_in(broker: RunningBroker, login: str) -> Client:
    """A client that has connected under this name."""
    client = Client(broker.port)
    client.login(login=login)
    return client


@dataclass(slots=True)
class Consumer:
    """A consumer that comes again after its connection is lost."""

    broker: RunningBroker
    ledger: Ledger
    queue: str
    login: str
    ack: str
    prefetch: int
    client: Client | None = None
    connections: int = 0
    held: list[tuple[str, Delivery]] = field(default_factory=list)
    """`ack` header and delivery of what is to be acknowledged, in the order of delivery."""
    waiting: dict[str, list[Delivery]] = field(default_factory=dict)
    """By receipt: what will be settled when it comes."""
    receipts: int = 0
    is_silent: bool = False
    """It never answers."""

    def connect(self) -> None:
        """Connect, and subscribe."""
        self.connections += 1
        self.client = log_in(self.broker, self.login)
        self.client.subscribe(self.queue, ack=self.ack, prefetch_count=self.prefetch)

    def take_frames(self) -> None:
        """Write down all that has been read; the end of the connection is noticed."""
        client = self.client
        if client is None:
            return
        for got in client.take():
            self._take(got)
        if client.has_ended:
            client.close()
            self.client = None
            self.held.clear()
            self.waiting.clear()

    def _take(self, got: Frame) -> None:
        if got.command == "RECEIPT":
            confirm(self.waiting.pop(got["receipt-id"], ()))
            return
        assert got.command == "MESSAGE", got
        delivery = self.ledger.deliver(got.body.decode(), f"{self.login}/{self.connections}", dict(got.headers))
        if self.ack != "auto":
            self.held.append((got["ack"], delivery))

    def acknowledge(self, place: int, *, in_transaction: bool = False) -> None:
        """ACK one of what is held, and with it what the mode takes along; a RECEIPT is asked for."""
        first = 0 if self.ack == "client" else place
        ack, taken = self.held[place][0], [delivery for _, delivery in self.held[first : place + 1]]
        del self.held[first : place + 1]
        self.receipts += 1
        self.waiting[str(self.receipts)] = taken
        for delivery in taken:
            delivery.is_answered = True
        if in_transaction:
            name = f"t{self.receipts}"
            self._say("BEGIN", transaction=name)
            self._say("ACK", id=ack, transaction=name)
            self._say("COMMIT", transaction=name, receipt=self.receipts)
        else:
            self._say("ACK", id=ack, receipt=self.receipts)

    def hesitate(self, place: int) -> None:
        """ACK one of what is held, and take it back: it is still to be acknowledged."""
        self._say("BEGIN", transaction="doubt")
        self._say("ACK", id=self.held[place][0], transaction="doubt")
        self._say("ABORT", transaction="doubt")

    def reject(self, place: int) -> None:
        """NACK one of what is held."""
        self._say("NACK", id=self.held.pop(place)[0])

    def _say(self, command: str, **headers: object) -> None:
        assert self.client is not None
        with suppress(ConnectionError):  # noticed when reading
            self.client.send(command, **headers)

    def drop(self, how: Callable[[Client], None]) -> None:
        """Lose the connection in the given way."""
        if self.client is not None:
            how(self.client)
            self.take_frames()


class Crowd:
    """Consumers and a producer of one queue, and their ledger."""

    def __init__(self, broker: RunningBroker, queue: str, modes: Iterable[tuple[str, int]], seed: int) -> None:
        """`modes`: acknowledgement mode and prefetch of each consumer."""
        print(f"seed {seed}")  # shown when the test fails
        self.broker = broker
        self.queue = queue
        self.ledger = Ledger()
        self.chance = random.Random(seed)
        self.consumers = [
            Consumer(broker, self.ledger, queue, f"c{number}", ack, prefetch)
            for number, (ack, prefetch) in enumerate(modes)
        ]
        self.producer = log_in(broker, "producer")
        self.losses = 0
        """Connections that were killed or closed by the test."""
        self.nacks = 0.0
        """The probability that a message is rejected instead of acknowledged, where that costs no other."""
        self.doubts = 0.0
        """The probability that it is acknowledged in a transaction that is aborted, before that."""
        self.transactions = 0.0
        """The probability that it is acknowledged in a transaction."""
        self.reconnects = True
        for consumer in self.consumers:
            consumer.connect()

    def produce(self, count: int) -> None:
        """Send so many messages, and wait until the broker has them."""
        for _ in range(count - 1):
            self.producer.send("SEND", body=self._next(), destination=self.queue)
        self.producer.publish(self.queue, self._next())

    def _next(self) -> bytes:
        text = f"m{len(self.ledger.sent)}"
        self.ledger.send(text)
        return text.encode()

    def turn(self, seconds: float = 0.05) -> None:
        """Read what is there, and answer some of it."""
        clients = [consumer.client for consumer in self.consumers if consumer.client is not None]
        select.select(clients, [], [], seconds)
        for consumer in self.consumers:
            consumer.take_frames()
            if consumer.client is None and self.reconnects:
                consumer.connect()
            self._answer(consumer)

    def _answer(self, consumer: Consumer) -> None:
        """Acknowledge something, so that all is acknowledged at last, and rarely in the order of delivery."""
        while consumer.client is not None and not consumer.is_silent and consumer.held and self.chance.random() < 0.8:
            place = self.chance.randrange(len(consumer.held))
            if consumer.ack == "client-individual" and self.chance.random() < self.nacks:
                consumer.reject(place)
                continue
            if self.chance.random() < self.doubts:
                consumer.hesitate(place)
            consumer.acknowledge(place, in_transaction=self.chance.random() < self.transactions)

    def harm(self) -> None:
        """Kill a child, or close or reset a connection, at random."""
        victim = self.chance.choice([consumer for consumer in self.consumers if consumer.client is not None])
        how = self.chance.choice([self.kill, Client.close, Client.reset])
        self.losses += 1
        victim.drop(how)

    def kill(self, client: Client) -> None:
        """SIGKILL the child; what it had written is still read."""
        kill_child_of(self.broker, client)

    def turn_until(self, condition: Callable[[], object], what: str, seconds: float = 3 * PATIENCE_S) -> None:
        """Turn until the condition holds; fail when it doesn't in time."""
        give_up = time.monotonic() + stretched(seconds)
        while not condition():
            assert time.monotonic() < give_up, f"waited in vain: {what}; unanswered {self.ledger.unanswered[:10]}"
            self.turn()

    @property
    def is_done(self) -> bool:
        """Whether all was acknowledged, and all receipts came."""
        return not self.ledger.unanswered and not any(consumer.waiting for consumer in self.consumers)

    def finish(self) -> None:
        """Settle everything, let all consumers go, and see that nothing is left in the queue."""
        self.turn_until(lambda: self.is_done, "all is settled")
        for consumer in self.consumers:
            consumer.drop(Client.close)
        self.broker.wait_for_children(1)
        self.reconnects = False
        last = Consumer(self.broker, self.ledger, self.queue, "last", "client-individual", 10)
        self.consumers = [last]
        last.connect()
        self.producer.publish(self.queue, MARKER)
        self.ledger.send(MARKER)
        self.nacks = 0.0
        self.turn_until(lambda: MARKER in self.ledger.deliveries and self.is_done, "the queue's end")
        last.drop(Client.close)
        self.producer.close()

    def close(self) -> None:
        """Close all connections, when the test has failed."""
        for consumer in self.consumers:
            consumer.drop(Client.close)
        self.producer.close()
