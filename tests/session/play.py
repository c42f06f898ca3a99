"""Both neighbours of a session, played by the test: a client that reads strictly, and the parent, by hand or routed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import count as counting

from forkbroker.identity import Identity
from forkbroker.permissions import Permissions, Rights, unlimited
from forkbroker.routing.peers import STORE, Peer
from forkbroker.routing.queues.policies import Policy
from forkbroker.routing.router import Router
from forkbroker.session.budget import Budget
from forkbroker.session.connecting import Connecting
from forkbroker.session.own_destinations import OwnDestinations
from forkbroker.session.policy import SessionPolicy
from forkbroker.session.session import Session
from forkbroker.session.setup import Setup
from forkbroker.session.subscriptions import Subscriptions
from forkbroker.stomp.limits import Limits
from forkbroker.wire.details import PLAIN, Details
from forkbroker.wire.envelope import Buffer, Envelope, pack, pack_run
from forkbroker.wire.kinds import Kind

WALL_S = 1_800_000_000.0
"""Seconds since the epoch when a broker's clock stands at 0."""
_ESCAPES = {"1.0": {}, "1.1": {"n": "\n", "c": ":", "\\": "\\"}, "1.2": {"n": "\n", "c": ":", "\\": "\\", "r": "\r"}}


@dataclass
class Got:
    """A frame as a client of one version reads it."""

    command: str
    headers: dict[str, str]
    body: bytes
    repeated: list[str] = field(default_factory=list)

    def __getitem__(self, name: str) -> str:
        return self.headers[name]


def _decode(text: str, version: str) -> str:
    escapes = _ESCAPES[version]
    decoded, letters = "", iter(text)
    for letter in letters:
        if letter == "\\" and version != "1.0":
            decoded += escapes[next(letters)]
        else:
            assert letter != ":" or version == "1.0", f"a raw colon in {text!r}"
            decoded += letter
    return decoded


def read_frames(data: bytes, version: str) -> list[Got]:
    """Parse what a server sent, by the letter; a frame that isn't whole fails."""
    frames: list[Got] = []
    at = 0
    while at < len(data):
        if data[at : at + 1] == b"\n":
            at += 1
            continue
        block_end = data.index(b"\n\n", at)
        command, *lines = data[at:block_end].decode("utf-8", "surrogateescape").split("\n")
        is_plain = command == "CONNECTED"
        got = Got(command, {}, b"")
        for line in lines:
            name, colon, value = line.partition(":")
            assert colon and name, line
            if not is_plain:
                name, value = _decode(name, version), _decode(value, version)
            if name in got.headers:
                got.repeated.append(name)
            got.headers.setdefault(name, value)
        start = block_end + 2
        end = (
            start + int(got.headers["content-length"]) if "content-length" in got.headers else data.index(b"\0", start)
        )
        assert data[end : end + 1] == b"\0"
        got.body = data[start:end]
        frames.append(got)
        at = end + 1
    return frames


def frame(command: str, headers: dict[str, object] | None = None, body: bytes = b"") -> bytes:
    """A frame as a client sends it; the headers are written as they are."""
    lines = "".join(f"{name}:{value}\n" for name, value in (headers or {}).items())
    return f"{command}\n{lines}\n".encode("utf-8", "surrogateescape") + body + b"\0"


def joined(buffers: Iterable[Buffer]) -> Envelope:
    """What the other side of a channel makes of an envelope."""
    return Envelope(b"".join(buffers))


