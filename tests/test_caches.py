"""The cache that is bounded by octets."""

import tracemalloc

from forkbroker.caches import ENTRY, Cache, weigh_shallow


def _weigh_key(key: bytes, value: object) -> int:
    return len(key)


def test_what_was_remembered_is_found() -> None:
    """A look-up gives the value that was kept for the key, and None for any other key."""
    cache: Cache[bytes, int] = Cache(1_000)

    assert cache.remember(b"a", 7) == 7

    assert cache.get(b"a") == 7
    assert cache.get(b"b") is None


def test_an_entry_that_fills_the_cache_to_its_last_octet_fits() -> None:
    """The bound itself is permitted."""
    cache: Cache[bytes, int] = Cache(10, _weigh_key)
    cache.remember(b"12345", 1)

    cache.remember(b"abcde", 2)

    assert len(cache) == 2
    assert cache.octets == 10


def test_an_octet_more_than_the_bound_drops_what_was_there() -> None:
    """All older entries go at once, and the new one stays."""
    cache: Cache[bytes, int] = Cache(10, _weigh_key)
    cache.remember(b"12345", 1)

    cache.remember(b"abcdef", 2)

    assert cache.get(b"12345") is None
    assert cache.get(b"abcdef") == 2
    assert cache.octets == 6


def test_an_entry_larger_than_the_bound_is_not_kept() -> None:
    """It is returned all the same, and drops nothing of what is there."""
    cache: Cache[bytes, int] = Cache(10, _weigh_key)
    cache.remember(b"12345", 1)

    assert cache.remember(b"12345678901", 3) == 3

    assert cache.get(b"12345678901") is None
    assert cache.get(b"12345") == 1


def test_a_key_that_is_remembered_again_counts_once() -> None:
    """The later value replaces the earlier one and its weight."""
    cache: Cache[bytes, bytes] = Cache(1_000, lambda key, value: len(value))
    cache.remember(b"a", b"1234")

    cache.remember(b"a", b"12")

    assert cache.get(b"a") == b"12"
    assert cache.octets == 2


def test_a_value_that_has_become_too_large_leaves_no_old_one() -> None:
    """What was kept for the key before would be wrong now."""
    cache: Cache[bytes, bytes] = Cache(4, lambda key, value: len(value))
    cache.remember(b"a", b"1234")

    cache.remember(b"a", b"12345")

    assert cache.get(b"a") is None
    assert cache.octets == 0


def test_what_is_forgotten_gives_its_room_back() -> None:
    """Keys that come and go do not use up the bound; to forget what is not there changes nothing."""
    cache: Cache[bytes, int] = Cache(10, _weigh_key)
    cache.remember(b"stays", 0)

    for number in range(100):
        key = b"%05d" % number
        cache.remember(key, number)
        cache.forget(key)
        cache.forget(key)

    assert cache.get(b"stays") == 0
    assert cache.octets == 5


def test_values_that_are_false_are_forgotten_like_others() -> None:
    """0 and an empty tuple are values."""
    cache: Cache[bytes, tuple[int, ...]] = Cache(1_000)
    cache.remember(b"a", ())

    cache.forget(b"a")

    assert cache.get(b"a") is None
    assert cache.octets == 0


def test_a_cleared_cache_is_empty_and_has_all_its_room() -> None:
    """The look-up that a hot loop has kept for itself goes on being the right one."""
    cache: Cache[bytes, int] = Cache(10, _weigh_key)
    get = cache.get
    cache.remember(b"1234567890", 1)

    cache.clear()
    cache.remember(b"abcdefghij", 2)

    assert get(b"1234567890") is None
    assert get(b"abcdefghij") == 2
    assert cache.octets == 10


def test_short_keys_count_for_more_than_their_octets() -> None:
    """Each entry takes room in the dictionary, however short its key is: so the number is bounded as well."""
    cache: Cache[bytes, int] = Cache(100_000)

    for number in range(10_000):
        cache.remember(b"%d" % number, number)

    assert len(cache) <= 100_000 // ENTRY


def test_the_memory_of_long_keys_stays_near_the_bound() -> None:
    """10,000 names of 10 KiB leave what the bound says, not 100 MiB."""
    cache: Cache[bytes, tuple[int, ...]] = Cache(1_048_576)
    tracemalloc.start()
    try:
        for number in range(10_000):
            cache.remember(b"%010240d" % number, (number,))
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert len(cache) > 50
    assert used < 1.1 * 1_048_576


def test_a_value_weighs_what_it_takes() -> None:
    """A long tuple counts, not only the key."""
    few, many = weigh_shallow(b"a", (1,)), weigh_shallow(b"a", (1,) * 1_001)

    assert many - few == 8_000
