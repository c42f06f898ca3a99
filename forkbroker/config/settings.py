"""The settings of a broker: a field for each option, in the order of the table."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Literal

from forkbroker.config.policy_keys import PolicyLine
from forkbroker.posix.addresses import ListenAddress


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The value of every option. Sizes in octets, times in seconds; None is off."""

    # -- starting
    config: Path | None
    check_config: bool
    listen: tuple[ListenAddress, ...]
    socket_mode: int
    socket_owner: str | None
    socket_group: str | None
    daemonize: bool
    pidfile: Path | None
    status: bool
    instance: str | None
    host_name: str | None
    user: str | None
    group: str | None
    metrics: ListenAddress | None
    metrics_queues: int
    shutdown_timeout: float

    # -- log
    log_file: Path | None
    syslog: bool
    log_level: str
    log_format: Literal["text", "json"]

    # -- connections
    max_clients: int
    max_clients_per_address: int
    max_pending_logins: int
    fork_rate: int
    users: Path | None
    allow_anonymous: bool
    socket_login: Literal["administrators", "all"]
    administrators: str | None
    token_key: tuple[Path, ...]
    token_algorithms: tuple[str, ...]
    token_audience: str | None
    token_issuer: str | None
    authenticator: Path | None
    authenticator_user: str | None
    proxy_address: tuple[IPv4Network | IPv6Network, ...]
    connect_timeout: float
    frame_timeout: float
    heart_beat: tuple[int, int]
    child_memory: int
    child_cpu: int
    child_files: int
    spin: int
    merge_memory: bool

    # -- tls
    tls_certificate: Path | None
    tls_key: Path | None
    tls_client_ca: Path | None
    tls_client_certificates: Literal["none", "optional", "required"]
    tls_client_user: Literal["none", "cn", "dns", "email", "uri"]

    # -- web
    web_admin: Literal["local", "all", "none"]
    web_path: tuple[str, ...]
    web_origin: tuple[str, ...]
    web_proxy: tuple[IPv4Network | IPv6Network, ...]
    web_cookie: str | None
    web_query_token: bool

    # -- topics
    broadcast: Literal["interested", "all"]
    bare_destinations: Literal["topic", "queue", "error"]
    strict: bool
    content_length: Literal["always", "as-sent"]
    max_client_buffer: int
    slow_subscribers: Literal["disconnect", "drop-oldest", "hold"]

    # -- queues
    prefetch: int
    max_unsettled: int
    offer_candidates: int
    max_deliveries: int
    max_queue_bytes: int
    max_queue_length: int
    max_queues: int
    queue_full: Literal["hold", "refuse", "drop-oldest", "dead-letter"]
    visible: Literal["accepted", "committed"]
    redelivery_delay: float
    dedup_window: float
    max_delayed_bytes: int
    min_repeat_period: float
    max_repeating: int
    max_durables: int
    durable_expiry: float
    policy: tuple[PolicyLine, ...]

    # -- store
    store: str | None
    store_repair: bool
    persistent: Literal["as-sent", "queues"]
    queue_memory: int
    disk_free: int

    # -- frame_limits
    max_command: int
    max_header_line: int
    max_headers: int
    max_body: int
    max_login_frame: int
    max_client_memory: int
    max_subscriptions: int
    max_transactions: int
    max_transaction_frames: int
    max_transaction_size: int
    receive_memory: int

    @property
    def needs_login(self) -> bool:
        """Whether clients have to show who they are. Without, a login is only a name."""
        has_passcodes = self.users is not None or self.authenticator is not None
        return bool(has_passcodes or self.token_key or self.tls_client_user != "none" or self.socket_login == "all")
