"""Which policy holds for which queue."""

from __future__ import annotations

import dataclasses

import pytest

from forkbroker.patterns import PatternError
from forkbroker.routing.queues.policies import (
    Expired,
    Full,
    Policy,
    QueuePolicies,
    QueuePolicy,
    QueueRule,
    Visible,
    find_overflow_cycle,
)


def test_all_rules_that_match_count_and_later_ones_win() -> None:
    """Field by field."""
    rules = [
        QueueRule(b"/queue/#", {"max_length": 5, "lease": 10}),
        QueueRule(b"/queue/mail.*", {"lease": 20, "full": Full.REFUSE}),
    ]
    policies = QueuePolicies(QueuePolicy(max_deliveries=3), rules)

    assert policies.find(b"/queue/mail.out") == QueuePolicy(max_deliveries=3, max_length=5, lease=20, full=Full.REFUSE)
    assert policies.find(b"/queue/other") == QueuePolicy(max_deliveries=3, max_length=5, lease=10)
    assert policies.find(b"/dsub/other") == QueuePolicy(max_deliveries=3)


def test_a_rule_that_changes_what_is_not_there_is_refused_at_once() -> None:
    """Not when the first queue comes that matches."""
    with pytest.raises(TypeError):
        QueuePolicies(QueuePolicy(), [QueueRule(b"/queue/a", {"leese": 1})])


def test_two_rules_may_have_one_pattern() -> None:
    """The later one wins where both speak, whatever stands between them."""
    rules = [
        QueueRule(b"/queue/a.*", {"lease": 1, "max_length": 1}),
        QueueRule(b"/queue/a.b", {"lease": 2}),
        QueueRule(b"/queue/a.*", {"lease": 3}),
    ]

    assert QueuePolicies(QueuePolicy(), rules).find(b"/queue/a.b") == QueuePolicy(lease=3, max_length=1)


def test_a_rule_for_a_pattern_that_cannot_be_used_is_refused_at_once() -> None:
    """Also when its words are all right."""
    with pytest.raises(PatternError):
        QueuePolicies(QueuePolicy(), [QueueRule(b"/queue/#.a", {"lease": 1})])


@pytest.mark.parametrize("length", [10, 10_000])
def test_names_that_clients_invent_use_no_memory_for_ever(length: int) -> None:
    """The policies of many queues are remembered, within a bound of octets, and are right beyond it."""
    policies = QueuePolicies(QueuePolicy(), [QueueRule(b"/queue/*", {"max_length": 5})])

    found = {policies.find(b"/queue/%0*d" % (length, number)).max_length for number in range(1_000)}

    assert found == {5}
    assert 0 < policies._cache.octets <= 4_194_304


def test_the_wait_before_a_redelivery_grows_to_its_limit() -> None:
    """The first time there is none."""
    policy = QueuePolicy(redelivery_delay=100, redelivery_backoff=2.0, redelivery_delay_max=1000)

    assert [policy.redelivery_wait(deliveries) for deliveries in (1, 2, 3, 4, 5, 6, 7, 5000)] == [
        0, 100, 200, 400, 800, 1000, 1000, 1000,
    ]  # fmt: skip
    assert QueuePolicy().redelivery_wait(9) == 0


def test_the_defaults_are_those_of_the_documents() -> None:
    """What an administrator gets who sets nothing: numbers that man pages and programs rely on."""
    queue = {
        "max_length": 0,
        "max_bytes": 0,
        "full": Full.HOLD,
        "persistent": False,
        "visible": Visible.ACCEPTED,
        "ttl": 0,
        "expired": Expired.DROP,
        "max_deliveries": 16,
        "dead_letter": b"/queue/DLQ",
        "redelivery_delay": 0,
        "redelivery_backoff": 2.0,
        "redelivery_delay_max": 300_000,
        "poison_after": 3,
        "lease": 0,
        "dedup_window": 300_000,
        "idle_expiry": 0,
        "queue_expiry": 0,
        "is_limited": False,
    }

    assert dataclasses.asdict(Policy()) == {
        "broadcast_all": False,
        "offer_candidates": 3,
        "max_queues": 10_000,
        "max_durables": 1_000,
        "queue_memory": 128 << 20,
        "max_unsettled": 64 << 20,
        "max_delayed_bytes": 64 << 20,
        "min_repeat_period": 100,
        "max_repeating": 100,
        "queue": queue,
        "durable": queue | {"full": Full.DROP_OLDEST},
        "rules": (),
        "answer_timeout_s": 1.0,
    }


def test_without_rules_one_policy_holds_for_all() -> None:
    """And no name is remembered; nor is it looked up twice where there are some."""
    rest = QueuePolicy(max_length=3)
    assert QueuePolicies(rest).find(b"/queue/a") is rest

    policies = QueuePolicies(rest, [QueueRule(b"/queue/a", {"ttl": 5})])
    assert policies.find(b"/queue/a") is policies.find(b"/queue/a")
    assert policies.find(b"/queue/b") == rest


