"""Rules of --policy."""

from __future__ import annotations

import dataclasses

import pytest

from forkbroker.config.policy_keys import KEYS, policy_line
from forkbroker.errors import ConfigurationError
from forkbroker.routing.queues.policies import QueuePolicy


def test_each_key_is_a_field_of_the_routers_policy_and_no_field_lacks_one() -> None:
    """The two are written apart, as configuration and routing do not know each other."""
    fields = {field.name for field in dataclasses.fields(QueuePolicy) if field.init}
    assert {key.replace("-", "_") for key in KEYS} == fields


def test_a_rule_has_a_pattern_and_changes_in_the_units_of_the_router() -> None:
    """Octets and milliseconds; words stay words."""
    line = policy_line(
        "/queue/mail.# max-length=10 max-bytes='1 MiB' full=drop-oldest persistent=true ttl=1h expired=dead-letter "
        "dead-letter=/queue/mail-failed redelivery-delay=1.5s redelivery-backoff=1.5 lease=2min idle-expiry=7d"
    )

    assert line.pattern == b"/queue/mail.#"
    assert line.changes == {
        "max_length": 10,
        "max_bytes": 1024**2,
        "full": "drop-oldest",
        "persistent": True,
        "ttl": 3_600_000,
        "expired": "dead-letter",
        "dead_letter": b"/queue/mail-failed",
        "redelivery_delay": 1500,
        "redelivery_backoff": 1.5,
        "lease": 120_000,
        "idle_expiry": 7 * 86_400_000,
    }


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "there is no rule; give PATTERN key=value"),
        (" ", "there is no rule; give PATTERN key=value"),
        ("/queue/a", "no key=value after the pattern"),
        ("'/queue/a", "no closing quotation"),
        ("/topic/a lease=1s", "begin it with /queue/ or /dsub/"),
        ("/queue/a.#.b lease=1s", "is permitted as the last level only"),
        ("/queue/a lease", "not key=value; known keys are max-length"),
        ("/queue/a leese=1s", "leese=1s: unknown key; known keys are max-length"),
        ("/queue/a lease=1s lease=2s", "lease=2s: given twice"),
        ("/queue/a lease=soon", "lease=soon: not a time"),
        ("/queue/a max-bytes=3", "max-bytes=3: too small"),
        ("/queue/a full=never", "choose hold, refuse, drop-oldest or dead-letter"),
        ("/queue/a persistent=yes", "choose true or false"),
        ("/queue/a dead-letter=/topic/x", "dead-letter=/topic/x: not a queue"),
        ("/queue/a dead-letter=/queue/x.*", "not a queue"),
        ("/queue/a redelivery-backoff=0.5", "give a number from 1 to 1000"),
        ("/queue/a redelivery-backoff=65536", "give a number from 1 to 1000"),
        ("/queue/a redelivery-backoff=nan", "not a factor"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused_with_what_would(text: str, complaint: str) -> None:
    """Where, what, and what would be right."""
    with pytest.raises(ConfigurationError) as caught:
        policy_line(text)

    assert complaint in str(caught.value)


def test_no_limit_is_written_as_nought() -> None:
    """Although a limit of less than 1 KiB makes no sense."""
    assert policy_line("/queue/a max-bytes=0").changes == {"max_bytes": 0}
