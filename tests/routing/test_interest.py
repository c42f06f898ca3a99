"""Who may want a topic."""

from __future__ import annotations

import pytest

from forkbroker.patterns import PatternError
from forkbroker.routing.peers import Peer
from forkbroker.routing.topics.interest import CACHE_OCTETS, MANY, Everybody, Interest

from .twins import carry

ONE, TWO, THREE = Peer(1), Peer(2), Peer(3)


def make_interest(**names: tuple[Peer, bytes]) -> Interest:
    interest = Interest()
    for peer, name in names.values():
        interest.add_peer(peer)
        interest.add(peer, name)
    return interest


def test_names_and_patterns_find_their_peers_once_each() -> None:
    """A peer that is interested in two ways is one peer."""
    interest = make_interest(
        a=(ONE, b"/topic/a.b"), b=(TWO, b"/topic/a.*"), c=(ONE, b"/topic/a.#"), d=(THREE, b"/topic/c")
    )

    assert set(interest.peers_for(b"/topic/a.b")) == {ONE, TWO}
    assert len(interest.peers_for(b"/topic/a.b")) == 2
    assert interest.peers_for(b"/topic/a") == (ONE,)
    assert interest.peers_for(b"/topic/x") == ()


@pytest.mark.parametrize("name", [b"/topic/a", b"/topic/*", b"/topic/#"])
def test_what_is_new_is_seen_at_once(name: bytes) -> None:
    """A cached answer doesn't outlive a subscription, an unsubscription or an end."""
    interest = make_interest(a=(ONE, b"/topic/a"))
    assert interest.peers_for(b"/topic/a") == (ONE,)

    interest.add(TWO, name)
    assert interest.peers_for(b"/topic/a") == (ONE, TWO)

    interest.remove(TWO, name)
    assert interest.peers_for(b"/topic/a") == (ONE,)

    interest.add(THREE, name)
    list(interest.peer_ended(THREE))
    assert interest.peers_for(b"/topic/a") == (ONE,)


@pytest.mark.parametrize("name", [b"/topic/a", b"/topic/*"])
def test_subscriptions_of_one_peer_are_counted(name: bytes) -> None:
    """Interest lasts until the last of them is gone."""
    interest = make_interest(a=(ONE, name))
    interest.add(ONE, name)

    interest.remove(ONE, name)
    assert interest.peers_for(b"/topic/a") == (ONE,)
    interest.remove(ONE, name)
    assert interest.peers_for(b"/topic/a") == ()
    with pytest.raises(KeyError):
        interest.remove(ONE, name)


def test_one_of_two_names_stays() -> None:
    """Removing one interest leaves the other."""
    interest = make_interest(a=(ONE, b"/topic/a"), b=(ONE, b"/topic/b"))

    interest.remove(ONE, b"/topic/a")

    assert interest.peers_for(b"/topic/b") == (ONE,)
    assert interest.peers_for(b"/topic/a") == ()


def test_patterns_are_for_topics_only() -> None:
    """A reply topic is found by its name, by no pattern."""
    interest = make_interest(a=(ONE, b"/topic/#"), b=(TWO, b"/reply-topic/7-a"))

    assert interest.peers_for(b"/reply-topic/7-a") == (TWO,)


def test_a_peer_without_interest_ends_quietly() -> None:
    """Nothing to forget."""
    interest = Interest()

    list(interest.peer_ended(ONE))

    assert interest.peers_for(b"/topic/a") == ()


def test_a_pattern_that_is_none_is_refused() -> None:
    """And leaves nothing behind."""
    interest = Interest()

    with pytest.raises(PatternError):
        interest.add(ONE, b"/topic/#.a")

    assert interest._by_peer == {}
    list(interest.peer_ended(ONE))


def test_what_is_remembered_is_bounded_by_octets() -> None:
    """Ever new destinations with long names don't grow it for ever."""
    interest = make_interest(a=(ONE, b"/topic/*"))

    for number in range(2_000):
        assert interest.peers_for(b"/topic/%010000d" % number) == (ONE,)

    assert interest._audience._cache.octets <= CACHE_OCTETS


def test_a_peer_that_ends_leaves_nothing_behind() -> None:
    """However often it came, and whatever it wanted: what came and went uses no memory."""
    interest = Interest()
    for number in range(100):
        peer = Peer(number)
        interest.add_peer(peer)
        for name in (b"/topic/a", b"/topic/%d" % number, b"/topic/%d.*" % number, b"/topic/a"):
            interest.add(peer, name)
        list(interest.peer_ended(peer))

    assert interest._by_peer == {}
    assert (interest._audience._names, len(interest._audience._patterns)) == ({}, 0)


def test_everybody_gets_everything() -> None:
    """Subscriptions make no difference; ends do."""
    everybody = Everybody()
    for peer in (ONE, TWO):
        everybody.add_peer(peer)
    everybody.add(ONE, b"/topic/a")
    everybody.remove(ONE, b"/topic/a")

    assert everybody.peers_for(b"/topic/x") == (ONE, TWO)
    list(everybody.peer_ended(ONE))
    assert everybody.peers_for(b"/topic/x") == (TWO,)


