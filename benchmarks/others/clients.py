"""What the generator asks of a protocol: octets to send, and what to look for in the answers.

A client has no socket. What a protocol does not have, its client lacks, and the row is left out.
"""

from typing import NamedTuple, Protocol, runtime_checkable

AT_HAND = 100
"""Messages that a worker can have without having acknowledged them."""


class Exchange(NamedTuple):
    """Octets to send, and a regular expression for the answer that ends the exchange; empty: nothing is awaited."""

    said: bytes
    answer: bytes


NOTHING = Exchange(b"", b"")


class Settled(NamedTuple):
    """What a worker makes of what it has read: whole messages, the octets to forget, and the octets to send."""

    messages: int
    used: int
    reply: bytes


@runtime_checkable
class Client(Protocol):
    """A connection that the server has accepted. `login` is said first."""

    login: Exchange


@runtime_checkable
class Topics(Client, Protocol):
    """Messages to all subscribers. `end` is what follows a body in the messages to a subscriber."""

    end: bytes

    def subscribe(self, topic: bytes) -> Exchange:
        """Until the server has the subscription."""

    def publish(self, topic: bytes, body: bytes) -> bytes:
        """A message."""


@runtime_checkable
class Work(Client, Protocol):
    """Messages that one worker acknowledges, one by one. The worker is there before the producer."""

    end: bytes

    def consume(self, queue: bytes) -> Exchange:
        """Until the server knows the worker."""

    def ask(self, queue: bytes) -> bytes:
        """What a worker then says, if it has to ask for messages."""

    def settle(self, queue: bytes, read: bytes) -> Settled:
        """Acknowledge all the whole messages in what was read; ask for more, if it has to."""

    def produce(self, queue: bytes) -> Exchange:
        """What a producer says first."""

    def put(self, queue: bytes, body: bytes) -> bytes:
        """A message."""


@runtime_checkable
class Storage(Client, Protocol):
    """Messages that are confirmed one by one.

    A confirmation has the octet `confirmation` once; `refusal` is a regular expression for all other answers.
    """

    confirmation: bytes
    refusal: bytes

    def keep(self, queue: bytes) -> Exchange:
        """What a producer says first."""

    def store(self, queue: bytes, body: bytes) -> bytes:
        """A message to be confirmed when it is stored."""
