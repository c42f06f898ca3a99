"""Requests to the broker itself: portions, who waits for whom, and children that lie."""

from __future__ import annotations

import json
import os
import select
import socket
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from driven import Starter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from parts import logger_of, make_status, open_router
from support.lies import join
from test_routing import real, subscribed

from forkbroker.control.arguments import RequestError
from forkbroker.control.verbs import MAX_OPEN, VERBS
from forkbroker.parent.channels import Channels
from forkbroker.parent.control import control as module
from forkbroker.parent.control import use
from forkbroker.parent.control.asked import Asked, Handler, Steps, matcher
from forkbroker.parent.control.broker import Whole
from forkbroker.parent.control.control import BEGUN, PORTION, STEPS, Control
from forkbroker.parent.control.handlers import make_handlers
from forkbroker.parent.control.queues import Looks
from forkbroker.parent.draining import Draining
from forkbroker.parent.flow import FlowPolicy
from forkbroker.parent.roster import Client
from forkbroker.posix.loop import Loop
from forkbroker.posix.semaphores import SemaphorePool
from forkbroker.routing.peers import STORE, Peer
from forkbroker.wire.channel import Channel
from forkbroker.wire.envelope import Envelope, pack, pack_pieces
from forkbroker.wire.kinds import ChildState, Flag, Kind
from forkbroker.wire.receive_memory import ReceiveMemory


class Bench:
    """The control of a parent, with a real router, and clients that are channels."""

    def __init__(self, handlers: Mapping[str, Handler] | None = None) -> None:
        self.loop, self.lines = Loop(), list[str]()
        self.pool = SemaphorePool(4)
        self.router = open_router(self.pool, self.loop.now)
        self.channels = Channels(self.loop, self.router, FlowPolicy(), ReceiveMemory(0))
        self.clients: dict[Peer, Client] = {}
        self.ends: dict[Peer, Channel] = {}
        status = make_status(self.clients, self.lines.append)
        self.draining = Draining(self.loop, self.kick, logger_of(self.lines), self.router.news)
        whole, looks = Whole(self.loop, self.router, status), Looks(self.loop, self.router, self.find)
        table = dict(make_handlers(self.channels, self, self.draining, whole, looks)) | dict(handlers or {})  # type: ignore[arg-type]
        self.control = Control(self.channels, self.clients.get, table, logger_of(self.lines))

    @property
    def all(self) -> list[Client]:
        return list(self.clients.values())

    def find(self, peer: Peer) -> Client | None:
        return self.clients.get(peer)

    def kick(self, client: Client, reason: str) -> None:
        self.lines.append(f"kick {client.peer} {reason}")

    def add(self, login: str = "") -> Peer:
        """One more client."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        peer = Peer(len(self.ends) + 1)
        client = Client(
            peer=peer,
            pid=1000 + peer,
            channel=Channel(ours, max_envelope=1 << 30),
            address=f"10.0.0.{peer}:1",
            host=f"10.0.0.{peer}",
            started=self.loop.now,
        )
        client.state, client.login = ChildState.CONNECTED, login
        self.clients[peer], self.ends[peer] = client, Channel(theirs, max_envelope=1 << 30)
        self.router.add_peer(peer)
        self.channels.join(client, lambda: None, lambda: None)
        return peer

    def say(self, peer: Peer, raw: bytes) -> None:
        """The router hears what a child says."""
        self.router.receive(peer, Envelope(raw), self.loop.now)

    def ask(self, peer: Peer, verb: str, *, token: int = 1, **args: Any) -> None:
        self.say(peer, join(Kind.ASK, token=token, destination=verb.encode(), block=json.dumps(args).encode()))

    def turn(self) -> int:
        """A turn of the parent's; how many steps were done."""
        before = self.control.steps
        self.control.take_turn()
        self.router.tick(self.loop.now)
        self.channels.dispatch(None)
        self.channels.end_turn()
        return self.control.steps - before

    def hear(self, peer: Peer) -> list[dict[str, Any]]:
        """The answers that a client has got."""
        end, found = self.ends[peer], list[dict[str, Any]]()
        client = self.clients.get(peer)
        while True:
            if client is not None:
                client.channel.flush()
            # one read may have no whole envelope
            if end.closed or not select.select([end], [], [], 0)[0]:
                return found
            found += [json.loads(one.block) for one in end.receive() if one.kind is Kind.ANSWER]

    def work_off(self) -> int:
        """Turns until nothing is to be done; how many."""
        turns = 0
        while self.control.is_busy:
            turns += 1
            self.turn()
        return turns

    def answers(self, peer: Peer, verb: str, **args: Any) -> list[dict[str, Any]]:
        """Ask, and hear all of the answer."""
        self.ask(peer, verb, **args)
        found = []
        while self.control.is_busy:
            self.turn()
            found += self.hear(peer)
        return found + self.hear(peer)

    def close(self) -> None:
        for client in self.clients.values():
            self.loop.forget(client.fd)
            client.channel.close()
        for end in self.ends.values():
            end.close()
        self.loop.close()
        self.pool.close()


