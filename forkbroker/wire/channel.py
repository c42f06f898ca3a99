"""One end of a socketpair between two of the broker's processes: buffered, non-blocking, bounded by its owner.

A large envelope is received in its final place, for which the channel may have to ask a `ReceiveMemory` first:
meanwhile it `is_waiting`, and reads nothing.

The owner sends envelopes with `send` (which only queues), and calls `flush` once a turn of its loop: one gather
write for all that has gathered. `pending` tells the owner how many octets wait; the policy for that number is the
owner's. The end of the other process shows as `closed`, after everything it has written was received.

`Frames` that many processes get go in a file that all of them share, each by a write of its own. They count in
`pending` with all of their octets, and go as these where that is not possible, or too much of it is under way
(`Lending`).
"""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import islice

from forkbroker.errors import EnvelopeError
from forkbroker.wire.descriptors import ROOM_FOR_ONE, rights, unpack_one
from forkbroker.wire.envelope import HEADER, KIND_AT, LENGTH, Buffer, Envelope, read_length
from forkbroker.wire.kinds import Kind
from forkbroker.wire.lending import BUSY, Lending
from forkbroker.wire.memory_file import MemoryFile
from forkbroker.wire.receive_memory import ReceiveMemory
from forkbroker.wire.rendering import Frames

READ_SIZE = 262_144
"""Octets read at once. Large reads make large batches; more than 256 KiB brought nothing when it was measured."""

_SOCKET_BUFFER = 524_288
_TRUNCATED = int(socket.MSG_CTRUNC)
"""As a plain number: `&` with the flag of the module is three calls for each read."""
_GATHER = min(256, os.sysconf("SC_IOV_MAX"))


def open_pair() -> tuple[socket.socket, socket.socket]:
    """A connected, non-blocking pair of stream sockets with enlarged buffers; the caller closes both."""
    pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    for end in pair:
        end.setblocking(False)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BUFFER)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SOCKET_BUFFER)
    return pair


PLACE = memoryview(bytearray(READ_SIZE))
"""Where this process reads to: one place for all its reads. `recv` would allocate `READ_SIZE` octets, and so map and
unmap memory, for each message of a hundred (a third of a consumer's system calls with prefetch 1)."""
BEGINNING = PLACE[:4_096]
"""Where it reads to behind a large envelope, or a large body: the next one is likely to be large as well, and what is
read with its beginning has to be copied to its final place (a tenth of the CPU time for 1 MiB)."""