def test_a_virtual_host_has_dead_letters_of_its_own() -> None:
    """Whether it is configured or not; a rule that names another queue counts."""
    rules = [QueueRule(b"/queue/>", {"ttl": 5}), QueueRule(b"/queue/$HOST/shop/x", {"dead_letter": b"/queue/y"})]
    for policies in (QueuePolicies(QueuePolicy()), QueuePolicies(QueuePolicy(), rules)):
        found = {
            name: policies.find(b"/" + name).dead_letter
            for name in (b"queue/$HOST/shop/a.b", b"dsub/$HOST/shop/d", b"queue/$HOST/work/a", b"queue/HOST/a")
        }
        assert found == {
            b"queue/$HOST/shop/a.b": b"/queue/$HOST/shop/DLQ",
            b"dsub/$HOST/shop/d": b"/queue/$HOST/shop/DLQ",
            b"queue/$HOST/work/a": b"/queue/$HOST/work/DLQ",
            b"queue/HOST/a": b"/queue/DLQ",
        }
    assert QueuePolicies(QueuePolicy(), rules).find(b"/queue/$HOST/shop/x").dead_letter == b"/queue/y"


@pytest.mark.parametrize("deliveries", [0, 1])
def test_the_first_redelivery_waits_for_nothing(deliveries: int) -> None:
    """Nor does what was never delivered."""
    assert QueuePolicy(redelivery_delay=100).redelivery_wait(deliveries) == 0


# ---------------------------------------------------------------- circles


def overflow(pattern: bytes, dead_letter: bytes, **rest: object) -> QueueRule:
    return QueueRule(pattern, {"full": Full.DEAD_LETTER, "max_length": 1, "dead_letter": dead_letter} | rest)


A, B, C, DLQ = b"/queue/a", b"/queue/b", b"/queue/c", b"/queue/DLQ"


@pytest.mark.parametrize(
    ("rules", "cycle"),
    [
        ([overflow(A, B), overflow(B, A)], [A, B]),
        ([overflow(A, B), overflow(B, C), overflow(C, B)], [B, C]),
        ([overflow(A, B), overflow(B, C, max_length=0, max_bytes=9), overflow(C, A)], [A, B, C]),
        ([overflow(b"/queue/*", B), overflow(B, C), overflow(b"/dsub/#", DLQ)], [B, C]),
        ([overflow(b"/queue/*", B), QueueRule(C, {"dead_letter": DLQ}), QueueRule(DLQ, {"dead_letter": C})], [C, DLQ]),
        # by the dead letters of a host, which no rule names
        (
            [
                overflow(DLQ, b"/queue/$HOST/h/a"),
                QueueRule(b"/queue/$HOST/h/a", {"full": Full.DEAD_LETTER, "max_length": 1}),
                overflow(b"/queue/$HOST/h/DLQ", DLQ),
            ],
            [DLQ, b"/queue/$HOST/h/a", b"/queue/$HOST/h/DLQ"],
        ),
    ],
)
def test_queues_that_would_fill_each_other_for_ever_are_found(rules: list[QueueRule], cycle: list[bytes]) -> None:
    """By names or patterns, whichever limit they have; in the order in which a message would go round."""
    found = find_overflow_cycle(Policy(rules=tuple(rules)))

    assert found in [cycle[start:] + cycle[:start] for start in range(len(cycle))]


@pytest.mark.parametrize(
    "policy",
    [
        Policy(),
        Policy(queue=QueuePolicy(full=Full.DEAD_LETTER, max_length=1)),
        Policy(rules=(overflow(A, B), overflow(B, C), overflow(C, DLQ))),
        Policy(rules=(overflow(A, B), overflow(B, A, max_length=0))),
        Policy(rules=(overflow(A, B), overflow(B, A, full=Full.DROP_OLDEST))),
        Policy(rules=(overflow(A, B), overflow(B, A), QueueRule(b"/queue/#", {"full": Full.REFUSE}))),
        Policy(rules=(overflow(b"/queue/#", DLQ), overflow(b"/dsub/#", B))),
    ],
)
def test_ways_that_end_are_permitted(policy: Policy) -> None:
    """At a queue without a limit, one that does otherwise when it is full, or one whose dead letters are itself."""
    assert find_overflow_cycle(policy) == []


def test_a_rule_knows_the_queues_that_it_speaks_of() -> None:
    """As patterns do."""
    assert QueueRule(b"/queue/*.x", {}).matches(b"/queue/a.x")
    assert not QueueRule(b"/queue/*.x", {}).matches(b"/queue/a")
