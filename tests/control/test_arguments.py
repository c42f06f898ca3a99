"""What a request may say, and what is said of one that is wrong."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forkbroker.control import verbs
from forkbroker.control.arguments import (
    DESTINATION,
    FLAG,
    IDS,
    MAX_BODY,
    PAIRS,
    QUEUE,
    SPAN,
    TEXT,
    WORDS,
    Argument,
    RequestError,
    number,
    pack,
    parse,
    read,
    word,
)

_ALL = (
    Argument("text", TEXT, "some text"),
    Argument("queue", QUEUE, "a queue"),
    Argument("destination", DESTINATION, "a destination"),
    Argument("flag", FLAG, "a flag"),
    Argument("span", SPAN, "a time"),
    Argument("ids", IDS, "some ids"),
    Argument("pairs", PAIRS, "some pairs"),
    Argument("count", number(1, 10), "how many"),
    Argument("level", word("low", "high"), "how high"),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just("/queue/a"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(
    st.sampled_from([argument.name for argument in _ALL] + ["pattern", "who", "x"]), JSON, max_size=4
)


def refusal(**given: object) -> str:
    with pytest.raises(RequestError) as caught:
        read("test", _ALL, given)
    assert caught.value.word == "bad-request"
    return str(caught.value)


def test_values_of_their_form_are_taken() -> None:
    """Names of queues get their prefix: what is administered are queues."""
    given = {
        "text": "x",
        "queue": "orders",
        "destination": "/topic/a",
        "flag": True,
        "span": 5,
        "ids": ["a"],
        "pairs": {"a": ""},
        "count": 10,
        "level": "low",
    }

    assert read("test", _ALL, given) == {**given, "queue": "/queue/orders", "span": 5.0}


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("text", "", 'must be a string of 1 to 1,024 characters, not ""'),
        ("text", 1, "must be a string of 1 to 1,024 characters, not 1"),
        ("queue", "/topic/a", "must be the name of a queue: /queue/NAME, or /dsub/NAME"),
        ("queue", "/queue/*", "which only a name in /topic/ may have"),
        ("destination", "/topic/*", "must be one name, without wildcards"),
        ("destination", "/control/who", "is for requests"),
        ("destination", "/nowhere/a", "has an unknown prefix"),
        ("flag", 1, "must be true or false, not 1"),
        ("span", 0, "must be seconds, more than 0"),
        ("span", True, "must be seconds"),
        ("ids", [], "must be a list of 1 to 1,000 strings"),
        ("ids", ["a", 1], "must be a list of 1 to 1,000 strings"),
        ("pairs", {"a": 1}, "must be an object of 1 to 1,000 strings"),
        ("count", 11, "must be a whole number from 1 to 10, not 11"),
        ("count", True, "must be a whole number"),
        ("level", "middle", 'must be one of low, high, not "middle"'),
    ],
)
def test_what_is_wrong_is_named_with_what_would_be_right(name: str, value: object, said: str) -> None:
    """And which member it is, or the name that stands there."""
    assert said in (text := refusal(**{name: value}))
    assert f"'{name}'" in text


def test_an_unknown_member_is_an_error_that_names_the_nearest() -> None:
    """A typing error does not pass for a wish that was heeded."""
    assert refusal(txt="x") == "test knows no member \"txt\": did you mean 'text'?"
    assert "known are text, queue" in refusal(zzzzzz="x")


def test_a_missing_member_is_named() -> None:
    """With what it is for."""
    with pytest.raises(RequestError, match="kick needs 'who': number, login or address of a client, or ALL"):
        verbs.find("kick").read({})


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"[", "is not JSON"),
        (b"\xff", "is not JSON"),
        (b"[]", "must be a JSON object"),
        (b"NaN", "NaN is no number"),
        (b"[" * 60_000, "nested too deeply"),
        (b'{"a":' * 9_000 + b"1" + b"}" * 9_000, "nested too deeply"),
        (b" " * MAX_BODY + b"{}", "at most 65,535 are permitted"),
    ],
)
def test_what_is_no_json_object_is_refused(body: bytes, said: str) -> None:
    """In a sentence."""
    with pytest.raises(RequestError, match=said):
        parse(body)


def test_no_body_is_an_empty_object() -> None:
    """For verbs without members nothing need be written."""
    assert parse(b"") == parse(b" \n") == parse(b"{}") == {}


@given(st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
def test_no_octets_do_more_harm_than_a_refusal(body: bytes) -> None:
    """Whatever a client sends."""
    try:
        parse(body)
    except RequestError as error:
        assert error.answer()["error"] == "bad-request"


@given(OBJECTS)
def test_the_canonical_form_is_read_as_itself(given_: dict[str, object]) -> None:
    """The parent process reads once more what a child has read: it must come to the same."""
    for name, arguments in [("test", _ALL), *[(verb.name, verb.arguments) for verb in verbs.VERBS.values()]]:
        try:
            found = read(name, arguments, given_)
            packed = pack(found)
        except RequestError:
            continue
        assert read(name, arguments, parse(packed)) == found


def test_verbs_are_found_and_the_nearest_one_is_named() -> None:
    """Or all of them."""
    assert verbs.find("who").name == "who"
    with pytest.raises(RequestError, match="there is no verb 'queue': did you mean queues") as caught:
        verbs.find("queue")
    assert caught.value.word == "unknown-verb"
    with pytest.raises(RequestError, match="known are rights, status, "):
        verbs.find("xxxxxxxx")


def test_the_table_is_in_order() -> None:
    """Helps are short; a right is one of three, or none is needed; what is concerned is an argument."""
    for verb in verbs.VERBS.values():
        assert len(verb.help) <= 70 and not verb.help.endswith(".")
        assert verb.right in ("monitor", "browse", "manage") or (verb.is_own and verb.right == "none")
        assert set(verb.concerns) <= {argument.name for argument in verb.arguments}
    assert set(WORDS) >= {"bad-request", "unknown-verb", "denied"}
