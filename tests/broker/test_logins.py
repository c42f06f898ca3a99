"""Ways to log in beside a passcode: a certificate, and who is at the other end of a Unix socket."""

from __future__ import annotations

import os
import pwd
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import jwt
import pytest
from broker.test_users import line, reload
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from support.certificates import HAS_OPENSSL, make_certificate
from support.deadline import wait_until
from support.rawclient import RawClient, connect

from forkbroker.testing.broker import PATIENCE_S, BrokerNotRunningError, RunningBroker

needs_openssl = pytest.mark.skipif(not HAS_OPENSSL, reason="openssl is not installed: no certificates")


def read_frame(client: socket.socket) -> bytes:
    heard = b""
    while b"\0" not in heard:
        octets = client.recv(65_536)
        assert octets, heard
        heard += octets
    return heard


class TlsClient:
    """A client behind its handshake, with or without a certificate."""

    def __init__(self, broker: RunningBroker, trusted: Path, own: tuple[Path, Path] | None) -> None:
        context = ssl.create_default_context(cafile=str(trusted))
        if own is not None:
            context.load_cert_chain(*own)
        (address,) = [address for address in broker.addresses if address.startswith("tls://")]
        plain = socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])), timeout=PATIENCE_S)
        self.socket = context.wrap_socket(plain, server_hostname="broker")

    def ask(self, *frames: str) -> list[str]:
        """Send frames one after the other, and give the first line of each answer, and its body's."""
        with self.socket:
            answers = []
            for frame in frames:
                self.socket.sendall(frame.encode() + b"\n\n\0")
                heard = read_frame(self.socket)
                head, _, body = heard.decode().partition("\0")[0].partition("\n\n")
                answers.append(f"{head.splitlines()[0]} {body}")
            return answers


LISTEN = ("--listen", "localhost:0", "--listen", "tls://127.0.0.1:0")
CONNECT = "CONNECT\naccept-version:1.2\nhost:/"


@needs_openssl
@pytest.mark.parametrize("kind", ["cn", "dns"])
def test_a_certificate_is_a_login_with_the_rights_of_its_user(make_broker, tmp_path: Path, kind: str) -> None:
    """Without a certificate there is no login, and a certificate is no other user's."""
    mine, alice, eve = (make_certificate(tmp_path, name) for name in ("broker", "alice", "eve"))
    (tmp_path / "ca.pem").write_text(alice[0].read_text() + eve[0].read_text())
    config = tmp_path / "f.toml"
    config.write_text(
        f'tls-certificate = "{mine[0]}"\ntls-key = "{mine[1]}"\n'
        f'tls-client-ca = "{tmp_path}/ca.pem"\ntls-client-certificates = "optional"\ntls-client-user = "{kind}"\n'
        '[permissions.user.alice]\nread = "/queue/a"\ncreate = "/queue/a"\n'
    )
    broker = make_broker("--config", str(config), *LISTEN)
    subscribe = "SUBSCRIBE\nid:1\ndestination:/queue/a\nreceipt:r"

    assert [text.split()[0] for text in TlsClient(broker, mine[0], alice).ask(CONNECT, subscribe)] == [
        "CONNECTED",
        "RECEIPT",
    ]
    assert TlsClient(broker, mine[0], alice).ask(f"{CONNECT}\nlogin:alice")[0].startswith("CONNECTED")
    assert "user 'eve' lacks the right read" in TlsClient(broker, mine[0], eve).ask(CONNECT, subscribe)[1]
    assert TlsClient(broker, mine[0], eve).ask(f"{CONNECT}\nlogin:alice") == ["ERROR login failed\n"]
    assert TlsClient(broker, mine[0], None).ask(CONNECT) == ["ERROR login failed\n"]
    with RawClient(broker.port) as plain:
        plain.send("CONNECT", accept_version="1.2", host="x", login="alice")
        plain.expect_error("login failed")
    broker.wait_for_log("alice: connected")


@needs_openssl
def test_a_reload_that_ends_a_way_ends_who_came_by_it(make_broker, tmp_path: Path) -> None:
    """And lets others in by theirs."""
    mine, alice = (make_certificate(tmp_path, name) for name in ("broker", "alice"))
    users, config = tmp_path / "users", tmp_path / "f.toml"
    users.touch(0o600)
    users.write_text(line("bob", "b"))
    text = (
        f'users = "{users}"\ntls-certificate = "{mine[0]}"\n'
        f'tls-key = "{mine[1]}"\ntls-client-ca = "{alice[0]}"\ntls-client-certificates = "optional"\n'
    )
    config.write_text(f'{text}tls-client-user = "cn"\n')
    broker = make_broker("--config", str(config), *LISTEN)
    client = TlsClient(broker, mine[0], alice).socket
    with client, connect(broker.port, login="bob", passcode="b") as bob:
        client.sendall(f"{CONNECT}\n\n\0".encode())
        assert read_frame(client).startswith(b"CONNECTED")
        config.write_text(text)
        reload(broker)
        assert b"the user may not log in any more" in read_frame(client)
        bob.sync()


