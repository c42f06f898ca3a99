"""Options of queues: deliveries, limits, delays, and durable subscriptions."""

from __future__ import annotations

from forkbroker.config.options.option import Chapter, Effect, Option
from forkbroker.config.policy_keys import policy_line
from forkbroker.config.values import choice, none_or, number, seconds, size

CHAPTER = Chapter(
    "Queues",
    (
        Option(
            "prefetch",
            number(1),
            "100",
            "N",
            "unsettled messages per subscription if SUBSCRIBE sets no limit",
            effect=Effect.NEW,
        ),
        Option(
            "max-unsettled",
            size(65_536),
            "64 MiB",
            "SIZE",
            "size of the unsettled messages of one client",
            effect=Effect.ALL,
        ),
        Option(
            "offer-candidates",
            number(1, 1000),
            "3",
            "N",
            "consumers to which a message is offered at the same time",
            effect=Effect.ALL,
        ),
        Option(
            "max-deliveries",
            number(0),
            "16",
            "N",
            "deliveries before a message is a dead letter; 0: no limit",
            effect=Effect.ALL,
        ),
        Option(
            "max-queue-bytes",
            none_or(size(1024)),
            "0",
            "SIZE",
            "size of a queue in memory and on disk; 0: no limit but the disk",
            effect=Effect.ALL,
        ),
        Option(
            "max-queue-length", number(0), "0", "N", "number of messages in a queue; 0: no limit", effect=Effect.ALL
        ),
        Option("max-queues", number(1), "10000", "N", "number of queues at one time", effect=Effect.ALL),
        Option(
            "queue-full",
            choice("hold", "refuse", "drop-oldest", "dead-letter"),
            "hold",
            "POLICY",
            "when a queue is full: hold, refuse, drop-oldest or dead-letter",
            effect=Effect.ALL,
        ),
        Option(
            "visible",
            choice("accepted", "committed"),
            "accepted",
            "WHEN",
            "offer persistent messages when accepted, or when committed",
            effect=Effect.ALL,
        ),
        Option(
            "redelivery-delay",
            seconds(0),
            "0",
            "TIME",
            "delay after the 2nd failed delivery, doubled each time after that",
            effect=Effect.ALL,
        ),
        Option(
            "dedup-window",
            seconds(0),
            "5 min",
            "TIME",
            "time for which the dedup-id of a message is remembered",
            effect=Effect.ALL,
        ),
        Option(
            "max-delayed-bytes",
            size(1024),
            "64 MiB",
            "SIZE",
            "memory for delayed messages; a delayed SEND beyond it: ERROR",
            effect=Effect.ALL,
        ),
        Option(
            "min-repeat-period",
            seconds(0.001),
            "100 ms",
            "TIME",
            "shortest AMQ_SCHEDULED_PERIOD of a repeated message",
            effect=Effect.ALL,
        ),
        Option(
            "max-repeating",
            number(0),
            "100",
            "N",
            "repeated messages that one client can have waiting",
            effect=Effect.ALL,
        ),
        Option("max-durables", number(0), "1000", "N", "number of durable subscriptions", effect=Effect.ALL),
        Option(
            "durable-expiry",
            seconds(0),
            "30 d",
            "TIME",
            "lifetime of a durable subscription without clients; 0: for ever",
            effect=Effect.ALL,
        ),
        Option(
            "policy",
            policy_line,
            None,
            "RULE",
            "settings for matching queues: 'PATTERN key=value ...'; repeatable",
            repeatable=True,
            effect=Effect.ALL,
            example='["/queue/mail.# max-deliveries=5 redelivery-delay=10s"]',
        ),
    ),
)
