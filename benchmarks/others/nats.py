"""NATS: core for topics, JetStream for work and storage."""

import json
import re

from others.clients import AT_HAND, NOTHING, Exchange, Settled

_API = b"$JS.API."
_INBOX = b"answers.1"
_MESSAGE = re.compile(rb"MSG \S+ 1 (\S+) \d+\r\n[^\r]*\r\n")
_CREATED = rb'"created":'


class Nats:
    """See `others.clients`."""

    login = Exchange(b'CONNECT {"verbose":false,"pedantic":false}\r\nPING\r\n', rb"PONG\r\n")
    end = b"\r\n"
    # of the JSON that an acknowledgement is
    confirmation = b"}"
    refusal = rb"-ERR|error"

    def subscribe(self, topic: bytes) -> Exchange:
        """PONG comes after the server has done what was said before PING."""
        return Exchange(b"SUB %b 1\r\nPING\r\n" % topic, rb"PONG\r\n")

    def publish(self, topic: bytes, body: bytes) -> bytes:
        """A PUB."""
        return b"PUB %b %d\r\n%b\r\n" % (topic, len(body), body)

    def consume(self, queue: bytes) -> Exchange:
        """A stream in memory from which goes what is acknowledged, and a consumer to which it is pushed."""
        name, delivery = queue.decode(), queue + b".out"
        consumer = {
            "stream_name": name,
            "config": {
                "durable_name": "worker",
                "deliver_subject": delivery.decode(),
                "ack_policy": "explicit",
                "max_ack_pending": AT_HAND,
            },
        }
        said = b"SUB %b 1\r\n" % delivery + _create_stream(queue, "memory", "workqueue")
        said += _request(b"CONSUMER.DURABLE.CREATE.%b.worker" % queue, consumer)
        return Exchange(said, rb"(?s)%b.*%b.*\}\r\n" % (_CREATED, _CREATED))

    def ask(self, queue: bytes) -> bytes:
        """The server pushes."""
        return b""

    def settle(self, queue: bytes, read: bytes) -> Settled:
        """An acknowledgement for each, to the subject that it names."""
        found = list(_MESSAGE.finditer(read))
        used = found[-1].end() if found else 0
        return Settled(len(found), used, b"".join([b"PUB %b 4\r\n+ACK\r\n" % one[1] for one in found]))

    def produce(self, queue: bytes) -> Exchange:
        """The worker has made the stream."""
        return NOTHING

    put = publish

    def keep(self, queue: bytes) -> Exchange:
        """A stream in a file. Answers to all that is published come to the subscription that this makes."""
        return Exchange(_create_stream(queue, "file", "limits"), rb"(?s)%b.*\}\r\n" % _CREATED)

    def store(self, queue: bytes, body: bytes) -> bytes:
        """A PUB that is answered by the stream."""
        return b"PUB %b %b %d\r\n%b\r\n" % (queue, _INBOX, len(body), body)


def _create_stream(queue: bytes, storage: str, retention: str) -> bytes:
    name = queue.decode()
    stream = {"name": name, "subjects": [name], "storage": storage, "retention": retention}
    return b"SUB %b 2\r\n" % _INBOX + _request(b"STREAM.CREATE." + queue, stream)


def _request(what: bytes, wishes: object) -> bytes:
    text = json.dumps(wishes).encode()
    return b"PUB %b%b %b %d\r\n%b\r\n" % (_API, what, _INBOX, len(text), text)
