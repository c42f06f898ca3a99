"""Options of the start and the end: the addresses, the files and the rights of the broker itself."""

from __future__ import annotations

from forkbroker.config.options.option import Chapter, Effect, Option
from forkbroker.config.values import file_mode, host_name, instance, name, number, path, seconds
from forkbroker.posix.addresses import parse_address, parse_http_address

CHAPTER = Chapter(
    "Starting and stopping",
    (
        Option(
            "config",
            path,
            None,
            "FILE",
            "read options from FILE; default: /etc/forkbroker/forkbroker.toml",
            in_file=False,
        ),
        Option("check-config", None, None, "", "print all options with their sources, and exit", in_file=False),
        Option(
            "listen",
            parse_address,
            "localhost:61613",
            "ADDRESS",
            "accept clients at HOST:PORT, {tls,ws,wss}://HOST:PORT or unix:/PATH",
            repeatable=True,
            effect=Effect.ALL,
        ),
        Option("socket-mode", file_mode, "0660", "MODE", "permissions of the files of Unix sockets, in octal"),
        Option(
            "socket-owner",
            name,
            None,
            "NAME",
            "owner of these files; default: the user that the broker becomes",
            example='"stomp-broker"',
        ),
        Option(
            "socket-group",
            name,
            None,
            "NAME",
            "group of these files; default: the group of that user",
            example='"stomp"',
        ),
        Option("daemonize", None, None, "", "detach; return when the broker accepts clients", in_file=False),
        Option(
            "pidfile",
            path,
            None,
            "FILE",
            "write the PID to FILE, and refuse a second broker with this file",
            example='"/run/stomp-broker.pid"',
        ),
        Option("status", None, None, "", "tell whether the broker of --pidfile runs, and exit", in_file=False),
        Option(
            "instance", instance, None, "NAME", "name of this broker in the titles of its processes", example='"orders"'
        ),
        Option(
            "host-name",
            host_name,
            None,
            "NAME",
            "first part of session ids; default: the short host name",
            example='"web1"',
        ),
        Option("user", name, None, "NAME", "become this user after everything is open", example='"stomp-broker"'),
        Option("group", name, None, "NAME", "become this group instead of the user's own", example='"stomp-broker"'),
        Option(
            "metrics",
            parse_http_address,
            None,
            "ADDRESS",
            "answer Prometheus at HOST:PORT, over HTTP",
            example='"localhost:9613"',
        ),
        Option("metrics-queues", number(0, 100_000), "200", "N", "queues with metrics of their own; others are summed"),
        Option(
            "shutdown-timeout",
            seconds(0),
            "10 s",
            "TIME",
            "time for a clean shutdown; clients can settle for half of it",
            effect=Effect.ALL,
        ),
    ),
)
