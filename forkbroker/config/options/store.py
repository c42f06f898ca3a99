"""Options of what is stored: the database, and the memory before it."""

from __future__ import annotations

from forkbroker.config.options.option import Chapter, Effect, Option
from forkbroker.config.values import choice, size, store_url

CHAPTER = Chapter(
    "Store",
    (
        Option(
            "store",
            store_url,
            None,
            "URL",
            "sqlite:///PATH or memory:; default: queues.db in the state directory",
            example='"sqlite:///var/lib/forkbroker/queues.db"',
        ),
        Option(
            "store-repair", None, None, "", "replace a damaged database by one with all that can be read", in_file=False
        ),
        Option(
            "persistent",
            choice("as-sent", "queues"),
            "as-sent",
            "WHICH",
            "which messages are persistent: as-sent, or all sent to queues",
            effect=Effect.ALL,
        ),
        Option(
            "queue-memory",
            size(1024**2),
            "128 MiB",
            "SIZE",
            "memory for the messages of all queues; the rest is on disk",
        ),
        Option("disk-free", size(0), "128 MiB", "SIZE", "refuse persistent messages below this free space; 0: never"),
    ),
)