def test_a_peer_without_interest_leaves_nothing_behind() -> None:
    """Before it ends, too: it may stay for years, and only send."""
    interest = make_interest(a=(ONE, b"/topic/a"), b=(TWO, b"/topic/b"))
    interest.remove(ONE, b"/topic/a")

    assert list(interest._by_peer) == [TWO]


def test_a_pattern_is_checked_to_its_end() -> None:
    """Also what stands behind the levels that are looked at: it is cut off, and would be taken for a right one."""
    interest = Interest()

    with pytest.raises(PatternError):
        interest.add(ONE, b"/topic/" + b"*." * 20 + b"#.a")

    assert interest.peers_for(b"/topic/" + b"b." * 20 + b"b.a") == ()


def test_peers_are_interested_in_the_same_in_another_router() -> None:
    """In names and patterns, and as often as they have said."""
    interest = make_interest(a=(ONE, b"/topic/a"), b=(ONE, b"/topic/a"), c=(TWO, b"/topic/*"), d=(THREE, b"/topic/b"))
    interest.remove(THREE, b"/topic/b")

    interest = carry(interest, Interest())

    assert interest.peers_for(b"/topic/a") == (ONE, TWO)
    interest.remove(ONE, b"/topic/a")
    assert interest.peers_for(b"/topic/a") == (ONE, TWO)
    interest.remove(ONE, b"/topic/a")
    list(interest.peer_ended(TWO))
    assert (interest.peers_for(b"/topic/a"), interest.peers_for(b"/topic/b")) == ((), ())


def test_everybody_is_the_same_in_another_router() -> None:
    """In the order of coming."""
    everybody = Everybody()
    for peer in (ONE, TWO):
        everybody.add_peer(peer)

    assert carry(everybody, Everybody()).peers_for(b"/topic/a") == (ONE, TWO)


# ---------------------------------------------------------------- many whose frames are the same

_OPENING = b"MESSAGE\nsubscription:1\n"
_MANY = [Peer(number) for number in range(1, MANY + 1)]


def make_group(*peers: Peer) -> Interest:
    """These want the same topic, and say that their frames begin alike."""
    interest = Interest()
    for peer in peers:
        interest.add_peer(peer)
        interest.add(peer, b"/topic/a", _OPENING)
    return interest


def test_many_whose_frames_begin_alike_are_a_group() -> None:
    """Fewer are not, nor are those who begin otherwise or say nothing of it."""
    interest = make_group(*_MANY)
    interest.add(Peer(20), b"/topic/a", b"MESSAGE\nsubscription:2\n")
    interest.add(Peer(21), b"/topic/a")

    assert interest.groups_for(b"/topic/a") == (((_OPENING, tuple(_MANY)),), (Peer(21), Peer(20)))
    assert make_group(*_MANY[1:]).groups_for(b"/topic/a") == ((), tuple(_MANY[1:]))


def leave_pattern(interest: Interest) -> None:
    interest.add(_MANY[0], b"/topic/*")
    interest.groups_for(b"/topic/a")
    interest.remove(_MANY[0], b"/topic/*")


@pytest.mark.parametrize(
    ("change", "is_group"),
    [
        (lambda interest: interest.add(_MANY[0], b"/topic/*"), False),
        (lambda interest: interest.add(_MANY[0], b"/topic/a", _OPENING), False),
        (lambda interest: interest.remove(_MANY[0], b"/topic/a"), False),
        (lambda interest: list(interest.peer_ended(_MANY[0])), False),
        (lambda interest: interest.add(_MANY[0], b"/topic/other"), True),
        (leave_pattern, True),
    ],
)
def test_who_wants_it_in_another_way_as_well_is_in_no_group(change, is_group: bool) -> None:
    """Its child has to see which of its subscriptions match, whatever was known before."""
    interest = make_group(*_MANY)
    interest.groups_for(b"/topic/a")
    change(interest)

    groups, others = interest.groups_for(b"/topic/a")
    assert bool(groups) is is_group
    assert sorted([*others, *[peer for _, peers in groups for peer in peers]]) == sorted(
        interest.peers_for(b"/topic/a")
    )


def test_one_of_two_subscriptions_that_is_left_is_not_known() -> None:
    """Which of the two it is, the parent can't tell; a new one says it again."""
    interest = make_group(*_MANY)
    interest.add(_MANY[0], b"/topic/a", b"MESSAGE\nsubscription:2\n")
    interest.remove(_MANY[0], b"/topic/a")
    assert interest.groups_for(b"/topic/a")[0] == ()

    interest.remove(_MANY[0], b"/topic/a")
    interest.add(_MANY[0], b"/topic/a", _OPENING)
    assert interest.groups_for(b"/topic/a")[0] == ((_OPENING, (*_MANY[1:], _MANY[0])),)


def test_with_broadcast_all_there_are_no_groups() -> None:
    """Nobody knows who wants what."""
    everybody = Everybody()
    for peer in _MANY:
        everybody.add_peer(peer)

    assert everybody.groups_for(b"/topic/a") == ((), tuple(_MANY))
