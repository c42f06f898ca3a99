"""A child that dies between any two steps of the claim's path: nothing is lost, doubled or wrongly marked.

Messages are sent one by one to consumers of which one, the victim, dies at a named point of its process.
"""

from __future__ import annotations

import pytest
from faults.conftest import StartBroker
from faults.crowd import Consumer, Crowd
from faults.scene import processes
from support.deadline import wait_until

from forkbroker.posix.crashpoints import POINTS

VICTIM = "c0"
REPEATED = {
    "child.offer-received": 0,
    "child.claimed": 1,
    "child.delivered": 1,
    "child.claim-told": 1,
    "child.settled": 0,
    "child.lost-told": 0,
}
"""Deliveries beyond the first that a death at each point makes: one where the victim had claimed and not settled."""

SEEN = {"child.delivered", "child.claim-told", "child.settled"}
"""Points at which the victim's client has got the message on which its process dies."""


def _work(crowd: Crowd, victim: Consumer) -> None:
    """Send messages, one at a time, until the victim is dead and some more were settled without it."""
    crowd.reconnects = False
    after = 0
    for _ in range(500):
        crowd.produce(1)
        crowd.turn_until(lambda: crowd.is_done, "the message is settled")
        after += victim.client is None
        if after == 5:
            return
    raise AssertionError("the victim lives")


def _kill_at(start: StartBroker, point: str, others: int, candidates: int) -> Crowd:
    """Let one of several consumers die at `point`, and settle everything."""
    broker = start("--offer-candidates", candidates, crash=f"{point}@{VICTIM}")
    crowd = Crowd(broker, "/queue/work", [("client-individual", 1)] * (1 + others), seed=7)
    try:
        # an answer that is quick enough travels together with the claim
        crowd.consumers[0].is_silent = point == "child.claim-told"
        _work(crowd, crowd.consumers[0])
        crowd.finish()
    finally:
        crowd.close()
    broker.wait_for_log(f"client \\d+ \\S+ {VICTIM}: ended by signal SIGKILL, ")
    return crowd


def test_every_point_of_a_child_is_tried_here() -> None:
    """A new one belongs into the table above; where deliveries are parked is tried in test_http_kills.py."""
    assert {point for point in POINTS if point.startswith("child.")} - {"child.parked"} == REPEATED.keys()


@pytest.mark.row("A07")
@pytest.mark.parametrize("candidates", [1, 3, 10])
@pytest.mark.parametrize("point", REPEATED)
def test_whoever_dies_at_a_point_costs_nobody_a_message(start, point, candidates) -> None:
    """Each message is settled once, and exactly that is marked redelivered which the victim had claimed."""
    if point == "child.lost-told" and candidates == 1:
        candidates = 2  # with one there is nobody to lose to
    ledger = _kill_at(start, point, others=3, candidates=candidates).ledger
    seen = [delivery for delivery in ledger.lines if delivery.count > 1]

    assert ledger.find_mismarked() == []
    assert ledger.find_unsettled() == []
    assert [2] * REPEATED[point] == [delivery.count for delivery in seen]
    assert not any(delivery.consumer == f"{VICTIM}/1" for delivery in seen)


@pytest.mark.row("A07")
@pytest.mark.parametrize("point", [point for point in REPEATED if point != "child.lost-told"])
def test_the_only_consumers_death_leaves_the_message_to_the_next(start, connect, point) -> None:
    """Which gets it at once, as it was or marked, or not at all if it was settled."""
    broker = start(crash=f"{point}@{VICTIM}")
    victim, producer, rescuer = connect(broker, VICTIM), connect(broker, "producer"), connect(broker, "rescuer")
    victim.subscribe("/queue/work", ack="client-individual")
    producer.publish("/queue/work", "precious")
    if point == "child.settled":
        victim.send("ACK", id=victim.expect("MESSAGE")["ack"])
    seen = victim.take_to_end()
    broker.wait_for_children(2)
    rescuer.subscribe("/queue/work", ack="client-individual")
    producer.publish("/queue/work", "next")

    assert len(seen) == (point in SEEN and point != "child.settled")
    if point != "child.settled":
        got = rescuer.expect("MESSAGE", "precious")
        assert got.get("redelivered") == ("true" if REPEATED[point] else "")
        assert got.get("delivery-count") == ("2" if REPEATED[point] else "")
    got = rescuer.expect("MESSAGE", "next")
    assert "redelivered" not in got


@pytest.mark.row("A04", "A07")
def test_a_cumulative_ack_settles_all_before_it_although_the_child_dies_right_after(start, connect) -> None:
    """The parent got it as a whole."""
    broker = start(crash=f"child.settled@{VICTIM}")
    victim, producer, rescuer = connect(broker, VICTIM), connect(broker, "producer"), connect(broker, "rescuer")
    victim.subscribe("/queue/work", ack="client", prefetch_count=5)
    for number in range(7):
        producer.publish("/queue/work", f"m{number}")
    third = victim.expect_messages("m0", "m1", "m2")[-1]
    victim.expect_messages("m3", "m4")
    victim.send("ACK", id=third["ack"])
    victim.take_to_end()
    broker.wait_for_children(2)
    rescuer.subscribe("/queue/work", ack="client")
    got = rescuer.expect_messages("m3", "m4", "m5", "m6")

    assert [frame.get("delivery-count") for frame in got[:2]] == ["2", "2"]
    assert "delivery-count" not in got[3]


@pytest.mark.parametrize("point", ["parent.offered", "parent.settled"])
def test_a_parent_that_dies_takes_all_with_it(start, connect, point) -> None:
    """All processes go. The points that have to do with the store are in test_store_kills, with these."""
    broker = start(crash=point)
    consumer, producer = connect(broker), connect(broker)
    consumer.subscribe("/queue/work", ack="client-individual")
    producer.send("SEND", body=b"last", destination="/queue/work", persistent="true")
    if point == "parent.settled":
        consumer.send("ACK", id=consumer.expect("MESSAGE")["ack"])
    consumer.take_to_end(3)
    producer.take_to_end(3)

    assert broker.wait() == -9
    wait_until(lambda: not processes(broker.pid), "the end of all processes")
