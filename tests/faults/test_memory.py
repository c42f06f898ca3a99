"""Memory of the parent: however much all clients send at once, it stays within what the broker was given."""

from __future__ import annotations

import resource
from concurrent.futures import ThreadPoolExecutor

import pytest
from faults.scene import Client

from forkbroker.testing.broker import RunningBroker

CLIENTS = 6
MIB = 1 << 20


def limit(broker: RunningBroker, mib: int) -> None:
    """Give the parent, and the children that it forks from now on, so much address space."""
    resource.prlimit(broker.pid, resource.RLIMIT_AS, (mib * MIB, mib * MIB))


def commit_large(broker: RunningBroker) -> str:
    """A transaction of nearly the largest size; what the broker answers to its COMMIT."""
    with Client(broker.port) as client:
        client.login()
        client.send("BEGIN", transaction="t")
        for _ in range(99):
            client.send("SEND", destination="/topic/nobody", transaction="t", body=bytes(MIB))
        client.send("COMMIT", transaction="t", receipt="done")
        return client.receive(60).command


def send_large(broker: RunningBroker) -> str:
    """One message of nearly the largest size, to a queue; what the broker answers."""
    with Client(broker.port) as client:
        client.login()
        client.send("SEND", destination="/queue/large", receipt="done", body=bytes(90 * MIB))
        return client.receive(60).command


@pytest.mark.slow
@pytest.mark.parametrize("act", [commit_large, send_large])
def test_what_is_sent_at_once_is_received_one_after_the_other(start, connect, act) -> None:
    """Six clients send 594 MB in 500 MiB of address space: each has its receipt, and the parent goes on."""
    broker = start()
    witness = connect(broker, "witness")
    limit(broker, 500)
    with ThreadPoolExecutor(CLIENTS) as pool:
        answers = list(pool.map(lambda _: act(broker), range(CLIENTS)))

    assert answers == ["RECEIPT"] * CLIENTS, broker.log
    witness.publish("/topic/well")


def test_who_asks_for_more_memory_than_there_is_ends_alone(start, connect) -> None:
    """The parent can't allocate what was announced: that child is ended, with a line that says why."""
    broker = start()
    witness = connect(broker, "witness")
    limit(broker, 5000)
    with Client(broker.port) as client:
        client.login()
        resource.prlimit(broker.pid, resource.RLIMIT_AS, (90 * MIB, 5000 * MIB))
        client.send("SEND", destination="/queue/large", body=bytes(90 * MIB))
        client.expect_eof()
    broker.wait_for_log(r"client 2 \S+: killed, no memory for a message from it")

    witness.publish("/topic/well")
    assert broker.is_running
