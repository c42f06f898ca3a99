"""Patterns of names: what they match, and what looking up costs."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forkbroker.patterns import (
    MAX_LEVELS,
    WIDE_LEVELS,
    PatternError,
    Patterns,
    check_pattern,
    has_wildcards,
    widen,
)


def name_of(local: str) -> bytes:
    return f"/topic/{local}".encode()


def matches(pattern: str, local: str) -> bool:
    patterns: Patterns[int] = Patterns()
    patterns.add(name_of(pattern), 1)
    return patterns.find(name_of(local)) == [1]


def nodes_of(patterns: Patterns[int]) -> int:
    """How many nodes the trie has."""
    waiting, count = [patterns._root], 0
    while waiting:
        node = waiting.pop()
        count += 1
        waiting += node.following.values()
    return count


# ---------------------------------------------------------------- what matches

MATCHES = [
    ("a", ["a"], ["b", "aa", "a.a", ""]),
    ("*", ["a", "", "ż"], ["a.b", "a/b"]),
    ("a.*", ["a.b", "a."], ["a", "a/b", "a.b.c", "b.b"]),
    ("a/*", ["a/b"], ["a.b"]),
    ("*.b", ["a.b", ".b"], ["b", "a.c", "a.a.b"]),
    ("a.*.c", ["a.b.c", "a..c"], ["a.c", "a.b.b.c", "a.b/c"]),
    ("a.#", ["a", "a.", "a.b", "a.b/c"], ["ab", "a/b", "b"]),
    ("a/#", ["a", "a/b", "a/b.c"], ["a.b"]),
    ("*.#", ["a", "a.b", "a.b.c"], ["a/b"]),
    ("#", ["", "a", "a.b/c"], []),
    ("a.>", ["a.", "a.b", "a.b.c"], ["a", "ab"]),
    (">", ["a", "a.b/c"], []),
    ("a+.*", ["a+.b"], ["aa.b"]),
    ("a\n.*", ["a\n.b\n"], ["a.b"]),
    ("a*.c#", ["a*.c#"], ["ab.c#", "a*.cd"]),
    ("*.a", ["b.a", "b$.a"], ["$b.a"]),
    ("#", ["a.$b"], ["$b", "$b.a", "$"]),
    (">", ["a/$b"], ["$b", "$b/a"]),
    ("$b.*", ["$b.a", "$b.$a"], ["$c.a", "$b"]),
    ("$b/#", ["$b", "$b/a", "$b/$a/c"], ["$c/a"]),
]


@pytest.mark.parametrize(("pattern", "yes", "no"), MATCHES)
def test_a_pattern_matches_level_by_level(pattern: str, yes: list[str], no: list[str]) -> None:
    """`*` one level, `#` any number, `>` at least one; separators literally."""
    assert yes == [name for name in [*yes, *no] if matches(pattern, name)]


def test_a_pattern_matches_its_own_prefix_only() -> None:
    """A topic's pattern never sees a queue, nor a reply."""
    patterns: Patterns[int] = Patterns()
    patterns.add(b"/topic/#", 1)

    assert patterns.find(b"/queue/a") == []
    assert patterns.find(b"/reply-topic/a") == []


def expression_of(local: str) -> bytes:
    """The regular expression that says the same: an independent statement of the semantics."""
    *heads, tail = re.split(r"([./])", local)
    parts = ["[^./]*" if part == "*" else re.escape(part) for part in heads]
    if tail == "#" and parts:
        text = "".join(parts[:-1]) + f"(?:{parts[-1]}.*)?"
    elif tail in ("#", ">"):
        text = "".join(parts) + ".*"
    else:
        text = "".join(parts) + ("[^./]*" if tail == "*" else re.escape(tail))
    return ("/topic/" + text).encode("utf-8", "surrogateescape")


LEVELS = st.lists(st.sampled_from(["a", "b", "", "*", "ab", "a*", "ż", "\udcff", "\n"]), min_size=1, max_size=5)
LOCALS = st.builds(
    lambda levels, separators: "".join(a + b for a, b in zip(levels, separators, strict=False)),
    LEVELS,
    st.lists(st.sampled_from("./"), min_size=5, max_size=5),
)
NAMES = LOCALS.map(lambda local: local[:-1])
PATTERNS = st.one_of(
    NAMES, st.builds(lambda local, tail: local + tail, LOCALS, st.sampled_from("#>*")), st.sampled_from("#>*")
)


