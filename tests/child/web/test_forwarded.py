"""Whose request it is that a proxy has passed on."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from forkbroker.child.web.forwarded import find_client

PROXIES = (ip_network("10.0.0.0/8"), ip_network("2001:db8:1::/48"))


@pytest.mark.parametrize(
    ("value", "host"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("198.51.100.1, 203.0.113.9", "203.0.113.9"),
        ("198.51.100.1, 203.0.113.9, 10.0.0.7", "203.0.113.9"),
        ("198.51.100.1,203.0.113.9:4711,10.1.1.1:80", "203.0.113.9"),
        ("10.0.0.9, 10.0.0.7", "10.0.0.9"),
        ("2001:DB8::0007, 2001:db8:1::1", "2001:db8::7"),
        ("[2001:db8::7]:4711", "2001:db8::7"),
        ("unknown", ""),
        ("203.0.113.9, unknown", ""),
        ("203.0.113.9, ", ""),
        ("203.0.113.999", ""),
        ("<script>", ""),
        ("", ""),
    ],
)
def test_the_last_address_that_is_no_proxys_counts(value: str, host: str) -> None:
    """What is to the left of it may be anybody's invention."""
    assert find_client({"x-forwarded-for": value}, PROXIES) == host


@pytest.mark.parametrize(
    ("value", "host"),
    [
        ("for=203.0.113.9", "203.0.113.9"),
        ('for="203.0.113.9:4711";proto=https;by=10.0.0.1', "203.0.113.9"),
        ('For="[2001:db8::7]:4711", for=10.0.0.7', "2001:db8::7"),
        ("proto=http; for=203.0.113.9", "203.0.113.9"),
        ("for=198.51.100.1, for=203.0.113.9", "203.0.113.9"),
        ("for=_hidden", ""),
        ("for=unknown, for=10.0.0.7", ""),
        ("by=203.0.113.9", ""),
    ],
)
def test_the_header_of_the_rfc_is_read_as_well(value: str, host: str) -> None:
    """RFC 7239, 4 and 6."""
    assert find_client({"forwarded": value}, PROXIES) == host


def test_of_two_headers_that_differ_none_counts() -> None:
    """A proxy passes on the one that it does not know."""
    both = {"x-forwarded-for": "203.0.113.9", "forwarded": "for=203.0.113.9"}

    assert find_client(both, PROXIES) == "203.0.113.9"
    assert find_client(both | {"forwarded": "for=127.0.0.1"}, PROXIES) == ""
    assert find_client({}, PROXIES) == ""