@pytest.fixture
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """With the handlers that a test names."""
    bench = Bench(getattr(request, "param", None))
    yield bench
    bench.close()


def send(queue: bytes) -> bytes:
    flags, payload = pack_pieces([b"x"])
    return join(Kind.SEND, flags=flags, count=1, destination=queue, block=b"-s-1\n\n", payload=payload)


def test_ten_thousand_queues_are_listed_in_bounded_portions(bench: Bench) -> None:
    """No turn has more steps than it may, each queue comes once, and the parts are of at most so many rows."""
    client = bench.add()
    for number in range(10_000):
        bench.router.tick(bench.loop.now)
        bench.say(client, send(b"/queue/%05d" % number))
    bench.ask(client, "queues")
    steps, found = [], []
    while bench.control.is_busy:
        steps.append(bench.turn())
        found += bench.hear(client)

    assert max(steps) <= STEPS and len(steps) >= 10_000 // STEPS
    assert [row["name"] for part in found for row in part["rows"]] == [f"/queue/{n:05}" for n in range(10_000)]
    assert max(len(part["rows"]) for part in found) == PORTION
    assert [part["more"] for part in found] == [True] * (len(found) - 1) + [False]


def test_two_thousand_clients_who_ask_at_once_are_begun_in_portions(bench: Bench) -> None:
    """So many in a turn; all are answered."""
    clients = [bench.add() for _ in range(200)]
    for client in clients:
        bench.ask(client, "who", pattern="nobody")

    assert bench.turn() <= STEPS + BEGUN
    assert bench.work_off() >= 200 // BEGUN - 1
    assert [bench.hear(client)[-1]["rows"] for client in clients] == [[]] * 200


