"""Which policy holds for which queue."""

from __future__ import annotations

import pytest

from forkbroker.patterns import PatternError
from forkbroker.routing.policies import Full, QueuePolicies, QueuePolicy, Rule


def test_all_rules_that_match_count_and_later_ones_win() -> None:
    """Field by field."""
    rules = [
        Rule(b"/queue/#", {"max_length": 5, "lease": 10}),
        Rule(b"/queue/mail.*", {"lease": 20, "full": Full.REFUSE}),
    ]
    policies = QueuePolicies(QueuePolicy(max_deliveries=3), rules)

    assert policies.find(b"/queue/mail.out") == QueuePolicy(max_deliveries=3, max_length=5, lease=20, full=Full.REFUSE)
    assert policies.find(b"/queue/other") == QueuePolicy(max_deliveries=3, max_length=5, lease=10)
    assert policies.find(b"/dsub/other") == QueuePolicy(max_deliveries=3)


def test_a_rule_that_changes_what_is_not_there_is_refused_at_once() -> None:
    """Not when the first queue comes that matches."""
    with pytest.raises(TypeError):
        QueuePolicies(QueuePolicy(), [Rule(b"/queue/a", {"leese": 1})])


def test_two_rules_may_have_one_pattern() -> None:
    """The later one wins where both speak, whatever stands between them."""
    rules = [
        Rule(b"/queue/a.*", {"lease": 1, "max_length": 1}),
        Rule(b"/queue/a.b", {"lease": 2}),
        Rule(b"/queue/a.*", {"lease": 3}),
    ]

    assert QueuePolicies(QueuePolicy(), rules).find(b"/queue/a.b") == QueuePolicy(lease=3, max_length=1)


def test_a_rule_for_a_pattern_that_cannot_be_used_is_refused_at_once() -> None:
    """Also when its words are all right."""
    with pytest.raises(PatternError):
        QueuePolicies(QueuePolicy(), [Rule(b"/queue/#.a", {"lease": 1})])


@pytest.mark.parametrize("length", [10, 10_000])
def test_names_that_clients_invent_use_no_memory_for_ever(length: int) -> None:
    """The policies of many queues are remembered, within a bound of octets, and are right beyond it."""
    policies = QueuePolicies(QueuePolicy(), [Rule(b"/queue/*", {"max_length": 5})])

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
