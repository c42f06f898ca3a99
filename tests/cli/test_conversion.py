"""What the settings mean to the parts of the broker: each option arrives where it has its effect."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from cli.arrivals import ARRIVES, differences, give

from forkbroker.cli import conversion
from forkbroker.config.evaluation import make_settings
from forkbroker.config.options.table import OPTIONS
from forkbroker.config.settings import Settings
from forkbroker.routing.keeping.fans import NAMES_OCTETS
from forkbroker.routing.queues.policies import Expired, Full, Visible

PARTS: tuple[Callable[[Settings], Any], ...] = (
    conversion.parent_policy,
    conversion.routing_policy,
    conversion.session_policy,
    conversion.frame_limits,
)
"""Records that are made of the settings, for the parts of the broker."""

ELSEWHERE = {
    "config", "check-config", "listen", "socket-mode", "socket-owner", "socket-group",
    "daemonize", "pidfile", "status", "instance",
    "user", "group", "log-file", "syslog", "log-level", "log-format", "users", "allow-anonymous",
    "child-memory", "child-cpu", "spin", "merge-memory", "store", "store-repair", "disk-free",
    "tls-certificate", "tls-key", "tls-client-ca", "tls-client-certificates", "tls-client-user",
    "socket-login", "administrators",
    "token-key", "token-algorithms", "token-audience", "token-issuer", "authenticator", "authenticator-user",
    "proxy-address",
    "metrics", "metrics-queues",
    "web-admin", "web-path", "web-origin", "web-proxy", "web-cookie", "web-query-token",
}  # fmt: skip
"""Options that the command itself uses, or hands to a process when it starts: other tests show their effect."""

LOGINS = {
    "users", "allow-anonymous", "tls-client-user", "socket-login", "token-key", "authenticator", "authenticator-user",
    "proxy-address",
    "web-proxy", "web-cookie", "web-query-token",
}  # fmt: skip
"""Those of them that parent and children heed together, or that need another of these."""


def _find(settings: Settings, path: str) -> list[object]:
    """What stands under this path in those records that have it."""
    found: list[object] = []
    for make in PARTS:
        record: object = make(settings)
        for name in path.split("."):
            record = getattr(record, name, None)
        if record is not None:
            found.append(record)
    return found


def test_each_option_is_in_one_of_the_two_tables() -> None:
    """An option that arrives nowhere would do nothing."""
    assert {option.name for option in OPTIONS} == ELSEWHERE | ARRIVES.keys() | {"policy"}
    assert not ELSEWHERE & ARRIVES.keys()


@pytest.mark.parametrize("option", ARRIVES)
def test_a_setting_arrives_where_it_has_its_effect(option: str) -> None:
    """In the unit of that part; the default is another value."""
    text, path, value = ARRIVES[option]

    assert value in _find(give(option, text), path)
    assert value not in _find(make_settings({}), path)


@pytest.mark.parametrize("option", sorted(ELSEWHERE - LOGINS - {"listen", "status"}))
def test_what_the_command_uses_itself_changes_no_record(option: str) -> None:
    """Else the table above should name it."""
    texts = {"log-level": "debug", "store": "memory:", "user": "nobody", "group": "nogroup"}
    texts |= {
        "log-format": "json",
        "socket-mode": "0600",
        "metrics": "localhost:9613",
        "web-admin": "all",
        "web-path": "/ws",
        "web-origin": "https://example.org",
        "tls-client-certificates": "none",
        "token-algorithms": "ES256",
    }
    row = next(row for row in OPTIONS if row.name == option)
    settings = give(option, "" if row.is_flag else texts.get(option, "1"))

    assert not any(differences(make(settings), make(make_settings({}))) for make in PARTS)


@pytest.mark.parametrize("option", ARRIVES)
def test_an_option_changes_what_its_name_says_and_little_else(option: str) -> None:
    """Queues and durable subscriptions share most limits; the size of an envelope and how long a publisher is held for
    slow subscribers follow from others."""
    settings, usual = give(option, ARRIVES[option][0]), make_settings({})
    changed = {path for make in PARTS for path in differences(make(settings), make(usual))}
    fields = {path.rpartition(".")[2] for path in changed}

    assert ARRIVES[option][1] in changed
    assert fields - {"max_envelope", "max_passed", "fork_burst", "hold_s"} == {ARRIVES[option][1].rpartition(".")[2]}


def test_a_rule_of_a_policy_reaches_the_router_in_its_terms() -> None:
    """Words become members of its enumerations, all else stays."""
    lines = ["/queue/a max-length=3 full=drop-oldest", "/dsub/# expired=dead-letter visible=committed"]
    one, other = conversion.routing_policy(make_settings({"policy": lines})).rules

    assert (one.pattern, dict(one.changes)) == (b"/queue/a", {"max_length": 3, "full": Full.DROP_OLDEST})
    assert (other.pattern, dict(other.changes)) == (
        b"/dsub/#",
        {"expired": Expired.DEAD_LETTER, "visible": Visible.COMMITTED},
    )


def test_durable_subscriptions_lose_their_oldest_and_are_never_persistent_by_themselves() -> None:
    """A subscriber that is away must not hold the publishers of a topic."""
    policy = conversion.routing_policy(make_settings({"queue_full": "hold", "persistent": "queues"}))

    assert (policy.queue.full, policy.queue.persistent) == (Full.HOLD, True)
    assert (policy.durable.full, policy.durable.persistent) == (Full.DROP_OLDEST, False)


@pytest.mark.parametrize("larger", ["max_body", "max_transaction_size"])
def test_an_envelope_has_room_for_the_largest_body_and_transaction(larger: str) -> None:
    """And for the header blocks beside it."""
    settings = make_settings({"max_body": "1 MiB", "max_transaction_size": "1 MiB", larger: "50 MiB"})

    assert conversion.max_envelope(settings) >= 50 * 1_048_576 + settings.max_header_line


def test_what_is_passed_on_may_be_larger_than_what_comes() -> None:
    """By two names of queues, each as long as a destination may be, and the largest list of queues."""
    settings = make_settings({})

    assert conversion.max_passed(settings) - conversion.max_envelope(settings) >= 2 * 65_535 + NAMES_OCTETS + 10_000
    assert conversion.parent_policy(settings).max_passed == conversion.max_passed(settings)


@pytest.mark.parametrize(("child_files", "files"), [("0", 16), ("12", 0), ("31", 15), ("1000", 16)])
def test_a_child_keeps_no_more_files_open_than_it_may(child_files: str, files: int) -> None:
    """And some of those that it may have are for itself."""
    assert conversion.session_policy(give("child-files", child_files)).max_files == files


def test_the_burst_of_forks_is_never_above_a_low_rate() -> None:
    """One fork a second is one at a time."""
    policies: Sequence[Any] = [conversion.parent_policy(make_settings({"fork_rate": rate})) for rate in ("1", "5000")]

    assert policies[0].admission.fork_burst == 1
    assert policies[1].admission.fork_burst == 100


def test_spinning_is_switched_off_by_its_option_and_on_one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """The option counts microseconds."""
    spins = []
    for pays in (True, False):
        monkeypatch.setattr(conversion, "may_spin", lambda pays=pays: pays)
        spins += [conversion.spin_s(make_settings({"spin": text})) for text in ("0", "50")]

    assert spins == [0.0, 0.00005, 0.0, 0.0]
    assert make_settings({}).spin == 200