@pytest.fixture
def open_path() -> Iterator[str]:
    """Of a Unix socket in a directory that everybody may enter, which those of pytest are not."""
    with TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        yield f"{directory}/socket"


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Of a Unix socket."""
    return str(tmp_path / "socket")


def test_who_runs_the_broker_is_its_administrator_on_a_unix_socket(
    make_broker: Callable[..., RunningBroker], path: str, tmp_path: Path
) -> None:
    """Without a passcode, and whatever the permissions are; others by TCP are nobody."""
    users, config = tmp_path / "users", tmp_path / "f.toml"
    users.touch(0o600)
    users.write_text(line("bob", "b"))
    config.write_text(f'users = "{users}"\n[permissions]\n')
    broker = make_broker("--config", str(config), "--listen", "localhost:0", "--listen", f"unix:{path}")
    name = pwd.getpwuid(os.geteuid()).pw_name
    for headers in ({}, {"login": name}):
        with RawClient(path) as client:
            client.login(headers=headers)
            client.subscribe("/queue/a")
    with RawClient(path) as client:
        client.login(login="bob", passcode="b")
        client.send("SUBSCRIBE", destination="/queue/a", id="1")
        client.expect_error("user 'bob' lacks the right read")
    for port, login in ((broker.port, name), (path, "eve")):
        with RawClient(port) as client:
            client.send("CONNECT", accept_version="1.2", host="x", login=login)
            client.expect_error("login failed")
    broker.wait_for_log(f"unix {name}: connected")


@pytest.mark.skipif(os.geteuid() != 0, reason="run as root")
@pytest.mark.parametrize(("more", "expected"), [((), "login failed"), (("--socket-login", "all"), "lacks the right")])
def test_other_users_of_the_system_are_users_if_all_are(
    make_broker: Callable[..., RunningBroker], open_path: str, tmp_path: Path, more: tuple[str, ...], expected: str
) -> None:
    """A group of the system can be administrators; whoever is in it has another word."""
    config, users = tmp_path / "f.toml", tmp_path / "users"
    users.touch(0o600)
    config.write_text(f'users = "{users}"\nsocket-mode = "0666"\n[permissions]\n')
    program = (
        "import os, socket, sys\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n"
        "s.sendall(b'CONNECT\\naccept-version:1.2\\nhost:/\\n\\n\\0SUBSCRIBE\\nid:1\\ndestination:/queue/a\\nreceipt:r\\n\\n\\0')\n"
        "heard = b''\n"
        "while heard.count(b'\\0') < 2 and (octets := s.recv(9999)): heard += octets\n"
        "print(heard.decode())\n"
    )

    def run() -> str:
        command = [sys.executable, "-c", program, open_path]
        return subprocess.run(command, capture_output=True, text=True, timeout=60.0, check=True).stdout

    broker = make_broker("--config", str(config), "--listen", "localhost:0", "--listen", f"unix:{open_path}", *more)
    assert expected in run()
    config.write_text(f'users = "{users}"\nsocket-mode = "0666"\nadministrators = "nogroup"\n[permissions]\n')
    assert reload(broker).startswith("done")
    assert "RECEIPT" in run()
    config.write_text(f'users = "{users}"\nadministrators = "no-such-group"\n')
    assert "line 2: administrators = no-such-group: there is no such group" in reload(broker)
    wait_until(lambda: any("nobody" in text for text in broker.log), "the name in the log")


def sign(key: object, **claims: object) -> str:
    return jwt.encode({"sub": "alice", "groups": ["workers"], **claims}, key, "ES256")


def test_a_token_is_a_login_that_ends(make_broker: Callable[..., RunningBroker], tmp_path: Path) -> None:
    """In the header `Authorization` or as the passcode; its groups count, and its end is the session's."""
    key, other = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    (tmp_path / "key.pem").write_bytes(key.public_key().public_bytes(serialization.Encoding.PEM, form))
    config = tmp_path / "f.toml"
    config.write_text(
        f'token-key = "{tmp_path}/key.pem"\n[groups]\nworkers = []\n[permissions.group.workers]\nread = "/queue/a"\n'
        'create = "/queue/a"\n'
    )
    broker = make_broker("--config", str(config))
    token = sign(key, exp=time.time() + 600)
    for headers in ({"Authorization": f"Bearer {token}"}, {"passcode": token}, {"login": "alice", "passcode": token}):
        with RawClient(broker.port) as client:
            client.login(headers=headers)
            client.subscribe("/queue/a")
    for headers in ({"Authorization": f"Bearer {sign(other, exp=9e9)}"}, {"login": "bob", "passcode": token}, {}):
        with RawClient(broker.port) as client:
            client.send("CONNECT", headers, accept_version="1.2", host="x")
            client.expect_error("login failed")
    with RawClient(broker.port) as client:
        client.login(headers={"passcode": sign(key, exp=time.time())})
        client.expect_error("login expired")
    broker.wait_for_log("alice: disconnected, login expired")
    assert not any(token in text for text in broker.log)


