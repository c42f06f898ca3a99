"""A broker with virtual hosts, from its configuration file."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import stomp
from broker.test_control import ask
from broker.test_stomppy import Inbox
from broker.test_users import configure, reload
from support.rawclient import RawClient, connect

from forkbroker.testing.broker import RunningBroker

TABLES = """
[groups]
sellers = ["alice"]

[hosts.shop]
names = ["shop.example", "shop"]
groups = ["sellers"]

[hosts.work]
names = ["work.example"]

[hosts.default]
users = ["bob"]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A configuration file: alice may sell, bob may be at the default host."""
    return configure(tmp_path, ["alice", "bob"], TABLES)


@pytest.fixture
def open_file(tmp_path: Path) -> Path:
    """A configuration file with two hosts that are everybody's."""
    path = tmp_path / "open.toml"
    path.write_text('[hosts.shop]\nnames = ["shop.example", "shop"]\n[hosts.work]\nnames = "work.example"\n')
    return path


def connect_anyhow(broker: RunningBroker, name: str, host: str) -> RawClient:
    """A client that has sent CONNECT."""
    client = RawClient(broker.port)
    client.send("CONNECT", accept_version="1.2", host=host, login=name, passcode=name)
    return client


def test_stomp_py_chooses_a_host(make_broker: Callable[..., RunningBroker], open_file: Path) -> None:
    """`vhost` is its word for the header."""
    broker = make_broker("--config", str(open_file))
    connections, inboxes = {}, {}
    for name in ("shop.example", "work.example", "somewhere"):
        connection = stomp.StompConnection12([(broker.host, broker.port)], vhost=name)
        inboxes[name] = Inbox()
        connection.set_listener("inbox", inboxes[name])
        connection.connect(wait=True)
        connection.subscribe("/queue/jobs", id="1", ack="auto")
        connection.send("/queue/jobs", name)
        connections[name] = connection
    for name, connection in connections.items():
        message = inboxes[name].message()
        assert (message.body, message.headers["destination"]) == (name, "/queue/jobs")
        connection.disconnect()


def test_listings_tell_the_host_of_clients_and_the_names_of_the_broker(
    make_broker: Callable[..., RunningBroker], open_file: Path
) -> None:
    """By which an administrator reaches what is in a host."""
    broker = make_broker("--config", str(open_file))
    with connect(broker.port, host="shop") as client, connect(broker.port, host="localhost") as administrator:
        for body in (b"1", b"2"):
            client.request("SEND", body=body, destination="/queue/jobs")
        rows = ask(administrator, "who")["rows"]
        assert sorted(row["host"] for row in rows) == ["default", "shop"]
        names = [row["name"] for row in ask(administrator, "queues", pattern="*jobs")["rows"]]
        assert names == ["/queue/$HOST/shop/jobs"]
        answer = ask(administrator, "move", **{"from": names[0], "to": "/queue/$HOST/work/jobs", "all": True})
        assert answer["result"]["count"] == 2
        with connect(broker.port, host="work.example") as worker:
            worker.subscribe("/queue/jobs", 1)
            worker.expect_messages("1", "2")
        client.send("SEND", destination="/control/status", reply_to="/temp-queue/a")
        client.expect_error("not for this host")
    broker.wait_for_log(r"client \d+ \S+: connected, host shop")


def test_dead_letters_stay_in_their_host(make_broker: Callable[..., RunningBroker], open_file: Path) -> None:
    """In `/queue/DLQ` of its own, without a word in the configuration."""
    broker = make_broker("--config", str(open_file))
    with connect(broker.port, host="shop") as client, connect(broker.port, host="localhost") as other:
        other.subscribe("/queue/DLQ", 1)
        client.subscribe("/queue/jobs", 1, ack="client-individual")
        client.subscribe("/queue/DLQ", 2)
        client.publish("/queue/jobs", "bad")
        client.nack(client.expect("MESSAGE", "bad"), requeue="false")
        client.expect("MESSAGE", "bad", destination="/queue/DLQ", original_destination="/queue/jobs")
        other.expect_nothing()