@given(st.lists(PATTERNS, unique=True, max_size=8), NAMES)
def test_many_patterns_find_what_regular_expressions_find(patterns: list[str], name: str) -> None:
    """Each one, as if it were alone; and the names of clients that don't speak UTF-8 as well."""
    trie: Patterns[str] = Patterns()
    for pattern in patterns:
        trie.add(("/topic/" + pattern).encode("utf-8", "surrogateescape"), pattern)
    octets = ("/topic/" + name).encode("utf-8", "surrogateescape")

    expected = [p for p in patterns if re.fullmatch(expression_of(p), octets, re.DOTALL)]

    assert sorted(trie.find(octets)) == sorted(expected)


def test_wildcards_are_whole_levels() -> None:
    """Within a longer word they are ordinary characters."""
    assert all(has_wildcards(name_of(local)) for local in ("*", "a.*", "a/#", "a.>", "*.b", "#", ">"))
    assert not any(has_wildcards(name_of(local)) for local in ("a*", "c#.d", "a>b", "**", "x.#1", "", "a..b"))


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize("local", ["#.a", "a.>.b", ">/a", "a.#.#"])
def test_the_rest_stands_last(local: str) -> None:
    """`#` and `>` before the last level are an error that names the level and the pattern; nothing is left behind."""
    patterns: Patterns[int] = Patterns()

    with pytest.raises(PatternError, match=r"pattern '/topic/.*': '[#>]' is permitted as the last level only"):
        patterns.add(name_of(local), 1)

    assert (len(patterns), nodes_of(patterns)) == (0, 1)


@pytest.mark.parametrize("tail", ["x", "*", "#", ">"])
def test_a_pattern_has_so_many_levels_and_no_more(tail: str) -> None:
    """The limit itself is permitted, and works; one more is refused with the limit in the text."""
    longest = ".".join(["*"] * (MAX_LEVELS - 1) + [tail])
    name = ".".join(["x"] * MAX_LEVELS)

    assert matches(longest, name)
    assert matches(longest, name + ".x") is (tail in "#>")
    with pytest.raises(PatternError, match=rf"has more than {MAX_LEVELS} levels, the limit for patterns$") as caught:
        check_pattern(name_of("*." + longest))
    assert len(str(caught.value)) < 200


def test_a_name_may_have_any_number_of_levels() -> None:
    """Only patterns are limited: what stands behind a pattern's levels is matched by `#` or `>`, or not at all."""
    deep = ".".join("ab" * 10_000)

    assert matches("a.#", deep)
    assert matches("a.b.>", deep)
    assert not matches("a.b.*", deep)


# ---------------------------------------------------------------- its life


def test_a_pattern_has_the_value_that_it_was_given_last() -> None:
    """Under its own name, exactly."""
    patterns: Patterns[int] = Patterns()
    patterns.add(b"/topic/a.#", 1)
    patterns.add(b"/topic/a.#", 2)

    assert (patterns.get(b"/topic/a.#"), patterns.get(b"/topic/a.>"), len(patterns)) == (2, None, 1)
    assert patterns.find(b"/topic/a") == patterns.find(b"/topic/a.b") == [2]


