"""Channels between two real processes."""

from __future__ import annotations

import os
import random
import select
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from forkbroker.errors import EnvelopeError
from forkbroker.wire.channel import BEGINNING, Channel, open_pair
from forkbroker.wire.envelope import KIND_AT, Envelope, pack, pack_pieces
from forkbroker.wire.kinds import Kind
from forkbroker.wire.receive_memory import ReceiveMemory

LIMIT = 8 << 20
PATIENCE_S = 10.0 * float(os.environ.get("FORKBROKER_TEST_STRETCH", "1"))

Start = Callable[[Callable[[socket.socket], None]], Channel]


def wait_readable(end: Channel | socket.socket) -> None:
    """Wait until there is something to receive, be it the end."""
    assert select.select([end], [], [], PATIENCE_S)[0], "nothing came"


def collect(channel: Channel, count: int) -> list[Envelope]:
    """Receive until `count` envelopes are there, flushing whatever waits."""
    got: list[Envelope] = []
    while len(got) < count and not channel.closed:
        channel.flush()
        readable, writable, _ = select.select([channel], [channel] if channel.pending else [], [], PATIENCE_S)
        assert readable or writable, f"{len(got)} of {count} came"
        if readable:
            got += channel.receive()
    return got


def send_of(body: bytes, number: int = 0) -> list[bytes]:
    flags, payload = pack_pieces([body])
    return pack(Kind.SEND, flags=flags, count=1, number=number, destination=b"/queue/a", payload=payload)


@pytest.fixture
def start() -> Iterator[Start]:
    """Fork a process that has the other end of a channel; it must end by itself."""
    made: list[tuple[int, Channel]] = []

    def start_one(program: Callable[[socket.socket], None]) -> Channel:
        ours, theirs = open_pair()
        pid = os.fork()
        if pid == 0:
            with suppress(BaseException):
                ours.close()
                program(theirs)
                os._exit(0)
            os._exit(1)
        theirs.close()
        channel = Channel(ours, max_envelope=LIMIT)
        made.append((pid, channel))
        return channel

    yield start_one
    for pid, channel in made:
        channel.close()
        assert os.waitpid(pid, 0)[1] == 0


def echo(end: socket.socket) -> None:
    """Send back whatever comes, until the other side is gone."""
    channel = Channel(end, max_envelope=LIMIT)
    while not channel.closed:
        select.select([end], [end] if channel.pending else [], [])
        for envelope in channel.receive():
            channel.send([envelope.raw])
        channel.flush()


def test_envelopes_come_back_whole_and_in_order(start: Start) -> None:
    """Many small ones survive being gathered and cut apart."""
    channel = start(echo)
    bodies = [b"%d" % number * (number % 7) for number in range(5000)]
    for number, body in enumerate(bodies):
        channel.send(send_of(body, number))

    got = collect(channel, len(bodies))

    assert [envelope.number for envelope in got] == list(range(5000))
    assert [bytes(envelope.pieces()[0]) for envelope in got] == bodies
    assert channel.pending == 0


@pytest.mark.parametrize("size", [1, 32_767, 32_769, 262_144, 1 << 20, 5 << 20])
def test_bodies_of_any_size_come_back(start: Start, size: int) -> None:
    """Above the size of a read an envelope is collected in its final place."""
    channel = start(echo)
    body = random.Random(size).randbytes(size)
    channel.send(send_of(body))

    (envelope,) = collect(channel, 1)

    assert bytes(envelope.pieces()[0]) == body


def test_large_and_small_ones_mix(start: Start) -> None:
    """What follows a large envelope is not lost, nor mixed up with it."""
    channel = start(echo)
    sizes = [10, 600_000, 3, 40_000, 0, 1 << 20, 1, 262_144, 2] * 3
    for number, size in enumerate(sizes):
        channel.send(send_of(bytes([number]) * size, number))

    got = collect(channel, len(sizes))

    assert [(envelope.number, len(envelope.pieces()[0])) for envelope in got] == list(enumerate(sizes))


