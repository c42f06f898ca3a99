#!/usr/bin/env python3
"""Reloads under load, with clients of all kinds: who may stay, stays; who may not, goes; nobody else comes in.

Clients come by each of the ways that there are, plain and encrypted, with passcode, certificate and token, by a Unix
socket and through a proxy. They send and consume, hold jobs and open transactions, come back to durable subscriptions,
or only listen. Meanwhile the configuration changes in all that a reload can change, or has a mistake, and then it
changes nothing. What is looked for:

- a client that keeps its rights gets no ERROR and no end, and what it is sent is complete and in order;
- a client that loses a right that it uses gets an ERROR that says so, and nothing more that it may not have;
- what such a client held goes back, and none of it is lost;
- who has no right is not let in, before, between and behind the reloads.

The tests do it with some clients, and this program with as many as it is told: `reloads.py --clients 1000`.
"""

from __future__ import annotations

import argparse
import resource
import select
import ssl
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

import jwt  # noqa: E402 (found by the line above)
from broker.test_users import line as user_line  # noqa: E402
from cryptography.hazmat.primitives import serialization  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import ec  # noqa: E402
from faults.scene import Client  # noqa: E402
from support.certificates import make_certificate  # noqa: E402
from support.deadline import stretched  # noqa: E402
from support.filebroker import FileBroker  # noqa: E402
from support.rawclient import Frame  # noqa: E402

PROXY = "127.0.0.9"
"""Who connects from here says first for whom."""
WINDOW = 4
"""Messages of a producer whose RECEIPT has not come."""
IN_HAND = 3
"""Jobs that a consumer has not acknowledged."""
NEWS = "/topic/news"
STAFF = ("alice", "dora", "greg", "certa", "toni", "paul")
"""Users of the group with all rights; certa shows a certificate, toni a token, paul comes by the proxy."""
PATIENCE_S = 120.0


@dataclass(eq=False)
class Member:
    """A client, and what it was told."""

    name: str
    client: Client
    errors: list[str] = field(default_factory=list)
    is_condemned: bool = False
    """It has lost a right that it uses: it must end."""
    receipts: int = 0
    waiting: dict[str, Callable[[], None]] = field(default_factory=dict)
    deliver: Callable[[Frame], None] = lambda _frame: None
    act: Callable[[], None] = lambda: None

    def read(self) -> None:
        """All that has come."""
        for frame in self.client.take():
            if frame.command == "RECEIPT":
                self.waiting.pop(frame["receipt-id"])()
            elif frame.command == "ERROR":
                self.errors.append(f"{frame['message']} {frame.body.decode()}")
            else:
                self.deliver(frame)

    def subscribe(self, destination: str, name: str, **headers: object) -> None:
        """Have a subscription, and what comes at once."""
        self.client.subscribe(destination, name, **headers)
        self.read()

    def ask(self, then: Callable[[], None], command: str, body: bytes = b"", **headers: object) -> None:
        """Say something that has a RECEIPT, and do `then` when it comes."""
        self.receipts += 1
        self.waiting[str(self.receipts)] = then
        self.client.send(command, body=body, receipt=self.receipts, **headers)


@dataclass(eq=False)
class Line:
    """The numbered messages of one producer to one queue or topic, and what of them has come where."""

    destination: str
    producer: str = ""
    sent: int = 0
    confirmed: int = 0
    acknowledged: int = 0
    sent_before: int = 0
    """Up to the last reload."""
    first: int = 0
    """Of those that whoever has joined last can get: what came before was acknowledged."""
    got: dict[str, list[int]] = field(default_factory=dict)
    """By receiver."""


