"""A broker with quotas for its users."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from broker.test_users import configure, reload
from support.deadline import wait_until
from support.rawclient import RawClient, connect

from forkbroker.testing.broker import RunningBroker

QUOTAS = """
[quotas.user.alice]
connections = 2
subscriptions = 1
[quotas.all-users]
bytes-per-second = "64 KiB"
memory = "2 GiB"
cpu = 100
nice = 3
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A configuration file with alice, who may not have much, and bob."""
    return configure(tmp_path, ["alice", "bob"], QUOTAS)


@pytest.fixture
def broker(make_broker: Callable[..., RunningBroker], file: Path) -> RunningBroker:
    """A broker with this file."""
    return make_broker("--config", str(file))


def login(broker: RunningBroker, name: str) -> RawClient:
    return connect(broker.port, login=name, passcode=name)


def test_a_user_has_so_many_clients_and_each_so_many_subscriptions(broker: RunningBroker, file: Path) -> None:
    """Others have their own. A reload changes it for clients that are there."""
    with login(broker, "alice") as first, login(broker, "alice") as second, login(broker, "bob") as bob:
        for one in (first, second):
            one.sync()  # CONNECTED does not wait until the parent has counted the client
        with login(broker, "alice") as third:
            third.expect_error("too many clients of user alice, the quota for connections is 2")
        with login(broker, "bob"), login(broker, "bob") as others:
            others.sync()
        first.subscribe("/topic/a")
        for number in range(3):
            bob.subscribe("/topic/a", number)
        file.write_text(file.read_text().replace("subscriptions = 1", "subscriptions = 2").replace("= 2\n", "= 3\n", 1))
        assert reload(broker).startswith("done")
        with login(broker, "alice") as third:
            third.sync()
        first.subscribe("/topic/a", 1)
        first.send("SUBSCRIBE", destination="/topic/a", id="2")
        first.send("SUBSCRIBE", destination="/topic/a", id="3")
        first.expect_error("too many subscriptions")


def test_a_user_has_so_many_queues_and_bytes_in_them(broker: RunningBroker, file: Path) -> None:
    """A reload changes it for clients that are there; others have their own."""
    more = 'queues = 2\nqueue-bytes = "10 KiB"\n'
    with login(broker, "alice") as first, login(broker, "bob") as bob:
        file.write_text(file.read_text().replace("subscriptions = 1\n", f"subscriptions = 1\n{more}"))
        assert reload(broker).startswith("done")
        first.request("SEND", destination="/queue/a", body=bytes(11_000))
        bob.request("SEND", destination="/queue/b", body=bytes(11_000))
        bob.request("SEND", destination="/queue/b", body=bytes(11_000))
        first.send("SEND", destination="/queue/a", body=b"x", receipt="1")
        error = first.expect_error("refused")
        assert b"the queues of user 'alice' have 11," in error.body
        assert error.body.endswith(b" bytes, the quota for queue-bytes is 10,240\n")
    with login(broker, "alice") as second:
        second.subscribe("/queue/c", 1)
        second.send("SEND", destination="/queue/d", body=b"x", receipt="1")
        error = second.expect_error("refused")
        assert error.body == b"queue /queue/d does not exist, and user 'alice' has 2 already, the quota for queues\n"


def test_who_sends_too_fast_waits(broker: RunningBroker) -> None:
    """All that was sent arrives, and others are answered meanwhile."""
    with login(broker, "alice") as fast, login(broker, "bob") as other:
        other.subscribe("/topic/a")
        fast.sync()
        began = time.monotonic()
        for _ in range(3):
            fast.send("SEND", destination="/topic/a", body=bytes(65_536))
        for _ in range(3):
            assert len(other.receive().body) == 65_536
        other.sync()
        fast.sync()
        assert time.monotonic() - began > 1.0


@pytest.mark.skipif(not Path("/proc/self/limits").exists(), reason="no /proc")
def test_the_kernel_has_the_limits_of_the_process(broker: RunningBroker) -> None:
    """From the login on."""
    with login(broker, "bob") as client:
        client.sync()

        def find() -> list[int]:
            return [pid for pid, title in broker.children() if " bob " in title]

        wait_until(lambda: bool(find()), "the title")  # which follows a moment later
        (pid,) = find()
        limits = Path(f"/proc/{pid}/limits").read_text()

        assert re.search(rf"Max address space\s+{2 * 1024**3}\s", limits)
        assert re.search(r"Max cpu time\s+100\s", limits)
        assert os.getpriority(os.PRIO_PROCESS, pid) == os.getpriority(os.PRIO_PROCESS, 0) + 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
def test_queues_count_for_their_user_over_a_restart(tmp_path: Path, file: Path, number: int) -> None:
    """Before the user is there again: what others send to them counts, and the listing says whose they are."""
    file.write_text(file.read_text() + 'queues = 2\nqueue-bytes = "10 KiB"\n')
    for life in range(2):
        with RunningBroker("--config", str(file), store_directory=tmp_path / "store") as broker:
            if life == 0:
                with login(broker, "alice") as alice:
                    alice.publish("/queue/a", "x" * 6_000, persistent="true")
                    alice.publish("/queue/later", "x", persistent="true", **{"x-delay": "1000000"})
                broker.kill(number)
                broker.wait()
                continue
            with login(broker, "bob") as bob:
                bob.publish("/queue/a", "x" * 6_000, persistent="true")
                bob.send("SEND", destination="/queue/a", body=b"x", receipt="1")
                assert b"the queues of user 'alice' have 1" in bob.expect_error("refused").body
            with login(broker, "alice") as alice:
                alice.send("SEND", destination="/queue/b", body=b"x", receipt="1")
                assert b"user 'alice' has 2 already, the quota for queues" in alice.expect_error("refused").body