class Channel:
    """Envelopes in both directions over one stream socket."""

    def __init__(self, end: socket.socket, *, max_envelope: int, budget: ReceiveMemory | None = None) -> None:
        """Take over `end`, a non-blocking stream socket, and close it in `close`.

        `max_envelope` (octets) bounds what the other side can make this one allocate, `budget` what all others that
        share it can at the same time; without one there is no such bound.
        """
        self._socket = end
        self._reader: Callable[[memoryview], int] = end.recv_into
        self._read_into: Callable[[memoryview], int] = end.recv_into
        self._max_envelope = max_envelope
        self._budget = budget
        self._announced = 0
        self.holds_room = False
        """Octets of the budget are this channel's: `give_back` what has been applied."""
        self._out: deque[Buffer] = deque()
        self._behind: deque[Sequence[Buffer]] = deque()
        """Envelopes that go after those: the first of them are `Frames`, which may go in a file."""
        self._lending: Lending | None = None
        self._rest = b""
        self._large: bytearray | None = None
        self._filled = 0
        self.is_waiting = False
        """A large envelope has begun, and the budget has no room for it: nothing is read until it has."""
        self.pending = 0
        """Octets queued and not yet taken by the kernel."""
        self.flushed = 0
        """Octets taken by the kernel since the start."""
        self.taken = 0
        """Octets received since the start."""
        self.closed = False
        """The other side is gone: nothing more comes, and nothing more can be sent."""

    def fileno(self) -> int:
        """The descriptor, for a selector."""
        return self._socket.fileno()

    def send(self, buffers: Sequence[Buffer]) -> None:
        """Queue one envelope, as `pack` gives it. The buffers must not change until they are flushed."""
        if self._behind or type(buffers) is Frames:
            self._behind.append(buffers)
        else:
            self._out.extend(buffers)
        self.pending += sum(map(len, buffers))

    def flush(self) -> bool:
        """Write what the kernel takes; True when nothing is left to write.

        When the other side is gone the rest is dropped. `closed` is left to `receive`, as what the other side
        wrote before its end may still wait there, and counts: a claim, for one.
        """
        out = self._out
        while out or self._behind:
            if not out:
                if not self._flush_behind():
                    return False
                continue
            buffers = out if len(out) <= _GATHER else list(islice(out, _GATHER))
            try:
                sent = self._socket.sendmsg(buffers)
            except BlockingIOError:
                return False
            except OSError:
                self._drop_all()
                return True
            self.pending -= sent
            self.flushed += sent
            if not self.pending:
                out.clear()
            elif self._drop(sent, len(buffers)):
                return False
        return True

    def _flush_behind(self) -> bool:
        """Write the next `Frames` in a file, or let what is behind go as other octets; False: not possible now."""
        behind = self._behind
        frames = behind[0]
        if type(frames) is Frames:
            try:
                if self._lend(frames):
                    behind.popleft()
                    return True
            except BlockingIOError:
                return False
            except OSError:
                self._drop_all()
                return True
            self._out.extend(behind.popleft())
        while behind and type(behind[0]) is not Frames:
            self._out.extend(behind.popleft())
        return True

    def _lend(self, frames: Frames) -> bool:
        """Write them in a file; False: they have to go as they are."""
        file = frames.file()
        if file is None:
            return False
        if self._lending is None:
            self._lending = Lending(self._socket.fileno())
        if not self._lending.has_room(file.size):
            return False
        head = frames.head
        try:
            sent = self._socket.sendmsg([head], rights([file.fd]))
        except BlockingIOError:
            raise
        except OSError as error:
            if error.errno in BUSY:
                return False
            raise
        self._lending.lent(file.size)
        octets = sum(map(len, frames))
        self.flushed += octets
        self.pending -= octets
        if sent < len(head):
            self._out.append(memoryview(head)[sent:])
            self.pending += len(head) - sent
        return True

    def _drop_all(self) -> None:
        self._out.clear()
        self._behind.clear()
        self.pending = 0

    def hand(self, buffers: Sequence[Buffer], descriptors: Sequence[int]) -> bool:
        """Write an envelope, and copies of descriptors with it, behind all that is queued; False: not possible now.

        The envelope is to be short: it is written whole, or not at all. A process that is gone takes none.
        """
        if not self.flush():
            return False
        try:
            self._socket.sendmsg(buffers, rights(descriptors))
        except OSError:
            return False
        return True

    def _drop(self, sent: int, tried: int) -> bool:
        """Keep what the kernel did not take of as many buffers as were tried; tell whether there was something."""
        out = self._out
        for _ in range(tried):
            buffer = out.popleft()
            if sent < len(buffer):
                out.appendleft(memoryview(buffer)[sent:] if sent else buffer)
                return True
            sent -= len(buffer)
        return False

    def receive(self) -> list[Envelope]:
        """One read, and the whole envelopes that it completed; sets `closed` at the other side's end.

        Raises:
            EnvelopeError: what came is not an envelope, or one above the limit: end the other side.
            MemoryError: there is no memory for what was announced: end the other side as well.
        """
        if self.is_waiting:
            return []
        try:
            if self._announced and self._large is None:
                self._start_large()
            if self._large is not None:
                return self._receive_large(self._large)
            data = bytes(PLACE[: self._read_into(PLACE)])
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        if not data:
            self.closed = True
            return []
        self.taken += len(data)
        if self._rest:
            data = self._rest + data
        elif HEADER.size <= len(data) <= self._max_envelope and LENGTH.unpack_from(data)[0] == len(data):
            return [Envelope(data)]  # as it is where messages come one at a time
        return self._cut(data)

    def _cut(self, data: bytes) -> list[Envelope]:
        envelopes: list[Envelope] = []
        at, end = 0, len(data)
        while end - at >= 4:
            total = LENGTH.unpack_from(data, at)[0]
            if total < HEADER.size:
                read_length(data, at)  # which says what is wrong
            if total > self._max_envelope:
                raise EnvelopeError(f"an envelope of {total} bytes, {self._max_envelope} permitted")
            if total > end - at:
                if total > READ_SIZE // 8 and end - at > KIND_AT:
                    self._announce(total, data[at:])
                    return envelopes
                break
            envelopes.append(Envelope(data[at : at + total] if total != end else data))
            at += total
        self._rest = data[at:]
        return envelopes

    @property
    def received(self) -> int | None:
        """Octets of a large envelope that are there; None: there is no such envelope under way, or it waits."""
        return None if self._large is None else self._filled

    def _announce(self, total: int, start: bytes) -> None:
        """A large envelope has begun: there has to be room for it. A transaction's parts are copied out of it."""
        self._rest, self._announced = start, total
        if self._budget is not None:
            octets = 2 * total if start[KIND_AT] == Kind.TRANSACTION else total
            self.holds_room = self._budget.ask(self, octets)
            self.is_waiting = not self.holds_room
        if not self.is_waiting:
            self._start_large()

    def go_on(self) -> None:
        """The budget has granted what this channel waits for: receive it."""
        self.holds_room, self.is_waiting = True, False

    def give_back(self) -> None:
        """What `receive` gave was applied: if it was a large envelope, others may have its room."""
        if self._budget is not None and not self._announced:
            self.holds_room = False
            self._budget.give_back(self)

    def insist(self) -> None:
        """Receive without asking any more: the other side has ended, and all that it wrote is there."""
        if self._budget is not None:
            self._budget.give_back(self)
        self._budget = None
        self.holds_room = self.is_waiting = False

    def _start_large(self) -> None:
        """Collect the rest of a large envelope in its final place: joining partial reads costs a copy each."""
        self._large = bytearray(self._announced)
        self._filled = len(self._rest)
        self._large[: self._filled] = self._rest
        self._rest = b""

    def _receive_large(self, large: bytearray) -> list[Envelope]:
        got = self._socket.recv_into(memoryview(large)[self._filled :])
        if not got:
            self.closed = True
            return []
        self.taken += got
        self._filled += got
        if self._filled < len(large):
            return []
        self._large = None
        self._announced = 0
        self._read_into = self._read_beginning
        return [Envelope(large)]

    def _read_beginning(self, _place: memoryview) -> int:
        """Read the next octets behind a large envelope; all later ones by `_reader` again."""
        self._read_into = self._reader
        return self._reader(BEGINNING)

    def flush_and_close(self, seconds: float) -> None:
        """Write the rest, waiting for room, but for each piece not longer than this; then close."""
        self._socket.settimeout(seconds)
        while not self.flush():
            pass
        self.close()

    def close(self) -> None:
        """Close this end. What is queued is dropped, and what was being received."""
        if self._budget is not None:
            self._budget.give_back(self)
        self._large = None
        self._drop_all()
        if self._lending is not None:
            self._lending.close()
            self._lending = None
        self._socket.close()


