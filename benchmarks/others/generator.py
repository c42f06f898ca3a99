"""The traffic, the same for all servers: one process that writes blocks made before, and counts what comes.

Nothing is looked at that need not be. Messages to subscribers are counted by their octets: none is shorter than the
first one, which is sent alone, so octets that are missing are a loss. (Those of STOMP can be longer by the digits of
their ids; a loss of less than that is not seen here, but by `bench.py`, which checks each message.) The last message
has a body of its own, by which the end is seen. Work and confirmations are counted one by one.

A producer waits when too much is under way: no server is driven to drop what a slow reader leaves.
"""

import re
import select
import socket
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from processes import MeasurementError

from others.clients import Client, Exchange, Storage, Work

DEADLINE_S = 10.0
"""A server that says nothing for so long has failed."""

READ_OCTETS = 256 * 1024
_buffer = memoryview(bytearray(READ_OCTETS))

END = b"~end~"
TAIL_OCTETS = 64

CONNECTIONS_AT_MOST = 5_000
"""The port of a connection stays taken for a while."""


def body(size: int) -> bytes:
    """What all messages but the last one are."""
    return b"x" * size


def last_body(size: int) -> bytes:
    """As long, but it ends otherwise."""
    return body(size - len(END)) + END


class Connection:
    """A connection to a server, logged in."""

    def __init__(self, address: tuple[str, int], client: Client) -> None:
        self.socket = socket.create_connection(address, DEADLINE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self.exchange(client.login)
        except (MeasurementError, OSError):
            self.close()
            raise

    def receive(self) -> memoryview:
        """What has come, up to the next call of any connection.

        Raises:
            MeasurementError: the server has closed the connection.
        """
        octets = self.socket.recv_into(_buffer)
        if not octets:
            raise MeasurementError("the server has closed a connection")
        return _buffer[:octets]

    def receive_until(self, text: bytes) -> bytes:
        """All up to the text, and what has come with it."""
        octets = bytes(self.receive())
        while text not in octets:
            octets += self.receive()
        return octets

    def exchange(self, exchange: Exchange) -> None:
        """Say it, and read up to the answer."""
        if exchange.said:
            self.socket.sendall(exchange.said)
        answer, octets = re.compile(exchange.answer), b""
        while not answer.search(octets):
            try:
                octets += self.receive()
            except (OSError, MeasurementError) as error:
                raise MeasurementError(f"{error}; no answer but {octets!r} to {exchange.said!r}") from error

    def close(self) -> None:
        """At once."""
        self.socket.close()


@dataclass
class Subscriber:
    """Counts messages by their octets."""

    connection: Connection
    message_octets: int
    octets: int = 0
    tail: bytes = b""

    @property
    def messages(self) -> int:
        """How many have come."""
        return self.octets // self.message_octets

    @property
    def has_ended(self) -> bool:
        """Whether the last message has come."""
        return END in self.tail

    def read(self) -> None:
        """Count what has come."""
        octets = self.connection.receive()
        self.octets += len(octets)
        self.tail = (self.tail + octets[-TAIL_OCTETS:])[-TAIL_OCTETS:]


@dataclass
class Worker:
    """Acknowledges each message by itself."""

    connection: Connection
    client: Work
    queue: bytes
    messages: int = 0
    has_ended: bool = False
    _rest: bytes = b""

    def read(self) -> None:
        """Acknowledge what has come."""
        octets = self._rest + self.connection.receive()
        settled = self.client.settle(self.queue, octets)
        self.messages += settled.messages
        self.has_ended = octets.find(END, 0, settled.used) >= 0
        self._rest = octets[settled.used :]
        if settled.reply:
            self.connection.socket.sendall(settled.reply)


@dataclass
class Producer:
    """Writes one block after the other while the time lasts, then the last message."""

    connection: Connection
    block: bytes
    block_messages: int
    last: bytes
    most_under_way: int
    """Messages that have not arrived everywhere."""

    messages: int = 0
    has_ended: bool = False
    _rest: memoryview = field(default_factory=lambda: memoryview(b""))

    def begin_block(self, arrived: int) -> None:
        """Take the next block, if the one before is written and not too much is under way."""
        if not self._rest and self.messages + self.block_messages - arrived <= self.most_under_way:
            self._rest = memoryview(self.block)
            self.messages += self.block_messages

    def begin_last(self) -> None:
        """Take the last message, if all before it is written."""
        if not self._rest and not self.has_ended:
            self._rest = memoryview(self.last)
            self.messages += 1
            self.has_ended = True

    @property
    def wants(self) -> int:
        """What to poll for. Some servers answer each message."""
        return select.POLLIN | (select.POLLOUT if self._rest else 0)

    def turn(self, event: int) -> None:
        """Write as much as the socket takes; forget the answers."""
        if event & ~select.POLLOUT:
            self.connection.receive()
        if event & select.POLLOUT:
            self._rest = self._rest[self.connection.socket.send(self._rest) :]


def flow(producer: Producer, readers: Sequence[Subscriber | Worker], seconds: float) -> float:
    """Messages a second that the readers have got together; the clock stops when the last one has come everywhere.

    Raises:
        MeasurementError: something is lost, or comes to a stop.
    """
    poller = select.poll()
    by_descriptor = {reader.connection.socket.fileno(): reader for reader in readers}
    for descriptor in by_descriptor:
        poller.register(descriptor, select.POLLIN)
    began = time.perf_counter()
    while not all(reader.has_ended for reader in readers):
        arrived = min(reader.messages for reader in readers)
        if time.perf_counter() - began < seconds:
            producer.begin_block(arrived)
        else:
            producer.begin_last()
        poller.register(producer.connection.socket.fileno(), producer.wants)
        events = poller.poll(DEADLINE_S * 1000)
        if not events:
            raise MeasurementError(f"came to a stop: {arrived:,} of {producer.messages:,} messages have arrived")
        for descriptor, event in events:
            if descriptor in by_descriptor:
                by_descriptor[descriptor].read()
            else:
                producer.turn(event)
    elapsed = time.perf_counter() - began
    arrived = min(reader.messages for reader in readers)
    if arrived < producer.messages:
        raise MeasurementError(f"lost: {arrived:,} of {producer.messages:,} messages have arrived")
    return producer.messages * len(readers) / elapsed


def confirm(connection: Connection, client: Storage, message: bytes, window: int, seconds: float) -> float:
    """Messages a second that are confirmed, with so many unconfirmed ones at most.

    Raises:
        MeasurementError: one is refused, or not confirmed.
    """
    refusal = re.compile(client.refusal)
    confirmed, under_way = 0, window
    began = time.perf_counter()
    connection.socket.sendall(message * window)
    while under_way:
        octets = bytes(connection.receive())
        if refusal.search(octets):
            raise MeasurementError(f"refused: {octets[:200]!r}")
        number = octets.count(client.confirmation)
        confirmed += number
        under_way -= number
        if number and time.perf_counter() - began < seconds:
            connection.socket.sendall(message * number)
            under_way += number
    return confirmed / (time.perf_counter() - began)


@dataclass
class Side:
    """One who sends a message and has an answer: what to send, and how to know what comes."""

    sending: Connection
    receiving: Connection
    message: bytes
    expected: bytes

    def send(self) -> None:
        """To the other side."""
        self.sending.socket.sendall(self.message)

    def receive(self) -> None:
        """From the other side."""
        self.receiving.receive_until(self.expected)


def play(near: Side, far: Side, seconds: float) -> float:
    """The median of the times there and back, in microseconds."""
    times: list[float] = []
    began = time.perf_counter()
    while (start := time.perf_counter()) - began < seconds or not times:
        near.send()
        far.receive()
        far.send()
        near.receive()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e6


def reconnect(address: tuple[str, int], client: Client, seconds: float) -> float:
    """Connections a second that log in and are closed, one after the other."""
    number = 0
    began = time.perf_counter()
    while time.perf_counter() - began < seconds and number < CONNECTIONS_AT_MOST:
        Connection(address, client).close()
        number += 1
    return number / (time.perf_counter() - began)
