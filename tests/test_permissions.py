"""Permissions: who has which right for which destination."""

from __future__ import annotations

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from forkbroker.errors import EnvelopeError
from forkbroker.identity import Identity
from forkbroker.passwords import PasswordError, check_name
from forkbroker.patterns import PatternError, Patterns, check_pattern, covers, has_wildcards
from forkbroker.permissions import (
    DeniedError,
    Grant,
    Permissions,
    Quota,
    Right,
    Rights,
    fill,
    from_plain,
    quote,
    unlimited,
    unpack,
)

LEVELS = st.sampled_from(["a", "b", "", "*", "#", ">", "x*", "$a"])
SEPARATORS = st.sampled_from([".", "/"])


@st.composite
def names(draw: st.DrawFn) -> bytes:
    """A canonical name or pattern of few levels out of few words."""
    levels = draw(st.lists(st.tuples(SEPARATORS, LEVELS), min_size=1, max_size=4))
    return ("/topic" + "".join(map("".join, levels))).encode()


def is_pattern(name: bytes) -> bool:
    try:
        check_pattern(name)
    except PatternError:
        return False
    return True


def finds(pattern: bytes, name: bytes) -> bool:
    patterns: Patterns[int] = Patterns()
    patterns.add(pattern, 1)
    return bool(patterns.find(name))


@given(names(), names())
@example(b"/topic/#", b"/topic/>")
@example(b"/topic/>", b"/topic/#")
def test_a_pattern_covers_a_name_if_it_matches_it(pattern: bytes, name: bytes) -> None:
    """The same rules as for subscriptions."""
    assume(is_pattern(pattern) and not has_wildcards(name))

    assert covers(pattern, name) == finds(pattern, name)


@st.composite
def three(draw: st.DrawFn) -> tuple[bytes, bytes, bytes]:
    """Two patterns, both mostly of the name that comes with them."""
    levels = draw(st.lists(st.tuples(SEPARATORS, st.sampled_from(["a", "b", "", "$a"])), min_size=1, max_size=4))

    def blur() -> bytes:
        length = draw(st.integers(0, len(levels)))
        words = [separator + draw(st.sampled_from([level, level, "*"])) for separator, level in levels[:length]]
        tail = draw(st.sampled_from(["", ".#", ".>", "/#", "/>"]))
        return ("/topic" + "".join(words) + tail).encode()

    return blur(), blur(), ("/topic" + "".join(map("".join, levels))).encode()


@given(three())
@example((b"/topic/a.>", b"/topic/a.#", b"/topic/a"))
@example((b"/topic/a.*", b"/topic/a.>", b"/topic/a.b.c"))
@example((b"/topic/*", b"/topic/>", b"/topic/a.b"))
def test_what_a_covered_pattern_matches_the_covering_one_matches(some: tuple[bytes, bytes, bytes]) -> None:
    """Else a subscription to a pattern would get what its user may not read."""
    wide, narrow, name = some

    if finds(narrow, name) and not finds(wide, name):
        assert not covers(wide, narrow)


@pytest.mark.parametrize(
    ("wide", "narrow", "expected"),
    [
        ("/topic/>", "/topic/a.b", True),
        ("/>", "/queue/a/b.c", True),
        ("/>", "/topic/>", True),
        ("/topic/a.>", "/topic/>", False),
        ("/topic/>", "/topic/$SYS/status", False),
        ("/topic/#", "/topic/$SYS/>", False),
        ("/topic/*/status", "/topic/$SYS/status", False),
        ("/topic/$SYS/>", "/topic/$SYS/status", True),
        ("/>", "/topic/$SYS/>", True),
        ("/topic/a.>", "/topic/a", False),
        ("/topic/a.#", "/topic/a", True),
        ("/topic/a.#", "/topic/a.>", True),
        ("/topic/a.>", "/topic/a.#", False),
        ("/topic/*.b", "/topic/*.b", True),
        ("/topic/*.b", "/topic/a.*", False),
        ("/topic/*", "/topic/#", False),
        ("/queue/a", "/topic/a", False),
        ("/topic/a", "/topic/*", False),
    ],
)
def test_patterns_of_subscriptions(wide: str, narrow: str, expected: bool) -> None:
    """One grant has to cover all that the subscription may get."""
    assert covers(wide.encode(), narrow.encode()) is expected


