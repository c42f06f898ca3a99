"""Programs for the store's process: each plays a store that keeps nothing, in its own way.

A program gets its end of the channel, and whether the broker has just started; those that wait for a path wait for
the test.
"""

from __future__ import annotations

import os
import select
import signal
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

from forkbroker.wire.channel import Channel
from forkbroker.wire.envelope import Buffer, Envelope, pack
from forkbroker.wire.kinds import Flag, Kind

MAX_ENVELOPE = 1_048_576
PAGES = 400
PAGE_OCTETS = 10_000

Program = Callable[[socket.socket, bool], int]


class Pantry:
    """Says that it is open, commits what it is told, ends when it is told to, or when the parent is gone."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(True)
        self.end = end
        self.channel = Channel(end, max_envelope=MAX_ENVELOPE)

    def tell(self, buffers: Sequence[Buffer]) -> None:
        self.channel.send(buffers)
        self.channel.flush()

    def open(self) -> None:
        self.tell([*pack(Kind.OPENING, serial=1), *pack(Kind.OPENED)])

    def serve(self) -> int:
        while not self.channel.closed:
            for envelope in self.channel.receive():
                if envelope.kind is Kind.CLOSE:
                    return self.close()
                self.heed(envelope)
        return 0

    def heed(self, envelope: Envelope) -> None:
        if envelope.number:
            self.tell(pack(Kind.COMMITTED, number=envelope.number))

    def close(self) -> int:
        return 0

    def run(self) -> int:
        self.open()
        return self.serve()

    def wait_for(self, path: Path) -> None:
        """Until the test makes this file, or the parent is gone."""
        gone = select.poll()
        gone.register(self.end, 0)
        while not path.exists() and not gone.poll(5):
            pass

    def wait_for_the_end(self) -> None:
        """Until the parent is gone."""
        gone = select.poll()
        gone.register(self.end, 0)
        gone.poll()


def plain(end: socket.socket, is_fresh: bool) -> int:
    """A store that works."""
    return Pantry(end).run()


def failing(reason: str, status: int) -> Program:
    """A store that can't be opened."""

    def main(end: socket.socket, is_fresh: bool) -> int:
        Pantry(end).tell(pack(Kind.FAILED, token=status, block=reason.encode()))
        return 1

    return main


def losing(reason: str) -> Program:
    """A store that another broker takes, as soon as it is told something."""

    class Lost(Pantry):
        def heed(self, envelope: Envelope) -> None:
            self.tell(pack(Kind.FAILED, flags=int(Flag.FINAL), token=69, block=reason.encode()))
            os._exit(69)

    return lambda end, is_fresh: Lost(end).run()


def failing_later(reason: str) -> Program:
    """A store that works until it is told something; its successors always work."""

    class Fragile(Pantry):
        def heed(self, envelope: Envelope) -> None:
            self.tell(pack(Kind.FAILED, token=74, block=reason.encode()))
            os._exit(74)

    def main(end: socket.socket, is_fresh: bool) -> int:
        return (Fragile if is_fresh else Pantry)(end).run()

    return main


def opened_only_once(end: socket.socket, is_fresh: bool) -> int:
    """A store that dies when it is told something, and none of whose successors can be opened."""
    if not is_fresh:
        return failing("the shelves are rotten", 74)(end, is_fresh)
    return failing_later("a shelf broke")(end, is_fresh)


def lying(octets: Sequence[Buffer]) -> Program:
    """A store that says this when it is told something; its successors do not."""

    class Lying(Pantry):
        def heed(self, envelope: Envelope) -> None:
            self.tell(octets)

    def main(end: socket.socket, is_fresh: bool) -> int:
        return (Lying if is_fresh else Pantry)(end).run()

    return main


def opened_when(path: Path) -> Program:
    """A store that is open when this file is there."""

    def main(end: socket.socket, is_fresh: bool) -> int:
        pantry = Pantry(end)
        pantry.wait_for(path)
        return pantry.run()

    return main


def heeding_when(path: Path, book: Path | None = None) -> Program:
    """A store that is open, but does not read before this file is there; it notes in `book` what it is told."""

    class Late(Pantry):
        def heed(self, envelope: Envelope) -> None:
            if envelope.number:
                self.note(f"{envelope.kind.name} {envelope.number}")
            super().heed(envelope)

        def close(self) -> int:
            self.note("CLOSE")
            return 0

        def note(self, line: str) -> None:
            if book is not None:
                with book.open("a") as file:
                    file.write(line + "\n")

    def main(end: socket.socket, is_fresh: bool) -> int:
        pantry = Late(end)
        pantry.open()
        pantry.wait_for(path)
        return pantry.serve()

    return main


def deaf(end: socket.socket, is_fresh: bool) -> int:
    """A store that does not even end when it is told to."""
    pantry = Pantry(end)
    pantry.open()
    pantry.wait_for_the_end()
    return 0


def lingering(end: socket.socket, is_fresh: bool) -> int:
    """A store that closes its channel when it is told something, and lives on; its successors do not."""

    class Lingering(Pantry):
        def heed(self, envelope: Envelope) -> None:
            self.end.close()
            while True:
                signal.pause()

    return (Lingering if is_fresh else Pantry)(end).run()


def lavish(end: socket.socket, is_fresh: bool) -> int:
    """A store that has much for peer 2 whenever it is told something."""

    class Lavish(Pantry):
        def heed(self, envelope: Envelope) -> None:
            for _ in range(PAGES):
                self.tell(pack(Kind.PAGE, destination=b"2", payload=[bytes(PAGE_OCTETS)]))
            super().heed(envelope)

    return Lavish(end).run()


def dying_at_the_end(end: socket.socket, is_fresh: bool) -> int:
    """A store that is killed while it closes; its successors are not."""

    class Dying(Pantry):
        def close(self) -> int:
            os.kill(os.getpid(), signal.SIGKILL)
            return 0

    return (Dying if is_fresh else Pantry)(end).run()