def test_a_reload_reads_the_keys_of_tokens_again(make_broker: Callable[..., RunningBroker], tmp_path: Path) -> None:
    """The file has the same name, and nothing else has changed. The old key lets nobody in any more."""
    old, new = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    config, path = tmp_path / "f.toml", tmp_path / "key.pem"
    path.write_bytes(old.public_key().public_bytes(serialization.Encoding.PEM, form))
    config.write_text(f'token-key = "{path}"\n[permissions.user.alice]\nread = "/topic/a"\n')
    broker = make_broker("--config", str(config))
    by_old, by_new = (sign(key, exp=time.time() + 600, groups=[]) for key in (old, new))
    with connect(broker.port, headers={"passcode": by_old}) as client, RawClient(broker.port) as early:
        broker.wait_for_children(2)
        path.write_bytes(new.public_key().public_bytes(serialization.Encoding.PEM, form))
        assert reload(broker).startswith("done")
        early.send("CONNECT", accept_version="1.2", host="x", passcode=by_old)
        early.expect("CONNECTED")
        early.expect_error("the configuration has changed since you connected")
        with RawClient(broker.port) as refused:
            refused.send("CONNECT", accept_version="1.2", host="x", passcode=by_old)
            refused.expect_error("login failed")
        with connect(broker.port, headers={"passcode": by_new}) as late:
            late.subscribe("/topic/a")
        client.subscribe("/topic/a")


def test_a_program_says_who_may_log_in(make_broker: Callable[..., RunningBroker], tmp_path: Path) -> None:
    """Its groups count as well; many logins at a time are answered all the same."""
    path = tmp_path / "authenticator"
    path.write_text(
        f"#!{sys.executable}\nimport json, sys\nfound = json.load(sys.stdin)\n"
        "if found['passcode'] != 'right':\n    print(json.dumps({'reason': 'not right'}))\n    sys.exit(1)\n"
        "print(json.dumps({'groups': ['workers']}))\n"
    )
    path.chmod(0o755)
    config = tmp_path / "f.toml"
    config.write_text(
        f'authenticator = "{path}"\n[groups]\nworkers = []\n[permissions.group.workers]\nread = "/queue/a"\n'
        'create = "/queue/a"\n'
    )
    broker = make_broker("--config", str(config))
    with ExitStack() as stack:
        clients = [stack.enter_context(RawClient(broker.port)) for _ in range(20)]
        for client in clients:
            client.send("CONNECT", accept_version="1.2", host="x", login="alice", passcode="right")
        for client in clients:
            client.expect("CONNECTED")
        clients[0].subscribe("/queue/a")
        with RawClient(broker.port) as wrong:
            wrong.send("CONNECT", accept_version="1.2", host="x", login="alice", passcode="wrong")
            wrong.expect_error("login failed")
    broker.wait_for_log("login failed, user 'alice': not right")
    assert not any("wrong" in text for text in broker.log)


def program(directory: Path, text: str) -> Path:
    """An authenticator that root alone can change."""
    path = directory / "program"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def helpers(broker: RunningBroker) -> dict[str, int]:
    """The processes of the helper, by their titles."""
    lines = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    found: dict[str, int] = {}
    parents = {broker.pid}
    for _ in range(2):
        for text in lines.splitlines():
            pid, ppid, title = text.split(None, 2)
            if int(ppid) in parents and title.startswith("stomp-broker: authenticator"):
                found[title] = int(pid)
                parents.add(int(pid))
    return found


def is_let_in(broker: RunningBroker) -> bool:
    """Whether alice is."""
    with RawClient(broker.port) as client:
        client.send("CONNECT", accept_version="1.2", host="x", login="alice", passcode="a")
        return client.receive().command == "CONNECTED"


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="run as root")


