"""Virtual hosts: names as clients write them, and as the broker does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forkbroker.destinations import Sort
from forkbroker.hosts import DEFAULT, EVERYWHERE, Host, Hosts, Space, is_of_host, space_of
from forkbroker.identity import Identity
from forkbroker.patterns import Patterns, check_pattern
from forkbroker.permissions import Permissions, Right, Rights

KEYS = st.sampled_from(["a", "b", "shop", "shop-2", "x" * 32])
PLACED = [sort for sort in Sort if sort is not Sort.CONTROL]
LOCALS = st.lists(st.sampled_from(["a", "b", "$HOST", "shop", "*", "é", ""]), min_size=1, max_size=4).flatmap(
    lambda levels: st.sampled_from([".".join(levels), "/".join(levels)])
)
NAMES = st.builds(lambda sort, local: (sort.value + local).encode(), st.sampled_from(PLACED), LOCALS)


@given(key=KEYS, other=KEYS, name=NAMES)
def test_a_name_comes_back_as_it_was_in_its_own_host_alone(key: str, other: str, name: bytes) -> None:
    """Of another host, and of the default one, it is nothing."""
    inward = Space(key).inward(name)

    assert is_of_host(inward)
    assert Space(key).outward(inward) == name
    assert EVERYWHERE.outward(inward) is None
    if not name.startswith((b"/temp-", b"/queue/$HOST/", b"/topic/$HOST/")):  # which are others for the broker, or none
        assert Space(key).conceal(f"queue {inward.decode()} is full") == f"queue {name.decode()} is full"
    if other != key:
        assert Space(other).outward(inward) is None
        assert Space(other).inward(name) != inward


@given(key=KEYS, name=NAMES.filter(lambda name: b"*" not in name), pattern=st.sampled_from([">", "#", "*.>", "*/#"]))
def test_no_pattern_reaches_another_host(key: str, name: bytes, pattern: str) -> None:
    """Neither from the default host into a named one, nor back, nor between two of these."""
    topic = b"/topic/" + name.split(b"/", 2)[2].replace(b"$HOST", b"c")
    patterns: Patterns[str] = Patterns()
    for space in (EVERYWHERE, Space(key), Space("other")):
        one = space.inward(f"/topic/{pattern}".encode())
        check_pattern(one)
        patterns.add(one, "own" if space.outward(Space(key).inward(topic)) else "foreign")

    assert "foreign" not in patterns.find(Space(key).inward(topic))


@pytest.mark.parametrize(
    ("name", "found"),
    [("shop.example", "shop"), ("Shop.Example", "shop"), ("/", DEFAULT), ("localhost", DEFAULT), (None, DEFAULT)],
)
def test_a_host_is_found_by_any_of_its_names(name: str | None, found: str) -> None:
    """In whatever case."""
    hosts = Hosts((Host("shop", ("shop.example", "shop")),))

    for is_strict in (True, False):
        host = hosts.find(name, is_strict=is_strict)
        assert host is not None and host.key == found


def test_a_name_tells_its_host() -> None:
    """Whether that is configured or not; what is no name of a host is the default one's."""
    for name, key in (
        (b"/queue/$HOST/shop/jobs.a", "shop"),
        (b"/dsub/$HOST/x-1/a/b", "x-1"),
        (b"/queue/jobs", ""),
        (b"/queue/a/$HOST/shop/b", ""),
        (b"/queue/$HOST/", ""),
        (b"/queue/$HOST//a", ""),
    ):
        assert space_of(name).inward(b"/queue/z") == (f"/queue/$HOST/{key}/z".encode() if key else b"/queue/z")


def test_an_unknown_host_is_the_default_one_or_none() -> None:
    """Without configured hosts all names mean the same."""
    hosts = Hosts((Host("shop", ("shop.example",)),))

    assert hosts.find("other", is_strict=True) is None
    assert hosts.find("other", is_strict=False) is hosts.default
    assert Hosts().find("other", is_strict=True) is Hosts().default


def test_users_and_groups_may_enter_where_they_are_named() -> None:
    """Administrators everywhere; everybody where nobody is named, and where the host is gone."""
    hosts = Hosts((Host("shop", users=("alice",), groups=("staff",)), Host("closed", users=()), Host("open")))
    permissions = Permissions(groups={"staff": ("bob",)}, hosts=hosts)

    def entered(client: Identity) -> list[str]:
        return [key for key in ("shop", "closed", "open", DEFAULT, "gone") if permissions.may_enter(client, key)]

    assert entered(Identity("alice")) == entered(Identity("bob")) == ["shop", "open", DEFAULT, "gone"]
    assert entered(Identity("carol", groups=("staff",))) == ["shop", "open", DEFAULT, "gone"]
    assert entered(Identity("carol")) == entered(Identity("")) == ["open", DEFAULT, "gone"]
    assert entered(Identity("carol", is_administrator=True)) == ["shop", "closed", "open", DEFAULT, "gone"]


@pytest.mark.parametrize(
    ("key", "pattern", "name", "is_allowed"),
    [
        ("shop", b"/queue/jobs", b"/queue/$HOST/shop/jobs", True),
        ("shop", b"/queue/>", b"/queue/$HOST/shop/jobs", True),
        ("shop", b"/queue/>", b"/queue/$HOST/work/jobs", False),
        ("shop", b"/queue/>", b"/queue/jobs", False),
        ("shop", b"/>", b"/queue/jobs", True),
        ("shop", b"/control/>", b"/control/status", True),
        ("", b"/queue/>", b"/queue/jobs", True),
        ("", b"/queue/>", b"/queue/$HOST/shop/jobs", False),
        ("", b"/queue/$HOST/shop/>", b"/queue/$HOST/shop/jobs", True),
        ("", b"/queue/$HOST/shop/>", b"/queue/$HOST/work/jobs", False),
        ("", b"/>", b"/queue/$HOST/shop/jobs", True),
    ],
)
def test_grants_are_for_names_of_the_own_host(key: str, pattern: bytes, name: bytes, is_allowed: bool) -> None:
    """Another host's are a matter of requests, and have to be named; or all there is."""
    rights = Rights("alice", {Right.MANAGE: [pattern]}).within(Space(key))

    assert rights.allows(Right.MANAGE, name) is is_allowed
