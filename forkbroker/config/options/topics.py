"""Options of topics and their slow subscribers, and of how STOMP is read."""

from __future__ import annotations

from forkbroker.config.options.option import Chapter, Effect, Option
from forkbroker.config.values import choice, size

CHAPTER = Chapter(
    "Topics",
    (
        Option(
            "broadcast",
            choice("interested", "all"),
            "interested",
            "WHOM",
            "child processes that get a topic message: interested or all",
        ),
        Option(
            "bare-destinations",
            choice("topic", "queue", "error"),
            "topic",
            "KIND",
            "meaning of names without a prefix: topic, queue or error",
            effect=Effect.NEW,
        ),
        Option(
            "strict",
            None,
            None,
            "",
            "require host and id, keep CR in 1.0 and 1.1, reject a late ACK",
            effect=Effect.NEW,
        ),
        Option(
            "content-length",
            choice("always", "as-sent"),
            "always",
            "WHEN",
            "put the header on each MESSAGE: always, or as-sent",
            effect=Effect.NEW,
        ),
        Option(
            "max-client-buffer",
            size(65_536),
            "16 MiB",
            "SIZE",
            "memory for topic messages that wait for a slow client",
            effect=Effect.NEW,
        ),
        Option(
            "slow-subscribers",
            choice("disconnect", "drop-oldest", "hold"),
            "disconnect",
            "POLICY",
            "above max-client-buffer: disconnect, drop-oldest or hold",
        ),
    ),
)
