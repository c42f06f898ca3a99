"""What a router knows goes to another one as plain data, and from then on both answer alike."""

from __future__ import annotations

import marshal
import os
from collections import deque
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forkbroker.routing.handover import HandoverError, Record, Rule
from forkbroker.routing.jobs.duplicates import Duplicates
from forkbroker.routing.queues.policies import Policy
from forkbroker.routing.records import RECORDS
from forkbroker.routing.router import Router
from forkbroker.routing.timers import Timer
from forkbroker.wire.kinds import Kind

from .life import ACTIONS, Action, Life, small_bounds
from .simulation import AT_ONCE, World, make, make_send
from .test_router_properties import Chaos
from .twins import double, hand_over

A = b"/queue/a"
ASKED = int(os.environ.get("FORKBROKER_LIVES", "0"))


def double_again(life: Life, random: Random) -> None:
    """The second one of two gives what it knows to a third one."""
    double(life.world).compare()


LIVING: list[Action] = [*ACTIONS, *[double_again] * 3]


@settings(
    max_examples=ASKED or 20,
    derandomize=not ASKED,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(
    seed=st.integers(0, 10**6),
    steps=st.lists(st.tuples(st.sampled_from(LIVING), st.integers(0, 10**6)), min_size=150, max_size=300),
)
@pytest.mark.timeout(240 + 5 * ASKED)
def test_a_router_that_was_loaded_answers_as_the_one_that_was_dumped(
    seed: int, steps: list[tuple[Action, int]]
) -> None:
    """Whatever happens to children, the store and the broker, and however often what is known was handed on."""
    with small_bounds():
        life = Life(Random(seed))

        for action, dice in steps:
            action(life, Random(dice))

        life.finish()


@pytest.mark.parametrize("steps", [AT_ONCE, 1, 20])
@pytest.mark.parametrize("seed", range(10))
def test_messages_are_settled_once_over_many_hand_overs(seed: int, steps: int) -> None:
    """However little is done in one turn."""
    chaos, chances = Chaos(seed, steps), Random(seed)
    turn = chaos.turn

    def turn_and_hand_over() -> None:
        turn()
        if chances.random() < 0.2:
            hand_over(chaos.world)

    chaos.turn = turn_and_hand_over  # type: ignore[method-assign]

    chaos.run()
    chaos.finish()

    assert chaos.acknowledged == {body: 1 for bodies in chaos.sent.values() for body in bodies}
    assert chaos.world.semaphores.values == [0] * chaos.world.semaphores.size


# ---------------------------------------------------------------- nothing is forgotten


def test_each_attribute_is_dumped_or_named_as_what_is_not() -> None:
    """Whoever gives a rule another attribute has to think of it."""
    assert find_forgotten(World().router) == set()


def test_an_attribute_of_which_nobody_has_thought_is_found() -> None:
    """In a rule, in a part that has nothing to dump so far, and as another rule."""
    router = World().router
    router._keeping.custody.fresh = {}  # type: ignore[attr-defined]
    router._offering.attendance.fresh = 0  # type: ignore[attr-defined]
    router._jobs.fresh = Duplicates()  # type: ignore[attr-defined]

    assert find_forgotten(router) == {"Custody.fresh", "Attendance.fresh", "Duplicates"}


def test_each_attribute_that_is_named_is_there() -> None:
    """A name that nothing has any more would hide another one that comes later."""
    rules = [part for part in find_parts(World().router) if isinstance(part, Rule)]

    assert [(rule, name) for rule in rules for name in (*rule.fields(), *rule.ANEW) if not hasattr(rule, name)] == []
    assert [(kind, name) for kind in RECORDS for name in kind.ANEW if name not in kind.__slots__] == []
    assert not any(kind.DUMPED for kind in RECORDS), "they dump all the others"


def test_all_records_can_be_loaded() -> None:
    """Each class of them is in the table."""
    kinds = Record.__subclasses__()
    for kind in kinds:
        kinds += kind.__subclasses__()
    ours = [kind for kind in kinds if kind.__module__.startswith("forkbroker.")]
    assert {kind.__name__ for kind in ours} == {kind.__name__ for kind in RECORDS}


def test_what_there_are_many_of_has_slots_alone() -> None:
    """A dictionary in each run would be the price of it."""
    assert [kind for kind in RECORDS if kind.__dictoffset__] == []


def find_forgotten(router: Router) -> set[str]:
    """What is neither dumped nor named as what is not."""
    parts, forgotten = find_parts(router), set[str]()
    rules = [part for part in parts if isinstance(part, Rule)]
    dumped = [getattr(rule, name) for rule in rules for name in rule.fields()]
    known = [*dumped, *[getattr(rule, name) for rule in rules for name in rule.ANEW]]
    for part in parts:
        named = {*part.fields(), *part.ANEW} if isinstance(part, Rule) else set()
        for name, value in attributes_of(part).items():
            is_elsewhere = isinstance(value, list | dict | set | deque) and is_among(value, known)
            if name not in named and not (is_elsewhere or is_part(value) or callable(value)):
                forgotten.add(f"{type(part).__name__}.{name}")
        if isinstance(part, Rule) and part.fields() and part is not router and not is_among(part, dumped):
            forgotten.add(type(part).__name__)
    return forgotten


def find_parts(router: Router) -> list[Any]:
    """The parts of the house, but for those that are named as what is not dumped, and timers: they have an agenda."""
    parts, anew = list[Any]([router]), list[Any]()
    for part in parts:
        for name, value in attributes_of(part).items():
            if name in getattr(part, "ANEW", ()):
                anew.append(value)
            elif is_part(value) and not is_among(value, parts) and not isinstance(value, Timer):
                parts.append(value)
    return [part for part in parts if not is_among(part, anew)]


def is_part(value: Any) -> bool:
    return type(value).__module__.startswith("forkbroker.routing.")


def is_among(value: Any, others: list[Any]) -> bool:
    """Whether it is one of these, and not only equal to one."""
    return any(value is other for other in others)


def attributes_of(part: Any) -> dict[str, Any]:
    slots = [name for kind in type(part).__mro__ for name in getattr(kind, "__slots__", ())]
    return {name: getattr(part, name) for name in (*getattr(part, "__dict__", ()), *slots)}


# ---------------------------------------------------------------- what can't be


def test_nothing_is_dumped_while_something_is_half_done() -> None:
    """The rest of a transaction stands in a row, and what was not taken would be lost."""
    world = World(steps=1)
    child = world.add_child()
    world.tell(child, make(Kind.TRANSACTION, count=3, payload=[make_send(A, [b"x"]).raw] * 3))

    with pytest.raises(AssertionError, match="not empty"):
        world.router.dump()
    world.turn()
    world.catch_up(child)
    world.router.take()
    world.router.dump()


def test_a_dump_of_another_version_is_refused() -> None:
    """It may mean something else."""
    data = World().router.dump()

    with pytest.raises(HandoverError, match="version 2, this program reads version 1"):
        World().router.load({**data, "version": 2})


def test_a_dump_with_other_attributes_is_refused() -> None:
    """Whoever has added one or renamed one has perhaps not thought of the version."""
    data = World().router.dump()
    data["fields"]["Custody"] = ["pending", "more"]

    with pytest.raises(HandoverError, match="a dump of Custody with"):
        World().router.load(data)


def test_a_dump_of_another_configuration_is_refused() -> None:
    """With --broadcast=all nobody knows what children are interested in."""
    data = World(Policy(broadcast_all=True)).router.dump()

    with pytest.raises(HandoverError, match="a dump of Everybody, this program has Interest there"):
        World().router.load(data)


def test_what_is_no_plain_data_is_not_dumped() -> None:
    """A function, say."""
    world = World()
    world.router._journal.failure = print  # type: ignore[assignment]

    with pytest.raises(AssertionError, match="builtin_function_or_method is nothing that can be handed over"):
        world.router.dump()


# ---------------------------------------------------------------- the format


def test_another_version_of_python_reads_a_dump() -> None:
    """The types of plain data have these octets since Python 3.4, and a refusal to read them would be new."""
    assert marshal.loads(OCTETS) == [None, True, 1, 1 << 40, 0.5, "\u00e4", b"\xff", {"deque": []}]


OCTETS = (
    b"[\x08\x00\x00\x00NT\xe9\x01\x00\x00\x00\xec\x03\x00\x00\x00\x00\x00\x00\x00\x00\x04\xe7\x00\x00\x00\x00"
    b"\x00\x00\xe0?\xf5\x02\x00\x00\x00\xc3\xa4\xf3\x01\x00\x00\x00\xff{\xda\x05deque[\x00\x00\x00\x000"
)


def test_what_several_refer_to_is_dumped_once() -> None:
    """The envelope of two runs, and the run of an offer that was claimed and waits for another answer."""
    world = World()
    producer, holder, late = [world.add_child() for _ in range(3)]
    for child in (holder, late):
        world.subscribe(child, A)
    world.send(producer, A, [b"first"])
    world.take_one(holder)
    world.send(producer, A, [b"x"] * 2)
    world.turn()

    hand_over(world)

    router = world.router
    claimed, *others = router._offering.claims.timely.values()
    assert claimed.run is next(iter(claimed.queue.readers.all)).unsettled.runs[0]  # type: ignore[attr-defined]
    assert [offer.run.envelope for offer in others] == [others[0].run.envelope] * 2
    assert claimed.queue is others[0].queue is router._queues.find(A)
