"""The process of one client, between a client and a parent that a test plays."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from child.conftest import Play, playing
from support.deadline import stretched, wait_until

from forkbroker.wire.envelope import pack, pack_pieces
from forkbroker.wire.kinds import Kind

LONG_S = 2.5
"""Longer than a client that does not read is waited for."""


def send_much(play: Play) -> None:
    """More than the kernel keeps for a parent that does not read; it is all read from the client."""
    play.client.settimeout(stretched(10.0))
    for number in range(4):
        play.says(b"SEND\ndestination:/queue/a\n\n%d" % number + b"x" * 450_000)


def test_what_was_accepted_reaches_a_parent_that_reads_late(connected: Play) -> None:
    """The child stays until all is told, LEAVING last, although its client is gone and the parent reads nothing."""
    send_much(connected)
    connected.client.close()
    connected.tells(pack(Kind.CLOSE, block=b"the end"))
    select.select([], [], [], stretched(LONG_S))
    assert not connected.has_ended()

    told = connected.told()
    assert [bytes(one.pieces()[0][:1]) for one in told if one.kind is Kind.SEND] == [b"0", b"1", b"2", b"3"]
    assert Kind.LEAVING is told[-1].kind
    wait_until(connected.has_ended, "the end of the child")
    assert connected.status == 0


def test_a_child_that_waits_for_its_parent_goes_on_reading(connected: Play) -> None:
    """The parent must not have to hold others because of a child that ends."""
    send_much(connected)
    connected.client.close()
    connected.tells(pack(Kind.CLOSE, block=b"the end"))
    for _ in range(40):
        connected.tells(pack(Kind.SEND, destination=b"/topic/a", block=b"\n", payload=[bytes(100_000)]))

    assert Kind.LEAVING is connected.told()[-1].kind


def test_a_child_that_waits_for_its_parent_ends_with_it(connected: Play) -> None:
    """Nobody is left to be told anything."""
    send_much(connected)
    connected.client.close()
    connected.tells(pack(Kind.CLOSE, block=b"the end"))
    connected.channel.close()

    wait_until(connected.has_ended, "the end of the child")


def test_the_client_sees_the_end_before_the_parent_has_read(connected: Play) -> None:
    """It need not wait for what holds the parent up."""
    send_much(connected)
    connected.tells(pack(Kind.CLOSE, block=b"the end"))
    heard = b""
    while piece := connected.client.recv(65_536):
        heard += piece

    assert b"message:the end" in heard
    assert not connected.has_ended()
    assert Kind.LEAVING is connected.told()[-1].kind


def test_sigterm_ends_the_client_politely(connected: Play) -> None:
    """It is told why, the parent is told as well, and the process ends as after any other session."""
    os.kill(connected.pid, signal.SIGTERM)

    assert b"message:disconnected by the administrator\n" in connected.hears(b"\0")
    leaving = connected.told()[-1]
    assert leaving.kind is Kind.LEAVING
    assert leaving.block == b"disconnected by the administrator"
    connected.client.close()
    wait_until(connected.has_ended, "the end of the child")
    assert connected.status == 0


def test_sigterm_that_reaches_the_parent_too_is_the_parents(connected: Play) -> None:
    """The broker ends: the client hears of that, and is not disconnected by anybody."""
    os.kill(connected.pid, signal.SIGTERM)
    connected.tells(pack(Kind.QUIESCE, token=1))
    assert Kind.QUIESCED is connected.told(Kind.QUIESCED)[-1].kind
    select.select([], [], [], 0.8)
    connected.tells(pack(Kind.CLOSE, block=b"the end"))

    assert b"message:the end\n" in connected.hears(b"\0")
    assert connected.told()[-1].block == b"the end"


def test_sigterm_to_a_client_that_has_not_logged_in(play: Play) -> None:
    """It is told as well; and however often the signal comes, it is told once."""
    heard = b""

    def hear() -> bool:
        # again and again: before the process has begun it heeds no signal
        nonlocal heard
        os.kill(play.pid, signal.SIGTERM)
        with suppress(BlockingIOError):
            heard += play.client.recv(65_536)
        return b"\0" in heard

    wait_until(hear, "the ERROR")
    assert heard.count(b"ERROR") == 1
    assert [envelope.kind for envelope in play.told()] == [Kind.LEAVING]


@pytest.fixture
def giving(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[tuple[Play, Path]]:
    """A child, and a file that gets an octet when it gives memory back."""
    given = tmp_path / "given"
    given.touch()

    def note() -> None:
        with given.open("ab") as file:
            file.write(b"x")

    monkeypatch.setattr("forkbroker.child.child.give_back", note)
    with playing() as made:
        yield made, given


def send(play: Play, size: int) -> None:
    """The client sends a few messages, and the parent has got them."""
    play.says("CONNECT\naccept-version:1.2\nhost:/\n\n")
    play.client.setblocking(True)
    for last in (0, 0, 1):
        play.says(b"SEND\ndestination:/queue/%d\n\n" % last + b"x" * size)
    play.client.setblocking(False)
    wait_until(lambda: any(one.destination == b"/queue/1" for one in play.told(Kind.SEND)), "the last one")


def test_memory_is_given_back_when_nothing_large_has_come_for_a_while(giving: tuple[Play, Path]) -> None:
    """Once, however much has come."""
    play, given = giving
    send(play, 100_000)
    wait_until(given.read_bytes, "memory that is given back")
    select.select([], [], [], 1.2)

    assert given.read_bytes() == b"x"


def test_who_has_only_seen_small_messages_has_no_memory_to_give(giving: tuple[Play, Path]) -> None:
    """To look for it costs time."""
    play, given = giving
    send(play, 100)
    select.select([], [], [], 1.2)

    assert given.read_bytes() == b""


def test_memory_is_given_back_when_nothing_large_has_gone_for_a_while(giving: tuple[Play, Path]) -> None:
    """A client that only reads makes the child busy as well."""
    play, given = giving
    play.says("CONNECT\naccept-version:1.2\nhost:/\n\n")
    play.says("SUBSCRIBE\nid:1\ndestination:/topic/a\n\n")
    (subscribe,) = [envelope for envelope in play.told(Kind.SUBSCRIBE) if envelope.kind is Kind.SUBSCRIBE]
    play.tells(pack(Kind.FENCED, number=subscribe.number))
    body = bytes(100_000)
    flags, payload = pack_pieces([body])
    lines = b"-s-1\ndestination:/topic/a\ncontent-length:100000\n\n"
    play.tells(pack(Kind.SEND, flags=flags, count=1, destination=b"/topic/a", block=lines, payload=payload))
    play.hears(body + b"\0")

    wait_until(given.read_bytes, "memory that is given back")
