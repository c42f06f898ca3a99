"""Addresses within networks."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from forkbroker.networks import is_within

NETWORKS = (ip_network("10.0.0.0/8"), ip_network("fe80::/64"))


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("10.1.2.3", True),
        ("::ffff:10.1.2.3", True),
        ("fe80::1%eth0", True),
        ("11.0.0.1", False),
        ("::ffff:11.0.0.1", False),
        ("fe80:0:0:1::1", False),
        ("localhost", False),
        ("", False),
    ],
)
def test_an_address_is_within_one_of_them(host: str, expected: bool) -> None:
    """With the scope of an interface, and as IPv6 has an address of IPv4; what is no address is not."""
    assert is_within(host, NETWORKS) is expected
    assert not is_within(host, ())
