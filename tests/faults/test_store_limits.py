"""What is too much for the store: large changes, changes that kill it, a disk that fills up, a file that is gone.

Whoever is concerned is told, all others go on, and nothing that was promised is lost.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from faults.conftest import Meet
from faults.scene import Client
from support.deadline import wait_until
from support.disks import mounted
from support.rawclient import Frame

from forkbroker.testing.broker import RunningBroker

MIB = 1 << 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 48 MiB."""
    with mounted(tmp_path / "disk", 48) as directory:
        yield directory


def memory_of(pid: int) -> int:
    """The most that a process has had, in octets."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.partition("VmHWM:")[2].split()[0]) << 10


def subscribe_durably(client: Client, count: int) -> None:
    """So many durable subscriptions to one topic; nothing is read from them."""
    for number in range(count):
        headers = {"activemq.subscriptionName": f"d{number}", "ack": "client", "prefetch-count": "1"}
        client.send("SUBSCRIBE", [*headers.items()], id=f"s{number}", destination="/topic/t", receipt=f"r{number}")
        client.expect("RECEIPT", receipt_id=f"r{number}")


def expect_late(client: Client, receipt: str) -> None:
    """A RECEIPT that may take a minute."""
    frame = client.receive(60.0)
    assert (frame.command, frame.get("receipt-id")) == ("RECEIPT", receipt), frame.body


# -- large changes


def test_a_large_message_for_three_durable_subscriptions_is_kept_for_each(begin, meet) -> None:
    """45 MiB, more than an envelope may have when it is written out for all of them."""
    broker = begin()
    reader, sender, other = meet(broker), meet(broker), meet(broker)
    subscribe_durably(reader, 3)
    reader.close()
    store = broker.wait_for_store()

    sender.send("SEND", body=bytes(45 * MIB), destination="/topic/t", persistent="true", receipt="large")
    expect_late(sender, "large")
    other.publish("/queue/a", "small", persistent="true")

    assert broker.wait_for_store() == store
    assert memory_of(store) < 400 * MIB


def test_a_batch_for_a_thousand_durable_subscriptions_takes_moderate_memory(begin, meet) -> None:
    """256 messages of 1 KB: a quarter of a GiB to be written, and neither parent nor store has it in memory."""
    broker = begin("--max-subscriptions", "1000", "--disk-free", "0")
    reader, sender = meet(broker), meet(broker)
    subscribe_durably(reader, 1000)
    reader.close()
    store = broker.wait_for_store()
    before = memory_of(broker.pid)

    for number in range(255):
        sender.send("SEND", body=b"%-1000d" % number, destination="/topic/t", persistent="true")
    sender.send("SEND", body=b"%-1000d" % 255, destination="/topic/t", persistent="true", receipt="last")
    expect_late(sender, "last")

    assert broker.wait_for_store() == store
    assert memory_of(store) < 200 * MIB
    assert memory_of(broker.pid) - before < 200 * MIB


# -- changes that kill the store


def test_a_change_that_kills_the_store_is_set_aside(begin, meet, tmp_path) -> None:
    """Its sender is refused, the others get their receipts, and it stands in a file."""
    broker = begin(crash="store.trying@2")
    one, bad, two = meet(broker), meet(broker), meet(broker)
    one.publish("/queue/a", "0", persistent="true")
    os.kill(broker.wait_for_store(), signal.SIGSTOP)
    stopped = broker.store_pid
    bad.send("SEND", body=b"bad", destination="/queue/a", persistent="true", receipt="bad")
    time.sleep(0.2)
    one.send("SEND", body=b"1", destination="/queue/a", persistent="true", receipt="one")
    two.send("SEND", body=b"2", destination="/queue/b", persistent="true", receipt="two")
    time.sleep(0.2)
    os.kill(stopped, signal.SIGKILL)

    error = bad.expect("ERROR")
    one.expect("RECEIPT", receipt_id="one")
    two.expect("RECEIPT", receipt_id="two")
    assert "has died of this" in error.body.decode()
    broker.wait_for_log(r"change 2 is not written, but kept in .*queues\.db\.refused-")
    (kept,) = tmp_path.glob("queues.db.refused-*")
    shown = subprocess.run(
        [sys.executable, "-m", "forkbroker.store.aside", str(kept)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.startswith("WRITE of 1 messages for /queue/a")
    assert "bad" in shown.stdout


# -- the disk


def fill(meet: Meet, broker: RunningBroker, body: bytes) -> list[int]:
    """Send without a pause until a message is refused: which ones got their receipts."""
    client = meet(broker)
    number = 0
    frames = []
    while not client.has_ended:
        try:
            client.send("SEND", body=body, destination="/queue/a", persistent="true", receipt=str(number))
        except OSError:
            break
        number += 1
        frames += client.take()
    frames += client.take_to_end()
    assert any(frame.command == "ERROR" for frame in frames)
    return [int(frame["receipt-id"]) for frame in frames if frame.command == "RECEIPT"]


@pytest.mark.parametrize("free", ["16 MiB", "0"])
def test_a_fast_producer_leaves_room_for_what_consumers_settle(small_disk, begin, meet, free) -> None:
    """With a watermark or without one: the disk is never so full that no ACK can be written; nor after a restart."""
    broker = begin("--disk-free", free, store_directory=small_disk)
    accepted = fill(meet, broker, bytes(20_000))
    found = os.statvfs(small_disk)
    assert free == "0" or found.f_bavail * found.f_frsize > 8 * MIB
    assert len(accepted) > 200

    consumer = meet(broker)
    consumer.subscribe("/queue/a", ack="client-individual", prefetch_count=50)
    for _ in range(100):
        consumer.ack(consumer.expect("MESSAGE"))
    consumer.close()
    broker.kill()
    broker.wait()
    broker = begin("--disk-free", free, store_directory=small_disk)
    consumer = meet(broker)
    consumer.subscribe("/queue/a", ack="client-individual", prefetch_count=50)
    for _ in range(len(accepted) - 100):
        consumer.ack(consumer.expect("MESSAGE"))
    wait_until(lambda: refusal(meet, broker) == "" or free != "0", "room, as the queue is empty", 20)


def test_large_groups_leave_room_for_what_consumers_settle_too(small_disk, begin, meet) -> None:
    """SQLite's log has its room from an earlier group: the disk says nothing before the database has none."""
    broker = begin("--disk-free", "0", store_directory=small_disk)
    sender = meet(broker)
    store = broker.wait_for_store()
    sent, receipts = 0, list[Frame]()

    def is_full() -> bool:
        return sender.has_ended or any("trying again each second" in line for line in broker.log)

    def has_answered() -> bool:
        receipts.extend(sender.take())
        return len(receipts) >= sent or is_full()

    while not is_full():
        os.kill(store, signal.SIGSTOP)
        with suppress(OSError):
            for _ in range(220):
                sender.send("SEND", body=bytes(20_000), destination="/queue/a", persistent="true", receipt=str(sent))
                sent += 1
        os.kill(store, signal.SIGCONT)
        wait_until(has_answered, "receipts, or a full disk")

    consumer = meet(broker)
    consumer.subscribe("/queue/a", ack="client-individual", prefetch_count=50)
    for _ in range(200):
        consumer.ack(consumer.expect("MESSAGE"))


