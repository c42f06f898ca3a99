"""A client's session, played through in the nursery before it forks.

What the interpreter makes while code runs for the first times (specialised instructions, method caches, key tables of
instances) it would otherwise make in each child by itself: in memory that the child had shared with the nursery until
then. Rehearsed, it is inherited, and a client's first frames are answered sooner.

It takes the way of every client: as a spare that is given its client, through the lobby, into the full program.
"""

from __future__ import annotations

import math
import select
import socket
from collections.abc import Callable, Sequence
from functools import partial
from time import monotonic

from forkbroker.child.answers import Answers
from forkbroker.child.child import Shared, show_title
from forkbroker.child.lobby import Bell, Lobby, serve_in_full
from forkbroker.child.spare import Spare
from forkbroker.posix.hot_code import gather
from forkbroker.posix.loop import Spinning
from forkbroker.stomp.encoder import HEART_BEAT
from forkbroker.wire.channel import Channel, open_pair
from forkbroker.wire.envelope import Buffer, pack, pack_pieces
from forkbroker.wire.kinds import Kind

ROUNDS = 20
"""CPython specialises a function after eight calls, and needs some more to settle."""

USER = "rehearsal"
"""The client's login, and its passcode."""
CONNECT = b"CONNECT\naccept-version:1.2\nhost:/\nlogin:%b\npasscode:%b\nheart-beat:10000,10000\n\n\0"
CONNECT %= USER.encode(), USER.encode()
TOPIC = b"/topic/rehearsal"
SUBSCRIBE = b"SUBSCRIBE\nid:0\ndestination:%b\nreceipt:1\n\n\0" % TOPIC
_FRAMES = b"SEND\ndestination:%b\n\nhello\0DISCONNECT\nreceipt:2\n\n\0" % TOPIC
_SPIN_S = 0.000_05
Play = Callable[[], None]
"""Plays a client through."""
_DEADLINES = 4
"""How many of a lobby's deadlines are met: the last one is a tab's first ping, behind its beats."""
FENCES = 2
"""How many fences these frames ask for: all are passed before they are asked, as nobody is there to answer."""


def rehearse(shared: Shared, answers: Answers, others: Sequence[Play] = ()) -> None:
    """Serve a client that exists only here, some times over. Nothing of it is left but warm code, in one place.

    `others`: clients of other kinds, who are played as well.
    """
    plays: list[Play] = [partial(_play_both, shared, answers), *others]

    def play_all() -> None:
        for play in plays:
            play()

    gather(play_all)
    for _ in range(ROUNDS):
        play_all()


def _play_both(shared: Shared, answers: Answers) -> None:
    """A client that gets a program that was prepared, and one that does not."""

    def make(spare: Spare) -> Lobby:
        return Lobby(spare, shared, answers, Bell())

    play(make, shared.max_envelope, is_prepared=True)
    play(make, shared.max_envelope, is_prepared=False)


def play(
    make: Callable[[Spare], Lobby],
    max_envelope: int,
    *,
    is_prepared: bool,
    head: bytes = b"",
    wrap: Callable[[bytes], bytes] = bytes,
) -> None:
    """Play a client through, in the lobby that `make` makes for it, whose full program is prepared or not.

    `head`: what the client says first; `wrap`: how it says one frame, or some of them.
    """
    parents_end, childs_end = open_pair()
    client, served = socket.socketpair()
    channel = Channel(parents_end, max_envelope=max_envelope)
    spare = Spare()
    lobby = make(spare)
    if is_prepared:
        lobby.prepare()

    def serve(address: str, peer: int) -> int:
        client.sendall(head + wrap(CONNECT))
        lobby.meet(address, peer)
        for _ in range(_DEADLINES):
            lobby.keep_up(lobby.deadline())
        client.sendall(wrap(HEART_BEAT))
        client.sendall(wrap(SUBSCRIBE))
        if lobby.attend():
            channel.send(pack(Kind.FENCED, number=1))
            channel.flush()
            lobby.attend()
        client.sendall(wrap(_FRAMES))
        client.shutdown(socket.SHUT_WR)
        for envelope in (pack(Kind.FENCED, number=1), pack_message(), pack(Kind.FENCED, number=FENCES)):
            channel.send(envelope)
        channel.flush()
        return serve_in_full(lobby.leave(), Bell())

    _wait_in_vain()
    with client:
        channel.hand(pack(Kind.SERVE, destination=b"rehearsal"), [served.fileno()])
        served.close()
        spare.programs[0] = serve
        spare.wait(childs_end.detach())
    channel.close()


def pack_message() -> list[Buffer]:
    """A message of another client, for the subscription."""
    flags, payload = pack_pieces([b"hello"])
    lines = b"-rehearsal-1\ndestination:%b\ncontent-length:5\n\n" % TOPIC
    return pack(Kind.SEND, flags=flags, count=1, destination=TOPIC, block=lines, payload=payload)


def _wait_in_vain() -> None:
    """What a child does only when nothing comes for a while: it yields its core, and shows its client again."""
    begin = monotonic()
    Spinning(_SPIN_S).spin(select.poll().poll, begin, math.inf)
    show_title("rehearsal", "rehearsal", 1)
