"""Processes that are stopped: neither dead nor answering."""

from __future__ import annotations

import os
import select
import signal
import time

import pytest
from faults.scene import child_of, elapsed, is_there, pour
from support.deadline import stretched, wait_until


@pytest.mark.parametrize("candidates", [1, 5])
def test_a_stopped_candidate_delays_a_message_by_no_more_than_two_seconds(start, connect, stop, candidates) -> None:
    """Others get what it was offered, as it was; when it goes on, it finds itself too late and works again."""
    broker = start("--offer-candidates", candidates)
    consumers = [connect(broker, f"c{number}") for number in range(3)]
    producer = connect(broker, "producer")
    for consumer in consumers:
        consumer.subscribe("/queue/work", ack="client-individual", prefetch_count=100)
    sleeper = child_of(broker, consumers[0])
    stop(sleeper)
    wanted = [f"m{number}" for number in range(12)]
    for body in wanted:
        producer.publish("/queue/work", body)
    got: list[str] = []

    def collect() -> bool:
        for consumer in consumers[1:]:
            for frame in consumer.take():
                assert "redelivered" not in frame
                got.append(frame.body.decode())
                consumer.send("ACK", id=frame["ack"])
        return len(got) >= len(wanted)

    took = elapsed(lambda: wait_until(collect, "all messages"))
    os.kill(sleeper, signal.SIGCONT)
    consumers[0].sync()
    for consumer in consumers[1:]:
        consumer.request("UNSUBSCRIBE", id=0)
    producer.publish("/queue/work", "for the one that slept")
    consumers[0].expect("MESSAGE", "for the one that slept")

    assert sorted(wanted) == sorted(got)
    assert took < stretched(2.5)


def test_a_client_that_cannot_be_read_for_ten_seconds_loses_its_stopped_child_and_others_go_on(
    start, connect, stop
) -> None:
    """Topic traffic of others flows meanwhile; who published to the stopped one is held, and freed by its end."""
    broker = start()
    sleeper, publisher = connect(broker, "sleeper"), connect(broker, "publisher")
    reader, writer = connect(broker, "reader"), connect(broker, "writer")
    sleeper.subscribe("/topic/flood")
    reader.subscribe("/topic/news")
    pid = child_of(broker, sleeper)
    stop(pid)
    flood = publisher.encode("SEND", body=bytes(65_000), destination="/topic/flood")
    assert 1_000_000 < pour(publisher, flood, 100_000_000) < 100_000_000
    rounds, began = 0, time.monotonic()
    while is_there(pid):
        assert time.monotonic() < began + stretched(30)
        writer.publish("/topic/news", f"n{rounds}")
        reader.expect("MESSAGE", f"n{rounds}")
        rounds += 1
    took = time.monotonic() - began
    sleeper.take_to_end()
    freed = pour(publisher, flood, 10_000_000)

    assert freed >= 10_000_000
    assert rounds > 100
    assert 5 < took < stretched(20)
    broker.wait_for_log(r"warning client 1 \S+ sleeper: killed, has read nothing for 1\d s, [\d,]+ bytes wait for it$")


def test_a_stopped_parent_goes_on_where_it_was(start, connect) -> None:
    """Its children wait for it, and nobody is blamed for the pause."""
    broker = start()
    consumer, producer = connect(broker, "consumer"), connect(broker, "producer")
    consumer.subscribe("/queue/work", ack="client-individual")
    producer.publish("/queue/work", "before")
    consumer.expect("MESSAGE", "before")
    broker.kill(signal.SIGSTOP)
    try:
        for number in range(50):
            producer.send("SEND", body=b"%d" % number, destination="/queue/work")
        producer.send("SEND", body=b"last", destination="/queue/work", receipt="last")
    finally:
        broker.kill(signal.SIGCONT)
    producer.expect("RECEIPT", receipt_id="last")
    frames = consumer.expect_messages(*map(str, range(50)), "last")

    assert not any("redelivered" in frame for frame in frames)
    assert len(broker.children()) == 2


@pytest.mark.slow
def test_what_a_client_sent_before_it_left_outlasts_a_stopped_subscriber(start, connect, stop) -> None:
    """The parent does not read the sender's child while the other is full: that child waits, and has not crashed."""
    broker = start()
    sleeper, sender, consumer = (connect(broker, name) for name in ("sleeper", "sender", "consumer"))
    sleeper.subscribe("/topic/flood")
    pid = child_of(broker, sleeper)
    stop(pid)
    pour(sender, sender.encode("SEND", body=bytes(65_000), destination="/topic/flood"), 3_900_000)
    for number in range(20):
        sender.send("SEND", body=b"%d" % number, destination="/queue/work")
    sender.send("DISCONNECT")
    sender.close()
    select.select([], [], [], 8)  # the broker gives it ten
    os.kill(pid, signal.SIGCONT)
    consumer.subscribe("/queue/work")

    consumer.expect_messages(*map(str, range(20)))
    broker.wait_for_log(r"sender: disconnected, client (sent DISCONNECT|closed the connection)")
