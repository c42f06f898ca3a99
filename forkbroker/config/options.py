"""The table of options, and the settings that it describes.

A row is everything there is to say about an option: command line, help, configuration file, manual page and `Settings`
follow from it, and a test holds them together. Defaults stand in the form in which a user would write them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Literal

from forkbroker.config.policy_keys import PolicyLine, policy_line
from forkbroker.config.values import (
    algorithms,
    choice,
    cookie_name,
    file_mode,
    heart_beat,
    host_name,
    instance,
    name,
    network,
    none_or,
    number,
    origin,
    path,
    seconds,
    size,
    store_url,
    url_path,
)
from forkbroker.posix.addresses import ListenAddress, parse_address, parse_http_address

_ENVELOPE = 1024**3
"""Frames and transactions travel between processes in one envelope, whose length is bounded."""

BEYOND = (
    "other hosts can reach it, and anybody may log in",
    "listen on localhost, give --users, or --allow-anonymous when everyone who can reach it may use it",
)
"""Problem and remedy of a listener beyond loopback."""


Given = str | bool | list[str]
"""What is given for an option: a text, True or False for a flag, several texts if it is repeatable."""


class Effect(Enum):
    """When a value has its effect that was changed in the configuration file, after a reload."""

    ALL = "at once"
    NEW = "for clients that connect from then on"
    RESTART = "after a restart"


class Type(Enum):
    """How a value is written in the configuration file."""

    FLAG = "true or false"
    NUMBER = "a number"
    SIZE = 'a number of bytes, or a text as in "10 MiB"'
    TIME = 'a number of seconds, or a text as in "10 min"'
    TEXT = "a text in quotes"


_TYPES = {"": Type.FLAG, "N": Type.NUMBER, "SECONDS": Type.NUMBER, "SIZE": Type.SIZE, "TIME": Type.TIME}
"""By the word that stands for the value in the help; all others are texts."""


@dataclass(frozen=True, slots=True)
class Option:
    """One row of the table."""

    name: str
    """As on the command line, without the dashes; with underscores it is the field of `Settings`."""
    parse: Callable[[str], object] | None
    """Text to value; raises ConfigurationError. None for a flag, which takes no value."""
    default: str | None
    """As a user would write it; None when the option is off until it is given."""
    metavar: str
    help: str
    group: str
    repeatable: bool = False
    in_file: bool = True
    """Whether the configuration file may have it; else it is about this one start."""
    effect: Effect = Effect.RESTART

    @property
    def field(self) -> str:
        """The field of `Settings`."""
        return self.name.replace("-", "_")

    @property
    def type(self) -> Type:
        """How its value is written in the configuration file."""
        return _TYPES.get(self.metavar, Type.TEXT)

    @property
    def is_flag(self) -> bool:
        """Whether it is given without a value."""
        return self.parse is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The value of every option. Sizes in octets, times in seconds; None is off."""

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
    log_file: Path | None
    syslog: bool
    log_level: str
    log_format: Literal["text", "json"]
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
    tls_certificate: Path | None
    tls_key: Path | None
    tls_client_ca: Path | None
    tls_client_certificates: Literal["none", "optional", "required"]
    tls_client_user: Literal["none", "cn", "dns", "email", "uri"]
    web_admin: Literal["local", "all", "none"]
    web_path: tuple[str, ...]
    web_origin: tuple[str, ...]
    web_proxy: tuple[IPv4Network | IPv6Network, ...]
    web_cookie: str | None
    web_query_token: bool
    broadcast: Literal["interested", "all"]
    bare_destinations: Literal["topic", "queue", "error"]
    strict: bool
    content_length: Literal["always", "as-sent"]
    max_client_buffer: int
    slow_subscribers: Literal["disconnect", "drop-oldest", "hold"]
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
    store: str | None
    store_repair: bool
    persistent: Literal["as-sent", "queues"]
    queue_memory: int
    disk_free: int
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


_START = "Starting and stopping"
_LOG = "Log"
_CLIENTS = "Connections"
_TLS = "TLS"
_WEB = "Web"
_TOPICS = "Topics"
_QUEUES = "Queues"
_STORE = "Store"
_LIMITS = "Frame limits (a frame above one gets an ERROR that names it)"