def test_who_does_not_read_gets_no_more_and_holds_nobody_up(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until it reads: what waits for it is bounded."""
    monkeypatch.setattr(module, "_FULL", 10_000)
    slow, quick = bench.add(), bench.add()
    for number in range(3_000):
        bench.router.tick(bench.loop.now)
        bench.say(quick, send(b"/queue/%05d" % number + b"x" * 500))
    bench.ask(slow, "queues")
    for _ in range(100):
        bench.turn()
    assert bench.clients[slow].channel.pending < 200_000

    bench.ask(quick, "status")
    for _ in range(100):
        bench.turn()
    assert bench.hear(quick)[-1]["result"]["queues"] == 3_000
    rows = 0
    while bench.control.is_busy:
        bench.turn()
        rows += sum(len(part["rows"]) for part in bench.hear(slow))
    assert rows == 3_000


def test_what_a_client_that_is_gone_has_asked_is_forgotten(bench: Bench) -> None:
    """Begun or not, waiting or not."""
    client = bench.add()
    bench.ask(client, "who")
    bench.ask(client, "queues", token=2)
    bench.turn()
    bench.ask(client, "queues", token=3)
    gone = bench.clients.pop(client)
    bench.work_off()

    assert not bench.control._work and not bench.control._count
    bench.loop.forget(gone.fd)
    gone.channel.close()


def _wait(asked: Asked) -> Steps:
    asked.is_waiting = True
    yield None
    return {"woken": True}


def _fail(asked: Asked) -> Steps:
    yield None
    raise ZeroDivisionError


def _refuse(asked: Asked) -> Steps:
    yield {"row": 1}
    raise RequestError("conflict", "not now")


@pytest.mark.parametrize("bench", [{"who": _wait}], indirect=True)
def test_a_handler_that_waits_costs_no_turn(bench: Bench) -> None:
    """Until it is woken; once more does nothing."""
    client = bench.add()
    bench.ask(client, "who")
    bench.turn()
    assert not bench.control.is_busy
    (asked,) = bench.control._work

    asked.wake(asked)
    bench.work_off()
    asked.wake(asked)
    assert bench.hear(client) == [{"ok": True, "result": {"woken": True}}]
    assert not bench.control.is_busy


@pytest.mark.parametrize("bench", [{"who": _wait}], indirect=True)
def test_what_waits_for_a_client_that_is_gone_is_dropped_in_time(bench: Bench) -> None:
    """About once a second."""
    client = bench.add()
    bench.ask(client, "who")
    bench.turn()
    gone = bench.clients.pop(client)
    bench.control.drop_waiting()

    assert not bench.control._work
    bench.loop.forget(gone.fd)
    gone.channel.close()


@pytest.mark.parametrize("bench", [{"who": _fail, "kick": _refuse}], indirect=True)
def test_a_fault_of_ours_is_answered_and_logged(bench: Bench) -> None:
    """The broker goes on; a refusal takes the place of rows that have not gone out."""
    client = bench.add("alice")

    assert bench.answers(client, "who")[0]["error"] == "unavailable"
    assert bench.lines == ["client 1 10.0.0.1:1 alice: unexpected exception while its request who was carried out"]
    assert bench.answers(client, "kick", who="x") == [{"ok": False, "error": "conflict", "text": "not now"}]


@pytest.mark.parametrize(
    ("verb", "block"), [(b"wo", b"{}"), (b"who", b"["), (b"who", b'{"x":1}'), (b"kick", b"{}"), (b"who", b"\xff")]
)
def test_a_request_that_no_child_would_send_is_a_lie(bench: Bench, verb: bytes, block: bytes) -> None:
    """Its child has checked it, so it has gone mad."""
    client = bench.add()
    bench.say(client, join(Kind.ASK, token=1, destination=verb, block=block))
    bench.turn()

    assert bench.router.culprits[client].startswith("ASK: ")


@pytest.mark.parametrize("bench", [{"who": _wait}], indirect=True)
def test_too_many_requests_are_a_lie(bench: Bench) -> None:
    """A child keeps to the limit."""
    client = bench.add()
    for token in range(MAX_OPEN + 1):
        bench.ask(client, "who", token=token)
    for _ in range(MAX_OPEN // BEGUN + 1):
        bench.turn()

    assert bench.router.culprits == {client: f"ASK: more than {MAX_OPEN} that are not answered"}


def test_an_ask_is_applied_behind_what_came_before_it(bench: Bench) -> None:
    """Its fence too."""
    client = bench.add()
    bench.say(client, send(b"/queue/a"))
    bench.say(
        client, join(Kind.ASK, token=1, number=7, flags=Flag.FENCE, destination=b"queues", block=b'{"pattern":"a"}')
    )
    fenced = [e for peer, buffers in bench.router.take() if peer != STORE for e in [Envelope(buffers[0])]]
    bench.work_off()

    assert [(e.kind, e.number) for e in fenced] == [(Kind.FENCED, 7)]
    assert bench.hear(client)[-1]["rows"][0]["waiting"] == 1


def test_who_is_told_by_login_or_address_and_kicked_by_them(bench: Bench) -> None:
    """ALL is all but who asks; a dry run does nothing; nobody is an error."""
    alice, bob, other = bench.add("alice"), bench.add("bob"), bench.add("bob")
    (told,) = bench.answers(alice, "who", pattern="b*")
    assert [(row["client"], row["login"], row["pid"]) for row in told["rows"]] == [(2, "bob", 1002), (3, "bob", 1003)]
    (told,) = bench.answers(alice, "who", pattern="10.0.0.1")
    assert [row["client"] for row in told["rows"]] == [alice]

    for who, kicked in (("bob", [2, 3]), ("2", [2]), ("10.0.0.3", [3]), ("10.0.0.3:1", [3]), ("ALL", [2, 3])):
        (dry,) = bench.answers(alice, "kick", who=who, **{"dry-run": True})
        assert not [line for line in bench.lines if line.startswith("kick ")]
        (told,) = bench.answers(alice, "kick", who=who, reason="tea")
        assert [one["client"] for one in told["result"]["clients"]] == kicked
        assert dry == told
        assert [line for line in bench.lines if line.startswith("kick ")] == [f"kick {peer} tea" for peer in kicked]
        bench.lines.clear()
    (told,) = bench.answers(bob, "kick", who="carol")
    assert (told["error"], told["ok"]) == ("not-found", False)
    assert bench.find(other) is not None


def test_changes_are_logged_with_who_asked(bench: Bench) -> None:
    """Looks are not."""
    client = bench.add("alice")
    bench.answers(client, "who")
    bench.answers(client, "log-level", level="debug")

    assert bench.lines == ['client 1 10.0.0.1:1 alice: asks for log-level {"level": "debug"}', "debug"]


def test_without_a_configuration_there_is_nothing_to_reload(bench: Bench) -> None:
    """It is an answer."""
    assert bench.answers(bench.add(), "reload")[0]["error"] == "conflict"


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        (None, ["/queue/a.b", "/queue/ab", "/dsub/a.b"]),
        ("a*", ["/queue/a.b", "/queue/ab", "/dsub/a.b"]),
        ("a?b", ["/queue/a.b", "/dsub/a.b"]),
        ("/queue/*", ["/queue/a.b", "/queue/ab"]),
        ("queue*", []),
    ],
)
def test_patterns_are_those_of_a_shell(pattern: str | None, names: list[str]) -> None:
    """Of whole names, if they begin with a slash."""
    matches = matcher(pattern)

    assert [name for name in ("/queue/a.b", "/queue/ab", "/dsub/a.b") if matches(name.encode())] == names


_VALUES = st.one_of(
    st.text(max_size=10),
    st.sampled_from(["ALL", "1", "/queue/a", "*", "[", "[!", "info", "**?[a-"]),
    st.booleans(),
    st.integers(),
)


def _encode(args: dict[str, object]) -> bytes:
    return json.dumps(args).encode()


_ASKED = sorted(VERBS.keys() - {"drain"})
"""Nobody would come behind that one."""
_NAMES = sorted({argument.name for verb in VERBS.values() for argument in verb.arguments})


def test_no_request_ends_the_parent(start: Starter) -> None:
    """Right or wrong: whoever sends it may be ended, and nobody else is."""
    broker = start(router=real)

    @settings(max_examples=40, suppress_health_check=list(HealthCheck), database=None)
    @given(
        st.lists(
            st.tuples(
                st.sampled_from(_ASKED) | st.text(max_size=6),
                st.one_of(
                    st.dictionaries(st.sampled_from(_NAMES), _VALUES, max_size=2).map(
                        lambda args: json.dumps(args).encode()
                    ),
                    st.binary(max_size=20),
                ),
            ),
            max_size=5,
        )
    )
    def ask(requests: list[tuple[str, bytes]]) -> None:
        client = broker.logged_in("asker")
        with suppress(ConnectionError):  # it may be ended for the first of them
            for number, (verb, block) in enumerate(requests):
                raw = join(Kind.ASK, token=number, destination=verb.encode()[:60], block=block)
                client.tell(f"raw {raw.hex()}")
        client.close()

    ask()
    worker, honest = subscribed(broker, "worker", "/queue/honest"), broker.logged_in("honest")
    honest.tell("publish /queue/honest hello")
    assert worker.line().startswith("got OFFER 1 ")
    assert "Traceback" not in broker.log


def page(bench: Bench, asker: Peer, verb: str, member: str, **args: Any) -> tuple[list[Any], int | None]:
    """One member of the rows that are answered, and how many there would be."""
    found = bench.answers(asker, verb, **args)
    assert all(part["ok"] for part in found), found
    return [row[member] for part in found for row in part["rows"]], found[-1].get("matched")


def fill(bench: Bench) -> Peer:
    """Queues 1 to 4 with 3, 6, 9 and 12 messages, one that was purged, and is gone; and a client."""
    client = bench.add()
    for number in range(5):
        for _ in range(3 * number):
            bench.say(client, send(b"/queue/%d" % number))
    bench.say(client, send(b"/queue/0"))
    bench.answers(client, "purge", queue="/queue/0")
    return client


def test_a_listing_is_sorted_and_cut_by_the_broker(bench: Bench) -> None:
    """Equal rows keep their order; what comes last tells how many there would be."""
    client = fill(bench)
    for number in (1, 2):
        bench.say(client, send(b"/queue/same-%d" % number))
    listed: list[tuple[dict[str, Any], list[str]]] = [
        ({"sort": "waiting", "reverse": True, "limit": 2}, ["4", "3"]),
        ({"sort": "waiting", "reverse": True, "limit": 2, "offset": 1}, ["3", "2"]),
        ({"sort": "waiting", "limit": 3}, ["same-1", "same-2", "1"]),
        ({"sort": "waiting", "reverse": True, "offset": 4}, ["same-1", "same-2"]),
        ({"limit": 2}, ["1", "2"]),
        ({"offset": 4}, ["same-1", "same-2"]),
        ({"reverse": True, "limit": 1}, ["same-2"]),
        ({"sort": "name", "reverse": True, "limit": 1}, ["same-2"]),
        ({"offset": 6}, []),
    ]
    for args, names in listed:
        assert page(bench, client, "queues", "name", **args) == ([f"/queue/{name}" for name in names], 6), args
    assert page(bench, client, "queues", "name", pattern="same-?")[1] is None


def test_a_queue_that_is_held_is_listed_though_it_does_not_exist(bench: Bench) -> None:
    """In its place among the others, with how long it is held; never twice.

    The answer comes when the store has it (there is none here), or at once if the store cannot write.
    """
    client, admin = bench.add(), bench.add()
    for name in (b"a", b"c"):
        bench.say(client, send(b"/queue/" + name))
    for name in "bc":
        assert bench.answers(admin, "hold", **{"queue": f"/queue/{name}", "for": 100}) == []
    full = pack(Kind.DISK, token=1, block=b"the disk is full")
    bench.router.receive_stored(Envelope(b"".join(full)), bench.loop.now)
    (answer,) = bench.answers(admin, "hold", queue="/queue/c")
    assert answer["result"] == {"queue": "/queue/c", "changed": False, "waiting": 1, "stored": False}

    assert page(bench, client, "queues", "name")[0] == ["/queue/a", "/queue/b", "/queue/c"]
    assert page(bench, client, "queues", "held")[0] == [False, True, True]
    assert page(bench, client, "queues", "held-for")[0] == [None, pytest.approx(100, abs=5), None]
    assert page(bench, client, "queues", "name", filter="held", pattern="b")[0] == ["/queue/b"]
    assert page(bench, client, "queues", "name", pattern="x") == ([], None)
    (answer,) = bench.answers(admin, "release", queue="/queue/b")
    assert answer["result"] == {"queue": "/queue/b", "changed": True, "waiting": 0, "stored": False}
    assert page(bench, client, "queues", "name")[0] == ["/queue/a", "/queue/c"]


def test_what_has_no_value_comes_before_all_else(bench: Bench) -> None:
    """The age of the oldest message of a queue in which none waits."""
    client = bench.add()
    bench.say(client, send(b"/queue/b"))
    bench.say(client, join(Kind.SUBSCRIBE, token=1, count=1, destination=b"/queue/a"))

    assert page(bench, client, "queues", "name", sort="oldest") == (["/queue/a", "/queue/b"], 2)
    assert page(bench, client, "queues", "name", sort="oldest", reverse=True) == (["/queue/b", "/queue/a"], 2)


@pytest.mark.parametrize(
    ("args", "names"),
    [
        ({"filter": "waiting"}, ["/queue/DLQ", "/queue/consumed", "/queue/stuck", "/reply-queue/x.y"]),
        ({"filter": "waiting", "temporary": False}, ["/queue/DLQ", "/queue/consumed", "/queue/stuck"]),
        ({"filter": "stuck", "temporary": False, "pattern": "s*"}, ["/queue/stuck"]),
        ({"filter": "dead-letters"}, ["/queue/DLQ"]),
        ({"filter": "dead-letters", "pattern": "s*"}, []),
        ({"filter": "held"}, ["/queue/stuck"]),
        ({"filter": "delayed"}, []),
        ({"filter": "blocked"}, []),
        ({"filter": "durable"}, []),
    ],
)
def test_queues_of_one_sort_are_listed(bench: Bench, args: dict[str, Any], names: list[str]) -> None:
    """The others are not counted either."""
    client = bench.add()
    bench.say(client, join(Kind.SUBSCRIBE, flags=Flag.TEMPORARY, token=1, destination=b"/reply-queue/x.y"))
    bench.say(client, join(Kind.SUBSCRIBE, token=2, destination=b"/queue/consumed"))
    for name in (b"/queue/DLQ", b"/queue/consumed", b"/queue/stuck", b"/reply-queue/x.y"):
        bench.say(client, send(name))
    bench.answers(client, "hold", queue="/queue/stuck")

    assert page(bench, client, "queues", "name", limit=10, **args) == (names, len(names))


def test_clients_are_told_with_what_they_use(bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where the system tells it; sorted by it, too."""
    monkeypatch.setattr(use, "PROC", tmp_path)
    for pid, ticks in ((1001, 100), (1002, 300)):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "stat").write_text(f"{pid} (a b) S" + " 0" * 10 + f" {ticks} 100" + " 0" * 30)
        (tmp_path / str(pid) / "smaps_rollup").write_text(f"x\nPss:    {pid} kB\n")
    first, *_ = bench.add("alice"), bench.add("bob"), bench.add("carol")
    (told,) = bench.answers(first, "who", use=True)

    tick = os.sysconf("SC_CLK_TCK")
    assert [row["cpu"] for row in told["rows"]] == [200 / tick, 400 / tick, None]
    assert [row["memory"] for row in told["rows"]] == [1001 * 1024, 1002 * 1024, None]
    assert page(bench, first, "who", "login", sort="cpu", reverse=True, limit=2) == (["bob", "alice"], 3)
    assert "cpu" not in bench.answers(first, "who", sort="login")[0]["rows"][0]
    assert bench.answers(first, "processes", use=True)[0]["rows"] == [
        {"role": "parent", "pid": 1, "cpu": None, "memory": None}
    ]