class Client:
    """One connection with its client; `session` is what stands for it now, and the clock is `now`."""

    def __init__(
        self,
        version: str = "1.2",
        policy: SessionPolicy | None = None,
        *,
        limits: Limits | None = None,
        session_id: str = "s1",
        try_claim: Callable[[int], bool] | None = None,
        crash: Callable[[str], None] | None = None,
        rights_of: Callable[[Identity], Rights] = unlimited,
        permissions: Permissions | None = None,
    ) -> None:
        self.version = version
        self.now = 1000.0
        self.claims: list[int] = []
        self._secret = b"secret of " + session_id.encode()
        try_claim = try_claim or self._claim_always
        setup = Setup(
            policy or SessionPolicy(),
            limits or Limits(),
            session_id,
            self._secret,
            try_claim,
            None,
            crash,
            rights_of,
            permissions or Permissions(),
        )
        self.session: Connecting | Session = Connecting(setup, self._begin, self.now)
        self.inbox: list[Got] = []
        """All that was written to the client."""
        self.is_reading = True
        self._offer = 0

    def _begin(self, session: Session) -> None:
        self.session = session

    def _claim_always(self, slot: int) -> bool:
        self.claims.append(slot)
        return True

    def shared_name(self, text: str) -> str:
        """What others call this temporary destination of the client's."""
        name = OwnDestinations(self._secret, "error").reply_name(text)
        assert name is not None
        return name

    def receive(self, *data: bytes) -> None:
        """The client sends."""
        self.session.receive(b"".join(data), self.now)

    def do(self, command: str, body: bytes = b"", **headers: object) -> None:
        """The client sends one frame; `_` in a header's name stands for `-`."""
        self.receive(frame(command, {name.replace("_", "-"): value for name, value in headers.items()}, body))

    def connect(self, **headers: object) -> Got:
        """Log in, and give CONNECTED. The parent gets to know."""
        asked = {} if self.version == "1.0" else {"accept-version": self.version, "host": "h"}
        self.receive(frame("CONNECT", {**asked, **{k.replace("_", "-"): v for k, v in headers.items()}}))
        (connected,) = self.read()
        assert connected.command == "CONNECTED", connected
        assert [e.kind for e in self.told()] == [Kind.CONNECTED]
        return connected

    def subscribe(
        self, destination: str, ack: str = "auto", subscription_id: str | None = "1", **headers: object
    ) -> int:
        """Subscribe, let the parent register it, and give the token."""
        ids = {} if subscription_id is None else {"id": subscription_id}
        self.do("SUBSCRIBE", destination=destination, ack=ack, **ids, **headers)
        (envelope,) = self.told()
        assert envelope.kind is Kind.SUBSCRIBE
        self.pass_fence()
        return envelope.token

    def raw(self) -> bytes:
        """The octets that wait for the client; they are written now."""
        data = b""
        while self.session.unwritten.pending:
            in_file = self.session.unwritten.next_file()
            if in_file is None:
                part = b"".join(bytes(buffer) for buffer in self.session.unwritten.gather())
            else:
                file, offset, octets = in_file
                part = file.read(offset, octets)
            data += part
            self.session.unwritten.written(len(part), self.now)
            self.session.end_turn(self.now)
        return data

    def read(self) -> list[Got]:
        """The frames that wait for the client; they are written now."""
        frames = read_frames(self.raw(), self.version)
        self.inbox += frames
        return frames

    def told(self) -> list[Envelope]:
        """What the parent was told since the last call."""
        self.session.end_turn(self.now)
        return [joined(buffers) for buffers in self.session.upward.take()]

    def down(self, kind: Kind, **fields: object) -> None:
        """The parent sends."""
        self.session.receive_envelope(joined(pack(kind, **fields)), self.now)  # type: ignore[arg-type]

    def pass_fence(self, number: int | None = None) -> None:
        """The parent has applied all up to this fence, or to the last one."""
        self.down(Kind.FENCED, number=self.session.upward.last_fence if number is None else number)

    def forward(self, envelope: Envelope) -> None:
        """The parent forwards a topic's batch."""
        again = Envelope(envelope.raw)
        if envelope.kind is Kind.RENDERED and envelope.number:
            again.file = envelope.file
        self.session.receive_envelope(again, self.now)

    def offer(
        self,
        message: Envelope,
        token: int,
        *,
        first: int = 0,
        count: int | None = None,
        serial: int = 1,
        deliveries: int = 0,
        queue: bytes = b"",
        details: Details = PLAIN,
        kind: Kind = Kind.OFFER,
        slot: int | None = None,
    ) -> None:
        """The parent offers messages of a SEND, by default in the queue to which it was sent."""
        self._offer += 1
        buffers = pack_run(
            kind,
            message,
            first=first,
            count=message.count if count is None else count,
            token=token,
            slot=self._offer % 8 if slot is None else slot,
            number=self._offer,
            serial=serial,
            deliveries=deliveries,
            destination=queue or message.destination,
            details=details,
        )
        self.session.receive_envelope(joined(buffers), self.now)

    def wait(self, seconds: float) -> None:
        """Time passes; the session is woken when it wants to be, as the child's loop does."""
        end = self.now + seconds
        for _ in range(1000):
            if self.session.wake_at > end:
                break
            self.now = max(self.now, self.session.wake_at)
            self.session.tick(self.now)
            if self.is_reading:
                self.read()
        else:
            raise AssertionError("the session wants to be woken again and again")
        self.now = end

    def error(self) -> Got:
        """The ERROR that ended the session, and nothing else since the last read."""
        (got,) = self.read()
        assert got.command == "ERROR", got
        assert self.session.ending.is_over
        return got


