"""How values are written."""

from __future__ import annotations

from pathlib import Path

import pytest

from forkbroker.config import values
from forkbroker.errors import ConfigurationError


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (values.number(0), "0", 0),
        (values.number(1, 9), "9", 9),
        (values.size(0), "0", 0),
        (values.size(0), "512", 512),
        (values.size(0), "10KiB", 10_240),
        (values.size(0), "100 MiB", 104_857_600),
        (values.size(0, 2**30), "1GiB", 2**30),
        (values.seconds(0), "0", 0.0),
        (values.seconds(0), "10", 10.0),
        (values.seconds(0), "2.5 s", 2.5),
        (values.seconds(0), "250ms", 0.25),
        (values.seconds(0), "2 min", 120.0),
        (values.choice("a", "b"), "b", "b"),
        (values.heart_beat, "0,10000", (0, 10_000)),
        (values.name, "stomp", "stomp"),
        (values.host_name, "web-1", "web-1"),
        (values.url_path, "/ws", "/ws"),
        (values.origin, "https://WWW.example.org:8443", "https://www.example.org:8443"),
        (values.origin, "http://[::1]", "http://[::1]"),
        (values.origin, "null", "null"),
        (values.origin, "*", "*"),
        (values.cookie_name, "__Host-session", "__Host-session"),
        (values.path, "/var/log/broker", Path("/var/log/broker")),
    ],
)
def test_what_is_right_is_read(parse, text, value) -> None:
    """Each form once."""
    assert value == pytest.approx(parse(text)) if isinstance(value, float) else value == parse(text)


@pytest.mark.parametrize(
    ("parse", "text", "message"),
    [
        (values.url_path, "ws", "ws: not a path; begin with a slash, as in /ws, and give no query"),
        (values.url_path, "/ws?a=b", "/ws?a=b: not a path; begin with a slash, as in /ws, and give no query"),
        (
            values.origin,
            "www.example.org",
            "www.example.org: not the origin of a page; write SCHEME://HOST or "
            "SCHEME://HOST:PORT as in https://www.example.org, null for files, or * for all",
        ),
        (
            values.origin,
            "https://a.example/shop",
            "https://a.example/shop: not the origin of a page; write "
            "SCHEME://HOST or SCHEME://HOST:PORT as in https://www.example.org, null for files, or * for all",
        ),
        (values.cookie_name, "a b", "a b: not the name of a cookie; give letters, digits, '-', '_' or '.'"),
        (values.number(0), "", ": not a whole number; give one of 0 or more"),
        (values.number(0), "-1", "-1: not a whole number; give one of 0 or more"),
        (values.number(0), "1.5", "1.5: not a whole number; give one of 0 or more"),
        (values.number(0), "٣", "٣: not a whole number; give one of 0 or more"),
        (values.number(1, 9), "0", "0: too small; give a number from 1 to 9"),
        (values.number(1, 9), "10", "10: too large; give a number from 1 to 9"),
        (values.number(1), "x", "x: not a whole number; give one of 1 or more"),
        (values.size(0), "10 MB", "10 MB: not a size; give bytes, or a number with KiB, MiB or GiB"),
        (values.size(0), "1.5 MiB", "1.5 MiB: not a size; give bytes, or a number with KiB, MiB or GiB"),
        (values.size(16), "8", "8: too small; give 16 bytes or more"),
        (values.size(16, 32), "1 KiB", "1 KiB: too large; give 16 bytes or more, 32 at most"),
        (values.seconds(0), "soon", "soon: not a time; give seconds, or a number with ms, s, min, h or d"),
        (values.seconds(0), "-1", "-1: not a time; give seconds, or a number with ms, s, min, h or d"),
        (values.seconds(0.1), "10 ms", "10 ms: too short; give 0.1 s or more"),
        (values.milliseconds(1), "0", "0: too short; give 0.001 s or more"),
        (values.none_or(values.size(1024)), "1", "1: too small; give 1024 bytes or more"),
        (values.factor(1, 1000), "0.5", "0.5: not a factor; give a number from 1 to 1000, as in 1.5"),
        (values.factor(1, 1000), "1000.1", "1000.1: not a factor; give a number from 1 to 1000, as in 1.5"),
        (values.number(0), "9" * 19, "9" * 19 + ": too large; give a number of 0 or more, of 18 digits at most"),
        (values.size(0), "9" * 19, "9" * 19 + ": not a size; give bytes, or a number with KiB, MiB or GiB"),
        (values.seconds(0), "10000000001", "10000000001: too long; give 10000000000 s (316 years) or less"),
        (values.milliseconds(0), "9" * 400, "9" * 400 + ": too long; give 10000000000 s (316 years) or less"),
        (values.yes_or_no, "yes", "yes: not a choice; choose true or false"),
        (values.queue_name, "/queue/", "/queue/: not a queue; give one name, as in /queue/failed"),
        (values.store_url, "/tmp/x", "/tmp/x: not a URL; give memory: or sqlite:///PATH"),
        (values.choice("a", "b", "c"), "d", "d: not a choice; choose a, b or c"),
        (values.heart_beat, "10000", "10000: not two times; give SEND,WANT in milliseconds, as in 10000,10000"),
        (values.heart_beat, "1,2,3", "1,2,3: not two times; give SEND,WANT in milliseconds, as in 10000,10000"),
        (values.name, "", ": empty; give a name or a number"),
        (values.name, "a\0", "a\0: not a name; give up to 255 characters that can be printed"),
        (values.name, "9" * 256, "9" * 256 + ": not a name; give up to 255 characters that can be printed"),
        (values.host_name, "", ": not a short host name; give up to 63 letters, digits, '-' or '_'"),
        (
            values.host_name,
            "a.b",
            "a.b: not a short host name; give up to 63 letters, digits, '-' or '_'",
        ),
        (values.path, "", ": not a path; give a file's name"),
        (values.path, "a\0b", "a\0b: not a path; give a file's name"),
    ],
)
def test_what_is_wrong_is_told_with_what_would_be_right(parse, text, message) -> None:
    """The whole message."""
    with pytest.raises(ConfigurationError) as caught:
        parse(text)

    assert message == str(caught.value)


def test_a_path_becomes_absolute(tmp_path, monkeypatch) -> None:
    """Before the daemon leaves the directory."""
    monkeypatch.chdir(tmp_path)

    assert values.path("broker.pid") == tmp_path / "broker.pid"
