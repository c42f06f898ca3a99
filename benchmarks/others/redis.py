"""Redis: RESP2, pub/sub for topics, a stream with a group of consumers for work and storage."""

import re

from others.clients import AT_HAND, NOTHING, Exchange, Settled

_BATCH = re.compile(rb"\*1\r\n\*2\r\n\$\d+\r\n[^\r]+\r\n\*(\d+)\r\n")
_ENTRY = re.compile(rb"\*2\r\n\$\d+\r\n(\d+-\d+)\r\n\*2\r\n\$1\r\nb\r\n\$\d+\r\n[^\r]*\r\n")


def command(*words: bytes) -> bytes:
    """A command, in RESP."""
    return b"*%d\r\n" % len(words) + b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in words])


class Redis:
    """See `others.clients`."""

    login = Exchange(command(b"PING"), rb"\+PONG\r\n")
    end = b"\r\n"
    # of "$15\r\n1700000000000-0\r\n", the id of the entry
    confirmation = b"$"
    refusal = rb"-[A-Z]+ "

    def subscribe(self, topic: bytes) -> Exchange:
        """SUBSCRIBE is answered."""
        return Exchange(command(b"SUBSCRIBE", topic), rb"(?s)subscribe\r\n.*:1\r\n")

    def publish(self, topic: bytes, body: bytes) -> bytes:
        """A PUBLISH."""
        return command(b"PUBLISH", topic, body)

    def consume(self, queue: bytes) -> Exchange:
        """A stream, and its group."""
        return Exchange(command(b"XGROUP", b"CREATE", queue, b"workers", b"$", b"MKSTREAM"), rb"\+OK\r\n")

    def ask(self, queue: bytes) -> bytes:
        """As many as there are, without a limit of time."""
        group = (b"XREADGROUP", b"GROUP", b"workers", b"worker")
        return command(*group, b"COUNT", b"%d" % AT_HAND, b"BLOCK", b"0", b"STREAMS", queue, b">")

    def settle(self, queue: bytes, read: bytes) -> Settled:
        """An XACK for each, then one more question. What XACK answers is in front of the next batch."""
        batch = _BATCH.search(read)
        if batch is None:
            return Settled(0, 0, b"")
        found = _ENTRY.findall(read, batch.end())
        if len(found) < int(batch[1]):
            return Settled(0, 0, b"")
        answers = b"".join([command(b"XACK", queue, b"workers", one) for one in found])
        return Settled(len(found), len(read), answers + self.ask(queue))

    def produce(self, queue: bytes) -> Exchange:
        """The worker has made the stream."""
        return NOTHING

    def put(self, queue: bytes, body: bytes) -> bytes:
        """An XADD."""
        return command(b"XADD", queue, b"*", b"b", body)

    keep = produce
    store = put
