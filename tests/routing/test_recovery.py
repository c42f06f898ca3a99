"""A broker that starts with what another one has left in the store."""

from __future__ import annotations

from forkbroker.routing.queues.policies import Expired, Policy, QueuePolicy
from forkbroker.wire.details import Wishes
from forkbroker.wire.kinds import Flag, Kind, Outcome

from .simulation import DLQ, NOON, Child, World
from .stock import Stock

A, B = b"/queue/a", b"/queue/b"
TOPIC, ME = b"/topic/t", b"/dsub/me"
DAY_MS = 86_400_000


def make_world(policy: Policy | None = None) -> tuple[World, Child]:
    world = World(policy, slots=64, stock=Stock())
    return world, world.add_child()


def restart(world: World, policy: Policy | None = None, *, after_s: float = 0.0) -> tuple[World, Child]:
    """All processes are killed; another broker starts, so much later, and a client comes."""
    world.stock.kill()
    anew = World(policy, slots=64, stock=world.stock, start_s=world.wall - NOON + after_s)
    return anew, anew.add_child()


def send(world: World, child: Child, *bodies: bytes, name: bytes = A, **wishes: int) -> None:
    for body in bodies:
        world.send(child, name, [body], persistent=True, wishes=Wishes(**wishes))  # type: ignore[arg-type]


def marks(world: World, child: Child) -> list[tuple[bytes, bool]]:
    """Take all that there is: bodies, and whether the child marks them with `redelivered`."""
    return [
        (bytes(piece), bool(offer.flags & Flag.RECOVERED or offer.deliveries))
        for offer in world.consume_offers(child)
        for piece in offer.pieces()
    ]


# ---------------------------------------------------------------- messages


def test_all_that_was_committed_is_there_in_its_order() -> None:
    """By queue and priority; nothing is in memory before somebody wants it."""
    world, child = make_world()
    send(world, child, b"1", b"2", b"3")
    send(world, child, b"4", b"5", priority=8)
    send(world, child, b"6", name=B)
    world.send(child, A, [b"gone"])
    world.run_store()
    world, reader = restart(world)

    assert [(view.name, view.ready, view.paged) for view in world.router.views()] == [(A, 5, 5), (B, 1, 1)]
    assert world.router._queues.window.used == 0
    world.subscribe(reader, A)
    assert world.consume(reader) == [b"4", b"5", b"1", b"2", b"3"]
    assert (world.view(A).octets, world.view(A).ready) == (0, 0)


def test_new_messages_stand_behind_the_old_ones() -> None:
    """Serials go on where they ended."""
    world, child = make_world()
    send(world, child, b"1", b"2")
    world.run_store()
    world, child = restart(world)
    send(world, child, b"3")
    world.send(child, A, [b"4"])
    reader = world.add_child()
    world.subscribe(reader, A)

    offers = world.consume_offers(reader)

    assert [bytes(piece) for offer in offers for piece in offer.pieces()] == [b"1", b"2", b"3", b"4"]
    serials = [offer.serial for offer in offers]
    assert serials == sorted(set(serials))


def test_what_may_have_been_delivered_is_marked_and_what_is_new_is_not() -> None:
    """The flag tells the child; how often is not known."""
    world, child = make_world()
    send(world, child, b"1")
    world.run_store()
    world, child = restart(world)
    send(world, child, b"2")
    world.subscribe(child, A)

    flags = [bool(offer.flags & Flag.RECOVERED) for offer in world.consume_offers(child)]

    assert flags == [True, False]


def test_a_delayed_message_that_was_not_due_is_not_marked() -> None:
    """Nobody can have seen it."""
    world, child = make_world()
    send(world, child, b"1", delay=5000)
    world.run_store()
    world, child = restart(world)
    world.subscribe(child, A)
    world.pass_time(5)

    assert marks(world, child) == [(b"1", False)]


def test_a_delayed_message_whose_firing_was_not_committed_is_not_marked() -> None:
    """Nobody has seen it: it is shown behind the commit. This holds for one that is paged out as well."""
    world, child = make_world()
    send(world, child, *[b"%-3000d" % number for number in range(10)], delay=5000)
    world.run_store()
    world.subscribe(child, A)
    world.pass_time(5)
    world.turn()
    assert not child.inbox
    world, child = restart(world, Policy(queue_memory=5000))
    world.turn()
    assert world.view(A).paged
    world.subscribe(child, A)

    found = marks(world, child)
    assert [int(body) for body, _ in found] == list(range(10))
    assert not any(is_marked for _, is_marked in found)