class Scene:
    """A broker, its files, its clients, and what is known of them. Use it in a `with` block."""

    def __init__(self, directory: Path, clients: int) -> None:
        """So many clients, and some more."""
        self._directory = directory
        self._clients = clients
        self._stack = ExitStack()
        self.members: list[Member] = []
        self.lines: list[Line] = []
        self.faults: list[str] = []
        self.is_ending = False
        """Producers have sent all, and consumers acknowledge all."""
        self._key, self._other_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        self._server = make_certificate(directory, "broker")
        self._certa, self._eve = make_certificate(directory, "certa"), make_certificate(directory, "eve")
        (directory / "ca.pem").write_bytes(self._certa[0].read_bytes())
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        public = self._key.public_key().public_bytes(serialization.Encoding.PEM, form)
        (directory / "token.pem").write_bytes(public)
        self.write_users("alice", "dora", "greg", "paul", "nemo")
        self.trust_new()

    def __enter__(self) -> Scene:
        self.broker = FileBroker(self._directory, self.configure())
        self._stack.callback(self._stop)
        return self

    def __exit__(self, *_: object) -> None:
        for member in self.members:
            member.client.close()
        self._stack.close()

    def _stop(self) -> None:
        status = self.broker.stop()
        if status or "Traceback" in self.broker.log:
            self.faults.append(f"the broker ended with {status}; its log: {self.broker.log[-2000:]}")

    # -- files

    def write_users(self, *names: str) -> None:
        """The password file has these, whose passcodes are their names."""
        path = self._directory / "users"
        path.touch(0o600)
        path.write_text("".join(user_line(name, name, ln=4) for name in names))

    def path(self, name: str) -> str:
        """Of a Unix socket."""
        return f"{self._directory}/{name}"

    def renew_certificate(self) -> None:
        """The broker's file has another one. Clients trust both until `trust_new`."""
        old = self._server[0].read_text()
        make_certificate(self._directory, "broker")
        (self._directory / "trusted.pem").write_text(old + self._server[0].read_text())

    def trust_new(self) -> None:
        """New clients trust the certificate in the broker's file alone."""
        (self._directory / "trusted.pem").write_bytes(self._server[0].read_bytes())

    @contextmanager
    def broken_certificate(self) -> Iterator[None]:
        """The file of the certificate has none meanwhile."""
        octets = self._server[0].read_bytes()
        self._server[0].write_text("broken")
        yield
        self._server[0].write_bytes(octets)

    def _trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.path("trusted.pem"))

    def configure(self, *, staff: tuple[str, ...] = STAFF, more: str = "", tables: str = "", second: str = "a") -> str:
        """The configuration: who is of the staff, further keys and tables, and the name of a second Unix socket."""
        where = self._directory
        rights = "\n".join(
            f'{right} = ["/queue/>", "/dsub/>", "{NEWS}", "/topic/lasting"]' for right in ("read", "write", "create")
        )
        return (
            f'listen = ["127.0.0.1:0", "tls://127.0.0.1:0", "unix:{where}/s", "unix:{where}/{second}"]\n'
            f'users = "{where}/users"\ntls-certificate = "{self._server[0]}"\ntls-key = "{self._server[1]}"\n'
            f'tls-client-ca = "{where}/ca.pem"\ntls-client-certificates = "optional"\ntls-client-user = "cn"\n'
            f'proxy-address = "{PROXY}"\nmax-clients = {self._clients + 200}\nmax-clients-per-address = 0\n'
            f'connect-timeout = "5min"\n{more or self.with_tokens}'
            f"[groups]\nstaff = {list(staff)}\n[permissions.group.staff]\n{rights}\n{tables}"
        )

    @property
    def with_tokens(self) -> str:
        """The key that lets tokens in."""
        return f'token-key = "{self._directory}/token.pem"\n'

    # -- doors

    def _port(self, scheme: str) -> int:
        (address,) = [one for one in self.broker.addresses if one.startswith(scheme)]
        return int(address.rpartition(":")[2])

    def _token(self, key: object, user: str) -> str:
        return jwt.encode({"sub": user, "exp": time.time() + 3600}, key, "ES256")  # type: ignore[arg-type]

    def _encrypted(self, own: tuple[Path, Path] | None) -> Client:
        client = Client(self._port("tls://"))
        context = self._trust()
        if own is not None:
            context.load_cert_chain(*own)
        client.encrypt(context, "broker")
        return client

    def _proxied(self, address: str = "192.0.2.9") -> Client:
        client = Client(self.broker.port, source=PROXY)
        client.send_raw(f"PROXY TCP4 {address} 198.51.100.7 40112 61613\r\n".encode())
        return client

    def open(self, door: str, user: str = "") -> Member:
        """A client that comes by this door, and is let in."""
        client, headers = self.knock(door, user)
        try:
            client.login(headers=headers)
        except BaseException:
            client.close()
            raise
        member = Member(f"{door}-{len(self.members)}", client)
        self.members.append(member)
        return member

    def knock(self, door: str, user: str = "") -> tuple[Client, dict[str, str]]:
        """A client before this door, and what it shows with CONNECT."""
        if door == "plain":
            user = user or "alice"
            return Client(self.broker.port), {"login": user, "passcode": user}
        if door == "tls":
            return self._encrypted(None), {"login": user or "alice", "passcode": user or "alice"}
        if door == "certificate":
            return self._encrypted(self._certa), {}
        if door == "unix":
            return Client(f"{self._directory}/s"), {}
        if door == "token":
            return Client(self.broker.port), {"Authorization": f"Bearer {self._token(self._key, 'toni')}"}
        assert door == "proxy"
        return self._proxied(), {"login": "paul", "passcode": "paul"}

    # -- what clients do

    def subscribe(self, member: Member, line: Line, name: str = "1", **headers: object) -> None:
        """Let a client have what comes on a line."""
        line.got[member.name] = []
        member.deliver = lambda frame: line.got[member.name].append(int(frame.body))
        member.subscribe(line.destination, name, **headers)

    def produce(self, member: Member, line: Line, every_s: float = 0.0) -> None:
        """Let a client send, each message when there is room in its window, and not more often than told."""
        next_at = 0.0

        def confirm() -> None:
            line.confirmed += 1

        def act() -> None:
            nonlocal next_at
            now = time.monotonic()
            if self.is_ending or line.sent - line.confirmed >= WINDOW or now < next_at:
                return
            next_at = now + every_s
            member.ask(confirm, "SEND", str(line.sent).encode(), destination=line.destination)
            line.sent += 1

        member.act, line.producer = act, member.name
        self.lines.append(line)

    def work(self, member: Member, line: Line) -> None:
        """Let a client consume a queue, with some jobs in hand."""
        held: list[str] = []
        line.got[member.name] = []

        def deliver(frame: Frame) -> None:
            line.got[member.name].append(int(frame.body))
            held.append(frame["ack"])

        def confirm() -> None:
            line.acknowledged += 1

        def act() -> None:
            while len(held) > (0 if self.is_ending else IN_HAND):
                member.ask(confirm, "ACK", id=held.pop(0))

        member.deliver, member.act = deliver, act
        member.subscribe(line.destination, "1", ack="client-individual", prefetch_count=10)

    def trade(self, member: Member, line: Line) -> None:
        """Let a client send in transactions of three, each of which is open for a while."""
        step = 0

        def confirm() -> None:
            line.confirmed += 3

        def act() -> None:
            nonlocal step
            if step == 0 and (self.is_ending or line.sent > line.confirmed):
                return
            name = f"t{line.confirmed}"
            if step == 0:
                member.client.send("BEGIN", transaction=name)
            elif step % 10 == 0:
                body = str(line.sent).encode()
                member.client.send("SEND", body=body, destination=line.destination, transaction=name)
                line.sent += 1
            step += 1
            if step > 30:
                member.ask(confirm, "COMMIT", transaction=name)
                step = 0

        member.act, line.producer = act, member.name
        self.lines.append(line)

    def listen_lastingly(self, member: Member, line: Line, door: str) -> None:
        """Let a client have a durable subscription, and leave and come back now and then."""
        leaves_at = time.monotonic() + 1.0
        self.subscribe(member, line, f"kept-{member.name}", durable="true", auto_delete="false")

        def come_back() -> None:
            nonlocal leaves_at
            member.client.close()
            member.client, headers = self.knock(door)
            try:
                member.client.login(headers=headers)
                member.subscribe(line.destination, f"kept-{member.name}", durable="true", auto_delete="false")
            except AssertionError as error:
                # who comes in the moment of a reload may be sent away; the next one is some time later
                if "log in again" not in str(error):
                    raise
                come_back()
            leaves_at = time.monotonic() + 1.0

        def act() -> None:
            if not member.waiting and not self.is_ending and time.monotonic() > leaves_at:
                member.ask(come_back, "DISCONNECT")

        member.act = act

    def populate(self) -> None:
        """All clients come; each door for each trade."""
        doors = ("plain", "tls", "certificate", "unix", "token", "proxy")
        news, lasting = Line(NEWS), Line("/topic/lasting")
        for number, door in enumerate(doors * 2):
            line = Line(f"/queue/pair.{number}")
            self.work(self.open(doors[(number + number // 6) % 6]), line)
            (self.trade if number % 3 == 2 else self.produce)(self.open(door), line)
        for door in doors:
            self.listen_lastingly(self.open(door), lasting, door)
        for _, door in zip(range(self._clients - len(self.members)), cycle(doors), strict=False):
            self.subscribe(self.open(door), news)
        self.produce(self.open("tls"), news, every_s=0.1)
        self.produce(self.open("proxy"), lasting, every_s=0.05)

    # -- what may have gone wrong

    def expect_words(self, member: Member, words: str) -> None:
        """Somebody who has lost a right must have been told so, once."""
        if len(member.errors) != 1 or words not in member.errors[0]:
            self.faults.append(f"{member.name} was to be told {words!r}: {member.errors}")

    # -- time

    def turn(self) -> None:
        """Everybody reads what has come, and does what is to be done."""
        poll = select.poll()
        by_fd = {member.client.fileno(): member for member in self.members if not member.client.has_ended}
        for fd in by_fd:
            poll.register(fd, select.POLLIN)
        for fd, _ in poll.poll(10):
            by_fd[fd].read()
        for member in self.members:
            if not (member.client.has_ended or member.is_condemned):
                member.act()

    def run(self, seconds: float) -> None:
        """So long."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.turn()

    def run_until(self, condition: Callable[[], object], what: str) -> None:
        """Until something has come true."""
        give_up = time.monotonic() + stretched(PATIENCE_S)
        while not condition():
            assert time.monotonic() < give_up, f"waited in vain: {what}; {self.describe()}"
            self.turn()

    def describe(self) -> str:
        """What is wrong until now, and the end of the log."""
        return f"{self.find_faults()[:20]}; the log ends in {self.broker.log[-2000:]}"

    def reload(self, text: str, expected: str) -> None:
        """Change the configuration under load."""
        self.run(0.5)
        self.broker.begin_reload(text)
        said: list[str] = []
        self.run_until(lambda: said.append(self.broker.end_reload()) or said[-1], "a word about the reload")
        for line in self.lines:
            line.sent_before = line.sent
        if expected not in said[-1]:
            self.faults.append(f"the reload was to say {expected!r}: {said[-1]}")
        self.run(0.5)
        self.look_at_doors()

    def look_at_doors(self) -> None:
        """Those that must be refused come, and are told so, as often as they come."""
        wrong: list[tuple[str, Client, dict[str, str]]] = [
            ("a wrong passcode", Client(self.broker.port), {"login": "alice", "passcode": "x"}),
            ("an unknown user", Client(self.broker.port), {"login": "eve", "passcode": "eve"}),
            ("no login", Client(self.broker.port), {}),
            ("another one's token", Client(self.broker.port), {"passcode": self._token(self._other_key, "toni")}),
            ("no certificate", self._encrypted(None), {}),
            ("another login by a Unix socket", Client(f"{self._directory}/s"), {"login": "alice"}),
            ("a wrong passcode by the proxy", self._proxied("198.51.100.1"), {"login": "paul", "passcode": "x"}),
        ]
        for _, client, headers in wrong:
            client.send("CONNECT", {"accept-version": "1.2", "host": "x", **headers})
        self.run(1.1)
        for what, client, _ in wrong:
            with client:
                said = client.receive()
                if said.command != "ERROR":
                    self.faults.append(f"{what} was let in: {said}")
        try:
            with self._encrypted(self._eve) as client:
                client.send("CONNECT", accept_version="1.2", host="x")
                if client.receive().command != "ERROR":
                    self.faults.append("an unknown certificate was let in")
        except (OSError, AssertionError):
            pass  # the handshake has failed
        # nemo is a user without any right
        for command, destination in (("SUBSCRIBE", NEWS), ("SEND", "/queue/pair.0"), ("SUBSCRIBE", "/queue/pair.0")):
            client, headers = self.knock("plain", "nemo")
            with client:
                client.login(headers=headers)
                client.send(command, destination=destination, id="1")
                said = client.receive()
                if said.command != "ERROR" or said["message"] != "permission denied":
                    self.faults.append(f"a user without rights could {command}: {said}")

    # -- the end

    def finish(self) -> None:
        """Let everything that was sent arrive, and see what is wrong."""
        self.is_ending = True
        self.run_until(self._is_complete, "all receipts and messages")
        self.faults += self.find_faults()

    @property
    def staying(self) -> dict[str, Member]:
        """Those that keep their rights."""
        return {member.name: member for member in self.members if not member.is_condemned}

    def _is_complete(self) -> bool:
        """Whether all that was sent by those that stay has come to those that stay."""
        staying = self.staying
        return (
            not any(member.waiting for member in staying.values())
            and all(line.sent == line.confirmed for line in self.lines if line.producer in staying)
            and all(
                len(got) + line.first >= (line.sent if line.producer in staying else line.confirmed)
                for line in self.lines
                for name, got in line.got.items()
                if name in staying
            )
        )

    def find_faults(self) -> list[str]:
        """What is wrong with those that stay, and with what they got."""
        faults = [
            f"{member.name} has ended: {member.errors}"
            for member in self.members
            if not member.is_condemned and (member.client.has_ended or member.errors)
        ]
        staying = self.staying
        for line in self.lines:
            least = line.sent if line.producer in staying else line.confirmed
            for name, got in line.got.items():
                end = line.first + len(got)
                wrong = [(place, number) for place, number in enumerate(got, line.first) if place != number]
                if name in staying and (wrong or not least <= end <= line.sent):
                    faults.append(
                        f"{name} got {line.first} to {end} of {line.destination}, of which {least} to {line.sent} were "
                        f"sent; places and numbers: {wrong[:5]}"
                    )
        return faults


def play(directory: Path, clients: int) -> tuple[list[str], str]:
    """All of it with so many clients: what was wrong, and what happened in figures."""
    began = time.monotonic()
    with Scene(directory, clients) as scene:
        dora, greg, held = scene.open("plain", "dora"), scene.open("tls", "greg"), Line("/queue/held")
        scene.work(dora, held)
        scene.subscribe(greg, Line(NEWS))
        scene.produce(scene.open("plain"), held, every_s=0.05)
        half_open = [scene.knock("plain", user) for user in ("alice", "greg")]
        scene.populate()
        scene.look_at_doors()
        staff = tuple(name for name in STAFF if name != "dora")
        take_rights(scene, staff, dora, greg, held)
        come_late(scene, half_open)
        make_mistake(scene)
        renew(scene, staff)
        make_another_mistake(scene)
        inherit(scene, dora, held)
        close_a_way(scene, staff)
        scene.finish()
        sent = sum(line.sent for line in scene.lines)
        got = sum(len(got) for line in scene.lines for got in line.got.values())
    took = time.monotonic() - began
    return scene.faults, f"{len(scene.members):,} clients, {sent:,} messages, {got:,} deliveries, {took:.0f} s"


def take_rights(scene: Scene, staff: tuple[str, ...], dora: Member, greg: Member, held: Line) -> None:
    """Rights, users, limits and the level of the log change: dora loses a right, greg is no user any more."""
    scene.write_users("alice", "dora", "paul", "nemo", "nina")
    dora.is_condemned = greg.is_condemned = True
    more = f'{scene.with_tokens}log-level = "debug"\nmax-headers = 40\n'
    scene.reload(scene.configure(staff=staff, more=more), "info  reload: done, ")
    scene.run_until(lambda: dora.client.has_ended and greg.client.has_ended, "the ends of dora and greg")
    scene.expect_words(dora, "user 'dora' lacks the right read for '/queue/held'")
    scene.expect_words(greg, "the user may not log in any more")
    if max(held.got[dora.name]) >= held.sent_before:
        scene.faults.append(f"dora got what was sent when she had no right: {held}")


def come_late(scene: Scene, half_open: list[tuple[Client, dict[str, str]]]) -> None:
    """Two clients have connected before that, and log in now: alice still may."""
    for client, headers in half_open:
        with client:
            client.send("CONNECT", {"accept-version": "1.2", "host": "x", **headers})
            client.send("SUBSCRIBE", destination=NEWS, id="1", receipt="r")
            told = [client.receive().command]
            while told[-1] not in ("RECEIPT", "ERROR"):
                told.append(client.receive().command)
            if (told[-1] == "RECEIPT") != (headers["login"] == "alice"):
                scene.faults.append(f"{headers['login']} has come late, and was told {told}")


def make_mistake(scene: Scene) -> None:
    """Beside rights for everybody there is a key that there is not."""
    wide = '[permissions.user.nemo]\nread = "/>"\nwrite = "/>"\n[permissions.anonymous]\nread = "/>"\n'
    more = f"{scene.with_tokens}allow-anonymous = true\nmax-clients-per-adress = 1\n"
    scene.reload(scene.configure(more=more, tables=wide), "error reload: nothing has changed, ")


def renew(scene: Scene, staff: tuple[str, ...]) -> None:
    """There are another certificate and another Unix socket."""
    scene.renew_certificate()
    scene.reload(scene.configure(staff=staff, second="b"), "info  reload: done, at once: listen")
    scene.trust_new()
    client, headers = scene.knock("tls")
    with client, Client(scene.path("b")) as other:
        client.login(headers=headers)
        other.login()
    if Path(scene.path("a")).exists():
        scene.faults.append("the socket of a listener that was given up is there still")


def make_another_mistake(scene: Scene) -> None:
    """The certificate is broken, and beside that nobody has rights."""
    with scene.broken_certificate():
        scene.reload(scene.configure(staff=(), second="b"), "error reload: nothing has changed, ")


def inherit(scene: Scene, dora: Member, held: Line) -> None:
    """What dora held, and what came since, is there for another one."""
    taken = len(held.got.pop(dora.name))
    heir = scene.open("unix")
    scene.work(heir, held)
    scene.run_until(lambda: held.got[heir.name], "what dora held")
    held.first = held.got[heir.name][0]
    if not held.acknowledged <= held.first <= taken:
        scene.faults.append(f"dora had got {taken} and acknowledged {held.acknowledged}: {held}")


def close_a_way(scene: Scene, staff: tuple[str, ...]) -> None:
    """Tokens are not taken any more."""
    condemned = [member for member in scene.members if member.name.startswith("token-")]
    for member in condemned:
        member.is_condemned = True
    scene.reload(scene.configure(staff=staff, second="b", more="max-headers = 50\n"), "info  reload: done, ")
    scene.run_until(lambda: all(member.client.has_ended for member in condemned), "the ends of those with a token")
    for member in condemned:
        scene.expect_words(member, "the user may not log in any more")


def main() -> int:
    """Read the command line, and do it; the exit status."""
    parser = argparse.ArgumentParser(description="reload the configuration under the load of clients of all kinds")
    parser.add_argument("--clients", type=int, default=1000, help="how many (default: 1000)")
    given = parser.parse_args()
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory(prefix="forkbroker-reloads-") as directory:
        faults, figures = play(Path(directory), given.clients)
    print("reloads:", figures, "- all well" if not faults else "- WRONG:")
    print(*(fault[:2000] for fault in faults[:50]), sep="\n")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
