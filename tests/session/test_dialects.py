"""Headers of other brokers' dialects."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from forkbroker.session.dialects import (
    MAX_NUMBER,
    UNLIMITED,
    HeaderError,
    Prefetch,
    names_prefetch,
    pair_name,
    read_boolean,
    read_durable,
    read_explicit_name,
    read_number,
    read_prefetch,
    wants_deletion,
    wants_exclusive,
    wants_persistence,
    wants_requeue,
)


@pytest.mark.parametrize(
    ("headers", "prefetch"),
    [
        ({}, Prefetch(100)),
        ({"prefetch-count": "5"}, Prefetch(5)),
        ({"activemq.prefetchSize": "7"}, Prefetch(7)),
        ({"prefetch-count": "0"}, Prefetch(UNLIMITED)),
        ({"prefetch-count": "999999999999999"}, Prefetch(UNLIMITED)),
        ({"credit": "3"}, Prefetch(3)),
        ({"credit": "3,1000"}, Prefetch(3, 1000)),
        ({"credit": " 3 , 1000 "}, Prefetch(3, 1000)),
        ({"credit": "0,"}, Prefetch(UNLIMITED)),
        ({"consumer-window-size": "1000"}, Prefetch(100, 1000)),
        ({"consumer-window-size": "0"}, Prefetch(1)),
        ({"consumer-window-size": "-1"}, Prefetch(UNLIMITED)),
        (
            {"prefetch-count": "5", "activemq.prefetchSize": "7", "credit": "9", "consumer-window-size": "1"},
            Prefetch(5),
        ),
        ({"activemq.prefetchSize": "7", "consumer-window-size": "1"}, Prefetch(7)),
    ],
)
def test_prefetch_under_all_its_names(headers: dict[str, str], prefetch: Prefetch) -> None:
    """The first of them in the order of the documentation rules."""
    assert read_prefetch(headers, 100) == prefetch


@pytest.mark.parametrize("value", ["", "x", "-2", "1.5", "1e3", "²", "+1", "1 2"])
@pytest.mark.parametrize("name", ["prefetch-count", "activemq.prefetchSize", "consumer-window-size"])
def test_what_is_no_number_is_refused(name: str, value: str) -> None:
    """The text says which header, and what would be right."""
    with pytest.raises(HeaderError, match=f"{name}.*a whole number"):
        read_prefetch({name: value}, 100)


@pytest.mark.parametrize("value", ["", ",5", "1,x", "1,2,3"])
def test_a_malformed_credit_is_refused(value: str) -> None:
    """Both of its parts are numbers."""
    with pytest.raises(HeaderError, match="credit"):
        read_prefetch({"credit": value}, 100)


def test_numbers_may_have_blanks_around_them() -> None:
    """Some clients write them."""
    assert read_number({"n": " 12 "}, "n") == 12


@pytest.mark.parametrize("digits", [16, 19, 4_000, 5_000])
@pytest.mark.parametrize("name", ["prefetch-count", "activemq.prefetchSize", "credit", "consumer-window-size"])
def test_a_number_with_too_many_digits_is_refused_with_its_limit(name: str, digits: int) -> None:
    """However many: the limit is named, and the text stays short."""
    with pytest.raises(HeaderError, match=f"{name} is 9+.*, at most 999,999,999,999,999 is permitted") as caught:
        read_prefetch({name: "9" * digits}, 100)

    assert len(str(caught.value)) < 150


def test_a_number_equal_to_its_limit_is_permitted() -> None:
    """One more is not; zeros in front change nothing, however many."""
    assert read_number({"n": "250"}, "n", 250) == 250
    assert read_number({"n": "0" * 5_000 + "250"}, "n", 250) == 250
    assert read_number({"n": "0" * 5_000}, "n", 250) == 0
    for value in ("251", "1000"):
        with pytest.raises(HeaderError, match=f"n is {value}, at most 250 is permitted"):
            read_number({"n": value}, "n", 250)
    assert read_number({"n": "999999999999999"}, "n") == MAX_NUMBER == 999_999_999_999_999


def test_long_values_are_cut_in_the_text_of_an_error() -> None:
    """What has 40 characters is shown as it is."""
    texts = []
    for value in ("9" * 40, "9" * 41, "x" * 40, "x" * 41):
        with pytest.raises(HeaderError) as caught:
            read_number({"n": value}, "n")
        texts.append(str(caught.value).partition(",")[0].partition(";")[0].partition(" (")[0])

    assert texts == [f"n is {'9' * 40}", f"n is {'9' * 40}…", f"n is {'x' * 40!r}", f"n is {'x' * 40!r}"]


@pytest.mark.row("S12")
@pytest.mark.parametrize("value", ["true", "True", "TRUE", " tRuE "])
def test_true_in_any_case(value: str) -> None:
    """Python's clients write True."""
    assert read_boolean({"x": value}, "x")


