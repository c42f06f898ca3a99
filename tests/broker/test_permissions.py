"""A broker with permissions, and what a reload of them does to clients that are there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import stomp
from broker.test_users import configure, line, reload
from support.deadline import wait_until
from support.rawclient import RawClient, connect

from forkbroker.testing.broker import RunningBroker

TABLES = """
[groups]
workers = ["alice"]

[permissions.group.workers]
read = ["/queue/jobs.>", "/topic/%u.#"]
create = "/queue/jobs.>"

[permissions.user.bob]
write = ["/queue/jobs.>", "/topic/alice.>"]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A configuration file with alice, who works, bob, who sends, and carol, who may do nothing."""
    return configure(tmp_path, ["alice", "bob", "carol"], TABLES)


@pytest.fixture
def broker(make_broker: Callable[..., RunningBroker], file: Path) -> RunningBroker:
    """A broker with this file."""
    return make_broker("--config", str(file))


def login(broker: RunningBroker, name: str) -> RawClient:
    return connect(broker.port, login=name, passcode=name)


def reload_for(broker: RunningBroker, client: RawClient) -> str:
    """Reload, and let the client's process hear of other rights, which is a moment after the log has the reload."""
    said = reload(broker)
    client.sync()
    return said


def test_users_do_what_is_granted_and_are_told_what_is_not(broker: RunningBroker) -> None:
    """The log has it once, with client and user."""
    with login(broker, "alice") as alice, login(broker, "bob") as bob, login(broker, "carol") as carol:
        alice.request("SUBSCRIBE", destination="/queue/jobs.a", id="1")
        alice.request("SUBSCRIBE", destination="/topic/alice.#", id="2")
        bob.request("SEND", body=b"job", destination="/queue/jobs.a")
        bob.request("SEND", body=b"word", destination="/topic/alice.x")
        assert {alice.receive().body, alice.receive().body} == {b"job", b"word"}
        carol.send("SUBSCRIBE", destination="/queue/jobs.a", id="1", receipt="r")
        error = carol.expect_error("permission denied")
        assert error.body == b"user 'carol' lacks the right read for '/queue/jobs.a'\n"
        bob.send("SEND", body=b"job", destination="/queue/jobs.none", receipt="3")
        assert b"/queue/jobs.none does not exist" in bob.expect_error("refused").body
    broker.wait_for_log("carol: disconnected, permission denied .user 'carol' lacks the right read for '/queue/jobs.a'")
    assert sum("lacks the right read" in text for text in broker.log) == 1


def test_a_reload_takes_rights_from_who_is_there_and_gives_some(broker: RunningBroker, file: Path) -> None:
    """Who has what it uses notices nothing; who does not is told why; who got something may use it."""
    with login(broker, "alice") as alice, login(broker, "bob") as bob, login(broker, "carol") as carol:
        alice.request("SUBSCRIBE", destination="/queue/jobs.a", id="1")
        bob.request("SEND", body=b"1", destination="/queue/jobs.a")
        assert alice.receive().body == b"1"
        text = file.read_text()
        file.write_text(text + '[permissions.user.carol]\nread = "/queue/jobs.a"\n')
        assert "permissions changed" in reload_for(broker, carol)
        carol.request("SUBSCRIBE", destination="/queue/jobs.a", id="1")
        file.write_text(text.replace('["alice"]', "[]"))
        reload(broker)
        error = alice.expect_error("permission denied")
        assert error.body == b"permissions have changed, user 'alice' lacks the right read for '/queue/jobs.a'\n"
        carol.expect_error("permission denied")
        bob.request("SEND", body=b"2", destination="/topic/alice.x")
        file.write_text(text.partition("[permissions.user.bob]")[0])
        reload_for(broker, bob)
        bob.send("SEND", body=b"3", destination="/topic/alice.x")
        assert bob.expect_error("permission denied").body.startswith(b"user 'bob' lacks the right write")
    with login(broker, "alice") as alice:
        alice.request("SUBSCRIBE", destination="/queue/jobs.a", id="1")


