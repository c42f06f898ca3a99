"""Where an option arrives that reaches a record of some part, and how records are compared."""

from __future__ import annotations

import dataclasses

from forkbroker.config.evaluation import make_settings
from forkbroker.config.settings import Settings
from forkbroker.routing.queues.policies import Full, Visible

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


def give(option: str, text: str) -> Settings:
    """Settings with this option alone; without a text it is a flag."""
    return make_settings({option.replace("-", "_"): text or True})


def differences(one: object, other: object, path: str = "") -> set[str]:
    """The fields in which two records differ."""
    if not dataclasses.is_dataclass(one):
        return set() if one == other else {path}
    names = [field.name for field in dataclasses.fields(one) if field.init]
    return {
        difference
        for name in names
        for difference in differences(getattr(one, name), getattr(other, name), f"{path}.{name}".lstrip("."))
    }
