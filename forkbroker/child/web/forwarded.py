"""Whose request it is that a proxy has passed on: X-Forwarded-For, or Forwarded (RFC 7239).

    X-Forwarded-For: 203.0.113.9, 192.0.2.7           Forwarded: for=203.0.113.9, for="[2001:db8::7]:4711";proto=https

Each proxy adds at the right whom it has got the request from; what stands to the left of that may be anybody's
invention. So the list is read from the right: over the addresses of proxies that are trusted, to the first one of
somebody else. A proxy that knows one of the two headers passes the other one on as it came. If both are there and mean
different clients, neither counts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from ipaddress import ip_address

from forkbroker.networks import Network, is_within

_FOR = re.compile(r'\s*for\s*=\s*(?:"([^"]*)"|([^\s;,"]*))', re.IGNORECASE)
_NODE = re.compile(r"\[(?P<six>[^\]]+)\](?::\d+)?|(?P<four>[0-9.]+)(?::\d+)?|(?P<bare>[0-9a-fA-F:.]+)")


def find_client(headers: Mapping[str, str], proxies: Sequence[Network]) -> str:
    """The address of the client whose request a trusted proxy has passed on; nothing: it is not said, or not clear."""
    said = []
    if "x-forwarded-for" in headers:
        said.append(_choose(headers["x-forwarded-for"].split(","), proxies))
    if "forwarded" in headers:
        said.append(_choose(list(map(_find_for, headers["forwarded"].split(","))), proxies))
    return said[0] if said and len(set(said)) == 1 else ""


def _find_for(element: str) -> str:
    """The `for` of one element; what is unknown, or hidden, is no address."""
    match = next(filter(None, map(_FOR.match, element.split(";"))), None)
    return "" if match is None else match[1] or match[2] or ""


def _choose(nodes: Sequence[str], proxies: Sequence[Network]) -> str:
    """From the right, the first address that is no proxy's; else the leftmost one."""
    host = ""
    for node in reversed(nodes):
        host = _read(node.strip())
        if not is_within(host, proxies):
            break
    return host


def _read(node: str) -> str:
    """An address without its port; nothing: it is none."""
    match = _NODE.fullmatch(node)
    if match is None:
        return ""
    try:
        return str(ip_address(match["six"] or match["four"] or match["bare"]))
    except ValueError:
        return ""