@given(st.lists(PATTERNS, unique=True, max_size=8), st.randoms())
def test_what_is_removed_leaves_nothing_behind(patterns: list[str], random: object) -> None:
    """No value, no node; what stays is found as before."""
    trie: Patterns[int] = Patterns()
    for place, pattern in enumerate(patterns):
        trie.add(("/topic/" + pattern).encode("utf-8", "surrogateescape"), place)
    kept = patterns[: len(patterns) // 2]
    sizes: Patterns[int] = Patterns()
    for place, pattern in enumerate(kept):
        sizes.add(("/topic/" + pattern).encode("utf-8", "surrogateescape"), place)
    gone = patterns[len(kept) :]
    random.shuffle(gone)  # type: ignore[attr-defined]

    for pattern in gone:
        trie.remove(("/topic/" + pattern).encode("utf-8", "surrogateescape"))

    assert (len(trie), nodes_of(trie)) == (len(kept), nodes_of(sizes))
    for name in (b"/topic/a", b"/topic/a.b", b"/topic/a/b.", b"/topic/"):
        assert sorted(trie.find(name)) == sorted(sizes.find(name))


def test_what_is_not_there_can_not_be_removed() -> None:
    """And what is there stays."""
    patterns: Patterns[int] = Patterns()
    patterns.add(b"/topic/a.*", 1)

    with pytest.raises(KeyError):
        patterns.remove(b"/topic/a.#")

    assert patterns.find(b"/topic/a.b") == [1]


# ---------------------------------------------------------------- what it costs


class CountingDict(dict[bytes, object]):
    """A node's table that counts how often it is asked."""

    asked = 0

    def get(self, *args: object) -> object:  # type: ignore[override]
        CountingDict.asked += 1
        return super().get(*args)  # type: ignore[call-overload]


def look_ups(patterns: Patterns[int], name: bytes) -> int:
    """How many times a node is asked for this name."""
    waiting = [patterns._root]
    while waiting:
        node = waiting.pop()
        waiting += node.following.values()
        node.following = CountingDict(node.following)  # type: ignore[assignment]
    CountingDict.asked = 0
    patterns.find(name)
    return CountingDict.asked


def test_a_look_up_costs_the_levels_of_the_name_and_not_the_number_of_patterns() -> None:
    """Ten thousand patterns that begin otherwise are not touched."""
    costs = []
    for count in (10, 10_000):
        patterns: Patterns[int] = Patterns()
        for number in range(count):
            patterns.add(b"/topic/app%d.*.events.#" % number, number)
        costs.append(look_ups(patterns, b"/topic/app7.x.events.a.b"))

    assert costs[0] == costs[1] <= 18


# ---------------------------------------------------------------- widening


@pytest.mark.parametrize(
    ("pattern", "wide"),
    [
        ("a.b", "a.b"),
        ("*.*.*", "*.*.*"),
        ("*.*.*.a", "*.*.*.a"),
        ("*.*.*.*", "*.*.*.#"),
        ("*.a/*.b.*/*.c", "*.a/*.b.*/#"),
        (".".join("a" * WIDE_LEVELS), ".".join("a" * WIDE_LEVELS)),
        (".".join("a" * (WIDE_LEVELS + 1)), ".".join("a" * WIDE_LEVELS) + ".#"),
    ],
)
def test_a_pattern_is_widened_behind_its_limits(pattern: str, wide: str) -> None:
    """Up to them it stays as it is."""
    assert widen(name_of(pattern)) == name_of(wide)


@given(st.lists(st.sampled_from(["*", "a", "b"]), min_size=1, max_size=20), st.data())
def test_a_widened_pattern_matches_all_that_it_has_matched(levels: list[str], data: st.DataObject) -> None:
    """With any tail, and with both separators."""
    separators = [data.draw(st.sampled_from("./")) for _ in levels]
    tail = data.draw(st.sampled_from(["", ".#", "/>", "/#"]))
    pattern = "".join(s + level for s, level in zip(separators, levels, strict=True))[1:] + tail
    local = "".join(s + level.replace("*", "b") for s, level in zip(separators, levels, strict=True))[1:]
    local += {"": "", ".#": ".x", "/>": "/x/y", "/#": ""}[tail]
    assert matches(pattern, local)

    assert matches(widen(name_of(pattern)).removeprefix(b"/topic/").decode(), local)


class _Counting(dict[bytes, object]):
    """Counts its look-ups."""

    looks = 0

    def get(self, key: bytes, default: object = None) -> object:
        _Counting.looks += 1
        return super().get(key, default)


def count_looks(levels: int, *, wide: bool) -> int:
    """Look-ups in the trie for one name, with every mix of `*` and its own levels among the patterns."""
    patterns: Patterns[int] = Patterns()
    for mix in range(1 << levels):
        pattern = name_of(".".join("*" if mix >> place & 1 else "a" for place in range(levels)) + ".x")
        patterns.add(widen(pattern) if wide else pattern, mix)
    waiting = [patterns._root]
    while waiting:
        node = waiting.pop()
        waiting += node.following.values()
        node.following = _Counting(node.following)  # type: ignore[assignment]
    _Counting.looks = 0
    patterns.find(name_of(".".join("a" * levels)))
    return _Counting.looks


def test_a_name_that_patterns_were_made_for_is_cheap_to_look_up() -> None:
    """Each two levels more, with four times as many patterns, cost no more than the mixes of three `*` among them."""
    assert count_looks(12, wide=True) < 2.5 * count_looks(10, wide=True)
    assert count_looks(12, wide=True) < count_looks(12, wide=False) / 5
