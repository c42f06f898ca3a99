"""A process of the store whose channel a test holds: tell it, hear it, kill it."""

from __future__ import annotations

import logging
import os
import resource
import select
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from support.deadline import stretched

from forkbroker.posix import children
from forkbroker.posix.crashpoints import CrashPoints
from forkbroker.store import process
from forkbroker.store import sqlite as sqlite_store
from forkbroker.store.api import Store
from forkbroker.wire.channel import Channel, open_pair
from forkbroker.wire.details import DURABLY, Details
from forkbroker.wire.envelope import Buffer, Envelope, pack, pack_pieces, pack_run, pack_serial
from forkbroker.wire.fan import pack_targets
from forkbroker.wire.kinds import Flag, Kind

PATIENCE_S = 20.0
QUEUE = b"/queue/a"
MAX_ENVELOPE = 64 << 20


class DrivenStore:
    """One process of the store."""

    def __init__(
        self,
        store: Store,
        *,
        is_fresh: bool = True,
        repair: bool = False,
        watermark: int = 0,
        crash: str = "",
        file_size: int = 0,
        retold: bool = True,
        log: Path | None = None,
        spin_s: float = 0.0,
    ) -> None:
        """`store` is not open: each process of one broker gets the same one.

        `crash` as in the variable FORKBROKER_CRASH; `file_size`: octets that a file may have at most. `retold`: there
        is nothing that it would have to be told again. `log`: where its lines go.
        """
        ours, theirs = open_pair()

        def main() -> int:
            if log is not None:
                _log_to(log)
            if crash:
                process.crash = sqlite_store.crash = CrashPoints(crash)
            if file_size:
                resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, resource.RLIM_INFINITY))
            return process.main(
                theirs,
                store,
                is_fresh=is_fresh,
                repair=repair,
                max_envelope=MAX_ENVELOPE,
                watermark=watermark,
                spin_s=spin_s,
            )

        self.pid = children.fork(main, [theirs.fileno()])
        theirs.close()
        self.channel = Channel(ours, max_envelope=MAX_ENVELOPE)
        self.heard: list[Envelope] = []
        self._status: int | None = None
        if retold:
            self.channel.send(pack(Kind.RETOLD))
            self.channel.flush()

    # -- telling

    def tell(self, *changes: list[Buffer]) -> None:
        """Tell it all of these at once."""
        for buffers in changes:
            self.channel.send(buffers)
        while not self.channel.flush():
            self._listen(1.0)

    def fetch(
        self, queue: bytes = QUEUE, *, priority: int = 4, after: int = 0, octets: int = 1 << 30
    ) -> list[Envelope]:
        """Ask for messages; the PAGEs and, last, the PAGED."""
        self.heard.clear()
        self.tell(pack(Kind.FETCH, destination=queue, index=priority, serial=after, count=octets))
        self.hear(Kind.PAGED)
        answer, self.heard = self.heard, []
        return [envelope for envelope in answer if envelope.kind in (Kind.PAGE, Kind.PAGED)]

    def allow_file_size(self, octets: int) -> None:
        """From now on a file may have so many octets."""
        resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (octets, resource.RLIM_INFINITY))

    def fill(self) -> None:
        """Tell it what it has to read before it can take more, so that what was told before has been read."""
        self.tell(spill(1, [bytes(1 << 20)] * 8, serial=1_000_000))

    # -- hearing

    def hear(self, kind: Kind, number: int = 0) -> Envelope:
        """Wait for an envelope of this kind, and with this number or a later one."""
        found: list[Envelope] = []
        self.wait(lambda: found.extend(e for e in self.heard if e.kind is kind and e.number >= number) or found, kind)
        return found[0]

    def wait_closed(self) -> None:
        """Wait until the process has closed its end."""
        self.wait(lambda: self.channel.closed, "the end of the channel")

    def wait(self, condition: Callable[[], object], what: object) -> None:
        give_up = time.monotonic() + stretched(PATIENCE_S)
        while not condition():
            assert time.monotonic() < give_up, f"waited in vain for {what!r}, heard {[e.kind.name for e in self.heard]}"
            assert not self.channel.closed, f"gone before {what!r}, heard {[e.kind.name for e in self.heard]}"
            self._listen(1.0)

    def _listen(self, seconds: float) -> None:
        poll = select.poll()
        poll.register(self.channel.fileno(), select.POLLIN | (select.POLLOUT if self.channel.pending else 0))
        if any(event & (select.POLLIN | select.POLLHUP) for _, event in poll.poll(seconds * 1000)):
            self.heard += self.channel.receive()
        self.channel.flush()

    # -- ends

    def close(self) -> int:
        """Tell it to end, in order; its exit status."""
        self.tell(pack(Kind.CLOSE))
        return self.wait_end()

    def leave(self) -> int:
        """Be gone without a word, as a parent that was killed; its exit status."""
        self.channel.close()
        return self.wait_end()

    def kill(self) -> None:
        """SIGKILL."""
        os.kill(self.pid, signal.SIGKILL)
        self.wait_end()

    def wait_end(self) -> int:
        """Wait until the process has ended: its exit status, or minus the signal."""
        if self._status is None:
            if self.channel.fileno() >= 0:
                self.wait_closed()
            self._status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            self.channel.close()
        return self._status

    def end(self) -> None:
        """Whatever it does, it does it no longer."""
        if self._status is None:
            self.kill()


