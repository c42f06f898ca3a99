"""SIGKILL and other ends of each process: what is left, who is harmed, what is logged."""

from __future__ import annotations

import os
import re
import signal
import socket
from contextlib import suppress
from pathlib import Path

import pytest
from faults.scene import Client, child_of, kill_child_of, processes
from support.deadline import wait_until

from forkbroker.parent.spares import LOT
from forkbroker.testing.broker import RunningBroker

KILLED = -signal.SIGKILL


def _use(broker: RunningBroker, clients: list[Client]) -> None:
    """Leave something of every kind in the broker: subscriptions, unsettled messages, a transaction, a backlog."""
    for number, client in enumerate(clients):
        client.subscribe("/queue/work", ack="client-individual", prefetch_count=1)
        client.subscribe("/topic/news", 1)
        client.publish("/queue/work", f"m{number}")
        client.publish("/queue/backlog", f"m{number}")
        client.send("BEGIN", transaction="t")
        client.send("SEND", body=b"unfinished", destination="/queue/work", transaction="t")
    broker.wait_for_children(len(clients))


@pytest.mark.row("C14")
def test_when_the_parent_is_killed_all_children_end_and_clients_see_it(start, connect) -> None:
    """No orphan, no zombie, within seconds; nobody waits for a broker that is gone."""
    broker = start()
    clients = [connect(broker) for _ in range(8)]
    _use(broker, clients)
    broker.kill()

    assert broker.wait() == KILLED
    for client in clients:
        client.take_to_end(5)
    wait_until(lambda: not processes(broker.pid), "the end of all children", 5)


