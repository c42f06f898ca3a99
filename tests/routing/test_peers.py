"""Numbers of peers."""

from __future__ import annotations

from forkbroker.routing.peers import STORE


def test_the_store_is_no_child() -> None:
    """The parent numbers children from 1; an envelope without a sender has 0 as well."""
    assert STORE == 0
