"""Other settings while queues, consumers and subscriptions exist: they hold for all of them, a little later."""

from __future__ import annotations

from forkbroker.routing.queues.policies import Full, Policy, QueuePolicy, QueueRule
from forkbroker.wire.details import Wishes
from forkbroker.wire.envelope import pack_settle
from forkbroker.wire.kinds import Flag, Kind, Outcome

from .simulation import World, make
from .stock import Stock

A, B = b"/queue/a", b"/queue/b"
ME, TOPIC = b"/dsub/me", b"/topic/news"
DAY_MS = 86_400_000


def make_world(policy: Policy | None = None) -> World:
    return World(policy or Policy(), slots=64, stock=Stock())


def adopt(world: World, policy: Policy) -> None:
    """Take it over, and turn until all queues have it."""
    world.router.adopt(policy)
    world.turn()


def messages(world: World, name: bytes) -> int:
    return sum(view.ready + view.unsettled for view in world.router.views() if view.name == name)


def test_a_queue_that_exists_has_the_new_policy_and_another_one_keeps_its_own() -> None:
    """Rules are matched anew; without a rule it is what holds for the rest."""
    world = make_world(Policy(queue=QueuePolicy(max_deliveries=1)))
    producer, consumer = world.add_child(), world.add_child()
    for name in (A, B):
        world.send(producer, name, [b"1"])
    adopt(world, Policy(queue=QueuePolicy(max_deliveries=5), rules=(QueueRule(A, {"max_deliveries": 2}),)))
    world.subscribe(consumer, A)
    for _ in range(2):
        offer = world.take_one(consumer)
        world.settle(consumer, offer.serial, outcome=Outcome.RELEASED)
    world.turn()

    assert messages(world, b"/queue/DLQ") == 1
    assert messages(world, B) == 1


def test_a_producer_goes_on_when_the_limit_is_higher_or_holds_nobody() -> None:
    """RESUME, and what it sends is taken."""
    for policy in (QueuePolicy(max_length=10), QueuePolicy(max_length=1, full=Full.REFUSE), QueuePolicy()):
        world = make_world(Policy(queue=QueuePolicy(max_length=1)))
        producer = world.add_child()
        world.send(producer, A, [b"1"])
        world.send(producer, A, [b"2"])
        assert [kind for kind, _ in world.answers(producer)] == [Kind.HOLD]
        adopt(world, Policy(queue=policy))

        assert [kind for kind, _ in world.answers(producer)] == [Kind.RESUME]


def test_a_queue_above_a_lower_limit_loses_its_oldest_messages() -> None:
    """Where the policy is to lose them."""
    world = make_world()
    producer = world.add_child()
    world.send(producer, A, [b"1", b"2", b"3"])
    adopt(world, Policy(queue=QueuePolicy(max_length=1)))
    assert messages(world, A) == 3
    adopt(world, Policy(queue=QueuePolicy(max_length=1, full=Full.DROP_OLDEST)))

    assert messages(world, A) == 1


def test_a_lease_that_is_set_is_that_of_what_is_held() -> None:
    """From then on, whatever it was before, and what is claimed later has its own."""
    for before in (0, 3_600_000):
        world = make_world(Policy(queue=QueuePolicy(lease=before)))
        producer, holder, other = world.add_child(), world.add_child(), world.add_child()
        world.subscribe(holder, A, credit=2)
        world.send(producer, A, [b"1"])
        world.take_one(holder)
        adopt(world, Policy(queue=QueuePolicy(lease=1000)))
        world.subscribe(other, A, credit=1)
        world.pass_time(0.9)
        assert world.offers(other) == []
        world.pass_time(0.2)

        assert len(world.offers(other)) == 1


def test_a_transaction_with_what_a_lease_has_taken_is_refused_when_there_is_no_lease_any_more() -> None:
    """The consumer does not know yet: its result would be there twice."""
    world = make_world(Policy(queue=QueuePolicy(lease=1000)))
    producer, holder = world.add_child(), world.add_child()
    world.subscribe(holder, A, credit=2)
    world.send(producer, A, [b"1"])
    offer = world.take_one(holder)
    world.pass_time(2.0)
    world.turn()
    adopt(world, Policy())
    settle = pack_settle(1, [(offer.serial, 1, Outcome.ACKNOWLEDGED)])[0]
    world.tell(holder, make(Kind.TRANSACTION, count=1, payload=[settle], flags=Flag.FENCE, number=5))

    assert "the lease of a message" in world.refusal(holder)


def test_a_durable_subscription_expires_at_its_new_time() -> None:
    """Earlier, later, or never; and there may be more of them, or fewer."""
    world = make_world(Policy(durable=QueuePolicy(idle_expiry=DAY_MS)))
    reader = world.add_child()
    world.subscribe(reader, TOPIC, durable=ME)
    world.end(reader)
    adopt(world, Policy(durable=QueuePolicy()))
    world.pass_time(2 * DAY_MS / 1000)
    world.turn()
    assert [view.name for view in world.router.views()] == [ME]
    adopt(world, Policy(durable=QueuePolicy(idle_expiry=3 * DAY_MS), max_durables=1))
    other = world.add_child()
    world.subscribe(other, TOPIC, durable=b"/dsub/you")
    assert "max-durables" in world.refusal(other)
    world.pass_time(1.5 * DAY_MS / 1000)
    world.turn()

    assert world.router.views() == []


def test_many_queues_take_it_over_in_steps() -> None:
    """A turn does a part of them, and the next one goes on; one that is gone meanwhile is left out."""
    world = World(Policy(), slots=64, stock=Stock(), steps=10)
    producer = world.add_child()
    for number in range(50):
        world.send(producer, b"/queue/%d" % number, [b"x"])
        world.turn()
    world.router.adopt(Policy(queue=QueuePolicy(max_length=1, full=Full.DROP_OLDEST)))
    queues = world.router._queues.all()
    first = sum(queue.policy.max_length for queue in queues)
    for _ in range(20):
        world.turn()

    assert 0 < first < 50
    assert sum(queue.policy.max_length for queue in queues) == 50


def test_limits_of_clients_and_of_delayed_messages_hold_at_once() -> None:
    """For children that are there, and for offers to come."""
    world = make_world(Policy(max_unsettled=1000, offer_candidates=1))
    producer, one, other = world.add_child(), world.add_child(), world.add_child()
    for child in (one, other):
        world.subscribe(child, A, credit=10)
    world.send(producer, A, [bytes(900), bytes(900)])
    assert sum(len(world.offers(child)) for child in (one, other)) <= 2
    world.send(producer, B, [b"later"], wishes=Wishes(delay=60_000))
    adopt(world, Policy(max_unsettled=1_000_000, offer_candidates=2, max_delayed_bytes=1))
    world.send(producer, B, [b"later"], wishes=Wishes(delay=60_000), fence=1)

    assert "max-delayed-bytes" in world.refusal(producer)
    assert {child.max_octets for child in world.router._offering.clientele.children.values()} == {1_000_000}
    world.send(producer, b"/queue/c", [b"x"])
    for child in (one, other):
        world.subscribe(child, b"/queue/c", token=2, credit=10)
    assert [len([o for o in world.offers(child) if o.token == 2]) for child in (one, other)] == [1, 1]
