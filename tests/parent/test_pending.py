"""Who has not logged in, counted by where they come from."""

from __future__ import annotations

import random

from forkbroker.parent.pending import Pending
from forkbroker.routing.peers import Peer


def test_the_origin_with_the_most_gives_its_oldest_and_who_has_as_many_its_own() -> None:
    """So each origin keeps what others have at least."""
    pending = Pending()
    for number, origin in enumerate("abbab"):
        pending.add(Peer(number), origin, float(number))

    assert (len(pending), pending.most, pending.count("a"), pending.count("c")) == (5, 3, 2, 0)
    assert [pending.find_victim(origin) for origin in "abc"] == [1, 1, 1]
    pending.remove(Peer(1))
    assert [pending.find_victim(origin) for origin in "abc"] == [0, 2, 0]
    assert pending.oldest_since("b") == 2.0


def test_who_moves_counts_elsewhere_and_who_is_unknown_nowhere() -> None:
    """The second call for a client that has left changes nothing."""
    pending = Pending()
    pending.add(Peer(1), "proxy", 1.0)
    pending.move(Peer(1), "a", 2.0)
    pending.move(Peer(2), "a", 2.0)
    assert (pending.count("proxy"), pending.count("a"), pending.oldest_since("a")) == (0, 1, 2.0)
    pending.remove(Peer(1))
    pending.remove(Peer(1))

    assert (len(pending), pending.most) == (0, 0)


def test_counts_are_those_of_a_plain_list() -> None:
    """Whatever comes and goes."""
    chance = random.Random(1)
    pending, plain = Pending(), dict[Peer, str]()
    for number in range(3_000):
        if plain and chance.random() < 0.5:
            peer = chance.choice(list(plain))
            pending.remove(peer)
            del plain[peer]
        else:
            origin = chance.choice("abcdef")
            pending.add(Peer(number), origin, float(number))
            plain[Peer(number)] = origin
        counts = {origin: list(plain.values()).count(origin) for origin in "abcdefg"}
        assert (len(pending), pending.most) == (len(plain), max(counts.values()))
        for origin, count in counts.items():
            assert pending.count(origin) == count
            if plain:
                victims = plain[pending.find_victim(origin)]
                assert counts[victims] == pending.most
                assert victims == origin or count < pending.most
