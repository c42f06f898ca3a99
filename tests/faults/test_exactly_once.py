"""Exactly one settlement for each message, whatever is killed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import pytest
from faults.conftest import StartBroker
from faults.crowd import Crowd

from forkbroker.testing.broker import RunningBroker

ENDLESS = ("--max-deliveries", 0, "--policy", "/queue/# poison-after=0")
"""However many consumers die, it is not the message's fault."""
ROUNDS = 3
MESSAGES = 300
"""Of one round."""

MODES = [("client-individual", 1)] * 3 + [("client-individual", 10)] * 3 + [("client", 10)] * 2 + [("client", 1)]

Gather = Callable[[RunningBroker, Iterable[tuple[str, int]], int], Crowd]


@pytest.fixture
def gather(start: StartBroker) -> Iterator[Gather]:
    """Make crowds, whose connections are closed in any case."""
    crowds: list[Crowd] = []

    def run(broker: RunningBroker, modes: Iterable[tuple[str, int]], seed: int) -> Crowd:
        crowds.append(Crowd(broker, "/queue/work", modes, seed))
        return crowds[-1]

    yield run
    for crowd in crowds:
        crowd.close()


@pytest.mark.row("A05", "A07", "T04", "T05")
@pytest.mark.parametrize(("candidates", "seed"), [(1, 11), (3, 22), (9, 33)])
def test_each_message_is_settled_once_while_children_and_connections_die(start, gather, candidates, seed) -> None:
    """SIGKILL, close and RST at random moments; what was delivered again says so, and what got a RECEIPT is gone."""
    broker = start("--offer-candidates", candidates, *ENDLESS)
    crowd = gather(broker, MODES, seed)
    crowd.nacks, crowd.doubts, crowd.transactions = 0.05, 0.05, 0.2
    for _ in range(ROUNDS):
        for _ in range(MESSAGES // 20):
            crowd.produce(20)
            crowd.turn()
            if crowd.chance.random() < 0.6:
                crowd.harm()
        crowd.turn_until(lambda: crowd.is_done, "the round's end")
    crowd.finish()

    assert crowd.ledger.find_mismarked() == []
    assert crowd.ledger.find_unsettled() == []
    assert crowd.ledger.repeated > 0
    assert crowd.losses >= 10


@pytest.mark.row("A06")
def test_no_message_of_auto_consumers_is_lost_when_children_die(start, gather) -> None:
    """What the client's kernel has got is the client's; all else goes to others, marked."""
    crowd = gather(start(*ENDLESS), [("auto", 1), ("auto", 10), ("auto", 1000)], 44)
    for _ in range(10):
        crowd.produce(200)
        crowd.losses += 1
        victim = crowd.chance.choice(crowd.consumers)
        victim.drop(crowd.kill)
        crowd.turn(0)
    crowd.turn_until(lambda: not crowd.ledger.unseen, "all is delivered")

    assert crowd.ledger.find_mismarked() == []
    assert crowd.ledger.unseen == []


@pytest.mark.row("A07")
@pytest.mark.parametrize("ack", ["client", "client-individual"])
def test_a_single_consumer_gets_all_in_order_however_often_it_is_killed(start, gather, ack) -> None:
    """What comes back goes to its old place, so each connection sees ascending messages."""
    crowd = gather(start(*ENDLESS), [(ack, 25)], 55)
    (consumer,) = crowd.consumers
    for _ in range(8):
        crowd.produce(40)
        consumer.is_silent = True
        crowd.turn_until(lambda: len(consumer.held) == 25, "as many as the consumer may hold")
        consumer.is_silent = False
        crowd.turn()
        consumer.drop(crowd.kill)
    crowd.finish()
    by_connection: dict[str, list[int]] = {}
    for delivery in crowd.ledger.lines:
        by_connection.setdefault(delivery.consumer, []).append(crowd.ledger.sent.index(delivery.message))

    assert crowd.ledger.find_disorder() == []
    assert crowd.ledger.find_unsettled() == []
    assert all(places == sorted(places) for places in by_connection.values())
    assert len(by_connection) == 10


@pytest.mark.row("A07")
def test_equal_workers_get_equal_shares_and_one_that_dies_returns_only_its_own(start, gather) -> None:
    """With prefetch 1 nobody gets more than twice another's share; a death costs one message a second delivery."""
    crowd = gather(start(), [("client-individual", 1)] * 4, 66)
    for _ in range(20):
        crowd.produce(20)
        crowd.turn_until(lambda: not crowd.ledger.unanswered, "all are settled")
    shares = crowd.ledger.shares().values()
    crowd.produce(1)
    crowd.consumers[0].drop(crowd.kill)
    crowd.finish()

    assert max(shares) <= 2 * min(shares)
    assert crowd.ledger.repeated <= 1
    assert crowd.ledger.find_unsettled() == []
