"""A broker with a password file."""

from __future__ import annotations

import hashlib
import os
import select
import signal
import socket
import time
from base64 import b64encode
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from support.deadline import stretched, wait_until
from support.rawclient import RawClient, connect

from forkbroker.testing.broker import BrokerNotRunningError, RunningBroker

SALT = b"0123456789abcdef"


def line(name: str, passcode: str, ln: int = 1) -> str:
    """A line of the file, with a hash that takes no time unless a test wants it to."""
    key = hashlib.scrypt(passcode.encode(), salt=SALT, n=2**ln, r=8, p=1, dklen=32, maxmem=2**26)
    salt, key_text = (b64encode(part).decode().rstrip("=") for part in (SALT, key))
    return f"{name}:$scrypt$ln={ln},r=8,p=1${salt}${key_text}\n"


def configure(directory: Path, names: Iterable[str], tables: str) -> Path:
    """A configuration file with these tables, and users whose passcodes are their names."""
    users = directory / "users"
    users.touch(0o600)
    users.write_text("".join(line(name, name) for name in names))
    path = directory / "forkbroker.toml"
    path.write_text(f'users = "{users}"\n{tables}')
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A password file with alice and bob."""
    path = tmp_path / "users"
    path.touch(0o600)
    path.write_text(line("alice", "a") + line("bob", "b"))
    return path


@pytest.fixture
def broker(make_broker: Callable[..., RunningBroker], file: Path) -> RunningBroker:
    """A broker with this file."""
    return make_broker("--users", str(file))


def refusal(port: int, host: str = "127.0.0.1", **headers: str) -> tuple[list[tuple[str, str]], bytes]:
    """What a client is told that cannot log in."""
    with RawClient(port, host) as client:
        client.send("CONNECT", accept_version="1.2", host="x", **headers)
        error = client.expect_error("login failed")
        return error.headers, error.body


def reload(broker: RunningBroker) -> str:
    """Let the broker read its files again; what it says of that."""

    def lines() -> list[str]:
        return [text for text in broker.log if " reload: " in text]

    before = len(lines())
    broker.kill(signal.SIGHUP)
    wait_until(lambda: len(lines()) > before, "a word about the reload")
    return lines()[-1].partition("reload: ")[2]


@pytest.mark.row("C11")
def test_only_users_with_their_passcode_are_let_in(broker: RunningBroker) -> None:
    """All others are told the same; the log has the reason, and no passcode."""
    with connect(broker.port, login="alice", passcode="a"), connect(broker.port, "1.0", login="bob", passcode="b"):
        told = [
            refusal(broker.port, login="alice", passcode="hunter2"),
            refusal(broker.port, login="eve\u202e", passcode="hunter2"),
            refusal(broker.port, login="alice"),
            refusal(broker.port, passcode="hunter2"),
            refusal(broker.port),
        ]
        broker.wait_for_log("(?s)(no login.*){2}")

    assert all(one == told[0] for one in told)
    log = "\n".join(broker.log)
    for reason in ("user 'alice': wrong passcode", r"user 'eve\u202e': unknown user", "user '': no login"):
        assert f"disconnected, login failed, {reason}, " in log
    assert "hunter2" not in log
    assert "client 1 " in log and " alice: connected" in log


def test_the_title_shows_the_login_and_never_the_passcode(broker: RunningBroker) -> None:
    """As without users."""
    with connect(broker.port, login="alice", passcode="a") as client:
        client.subscribe("/topic/a", 1)
        wait_until(lambda: any(" alice 1 subscription" in title for _, title in broker.children()), "the title")


def test_without_users_any_login_is_right_on_loopback(make_broker) -> None:
    """As it was."""
    broker = make_broker()
    with connect(broker.port), connect(broker.port, login="eve", passcode="x"):
        pass


def test_clients_without_a_login_are_let_in_beside_users_if_that_is_permitted(make_broker, file: Path) -> None:
    """A login that is given must be right all the same."""
    broker = make_broker("--users", str(file), "--allow-anonymous")
    with connect(broker.port), connect(broker.port, login="alice", passcode="a"):
        refusal(broker.port, login="alice", passcode="b")


@pytest.mark.parametrize(
    ("text", "mode", "problem"),
    [
        ("alice:secret\n", 0o600, "users, line 1: the hash does not have the form"),
        ("", 0o644, "has mode 0644: other users may read or write it; chmod 0640 or 0600"),
        (None, 0o600, "the password file cannot be read: No such file"),
    ],
)
def test_a_file_that_cannot_be_used_is_an_error_at_the_start(
    make_broker, file: Path, text: str | None, mode: int, problem: str
) -> None:
    """It says where and what; the line is not shown."""
    if text is None:
        file.unlink()
    else:
        file.write_text(text)
        file.chmod(mode)
    with pytest.raises(BrokerNotRunningError, match=problem) as caught:
        make_broker("--users", str(file))
    assert "secret" not in str(caught.value)


def test_a_reload_adds_and_removes_users(broker: RunningBroker, file: Path) -> None:
    """Clients of a removed user are disconnected, all others stay; a changed passcode counts for the next login."""
    with (
        connect(broker.port, login="alice", passcode="a") as alice,
        connect(broker.port, login="bob", passcode="b") as bob,
    ):
        file.write_text(line("alice", "other") + line("carol", "c"))
        assert reload(broker) == "done, users: 1 added, 1 removed, 1 changed"
        bob.expect_error("the user may not log in any more")
        refusal(broker.port, login="bob", passcode="b")
        refusal(broker.port, login="alice", passcode="a")
        with connect(broker.port, login="carol", passcode="c"), connect(broker.port, login="alice", passcode="other"):
            alice.sync()
    assert reload(broker) == "done, nothing has changed"


def test_a_connection_from_before_a_reload_is_let_in_by_what_holds_now(broker: RunningBroker, file: Path) -> None:
    """Its process knows the passcodes of before. Who has the same one as then does not notice."""
    with ExitStack() as stack:
        early = [stack.enter_context(RawClient(broker.port)) for _ in range(2)]
        broker.wait_for_children(2)
        file.write_text(line("alice", "other") + line("bob", "b"))
        assert reload(broker) == "done, users: 1 changed"
        early[0].send("CONNECT", accept_version="1.2", host="x", login="alice", passcode="a")
        early[0].expect("CONNECTED")
        early[0].expect_error("the configuration has changed since you connected")
        early[1].login(login="bob", passcode="b")
        early[1].sync()


def test_a_mistake_in_the_file_changes_nothing_at_a_reload(broker: RunningBroker, file: Path) -> None:
    """Nobody is let in who was not, and nobody is sent away."""
    with connect(broker.port, login="bob", passcode="b") as bob:
        file.write_text(line("eve", "e") + "alice\n")
        assert f"{file}, line 2: the line has no colon" in reload(broker)
        file.write_text(line("eve", "e"))
        file.chmod(0o604)
        assert "has mode 0604" in reload(broker)
        bob.sync()
        refusal(broker.port, login="eve", passcode="e")
        with connect(broker.port, login="alice", passcode="a"):
            pass


def test_users_that_come_with_a_reload_end_what_was_only_a_name(make_broker, file: Path, tmp_path: Path) -> None:
    """Who has not logged in yet is asked for the passcode at the next connection, too."""
    config = tmp_path / "forkbroker.toml"
    config.write_text("allow-anonymous = true\n")
    broker = make_broker("--config", str(config))
    with (
        connect(broker.port, login="alice") as alice,
        connect(broker.port) as anonymous,
        RawClient(broker.port) as starting,
    ):
        broker.wait_for_children(3)
        config.write_text(f'allow-anonymous = true\nusers = "{file}"\n')
        assert reload(broker) == "done, at once: users; users: 2 added"
        alice.expect_error("may not log in any more")
        starting.expect_error("may not log in any more")
        anonymous.sync()
        config.write_text(f'users = "{file}"\n')
        reload(broker)
        anonymous.expect_error("may not log in any more")


def test_a_hundred_wrong_passcodes_do_not_keep_others_waiting(make_broker, file: Path) -> None:
    """A connected client is served, and a right login gets in: the hashes cost as much as real ones."""
    file.write_text(line("alice", "a", ln=14) + line("bob", "b", ln=14))
    broker = make_broker("--users", str(file), "--connect-timeout", "60 s")
    with connect(broker.port, login="alice", passcode="a") as alice, ExitStack() as stack:
        storm = [stack.enter_context(RawClient(broker.port)) for _ in range(100)]
        for client in storm:
            client.send("CONNECT", accept_version="1.2", host="x", login="bob", passcode="wrong")
        waits = []
        for _ in range(20):
            began = time.monotonic()
            alice.sync()
            waits.append(time.monotonic() - began)
        with connect(broker.port, login="bob", passcode="b"):
            pass
        for client in storm:
            wait_until(lambda one=client: select.select([one], [], [], 0.1)[0], "an answer", 60.0)
            client.expect_error("login failed")

    assert sorted(waits)[10] < stretched(0.5)


def test_a_killed_child_keeps_no_place_of_others(make_broker, file: Path) -> None:
    """Killed while they compute, again and again, more often than there are places."""
    file.write_text(line("alice", "a", ln=15))
    broker = make_broker("--users", str(file))
    for _ in range(2 * (os.cpu_count() or 1)):
        with RawClient(broker.port) as client:
            client.send("CONNECT", accept_version="1.2", host="x", login="alice", passcode="wrong")
            (pid, _title), *_ = broker.wait_for_children(1)
            os.kill(pid, signal.SIGKILL)
            with suppress(ConnectionResetError):  # CONNECT may not have been read
                client.expect_eof()
        broker.wait_for_children(0)
    with connect(broker.port, login="alice", passcode="a"):
        pass


def test_an_address_with_failed_logins_is_refused_for_a_time(make_broker, file: Path) -> None:
    """Those that are on their way there as well; this machine's own addresses beside it are free."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("give this machine an address on a network")
        host = str(probe.getsockname()[0])
    broker = make_broker("--listen", f"{host}:0", "--users", str(file))
    port = int(broker.addresses[1].rpartition(":")[2])
    with ExitStack() as stack:
        clients = [stack.enter_context(RawClient(port, host)) for _ in range(6)]
        for client in clients:
            client.send("CONNECT", accept_version="1.2", host="x", login="alice", passcode="wrong")
        # the last ones may be told that there were too many failed logins
        for client in clients:
            client.expect_error("login")
    broker.wait_for_children(0)
    with RawClient(port, host) as client:
        client.expect_error("too many failed logins, connect again in")
    with connect(broker.port, login="alice", passcode="a"):
        pass