def _log_to(path: Path) -> None:
    """In the process: its own handler in place of the test's, whose descriptors it does not have."""
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.DEBUG)


# -- what it is told


def write(
    number: int,
    bodies: Iterable[bytes],
    *,
    serial: int = 0,
    queue: bytes = QUEUE,
    kind: Kind = Kind.WRITE,
    details: Details = DURABLY,
    headers: bytes = b"destination:/queue/a\n",
    flags: int = 0,
    index: int = 1,
    deliveries: int = 0,
) -> list[Buffer]:
    """WRITE, or SPILL; the first serial is the number if it isn't told."""
    pieces = list(bodies)
    form, payload = pack_pieces(pieces)
    mixed = flags & Flag.MIXED
    block = b"-0123456789abcdef-7\n" + (b"" if mixed else headers + b"\n")
    sent = pack(Kind.SEND, flags=form | flags, index=index, count=len(pieces), block=block, payload=payload)
    return pack_run(
        kind,
        Envelope(b"".join(sent)),
        first=0,
        count=len(pieces),
        number=number,
        serial=serial or number,
        deliveries=deliveries,
        destination=queue,
        details=details,
    )


def spill(number: int, bodies: Iterable[bytes], *, serial: int = 0, queue: bytes = QUEUE) -> list[Buffer]:
    """SPILL."""
    return write(number, bodies, serial=serial, queue=queue, kind=Kind.SPILL, details=Details())


def delete(number: int, serial: int, count: int = 1) -> list[Buffer]:
    """DELETE."""
    return pack(Kind.DELETE, number=number, serial=serial, count=count)


def update(number: int, serial: int, count: int = 1, *, deliveries: int, crashes: int = 0) -> list[Buffer]:
    """UPDATE."""
    return pack(Kind.UPDATE, number=number, serial=serial, count=count, deliveries=deliveries, index=crashes)


def move(
    number: int, serial: int, count: int, new_serial: int, *, queue: bytes = QUEUE, details: Details = DURABLY
) -> list[Buffer]:
    """MOVE."""
    return pack(
        Kind.MOVE,
        number=number,
        serial=serial,
        count=count,
        destination=queue,
        section=details.pack(),
        payload=[pack_serial(new_serial)],
    )


def together(number: int, *parts: list[Buffer]) -> list[Buffer]:
    """Changes without numbers, and TOGETHER behind them."""
    return [*[buffer for part in parts for buffer in part], *pack(Kind.TOGETHER, number=number, count=len(parts))]


def fan(number: int, targets: list[tuple[int, bytes]], batch: list[Buffer]) -> list[Buffer]:
    """FAN."""
    return pack(Kind.FAN, number=number, count=len(targets), block=pack_targets(targets), payload=batch)


def bodies_of(pages: Iterable[Envelope]) -> list[bytes]:
    """All messages of these PAGEs, one by one."""
    return [bytes(piece) for page in pages if page.kind is Kind.PAGE for piece in page.pieces()]


def serials_of(pages: Iterable[Envelope]) -> list[int]:
    """Their serials."""
    return [page.serial + place for page in pages if page.kind is Kind.PAGE for place in range(page.count)]
