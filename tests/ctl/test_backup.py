"""Backups of a running broker, restored, interrupted and refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from store.databases import fill as fill_database
from support.deadline import stretched, wait_until
from support.rawclient import connect

from forkbroker.testing.broker import RunningBroker

COMMAND = [sys.executable, str(Path(__file__).parents[2] / "bin" / "stomp-brokerctl")]
Start = Callable[..., RunningBroker]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start brokers on the test's own database."""
    with ExitStack() as stack:

        def run(crash: str = "", *options: str) -> RunningBroker:
            env = {"FORKBROKER_CRASH": crash} if crash else {}
            return stack.enter_context(RunningBroker(*options, store_directory=tmp_path, env=env))

        yield run


def begin(broker: RunningBroker, name: str) -> subprocess.Popen[str]:
    """Ask for a backup."""
    command = [*COMMAND, "backup", name, "--json", "--url", f"{broker.host}:{broker.port}"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(asked: subprocess.Popen[str]) -> tuple[int, str]:
    out, err = asked.communicate(timeout=stretched(60.0))
    return asked.returncode, out + err


def back_up(broker: RunningBroker, name: str) -> tuple[int, str]:
    return finish(begin(broker, name))


def fill(broker: RunningBroker, queue: str, count: int) -> None:
    with connect(broker.port) as client:
        for number in range(count):
            client.send("SEND", destination=queue, persistent="true", body=f"m{number}".encode())
        client.publish(queue, "last", persistent="true")


def test_a_backup_takes_the_place_of_the_database(start: Start, tmp_path: Path) -> None:
    """The broker that is started with it has all messages, and nothing to recover."""
    broker = start()
    fill(broker, "/queue/kept", 99)
    status, text = back_up(broker, "copy.db")
    saved = json.loads(text)
    assert (status, saved["messages"]) == (0, 100)
    assert (saved["file"], saved["bytes"]) == (str(tmp_path / "copy.db"), (tmp_path / "copy.db").stat().st_size)
    broker.wait_for_log(r"backup: \S+copy.db written, 100 messages, \d+ bytes")
    fill(broker, "/queue/later", 9)
    broker.kill()
    broker.wait()
    for part in ("", "-wal", "-shm"):
        (tmp_path / f"queues.db{part}").unlink(missing_ok=True)
    (tmp_path / "copy.db").rename(tmp_path / "queues.db")
    again = start()
    with connect(again.port) as client:
        client.subscribe("/queue/kept", 1)
        messages = [client.expect("MESSAGE") for _ in range(100)]

    assert {message["redelivered"] for message in messages} == {"true"}
    assert not [line for line in again.log if "unclean" in line or "damaged" in line]
    assert back_up(again, "copy.db")[0] == 0


def test_a_name_must_be_new_and_no_path(start: Start, tmp_path: Path) -> None:
    """The exit status says who is to blame."""
    broker = start()
    assert back_up(broker, "copy")[0] == 0
    status, text = back_up(broker, "../copy")
    assert (status, 'no path, not "../copy"' in text) == (65, True)
    status, text = back_up(broker, "copy")

    assert (status, "copy exists; remove it, or give another name" in text) == (69, True)


def test_a_store_in_memory_has_no_backup() -> None:
    """It says so."""
    with RunningBroker("--store", "memory:") as broker:
        assert back_up(broker, "x") == (69, "stomp-brokerctl: this store (memory) cannot be backed up\n")


@pytest.mark.parametrize("point", ["backup.step", "backup.written", "backup.named"])
def test_a_death_leaves_no_half_file_under_the_name(start: Start, tmp_path: Path, point: str) -> None:
    """The broker goes on, says it, and the next backup succeeds and leaves nothing of this one."""
    broker = start(point)
    fill(broker, "/queue/kept", 9)
    status, text = back_up(broker, "copy")
    assert (status, text) == (69, "stomp-brokerctl: the process that makes it crashed\n")
    assert (tmp_path / "copy").exists() is (point == "backup.named")
    fill(broker, "/queue/kept", 9)
    broker.stop()
    broker = start()
    assert json.loads(back_up(broker, "next")[1])["messages"] == 20

    assert not [one.name for one in tmp_path.iterdir() if one.name.startswith("queues.db-backup")]


def test_one_backup_at_a_time_and_the_end_of_the_broker_ends_it(start: Start, tmp_path: Path) -> None:
    """Its process is stopped here, as one that waits for a disk; commits go on meanwhile."""
    fill_database(tmp_path / "queues.db", range(1, 20_001))
    broker = start()
    for number in range(20):
        first = begin(broker, f"copy{number}")
        pid = stop_backup(broker, first)
        if pid:
            break
    status, text = back_up(broker, "second")
    assert (status, "another backup is being made" in text) == (69, True)
    fill(broker, "/queue/kept", 9)
    assert broker.stop() == 0

    assert finish(first)[0] == 69
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), "the end of the process that was stopped")
    assert broker.survivors == []
    assert not (tmp_path / f"copy{number}").exists()


def stop_backup(broker: RunningBroker, asked: subprocess.Popen[str]) -> int:
    """Stop the process that makes the backup as soon as it is there; 0: it was quicker."""
    while asked.poll() is None:
        for pid, title in broker._all_children():
            if title == "stomp-broker: backup":
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGSTOP)
                    return pid
    finish(asked)
    return 0
