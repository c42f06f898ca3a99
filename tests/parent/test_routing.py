"""The parent with the broker's own router and semaphores: topics, queues, and children that die with an offer."""

from __future__ import annotations

import os
import signal
import time

from driven import Broker, Client, Starter, is_alive
from puppet import BLOCK

from forkbroker.parent.flow import FlowPolicy
from forkbroker.parent.setup import ParentPolicy
from forkbroker.posix.semaphores import SemaphorePool
from forkbroker.routing.queues.policies import Policy
from forkbroker.routing.router import Router


def real(logger: object) -> Router:
    """The router of the broker, with a small pool."""
    return Router(Policy(offer_candidates=1, answer_timeout_s=0.1), SemaphorePool(8), time.time)


def subscribed(broker: Broker, login: str, destination: str) -> Client:
    """A client whose subscription the parent has registered."""
    client = broker.logged_in(login)
    client.tell(f"subscribe {destination}")
    assert client.line() == "got FENCED 0 48"
    return client


def test_a_topic_reaches_its_subscribers(start: Starter) -> None:
    """All of them, and nobody else."""
    broker = start(router=real)
    alice, bob = subscribed(broker, "alice", "/topic/a"), subscribed(broker, "bob", "/topic/*")
    carol, dan = subscribed(broker, "carol", "/topic/b"), broker.logged_in("dan")
    dan.tell("publish /topic/a hello", "publish /topic/b goodbye")

    assert alice.line().startswith("got SEND ")
    assert [bob.line()[:9], bob.line()[:9]] == ["got SEND "] * 2
    carol_first = carol.line()
    assert carol_first == f"got SEND 0 {48 + 8 + len(BLOCK) + 4 + 7}"


def test_a_queue_offers_to_one(start: Starter) -> None:
    """With one candidate an offer goes to one child, with the subscription's token."""
    broker = start(router=real)
    alice, bob = subscribed(broker, "alice", "/queue/a"), broker.logged_in("bob")
    bob.tell("publish /queue/a hello")

    assert alice.line().startswith("got OFFER 1 ")


def test_the_offer_of_a_dead_candidate_goes_to_another(start: Starter) -> None:
    """Killed with an offer in its hands: the message is offered to the next."""
    broker = start(router=real)
    alice, dan = subscribed(broker, "alice", "/queue/a"), broker.logged_in("dan")
    dan.tell("publish /queue/a hello")
    assert alice.line().startswith("got OFFER 1 ")
    bob = subscribed(broker, "bob", "/queue/a")
    os.kill(alice.pid, signal.SIGKILL)

    assert bob.line().startswith("got OFFER 1 ")


def test_a_stopped_candidate_is_ended_and_the_message_goes_on(start: Starter) -> None:
    """SIGSTOP with an offer: after its time it is killed, and another one gets the message."""
    broker = start(ParentPolicy(flow=FlowPolicy(check_interval_s=0.1, stuck_checks=5)), router=real)
    alice, dan = subscribed(broker, "alice", "/queue/a"), broker.logged_in("dan")
    alice.tell("stop")
    assert alice.line() == "stopping"
    dan.tell("publish /queue/a hello")
    bob = subscribed(broker, "bob", "/queue/a")

    assert bob.line().startswith("got OFFER 1 ")
    broker.await_log(r"^WARNING client 1 \S+ alice: killed, has not answered an offer for \d+ s")
    broker.await_log(r"^INFO client 1 \S+ alice: ended by signal SIGKILL")
    assert not is_alive(alice.pid)
