"""Options that bound what a client may send, and keep."""

from __future__ import annotations

from forkbroker.config.options.option import Chapter, Effect, Option
from forkbroker.config.values import number, size

_ENVELOPE = 1024**3
"""Frames and transactions travel between processes in one envelope, whose length is bounded."""

CHAPTER = Chapter(
    "Frame limits (a frame above one gets an ERROR that names it)",
    (
        Option("max-command", size(16, 65_536), "32", "SIZE", "length of a command line", effect=Effect.NEW),
        Option("max-header-line", size(128, 2**24), "10 KiB", "SIZE", "length of a header line", effect=Effect.NEW),
        Option("max-headers", number(8, 65_536), "1000", "N", "number of headers of a frame", effect=Effect.NEW),
        Option("max-body", size(0, _ENVELOPE), "100 MiB", "SIZE", "size of a body"),
        Option("max-login-frame", size(256, _ENVELOPE), "64 KiB", "SIZE", "size of the first frame", effect=Effect.NEW),
        Option(
            "max-client-memory",
            size(65_536),
            "128 MiB",
            "SIZE",
            "transactions, subscriptions and waiting messages of a client",
            effect=Effect.NEW,
        ),
        Option("max-subscriptions", number(1), "10000", "N", "number of subscriptions of a client", effect=Effect.NEW),
        Option(
            "max-transactions", number(1), "1000", "N", "number of open transactions of a client", effect=Effect.NEW
        ),
        Option(
            "max-transaction-frames", number(1), "100000", "N", "number of frames in a transaction", effect=Effect.NEW
        ),
        Option(
            "max-transaction-size",
            size(1024, _ENVELOPE),
            "100 MiB",
            "SIZE",
            "size of a transaction, with header lines and acknowledgements",
        ),
        Option(
            "receive-memory",
            size(1024**2),
            "256 MiB",
            "SIZE",
            "memory for large frames being received; others wait, no ERROR",
        ),
    ),
)