NAMES = st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters=":"), min_size=1, max_size=12)


@given(NAMES, st.sampled_from(["/topic/%u.>", "/queue/%u", "/dsub/in-%u.x", "/topic/*.%u"]))
@example("*", "/topic/%u.>")
@example(">", "/queue/%u")
@example("a.b", "/queue/%u")
@example("%u", "/queue/%u")
def test_a_name_in_a_pattern_is_one_level_and_no_wildcard(name: str, pattern: str) -> None:
    """Whoever chooses the name does not choose what it may do."""
    try:
        check_name(name)
    except PasswordError:
        return  # nobody is called so
    filled = fill(pattern, name)

    assert has_wildcards(filled) == has_wildcards(pattern.replace("%u", "x").encode())
    assert filled.count(b".") + filled.count(b"/") == pattern.count(".") + pattern.count("/")


@given(st.text(max_size=6), st.text(max_size=6))
@example("a.b", "a%2Eb")
def test_two_names_are_never_the_same_level(one: str, other: str) -> None:
    """What is written for a character is written differently itself."""
    assert (quote(one) == quote(other)) == (one == other)


def test_percent_signs() -> None:
    """One alone is the configuration's mistake, and is told there."""
    assert fill("/topic/100%%.%u%%u", "a@b") == b"/topic/100%.a%40b%u"


PERMISSIONS = Permissions(
    (
        Grant("group workers", "read", "/queue/jobs.>", "f, line 1"),
        Grant("user alice", "manage", "/queue/jobs.*", "f, line 2"),
        Grant("all-users", "write", "/topic/%u", "f, line 3"),
        Grant("anonymous", "read", "/topic/news", "f, line 4"),
    ),
    {"workers": ("alice", "bob"), "others": ("carol",)},
    has_users=True,
)


def who_may(right: Right, name: str) -> set[str]:
    users = ["alice", "bob", "carol", "eve", ""]
    return {
        user or "nobody"
        for user in users
        if PERMISSIONS.rights_of(Identity(user), is_local=True).allows(right, name.encode())
    }


def test_what_is_granted_to_user_group_and_all_adds_up_and_the_rest_is_denied() -> None:
    """Clients without a login are no users."""
    assert who_may(Right.READ, "/queue/jobs.a") == {"alice", "bob"}
    assert who_may(Right.MANAGE, "/queue/jobs.a") == {"alice"}
    assert who_may(Right.MANAGE, "/queue/jobs.a.b") == set()
    assert who_may(Right.WRITE, "/topic/eve") == {"eve"}
    assert who_may(Right.READ, "/topic/news") == {"nobody"}
    assert who_may(Right.MONITOR, "/control/status") == set()
    assert PERMISSIONS.rights_of(Identity("eve", groups=("workers",)), is_local=True).allows(
        Right.READ, b"/queue/jobs.a"
    )


def test_without_permissions_messages_are_free_and_the_broker_is_its_machines() -> None:
    """As long as nobody has to prove who they are; with users nobody has got those rights."""
    messages = {Right.READ, Right.WRITE, Right.CREATE, Right.BROWSE}
    for has_users, is_local, expected in (
        (False, True, set(Right)),
        (False, False, messages),
        (True, True, messages),
        (True, False, messages),
    ):
        rights = Permissions(has_users=has_users).rights_of(Identity("x"), is_local=is_local)
        assert {right for right in Right if rights.allows(right, b"/queue/a")} == expected


def test_administrators_may_do_everything() -> None:
    """Whatever the tables say."""
    rights = PERMISSIONS.rights_of(Identity("root", is_administrator=True), is_local=True)

    assert all(rights.allows(right, b"/queue/a") for right in Right)


