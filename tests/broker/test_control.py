"""The control protocol, spoken by hand to a real broker."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from support.deadline import wait_until
from support.rawclient import RawClient, connect

from forkbroker.parent.tails import MOST
from forkbroker.testing.broker import RunningBroker

from .conftest import Join

REPLIES = "/temp-queue/answers"


def ask(client: RawClient, verb: str, **args: Any) -> dict[str, Any]:
    """The whole answer; what comes in parts is joined."""
    client.send("SEND", destination=f"/control/{verb}", reply_to=REPLIES, body=json.dumps(args).encode())
    rows: list[Any] = []
    while True:
        answer: dict[str, Any] = json.loads(client.expect("MESSAGE", subscription=REPLIES).body)
        rows += answer.get("rows", [])
        if not answer.get("more"):
            return {**answer, "rows": rows} if "rows" in answer else answer


def test_queues_are_told_as_they_are(join_shared: Join) -> None:
    """What waits and what is unsettled; a queue that nobody means is not there."""
    client, other = join_shared(), join_shared()
    other.subscribe("/queue/seen", 1, ack="client", **{"prefetch-count": 1})
    for body in ("1", "2", "3"):
        client.publish("/queue/seen", body)
    other.expect("MESSAGE")
    (row,) = ask(client, "queues", pattern="see?")["rows"]

    assert (row["name"], row["waiting"], row["unsettled"], row["consumers"]) == ("/queue/seen", 2, 1, 1)
    assert (row["entered"], row["left"]) == (3, 0)
    assert 0 <= row["oldest"] < 60 and not row["oldest-before-start"]
    (row,) = ask(client, "subscriptions", pattern="seen")["rows"]
    assert (row["address"], row["ack"], row["prefetch"], row["unsettled"]) == (other.address, "client", 1, 1)


def test_the_messages_of_a_queue_are_shown_in_pages(join_shared: Join) -> None:
    """Of one run or of several."""
    client = join_shared()
    for body in "abc":
        client.publish("/queue/paged", body)
    client.sync()
    for body in "defg":
        client.publish("/queue/paged", body, kind="late")
    client.sync()

    def bodies(**args: Any) -> str:
        return "".join(row["body"] for row in ask(client, "show", queue="paged", body=True, **args)["rows"])

    assert bodies(limit=2) == "ab"
    assert bodies(offset=2, limit=3) == "cde"
    assert bodies(offset=5) == "fg"
    assert bodies(offset=7) == ""
    assert bodies(offset=1, limit=2, header={"kind": "late"}) == "ef"


def test_a_client_learns_its_rights(join_shared: Join) -> None:
    """On this machine, without users, it has them all."""
    result = ask(join_shared(), "rights", destinations=["a"])["result"]

    assert "kick" in result["verbs"]
    assert result["destinations"] == {"/queue/a": ["read", "write", "create", "browse", "manage", "monitor"]}


def test_the_answer_goes_where_reply_to_says(join_shared: Join) -> None:
    """To another client, which reads there; with the correlation-id."""
    asker, reader = join_shared(), join_shared()
    reader.subscribe("/topic/of.answers", 1)
    asker.send("SEND", destination="/control/who", reply_to="/topic/of.answers", correlation_id="c: 1")
    message = reader.expect("MESSAGE", correlation_id="c: 1", content_type="application/json")

    addresses = {row["address"] for row in json.loads(message.body)["rows"]}
    assert {asker.address, reader.address} <= addresses


def test_every_version_of_stomp_can_ask(join_shared: Join) -> None:
    """The text of an answer is escaped as the version has it."""
    for version in ("1.0", "1.1", "1.2"):
        answer = ask(join_shared(version), "stats")
        assert answer["text"] == "there is no verb 'stats': did you mean status?"


def test_without_reply_to_the_client_is_told_so(join_shared: Join) -> None:
    """By an ERROR."""
    client = join_shared()
    client.send("SEND", destination="/control/who")

    client.expect_error("needs a reply-to header")


def test_who_is_kicked_is_told_why_and_its_messages_go_back(join_shared: Join) -> None:
    """The one who asks stays."""
    admin, worker = join_shared(), join_shared(headers={"login": "mallory"})
    worker.subscribe("/queue/kicked", 1, ack="client")
    admin.publish("/queue/kicked", "job")
    worker.expect("MESSAGE")
    result = ask(admin, "kick", who="mallory", reason="come back with fewer subscriptions")["result"]

    assert result["count"] == 1
    worker.expect_error("come back with fewer subscriptions")
    admin.subscribe("/queue/kicked", 1)
    assert admin.expect("MESSAGE", "job")["redelivered"] == "true"


def test_a_child_that_does_not_end_is_killed(broker: RunningBroker, join: Join) -> None:
    """It was stopped."""
    admin, worker = join(broker), join(broker, headers={"login": "mallory"})
    pids: list[int] = []

    def find() -> bool:
        pids.extend(pid for pid, title in broker.children() if "mallory" in title)
        return bool(pids)

    wait_until(find, "the title of the process")
    os.kill(pids[0], signal.SIGSTOP)
    assert ask(admin, "kick", who="mallory")["result"]["count"] == 1

    broker.wait_for_log(r"client 2 \S+ mallory: killed, did not end within 10 s", deadline_s=20.0)
    worker.expect_eof()


def test_a_reload_says_what_has_changed(make_broker: Callable[..., RunningBroker], join: Join, tmp_path: Path) -> None:
    """Or what is wrong: then nothing has."""
    file = tmp_path / "forkbroker.toml"
    file.write_text("prefetch = 10\n")
    broker = make_broker("--config", str(file))
    client = join(broker)
    assert ask(client, "reload")["result"] == {"summary": "nothing has changed"}
    file.write_text("prefetch = 20\n")
    assert "prefetch" in ask(client, "reload")["result"]["summary"]
    file.write_text("prefetsh = 20\n")
    answer = ask(client, "reload")

    assert (answer["error"], answer["text"].startswith("nothing has changed, ")) == ("conflict", True)
    assert "prefetsh" in answer["text"]


def test_the_log_level_can_be_changed(broker: RunningBroker, join: Join) -> None:
    """Clients that connect from then on log as is said."""
    client = join(broker)
    assert ask(client, "log-level", level="warning")["ok"]
    join(broker, headers={"login": "unseen"}).close()
    assert ask(client, "log-level", level="info")["ok"]
    join(broker, headers={"login": "seen"})
    broker.wait_for_log("seen: connected")

    assert not [line for line in broker.log if "unseen: connected" in line]


def test_a_change_is_logged_with_who_has_asked(broker: RunningBroker, join: Join) -> None:
    """What it was, too."""
    client = join(broker, headers={"login": "root"})
    ask(client, "kick", who="ALL")

    broker.wait_for_log(r'client 1 \S+ root: asks for kick \{"who": "ALL"\}')


def test_with_users_nobody_has_rights_without_permissions(
    make_broker: Callable[..., RunningBroker], join: Join, tmp_path: Path
) -> None:
    """The answer names the right."""
    users = tmp_path / "users"
    root = Path(__file__).parents[2]
    subprocess.run(
        [sys.executable, root / "bin" / "stomp-brokerctl", "user", "add", "--users", users, "alice"],
        input=b"secret\n",
        check=True,
    )
    client = join(make_broker("--users", str(users)), headers={"login": "alice", "passcode": "secret"})

    answer = ask(client, "status")
    assert (answer["error"], answer["text"]) == ("denied", "status needs the right monitor on /control/status")


def test_a_broker_that_is_drained_lets_nobody_come(
    make_broker: Callable[..., RunningBroker], join: Join, knock: Join, tmp_path: Path
) -> None:
    """But over Unix sockets; who is there leaves in time, with a reason. Then clients come again."""
    path = str(tmp_path / "socket")
    broker = make_broker("--listen", f"unix:{path}")
    others = [join(broker) for _ in range(5)]
    with connect(path) as admin:
        assert ask(admin, "drain", within=0.5)["result"] == {"clients": 5, "leaving": 5}
        assert ask(admin, "status")["result"]["phase"] == "draining"
        knock(broker).expect_error("the broker is being drained, connect to another one")
        for other in others:
            other.expect_error("the broker is being drained")
        with connect(path) as second:
            assert ask(second, "undrain")["ok"]
        join(broker)
        assert ask(admin, "undrain")["error"] == "conflict"
        assert ask(admin, "drain")["result"]["leaving"] == 0
    broker.kill(signal.SIGHUP)
    broker.wait_for_log("reload: done")
    join(broker)


def test_the_frames_of_a_client_are_shown_while_somebody_looks(join_shared: Join) -> None:
    """From the first row on; bodies if they are wanted. The answer ends when the client is gone."""
    admin, worker = join_shared(), join_shared(headers={"login": "watched"})
    admin.send("SEND", destination="/control/tail", reply_to="/temp-queue/t", body=b'{"who": "watched", "body": true}')
    (begun,) = json.loads(admin.expect("MESSAGE").body)["rows"]
    assert (begun["login"], begun["address"]) == ("watched", worker.address)
    worker.subscribe("/queue/watched", 1)
    worker.publish("/queue/watched", "job", colour="red")
    worker.expect("MESSAGE", "job")
    worker.close()
    rows, is_over = [], False
    while not is_over:
        answer = json.loads(admin.receive().body)
        rows += answer["rows"]
        is_over = not answer["more"]
    frames = [(row["from"], row["command"]) for row in rows]

    assert frames[:2] == [("client", "SUBSCRIBE"), ("broker", "RECEIPT")]
    assert {("client", "SEND"), ("broker", "MESSAGE")} < set(frames)
    (message,) = [row for row in rows if row["command"] == "MESSAGE"]
    assert (message["headers"]["colour"], message["body"]) == ("red", "job")


def test_who_is_looked_at_is_one_other_client(join_shared: Join) -> None:
    """Not several, not nobody, and not the one that looks."""
    admin = join_shared()
    with contextlib.ExitStack() as stack:
        twins = [stack.enter_context(join_shared(headers={"login": "twins"})) for _ in range(2)]
        text = ask(admin, "tail", who="twins")["text"]
        assert "2 clients are 'twins', name one by its number or address: " in text
        assert all(f"({twin.address})" in text for twin in twins)
    assert ask(admin, "tail", who="ALL")["error"] == "not-found"
    assert ask(admin, "tail", who="nobody")["error"] == "not-found"
    assert "its own frames" in ask(admin, "tail", who=admin.address)["text"]


def test_a_look_ends_with_the_one_who_looks(join_shared: Join) -> None:
    """So those who are gone do not use up the looks that there may be."""
    worker = join_shared(headers={"login": "looked-at"})

    def begin(admin: RawClient) -> bool:
        admin.send("SEND", destination="/control/tail", reply_to=REPLIES, body=b'{"who": "looked-at"}')
        return bool(json.loads(admin.expect("MESSAGE").body)["ok"])

    for _ in range(2 * MOST):
        with join_shared() as admin:
            wait_until(partial(begin, admin), "room for a look")
    worker.sync()
