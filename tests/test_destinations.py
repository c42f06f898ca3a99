"""Destination names and patterns."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forkbroker.destinations import (
    MAX_NAME,
    DestinationError,
    Sort,
    durable_name,
    is_bare,
    is_pattern,
    is_queue,
    is_system,
    parse_destination,
    parse_subscription,
)


@pytest.mark.parametrize(
    ("text", "sort", "name", "local"),
    [
        ("/topic/a.b", Sort.TOPIC, b"/topic/a.b", "a.b"),
        ("/topic/a/b", Sort.TOPIC, b"/topic/a/b", "a/b"),
        ("/queue/jobs", Sort.QUEUE, b"/queue/jobs", "jobs"),
        ("/temp-topic/x", Sort.TEMP_TOPIC, b"/temp-topic/x", "x"),
        ("/temp-queue/x", Sort.TEMP_QUEUE, b"/temp-queue/x", "x"),
        ("/reply-topic/7-x", Sort.REPLY_TOPIC, b"/reply-topic/7-x", "7-x"),
        ("/reply-queue/7-x", Sort.REPLY_QUEUE, b"/reply-queue/7-x", "7-x"),
        ("/remote-temp-topic/7-x", Sort.REPLY_TOPIC, b"/reply-topic/7-x", "7-x"),
        ("/remote-temp-queue/7-x", Sort.REPLY_QUEUE, b"/reply-queue/7-x", "7-x"),
        ("/amq/queue/jobs", Sort.QUEUE, b"/queue/jobs", "jobs"),
        ("/exchange/amq.topic/a.b", Sort.TOPIC, b"/topic/a.b", "a.b"),
        ("/exchange/amq.topic/a/b", Sort.TOPIC, b"/topic/a/b", "a/b"),
        ("jms.queue.jobs", Sort.QUEUE, b"/queue/jobs", "jobs"),
        ("jms.topic.a.b", Sort.TOPIC, b"/topic/a.b", "a.b"),
        ("/queue/żółw", Sort.QUEUE, "/queue/żółw".encode(), "żółw"),
        ("/queue/\udcff", Sort.QUEUE, b"/queue/\xff", "\udcff"),
        ("/topic//", Sort.TOPIC, b"/topic//", "/"),
    ],
)
def test_each_prefix_is_understood(text: str, sort: Sort, name: bytes, local: str) -> None:
    """A name has a sort, a canonical form in octets and a part behind the prefix."""
    for parse in (parse_destination, parse_subscription):
        found = parse(text, "error")

        assert (sort, name, local, False) == (found.sort, found.name, found.local, found.is_pattern)


def test_a_bare_name_means_what_the_setting_says() -> None:
    """Topic or queue; or it is an error that names the prefixes."""
    assert parse_destination("a", "topic").name == b"/topic/a"
    assert parse_subscription("a/b", "queue").name == b"/queue/a/b"
    with pytest.raises(DestinationError, match=r"no prefix: known are .*/queue/"):
        parse_destination("a", "error")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("/topic/", "is empty"),
        ("", "is empty"),
        ("/queue/a\0b", "NUL"),
        ("/exchange/a", "unknown prefix: known are"),
        ("/exchange/amq.topic", "unknown prefix: known are .*/exchange/amq.topic/"),
        ("/exchange/amq.topic/", "is empty"),
        ("/exchange/amq.direct/a", "unknown prefix"),
        ("/amq/a", "unknown prefix: known are .*/amq/queue/"),
        ("/amq/queue/", "is empty"),
        ("jms.queue.", "is empty"),
        ("/queue", "unknown prefix"),
        ("/", "unknown prefix"),
        ("/queue/\ud800", "not UTF-8"),
        ("/queue/" + "a" * MAX_NAME, "65,007 bytes exceeds 65,000"),
    ],
)
def test_what_is_no_name_is_refused_with_the_reason(text: str, fault: str) -> None:
    """The message tells what was wrong, and stays short."""
    for parse in (parse_destination, parse_subscription):
        with pytest.raises(DestinationError, match=fault) as caught:
            parse(text, "topic")

        assert len(str(caught.value)) < 300


def test_the_longest_name_passes() -> None:
    """The limit counts octets of the canonical name."""
    assert len(parse_destination("a" * (MAX_NAME - 7), "topic").name) == MAX_NAME


@pytest.mark.parametrize("local", ["*", "a.*", "a/#", "a.>", "*.b", "#", ">"])
def test_wildcard_levels_are_for_subscriptions_to_topics(local: str) -> None:
    """SEND, queues and replies refuse them."""
    assert parse_subscription("/topic/" + local, "error").is_pattern
    for refused in ("/topic/" + local, "/queue/" + local):
        with pytest.raises(DestinationError, match="wildcard"):
            parse_destination(refused, "error")
    for refused in ("/queue/" + local, "/temp-topic/" + local, "/reply-queue/" + local):
        with pytest.raises(DestinationError, match="wildcard"):
            parse_subscription(refused, "error")


@pytest.mark.parametrize("local", ["a*", "c#.d", "a>b", "**", "x.#1"])
def test_wildcard_characters_in_longer_words_are_ordinary(local: str) -> None:
    """They name one destination."""
    assert not parse_subscription("/topic/" + local, "error").is_pattern
    assert not is_pattern(f"/topic/{local}".encode())
    assert parse_destination("/topic/" + local, "error").local == local


@pytest.mark.parametrize("local", ["#.a", "a.>.b", ">/a", "a.#.#"])
def test_the_rest_stands_last(local: str) -> None:
    """`#` and `>` before the last level are an error."""
    with pytest.raises(DestinationError, match="as the last level only"):
        parse_subscription("/topic/" + local, "error")


def test_a_pattern_with_too_many_levels_is_refused() -> None:
    """A plain name with as many is not."""
    local = ".".join("a" * 5_000)

    with pytest.raises(DestinationError, match="has more than 64 levels, the limit for patterns"):
        parse_subscription(f"/topic/{local}.*", "error")
    assert not parse_subscription(f"/topic/{local}.a", "error").is_pattern


def test_only_topics_have_patterns() -> None:
    """A queue's name with wildcard levels is a name like others."""
    assert is_pattern(b"/topic/#")
    assert not is_pattern(b"/queue/#")
    assert not is_pattern(b"/reply-topic/7-#")