def test_a_delayed_message_whose_firing_was_committed_is_marked() -> None:
    """It may have been delivered."""
    world, child = make_world()
    send(world, child, b"1", delay=5000)
    world.pass_time(5)
    world.turn()
    world.run_store()
    world, child = restart(world)
    world.subscribe(child, A)

    assert marks(world, child) == [(b"1", True)]


def test_copies_of_a_repeated_message_are_marked_only_if_they_were_there_at_a_crash() -> None:
    """Those that come afterwards are new, in this life and in the next one."""
    world, child = make_world()
    send(world, child, b"tick", delay=1000, period=1000, repeat=-1)
    world.pass_time(1)
    world.turn()
    world.run_store()
    world, child = restart(world)
    world.subscribe(child, A)
    world.pass_time(1)

    assert marks(world, child) == [(b"tick", True), (b"tick", False)]
    world.run_store()
    world, child = restart(world)
    world.subscribe(child, A)
    world.pass_time(1)
    assert marks(world, child) == [(b"tick", False)]


def test_a_dead_letter_of_a_message_that_may_have_been_delivered_is_marked() -> None:
    """Though its serial is new, and though it comes from the store once more."""
    expiring = QueuePolicy(expired=Expired.DEAD_LETTER)
    world, child = make_world()
    send(world, child, *[b"%-3000d" % number for number in range(10)], ttl=5000)
    world.run_store()
    world, child = restart(world, Policy(queue=expiring, queue_memory=5000), after_s=6.0)
    for _ in range(20):
        world.turn()
        world.run_store()
        world.pass_time(0.2)
    assert world.view(DLQ).paged
    world.subscribe(child, DLQ)

    assert [is_marked for _, is_marked in marks(world, child)] == [True] * 10


def test_deliveries_that_were_counted_count_on() -> None:
    """A message that failed five times before the crash fails the sixth time after it."""
    policy = Policy(queue=QueuePolicy(max_deliveries=3))
    world, child = make_world(policy)
    send(world, child, b"1")
    for _ in range(2):
        world.subscribe(child, A)
        offer = world.take_one(child)
        world.settle(child, offer.serial, 1, Outcome.RELEASED)
        world.hear(child)
        world.unsubscribe(child)
        child.inbox.clear()
    world.run_store()
    world, child = restart(world, policy)
    world.subscribe(child, A)
    (offer,) = world.offers(child)
    assert offer.deliveries == 2
    world.claim(child, offer)
    world.settle(child, offer.serial, 1, Outcome.RELEASED)
    world.turn()

    assert world.view(b"/queue/DLQ").ready == 1


def test_a_limit_counts_what_is_there_from_before() -> None:
    """The first SEND is held by it."""
    policy = Policy(queue=QueuePolicy(max_length=3))
    world, child = make_world(policy)
    send(world, child, b"1", b"2", b"3")
    world.run_store()
    world, child = restart(world, policy)

    send(world, child, b"4")

    assert world.answers(child) == [(Kind.HOLD, 0)]


def test_what_was_settled_does_not_come_back() -> None:
    """If its receipt was given; without one it may, marked."""
    world, child = make_world()
    send(world, child, b"1", b"2")
    world.subscribe(child, A, credit=1)
    offer = world.take_one(child)
    world.settle(child, offer.serial)
    world.turn()
    world.run_store()
    world.settle(child, offer.serial + 1)
    world.turn()

    world, child = restart(world)
    world.subscribe(child, A)

    assert world.consume(child) == [b"2"]


def test_more_queues_than_are_permitted_are_all_restored() -> None:
    """The limit is one for clients: nothing of what was accepted is lost by a smaller setting."""
    world, child = make_world()
    for number in range(5):
        send(world, child, b"x", name=b"/queue/%d" % number)
    world.run_store()

    world, child = restart(world, Policy(max_queues=2))

    assert len(world.router.views()) == 5
    send(world, child, b"x", name=A)
    assert world.refusal(child).endswith("the limit (max-queues)")


def test_what_has_expired_meanwhile_is_not_delivered() -> None:
    """The clock on the wall went on while no broker ran."""
    world, child = make_world()
    send(world, child, b"1", ttl=60_000)
    send(world, child, b"2")
    world.run_store()
    world, child = restart(world, after_s=120.0)
    world.subscribe(child, A)

    assert world.consume(child) == [b"2"]
    world.run_store()
    assert not world.stock.rows


