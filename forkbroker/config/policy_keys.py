"""Rules for some queues: `--policy 'PATTERN key=value ...'`.

/queue/mail.# max-deliveries=5 redelivery-delay=10s lease=2min
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from forkbroker.config.values import choice, factor, milliseconds, none_or, number, queue_name, size, yes_or_no
from forkbroker.errors import ConfigurationError
from forkbroker.patterns import PatternError, check_pattern

_PREFIXES = ("/queue/", "/dsub/")

KEYS: dict[str, Callable[[str], object]] = {
    "max-length": number(0),
    "max-bytes": none_or(size(1024)),
    "full": choice("hold", "refuse", "drop-oldest", "dead-letter"),
    "persistent": yes_or_no,
    "visible": choice("accepted", "committed"),
    "ttl": milliseconds(0),
    "expired": choice("drop", "dead-letter"),
    "max-deliveries": number(0),
    "dead-letter": queue_name,
    "redelivery-delay": milliseconds(0),
    "redelivery-backoff": factor(1, 1000),
    "redelivery-delay-max": milliseconds(1),
    "poison-after": number(0),
    "lease": milliseconds(0),
    "dedup-window": milliseconds(0),
    "idle-expiry": milliseconds(0),
    "queue-expiry": milliseconds(0),
}
"""What a rule can say. With underscores they are fields of the router's policy; times are in milliseconds."""


@dataclass(frozen=True, slots=True)
class PolicyLine:
    """One rule."""

    pattern: bytes
    """A canonical name, or a pattern as in subscriptions to topics."""
    changes: Mapping[str, object]
    """Fields and their values; only those that the rule speaks of."""


def policy_line(text: str) -> PolicyLine:
    """Read a rule.

    Raises:
        ConfigurationError: it makes no sense; says where.
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ConfigurationError(text, str(error).lower(), "give PATTERN key=value ...") from None
    if not words:
        raise ConfigurationError(text, "there is no rule", "give PATTERN key=value ...")
    pattern, *pairs = words
    changes: dict[str, object] = {}
    for pair in pairs:
        key, value = _read_pair(pair)
        if key in changes:
            raise ConfigurationError(pair, "given twice", "give each key once")
        changes[key] = value
    if not changes:
        raise ConfigurationError(text, "no key=value after the pattern", "write 'PATTERN key=value ...'")
    return PolicyLine(_read_pattern(pattern), changes)


def _read_pattern(text: str) -> bytes:
    if not text.startswith(_PREFIXES):
        raise ConfigurationError(text, "not a pattern of queues", "begin it with /queue/ or /dsub/")
    pattern = text.encode(errors="surrogateescape")
    try:
        check_pattern(pattern)
    except PatternError as error:
        raise ConfigurationError(text, str(error), "give a name, or one with *, # or >") from None
    return pattern


def _read_pair(pair: str) -> tuple[str, object]:
    key, equals, value = pair.partition("=")
    if not equals:
        raise ConfigurationError(pair, "not key=value", f"known keys are {', '.join(KEYS)}")
    if key not in KEYS:
        raise ConfigurationError(pair, "unknown key", f"known keys are {', '.join(KEYS)}")
    try:
        return key.replace("-", "_"), KEYS[key](value)
    except ConfigurationError as error:
        raise ConfigurationError(pair, error.problem, error.remedy) from None
