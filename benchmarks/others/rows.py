"""The rows of the table, for each server that has the feature. Each run has its own connections and destination."""

import contextlib
import itertools
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import memory
from processes import Broker, MeasurementError
from scenarios import KIB, Unit

from others import generator
from others.clients import Client, Storage, Topics, Work
from others.generator import Connection, Producer, Side, Subscriber, Worker, body, last_body

BLOCK_OCTETS = 64 * KIB
TOPIC_OCTETS_UNDER_WAY = 4096 * KIB
"""Of bodies, for all subscribers together."""

WORK_BLOCK = 100
WORK_UNDER_WAY = 5_000

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Effort:
    """How long a run takes, and how many clients are idle."""

    seconds: float
    idle: int


class Site:
    """A running server, and the connections of one run to it."""

    def __init__(self, broker: Broker, client: Client) -> None:
        self.broker = broker
        self.client = client
        self.address = (broker.host, broker.port)
        self._open = contextlib.ExitStack()

    def connect(self) -> Connection:
        """One more connection."""
        return self._open.enter_context(contextlib.closing(self.make()))

    def make(self) -> Connection:
        """A connection, which the caller closes."""
        return Connection(self.address, self.client)

    def close(self) -> None:
        """All of them."""
        self._open.close()


def new_name() -> bytes:
    """A destination that no other run has; a word to all protocols."""
    return b"bench%d" % next(_numbers)


def subscribe(site: Site, client: Topics, topic: bytes) -> Connection:
    """A connection with a subscription."""
    connection = site.connect()
    connection.exchange(client.subscribe(topic))
    return connection


def measure_topic(size: int, fan: int, site: Site, client: Topics, effort: Effort) -> float:
    """One publisher to so many subscribers: deliveries a second."""
    topic = new_name()
    message = client.publish(topic, body(size))
    connections = [subscribe(site, client, topic) for _ in range(fan)]
    source = site.connect()
    source.socket.sendall(message)
    readers = [Subscriber(one, len(one.receive_until(body(size) + client.end))) for one in connections]
    number = BLOCK_OCTETS // size
    under_way = TOPIC_OCTETS_UNDER_WAY // size // fan
    last = client.publish(topic, last_body(size))
    return generator.flow(Producer(source, message * number, number, last, under_way), readers, effort.seconds)


def measure_work(site: Site, client: Work, effort: Effort) -> float:
    """One producer, one worker that acknowledges each message by itself: messages a second."""
    queue, size = new_name(), 100
    connection = site.connect()
    connection.exchange(client.consume(queue))
    connection.socket.sendall(client.ask(queue))
    source = site.connect()
    source.exchange(client.produce(queue))
    block, last = client.put(queue, body(size)) * WORK_BLOCK, client.put(queue, last_body(size))
    producer = Producer(source, block, WORK_BLOCK, last, WORK_UNDER_WAY)
    return generator.flow(producer, [Worker(connection, client, queue)], effort.seconds)


def measure_storage(window: int, site: Site, client: Storage, effort: Effort) -> float:
    """Into a queue without a consumer: confirmed messages a second."""
    queue = new_name()
    connection = site.connect()
    connection.exchange(client.keep(queue))
    return generator.confirm(connection, client, client.store(queue, body(KIB)), window, effort.seconds)


def measure_ping_pong(site: Site, client: Topics, effort: Effort) -> float:
    """There and back, each way through a topic of its own: the median in microseconds."""
    there, back = new_name(), new_name()
    content = body(100)

    def side(listens: bytes, speaks: bytes) -> Side:
        message = client.publish(speaks, content)
        return Side(site.connect(), subscribe(site, client, listens), message, content + client.end)

    return generator.play(side(back, there), side(there, back), effort.seconds)


def measure_connections(site: Site, client: Client, effort: Effort) -> float:
    """Log in and close, one after the other."""
    return generator.reconnect(site.address, client, effort.seconds)


def measure_idle(site: Site, client: Client, effort: Effort) -> float:
    """Return the server's memory for a connection that has logged in, in KiB."""
    before = memory.family_pss(site.broker.pid)
    for _ in range(effort.idle):
        site.connect()
    after = memory.family_pss(site.broker.pid)
    if before is None or after is None:
        raise MeasurementError("the server has ended")
    return (after - before) / effort.idle


@dataclass(frozen=True)
class Row:
    """A row: which part of a protocol it needs, and whether it is of a server that has been told to store."""

    name: str
    title: str
    unit: Unit
    needs: type
    measure: Callable[[Site, Any, Effort], float]
    stored: bool = False

    def run(self, broker: Broker, client: Client, effort: Effort) -> float:
        """Measure once.

        Raises:
            MeasurementError: the server has failed.
        """
        try:
            with contextlib.closing(Site(broker, client)) as site:
                return self.measure(site, client, effort)
        except OSError as error:
            raise MeasurementError(str(error)) from error


def _topic(size: int, fan: int) -> Row:
    title = f"topic 1→{fan}, {f'{size} B' if size < KIB else f'{size // KIB} KiB'}"
    unit = Unit.MESSAGES if fan == 1 else Unit.DELIVERIES
    return Row(f"topic-1-{fan}-{size}", title, unit, Topics, partial(measure_topic, size, fan))


def _storage(window: int) -> Row:
    title = f"confirmed as stored, 1 KiB, window {window}"
    return Row(f"stored-{window}", title, Unit.MESSAGES, Storage, partial(measure_storage, window), stored=True)


def _idle() -> list[Row]:
    """Where memory can be seen."""
    row = Row("idle", "memory of an idle connection, PSS", Unit.KIBIBYTES, Client, measure_idle)
    return [row] if memory.family_pss(os.getpid()) is not None else []


ROWS = [
    # first, while the server is new
    *_idle(),
    _topic(100, 1),
    _topic(KIB, 1),
    _topic(100, 10),
    Row("work", "work 1→1, 100 B, each acknowledged, 100 at hand", Unit.MESSAGES, Work, measure_work),
    _storage(1),
    _storage(100),
    Row("ping-pong", "ping-pong, 100 B, there and back", Unit.MICROSECONDS, Topics, measure_ping_pong),
    Row("connections", "connections one after the other", Unit.CONNECTIONS, Client, measure_connections),
]