def test_queues_are_known_by_their_prefix() -> None:
    """Only these two are held for one consumer."""
    names = [b"/queue/a", b"/reply-queue/a", b"/topic/a", b"/temp-queue/a", b"/reply-topic/a", b"/queues/a"]

    assert [name for name in names if is_queue(name)] == [b"/queue/a", b"/reply-queue/a"]


@given(st.text(), st.sampled_from(["topic", "queue", "error"]))
def test_any_text_is_a_name_or_the_one_error(text: str, bare: str) -> None:
    """Nothing else is raised; what was parsed parses to itself; a name matches itself."""
    try:
        found = parse_subscription(text, bare)
    except DestinationError:
        return

    assert found == parse_subscription(found.name.decode("utf-8", "surrogateescape"), "error")
    assert found.is_pattern == is_pattern(found.name)


# Durable subscriptions


def test_a_durable_subscription_is_read_like_a_queue() -> None:
    """Under the name that its owner gave it, whatever that looks like."""
    for local in ("me.news", "a.*", "#", "x/y"):
        found = parse_subscription("/dsub/" + local, "error")

        assert (found.sort, found.name, found.is_pattern) == (Sort.DURABLE, b"/dsub/" + local.encode(), False)
        assert is_queue(found.name)
        assert not is_pattern(found.name)
        assert durable_name(local) == found.name


@pytest.mark.parametrize("local", ["me.news", "a.b"])
def test_nobody_sends_to_a_durable_subscription(local: str) -> None:
    """The text says where to instead."""
    with pytest.raises(DestinationError, match="what is sent to its topic: send to that"):
        parse_destination("/dsub/" + local, "error")


@pytest.mark.parametrize(
    ("name", "fault"), [("", "is empty"), ("a\0b", "NUL"), ("x" * MAX_NAME, "exceeds"), ("\ud800", "not UTF-8")]
)
def test_the_name_of_a_durable_subscription_is_as_limited_as_others(name: str, fault: str) -> None:
    """It travels where they do."""
    with pytest.raises(DestinationError, match=fault):
        durable_name(name)


@pytest.mark.parametrize("text", ["jms.queue", "jms.queuea", "ajms.queue.a", "JMS.queue.a", "amq/queue/a", "queue/a"])
def test_what_only_looks_like_a_prefix_is_a_bare_name(text: str) -> None:
    """Prefixes are read to the letter."""
    assert parse_destination(text, "topic").name == b"/topic/" + text.encode()
    assert is_bare(text)


@pytest.mark.parametrize("text", ["/topic/a", "/amq/queue/a", "jms.queue.a", "jms.topic.a", "/unknown", "/"])
def test_a_name_with_a_prefix_is_not_bare(text: str) -> None:
    """Nor is one with a prefix that nobody knows."""
    assert not is_bare(text)


def test_wildcards_behind_another_brokers_prefix_are_those_of_a_topic() -> None:
    """For subscriptions to topics only, as ever."""
    assert parse_subscription("/exchange/amq.topic/a.*", "error").name == b"/topic/a.*"
    assert parse_subscription("jms.topic.#", "error").is_pattern
    for text in ("/amq/queue/a.*", "jms.queue.#"):
        with pytest.raises(DestinationError, match="wildcard levels"):
            parse_subscription(text, "error")


def test_nobody_but_the_broker_sends_to_what_it_says_of_itself() -> None:
    """Whatever prefix is written; names that only look like it are anybody's."""
    for text in ("/topic/$SYS/a", "/exchange/amq.topic/$SYS/a", "jms.topic.$SYS/a", "$SYS/a"):
        with pytest.raises(DestinationError, match="is the broker's own"):
            parse_destination(text, "topic")
        assert is_system(parse_subscription(text, "topic").name)
    for text in ("/topic/$SYS", "/topic/$SYS.a", "/topic/a/$SYS/b", "/queue/$SYS/a"):
        assert not is_system(parse_destination(text, "topic").name)
