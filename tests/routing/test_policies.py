"""Which policy holds for which queue."""

from __future__ import annotations

import pytest

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


def test_names_that_clients_invent_use_no_memory_for_ever() -> None:
    """The policies of ten thousand queues are remembered."""
    policies = QueuePolicies(QueuePolicy(), [Rule(b"/queue/*", {"max_length": 5})])

    found = {policies.find(b"/queue/%d" % number).max_length for number in range(25_000)}

    assert found == {5}
    assert len(policies._cache) <= 10_000


def test_the_wait_before_a_redelivery_grows_to_its_limit() -> None:
    """The first time there is none."""
    policy = QueuePolicy(redelivery_delay=100, redelivery_backoff=2.0, redelivery_delay_max=1000)

    assert [policy.redelivery_wait(deliveries) for deliveries in (1, 2, 3, 4, 5, 6, 7, 5000)] == [
        0, 100, 200, 400, 800, 1000, 1000, 1000,
    ]  # fmt: skip
    assert QueuePolicy().redelivery_wait(9) == 0