def test_a_killed_broker_is_no_obstacle_for_the_next(start, connect, tmp_path) -> None:
    """Same port, same Unix socket, same pidfile, at once, although connections and files of the first are left."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    path, pidfile = tmp_path / "socket", tmp_path / "pid"
    options = ("--listen", f"127.0.0.1:{port}", "--listen", f"unix:{path}", "--pidfile", pidfile)
    first = start(*options)
    with Client(port) as one, Client(str(path)) as other:
        one.login()
        other.login()
        first.kill()
        assert first.wait() == KILLED
        assert path.is_socket()
        assert pidfile.read_text() == f"{first.pid}\n"
        second = start(*options)
        with Client(port) as again, Client(str(path)) as other_again:
            again.login()
            other_again.login()

            assert pidfile.read_text() == f"{second.pid}\n"
        one.take_to_end()
        other.take_to_end()
    assert second.stop() == 0
    assert not path.exists()
    assert not pidfile.exists()


@pytest.mark.row("A07")
def test_a_killed_child_costs_its_client_alone(start, connect) -> None:
    """Its client sees the end; what it held goes to others, marked and in order; what others hold stays theirs."""
    broker = start()
    victim, other, producer = connect(broker, "victim"), connect(broker, "other"), connect(broker, "producer")
    victim.subscribe("/queue/work", ack="client-individual", prefetch_count=3)
    for number in range(3):
        producer.publish("/queue/work", f"m{number}")
    victim.expect_messages("m0", "m1", "m2")
    other.subscribe("/queue/work", ack="client-individual", prefetch_count=10)
    other.subscribe("/topic/news", 1)
    producer.publish("/queue/work", "m3")
    held = other.expect("MESSAGE", "m3")
    kill_child_of(broker, victim)
    victim.expect_eof()
    got = other.expect_messages("m0", "m1", "m2")
    producer.publish("/topic/news", "all is well")
    other.expect("MESSAGE", "all is well")
    other.ack(held)

    assert [(frame["redelivered"], frame["delivery-count"]) for frame in got] == [("true", "2")] * 3
    assert "redelivered" not in held


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_the_log_tells_who_was_served_by_what_it_died_and_what_it_used(start, connect, number) -> None:
    """One line, as an error; the broker serves on."""
    broker = start()
    victim = connect(broker, "victim")
    kill_child_of(broker, victim, number)
    found = broker.wait_for_log(f"^.* error client 1 {re.escape(victim.address)} victim: ended by .*$")
    victim.take_to_end()
    connect(broker).publish("/topic/news")

    assert re.search(
        rf"ended by signal {number.name}(, core dumped)?, \d+ s, cpu \d+\.\d s, peak [1-9]\d* MiB$", found[0]
    )


def test_a_transaction_whose_child_is_killed_leaves_nothing(start, connect) -> None:
    """Neither its messages nor its acknowledgements."""
    broker = start()
    victim, other = connect(broker, "victim"), connect(broker, "other")
    victim.publish("/queue/in", "job")
    victim.subscribe("/queue/in", ack="client-individual")
    job = victim.expect("MESSAGE", "job")
    victim.send("BEGIN", transaction="t")
    victim.request("SEND", body=b"result", destination="/queue/out", transaction="t")
    victim.request("ACK", id=job["ack"], transaction="t")
    kill_child_of(broker, victim)
    other.subscribe("/queue/out", "out")
    other.subscribe("/queue/in", "in", ack="client-individual")
    again = other.expect("MESSAGE", "job")
    other.expect_nothing()

    assert again["redelivered"] == "true"


def test_temporary_queues_go_with_a_killed_child(start, connect) -> None:
    """Others that send there are not stopped by it."""
    broker = start()
    owner, other = connect(broker, "owner"), connect(broker, "other")
    owner.subscribe("/temp-queue/mine", "mine")
    owner.publish("/queue/work", "question", reply_to="/temp-queue/mine")
    other.subscribe("/queue/work")
    address = other.expect("MESSAGE", "question")["reply-to"]
    kill_child_of(broker, owner)
    other.send("SEND", body=b"answer", destination=address)
    other.send("DISCONNECT", receipt="bye")
    frames = other.take_to_end()

    assert [frame.command for frame in frames] in (["RECEIPT"], ["ERROR"])
    assert broker.is_running


def test_a_child_that_runs_out_of_memory_costs_its_client_alone() -> None:
    """`--child-memory` bounds what one client can take."""
    with (
        RunningBroker("--child-memory", "96 MiB") as broker,
        Client(broker.port) as greedy,
        Client(broker.port) as modest,
    ):
        greedy.login(login="greedy")
        modest.login(login="modest")
        modest.subscribe("/topic/news")
        with suppress(ConnectionError):
            greedy.send_raw(b"SEND\ndestination:/queue/work\ncontent-length:100000000\n\n")
            for _ in range(100):
                greedy.send_raw(bytes(1 << 20))
        greedy.take_to_end()
        modest.publish("/topic/news", "all is well")

        modest.expect("MESSAGE", "all is well")
        broker.wait_for_log(r"client 1 \S+ greedy: (ended|gone).*, peak \d\d MiB$")
        assert broker.stop() == 0
        assert broker.survivors == []


def test_two_hundred_killed_children_in_a_row_leave_a_working_broker(start, connect) -> None:
    """Neither zombies nor descriptors, and no penalty for those who come after."""
    broker = start("--fork-rate", 10_000)
    witness = connect(broker, "witness")
    witness.subscribe("/queue/work", ack="client-individual", prefetch_count=1000)
    before = _descriptors(broker.pid)
    for _ in range(4):
        with_children = [connect(broker) for _ in range(50)]
        for client in with_children:
            client.subscribe("/queue/none")
        mine = child_of(broker, witness)
        for pid, _ in broker.children():
            if pid != mine:
                os.kill(pid, signal.SIGKILL)
        for client in with_children:
            client.take_to_end()
            client.close()
        broker.wait_for_children(1)
    witness.publish("/queue/work", "job")

    witness.expect("MESSAGE", "job")
    # the parent has one of each spare, and orders these in lots
    wait_until(lambda: abs(_descriptors(broker.pid) - before) < LOT, f"{before} descriptors again")
    left = {broker.pid, broker.store_pid, broker.wait_for_nursery(), mine}
    titled = {one.pid for one in processes(broker.pid) if not one.title.startswith("stomp-broker: spare")}
    assert titled <= left


def _descriptors(pid: int) -> int:
    """How many the process has; where the system doesn't show it, always the same."""
    path = Path(f"/proc/{pid}/fd")
    return len(list(path.iterdir())) if path.exists() else 0
