"""What the settings mean to the parts of the broker: each option arrives where it has its effect."""

from __future__ import annotations

import dataclasses
import socket
from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest

from forkbroker.child.transport import PlainTransport
from forkbroker.cli import wiring
from forkbroker.cli.wiring import Known, Serving
from forkbroker.config.evaluation import make_settings
from forkbroker.config.options.option import Effect
from forkbroker.config.options.table import OPTIONS
from forkbroker.config.settings import Settings
from forkbroker.errors import ConfigurationError, Exit, StartError
from forkbroker.identity import Credentials, Way
from forkbroker.posix.places import Places
from forkbroker.posix.semaphores import SemaphorePool
from forkbroker.routing.keeping.fans import NAMES_OCTETS
from forkbroker.routing.queues.policies import Expired, Full, Visible

PARTS: tuple[Callable[[Settings], Any], ...] = (
    wiring.parent_policy,
    wiring.routing_policy,
    wiring.session_policy,
    wiring.frame_limits,
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

ARRIVES: dict[str, tuple[str, str, object]] = {
    "shutdown-timeout": ("2 s", "shutdown_timeout_s", 2.0),
    "max-clients": ("7", "admission.max_clients", 7),
    "max-clients-per-address": ("3", "admission.max_clients_per_address", 3),
    "max-pending-logins": ("5", "admission.max_pending_logins", 5),
    "fork-rate": ("9", "admission.fork_rate", 9),
    "connect-timeout": ("3 s", "connect_timeout_s", 3.0),
    "frame-timeout": ("4 s", "frame_timeout_s", 4.0),
    "heart-beat": ("100,200", "heart_beat_ms", (100, 200)),
    "broadcast": ("all", "broadcast_all", True),
    "host-name": ("web1", "host_name", "web1"),
    "bare-destinations": ("queue", "bare_destinations", "queue"),
    "strict": ("", "strict", True),
    "content-length": ("as-sent", "content_length_always", False),
    "max-client-buffer": ("1 MiB", "max_client_buffer", 1_048_576),
    "slow-subscribers": ("hold", "slow_subscribers", "hold"),
    "prefetch": ("5", "prefetch", 5),
    "offer-candidates": ("2", "offer_candidates", 2),
    "max-deliveries": ("4", "queue.max_deliveries", 4),
    "max-queue-bytes": ("1 MiB", "queue.max_bytes", 1_048_576),
    "max-queue-length": ("11", "queue.max_length", 11),
    "max-queues": ("12", "max_queues", 12),
    "queue-full": ("dead-letter", "queue.full", Full.DEAD_LETTER),
    "redelivery-delay": ("1.5 s", "queue.redelivery_delay", 1500),
    "dedup-window": ("6 s", "queue.dedup_window", 6000),
    "max-delayed-bytes": ("2 MiB", "max_delayed_bytes", 2_097_152),
    "visible": ("committed", "queue.visible", Visible.COMMITTED),
    "min-repeat-period": ("2 s", "min_repeat_period", 2000),
    "max-repeating": ("17", "max_repeating", 17),
    "max-durables": ("13", "max_durables", 13),
    "durable-expiry": ("1 d", "durable.idle_expiry", 86_400_000),
    "persistent": ("queues", "queue.persistent", True),
    "queue-memory": ("3 MiB", "queue_memory", 3_145_728),
    "max-unsettled": ("1 MiB", "max_unsettled", 1_048_576),
    "max-command": ("64", "max_command", 64),
    "max-header-line": ("1 KiB", "max_header_line", 1024),
    "max-headers": ("50", "max_headers", 50),
    "max-body": ("1 MiB", "max_body", 1_048_576),
    "max-login-frame": ("1 KiB", "max_login_frame", 1024),
    "max-client-memory": ("2 MiB", "max_client_memory", 2_097_152),
    "max-subscriptions": ("14", "max_subscriptions", 14),
    "max-transactions": ("15", "max_transactions", 15),
    "max-transaction-frames": ("16", "max_transaction_frames", 16),
    "max-transaction-size": ("1 MiB", "max_transaction_size", 1_048_576),
    "child-files": ("20", "max_files", 4),
    "receive-memory": ("2 MiB", "receive_memory", 2_097_152),
}
"""A value that is not the default, the field that it reaches in one of these records, and what stands there then."""


def _given(option: str, text: str) -> Settings:
    return make_settings({option.replace("-", "_"): text or True})


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


def _differences(one: object, other: object, path: str = "") -> set[str]:
    """The fields in which two records differ."""
    if not dataclasses.is_dataclass(one):
        return set() if one == other else {path}
    names = [field.name for field in dataclasses.fields(one) if field.init]
    return {
        difference
        for name in names
        for difference in _differences(getattr(one, name), getattr(other, name), f"{path}.{name}".lstrip("."))
    }


def test_each_option_is_in_one_of_the_two_tables() -> None:
    """An option that arrives nowhere would do nothing."""
    assert {option.name for option in OPTIONS} == ELSEWHERE | ARRIVES.keys() | {"policy"}
    assert not ELSEWHERE & ARRIVES.keys()


@pytest.mark.parametrize("option", ARRIVES)
def test_a_setting_arrives_where_it_has_its_effect(option: str) -> None:
    """In the unit of that part; the default is another value."""
    text, path, value = ARRIVES[option]

    assert value in _find(_given(option, text), path)
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
    settings = _given(option, "" if row.is_flag else texts.get(option, "1"))

    assert not any(_differences(make(settings), make(make_settings({}))) for make in PARTS)


@pytest.mark.parametrize("option", ARRIVES)
def test_an_option_changes_what_its_name_says_and_little_else(option: str) -> None:
    """Queues and durable subscriptions share most limits; the size of an envelope and how long a publisher is held for
    slow subscribers follow from others."""
    settings, usual = _given(option, ARRIVES[option][0]), make_settings({})
    changed = {path for make in PARTS for path in _differences(make(settings), make(usual))}
    fields = {path.rpartition(".")[2] for path in changed}

    assert ARRIVES[option][1] in changed
    assert fields - {"max_envelope", "max_passed", "fork_burst", "hold_s"} == {ARRIVES[option][1].rpartition(".")[2]}


def test_a_rule_of_a_policy_reaches_the_router_in_its_terms() -> None:
    """Words become members of its enumerations, all else stays."""
    lines = ["/queue/a max-length=3 full=drop-oldest", "/dsub/# expired=dead-letter visible=committed"]
    one, other = wiring.routing_policy(make_settings({"policy": lines})).rules

    assert (one.pattern, dict(one.changes)) == (b"/queue/a", {"max_length": 3, "full": Full.DROP_OLDEST})
    assert (other.pattern, dict(other.changes)) == (
        b"/dsub/#",
        {"expired": Expired.DEAD_LETTER, "visible": Visible.COMMITTED},
    )


def test_durable_subscriptions_lose_their_oldest_and_are_never_persistent_by_themselves() -> None:
    """A subscriber that is away must not hold the publishers of a topic."""
    policy = wiring.routing_policy(make_settings({"queue_full": "hold", "persistent": "queues"}))

    assert (policy.queue.full, policy.queue.persistent) == (Full.HOLD, True)
    assert (policy.durable.full, policy.durable.persistent) == (Full.DROP_OLDEST, False)


@pytest.mark.parametrize("larger", ["max_body", "max_transaction_size"])
def test_an_envelope_has_room_for_the_largest_body_and_transaction(larger: str) -> None:
    """And for the header blocks beside it."""
    settings = make_settings({"max_body": "1 MiB", "max_transaction_size": "1 MiB", larger: "50 MiB"})

    assert wiring.max_envelope(settings) >= 50 * 1_048_576 + settings.max_header_line


def test_what_is_passed_on_may_be_larger_than_what_comes() -> None:
    """By two names of queues, each as long as a destination may be, and the largest list of queues."""
    settings = make_settings({})

    assert wiring.max_passed(settings) - wiring.max_envelope(settings) >= 2 * 65_535 + NAMES_OCTETS + 10_000
    assert wiring.parent_policy(settings).max_passed == wiring.max_passed(settings)


@pytest.mark.parametrize(("child_files", "files"), [("0", 16), ("12", 0), ("31", 15), ("1000", 16)])
def test_a_child_keeps_no_more_files_open_than_it_may(child_files: str, files: int) -> None:
    """And some of those that it may have are for itself."""
    assert wiring.session_policy(_given("child-files", child_files)).max_files == files


def test_the_burst_of_forks_is_never_above_a_low_rate() -> None:
    """One fork a second is one at a time."""
    policies: Sequence[Any] = [wiring.parent_policy(make_settings({"fork_rate": rate})) for rate in ("1", "5000")]

    assert policies[0].admission.fork_burst == 1
    assert policies[1].admission.fork_burst == 100


def test_a_refusal_is_a_frame_that_every_version_can_read() -> None:
    """The client has not said which one it speaks."""
    assert wiring.refuse("too many clients", False) == (
        b"ERROR\nmessage:too many clients\ncontent-type:text/plain\ncontent-length:17\n\ntoo many clients\n\0\n"
    )


def test_spinning_is_switched_off_by_its_option_and_on_one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """The option counts microseconds."""
    spins = []
    for pays in (True, False):
        monkeypatch.setattr(wiring, "may_spin", lambda pays=pays: pays)
        spins += [wiring.spin_s(make_settings({"spin": text})) for text in ("0", "50")]

    assert spins == [0.0, 0.00005, 0.0, 0.0]
    assert make_settings({}).spin == 200


@pytest.mark.parametrize("option", ARRIVES)
def test_after_a_reload_a_setting_is_where_the_table_says(option: str) -> None:
    """In the parent's plan, at the next client, or nowhere before a restart."""
    (row,) = (row for row in OPTIONS if row.name == option)
    changed = _given(option, ARRIVES[option][0])
    taken = make_settings({}) if row.effect is Effect.RESTART else changed
    serving = Serving(make_settings({}), NO_SEMAPHORES, NO_PLACES, Known())
    before = serving.shared
    rest = {"opened": (), "dropped": (), "summary": ""}
    plan = serving.prepare(taken, Known())(**rest)
    at_once = _differences(
        plan, Serving(make_settings({}), NO_SEMAPHORES, NO_PLACES, Known()).prepare(make_settings({}), Known())(**rest)
    )
    for_new = _differences(serving.shared, before)

    assert plan.renews_children is (row.effect is not Effect.RESTART)
    assert bool(at_once - {"renews_children"}) == (row.effect is Effect.ALL)
    assert bool(for_new) == (row.effect is Effect.NEW)


def test_ways_to_log_in_reach_parent_and_children_together() -> None:
    """With any of them, a login is more than a name."""
    serving = Serving(make_settings({}), NO_SEMAPHORES, NO_PLACES, Known())
    rest = {"opened": (), "dropped": (), "summary": ""}
    certificates = {"tls_client_user": "cn", "tls_client_certificates": "optional", "tls_client_ca": "/f"}
    for given, ways in (({"socket_login": "all"}, {Way.SYSTEM}), (certificates, {Way.CERTIFICATE})):
        plan = serving.prepare(make_settings(given), Known())(**rest)
        assert (plan.admission.users, plan.admission.ways) == ({}, ways)
        assert serving.shared.verifier is not None
    program = wiring.parent_policy(make_settings({"authenticator": "/bin/false"}))
    assert program.admission.ways == {Way.PROGRAM}
    with pytest.raises(ConfigurationError, match="clients are asked for no certificate"):
        make_settings({"tls_client_user": "cn"})


def test_users_reach_parent_and_children_together() -> None:
    """Clients without a login are a user with an empty name, if they are let in."""
    serving = Serving(make_settings({}), NO_SEMAPHORES, NO_PLACES, Known())
    assert serving.shared.verifier is None
    rest = {"opened": (), "dropped": (), "summary": ""}
    plans = [
        serving.prepare(make_settings({"users": "/f" if users else None, "allow_anonymous": is_open}), Known(users))(
            **rest
        )
        for is_open, users in ((False, {"alice": "hash"}), (True, {"alice": "hash"}), (True, None))
    ]

    assert [plan.admission.users for plan in plans] == [{"alice": "hash"}, {"alice": "hash", "": ""}, None]
    assert serving.shared.verifier is None
    adopt = serving.prepare(make_settings({"users": "/f"}), Known({}))
    assert serving.shared.verifier is None
    adopt(**rest)
    assert serving.shared.verifier is not None
    with socket.socket() as connection:
        assert serving.shared.verifier.verify(Credentials(""), PlainTransport(connection), "") == "no login"


NO_PLACES: Places = cast(Places, None)
NO_SEMAPHORES: SemaphorePool = cast(SemaphorePool, None)
"""Nobody is served here."""


def test_a_system_that_cannot_merge_memory_is_told_before_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was asked for; nobody is asked where it is not."""
    monkeypatch.setattr("forkbroker.posix.merging.can_merge", lambda: False)
    wiring.check_merging(make_settings({}))

    with pytest.raises(StartError, match=r"needs Linux 6\.4 or newer with KSM; start without it") as caught:
        wiring.check_merging(make_settings({"merge_memory": True}))
    assert caught.value.status == Exit.CONFIG
