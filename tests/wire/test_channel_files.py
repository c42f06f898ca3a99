"""Frames that go from one process to many in one file."""

from __future__ import annotations

import errno
import os
import resource
import select
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forkbroker.errors import EnvelopeError
from forkbroker.wire.channel import Channel, FileChannel, open_pair
from forkbroker.wire.envelope import Buffer, Envelope, pack, pack_pieces
from forkbroker.wire.kinds import Kind
from forkbroker.wire.lending import MOST_OCTETS, Lending, find_cost
from forkbroker.wire.memory_file import MemoryFile
from forkbroker.wire.rendering import FILE_OCTETS, FILE_RECEIVERS, Frames, render

pytestmark = pytest.mark.skipif(
    MemoryFile.make([b"x"]) is None or not find_cost(), reason="the system has no such files"
)

LIMIT = 32 << 20
OPENING = b"MESSAGE\nsubscription:1\n"

Pair = tuple[Channel, FileChannel]


def frames_of(*bodies: bytes, destination: bytes = b"/topic/a") -> Frames:
    """Bodies for many."""
    flags, payload = pack_pieces(bodies)
    block = b"-s-1\n\n"
    parts = pack(Kind.SEND, flags=flags, count=len(bodies), destination=destination, block=block, payload=payload)
    frames = render(Envelope(b"".join(parts)), OPENING, FILE_RECEIVERS)
    assert isinstance(frames, Frames)
    return frames


def open_channels() -> Pair:
    near, far = open_pair()
    receiver = FileChannel(far, max_envelope=LIMIT)
    receiver.take_files()
    return Channel(near, max_envelope=LIMIT), receiver


@pytest.fixture
def pair() -> Iterator[Pair]:
    """The parent's end, and the child's."""
    ends = open_channels()
    yield ends
    for end in ends:
        end.close()


def octets_of(envelope: Envelope) -> bytes:
    """The frames, and whether they came in a file."""
    if envelope.number:
        assert not envelope.payload
        return envelope.file.read(0, envelope.file.size + 1)
    return bytes(envelope.payload)


def receive(pair: Pair, count: int) -> list[Envelope]:
    near, far = pair
    got: list[Envelope] = []
    while len(got) < count:
        near.flush()
        assert select.select([far], [], [], 10.0)[0], f"{len(got)} of {count} came"
        envelopes = far.receive()
        far.give_files(envelopes)
        got += envelopes
    return got


def joined(buffers: list[Buffer]) -> Envelope:
    return Envelope(b"".join(buffers))


def test_frames_come_in_a_file_with_all_that_the_envelope_says(pair: Pair) -> None:
    """Its octets count as pending until the kernel has it."""
    frames = frames_of(b"x" * FILE_OCTETS, b"y" * 10)
    pair[0].send(frames)
    assert pair[0].pending == sum(map(len, frames))
    (envelope,) = receive(pair, 1)
    plain = joined(frames)

    assert (pair[0].pending, pair[0].flushed) == (0, sum(map(len, frames)))
    assert envelope.number == len(plain.payload)
    assert octets_of(envelope) == plain.payload
    assert (envelope.kind, envelope.count, envelope.destination, envelope.block) == (
        Kind.RENDERED, 2, b"/topic/a", OPENING
    )  # fmt: skip


@settings(max_examples=30)
@given(st.lists(st.sampled_from([0, 1, 100, 40_000, 300_000, 2_000_000]), min_size=1, max_size=12))
def test_all_comes_in_the_order_in_which_it_was_sent(sizes: list[int]) -> None:
    """In files, in pieces, in one piece; sizes of 0 are frames for many."""
    pair = open_channels()
    sent: list[bytes] = []
    for number, size in enumerate(sizes):
        frames = frames_of(b"%d" % number * FILE_OCTETS)
        buffers = frames if size == 0 else pack(Kind.RENDERED, payload=[b"%d" % number * size])
        sent.append(bytes(joined(buffers).payload))
        pair[0].send(buffers)
    got = receive(pair, len(sizes))

    assert [octets_of(envelope) for envelope in got] == sent
    assert (pair[0].pending, pair[0].flush()) == (0, True)
    for end in pair:
        end.close()