OPTIONS: tuple[Option, ...] = (
    Option(
        "config",
        path,
        None,
        "FILE",
        "read options from FILE; default: /etc/forkbroker/forkbroker.toml",
        _START,
        in_file=False,
    ),
    Option("check-config", None, None, "", "print all options with their sources, and exit", _START, in_file=False),
    Option(
        "listen",
        parse_address,
        "localhost:61613",
        "ADDRESS",
        "accept clients at HOST:PORT, {tls,ws,wss}://HOST:PORT or unix:/PATH",
        _START,
        repeatable=True,
        effect=Effect.ALL,
    ),
    Option("socket-mode", file_mode, "0660", "MODE", "permissions of the files of Unix sockets, in octal", _START),
    Option(
        "socket-owner", name, None, "NAME", "owner of these files; default: the user that the broker becomes", _START
    ),
    Option("socket-group", name, None, "NAME", "group of these files; default: the group of that user", _START),
    Option("daemonize", None, None, "", "detach; return when the broker accepts clients", _START, in_file=False),
    Option("pidfile", path, None, "FILE", "write the PID to FILE, and refuse a second broker with this file", _START),
    Option("status", None, None, "", "tell whether the broker of --pidfile runs, and exit", _START, in_file=False),
    Option("instance", instance, None, "NAME", "name of this broker in the titles of its processes", _START),
    Option("host-name", host_name, None, "NAME", "first part of session ids; default: the short host name", _START),
    Option("user", name, None, "NAME", "become this user after everything is open", _START),
    Option("group", name, None, "NAME", "become this group instead of the user's own", _START),
    Option("metrics", parse_http_address, None, "ADDRESS", "answer Prometheus at HOST:PORT, over HTTP", _START),
    Option(
        "metrics-queues", number(0, 100_000), "200", "N", "queues with metrics of their own; others are summed", _START
    ),
    Option(
        "shutdown-timeout",
        seconds(0),
        "10 s",
        "TIME",
        "time for a clean shutdown; clients can settle for half of it",
        _START,
        effect=Effect.ALL,
    ),
    Option(
        "log-file",
        path,
        None,
        "FILE",
        "append the log to FILE; opened again when renamed, and at SIGUSR1",
        _LOG,
        effect=Effect.ALL,
    ),
    Option(
        "syslog",
        None,
        None,
        "",
        "log to syslog; default with --daemonize and without --log-file",
        _LOG,
        effect=Effect.ALL,
    ),
    Option(
        "log-level",
        choice("error", "warning", "info", "debug"),
        "info",
        "LEVEL",
        "least important event to log: error, warning, info or debug",
        _LOG,
        effect=Effect.ALL,
    ),
    Option(
        "log-format",
        choice("text", "json"),
        "text",
        "FORMAT",
        "format of the log: text, or json for each line",
        _LOG,
        effect=Effect.ALL,
    ),
    Option(
        "max-clients",
        number(1),
        "2000",
        "N",
        "number of clients at one time; each has a process",
        _CLIENTS,
        effect=Effect.ALL,
    ),
    Option(
        "max-clients-per-address",
        number(0),
        "100",
        "N",
        "clients from one IPv4 address or IPv6 /64 network; 0: no limit",
        _CLIENTS,
        effect=Effect.ALL,
    ),
    Option(
        "max-pending-logins",
        number(0),
        "500",
        "N",
        "clients without a login; one makes room for the next; 0: no limit",
        _CLIENTS,
        effect=Effect.ALL,
    ),
    Option(
        "fork-rate",
        number(1),
        "2000",
        "N",
        "new clients for each second; others wait, each address in turn",
        _CLIENTS,
        effect=Effect.ALL,
    ),
    Option(
        "users",
        path,
        None,
        "FILE",
        "let clients in only with a login and passcode of this password file",
        _CLIENTS,
        effect=Effect.ALL,
    ),
    Option(
        "allow-anonymous",
        None,
        None,
        "",
        "let clients in that give no login, also from other hosts",
        _CLIENTS,
        effect=Effect.ALL,
    ),
    Option(
        "socket-login",
        choice("administrators", "all"),
        "administrators",
        "WHO",
        "without passcode on Unix sockets: administrators, or all users",
        _CLIENTS,
        effect=Effect.ALL,
    ),
    Option(
        "administrators",
        name,
        None,
        "GROUP",
        "group of the system whose members are administrators on Unix sockets",
        _CLIENTS,
        effect=Effect.NEW,
    ),
    Option(
        "token-key",
        path,
        None,
        "FILE",
        "key of whoever signs JSON web tokens for logins; repeatable",
        _CLIENTS,
        repeatable=True,
        effect=Effect.ALL,
    ),
    Option(
        "token-algorithms",
        algorithms,
        "RS256,ES256,EdDSA",
        "NAMES",
        "algorithms that the signatures of tokens may have",
        _CLIENTS,
        effect=Effect.NEW,
    ),
    Option(
        "token-audience",
        name,
        None,
        "NAME",
        "audience that tokens must have; default: none",
        _CLIENTS,
        effect=Effect.NEW,
    ),
    Option(
        "token-issuer", name, None, "NAME", "issuer that tokens must have; default: any", _CLIENTS, effect=Effect.NEW
    ),
    Option(
        "authenticator",
        path,
        None,
        "FILE",
        "program that says who may log in, in the place of a password file",
        _CLIENTS,
    ),
    Option(
        "authenticator-user",
        name,
        None,
        "USER",
        "user of the system that the program runs as; needs a start as root",
        _CLIENTS,
    ),
    Option(
        "proxy-address",
        network,
        None,
        "NETWORK",
        "address or network of proxies that send a PROXY header; repeatable",
        _CLIENTS,
        repeatable=True,
        effect=Effect.ALL,
    ),
    Option(
        "connect-timeout",
        seconds(0.1),
        "10 s",
        "TIME",
        "time in which a new client must send its CONNECT frame",
        _CLIENTS,
        effect=Effect.NEW,
    ),
    Option(
        "frame-timeout",
        seconds(0.1),
        "60 s",
        "TIME",
        "time for an incomplete frame to grow by 64 KiB or be complete",
        _CLIENTS,
        effect=Effect.NEW,
    ),
    Option(
        "heart-beat",
        heart_beat,
        "10000,10000",
        "SEND,WANT",
        "milliseconds between heart-beats, offered and wanted; 0: none",
        _CLIENTS,
        effect=Effect.NEW,
    ),
    Option(
        "child-memory",
        size(0),
        "0",
        "SIZE",
        "address space of a child process; 0: no limit",
        _CLIENTS,
        effect=Effect.NEW,
    ),
    Option(
        "child-cpu", number(0), "0", "SECONDS", "CPU time of a child process; 0: no limit", _CLIENTS, effect=Effect.NEW
    ),
    Option(
        "child-files",
        number(0),
        "0",
        "N",
        "open file descriptors of a child process; 0: no limit",
        _CLIENTS,
        effect=Effect.NEW,
    ),
    Option("spin", number(0, 1000), "200", "N", "microseconds of polling before a process sleeps; 0: none", _CLIENTS),
    Option(
        "merge-memory",
        None,
        None,
        "",
        "have equal memory of child processes once (Linux, KSM)",
        _CLIENTS,
        effect=Effect.NEW,
    ),
    Option(
        "tls-certificate",
        path,
        None,
        "FILE",
        "certificate of the broker, with those that lead to its root, in PEM",
        _TLS,
        effect=Effect.NEW,
    ),
    Option(
        "tls-key",
        path,
        None,
        "FILE",
        "private key, without a passphrase; default: in --tls-certificate",
        _TLS,
        effect=Effect.NEW,
    ),
    Option(
        "tls-client-ca",
        path,
        None,
        "FILE",
        "certificates that sign those of clients, in PEM",
        _TLS,
        effect=Effect.NEW,
    ),
    Option(
        "tls-client-certificates",
        choice("none", "optional", "required"),
        "none",
        "WHICH",
        "ask clients for certificates: none, optional or required",
        _TLS,
        effect=Effect.NEW,
    ),
    Option(
        "tls-client-user",
        choice("none", "cn", "dns", "email", "uri"),
        "none",
        "PART",
        "user in a client's certificate: none, cn, dns, email or uri",
        _TLS,
        effect=Effect.ALL,
    ),
    Option(
        "web-admin",
        choice("local", "all", "none"),
        "local",
        "WHOM",
        "page at /admin/ of ws:// addresses: local, all (hosts), none",
        _WEB,
        effect=Effect.NEW,
    ),
    Option(
        "web-path",
        url_path,
        None,
        "PATH",
        "path of WebSockets; default: /, /ws, /stomp, /ws/websocket; repeatable",
        _WEB,
        repeatable=True,
        effect=Effect.NEW,
    ),
    Option(
        "web-origin",
        origin,
        None,
        "ORIGIN",
        "pages of ORIGIN may connect as well; * for all; repeatable",
        _WEB,
        repeatable=True,
        effect=Effect.NEW,
    ),
    Option(
        "web-proxy",
        network,
        None,
        "NETWORK",
        "proxies whose X-Forwarded-For or Forwarded is believed; repeatable",
        _WEB,
        repeatable=True,
        effect=Effect.ALL,
    ),
    Option("web-cookie", cookie_name, None, "NAME", "cookie of WebSockets that has a token", _WEB, effect=Effect.NEW),
    Option(
        "web-query-token",
        None,
        None,
        "",
        "take a token from the query, as in /ws?token=TOKEN",
        _WEB,
        effect=Effect.NEW,
    ),
    Option(
        "broadcast",
        choice("interested", "all"),
        "interested",
        "WHOM",
        "child processes that get a topic message: interested or all",
        _TOPICS,
    ),
    Option(
        "bare-destinations",
        choice("topic", "queue", "error"),
        "topic",
        "KIND",
        "meaning of names without a prefix: topic, queue or error",
        _TOPICS,
        effect=Effect.NEW,
    ),
    Option(
        "strict",
        None,
        None,
        "",
        "require host and id, keep CR in 1.0 and 1.1, reject a late ACK",
        _TOPICS,
        effect=Effect.NEW,
    ),
    Option(
        "content-length",
        choice("always", "as-sent"),
        "always",
        "WHEN",
        "put the header on each MESSAGE: always, or as-sent",
        _TOPICS,
        effect=Effect.NEW,
    ),
    Option(
        "max-client-buffer",
        size(65_536),
        "16 MiB",
        "SIZE",
        "memory for topic messages that wait for a slow client",
        _TOPICS,
        effect=Effect.NEW,
    ),
    Option(
        "slow-subscribers",
        choice("disconnect", "drop-oldest", "hold"),
        "disconnect",
        "POLICY",
        "above max-client-buffer: disconnect, drop-oldest or hold",
        _TOPICS,
    ),
    Option(
        "prefetch",
        number(1),
        "100",
        "N",
        "unsettled messages per subscription if SUBSCRIBE sets no limit",
        _QUEUES,
        effect=Effect.NEW,
    ),
    Option(
        "max-unsettled",
        size(65_536),
        "64 MiB",
        "SIZE",
        "size of the unsettled messages of one client",
        _QUEUES,
        effect=Effect.ALL,
    ),
    Option(
        "offer-candidates",
        number(1, 1000),
        "3",
        "N",
        "consumers to which a message is offered at the same time",
        _QUEUES,
        effect=Effect.ALL,
    ),
    Option(
        "max-deliveries",
        number(0),
        "16",
        "N",
        "deliveries before a message is a dead letter; 0: no limit",
        _QUEUES,
        effect=Effect.ALL,
    ),
    Option(
        "max-queue-bytes",
        none_or(size(1024)),
        "0",
        "SIZE",
        "size of a queue in memory and on disk; 0: no limit but the disk",
        _QUEUES,
        effect=Effect.ALL,
    ),
    Option(
        "max-queue-length",
        number(0),
        "0",
        "N",
        "number of messages in a queue; 0: no limit",
        _QUEUES,
        effect=Effect.ALL,
    ),
    Option("max-queues", number(1), "10000", "N", "number of queues at one time", _QUEUES, effect=Effect.ALL),
    Option(
        "queue-full",
        choice("hold", "refuse", "drop-oldest", "dead-letter"),
        "hold",
        "POLICY",
        "when a queue is full: hold, refuse, drop-oldest or dead-letter",
        _QUEUES,
        effect=Effect.ALL,
    ),
    Option(
        "visible",
        choice("accepted", "committed"),
        "accepted",
        "WHEN",
        "offer persistent messages when accepted, or when committed",
        _QUEUES,
        effect=Effect.ALL,
    ),
    Option(
        "redelivery-delay",
        seconds(0),
        "0",
        "TIME",
        "delay after the 2nd failed delivery, doubled each time after that",
        _QUEUES,
        effect=Effect.ALL,
    ),
    Option(
        "dedup-window",
        seconds(0),
        "5 min",
        "TIME",
        "time for which the dedup-id of a message is remembered",
        _QUEUES,
        effect=Effect.ALL,
    ),
    Option(
        "max-delayed-bytes",
        size(1024),
        "64 MiB",
        "SIZE",
        "memory for delayed messages; a delayed SEND beyond it: ERROR",
        _QUEUES,
        effect=Effect.ALL,
    ),
    Option(
        "min-repeat-period",
        seconds(0.001),
        "100 ms",
        "TIME",
        "shortest AMQ_SCHEDULED_PERIOD of a repeated message",
        _QUEUES,
        effect=Effect.ALL,
    ),
    Option(
        "max-repeating",
        number(0),
        "100",
        "N",
        "repeated messages that one client can have waiting",
        _QUEUES,
        effect=Effect.ALL,
    ),
    Option("max-durables", number(0), "1000", "N", "number of durable subscriptions", _QUEUES, effect=Effect.ALL),
    Option(
        "durable-expiry",
        seconds(0),
        "30 d",
        "TIME",
        "lifetime of a durable subscription without clients; 0: for ever",
        _QUEUES,
        effect=Effect.ALL,
    ),
    Option(
        "policy",
        policy_line,
        None,
        "RULE",
        "settings for matching queues: 'PATTERN key=value ...'; repeatable",
        _QUEUES,
        repeatable=True,
        effect=Effect.ALL,
    ),
    Option(
        "store",
        store_url,
        None,
        "URL",
        "sqlite:///PATH or memory:; default: queues.db in the state directory",
        _STORE,
    ),
    Option(
        "store-repair",
        None,
        None,
        "",
        "replace a damaged database by one with all that can be read",
        _STORE,
        in_file=False,
    ),
    Option(
        "persistent",
        choice("as-sent", "queues"),
        "as-sent",
        "WHICH",
        "which messages are persistent: as-sent, or all sent to queues",
        _STORE,
        effect=Effect.ALL,
    ),
    Option(
        "queue-memory",
        size(1024**2),
        "128 MiB",
        "SIZE",
        "memory for the messages of all queues; the rest is on disk",
        _STORE,
    ),
    Option(
        "disk-free",
        size(0),
        "128 MiB",
        "SIZE",
        "refuse persistent messages below this free space; 0: never",
        _STORE,
    ),
    Option("max-command", size(16, 65_536), "32", "SIZE", "length of a command line", _LIMITS, effect=Effect.NEW),
    Option(
        "max-header-line", size(128, 2**24), "10 KiB", "SIZE", "length of a header line", _LIMITS, effect=Effect.NEW
    ),
    Option("max-headers", number(8, 65_536), "1000", "N", "number of headers of a frame", _LIMITS, effect=Effect.NEW),
    Option("max-body", size(0, _ENVELOPE), "100 MiB", "SIZE", "size of a body", _LIMITS),
    Option(
        "max-login-frame", size(256, _ENVELOPE), "64 KiB", "SIZE", "size of the first frame", _LIMITS, effect=Effect.NEW
    ),
    Option(
        "max-client-memory",
        size(65_536),
        "128 MiB",
        "SIZE",
        "transactions, subscriptions and waiting messages of a client",
        _LIMITS,
        effect=Effect.NEW,
    ),
    Option(
        "max-subscriptions", number(1), "10000", "N", "number of subscriptions of a client", _LIMITS, effect=Effect.NEW
    ),
    Option(
        "max-transactions",
        number(1),
        "1000",
        "N",
        "number of open transactions of a client",
        _LIMITS,
        effect=Effect.NEW,
    ),
    Option(
        "max-transaction-frames",
        number(1),
        "100000",
        "N",
        "number of frames in a transaction",
        _LIMITS,
        effect=Effect.NEW,
    ),
    Option(
        "max-transaction-size",
        size(1024, _ENVELOPE),
        "100 MiB",
        "SIZE",
        "size of a transaction, with header lines and acknowledgements",
        _LIMITS,
    ),
    Option(
        "receive-memory",
        size(1024**2),
        "256 MiB",
        "SIZE",
        "memory for large frames being received; others wait, no ERROR",
        _LIMITS,
    ),
)
"""Every option but --help and --version, in the order of the help."""


BY_NAME = {option.name: option for option in OPTIONS}


def absolute(option: Option, text: str) -> str:
    """Make the name of a file in a value absolute, as the broker leaves the directory to which it is relative.

    A value that cannot be understood is left to the option's parser.
    """
    prefix, name = _split_file_name(option, text)
    if name:
        with suppress(OSError):
            return prefix + str(Path(name).absolute())
    return text


def is_relative(option: Option, text: str) -> bool:
    """Tell whether a value has the name of a file that is relative to some directory."""
    _, name = _split_file_name(option, text)
    return bool(name) and not name.startswith("/")


def _split_file_name(option: Option, text: str) -> tuple[str, str]:
    if option.metavar == "FILE":
        return "", text
    return ("unix:", text.removeprefix("unix:")) if option.name == "listen" and text.startswith("unix:") else ("", "")
