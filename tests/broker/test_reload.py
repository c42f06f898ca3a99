"""A changed configuration is taken over while clients are served, or nothing of it is."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.certificates import HAS_OPENSSL, make_certificate
from support.deadline import stretched, wait_until
from support.filebroker import FileBroker
from support.rawclient import RawClient, connect

from forkbroker.testing.broker import PATIENCE_S, RunningBroker

Reload = Callable[..., str]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The configuration file; empty at first."""
    path = tmp_path / "forkbroker.toml"
    path.touch()
    return path


@pytest.fixture
def broker(make_broker, file: Path) -> RunningBroker:
    """A broker with a configuration file."""
    return make_broker("--config", str(file))


@pytest.fixture
def reload(broker: RunningBroker, file: Path) -> Reload:
    """Write the configuration file, and let the broker read it; what it says of that."""
    said = 0

    def run(text: str) -> str:
        nonlocal said
        file.write_text(text)
        broker.kill(signal.SIGHUP)

        def lines() -> list[str]:
            return [line[24:] for line in broker.log if " reload: " in line]

        wait_until(lambda: len(lines()) > said, "a word about the reload")
        said = len(lines())
        return lines()[-1]

    return run


def test_what_has_changed_is_said_and_what_waits_for_something(reload: Reload) -> None:
    """At once, for new clients, after a restart; what a restart is needed for is said again each time."""
    assert reload("") == "info  reload: done, nothing has changed"
    assert reload('prefetch = 7\nmax-clients = 9\nmax-body = "1 MiB"\npolicy = "/queue/a lease=1s"\n') == (
        "info  reload: done, at once: max-clients, policy; for clients that connect from then on: prefetch; "
        "after a restart: max-body"
    )
    assert reload('prefetch = 7\nmax-clients = 9\nmax-body = "1 MiB"\n') == (
        "info  reload: done, at once: policy; after a restart: max-body"
    )


def test_a_second_sighup_during_a_reload_is_heeded_behind_it(broker: RunningBroker, file: Path) -> None:
    """What stands in the file in the end is in effect."""
    for number in range(20, 0, -1):
        file.write_text(f"max-clients = {number}\n")
        broker.kill(signal.SIGHUP)
    with connect(broker.port):
        wait_until(lambda: is_refused(broker.port), "the last of the limits")


def is_refused(port: int) -> bool:
    """Tell whether the broker has no room for one more client."""
    with RawClient(port) as client:
        client.send("CONNECT", accept_version="1.2", host="x")
        return client.receive().command == "ERROR"


def refusal(port: int | str) -> str:
    """Return what the broker says to one more client."""
    with RawClient(port) as client:
        client.send("CONNECT", accept_version="1.2", host="x")
        return client.expect_error("").body.decode().strip()


def test_policies_hold_for_queues_that_exist_and_for_held_producers(
    reload: Reload, join, broker: RunningBroker
) -> None:
    """A producer that a full queue has held goes on when the limit is higher; a lower one drops what is too much."""
    assert reload("max-queue-length = 2\n").endswith("at once: max-queue-length")
    producer, consumer = join(broker), join(broker)
    # in one piece: of what comes later, the queue may have become full before it is read
    frames = [
        producer.encode("SEND", body=b"%d" % number, destination="/queue/a", receipt=number) for number in range(6)
    ]
    producer.send_raw(b"".join(frames))
    for number in range(6):
        producer.expect("RECEIPT", receipt_id=str(number))
    producer.send("SEND", body=b"held", destination="/queue/a", receipt="held")
    assert not select.select([producer], [], [], 0.1)[0]
    reload("max-queue-length = 10\n")
    producer.expect("RECEIPT", receipt_id="held")
    reload('max-queue-length = 3\nqueue-full = "drop-oldest"\n')
    consumer.subscribe("/queue/a", 1)

    assert [consumer.expect("MESSAGE").body for _ in range(3)] == [b"4", b"5", b"held"]