def test_who_does_not_read_is_sent_no_more_than_a_bound(pair: Pair) -> None:
    """So much in files, and what the socket takes of the rest; all of it comes when it is read."""
    near = pair[0]
    size, count = MOST_OCTETS // 4, 20
    sent = [frames_of(b"%02d" % number * (size // 2)) for number in range(count)]
    for frames in sent:
        near.send(frames)
    assert not near.flush()
    assert not near.flush()

    assert near.flushed < MOST_OCTETS + 2_000_000
    got = receive(pair, count)
    assert [octets_of(envelope) for envelope in got] == [joined(frames).payload for frames in sent]
    # by then it is read, and files are lent again
    assert sum(bool(envelope.number) for envelope in got) >= 3
    assert not all(envelope.number for envelope in got)


class Refusing:
    """A socket whose system has too many descriptors on their way."""

    def __init__(self, end: socket.socket, error: int) -> None:
        self._end = end
        self._error = error

    def __getattr__(self, name: str) -> object:
        return getattr(self._end, name)

    def sendmsg(self, buffers, ancillary=()) -> int:
        if ancillary:
            raise OSError(self._error, os.strerror(self._error))
        return self._end.sendmsg(buffers)


def test_where_no_descriptor_can_be_sent_the_octets_are(pair: Pair) -> None:
    """And what is queued behind them."""
    near = pair[0]
    near._socket = Refusing(near._socket, errno.ETOOMANYREFS)
    frames = frames_of(b"x" * FILE_OCTETS)
    near.send(frames)
    near.send(pack(Kind.FENCED))
    first, second = receive(pair, 2)

    assert (first.number, octets_of(first), second.kind) == (0, joined(frames).payload, Kind.FENCED)


@pytest.mark.parametrize("is_refused", [True, False])
def test_an_end_drops_what_waits(pair: Pair, is_refused: bool) -> None:
    """No receiver is left for it, and no file."""
    near, far = pair
    if is_refused:
        near._socket = Refusing(near._socket, errno.EPIPE)
    else:
        far.close()
    frames = frames_of(b"x" * FILE_OCTETS)
    near.send(frames)
    near.send(pack(Kind.FENCED))

    assert near.flush()
    assert near.pending == 0
    fd = frames.file().fd
    del frames
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_a_channel_that_is_full_keeps_them(pair: Pair) -> None:
    """There is no room for the envelope itself."""
    near, far = pair
    with pytest.raises(BlockingIOError):
        while True:
            near._socket.send(b"\0" * 70_000)
    frames = frames_of(b"x" * FILE_OCTETS)
    near.send(frames)

    assert not near.flush()
    assert near.pending == sum(map(len, frames))
    assert far is not None


def test_without_a_free_descriptor_the_receiver_says_so(pair: Pair) -> None:
    """It cannot have the frames, and must not go on as if there were none."""
    pair[0].send(frames_of(b"x" * FILE_OCTETS))
    pair[0].flush()
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, before[1]))
    try:
        with pytest.raises(EnvelopeError, match="--child-files"):
            pair[1].receive()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_channels_that_are_closed_lend_nothing() -> None:
    """The others may lend what they did."""
    before = Lending._count
    pair = open_channels()
    pair[0].send(frames_of(b"x" * FILE_OCTETS))
    pair[0].flush()
    assert Lending._count == before + 1
    pair[0].close()
    pair[0].close()
    pair[1].close()

    assert Lending._count == before


def test_the_header_may_be_as_long_as_a_destination_can_be(pair: Pair) -> None:
    """It is read in parts then, and the descriptor comes with the first of them."""
    frames = frames_of(b"x" * FILE_OCTETS, destination=b"/topic/" + b"a" * 60_000)
    for _ in range(3):
        pair[0].send(frames)
    for envelope in receive(pair, 3):
        assert octets_of(envelope) == joined(frames).payload
