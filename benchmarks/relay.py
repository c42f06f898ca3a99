"""The machine's limit: two Python processes that only receive and send.

    producers -- TCP -- process 1 -- socketpair -- process 2 -- TCP -- consumers

The least that any broker with a process for each client must do, and nothing more: no frame is looked at. A line takes
the octets of one producer to `--fan` consumers; `--lines` of them stand side by side. With `--both-ways` each side also
sends back what its client says (ping-pong). Clients are told apart by the order in which they connect: producer i, then
consumers i*fan to i*fan + fan - 1.

One line on standard output, "listening on PORT PORT", names the ports for producers and for consumers. Ends when all
producers have closed.
"""

import argparse
import os
import select
import socket
import sys
from collections.abc import Sequence

BUFFER_OCTETS = 256 * 1024
SOCKETPAIR_OCTETS = 2 * 1024 * 1024


class Line:
    """What is read from one socket and sent to others, until its source ends."""

    def __init__(self, source: socket.socket, targets: Sequence[socket.socket]) -> None:
        self.source = source
        self.targets = targets
        self._buffer = memoryview(bytearray(BUFFER_OCTETS))

    def pass_on(self) -> bool:
        """Receive once and send it all. Returns False at the end of the stream, which is passed on as well."""
        count = self.source.recv_into(self._buffer)
        if count == 0:
            for target in self.targets:
                target.shutdown(socket.SHUT_WR)
            return False
        piece = self._buffer[:count]
        for target in self.targets:
            target.sendall(piece)
        return True


def serve(lines: Sequence[Line]) -> None:
    """Pass on until every source has ended. A single line needs no poll."""
    if len(lines) == 1:
        while lines[0].pass_on():
            pass
        return
    poller = select.poll()
    by_descriptor = {line.source.fileno(): line for line in lines}
    for descriptor in by_descriptor:
        poller.register(descriptor, select.POLLIN)
    while by_descriptor:
        for descriptor, _events in poller.poll():
            if not by_descriptor[descriptor].pass_on():
                poller.unregister(descriptor)
                del by_descriptor[descriptor]


def listen() -> socket.socket:
    """A listener on a free port of the loopback."""
    return socket.create_server(("127.0.0.1", 0), backlog=1024)


def accept(listener: socket.socket, number: int) -> list[socket.socket]:
    """The next clients, without Nagle's delay."""
    clients = [listener.accept()[0] for _ in range(number)]
    for client in clients:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.close()
    return clients


def open_pairs(number: int) -> list[tuple[socket.socket, socket.socket]]:
    """Socketpairs between the processes, with buffers as a broker would give them."""
    pairs = [socket.socketpair() for _ in range(number)]
    for end in (end for pair in pairs for end in pair):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKETPAIR_OCTETS)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKETPAIR_OCTETS)
    return pairs


def run_near(listener: socket.socket, ends: Sequence[socket.socket], both_ways: bool) -> None:
    """Process 1: each producer's octets go to its socketpair."""
    producers = accept(listener, len(ends))
    lines = [Line(producer, [end]) for producer, end in zip(producers, ends, strict=True)]
    if both_ways:
        lines += [Line(end, [producer]) for producer, end in zip(producers, ends, strict=True)]
    serve(lines)


def run_far(listener: socket.socket, ends: Sequence[socket.socket], fan: int, both_ways: bool) -> None:
    """Process 2: what comes from each socketpair goes to its consumers."""
    consumers = accept(listener, len(ends) * fan)
    lines = [Line(end, consumers[place * fan : place * fan + fan]) for place, end in enumerate(ends)]
    if both_ways:
        lines += [Line(consumer, [ends[place // fan]]) for place, consumer in enumerate(consumers)]
    serve(lines)


def run(lines: int, fan: int, both_ways: bool) -> None:
    """Listen, divide into two processes, and pass on to the end."""
    near, far = listen(), listen()
    pairs = open_pairs(lines)
    print(f"listening on {near.getsockname()[1]} {far.getsockname()[1]}", flush=True)
    child = os.fork()
    keeper = 1 if child == 0 else 0
    for pair in pairs:
        pair[1 - keeper].close()
    ends = [pair[keeper] for pair in pairs]
    try:
        if child == 0:
            near.close()
            run_far(far, ends, fan, both_ways)
        else:
            far.close()
            run_near(near, ends, both_ways)
    except OSError:
        # A client that leaves early ends the relay; the load generator says what it misses.
        pass
    if child == 0:
        os._exit(0)
    for end in ends:
        end.close()
    os.waitpid(child, 0)


def main() -> int:
    """Read the options and run."""
    options = argparse.ArgumentParser(description="relay that only receives and sends")
    options.add_argument("--lines", type=int, default=1)
    options.add_argument("--fan", type=int, default=1)
    options.add_argument("--both-ways", action="store_true")
    chosen = options.parse_args()
    run(chosen.lines, chosen.fan, chosen.both_ways)
    return 0


if __name__ == "__main__":
    sys.exit(main())