def test_what_has_expired_meanwhile_is_gone_without_anybody_who_consumes() -> None:
    """Somebody looks, though it is in the store alone: nothing else would ever free its room."""
    world, child = make_world()
    send(world, child, *[b"%d" % number for number in range(50)], ttl=60_000)
    send(world, child, b"high", ttl=60_000, priority=9)
    world.run_store()
    world, _ = restart(world, after_s=120.0)

    for _ in range(5):
        world.turn()
        world.run_store()
        world.pass_time(1)

    assert world.router.views() == []
    assert not world.stock.rows


# ---------------------------------------------------------------- the schedule


def test_delayed_messages_go_on_waiting() -> None:
    """What became due meanwhile comes at once, and in the order of its times."""
    world, child = make_world()
    send(world, child, b"3", delay=90_000)
    send(world, child, b"2", delay=50_000)
    send(world, child, b"1", delay=10_000)
    world.run_store()
    world, child = restart(world, after_s=60.0)
    world.subscribe(child, A)

    assert world.consume(child) == [b"1", b"2"]
    world.pass_time(30)
    assert world.consume(child) == [b"3"]
    world.run_store()
    assert not world.stock.rows


def test_a_repeated_message_comes_on_in_its_rhythm_with_new_numbers() -> None:
    """What was missed is not made up for, and a client sees no message-id twice."""
    world, child = make_world()
    send(world, child, b"tick", delay=10_000, period=10_000, repeat=-1)
    world.subscribe(child, A)
    world.pass_time(10)
    indexes = [offer.index for offer in world.consume_offers(child)]
    world.run_store()
    world, child = restart(world, after_s=35.0)
    world.subscribe(child, A)

    found = []
    for second in range(0, 30, 5):
        offers = world.consume_offers(child)
        indexes += [offer.index for offer in offers]
        found += [second] * len(offers)
        world.pass_time(5)

    # it is noon and 45 seconds at the start: one that is late, then at 50 and 60
    assert found == [0, 5, 15, 25]
    assert len(set(indexes)) == len(indexes) == 5


def test_overdue_delayed_messages_take_no_place_of_what_waits_in_queues() -> None:
    """The store tells of them in portions, and nothing fires before the first free serial and all rows are known."""
    world, child = make_world()
    send(world, child, *[b"keep %d" % number for number in range(50)], name=B)
    for number in range(300):
        send(world, child, b"late %d" % number, delay=6000)
    world.run_store()
    world, child = restart(world, after_s=6.5)
    world.turn()
    world.run_store()

    assert len(world.stock.rows) == 350
    world.subscribe(child, B)
    world.subscribe(child, A, token=2)
    bodies = world.consume(child)
    assert [body for body in bodies if body.startswith(b"keep")] == [b"keep %d" % number for number in range(50)]
    assert sorted(body for body in bodies if body.startswith(b"late")) == sorted(b"late %d" % n for n in range(300))


def test_overdue_delayed_messages_hide_nothing_older_in_their_own_queue() -> None:
    """They come behind what was there before their time."""
    world, child = make_world()
    send(world, child, b"1", b"2", b"3")
    send(world, child, b"later", delay=6000)
    world.run_store()
    world, child = restart(world, after_s=6.5)
    world.subscribe(child, A)

    assert world.consume(child) == [b"1", b"2", b"3", b"later"]


def test_nothing_happens_by_the_clock_before_the_store_is_open() -> None:
    """Not a delayed message, nor the end of a durable subscription, whatever the store has told by then."""
    policy = Policy(durable=QueuePolicy(idle_expiry=DAY_MS))
    world, child = make_world(policy)
    world.subscribe(child, TOPIC, durable=ME)
    send(world, child, b"later", delay=6000)
    world.run_store()
    stock, world = world.stock, World(policy, start_s=2 * DAY_MS / 1000, opens=False)
    stock.kill()
    world.stock = stock
    stock.open(is_fresh=True)
    while len(stock.said) > 1:
        world.hear_store(1)
        assert world.turn() == []
        assert world.router.deadline() is None
    world.hear_store(1)

    assert world.router.deadline() == world.now
    world.turn()
    assert [view.name for view in world.router.views()] == [A]