@pytest.mark.row("S12")
@pytest.mark.parametrize("value", ["false", "False", "FALSE", " False"])
def test_false_in_any_case(value: str) -> None:
    """Whatever holds without the header."""
    assert not read_boolean({"x": value}, "x", default=True)


def test_a_missing_boolean_is_its_default() -> None:
    """Only where it is missing."""
    assert not read_boolean({}, "x")
    assert read_boolean({"y": "false"}, "x", default=True)


@pytest.mark.row("S12")
@pytest.mark.parametrize("value", ["", "1", "yes", "tru\N{CYRILLIC SMALL LETTER IE}", "t", "true,false", "x" * 1000])
@pytest.mark.parametrize(
    ("read", "name"),
    [
        (wants_exclusive, "exclusive"),
        (wants_exclusive, "activemq.exclusive"),
        (wants_requeue, "requeue"),
        (wants_persistence, "persistent"),
        (wants_deletion, "durable"),
        (wants_deletion, "persistent"),
        (lambda headers: read_durable(headers, "", "a"), "durable"),
        (lambda headers: read_durable(headers, "", "a"), "persistent"),
        (lambda headers: read_durable({"durable": "true", "id": "1", **headers}, "", "a"), "auto-delete"),
    ],
)
def test_another_word_is_refused_with_header_and_value(
    read: Callable[[dict[str, str]], object], name: str, value: str
) -> None:
    """On every header: to guess would do the opposite of what was meant."""
    with pytest.raises(HeaderError) as caught:
        read({name: value})

    assert str(caught.value) == f"{name} is {value[:40]!r}; it must be true or false"


@pytest.mark.row("S12")
@pytest.mark.parametrize(("word", "is_true"), [("true", True), ("TRUE", True), ("false", False), ("False", False)])
def test_every_boolean_is_read_in_any_case(word: str, is_true: bool) -> None:
    """Each header of each dialect."""
    rabbit = {"durable": word, "auto-delete": "False" if is_true else "True", "id": "1"}

    assert [
        wants_exclusive({"exclusive": word}),
        wants_exclusive({"activemq.exclusive": word}),
        wants_requeue({"requeue": word}),
        wants_persistence({"persistent": word}),
        wants_deletion({"durable": word}),
        wants_deletion({"persistent": word}),
        read_durable(rabbit, "", "a") is not None,
        read_durable({"persistent": word, "id": "1"}, "", "a") is not None,
    ] == [is_true] * 8


def test_what_holds_without_the_headers() -> None:
    """A NACK returns its message; nothing else is asked for."""
    assert (wants_exclusive({}), wants_requeue({}), wants_persistence({}), wants_deletion({})) == (
        False,
        True,
        False,
        False,
    )


def test_names_of_durable_subscriptions_are_told_apart() -> None:
    """Whoever calls something so, in whatever dialect: two names are the same subscription only if all parts are."""
    parts = ["a", "b", "a.b", "b.a", "a@b", "a.b@a", "a%2Eb", "a%40b", "%", "a%2eb"]
    names: dict[str, object] = {}
    for one in parts:
        names[_explicit(one, "")] = one
        for two in parts:
            names[_explicit(two, one)] = (one, two)
            names[pair_name(one, two)] = (one, two, "pair")

    assert len(names) == len(parts) + 2 * len(parts) ** 2


def test_usual_names_are_as_they_were_written() -> None:
    """An administrator finds them again."""
    assert _explicit("news", "") == "news"
    assert _explicit("news.all@home", "me") == "me.news.all@home"
    assert pair_name("1", "prices.*.#") == "1@prices.*.#"
    assert _explicit("news", "host.example") == "host%2Eexample.news"


def _explicit(name: str, client_id: str) -> str:
    found = read_explicit_name({"activemq.subscriptionName": name}, client_id)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("name", "is_named"),
    [("prefetch-count", True), ("activemq.prefetchSize", True), ("credit", True), ("consumer-window-size", False)],
)
def test_a_number_of_messages_has_three_names(name: str, is_named: bool) -> None:
    """Octets alone leave it to the settings."""
    assert names_prefetch({name: "1", "id": "1"}) is is_named