def test_a_lease_holds_for_what_is_held_and_its_end_too(reload: Reload, join, broker: RunningBroker) -> None:
    """What a consumer holds goes to another one when a lease is set, and its late ACK is no lie without one."""
    first = join(broker)
    first.subscribe("/queue/a", 1, ack="client-individual")
    first.publish("/queue/a", "job")
    message = first.expect("MESSAGE", "job")
    second = join(broker)
    second.subscribe("/queue/a", 1, ack="client-individual")
    reload('policy = "/queue/a lease=100ms"\n')
    again = second.expect("MESSAGE", "job")
    reload("")
    # on a slow machine the second lease ends before the reload, and it goes back again
    first.request("ACK", id=message["ack"])
    second.request("ACK", id=again["ack"])


def test_limits_of_new_clients_are_new(reload: Reload, join, broker: RunningBroker) -> None:
    """Who is connected keeps the old ones, and its connection."""
    old = join(broker)
    reload("max-headers = 8\n")
    new = join(broker)
    headers = {f"h{number}": number for number in range(12)}
    old.send("SEND", destination="/queue/a", receipt="r", **headers)
    new.send("SEND", destination="/queue/a", **headers)

    old.expect("RECEIPT", receipt_id="r")
    new.expect_error("max-headers")


def test_the_log_can_become_another_one(reload: Reload, broker: RunningBroker, tmp_path: Path) -> None:
    """File, level and format."""
    log = tmp_path / "log"
    file = tmp_path / "forkbroker.toml"
    file.write_text(f'log-file = "{log}"\nlog-format = "json"\nlog-level = "debug"\n')
    broker.kill(signal.SIGHUP)
    wait_until(lambda: log.exists() and "reload: done, at once: log-file" in log.read_text(), "the new log")
    with RawClient(broker.port) as client:
        client.send_raw(b"CONN")
    wait_until(lambda: '"level": "debug"' in log.read_text(), "a line of a client that says nothing")
    file.write_text(f'log-file = "{log}"\nlog-format = "json"\nlog-level = "error"\n')
    broker.kill(signal.SIGHUP)
    file_size = wait_until(lambda: log.stat().st_size, "a size")

    assert all(line.startswith("{") for line in log.read_text().splitlines())
    assert not [line for line in broker.log if "reload: done" in line]
    assert file_size


# -- with all options in the file


@pytest.fixture
def start(nothing_is_left: None, tmp_path: Path) -> Iterator[Callable[[str], FileBroker]]:
    """Start a broker of a file, and end it with the test."""
    brokers: list[FileBroker] = []

    def run(text: str) -> FileBroker:
        brokers.append(broker := FileBroker(tmp_path, text))
        return broker

    yield run
    for broker in brokers:
        assert broker.stop() == 0
        assert "Traceback" not in broker.log


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("prefetch = 0", "line 2: prefetch = 0: too small"),
        ("[", "line 2: "),
        ("max-client = 1", "line 2: max-client: unknown key; write max-clients"),
        ('allow-anonymous = true\nlisten = "192.0.2.1:0"', "192.0.2.1:0: not an address of this host"),
        ('allow-anonymous = true\nlisten = "no-such-host.invalid:0"', "cannot find the host"),
        ('listen = ["127.0.0.1:0", "unix:/nonexistent/s"]', "unix:/nonexistent/s: cannot listen: No such file"),
        ('log-file = "/nonexistent/log"', "cannot write log file /nonexistent/log: No such file"),
    ],
)
def test_after_a_mistake_nothing_has_changed(start, text: str, said: str) -> None:
    """What is right in the same file neither. The checker finds it, or the parent, which opens what is new."""
    broker = start('max-clients = 2\nlisten = "127.0.0.1:0"\n')
    with connect(broker.port) as one, connect(broker.port):
        answer = broker.reload(f"max-clients = 1\n{text}\n")
        refused = refusal(broker.port)
        one.send("SEND", destination="/queue/a", receipt="still there")
        one.expect("RECEIPT", receipt_id="still there")

    assert answer.startswith("error reload: nothing has changed, ")
    assert said in answer
    assert refused.endswith("max-clients is 2")


