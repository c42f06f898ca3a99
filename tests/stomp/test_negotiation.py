"""Versions and heart-beats."""

from __future__ import annotations

import pytest

from forkbroker.stomp.errors import ErrorKind, ProtocolError
from forkbroker.stomp.negotiation import (
    choose_version,
    connected_headers,
    effective_heart_beat,
    parse_heart_beat,
    supported_versions,
)
from forkbroker.stomp.versions import V10, V11, V12, Version


@pytest.mark.row("C03")
def test_client_without_accept_version_speaks_1_0() -> None:
    """There was no such header in 1.0."""
    assert choose_version(None) is V10


@pytest.mark.row("C04")
@pytest.mark.parametrize(
    ("accepted", "version"),
    [("1.2", V12), ("1.2,1.0,1.1", V12), (" 1.0 , 1.1", V11), ("9,1.1,x", V11), ("1.0", V10)],
)
def test_highest_common_version_is_chosen(accepted: str, version: Version) -> None:
    """In any order, with blanks and unknown members."""
    assert choose_version(accepted) is version


@pytest.mark.row("C05")
@pytest.mark.parametrize("accepted", ["", "2.0", "1.2.0", "1"])
def test_no_common_version_gives_none(accepted: str) -> None:
    """The ERROR then lists ours."""
    assert choose_version(accepted) is None
    assert supported_versions() == "1.0,1.1,1.2"


@pytest.mark.row("H01")
def test_heart_beat_is_two_numbers() -> None:
    """What the sender can do, and what it wants."""
    assert parse_heart_beat("1000,0") == (1000, 0)
    assert parse_heart_beat("10 , 20") == (10, 20)


@pytest.mark.row("H01")
@pytest.mark.parametrize("value", ["", "1", "1,", "1,2,3", "-1,0", "1.5,0", "a,b", "٣,0"])
def test_other_heart_beats_are_an_error(value: str) -> None:
    """However odd."""
    with pytest.raises(ProtocolError, match="heart-beat"):
        parse_heart_beat(value)


@pytest.mark.row("H01")
@pytest.mark.parametrize("value", ["9" * 11 + ",0", "0," + "1" * 11, "0," + "1" * 5_000])
def test_a_heart_beat_with_too_many_digits_is_an_error_that_names_the_limit(value: str) -> None:
    """On either side; ten digits are permitted."""
    with pytest.raises(ProtocolError, match="heart-beat out of range") as caught:
        parse_heart_beat(value)

    assert "9,999,999,999 milliseconds" in caught.value.detail
    assert caught.value.kind is ErrorKind.LIMIT
    assert parse_heart_beat("9999999999,9999999999") == (9_999_999_999, 9_999_999_999)


@pytest.mark.row("H02")
def test_missing_heart_beat_is_none_at_all() -> None:
    """As `0,0`."""
    assert parse_heart_beat(None) == (0, 0)


@pytest.mark.row("H03")
@pytest.mark.parametrize(
    ("client", "server", "expected"),
    [
        ((100, 200), (300, 400), (300, 400)),
        ((500, 600), (300, 400), (600, 500)),
        ((0, 600), (300, 400), (600, 0)),
        ((500, 0), (300, 400), (0, 500)),
        ((500, 600), (0, 0), (0, 0)),
    ],
)
def test_intervals_are_the_larger_of_both_sides(
    client: tuple[int, int], server: tuple[int, int], expected: tuple[int, int]
) -> None:
    """A zero on either side switches a direction off."""
    assert effective_heart_beat(client, server) == expected


@pytest.mark.row("C06", "C07", "C08", "H04")
def test_connected_tells_version_session_server_and_our_heart_beat() -> None:
    """What the server can do and wants, no echo."""
    assert connected_headers(V12, session="s1", server="forkbroker/1", heart_beat=(10, 20)) == [
        ("version", "1.2"),
        ("session", "s1"),
        ("server", "forkbroker/1"),
        ("heart-beat", "10,20"),
    ]


@pytest.mark.row("C06", "C08", "H09")
def test_connected_of_1_0_has_no_heart_beat_and_the_server_may_hide() -> None:
    """The version is told as RabbitMQ does."""
    assert connected_headers(V10, session="s1") == [("version", "1.0"), ("session", "s1")]


@pytest.mark.row("H04")
def test_a_server_without_heart_beats_says_so() -> None:
    """Neither can it send them nor does it want any."""
    assert connected_headers(V11, session="s1") == [("version", "1.1"), ("session", "s1"), ("heart-beat", "0,0")]