@pytest.fixture
def root_directory() -> Iterator[Path]:
    """A directory of root's that everybody may enter."""
    with TemporaryDirectory(prefix="forkbroker-test-", dir="/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@needs_root
@pytest.mark.parametrize(("user", "is_permitted"), [("root", True), ("nobody", False), ("", False)])
def test_the_program_has_the_rights_that_it_is_given(
    make_broker: Callable[..., RunningBroker], root_directory: Path, user: str, is_permitted: bool
) -> None:
    """Those of root, or of another user; without a word those of the broker. It can read a file of root's, or not."""
    secret = root_directory / "secret"
    secret.write_text("")
    secret.chmod(0o600)
    path = program(root_directory, f"cat {secret} || exit 1")
    options = ["--user", "nobody", "--authenticator", str(path), *(["--authenticator-user", user] if user else [])]
    broker = make_broker(*options, "--store", "memory:")

    assert is_let_in(broker) is is_permitted
    uids = {Path(f"/proc/{pid}").stat().st_uid for pid in helpers(broker).values()}
    assert uids == ({0} if user else {pwd.getpwnam("nobody").pw_uid})


@needs_root
def test_what_runs_with_more_rights_is_roots_alone_to_change(
    make_broker: Callable[..., RunningBroker], root_directory: Path
) -> None:
    """The program, and the directories above it."""
    path = program(root_directory, "exit 0")
    options = ["--user", "nobody", "--authenticator", str(path), "--authenticator-user", "root", "--store", "memory:"]
    nobody = pwd.getpwnam("nobody").pw_uid
    for place in (path, root_directory):
        os.chown(place, nobody, -1)
        with pytest.raises(BrokerNotRunningError, match=f"others than root can change {place},"):
            make_broker(*options)
        os.chown(place, 0, -1)
    path.chmod(0o775)
    with pytest.raises(BrokerNotRunningError, match="others than root"):
        make_broker(*options)


@needs_root
def test_what_was_looked_at_is_what_runs(make_broker: Callable[..., RunningBroker], root_directory: Path) -> None:
    """Also if the program is named by a link that others can change: they change nothing by that."""
    directory = root_directory / "nobody"
    directory.mkdir()
    link = directory / "program"
    link.symlink_to(program(root_directory, "exit 1"))
    os.chown(directory, pwd.getpwnam("nobody").pw_uid, -1)
    options = ["--user", "nobody", "--authenticator", str(link), "--authenticator-user", "root", "--store", "memory:"]
    broker = make_broker(*options)
    link.unlink()
    program(directory, "exit 0")

    assert not is_let_in(broker)


def test_the_helper_is_started_anew(make_broker: Callable[..., RunningBroker], tmp_path: Path) -> None:
    """Killed, the runner has a follower; the guard has none, and the log says so. Clients notice nothing."""
    broker = make_broker("--authenticator", str(program(tmp_path, "exit 0")))
    with RawClient(broker.port) as client:
        client.login(headers={"login": "alice", "passcode": "a"})
        first = helpers(broker)
        assert len(first) == 2
        os.kill(first["stomp-broker: authenticator"], signal.SIGKILL)
        broker.wait_for_log("authenticator: exited, signal SIGKILL; restarting in 0.1 s")
        assert is_let_in(broker)
        os.kill(first["stomp-broker: authenticator, guard"], signal.SIGKILL)
        broker.wait_for_log("authenticator: its guard exited, signal SIGKILL; restart the broker")
        assert is_let_in(broker)
        client.sync()


@pytest.mark.parametrize("which", ["stomp-broker: authenticator", "stomp-broker: authenticator, guard"])
def test_a_helper_that_is_stopped_is_not_left_behind(
    make_broker: Callable[..., RunningBroker], tmp_path: Path, which: str
) -> None:
    """It would end when it goes on, if ever."""
    broker = make_broker("--authenticator", str(program(tmp_path, "exit 0")))
    assert is_let_in(broker)
    found = helpers(broker)
    os.kill(found[which], signal.SIGSTOP)
    assert broker.stop() == 0

    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in found.values()), "the end of the helper")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_broker_leaves_a_helper(make_broker: Callable[..., RunningBroker], tmp_path: Path, number: int) -> None:
    """And no program that runs."""
    pids = tmp_path / "pids"
    path = program(tmp_path, f"echo $$ > {pids}.new; mv {pids}.new {pids}; sleep 60")
    broker = make_broker("--authenticator", str(path))
    with RawClient(broker.port) as client:
        client.send("CONNECT", accept_version="1.2", host="x", login="alice", passcode="a")
        wait_until(pids.exists, "the program")
        found = [*helpers(broker).values(), int(pids.read_text())]
        broker.kill(number)
        broker.wait()
    assert len(found) == 3
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in found), "the end of the helper")


def test_a_user_without_a_program_is_a_mistake(make_broker: Callable[..., RunningBroker]) -> None:
    """As is one that there is not."""
    with pytest.raises(BrokerNotRunningError, match="there is no --authenticator"):
        make_broker("--authenticator-user", "root")
    with pytest.raises(BrokerNotRunningError, match="no user no-such-user on this system"):
        make_broker("--authenticator", "/bin/true", "--authenticator-user", "no-such-user")