class FileChannel(Channel):
    """The end of a channel at which frames may come in files, from `take_files` on: that of a client's child.

    On a stream, descriptors come with the first octets of what they were sent with, and a read ends behind the octets
    that brought one. The parent sends one with each RENDERED that has a number, and with nothing else: so the first
    descriptor that has come belongs to the first of these.
    """

    def __init__(self, end: socket.socket, *, max_envelope: int) -> None:
        """As `Channel`."""
        super().__init__(end, max_envelope=max_envelope)
        self.takes_files = False
        self.files: deque[MemoryFile] = deque()
        """Those that have come, and belong to envelopes that come: `give_files` to them if there are any."""

    def take_files(self) -> None:
        """Before the parent may send one: a read that can bring it is dearer than another."""
        self.takes_files = True
        self._reader = self._read_into = self._read_with_files

    def _read_with_files(self, place: memoryview) -> int:
        octets, ancillary, flags, _address = self._socket.recvmsg_into([place], ROOM_FOR_ONE)
        if flags & _TRUNCATED:
            raise EnvelopeError("frames in a file, and no descriptor is free for it: --child-files is too low")
        if ancillary:
            self.files.append(MemoryFile(unpack_one(ancillary), 0))
        return octets

    def give_files(self, envelopes: Iterable[Envelope]) -> None:
        """Let those of the envelopes that `receive` gave have their files."""
        for envelope in envelopes:
            if envelope.kind is Kind.RENDERED and envelope.number:
                envelope.file = file = self.files.popleft()
                file.size = envelope.number
