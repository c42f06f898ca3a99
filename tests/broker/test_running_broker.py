"""forkbroker.testing.broker, on which all tests of this kind stand."""

from __future__ import annotations

import signal

import pytest

from forkbroker.testing.broker import BrokerNotRunningError, RunningBroker


def test_it_says_why_a_broker_does_not_start() -> None:
    """In the broker's own words."""
    with pytest.raises(BrokerNotRunningError, match="--max-clients none: not a whole number"):
        RunningBroker("--max-clients", "none").__enter__()


def test_it_gives_the_exit_status_and_the_log(make_broker) -> None:
    """Also after the end."""
    broker = make_broker()

    assert broker.is_running
    assert broker.addresses == [f"{broker.host}:{broker.port}"]
    assert broker.stop() == 0
    assert broker.wait_for_log("ended$")
    assert not broker.is_running


def test_variables_reach_the_broker(make_broker) -> None:
    """Beside those of the test."""
    with pytest.raises(BrokerNotRunningError, match="PYTHONHOME = "):
        make_broker(env={"PYTHONHOME": "/nonexistent"})


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGQUIT])
def test_nothing_survives_a_killed_parent(make_broker, join, number) -> None:
    """The children end with the channel, and the clients are told by the connection's end."""
    broker = make_broker()
    clients = [join(broker) for _ in range(3)]
    broker.kill(number)
    status = broker.wait()

    assert status == (-9 if number == signal.SIGKILL else 0)
    for client in clients:
        client.drain()
        client.close()
    assert broker.stop() == status
    assert broker.survivors == []


def test_a_wait_in_vain_shows_the_end_of_the_log(broker) -> None:
    """What is missing is mostly said there."""
    with pytest.raises(TimeoutError, match=r"no such line(.|\n)*listens on"):
        broker.wait_for_log("no such line", 0.01)
