"""Options of the log: where it goes, and what it has."""

from __future__ import annotations

from forkbroker.config.options.option import Chapter, Effect, Option
from forkbroker.config.values import choice, path

CHAPTER = Chapter(
    "Log",
    (
        Option(
            "log-file",
            path,
            None,
            "FILE",
            "append the log to FILE; opened again when renamed, and at SIGUSR1",
            effect=Effect.ALL,
            example='"/var/log/stomp-broker.log"',
        ),
        Option(
            "syslog",
            None,
            None,
            "",
            "log to syslog; default with --daemonize and without --log-file",
            effect=Effect.ALL,
        ),
        Option(
            "log-level",
            choice("error", "warning", "info", "debug"),
            "info",
            "LEVEL",
            "least important event to log: error, warning, info or debug",
            effect=Effect.ALL,
        ),
        Option(
            "log-format",
            choice("text", "json"),
            "text",
            "FORMAT",
            "format of the log: text, or json for each line",
            effect=Effect.ALL,
        ),
    ),
)