def sent(
    destination: str,
    *bodies: bytes,
    version: str = "1.2",
    headers: dict[str, object] | None = None,
    session_id: str = "pub",
) -> Envelope:
    """The envelope that these SENDs become."""
    publisher = Client(version, session_id=session_id)
    publisher.connect()
    names = {"destination": destination, **(headers or {})}
    publisher.receive(*(frame("SEND", names | {"content-length": len(body)}, body) for body in bodies))
    (envelope,) = publisher.told()
    return envelope


def no_subscriptions(first_token: int = 1) -> Subscriptions:
    """A client's subscriptions, with room for many."""
    return Subscriptions(Budget(1 << 40), 10_000, first_token)


class Semaphores:
    """The pool, in one process."""

    def __init__(self, size: int = 8) -> None:
        self.size = size
        self._values = [0] * size

    def post(self, slot: int) -> None:
        self._values[slot] += 1

    def try_acquire(self, slot: int) -> bool:
        if self._values[slot]:
            self._values[slot] -= 1
            return True
        return False


class Broker:
    """A router, its sessions, and a store that commits what it is told, joined by lists: a broker in one process."""

    def __init__(
        self,
        routing: Policy | None = None,
        policy: SessionPolicy | None = None,
        permissions: Permissions | None = None,
    ) -> None:
        self.now = 1000.0
        self._policy = policy
        self._permissions = permissions or Permissions()
        self._slots = Semaphores()
        self.router = Router(routing or Policy(), self._slots, lambda: WALL_S + self.now)
        self.router.receive_stored(joined(pack(Kind.OPENING, serial=1)), self.now)
        self.router.receive_stored(joined(pack(Kind.OPENED)), self.now)
        self.is_committing = True
        """The store does its work; else what waits for it waits."""
        self._told = 0
        self._committed = 0
        self.clients: dict[Peer, Client] = {}
        self._numbers = counting(1)
        self.flow: list[Kind] = []
        """What children told that is the parent's business, not the router's."""

    def client(self, version: str = "1.2", policy: SessionPolicy | None = None, **headers: object) -> Client:
        """Another client, logged in."""
        peer = Peer(next(self._numbers))
        client = Client(
            version,
            policy or self._policy,
            session_id=f"s{peer}",
            try_claim=self._slots.try_acquire,
            rights_of=self._rights_of,
            permissions=self._permissions,
        )
        self.router.add_peer(peer)
        self.clients[peer] = client
        client.connect(**headers)
        return client

    def _rights_of(self, identity: Identity) -> Rights:
        if self._permissions.grants is None:
            return unlimited(identity)
        return self._permissions.rights_of(identity, is_local=False)

    def run(self) -> None:
        """Let all turn until nothing happens any more."""
        for _ in range(1000):
            if not self._turn():
                return
        raise AssertionError("the broker does not come to rest")

    def _turn(self) -> bool:
        has_happened = False
        for peer, client in list(self.clients.items()):
            for envelope in client.told():
                if envelope.kind in (Kind.CONGESTED, Kind.RELIEVED):
                    self.flow.append(envelope.kind)
                else:
                    self.router.receive(peer, envelope, self.now)
                has_happened = True
        for peer in list(self.router.waiting):
            self.router.go_on(peer, self.now)
            has_happened = True
        self.router.tick(self.now)
        for peer, buffers in self.router.take():
            if peer == STORE:
                self._told = max(self._told, joined(buffers).number)
            elif peer in self.clients:
                self.clients[peer].session.receive_envelope(joined(buffers), self.now)
            has_happened = True
        if self.is_committing and self._committed < self._told:
            self._committed = self._told
            self.router.receive_stored(joined(pack(Kind.COMMITTED, number=self._told)), self.now)
            has_happened = True
        for client in self.clients.values():
            if client.is_reading and client.session.unwritten.pending:
                client.read()
                has_happened = True
        return has_happened

    def end(self, client: Client) -> None:
        """The client's process is gone."""
        (peer,) = (peer for peer, other in self.clients.items() if other is client)
        for envelope in client.told():
            self.router.receive(peer, envelope, self.now)
        del self.clients[peer]
        self.router.peer_ended(peer, self.now)


def bodies(client: Client) -> list[bytes]:
    """The bodies of the MESSAGEs that the client has got."""
    return [got.body for got in client.inbox if got.command == "MESSAGE"]


def receipts(client: Client) -> list[str]:
    """The RECEIPTs that the client has got."""
    return [got["receipt-id"] for got in client.inbox if got.command == "RECEIPT"]
