"""A client's child that does what its client tells it, a line at a time, and a router that any test can see through.

The client's socket is the test's hand: `connect alice` makes the child say CONNECTED, `crash` makes it crash; what
comes down the channel is reported as a line.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

from forkbroker.errors import EnvelopeError
from forkbroker.routing.news import News
from forkbroker.routing.peers import STORE, Peer
from forkbroker.wire.channel import Channel
from forkbroker.wire.envelope import Buffer, Envelope, pack, pack_pieces, with_fence
from forkbroker.wire.kinds import Flag, Kind

MAX_ENVELOPE = 64 << 20
BLAMED = 666
"""Number of a CLAIMED for which the Switchboard blames the child in its own time."""
LONG_S = 0.3
"""How long it takes the Switchboard to apply a LOST."""
BLOCK = b"-puppet-1\n\n"
"""What a SEND has between its destination and its bodies: the end of the message-id, and no header."""


class Switchboard:
    """A router of the fewest rules: SEND goes to the peer that its destination names, to all others, or to the store.

    SETTLE is told to the store as DELETE, and the end of a peer that has settled something as UPDATE. A PAGE of the
    store goes to the peer that its destination names. LOST takes several turns.
    """

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._peers: list[Peer] = []
        self.out: list[tuple[Peer, Sequence[Buffer]]] = []
        self._asked: dict[Peer, float] = {}
        self.due: float | None = None
        self._told = self._committed = 0
        self._notes: list[str] = []
        self.culprits: dict[Peer, str] = {}
        self.rejected: list[tuple[Peer, str]] = []
        self.asked: list[tuple[Peer, Envelope]] = []
        self.sights = SimpleNamespace(store=(True, "", 0))
        self.moving = self.holding = self.durables = self.delays = None
        self.news = News()
        self._settled: set[Peer] = set()
        self.waiting: dict[Peer, float] = {}
        """Whose LOST is not applied, and until when (seconds)."""

    def add_peer(self, peer: Peer) -> None:
        self._peers.append(peer)

    def receive(self, peer: Peer, envelope: Envelope, now: float) -> None:
        if peer in self.waiting:
            self._logger.info("router: %d is read although it is to wait", peer)
        if envelope.kind is Kind.LOST:
            self.waiting[peer] = now + LONG_S
            self._logger.info("router: %d has begun to wait", peer)
        elif envelope.kind is Kind.SEND:
            self._send(peer, envelope)
        elif envelope.kind is Kind.SUBSCRIBE:
            raise AssertionError(f"peer {peer} is not to subscribe")
        elif envelope.kind is Kind.READY:
            self.due = now + 0.05
        elif envelope.kind is Kind.UNSUBSCRIBE:
            self._asked[peer] = now
        elif envelope.kind is Kind.PASSED:
            self._asked.pop(peer, None)
        elif envelope.kind is Kind.SETTLE:
            self._settled.add(peer)
            self._tell_store(Kind.DELETE)
        elif envelope.kind is Kind.CLAIMED and envelope.number == BLAMED:
            self.culprits[peer] = "it was found out later"
        elif envelope.kind is Kind.TRANSACTION:
            self._notes.append("something happened")
        elif envelope.kind is not Kind.FENCE:
            self._logger.info("router: %s of %d", envelope.kind.name, peer)
        if envelope.flags & Flag.FENCE or envelope.kind is Kind.FENCE:
            self.out.append((peer, pack(Kind.FENCED, number=envelope.number)))

    def _tell_store(self, kind: Kind) -> None:
        self._told += 1
        self.out.append((STORE, pack(kind, number=self._told)))

    def _send(self, peer: Peer, envelope: Envelope) -> None:
        if envelope.destination == b"all":
            self.out.extend((other, [envelope.raw]) for other in self._peers if other != peer)
        elif envelope.destination == b"store":
            self.out.append((STORE, pack(Kind.SPILL, payload=[envelope.raw])))
        else:
            self.out.append((Peer(int(envelope.destination)), [envelope.raw]))

    def peer_ended(self, peer: Peer, now: float, crash: str = "") -> None:
        self._peers.remove(peer)
        self._asked.pop(peer, None)
        if peer in self._settled:
            self._tell_store(Kind.UPDATE)
        self._logger.info("router: %d ended%s", peer, f", crashed: {crash}" if crash else "")

    def receive_stored(self, envelope: Envelope, now: float) -> None:
        if envelope.number > self._told:
            raise AssertionError(f"{envelope.number} is committed, {self._told} were told")
        if envelope.kind is Kind.PAGE:
            self.out.append((Peer(int(envelope.destination)), [envelope.raw]))
            return
        self._logger.info("router: %s %d of the store", envelope.kind.name, envelope.number)
        self._committed = max(self._committed, envelope.number)

    def allot(self, user: str, max_queues: int, max_octets: int, peer: Peer | None = None) -> None:
        pass

    def allotted(self) -> list[str]:
        return []

    def store_ended(self, reason: str) -> None:
        self._logger.info("router: the store ended: %s", reason or "no reason")

    def go_on(self, peer: Peer, now: float) -> None:
        if self.waiting[peer] <= now:
            del self.waiting[peer]
            self._logger.info("router: %d has been waited for", peer)

    @property
    def is_applied(self) -> bool:
        return True

    @property
    def is_committed(self) -> bool:
        return self._committed == self._told

    @property
    def is_behind(self) -> bool:
        return self._told - self._committed >= 1000

    @property
    def awaits_commit(self) -> bool:
        return self._committed != self._told

    def describe(self) -> list[str]:
        return [f"router: {self._told} changes told"]

    def take_events(self) -> list[str]:
        return []

    def take_notes(self) -> list[str]:
        notes, self._notes = self._notes, []
        return notes

    def find_listeners(self, destination: bytes) -> list[Peer]:
        return []

    def note_time(self, now: float) -> None:
        """A second more."""

    def stop_offers(self) -> None:
        self._logger.info("router: no more offers")

    def tick(self, now: float) -> bool:
        if self.due is not None and self.due <= now:
            self.due = None
            self._logger.info("router: tick")
        return True

    def deadline(self) -> float | None:
        return min([*([] if self.due is None else [self.due]), *self.waiting.values()], default=None)

    def find_silent(self, since: float) -> set[Peer]:
        return {peer for peer, asked in self._asked.items() if asked <= since}

    def take(self) -> list[tuple[Peer, Sequence[Buffer]]]:
        taken = self.out.copy()
        self.out.clear()
        return taken


class Puppet:
    """The loop of one client's child."""

    def __init__(self, end: socket.socket, client: socket.socket, peer: int) -> None:
        self.end = end
        self.client = client
        self.peer = peer
        self.channel = Channel(end, max_envelope=MAX_ENVELOPE)
        self.received = 0
        self.flood: list[Buffer] = []
        self.is_quiet = False
        self.answers_quiesce = True
        self.ignores_close = False
        self.status: int | None = None
        self._line = b""

    def run(self) -> int:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        self.client.setblocking(True)
        self.tell(f"peer {self.peer} pid {os.getpid()}")
        while self.status is None:
            wanted = [self.end] if self.flood or self.channel.pending else []
            readable, writable, _ = select.select([self.end, self.client], wanted, [])
            if self.end in readable:
                self.hear()
            if self.client in readable:
                self.obey_all()
            if self.flood and writable and self.channel.pending < 1 << 20:
                self.channel.send(self.flood)
            if self.status is None:
                self.channel.flush()
        return self.status

    def tell(self, text: str) -> None:
        self.client.sendall(text.encode() + b"\n")

    def hear(self) -> None:
        for envelope in self.channel.receive():
            self.received += len(envelope.raw)
            if envelope.kind is Kind.QUIESCE and self.answers_quiesce:
                self.channel.send(pack(Kind.QUIESCED))
            if envelope.kind is Kind.CLOSE and not self.ignores_close:
                self.leave(envelope.block.decode())
            if not self.is_quiet:
                self.tell(f"got {envelope.kind.name} {envelope.token} {len(envelope.raw)}")
        if self.channel.closed:
            self.status = 0

    def obey_all(self) -> None:
        data = self.client.recv(65536)
        if not data:
            self.leave("client sent DISCONNECT")
            return
        *lines, self._line = (self._line + data).split(b"\n")
        for line in lines:
            verb, *words = line.decode().split(" ")
            getattr(self, "do_" + verb.replace("-", "_"))(*words)

    def leave(self, reason: str, flags: int = 0) -> None:
        self.channel.send(pack(Kind.LEAVING, flags=flags, block=reason.encode(), number=40112, serial=118))
        while not self.channel.flush():
            select.select([], [self.end], [])
        self.status = 0

    def do_connect(self, login: str) -> None:
        self.channel.send(pack(Kind.CONNECTED, destination=login.encode()))

    def do_kind(self, name: str, count: str = "1") -> None:
        for _ in range(int(count)):
            self.channel.send(pack(Kind[name]))

    def do_send(self, destination: str, size: str) -> None:
        self.channel.send(pack(Kind.SEND, destination=destination.encode(), payload=[bytes(int(size))]))

    def do_publish(self, destination: str, body: str) -> None:
        flags, payload = pack_pieces([body.encode()])
        self.channel.send(
            pack(Kind.SEND, flags=flags, count=1, destination=destination.encode(), block=BLOCK, payload=payload)
        )

    def do_subscribe(self, destination: str, credit: str = "10") -> None:
        envelope = pack(Kind.SUBSCRIBE, flags=Flag.AUTO, token=1, count=int(credit), destination=destination.encode())
        self.channel.send(with_fence(envelope, 1))

    def do_flood(self, destination: str, size: str) -> None:
        self.flood = pack(Kind.SEND, destination=destination.encode(), payload=[bytes(int(size))])

    def do_calm(self) -> None:
        self.flood = []

    def do_quiet(self) -> None:
        self.is_quiet = True

    def do_count(self) -> None:
        self.tell(f"received {self.received}")

    def do_raw(self, octets: str) -> None:
        self.channel.send([bytes.fromhex(octets)])

    def do_garbage(self) -> None:
        self.end.send(b"\xff" * 64)

    def do_huge(self) -> None:
        self.end.send((1 << 29).to_bytes(4, "big") + bytes(60))

    def do_warn(self) -> None:
        self.leave("memory is short", Flag.WARNING)

    def do_leave_and_wait(self) -> None:
        self.leave("client sent DISCONNECT")
        self.status = None

    def do_leave_and_die(self) -> None:
        self.leave("client sent DISCONNECT")
        os.kill(os.getpid(), signal.SIGKILL)

    def do_claim_and_die(self) -> None:
        self.end.send(b"".join(pack(Kind.CLAIMED)))
        os.kill(os.getpid(), signal.SIGKILL)

    def do_crash(self) -> None:
        os.kill(os.getpid(), signal.SIGSEGV)

    def do_exit(self, status: str) -> None:
        self.status = int(status)

    def do_hang_up(self) -> None:
        self.channel.close()
        self.tell("hung up")
        signal.pause()

    def do_stop(self) -> None:
        self.tell("stopping")
        os.kill(os.getpid(), signal.SIGSTOP)
        self.tell("continued")

    def do_refuse_quiesce(self) -> None:
        self.answers_quiesce = False

    def do_refuse_close(self) -> None:
        self.ignores_close = True

    def do_descriptors(self) -> None:
        self.tell(f"descriptors {len(list(Path('/dev/fd').iterdir()))}")


def main(end: socket.socket, client: socket.socket, _address: str, peer: int) -> int:
    """The program for a client's child."""
    try:
        return Puppet(end, client, peer).run()
    except (ConnectionError, EnvelopeError):
        return 1