def test_listeners_come_and_go_and_no_client_with_them(start, tmp_path: Path) -> None:
    """A client of an address that is given up stays; the file of a Unix socket goes with it."""
    path = tmp_path / "socket"
    broker = start(f'listen = ["127.0.0.1:0", "unix:{path}"]\n')
    with connect(str(path)) as old:
        assert broker.reload(f'listen = ["127.0.0.1:0", "unix:{path}2"]\n') == "info  reload: done, at once: listen"
        with connect(f"{path}2") as new, connect(broker.port) as kept:
            for client in (old, new, kept):
                client.send("SEND", destination="/queue/a", receipt="r")
                client.expect("RECEIPT", receipt_id="r")
    wait_until(lambda: f"unix:{path}2" in show_title(broker), "the title")

    assert not path.exists()


@pytest.mark.skipif(not HAS_OPENSSL, reason="openssl is not installed: no certificates")
@pytest.mark.parametrize("mistake", ["certificate", "log", "address"])
def test_nothing_is_half_taken_over_and_all_of_it_once_the_mistake_is_mended(
    start, tmp_path: Path, mistake: str
) -> None:
    """Addresses and log are exchanged together with all else, whatever it is that cannot be opened."""
    certificate, key = make_certificate(tmp_path, "broker")
    old, new, log, taken = (tmp_path / name for name in ("old", "new", "directory/log", "directory/taken"))
    tls = f'tls-certificate = "{certificate}"\ntls-key = "{key}"\n'
    broker = start(f'listen = ["127.0.0.1:0", "tls://127.0.0.1:0", "unix:{old}"]\n{tls}')
    good = certificate.read_bytes()
    if mistake == "certificate":
        certificate.write_text("broken")
    if mistake != "log":
        log = tmp_path / "log"
    if mistake != "address":
        taken = tmp_path / "taken"
    text = f'listen = ["127.0.0.1:0", "tls://127.0.0.1:0", "unix:{new}", "unix:{taken}"]\nlog-file = "{log}"\n{tls}'

    assert broker.reload(text).startswith("error reload: nothing has changed, ")
    assert not [path for path in (new, taken, log) if path.exists()]
    connect(str(old)).close()

    certificate.write_bytes(good)
    (tmp_path / "directory").mkdir()
    broker.process.send_signal(signal.SIGHUP)
    wait_until(lambda: log.exists() and "reload: done, at once: " in log.read_text(), "the reload, in the new log")
    for path in (new, taken):
        connect(str(path)).close()
    assert not old.exists()


def show_title(broker: FileBroker) -> str:
    """Return the title of the parent process."""
    command = ["ps", "-ww", "-o", "args=", "-p", str(broker.process.pid)]
    return subprocess.run(command, capture_output=True, text=True).stdout


def test_reloads_under_load_drop_nobody(start) -> None:
    """Clients of a queue and of a topic, while files good and bad are read."""
    broker = start('listen = "127.0.0.1:0"\n')
    with connect(broker.port) as producer, connect(broker.port) as consumer:
        consumer.subscribe("/queue/a", 1)
        for number in range(10):
            rule = f'policy = "/queue/a lease={number + 1}min max-length={1000 + number}"\n' if number % 3 else "[\n"
            for _ in range(20):
                producer.send("SEND", body=b"x", destination="/queue/a")
            broker.reload(f'listen = "127.0.0.1:0"\n{rule}')
        for _ in range(200):
            consumer.expect("MESSAGE", "x")


