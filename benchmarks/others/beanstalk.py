"""beanstalkd: tubes of jobs. It has no topics."""

import re

from others.clients import AT_HAND, Exchange, Settled

_RESERVED = re.compile(rb"RESERVED (\d+) \d+\r\n")


class Beanstalk:
    """See `others.clients`. A job that is not deleted after 60 s goes back."""

    login = Exchange(b"list-tube-used\r\n", rb"USING default\r\n")
    end = b"\r\n"
    # of "INSERTED 1\r\n"
    confirmation = b"\n"
    refusal = rb"[A-Z_]{4,}\r\n|BURIED"

    def consume(self, queue: bytes) -> Exchange:
        """A worker sees the tubes that it watches."""
        return Exchange(b"watch %b\r\n" % queue, rb"WATCHING \d+\r\n")

    def ask(self, queue: bytes) -> bytes:
        """One `reserve` brings one job; the server works off what it was asked in advance."""
        return b"reserve\r\n" * AT_HAND

    def settle(self, queue: bytes, read: bytes) -> Settled:
        """Delete each, and ask for one more. A job counts when its first line is there."""
        found = _RESERVED.findall(read)
        used = read.rfind(b"\n") + 1
        return Settled(len(found), used, b"".join([b"delete %b\r\nreserve\r\n" % one for one in found]))

    def produce(self, queue: bytes) -> Exchange:
        """A producer puts into the tube that it uses."""
        return Exchange(b"use %b\r\n" % queue, rb"USING \S+\r\n")

    def put(self, queue: bytes, body: bytes) -> bytes:
        """Without a delay, at the usual priority."""
        return b"put 1024 0 60 %d\r\n%b\r\n" % (len(body), body)

    keep = produce
    store = put
