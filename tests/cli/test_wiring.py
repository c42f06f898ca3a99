"""What the settings mean to the parts of the broker."""

from __future__ import annotations

import pytest

from forkbroker.cli.arguments import read_arguments
from forkbroker.cli.wiring import routing_policy
from forkbroker.errors import ConfigurationError
from forkbroker.routing.policies import Expired, Full, Rule


def test_rules_become_policies_in_terms_of_routing() -> None:
    """In their order, words as members of enumerations, times in milliseconds."""
    policy = routing_policy(
        read_arguments(["--policy", "/queue/a.# full=refuse lease=2s", "--policy", "/dsub/* expired=dead-letter"])
    )

    assert policy.rules == (
        Rule(b"/queue/a.#", {"full": Full.REFUSE, "lease": 2000}),
        Rule(b"/dsub/*", {"expired": Expired.DEAD_LETTER}),
    )


def test_rules_by_which_messages_would_go_round_for_ever_are_refused() -> None:
    """The text has the rules, the way, and what to do; rules that have nothing to do with it are not blamed."""
    rules = [
        "/queue/a full=dead-letter max-length=10 dead-letter=/queue/b",
        "/queue/other lease=1s",
        "/queue/b.# full=dead-letter max-bytes=1MiB dead-letter=/queue/a",
    ]
    arguments = [word for rule in rules for word in ("--policy", rule)]

    with pytest.raises(ConfigurationError) as caught:
        routing_policy(read_arguments(arguments))

    assert str(caught.value) == (
        "--policy '/queue/a' and --policy '/queue/b.#': full queues would move their dead letters in a circle, "
        "/queue/a -> /queue/b -> /queue/a; give one of these queues another dead-letter, or full=drop-oldest"
    )


def test_options_for_all_queues_count_for_the_circle_too() -> None:
    """A rule that only names another queue closes it."""
    arguments = ["--queue-full", "dead-letter", "--max-queue-length", "5"]
    assert routing_policy(read_arguments(arguments)).queue.full is Full.DEAD_LETTER

    with pytest.raises(ConfigurationError, match=r"^--policy '/queue/DLQ': .* /queue/DLQ -> /queue/x -> /queue/DLQ;"):
        routing_policy(read_arguments([*arguments, "--policy", "/queue/DLQ dead-letter=/queue/x"]))
