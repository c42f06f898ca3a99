"""What the store relies on fails: the disk is full, the file is damaged, gone, locked, or the process stands still.

Who sends persistent messages is told or waits, everybody else goes on, and nothing that was promised is lost.
"""

from __future__ import annotations

import os
import random
import resource
import select
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from faults.conftest import Meet
from support.deadline import stretched, wait_until
from support.disks import mounted
from support.rawclient import Frame

from forkbroker.errors import Exit
from forkbroker.testing.broker import PATIENCE_S, BrokerNotRunningError, RunningBroker

MIB = 1 << 20
BODY = "x" * 2000


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MiB."""
    with mounted(tmp_path / "disk", 16) as directory:
        yield directory


def offer(meet: Meet, broker: RunningBroker, body: str) -> Frame | None:
    """Send one persistent message: its RECEIPT, or an ERROR, or nothing for a moment."""
    client = meet(broker)
    client.send("SEND", body=body.encode(), destination="/queue/a", persistent="true", receipt="r")
    select.select([client], [], [], stretched(0.3))
    frames = client.take()
    client.close()
    return frames[0] if frames else None


def await_refusal(meet: Meet, broker: RunningBroker, accepted: list[str]) -> str:
    """Send until there is an ERROR; what it says. Whatever got a RECEIPT before is added to `accepted`."""
    number = 0

    def is_refused() -> str:
        nonlocal number
        number += 1
        frame = offer(meet, broker, f"{number} {BODY}")
        if frame is not None and frame.command == "RECEIPT":
            accepted.append(str(number))
        return frame.body.decode() if frame is not None and frame.command == "ERROR" else ""

    return wait_until(is_refused, "an ERROR for a persistent message")


def is_well_otherwise(meet: Meet, broker: RunningBroker) -> None:
    """What does not need the store goes on."""
    client = meet(broker)
    client.subscribe("/topic/well", "topic")
    client.subscribe("/queue/well", "queue")
    client.publish("/topic/well", "yes")
    client.expect("MESSAGE", "yes", subscription="topic")
    client.publish("/queue/well", "yes")
    client.expect("MESSAGE", "yes", subscription="queue")
    client.close()


def take_all(meet: Meet, broker: RunningBroker) -> list[str]:
    """The first words of all messages in the queue, which are acknowledged."""
    client = meet(broker)
    client.publish("/queue/a", "last")
    client.subscribe("/queue/a", ack="client", prefetch_count=10_000)
    words = []
    while (frame := client.expect("MESSAGE")).body != b"last":
        words.append(frame.body.decode().partition(" ")[0])
    client.ack(frame)
    client.close()
    return words


def is_within(part: list[str], whole: list[str]) -> bool:
    """Whether all of `part` is in `whole`, in the same order."""
    rest = iter(whole)
    return all(one in rest for one in part)


def fill_store(meet: Meet, broker: RunningBroker, count: int) -> None:
    """So many numbered messages."""
    client = meet(broker)
    for number in range(count - 1):
        client.send("SEND", body=f"{number} {BODY}".encode(), destination="/queue/a", persistent="true")
    client.publish("/queue/a", f"{count - 1} {BODY}", persistent="true")
    client.close()


# -- the disk


def test_below_the_watermark_persistent_messages_are_refused_until_there_is_room(small_disk, begin, meet) -> None:
    """With --disk-free; the ERROR says why. Nobody else is concerned, and it goes on by itself."""
    broker = begin("--disk-free", "10 MiB", store_directory=small_disk)
    accepted: list[str] = []
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(7 * MIB))
    said = await_refusal(meet, broker, accepted)
    is_well_otherwise(meet, broker)
    ballast.unlink()
    wait_until(lambda: getattr(offer(meet, broker, f"after {BODY}"), "command", "") == "RECEIPT", "room")
    accepted.append("after")
    broker.wait_for_log("store .*: new persistent messages are refused: .* bytes are free for the store")
    broker.wait_for_log("store .*: there is room for new persistent messages again")
    broker.kill()
    broker.wait()

    assert "persistent messages cannot be stored now" in said
    assert "bytes are free" in said
    assert is_within(accepted, take_all(meet, begin("--disk-free", "0", store_directory=small_disk)))


def test_a_full_disk_costs_nobody_what_was_promised(small_disk, begin, meet) -> None:
    """Without a watermark, up to the last octet: who waits gets the receipt when there is room again."""
    broker = begin("--disk-free", "0", store_directory=small_disk)
    accepted: list[str] = []
    ballast = small_disk / "ballast"
    with ballast.open("wb") as file:
        while os.statvfs(small_disk).f_bfree * 4096 > 1 * MIB:
            file.write(bytes(65_536))
            file.flush()
    waiting = meet(broker)
    for number in range(2000):
        waiting.send(
            "SEND",
            body=f"w{number} {BODY}".encode(),
            destination="/queue/a",
            persistent="true",
            receipt=str(number),
        )
    said = await_refusal(meet, broker, accepted)
    is_well_otherwise(meet, broker)
    ballast.unlink()
    receipts = []
    wait_until(lambda: receipts.extend(waiting.take()) or len(receipts) == 2000 or waiting.has_ended, "receipts", 20)
    accepted += [f"w{frame['receipt-id']}" for frame in receipts if frame.command == "RECEIPT"]
    wait_until(lambda: getattr(offer(meet, broker, f"after {BODY}"), "command", "") == "RECEIPT", "room", 20)
    broker.wait_for_log(r"store .*: (new persistent messages are refused: )?the disk is full")
    broker.kill()
    broker.wait()
    kept = take_all(meet, begin("--disk-free", "0", store_directory=small_disk))

    assert "full" in said
    assert set(accepted) <= set(kept)
    assert "after" in kept
    assert is_within([one for one in accepted if one.startswith("w")], kept)


def test_a_file_that_may_not_grow_is_as_a_full_disk(begin, meet) -> None:
    """A limit of the system, or a quota: ERROR while it stands, and on by itself when it is lifted."""
    if not hasattr(resource, "prlimit"):
        pytest.skip("the limits of another process can be set on Linux only")
    broker = begin("--disk-free", "0")
    accepted: list[str] = []
    before = resource.prlimit(broker.pid, resource.RLIMIT_FSIZE)
    for pid in (broker.pid, broker.store_pid):
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (100_000, before[1]))
    said = await_refusal(meet, broker, accepted)
    is_well_otherwise(meet, broker)
    for pid in (broker.pid, broker.store_pid):
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
    wait_until(lambda: getattr(offer(meet, broker, f"after {BODY}"), "command", "") == "RECEIPT", "room", 20)
    accepted.append("after")
    broker.kill()
    broker.wait()

    assert "persistent messages cannot be stored now" in said
    assert is_within(accepted, take_all(meet, begin()))


def test_a_directory_that_cannot_be_written_ends_the_start(meet) -> None:
    """With its name, and an exit status that says whose fault it is."""
    with tempfile.TemporaryDirectory(prefix="forkbroker-") as name:
        directory = Path(name)
        directory.chmod(0o555)
        user = ["--user", "nobody"] if os.geteuid() == 0 else []
        ended = start_in_vain(directory, *user)
        directory.chmod(0o700)

    assert ended.returncode in (Exit.CANTCREAT, Exit.NOPERM)
    assert str(directory) in ended.stderr
    assert "Permission denied" in ended.stderr
    assert "Traceback" not in ended.stderr


def start_in_vain(directory: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """A broker that ends by itself."""
    command = [sys.executable, "-m", "forkbroker", "--listen", "127.0.0.1:0"]
    return subprocess.run(
        [*command, "--store", f"sqlite://{directory}/queues.db", *options],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=stretched(PATIENCE_S),
    )


# -- the file


def test_messages_that_get_a_receipt_after_the_file_was_removed_are_kept(begin, meet, tmp_path) -> None:
    """By a new file, or not at all: then there is no receipt."""
    broker = begin()
    for name in ("queues.db", "queues.db-wal", "queues.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    accepted = []
    for number in range(10):
        frame = offer(meet, broker, f"{number} {BODY}")
        if frame is not None and frame.command == "RECEIPT":
            accepted.append(str(number))
    is_well_otherwise(meet, broker)
    os.killpg(broker.pid, signal.SIGKILL)
    broker.wait()

    assert is_within(accepted, take_all(meet, begin()))


def truncate(path: Path) -> None:
    """Its second half is gone."""
    os.truncate(path, path.stat().st_size // 2)


def flip(path: Path) -> None:
    """Some octets of every eighth page are others."""
    chance, octets = random.Random(9), bytearray(path.read_bytes())
    for page in range(2, len(octets) // 4096, 8):
        for _ in range(40):
            octets[page * 4096 + chance.randrange(200)] ^= 1 << chance.randrange(8)
    path.write_bytes(octets)


def overwrite(path: Path) -> None:
    """It is no database at all."""
    path.write_bytes(random.Random(10).randbytes(path.stat().st_size))


@pytest.mark.parametrize("harm", [truncate, flip, overwrite])
def test_a_damaged_store_is_never_replaced_without_being_asked(begin, meet, tmp_path, harm) -> None:
    """The start ends with what to do; with --store-repair the damaged file stands aside, and what is left is served."""
    broker = begin()
    fill_store(meet, broker, 2000)
    assert broker.stop() == 0
    # so that the next one is not sure that all is well, and looks
    broker = begin()
    os.killpg(broker.pid, signal.SIGKILL)
    broker.stop()
    with closing(sqlite3.connect(tmp_path / "queues.db")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    harm(tmp_path / "queues.db")
    damaged = (tmp_path / "queues.db").read_bytes()
    ended = start_in_vain(tmp_path)
    left_alone = (tmp_path / "queues.db").read_bytes()
    broker = begin("--store-repair")
    saved = take_all(meet, broker)
    fill_store(meet, broker, 10)
    assert broker.stop() == 0

    assert ended.returncode == Exit.DATAERR
    assert "--store-repair" in ended.stderr
    assert str(tmp_path / "queues.db") in ended.stderr
    assert "Traceback" not in ended.stderr
    assert left_alone == damaged
    assert [path.read_bytes() for path in tmp_path.glob("queues.db.corrupt-*") if path.suffix.isalnum] == [damaged]
    assert is_within(saved, [str(number) for number in range(2000)])
    assert harm is overwrite or len(saved) > 200
    assert take_all(meet, begin()) == [str(number) for number in range(10)]


def test_a_sound_store_is_left_as_it_is_by_a_repair(begin, meet, tmp_path) -> None:
    """Nothing stands aside, nothing is lost."""
    broker = begin()
    fill_store(meet, broker, 100)
    broker.kill()
    broker.wait()
    saved = take_all(meet, begin("--store-repair"))

    assert [str(number) for number in range(100)] == saved
    assert list(tmp_path.glob("*corrupt*")) == []


def test_a_second_broker_on_one_store_is_refused_with_the_process_number_of_the_first(begin, tmp_path) -> None:
    """At once, with a status of its own; the first goes on. When that one has died the store is free."""
    first = begin()
    ended = start_in_vain(tmp_path)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()

    assert ended.returncode == Exit.UNAVAILABLE
    assert f"process {first.pid} " in ended.stderr
    begin()


def test_whoever_locks_the_database_delays_persistent_messages_and_nothing_else(begin, meet, tmp_path) -> None:
    """An administrator with a tool, for a moment."""
    broker = begin()
    client = meet(broker)
    with closing(sqlite3.connect(tmp_path / "queues.db", isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        client.send("SEND", body=b"waits", destination="/queue/a", persistent="true", receipt="r")
        is_well_otherwise(meet, broker)
        assert client.take() == []
        connection.execute("ROLLBACK")
    client.expect("RECEIPT", receipt_id="r")

    assert take_all(meet, broker) == ["waits"]


def test_an_administrator_may_look_into_the_database_meanwhile(begin, meet, tmp_path) -> None:
    """And finds the messages."""
    broker = begin()
    fill_store(meet, broker, 10)
    with closing(sqlite3.connect(tmp_path / "queues.db")) as connection:
        rows = connection.execute("SELECT queue, count(*) FROM messages GROUP BY queue").fetchall()

    assert rows == [("/queue/a", 10)]
    assert len(take_all(meet, broker)) == 10


# -- the process


def test_a_store_that_stands_still_delays_persistent_messages_and_nothing_else(begin, meet) -> None:
    """Consumers get even these; only what a receipt would say has to wait."""
    broker = begin()
    producer, consumer = meet(broker), meet(broker)
    consumer.subscribe("/queue/a", ack="client-individual", prefetch_count=100)
    store = broker.wait_for_store()
    os.kill(store, signal.SIGSTOP)
    try:
        for number in range(50):
            producer.send("SEND", body=b"%d" % number, destination="/queue/a", persistent="true", receipt=f"r{number}")
        frames = consumer.expect_messages(*map(str, range(50)))
        consumer.send("ACK", id=frames[0]["ack"], receipt="ack")
        is_well_otherwise(meet, broker)
        assert producer.take() == consumer.take() == []
    finally:
        os.kill(store, signal.SIGCONT)
    for number in range(50):
        producer.expect("RECEIPT", receipt_id=f"r{number}")
    consumer.expect("RECEIPT", receipt_id="ack")


def test_a_store_that_stands_still_does_not_keep_the_broker_from_ending(begin, meet) -> None:
    """It is killed in the end, and the log says so."""
    broker = begin("--shutdown-timeout", "1s")
    fill_store(meet, broker, 10)
    os.kill(broker.wait_for_store(), signal.SIGSTOP)
    broker.kill(signal.SIGTERM)
    broker.wait()
    broker.wait_for_log("store: killed, still running at the end of --shutdown-timeout")
    broker.stop()

    assert broker.survivors == []
    assert len(take_all(meet, begin())) == 10


def test_a_store_that_is_killed_again_and_again_is_started_less_and_less_often(begin, meet) -> None:
    """Each time it waits longer, and what is sent meanwhile is not lost."""
    broker = begin()
    client = meet(broker)
    for number in range(4):
        os.kill(broker.wait_for_store(), signal.SIGKILL)
        client.publish("/queue/a", f"{number}", persistent="true")
    pauses = [line.rpartition("restarting in ")[2] for line in broker.log if "restarting" in line]

    assert pauses == ["0.1 s", "0.2 s", "0.4 s", "0.8 s"]
    assert take_all(meet, broker) == ["0", "1", "2", "3"]


def test_no_store_no_broker(tmp_path) -> None:
    """An URL that means nothing ends the start."""
    for url in ("nothing:", "sqlite:relative.db", "sqlite:///"):
        with pytest.raises(BrokerNotRunningError, match=r"sqlite|store"), RunningBroker("--store", url):
            pass