def test_a_start_on_a_full_disk_lets_consumers_drain(small_disk, begin, meet) -> None:
    """It refuses what is persistent until there is room."""
    broker = begin(store_directory=small_disk)
    broker.stop()
    broker = begin("--disk-free", "0", store_directory=small_disk)
    sender = meet(broker)
    for number in range(200):
        sender.send("SEND", body=b"%-20000d" % number, destination="/queue/a", persistent="true")
    sender.publish("/queue/a", "last", persistent="true")
    assert broker.stop() == 0
    with (small_disk / "ballast").open("wb", buffering=0) as file:
        while True:
            try:
                file.write(bytes(4096))
            except OSError:
                break

    broker = begin("--disk-free", "12 MiB", store_directory=small_disk)
    sender = meet(broker)
    sender.send("SEND", body=b"x" * 100, destination="/queue/b", persistent="true", receipt="r")
    assert "cannot be stored now" in sender.expect("ERROR").body.decode()
    consumer = meet(broker)
    consumer.subscribe("/queue/a", ack="client-individual", prefetch_count=50)
    while (frame := consumer.expect("MESSAGE")).body != b"last":
        consumer.ack(frame)


# -- the file


def test_a_database_that_is_removed_is_missed_and_welcome_back(begin, meet, tmp_path) -> None:
    """Nobody makes an empty one in its place; who sends is refused with the reason, and what was told waits."""
    broker = begin()
    client = meet(broker)
    client.publish("/queue/a", "before", persistent="true")
    store = broker.wait_for_store()
    away = tmp_path / "away"
    away.mkdir()
    for name in ("queues.db", "queues.db-wal", "queues.db-shm"):
        shutil.move(tmp_path / name, away / name)
    wait_until(lambda: broker.store_pid != store, "that it is missed")
    wait_until(lambda: "is gone" in refusal(meet, broker), "an ERROR with the reason")

    assert not (tmp_path / "queues.db").exists()
    for name in ("queues.db", "queues.db-wal", "queues.db-shm"):
        if (away / name).exists():
            shutil.move(away / name, tmp_path / name)
    wait_until(lambda: refusal(meet, broker) == "", "that it is welcome", 20)
    consumer = meet(broker)
    consumer.subscribe("/queue/a")
    consumer.expect("MESSAGE", "before")


def refusal(meet: Meet, broker: RunningBroker) -> str:
    """Why a persistent message is refused; empty if it isn't."""
    client = meet(broker)
    client.send("SEND", body=b"x", destination="/queue/other", persistent="true", receipt="r")
    frame = client.receive()
    client.close()
    return frame.body.decode() if frame.command == "ERROR" else ""