def test_behind_a_large_envelope_little_is_read_at_first() -> None:
    """The next one is likely to be large, and has its own place; after that a read takes all that is there."""
    ours, theirs = open_pair()
    channel = Channel(ours, max_envelope=LIMIT)
    theirs.sendall(b"".join([*send_of(bytes(300_000), 1), *(b"".join(send_of(bytes(900))) for _ in range(40))]))
    while not channel.receive():
        pass
    behind = channel.taken
    channel.receive()
    little = channel.taken - behind
    channel.receive()
    rest = channel.taken - behind - little
    channel.close()
    theirs.close()

    assert (little, rest) == (len(BEGINNING), 40 * len(b"".join(send_of(bytes(900)))) - len(BEGINNING))


def test_what_the_kernel_does_not_take_waits_and_is_counted() -> None:
    """Nobody reads: pending holds the rest, flushed tells what went, and reading brings all of it."""
    ours, theirs = open_pair()
    channel, other = Channel(ours, max_envelope=LIMIT), Channel(theirs, max_envelope=LIMIT)
    total = 0
    for number in range(40):
        buffers = send_of(bytes(100_000), number)
        total += sum(map(len, buffers))
        channel.send(buffers)

    assert channel.pending == total
    assert not channel.flush()
    assert 0 < channel.flushed < total
    assert channel.pending == total - channel.flushed
    got = []
    while len(got) < 40:
        channel.flush()
        got += other.receive()
    assert [envelope.number for envelope in got] == list(range(40))
    assert (channel.pending, channel.flushed) == (0, total)
    channel.close()
    other.close()


def test_more_buffers_than_one_gather_write_takes() -> None:
    """The number of buffers that the system takes at once is no limit on what is queued."""
    ours, theirs = open_pair()
    channel, other = Channel(ours, max_envelope=LIMIT), Channel(theirs, max_envelope=LIMIT)
    for number in range(1500):
        channel.send(pack(Kind.FENCE, number=number))

    assert channel.flush()
    got: list[Envelope] = []
    while len(got) < 1500:
        got += other.receive()
    assert [envelope.number for envelope in got] == list(range(1500))
    channel.close()
    other.close()


def test_one_octet_at_a_time() -> None:
    """An envelope may come in any pieces."""
    ours, theirs = open_pair()
    channel = Channel(ours, max_envelope=LIMIT)
    raw = b"".join(send_of(b"body", 1) + pack(Kind.FENCE, number=2))

    got: list[Envelope] = []
    for octet in raw:
        theirs.send(bytes([octet]))
        got += channel.receive()

    assert [envelope.kind for envelope in got] == [Kind.SEND, Kind.FENCE]
    channel.close()
    theirs.close()


def test_nothing_to_receive_is_no_end() -> None:
    """An empty socket gives an empty list and leaves the channel open."""
    ours, theirs = open_pair()
    channel = Channel(ours, max_envelope=LIMIT)

    assert channel.receive() == []
    assert not channel.closed
    channel.close()
    theirs.close()


def test_the_end_shows_after_everything_that_was_written(start: Start) -> None:
    """A process that ends right after its last word was heard, all of it."""

    def speak(end: socket.socket) -> None:
        end.setblocking(True)
        end.sendall(b"".join(b"".join(send_of(bytes(1000), number)) for number in range(1000)))

    channel = start(speak)
    got = []
    while not channel.closed:
        wait_readable(channel)
        got += channel.receive()

    assert [envelope.number for envelope in got] == list(range(1000))


def test_flushing_to_a_process_that_is_gone_still_lets_its_last_words_be_heard(start: Start) -> None:
    """What it wrote before its end counts: a claim, for one."""

    def claim(end: socket.socket) -> None:
        end.send(b"".join(pack(Kind.CLAIMED, number=7)))

    channel = start(claim)
    wait_readable(channel)
    before = -1
    while channel.flushed != before:
        before = channel.flushed
        channel.send(pack(Kind.FENCE))
        while not channel.flush():
            select.select([], [channel], [], PATIENCE_S)

    assert channel.pending == 0
    assert [envelope.number for envelope in collect(channel, 1)] == [7]
    assert not channel.closed
    wait_readable(channel)
    channel.receive()
    assert channel.closed


def test_an_end_with_data_unread_is_an_end(start: Start) -> None:
    """A process that dies with a full socket behind it makes no error, only an end."""
    channel = start(lambda end: None)
    channel.send(send_of(bytes(300_000)))
    channel.flush()
    while not channel.closed:
        wait_readable(channel)
        assert channel.receive() == []

    assert channel.closed


