"""A worker with prefetch 1 whose child keeps messages ahead of its credit, and what happens to those."""

from __future__ import annotations

import os
import signal

from faults.scene import Client, child_of, kill_child_of
from support.deadline import wait_until

COUNT = 400


def begin(connect, broker) -> tuple[Client, int, str]:
    """A worker that is quick for a while, and then busy with one message: which one, and its name for an ACK."""
    producer, worker = connect(broker, "producer"), connect(broker, "worker")
    for number in range(COUNT):
        producer.send("SEND", body=b"%d" % number, destination="/queue/work")
    producer.sync()
    worker.subscribe("/queue/work", ack="client-individual", prefetch_count=1)
    for number in range(COUNT // 4):
        message = worker.expect("MESSAGE", str(number))
        assert "redelivered" not in message
        worker.send("ACK", id=message["ack"])
    return worker, COUNT // 4, worker.expect("MESSAGE", str(COUNT // 4))["ack"]


def take_rest(worker: Client, first: int, last: int = COUNT) -> None:
    """All that is left comes to this one, in order and for the first time."""
    for number in range(first, last):
        message = worker.expect("MESSAGE", str(number))
        assert "redelivered" not in message
        worker.send("ACK", id=message["ack"])
    worker.sync()


def test_an_idle_worker_gets_the_next_message_although_a_busy_one_was_quick(start, connect) -> None:
    """It is the oldest one, and the others follow."""
    broker = start()
    busy, busy_with, _ = begin(connect, broker)
    idle = connect(broker, "idle")
    idle.subscribe("/queue/work", ack="client-individual", prefetch_count=1)
    take_rest(idle, busy_with + 1)

    assert busy.take() == []


def test_what_a_killed_child_kept_goes_to_others_as_it_was(start, connect) -> None:
    """Only the message that its client had is marked."""
    broker = start()
    victim, had, _ = begin(connect, broker)
    kill_child_of(broker, victim)
    heir = connect(broker, "heir")
    heir.subscribe("/queue/work", ack="client-individual", prefetch_count=1)
    message = heir.expect("MESSAGE", str(had))
    heir.send("ACK", id=message["ack"])
    take_rest(heir, had + 1)

    assert message["redelivered"] == "true"


def test_what_a_stopped_child_keeps_goes_to_others(start, connect, stop) -> None:
    """When it goes on, it finds itself too late, and works again."""
    broker = start()
    sleeper, had, name = begin(connect, broker)
    pid = child_of(broker, sleeper)
    stop(pid)
    other = connect(broker, "other")
    other.subscribe("/queue/work", ack="client-individual", prefetch_count=1)
    take_rest(other, had + 1)
    os.kill(pid, signal.SIGCONT)
    other.request("UNSUBSCRIBE", id=0)
    other.publish("/queue/work", "for the one that slept")
    sleeper.send("ACK", id=name)
    sleeper.expect("MESSAGE", "for the one that slept")


def test_a_child_that_is_killed_at_any_moment_of_its_work_loses_nothing(start, connect) -> None:
    """Again and again, while it claims what it keeps without a word of the parent."""
    broker = start()
    producer = connect(broker, "producer")
    for number in range(COUNT):
        producer.send("SEND", body=b"%d" % number, destination="/queue/work")
    producer.sync()
    settled: set[int] = set()
    marked = 0

    def live(acknowledgements: int) -> None:
        """One worker's life: the last message that it got may come again, and what it acknowledged just before."""
        nonlocal marked
        worker = connect(broker, "worker")
        worker.subscribe("/queue/work", ack="client-individual", prefetch_count=1)
        last = -1
        for _ in range(acknowledgements):
            message = worker.expect("MESSAGE")
            number = int(message.body)
            is_marked = "redelivered" in message
            assert is_marked or (number > last and number not in settled), "overtaken, or unmarked"
            marked += is_marked
            last = number
            worker.send("ACK", id=message["ack"])
            settled.add(number)
            if len(settled) == COUNT:
                worker.request("UNSUBSCRIBE", id=0)
                return
        kill_child_of(broker, worker)

    def is_done() -> bool:
        live(37)
        return len(settled) == COUNT

    wait_until(is_done, "all messages", 30)
    last = connect(broker, "last")
    last.subscribe("/queue/work", ack="client-individual", prefetch_count=1)
    last.publish("/queue/work", "end")
    message = last.expect("MESSAGE")
    while message.body != b"end":
        assert "redelivered" in message
        last.send("ACK", id=message["ack"])
        message = last.expect("MESSAGE")

    assert marked < COUNT // 4