def test_a_reload_that_fails_changes_no_rights(broker: RunningBroker, file: Path) -> None:
    """It is said with file and line."""
    with login(broker, "carol") as carol:
        file.write_text(file.read_text() + '[permissions.user.carol]\nraed = "/queue/jobs.a"\n')
        assert f"{file}, line 13: permissions.user.carol.raed: unknown right; write read" in reload(broker)
        carol.send("SUBSCRIBE", destination="/queue/jobs.a", id="1")
        carol.expect_error("permission denied")


def test_requests_and_replies_need_rights_for_the_request_alone(broker: RunningBroker, file: Path) -> None:
    """The reply goes to a queue of the asking client's own."""
    with login(broker, "alice") as alice, login(broker, "bob") as bob:
        alice.request("SUBSCRIBE", destination="/queue/jobs.a", id="1")
        bob.send("SEND", body=b"?", destination="/queue/jobs.a", reply_to="/temp-queue/answers")
        request = alice.receive()
        alice.send("SEND", body=b"!", destination=dict(request.headers)["reply-to"])
        assert bob.receive().body == b"!"


def test_stomppy_is_told_as_well(broker: RunningBroker) -> None:
    """The header of the ERROR and its body."""

    class Errors(stomp.ConnectionListener):  # type: ignore[misc]
        def __init__(self) -> None:
            self.errors: list[tuple[str, str]] = []

        def on_error(self, found: stomp.utils.Frame) -> None:
            self.errors.append((found.headers["message"], found.body))

    client = stomp.Connection12([("127.0.0.1", broker.port)])
    listener = Errors()
    client.set_listener("", listener)
    client.connect("carol", "carol", wait=True)
    client.send("/queue/jobs.a", "x")
    wait_until(lambda: bool(listener.errors), "the ERROR")
    assert listener.errors == [("permission denied", "user 'carol' lacks the right write for '/queue/jobs.a'\n")]


def test_permissions_without_users_are_a_mistake(make_broker: Callable[..., RunningBroker], tmp_path: Path) -> None:
    """A login would be a claim that nobody has looked at; but for what is everybody's."""
    path = tmp_path / "forkbroker.toml"
    path.write_text("[permissions.anonymous]\nread = '/topic/news'\n")
    broker = make_broker("--config", str(path))
    with connect(broker.port) as client:
        client.request("SUBSCRIBE", destination="/topic/news", id="1")
    with connect(broker.port, login="alice") as client:
        client.send("SUBSCRIBE", destination="/topic/news", id="1", receipt="1")
        client.expect_error("permission denied")
    path.write_text("[permissions.user.alice]\nread = '/topic/news'\n")
    assert "line 2: permissions of user alice: clients can give any login, as there are no users" in reload(broker)


def test_groups_of_the_password_file_count_from_the_next_reload(broker: RunningBroker, file: Path) -> None:
    """A member gets the rights of the group, and loses them; a group that there is not changes nothing."""
    users = file.with_name("users")
    before = users.read_text()
    file.write_text(f'users = "{users}"\n[groups]\nworkers = []\n[permissions.group.workers]\nread = "/topic/>"\n')
    assert reload(broker).startswith("done")
    with login(broker, "bob") as bob:
        bob.send("SUBSCRIBE", destination="/topic/a", id="1")
        bob.expect_error("lacks the right read")
    users.write_text(before.replace(line("bob", "bob").rstrip(), f"{line('bob', 'bob').rstrip()}:workers"))
    assert "permissions changed" in reload(broker)
    with login(broker, "bob") as bob:
        bob.subscribe("/topic/a", 1)
        users.write_text(users.read_text().replace(":workers", ":workrs"))
        assert f"{users}, line 2: unknown group workrs; write workers" in reload(broker)
        bob.sync()
        users.write_text(before)
        assert "permissions changed" in reload(broker)
        bob.expect_error("lacks the right read")