# ---------------------------------------------------------------- durable subscriptions, and ids


def test_durable_subscriptions_get_what_is_sent_before_their_readers_come_back() -> None:
    """They are there from the start, with what they had, if it was to survive."""
    world, child = make_world()
    world.subscribe(child, b"/topic/#", durable=ME)
    for body in (b"1", b"2"):
        world.send(child, TOPIC, [body], persistent=True)
    world.unsubscribe(child)
    world.send(child, TOPIC, [b"lost"])
    world.run_store()
    world, child = restart(world)
    world.send(child, TOPIC, [b"3"], persistent=True)
    world.subscribe(child, b"/topic/#", durable=ME)

    assert world.consume(child) == [b"1", b"2", b"3"]
    assert world.router.take_notes() == []


def test_a_durable_subscription_that_nobody_used_while_no_broker_ran_ends() -> None:
    """Its time counts from its last use."""
    policy = Policy(durable=QueuePolicy(idle_expiry=DAY_MS))
    for after_s, is_there in ((DAY_MS / 2000, True), (DAY_MS / 1000 + 1, False)):
        world, child = make_world(policy)
        world.subscribe(child, TOPIC, durable=ME)
        world.send(child, TOPIC, [b"1"], persistent=True)
        world.run_store()
        world, _ = restart(world, policy, after_s=after_s)
        world.turn()
        world.run_store()

        assert [view.name for view in world.router.views()] == [ME] * is_there
        assert len(world.stock.rows) == is_there


def test_a_deleted_durable_subscription_stays_deleted() -> None:
    """And what waited with it."""
    world, child = make_world()
    world.subscribe(child, TOPIC, durable=ME)
    world.send(child, TOPIC, [b"1"], persistent=True)
    world.delete_durable(child, ME, token=1)
    world.run_store()

    world, child = restart(world)

    assert world.router.views() == []
    world.subscribe(child, ME)
    assert world.refusal(child) == "there is no durable subscription /dsub/me"


def test_messages_of_a_durable_subscription_that_does_not_exist_stay_in_the_store() -> None:
    """Somebody has removed it by hand: it is no queue that nobody could name, and what it had is not destroyed."""
    world, child = make_world()
    world.subscribe(child, TOPIC, durable=ME)
    send(world, child, b"1", b"2", name=TOPIC)
    world.run_store()
    del world.stock.durables[ME]

    world, child = restart(world)

    assert world.router.views() == []
    assert world.router.take_notes() == [
        "durable subscription /dsub/me: does not exist, the store keeps its 2 messages"
    ]
    assert len(world.stock.rows) == 2
    world.subscribe(child, TOPIC, durable=ME)
    send(world, child, b"3", name=TOPIC)
    assert world.consume(child) == [b"3"]


def test_a_durable_subscription_to_a_pattern_that_is_no_longer_permitted_is_kept() -> None:
    """Not taken in, and not forgotten: the store has it and its messages, and the others are there."""
    world, child = make_world()
    world.subscribe(child, TOPIC, durable=ME)
    world.subscribe(child, TOPIC, durable=b"/dsub/you", token=2)
    send(world, child, b"1", name=TOPIC)
    world.run_store()
    world.stock.durables[ME] = (b"/topic/#.a", 0)

    world, child = restart(world)

    assert [view.name for view in world.router.views()] == [b"/dsub/you"]
    assert world.router.take_notes() == [
        "durable subscription /dsub/me: not restored, pattern '/topic/#.a': '#' is permitted as the last level only; "
        "the store keeps it",
        "durable subscription /dsub/me: does not exist, the store keeps its 1 messages",
    ]
    assert len(world.stock.rows) == len(world.stock.durables) == 2


def test_ids_are_remembered_until_their_time_is_over() -> None:
    """Of messages that were to survive."""
    world, child = make_world(Policy(queue=QueuePolicy(dedup_window=60_000)))
    once = Wishes(dedup_id=b"once")
    world.send(child, A, [b"1"], persistent=True, wishes=once)
    world.run_store()
    world, child = restart(world, after_s=30.0)
    world.send(child, A, [b"2"], persistent=True, wishes=once)
    world.pass_time(30)
    world.send(child, A, [b"3"], persistent=True, wishes=once)
    world.subscribe(child, A)

    assert world.consume(child) == [b"1", b"3"]


# ---------------------------------------------------------------- nonsense
