"""Workers with prefetch 1 whose children keep messages ahead of their credit, and what happens to those."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable

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


# ---------------------------------------------------------------- several workers, which share what is kept


class Crew:
    """Workers that acknowledge whatever comes at once, and what they have got."""

    def __init__(self, connect: Callable[..., Client], broker: object, size: int) -> None:
        """A queue with messages, and so many workers that wait for them."""
        self.connect, self.broker = connect, broker
        self.settled: set[int] = set()
        self.marked = 0
        self.last: dict[Client, int] = {}
        """The youngest message that each worker has got, of those that came for the first time."""
        self.workers = [self.add() for _ in range(size)]
        producer = connect(broker, "producer")
        for first in range(0, COUNT, 100):
            for number in range(first, first + 100):
                producer.send("SEND", body=b"%d" % number, destination="/queue/work")
        producer.sync()

    def add(self) -> Client:
        """Another worker."""
        worker = self.connect(self.broker, "worker")
        worker.subscribe("/queue/work", ack="client-individual", prefetch_count=1)
        self.last[worker] = -1
        return worker

    def work(self, until: Callable[[], bool]) -> None:
        """Acknowledge what comes until this is so."""

        def is_done() -> bool:
            select.select(self.workers, [], [], 0.02)
            for worker in self.workers:
                self.settle(worker)
            return until()

        wait_until(is_done, "all of these messages", 30)

    def settle(self, worker: Client) -> None:
        """What comes for the first time is younger than what the worker had before, and nobody has settled it."""
        for message in worker.take():
            number = int(message.body)
            if "redelivered" in message:
                self.marked += 1
            else:
                assert number > self.last[worker] and number not in self.settled, "overtaken, or unmarked"
                self.last[worker] = number
            worker.send("ACK", id=message["ack"])
            self.settled.add(number)


def test_workers_that_share_get_each_message_once_and_in_order(start, connect) -> None:
    """None of them is left out."""
    crew = Crew(connect, start(), 3)
    crew.work(lambda: len(crew.settled) == COUNT)

    assert crew.marked == 0
    assert min(crew.last.values()) > 0


def test_workers_that_share_are_killed_while_they_do(start, connect) -> None:
    """Again and again; what a killed one had may come again, and is marked then."""
    broker = start()
    crew = Crew(connect, broker, 3)
    for number in range(1, 8):
        crew.work(lambda number=number: len(crew.settled) >= min(COUNT, 40 * number))
        kill_child_of(broker, crew.workers.pop(0))
        crew.workers.append(crew.add())
    crew.work(lambda: len(crew.settled) == COUNT)

    assert crew.marked < COUNT // 4


def test_a_worker_that_is_stopped_keeps_nothing_from_those_with_which_it_shares(start, connect, stop) -> None:
    """What it had settled without telling may come again, marked; what it has goes on with it."""
    broker = start()
    crew = Crew(connect, broker, 3)
    crew.work(lambda: len(crew.settled) >= COUNT // 4)
    sleeper = crew.workers.pop(0)
    stop(pid := child_of(broker, sleeper))
    held = {int(message.body) for message in sleeper.take()}
    crew.work(lambda: len(crew.settled | held) == COUNT)
    os.kill(pid, signal.SIGCONT)
    sleeper.request("UNSUBSCRIBE", id=0)

    assert len(held) <= 1
    assert crew.marked == 0
