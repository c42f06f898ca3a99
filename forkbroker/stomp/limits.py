"""How large a client's frames may be (F25). Limits of a session (subscriptions, transactions) are not here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Largest sizes in octets, and the largest number of headers; what exceeds one ends in an ERROR.

    A size equal to its limit is allowed. A line is counted without its end, a body without its NUL.

    Attributes:
        max_command: command line. 32 as RabbitMQ; ActiveMQ takes 1 KiB, go-stomp 4 KiB with the headers. The
            longest command has 11 octets.
        max_header_line: one header line. 10 KiB as ActiveMQ, Apollo and vertx-stomp; RabbitMQ takes 100 KiB
            for a name or a value.
        max_headers: header lines of a frame, its first `receipt` not counted. 1,000 as ActiveMQ, Apollo and
            vertx-stomp; RabbitMQ takes 100.
        max_body: 100 MiB as RabbitMQ, ActiveMQ and Apollo; vertx-stomp takes 10 MB.
        max_login_frame: the whole first frame, as its sender is a stranger yet. 64 KiB as RabbitMQ.
    """

    max_command: int = 32
    max_header_line: int = 10_240
    max_headers: int = 1_000
    max_body: int = 104_857_600
    max_login_frame: int = 65_536