@pytest.mark.parametrize("name", [b"/reply-queue/k.a", b"/temp-queue/a", b"/reply-topic/k.a", b"/temp-topic/a"])
def test_temporary_destinations_need_no_right_for_messages(name: bytes) -> None:
    """They are their session's own."""
    rights = Rights("x", {})

    assert {right for right in Right if rights.allows(right, name)} == {Right.READ, Right.WRITE, Right.CREATE}


def test_the_reason_names_user_right_and_destination() -> None:
    """On one line, of bounded length."""
    for user, said in (("al\nice", "user 'al\\nice' lacks"), ("", "a client without a login lacks")):
        with pytest.raises(DeniedError, match="the right write for '/queue/a'") as caught:
            Rights(user, {}).check(Right.WRITE, b"/queue/a")
        assert str(caught.value).startswith(said)
    with pytest.raises(DeniedError) as caught:
        Rights("x", {}).check(Right.READ, b"/queue/" + b"\xff" * 60_000)
    assert len(str(caught.value)) < 300
    unlimited(Identity("x")).check(Right.MANAGE, b"/queue/a")


def test_a_verdict_is_worked_out_once() -> None:
    """The second time nothing looks at the patterns."""

    class Once(dict[Right, list[bytes]]):
        def get(self, right: Right, default: object = None) -> object:  # type: ignore[override]
            return self.pop(right)

    rights = Rights("x", Once({Right.READ: [b"/queue/>"], Right.WRITE: []}))

    assert [rights.allows(Right.READ, b"/queue/a") for _ in range(3)] == [True] * 3
    assert [rights.allows(Right.WRITE, b"/queue/a") for _ in range(3)] == [False] * 3


def test_rights_and_permissions_travel() -> None:
    """As JSON, whatever the names have in them."""
    rights = Rights("ünï\udcff", {Right.READ: [b"/queue/\xff"], Right.MONITOR: [b"/>"]})

    assert list(unpack(rights.pack())) == list(rights)
    assert unpack(rights.pack()).user == rights.user
    assert unpack(Rights("x", {}, Quota(memory=7)).pack()).quota == Quota(memory=7)
    for permissions in (
        PERMISSIONS,
        Permissions(),
        Permissions((), {}),
        Permissions(None, {}, False, {"all-users": {"cpu": 7}}),
    ):
        assert from_plain(permissions.to_plain()) == permissions
    for octets in (
        b"",
        b"{}",
        b"[1]",
        b'["x", {"fly": []}, []]',
        b'["x", {"read": [1]}, []]',
        b'["x", [], []]',
        b'["x", {}]',
        b'["x", {}, "1234567890"]',
    ):
        with pytest.raises(EnvelopeError, match="rights: "):
            unpack(octets)


def test_of_each_limit_the_nearest_counts() -> None:
    """The user's own before those of groups, and these before all users'; administrators have none."""
    quotas = {
        "user alice": {"connections": 1},
        "group workers": {"connections": 2, "subscriptions": 2},
        "all-users": {"connections": 3, "subscriptions": 3, "cpu": 3},
        "anonymous": {"cpu": 4},
    }
    permissions = Permissions(None, {"workers": ("alice", "bob")}, True, quotas)

    found = {user: permissions.quota_of(Identity(user)) for user in ("alice", "bob", "eve", "")}
    assert found == {
        "alice": Quota(connections=1, subscriptions=2, cpu=3),
        "bob": Quota(connections=2, subscriptions=2, cpu=3),
        "eve": Quota(connections=3, subscriptions=3, cpu=3),
        "": Quota(cpu=4),
    }
    assert permissions.quota_of(Identity("eve", groups=("workers",))).connections == 2
    assert permissions.quota_of(Identity("alice", is_administrator=True)) == Quota()
    assert permissions.rights_of(Identity("alice"), is_local=True).quota == found["alice"]
