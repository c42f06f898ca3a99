"""The process that answers HTTP requests for metrics, and for the broker's health.

It asks the parent over its channel, with the requests that clients have (`forkbroker.control`). Its main thread reads
the channel; a few others answer HTTP. Whatever happens here means nothing to the broker: the parent starts another one,
and keeps the socket that listens, so a scraper that comes meanwhile waits.
"""

from __future__ import annotations

import os
import select
import socket
from threading import Thread

from forkbroker.errors import EnvelopeError, Exit
from forkbroker.metrics.asking import Asking
from forkbroker.metrics.endpoints import Endpoints
from forkbroker.metrics.exposition import Exposition
from forkbroker.metrics.server import Server
from forkbroker.posix.titles import set_title
from forkbroker.wire.channel import Channel

MAX_ENVELOPE = 4_194_304
"""Octets of a part of an answer: 100 rows with the longest names do not have as many."""


def main(end: socket.socket, listeners: list[socket.socket], most_queues: int) -> int:
    """Answer until the parent is gone; the exit status. `most_queues`: as `Exposition`."""
    set_title("metrics")
    channel = Channel(end, max_envelope=max(MAX_ENVELOPE, 200 * 65_536))
    asking = Asking(channel)
    endpoints = Endpoints(asking, Exposition(most_queues))
    for listener in listeners:
        server = Server(listener, endpoints)
        Thread(target=server.serve_forever, daemon=True).start()
    poll = select.poll()
    poll.register(end, select.POLLIN)
    while not channel.closed:
        poll.poll()
        try:
            for envelope in channel.receive():
                asking.receive(envelope)
        except EnvelopeError:
            return Exit.SOFTWARE
    # threads that answer may wait for seconds: nobody waits for them
    os._exit(Exit.OK)
