"""STOMP 1.2, as forkbroker and RabbitMQ speak it."""

import re

from others.clients import AT_HAND, NOTHING, Exchange, Settled

_ACK_ID = re.compile(rb"\nack:([^\n]+)\n")


class Stomp:
    """See `others.clients`. One subscription on a connection."""

    login = Exchange(
        b"CONNECT\naccept-version:1.2\nhost:/\nlogin:guest\npasscode:guest\nheart-beat:0,0\n\n\0",
        rb"^CONNECTED\n[^\0]*\0\n",
    )
    end = b"\0\n"
    confirmation = b"\0"
    refusal = rb"ERROR\n"

    def subscribe(self, topic: bytes) -> Exchange:
        """A RECEIPT tells that the broker has it."""
        return Exchange(b"SUBSCRIBE\nid:1\ndestination:/topic/%b\nreceipt:r\n\n\0" % topic, rb"^RECEIPT\n[^\0]*\0\n")

    def publish(self, topic: bytes, body: bytes) -> bytes:
        """A SEND."""
        return _send(b"/topic/%b" % topic, body)

    def consume(self, queue: bytes) -> Exchange:
        """Each message is acknowledged by itself."""
        said = b"SUBSCRIBE\nid:1\ndestination:/queue/%b\nack:client-individual\nprefetch-count:%d\nreceipt:r\n\n\0"
        return Exchange(said % (queue, AT_HAND), rb"^RECEIPT\n[^\0]*\0\n")

    def ask(self, queue: bytes) -> bytes:
        """The broker sends without being asked."""
        return b""

    def settle(self, queue: bytes, read: bytes) -> Settled:
        """An ACK for each."""
        whole = read.rfind(b"\0") + 1
        found = _ACK_ID.findall(read, 0, whole)
        return Settled(len(found), whole, b"".join([b"ACK\nid:%b\n\n\0" % one for one in found]))

    def produce(self, queue: bytes) -> Exchange:
        """The first SEND makes the queue."""
        return NOTHING

    def put(self, queue: bytes, body: bytes) -> bytes:
        """A SEND."""
        return _send(b"/queue/%b" % queue, body)

    keep = produce

    def store(self, queue: bytes, body: bytes) -> bytes:
        """A persistent SEND with a receipt."""
        return _send(b"/queue/%b\npersistent:true\nreceipt:r" % queue, body)


def _send(destination: bytes, body: bytes) -> bytes:
    return b"SEND\ndestination:%b\ncontent-length:%d\n\n%b\0" % (destination, len(body), body)
