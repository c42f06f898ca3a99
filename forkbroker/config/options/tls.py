"""Options of TLS: the broker's certificate, and those of its clients."""

from __future__ import annotations

from forkbroker.config.options.option import Chapter, Effect, Option
from forkbroker.config.values import choice, path

CHAPTER = Chapter(
    "TLS",
    (
        Option(
            "tls-certificate",
            path,
            None,
            "FILE",
            "certificate of the broker, with those that lead to its root, in PEM",
            effect=Effect.NEW,
            example='"/etc/forkbroker/broker.pem"',
        ),
        Option(
            "tls-key",
            path,
            None,
            "FILE",
            "private key, without a passphrase; default: in --tls-certificate",
            effect=Effect.NEW,
            example='"/etc/forkbroker/broker.key"',
        ),
        Option(
            "tls-client-ca",
            path,
            None,
            "FILE",
            "certificates that sign those of clients, in PEM",
            effect=Effect.NEW,
            example='"/etc/forkbroker/clients.pem"',
        ),
        Option(
            "tls-client-certificates",
            choice("none", "optional", "required"),
            "none",
            "WHICH",
            "ask clients for certificates: none, optional or required",
            effect=Effect.NEW,
        ),
        Option(
            "tls-client-user",
            choice("none", "cn", "dns", "email", "uri"),
            "none",
            "PART",
            "user in a client's certificate: none, cn, dns, email or uri",
            effect=Effect.ALL,
        ),
    ),
)
