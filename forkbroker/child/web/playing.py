"""Clients over HTTP that are played through in the nursery, as `forkbroker.child.rehearsal` plays those of TCP.

Pages with a WebSocket, with and without a lobby, and an EventSource. Most children of a listener for HTTP serve one of
these, and wait.
"""

from __future__ import annotations

import socket
from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from forkbroker.child.answers import Answers
from forkbroker.child.child import Shared
from forkbroker.child.lobby import Bell, Lobby, serve_in_full
from forkbroker.child.rehearsal import CONNECT, FENCES, SUBSCRIBE, TOPIC, USER, pack_message, play
from forkbroker.child.spare import Spare
from forkbroker.child.transport import PlainTransport
from forkbroker.child.web.porch import WebLobby
from forkbroker.child.web.site import SitePolicy, Visit, make_child
from forkbroker.wire.channel import Channel, open_pair
from forkbroker.wire.envelope import pack
from forkbroker.wire.kinds import Kind

_HEAD = (
    b"GET /ws HTTP/1.1\r\nHost: rehearsal\r\nOrigin: http://rehearsal\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: cmVoZWFyc2FsISEhISEhIQ==\r\n"
    b"Sec-WebSocket-Protocol: v12.stomp, v11.stomp\r\n\r\n"
)
_ODD_HEAD = _HEAD.replace(b"Connection: Upgrade", b"Connection: Upgrade, keep-alive")
"""What a lobby leaves to the full program."""
_SEND = b"SEND\ndestination:%b\n\nhello\0" % TOPIC
_CLOSE = b"\x88\x80" + bytes(4)
_EVENTS = b"GET %b HTTP/1.1\r\nHost: rehearsal\r\nAccept: text/event-stream\r\n%%b\r\n" % TOPIC
_LOGIN = b"Authorization: Basic %b\r\n" % b64encode(f"{USER}:{USER}".encode())


def play_visitors(shared: Shared, answers: Answers, policy: SitePolicy) -> None:
    """Play a tab that gets a program that was prepared, and one that does not (`forkbroker.child.rehearsal`).

    And one that is served without a lobby, as all are behind a proxy, or where a cookie may say who they are. Last, an
    EventSource.
    """
    usual = replace(policy, paths=())

    def make(spare: Spare) -> Lobby:
        return WebLobby(spare, shared, answers, Bell(), usual)

    play(make, shared.max_envelope, is_prepared=True, head=_HEAD, wrap=_wrap)
    play(make, shared.max_envelope, is_prepared=False, head=_HEAD, wrap=_wrap)
    _play_alone(shared, usual)
    _play_watcher(make, shared)


def _wrap(frames: bytes) -> bytes:
    """As a client sends them: in one message, with a mask that changes nothing."""
    return b"\x81\xfe" + len(frames).to_bytes(2) + bytes(4) + frames


def _play_alone(shared: Shared, policy: SitePolicy) -> None:
    """A tab without a lobby. It closes before it has an answer: there is no parent here."""
    spare = Spare()

    def serve(_channel: Channel, client: socket.socket, address: str, peer: int) -> int:
        client.shutdown(socket.SHUT_WR)
        visit = Visit(policy, is_tls=False, is_forwarded=False, is_here=False)
        child = make_child(spare, address, peer, shared, visit, PlainTransport(spare.take_client()))
        return serve_in_full(child, Bell())

    _serve(shared, spare, serve, _ODD_HEAD + b"".join(map(_wrap, (CONNECT, SUBSCRIBE, _SEND))) + _CLOSE)


def _play_watcher(make: Callable[[Spare], Lobby], shared: Shared) -> None:
    """An EventSource that waits in the lobby, if it need not log in, and gets a message and the end."""
    spare = Spare()
    lobby = make(spare)
    lobby.prepare()

    def serve(channel: Channel, client: socket.socket, address: str, peer: int) -> int:
        lobby.meet(address, peer)
        channel.send(pack(Kind.FENCED, number=1))
        channel.flush()
        lobby.attend()
        client.shutdown(socket.SHUT_WR)
        # the full program reads what the client has sent before these
        for envelope in (pack(Kind.FENCED, number=FENCES), pack_message(), pack(Kind.CLOSE, block=b"the end")):
            channel.send(envelope)
        channel.flush()
        return serve_in_full(lobby.leave(), Bell())

    _serve(shared, spare, serve, _EVENTS % (_LOGIN if shared.verifier else b""))


def _serve(
    shared: Shared, spare: Spare, serve: Callable[[Channel, socket.socket, str, int], int], octets: bytes
) -> None:
    """Let this spare serve a client that sends these octets; `serve` gets the parent's and the client's ends, too."""
    parents_end, childs_end = open_pair()
    client, served = socket.socketpair()
    channel = Channel(parents_end, max_envelope=shared.max_envelope)
    with client:
        client.sendall(octets)
        channel.hand(pack(Kind.SERVE, destination=USER.encode()), [served.fileno()])
        served.close()
        spare.programs[0] = partial(serve, channel, client)
        spare.wait(childs_end.detach())
    channel.close()