def test_the_service_manager_hears_of_a_reload_and_of_its_end(make_broker, file: Path, tmp_path: Path) -> None:
    """RELOADING=1 with the time, then READY=1, also after a mistake: the service goes on."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(stretched(PATIENCE_S))

        def hear(until: str) -> list[str]:
            heard = [manager.recv(4096).decode()]
            while heard[-1] != until:
                heard.append(manager.recv(4096).decode())
            return [one for one in heard if not one.startswith(("WATCHDOG", "STATUS"))]

        broker = make_broker("--config", str(file), env={"NOTIFY_SOCKET": str(tmp_path / "notify")})
        hear("READY=1")
        for text in ("prefetch = 3\n", "[\n"):
            file.write_text(text)
            broker.kill(signal.SIGHUP)
            begun, ended = hear("READY=1")

            assert re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=\d+", begun)
            assert ended == "READY=1"


# -- SIGHUP and the terminal


@pytest.mark.parametrize("ignores", [False, True])
def test_the_end_of_the_terminal_is_the_end_of_a_broker_in_the_foreground(tmp_path: Path, ignores: bool) -> None:
    """But not after nohup, and SIGHUP by itself is a wish to reload."""
    pid, terminal = pty.fork()
    if pid == 0:
        # whoever runs the tests may ignore it, as nohup(1) does
        signal.signal(signal.SIGHUP, signal.SIG_IGN if ignores else signal.SIG_DFL)
        files = ["--config", os.devnull, "--log-file", f"{tmp_path}/log", "--listen", f"unix:{tmp_path}/s"]
        os.execv(sys.executable, [sys.executable, "-m", "forkbroker", "--store", "memory:", *files])
    log = tmp_path / "log"
    try:
        wait_until(lambda: log.exists() and "listens on" in log.read_text(), "a broker")
        os.kill(pid, signal.SIGHUP)
        wait_until(lambda: "reload: done" in log.read_text(), "a reload")
        while select.select([terminal], [], [], 0)[0]:
            os.read(terminal, 1000)
        os.close(terminal)
        if ignores:
            wait_until(lambda: log.read_text().count("reload: done") == 2, "another reload")
            os.kill(pid, signal.SIGTERM)
        wait_until(lambda: os.waitpid(pid, os.WNOHANG)[0], "the broker's end")
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise

    assert ("the terminal is gone" in log.read_text()) is not ignores


def check(broker: FileBroker, text: str) -> tuple[int, str]:
    """Write the configuration file, and ask what a reload would do: exit status, and what was said."""
    broker.file.write_text(text)
    command = [sys.executable, Path(__file__).parents[2] / "bin" / "stomp-brokerctl", "check"]
    done = subprocess.run(
        [*command, "--url", f"stomp://127.0.0.1:{broker.port}"],
        capture_output=True,
        text=True,
        timeout=stretched(60.0),
    )
    assert done.stderr == ""
    return done.returncode, done.stdout.rstrip()


def test_a_check_tells_what_would_change_and_changes_nothing(start, tmp_path: Path) -> None:
    """New files are not there afterwards; options that wait for a restart are named."""
    listen = 'listen = ["127.0.0.1:0", "unix:{}"]\n'
    broker = start(listen.format(tmp_path / "old"))
    assert check(broker, listen.format(tmp_path / "old")) == (0, "a reload would do this: nothing has changed")
    new, log = tmp_path / "new", tmp_path / "new.log"
    text = listen.format(new) + f'prefetch = 7\ndisk-free = 7\nlog-file = "{log}"\n'
    status, said = check(broker, text)

    assert status == 0, said
    assert "at once: " in said and "listen" in said and "log-file" in said and "after a restart: disk-free" in said
    assert not new.exists() and not log.exists()
    connect(str(tmp_path / "old")).close()
    assert " reload: " not in broker.log


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("prefetch = 0", "line 1: prefetch = 0: too small"),
        ('listen = ["127.0.0.1:0", "unix:/nonexistent/s"]', "unix:/nonexistent/s: cannot listen: No such file"),
        ('log-file = "/nonexistent/log"', "cannot write log file /nonexistent/log: No such file"),
    ],
)
def test_a_check_finds_what_a_reload_would(start, text: str, said: str) -> None:
    """Also what only the opening shows; the exit status is 1."""
    status, found = check(start('listen = "127.0.0.1:0"\n'), text)

    assert (status, said in found) == (1, True), found