def test_the_other_listings_come_in_pages_too(bench: Bench) -> None:
    """Topics, and the subscriptions of all clients or of one."""
    alice, bob = bench.add("alice"), bench.add("bob")
    for peer, token, name in ((alice, 1, b"/topic/a"), (bob, 1, b"/topic/a"), (bob, 2, b"/topic/b")):
        bench.say(peer, join(Kind.SUBSCRIBE, token=token, destination=name))

    assert page(bench, alice, "topics", "name", sort="subscribers", reverse=True, limit=1) == (["/topic/a"], 2)
    assert page(bench, alice, "subscriptions", "destination", client=bob, limit=9) == (["/topic/a", "/topic/b"], 2)
    assert page(bench, alice, "subscriptions", "client", sort="destination", limit=9)[1] == 3
    assert page(bench, alice, "schedule", "queue", sort="due", limit=9) == ([], 0)


def test_a_sorted_listing_of_ten_thousand_queues_keeps_one_page(bench: Bench) -> None:
    """Its turns are as short as those of the whole."""
    client = bench.add()
    for number in range(10_000):
        bench.router.tick(bench.loop.now)
        bench.say(client, send(b"/queue/%05d" % number))
    bench.say(client, send(b"/queue/07777"))
    bench.ask(client, "queues", sort="waiting", reverse=True, limit=50)
    steps, found = [], []
    while bench.control.is_busy:
        steps.append(bench.turn())
        found += bench.hear(client)

    assert max(steps) <= STEPS and len(steps) >= 10_000 // STEPS
    (answer,) = found
    assert (len(answer["rows"]), answer["matched"], answer["rows"][0]["name"]) == (50, 10_000, "/queue/07777")