def test_the_end_in_the_middle_of_an_envelope_is_an_end(start: Start) -> None:
    """Half an envelope, small or large, is nothing."""
    for size in (100, 1 << 20):
        raw = b"".join(send_of(bytes(size)))

        def half(end: socket.socket, raw: bytes = raw) -> None:
            end.setblocking(True)
            end.sendall(raw[: len(raw) // 2])

        channel = start(half)
        got = []
        while not channel.closed:
            wait_readable(channel)
            got += channel.receive()

        assert got == []


def test_an_envelope_above_the_limit_is_refused_before_it_is_there() -> None:
    """The length alone is enough: nothing is allocated for it."""
    ours, theirs = open_pair()
    channel = Channel(ours, max_envelope=1000)
    theirs.send(b"".join(pack(Kind.FENCE)) + (1001).to_bytes(4, "big"))

    with pytest.raises(EnvelopeError, match="1001 bytes, 1000 permitted"):
        channel.receive()
    channel.close()
    theirs.close()


@pytest.mark.parametrize("garbage", [b"\0" * 64, b"\0\0\0\x30" + b"\xff" * 44, b"GET / HTTP/1.1\r\n\r\n"])
def test_garbage_is_told_from_envelopes(garbage: bytes) -> None:
    """Too short a length, an unknown version, text: all are the other side's end."""
    ours, theirs = open_pair()
    channel = Channel(ours, max_envelope=LIMIT)
    theirs.send(garbage)

    with pytest.raises(EnvelopeError):
        channel.receive()
    channel.close()
    theirs.close()


def test_closing_drops_what_waits() -> None:
    """After close nothing is pending and the other side sees the end."""
    ours, theirs = open_pair()
    channel, other = Channel(ours, max_envelope=LIMIT), Channel(theirs, max_envelope=LIMIT)
    body = bytes(1000)
    channel.send([*pack(Kind.FENCE), body])
    held = sys.getrefcount(body)
    channel.close()
    other.receive()

    assert channel.pending == 0
    assert sys.getrefcount(body) < held
    assert other.closed
    other.close()


# ---------------------------------------------------------------- large envelopes and their budget


def sharing(budget: ReceiveMemory) -> tuple[Channel, socket.socket]:
    """A channel that asks `budget`, and the other end."""
    ours, theirs = open_pair()
    return Channel(ours, max_envelope=LIMIT, budget=budget), theirs


def begin(end: socket.socket, whole: bytes) -> None:
    """Write the first half of an envelope."""
    end.sendall(whole[: len(whole) // 2])


def finish(channel: Channel, end: socket.socket, whole: bytes) -> list[Envelope]:
    """Write the rest, and receive it."""
    end.sendall(whole[len(whole) // 2 :])
    got: list[Envelope] = []
    while not got and not channel.is_waiting:
        wait_readable(channel)
        got = channel.receive()
    return got


def test_a_channel_waits_for_its_turn() -> None:
    """It reads nothing while another one uses up the budget, and then everything, as if nothing had been."""
    whole = b"".join(send_of(bytes(200_000)))
    budget = ReceiveMemory(300_000)
    (first, its_end), (second, other_end) = sharing(budget), sharing(budget)
    begin(its_end, whole)
    begin(other_end, b"".join(send_of(b"x", 7)) + whole)
    assert first.receive() == []
    assert [envelope.number for envelope in second.receive()] == [7]

    assert (first.is_waiting, second.is_waiting) == (False, True)
    assert (first.received, second.received) == (len(whole) // 2, None)
    other_end.send(b"more")
    assert second.receive() == []
    (envelope,) = finish(first, its_end, whole)
    assert envelope.raw == whole
    assert budget.take_granted() == []
    assert first.holds_room
    first.give_back()
    assert not first.holds_room
    assert budget.take_granted() == [second]

    for channel, end in ((first, its_end), (second, other_end)):
        channel.close()
        end.close()


def test_a_channel_goes_on_where_it_waited() -> None:
    """And gives back what it had when it is closed."""
    whole = b"".join(send_of(bytes(100_000)))
    budget = ReceiveMemory(1)
    budget.ask("another", 1)
    channel, end = sharing(budget)
    begin(end, whole)
    assert channel.receive() == []
    assert channel.is_waiting
    budget.give_back("another")
    channel.go_on()
    (envelope,) = finish(channel, end, whole)

    assert envelope.raw == whole
    assert budget.used == len(whole)
    channel.close()
    assert budget.used == 0
    end.close()


def test_a_transaction_counts_twice() -> None:
    """Its parts are copied out of it, and both are there for a moment."""
    whole = b"".join(pack(Kind.TRANSACTION, payload=[bytes(100_000)]))
    budget = ReceiveMemory(1)
    channel, end = sharing(budget)
    begin(end, whole)
    channel.receive()

    assert budget.used == 2 * len(whole)
    channel.close()
    end.close()


def test_what_an_ended_process_has_written_is_received_without_asking() -> None:
    """It is all there, and nobody will write more."""
    whole = b"".join(send_of(bytes(100_000)))
    budget = ReceiveMemory(1)
    budget.ask("another", 1)
    channel, end = sharing(budget)
    begin(end, whole)
    channel.receive()
    channel.insist()
    (envelope,) = finish(channel, end, whole)

    assert envelope.raw == whole
    assert (budget.used, budget.is_waited_for) == (1, False)
    channel.give_back()
    channel.close()
    end.close()


def test_small_envelopes_ask_nobody() -> None:
    """A budget that is used up does not stop what fits into a read."""
    budget = ReceiveMemory(1)
    budget.ask("another", 1)
    channel, end = sharing(budget)
    end.sendall(b"".join(send_of(bytes(10_000))) * 3)
    wait_readable(channel)

    assert len(channel.receive()) == 3
    assert not channel.is_waiting
    channel.close()
    end.close()


def test_small_envelopes_ask_nobody_when_they_come_in_parts() -> None:
    """One that a read has cut through is waited for, and needs no place of its own."""
    whole = b"".join(send_of(bytes(10_000)))
    budget = ReceiveMemory(1)
    budget.ask("another", 1)
    channel, end = sharing(budget)
    begin(end, whole)
    wait_readable(channel)
    assert channel.receive() == []
    assert (channel.is_waiting, channel.received) == (False, None)

    (envelope,) = finish(channel, end, whole)
    assert (envelope.raw, budget.used) == (whole, 1)
    channel.close()
    end.close()


@pytest.mark.parametrize("cut", range(1, 8))
def test_a_large_envelope_may_be_cut_before_its_kind(cut: int) -> None:
    """As little as its length comes alone: only with the kind it is clear how much room it needs."""
    whole = b"".join(pack(Kind.TRANSACTION, payload=[bytes(100_000)]))
    budget = ReceiveMemory(1)
    channel, end = sharing(budget)
    end.sendall(whole[:cut])
    wait_readable(channel)
    assert channel.receive() == []
    assert budget.used == (2 * len(whole) if cut > KIND_AT else 0)
    end.sendall(whole[cut:])
    got: list[Envelope] = []
    while not got:
        wait_readable(channel)
        got = channel.receive()

    assert [envelope.raw for envelope in got] == [whole]
    channel.close()
    end.close()


def test_flushing_before_the_end_waits_for_room(start: Start) -> None:
    """All of it arrives, though the socket takes only a part at once."""

    def count(end: socket.socket) -> None:
        end.setblocking(True)
        got = 0
        while data := end.recv(1 << 16):
            got += len(data)
        os._exit(0 if got == 4_000_048 else 1)

    channel = start(count)
    channel.send(pack(Kind.WRITE, payload=[bytes(4_000_000)]))
    channel.flush_and_close(PATIENCE_S)

    assert (channel.pending, channel.flushed, channel.fileno()) == (0, 4_000_048, -1)


def test_flushing_before_the_end_does_not_wait_for_who_reads_nothing() -> None:
    """What was not taken within the time is dropped; the other side sees the end behind what was."""
    ours, theirs = open_pair()
    channel = Channel(ours, max_envelope=LIMIT)
    channel.send(pack(Kind.WRITE, payload=[bytes(4_000_000)]))
    channel.flush_and_close(0.05)

    assert channel.pending == 0
    got = 0
    while data := theirs.recv(1 << 16):
        got += len(data)
    assert 0 < got < 4_000_048
    theirs.close()
