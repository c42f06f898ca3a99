"""What an administrator is told of queues, durable subscriptions and the schedule."""

from __future__ import annotations

from forkbroker.routing.queues.policies import Policy, QueuePolicy
from forkbroker.routing.sights import QueueSight, TopicSight
from forkbroker.wire.details import Wishes

from .simulation import Child, World
from .stock import Stock

A, B = b"/queue/a", b"/queue/b"


def make_world(**rest: int) -> tuple[World, Child]:
    world = World(Policy(**rest), stock=Stock())  # type: ignore[arg-type]
    return world, world.add_child()


def test_each_queue_has_a_line_by_its_name() -> None:
    """Ready, unsettled, octets and consumers; the plural of one is right."""
    world, child = make_world()
    world.send(child, B, [b"1", b"2", b"3"])
    world.subscribe(child, B, credit=1)
    world.take_one(child)
    world.subscribe(child, A, token=2)
    world.subscribe(child, A, token=3)
    octets = world.view(B).octets

    assert list(world.router.describe()) == [
        "queue /queue/a: 0 ready, 0 unsettled, 0 bytes, 2 consumers",
        f"queue /queue/b: 2 ready, 1 unsettled, {octets:,} bytes, 1 consumer",
    ]


def test_what_is_in_the_store_alone_is_told() -> None:
    """Of the ready ones."""
    world, child = make_world(queue_memory=100_000)
    for _ in range(20):
        world.send(child, A, [b"x" * 10_000])
    view = world.view(A)

    (line,) = world.router.describe()

    assert line.startswith("queue /queue/a: 20 ready, 0 unsettled, ")
    assert line.endswith(f"0 consumers, {view.paged} on disk only")
    assert 0 < view.paged < 20


def test_durable_subscriptions_are_named_with_their_topics() -> None:
    """And when they were used last."""
    world, child = make_world()
    world.subscribe(child, b"/topic/news.#", durable=b"/dsub/me")

    (line,) = world.router.describe()

    assert line.startswith("durable subscription /dsub/me to /topic/news.#, last used 2027-01-")
    assert line.endswith(": 0 ready, 0 unsettled, 0 bytes, 1 consumer")


def test_without_queues_it_says_so_and_tells_the_schedule_all_the_same() -> None:
    """A delayed message makes no queue before its time."""
    world, child = make_world()
    assert list(world.router.describe()) == ["no queues"]

    world.send(child, A, [b"1"], wishes=Wishes(delay=1000))

    first, last = world.router.describe()
    assert first == "no queues"
    assert last.startswith("schedule: 1 messages, ")


def test_what_changes_between_two_lines_does_no_harm() -> None:
    """Queues that are gone by their turn are left out, figures are those of that moment, and new queues wait."""
    world, child = make_world()
    for name in (A, B, b"/queue/c"):
        world.send(child, name, [b"1"])
    lines = iter(world.router.describe())
    found = [next(lines)]

    reader = world.add_child()
    world.subscribe(reader, B)
    world.consume(reader)
    world.end(reader)
    world.send(child, b"/queue/c", [b"2"])
    world.send(child, b"/queue/d", [b"1"])
    found += lines

    assert [line.partition(":")[0] for line in found] == ["queue /queue/a", "queue /queue/c"]
    assert found[1].startswith("queue /queue/c: 2 ready")


def sight(world: World, name: bytes) -> QueueSight:
    (found,) = [one for one in world.router.sights.queues(lambda some: some == name) if one is not None]
    return found


def test_what_has_come_and_gone_is_counted() -> None:
    """So two looks give the rates; messages that come back are not counted twice."""
    world, child = make_world()
    world.send(child, A, [b"1", b"2", b"3"])
    world.subscribe(child, A, credit=1)
    world.consume(child)

    assert (sight(world, A).entered, sight(world, A).left) == (3, 3)


def test_the_oldest_message_that_waits_has_an_age() -> None:
    """Of all priorities, in memory or in the store; none waits: none."""
    world, child = make_world(queue_memory=100_000)
    world.router.note_time(world.now)
    world.send(child, A, [b"1"], wishes=Wishes(priority=9))
    world.now += 10
    world.router.note_time(world.now)
    for _ in range(20):
        world.send(child, A, [b"x" * 10_000])
        world.send(child, B, [b"x" * 10_000])
    world.now += 5
    world.turn()

    assert sight(world, A).oldest_s == 15
    assert sight(world, B).oldest_s == 5
    world.subscribe(child, b"/queue/c")
    assert sight(world, b"/queue/c").oldest_s is None


def test_delayed_messages_and_blocked_producers_are_counted() -> None:
    """Beside those that wait."""
    world, child = make_world(queue=QueuePolicy(max_length=1))
    world.send(child, A, [b"1"], wishes=Wishes(delay=1000))
    world.send(child, A, [b"1"])

    assert (sight(world, A).delayed, sight(world, A).blocked) == (1, 1)


def test_topics_have_their_subscribers() -> None:
    """Patterns too; durable subscriptions are counted beside them."""
    world, child = make_world()
    world.subscribe(child, b"/topic/a")
    world.subscribe(world.add_child(), b"/topic/a")
    world.subscribe(child, b"/topic/b.*", token=2)
    world.subscribe(child, b"/topic/b.*", token=3, durable=b"/dsub/me")
    found = [one for one in world.router.sights.topics(lambda _: True) if one is not None]

    assert found == [TopicSight(b"/topic/a", 2, 0), TopicSight(b"/topic/b.*", 1, 1)]


def test_subscriptions_tell_what_they_hold() -> None:
    """Those to queues; of topics nothing is held."""
    world, child = make_world()
    world.send(child, A, [b"1", b"2", b"3"])
    world.subscribe(child, A, credit=2)
    world.take_one(child)
    world.subscribe(child, b"/topic/a", token=2)
    queue, topic = [one for one in world.router.sights.subscriptions(lambda _: True) if one is not None]

    assert (queue.destination, queue.credit, queue.unsettled, queue.acknowledges) == (A, 2, 2, True)
    assert (topic.peer, topic.destination) == (queue.peer, b"/topic/a")
    assert world.router.sights.load_of(queue.peer) == (1, 2)