def test_what_is_left_in_a_host_that_was_taken_away_stays_there(
    make_broker: Callable[..., RunningBroker], open_file: Path
) -> None:
    """Its dead letters as well; a client that is connected goes on, and so does one that comes when it is back."""
    broker, text = make_broker("--config", str(open_file)), open_file.read_text()
    with connect(broker.port, host="shop") as client, connect(broker.port) as other:
        other.subscribe("/queue/DLQ", 1)
        client.subscribe("/queue/jobs", 1, ack="client-individual")
        open_file.write_text('[hosts.work]\nnames = "work.example"\n')
        assert "hosts changed" in reload(broker)
        client.publish("/queue/jobs", "bad")
        client.nack(client.expect("MESSAGE", "bad"), requeue="false")
        client.publish("/queue/made-later", "worse")
        client.subscribe("/queue/made-later", 2, ack="client-individual")
        client.nack(client.expect("MESSAGE", "worse"), requeue="false")
        client.sync()
        other.expect_nothing()
        open_file.write_text(text)
        reload(broker)
        with connect(broker.port, host="shop") as again:
            again.subscribe("/queue/DLQ", 1)
            again.expect_messages("bad", "worse")


def test_users_connect_to_their_hosts_alone(make_broker: Callable[..., RunningBroker], file: Path) -> None:
    """The log says whom it was, and the client why."""
    broker = make_broker("--config", str(file))
    for name, host, is_let_in in (
        ("alice", "shop", True),
        ("alice", "/", False),
        ("bob", "SHOP.example", False),
        ("bob", "/", True),
        ("bob", "work.example", True),
    ):
        if is_let_in:
            with connect(broker.port, login=name, passcode=name, host=host) as client:
                client.sync()
        else:
            with connect_anyhow(broker, name, host) as client:
                client.expect_error("host refused")
    broker.wait_for_log("host refused .user 'bob' may not connect to the host shop.")


def test_a_reload_makes_hosts_and_takes_them_and_clients_keep_what_they_have(
    make_broker: Callable[..., RunningBroker], file: Path
) -> None:
    """But for who may not be there any more."""
    broker = make_broker("--config", str(file))
    text = file.read_text()
    with (
        connect(broker.port, login="alice", passcode="alice", host="shop") as alice,
        connect(broker.port, login="bob", passcode="bob", host="work.example") as bob,
    ):
        bob.subscribe("/queue/jobs", 1)
        file.write_text(text.replace('[hosts.work]\nnames = ["work.example"]\n', "[hosts.new]\n"))
        assert "hosts changed" in reload(broker)
        alice.sync()
        bob.publish("/queue/jobs", "mine")
        bob.expect("MESSAGE", "mine")
        with connect(broker.port, login="bob", passcode="bob", host="new") as newcomer:
            newcomer.subscribe("/queue/jobs", 1)
            newcomer.expect_nothing()
        file.write_text(text.replace('groups = ["sellers"]', 'users = ["bob"]'))
        reload(broker)
        alice.expect_error("user 'alice' may not connect to the host shop")
        bob.sync()
        file.write_text(text.replace("[hosts.work]", "[hosts.'work!']"))
        assert "cannot be part of a name" in reload(broker)
        with connect_anyhow(broker, "alice", "shop") as client:
            client.expect_error("host refused")


def test_a_limit_without_users_is_refused(make_broker: Callable[..., RunningBroker], tmp_path: Path) -> None:
    """A login would be only a name."""
    path = tmp_path / "bad.toml"
    path.write_text('[hosts.shop]\nusers = ["bob"]\n')
    command = [sys.executable, "-m", "forkbroker", "--config", str(path), "--check-config"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    assert done.returncode == 78
    assert f"{path}, line 1: users and groups of host shop: clients can give any login" in done.stderr
