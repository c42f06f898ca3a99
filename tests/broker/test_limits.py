"""Every limit on what a client sends ends in an ERROR that names its option, and in the end of that client only."""

from __future__ import annotations

import pytest

from forkbroker.config.options.table import OPTIONS

SEND = b"SEND\ndestination:/queue/a\n\nx\0"
BEGIN = b"BEGIN\ntransaction:%d\n\n\0"
DELAYED = b"SEND\ndestination:/queue/%b\nx-delay:60000\n\n" + b"x" * 1024 + b"\0"
REPEATED = b"SEND\ndestination:/queue/a\nAMQ_SCHEDULED_PERIOD:60000\nAMQ_SCHEDULED_REPEAT:9\n\n\0"
DURABLE = b"SUBSCRIBE\ndestination:/topic/a\nid:%d\ndurable:true\nauto-delete:false\n\n\0"
SENDS_IN_TRANSACTION = BEGIN % 1 + b"SEND\ndestination:/queue/a\ntransaction:1\n\n%b\0" * 4

#: Option, its value, what a client sends that has connected.
LIMITS = [
    ("max-command", "16", b"A" * 17),
    ("max-header-line", "128", b"SEND\nname:" + b"x" * 128),
    ("max-headers", "8", b"SEND\n" + b"".join(b"h%d:x\n" % number for number in range(9)) + b"\n\0"),
    ("max-body", "1 KiB", b"SEND\ndestination:/queue/a\n\n" + b"x" * 1025),
    ("max-body", "1 KiB", b"SEND\ndestination:/queue/a\ncontent-length:1025\n\n"),
    ("max-body", "0", SEND),
    (
        "max-subscriptions",
        "3",
        b"".join(b"SUBSCRIBE\ndestination:/topic/a\nid:%d\n\n\0" % number for number in range(4)),
    ),
    ("max-transactions", "3", b"".join(BEGIN % number for number in range(4))),
    ("max-transaction-frames", "3", SENDS_IN_TRANSACTION.replace(b"%b", b"x")),
    ("max-transaction-size", "1 KiB", SENDS_IN_TRANSACTION.replace(b"%b", b"x" * 300)),
    ("max-client-memory", "65536", BEGIN % 1 + SENDS_IN_TRANSACTION[len(BEGIN % 1) :].replace(b"%b", b"x" * 30_000)),
    ("max-queues", "1", SEND + SEND.replace(b"/a", b"/b")),
    ("max-delayed-bytes", "1 KiB", DELAYED % b"a" + DELAYED % b"b"),
    ("max-repeating", "1", REPEATED * 2),
    ("max-durables", "1", DURABLE % 1 + DURABLE % 2),
    ("frame-timeout", "0.2", b"SEND\ndestination:/que"),
]
ELSEWHERE = {
    "connect-timeout",
    "max-clients",
    "max-clients-per-address",
    "max-login-frame",
    "max-pending-logins",
    "max-queue-bytes",
    "max-queue-length",
}
"""Limits whose tests are other ones, here or in the neighbourhood."""
INWARD = {"max-client-buffer", "max-deliveries", "max-unsettled"}
"""Limits that end in no ERROR: one has policies, one makes dead letters, and one holds further deliveries back."""


@pytest.mark.row("F25", "T09")
@pytest.mark.parametrize(
    ("option", "value", "octets"), LIMITS, ids=[f"{option} {value}" for option, value, _ in LIMITS]
)
def test_a_limit_is_named_in_the_error(make_broker, join, option, value, octets) -> None:
    """With its value, as it was met; somebody else is not concerned."""
    broker = make_broker(f"--{option}", value)
    client, other = join(broker), join(broker)
    client.send_raw(octets)
    error = client.expect("ERROR")

    figure = str(1024 if value == "1 KiB" else value)
    said = f"{error['message']} {error.body.decode()}"
    assert option in said
    assert figure in said.replace(",", "")
    client.expect_eof()
    other.sync()


@pytest.mark.row("F25")
def test_the_first_frame_has_a_limit_of_its_own(make_broker, knock) -> None:
    """Much is not read of somebody who hasn't logged in."""
    client = knock(make_broker("--max-login-frame", "256"))
    client.send_raw(b"CONNECT\nlogin:" + b"x" * 300)

    client.expect_error("max-login-frame")


def test_no_limit_is_forgotten() -> None:
    """Each option that is a limit stands in the list, or is tested elsewhere."""
    limits = {option.name for option in OPTIONS if option.name.startswith("max-")} | {
        "connect-timeout",
        "frame-timeout",
    }

    assert limits == {option for option, _, _ in LIMITS} | ELSEWHERE | INWARD
