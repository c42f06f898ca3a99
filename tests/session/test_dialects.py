"""Headers of other brokers' dialects."""

from __future__ import annotations

import pytest

from forkbroker.session.dialects import (
    UNLIMITED,
    HeaderError,
    Window,
    read_number,
    read_window,
    wants_exclusive,
    wants_requeue,
)


@pytest.mark.parametrize(
    ("headers", "window"),
    [
        ({}, Window(100)),
        ({"prefetch-count": "5"}, Window(5)),
        ({"activemq.prefetchSize": "7"}, Window(7)),
        ({"prefetch-count": "0"}, Window(UNLIMITED)),
        ({"prefetch-count": "999999999999999"}, Window(UNLIMITED)),
        ({"credit": "3"}, Window(3)),
        ({"credit": "3,1000"}, Window(3, 1000)),
        ({"credit": " 3 , 1000 "}, Window(3, 1000)),
        ({"credit": "0,"}, Window(UNLIMITED)),
        ({"consumer-window-size": "1000"}, Window(100, 1000)),
        ({"consumer-window-size": "0"}, Window(1)),
        ({"consumer-window-size": "-1"}, Window(UNLIMITED)),
        ({"prefetch-count": "5", "activemq.prefetchSize": "7", "credit": "9", "consumer-window-size": "1"}, Window(5)),
        ({"activemq.prefetchSize": "7", "consumer-window-size": "1"}, Window(7)),
    ],
)
def test_prefetch_under_all_its_names(headers: dict[str, str], window: Window) -> None:
    """The first of them in the order of the documentation rules."""
    assert read_window(headers, 100) == window


@pytest.mark.parametrize("value", ["", "x", "-2", "1.5", "1e3", "²", "9" * 16])
@pytest.mark.parametrize("name", ["prefetch-count", "activemq.prefetchSize", "consumer-window-size"])
def test_what_is_no_number_is_refused(name: str, value: str) -> None:
    """The text says which header, and what would be right."""
    with pytest.raises(HeaderError, match=f"{name}.*a whole number"):
        read_window({name: value}, 100)


@pytest.mark.parametrize("value", ["", ",5", "1,x", "1,2,3"])
def test_a_malformed_credit_is_refused(value: str) -> None:
    """Both of its parts are numbers."""
    with pytest.raises(HeaderError, match="credit"):
        read_window({"credit": value}, 100)


def test_numbers_may_have_blanks_around_them() -> None:
    """Some clients write them."""
    assert read_number({"n": " 12 "}, "n") == 12


def test_exclusive_and_requeue() -> None:
    """Only the words that mean something."""
    assert [
        wants_exclusive(h) for h in ({}, {"exclusive": "true"}, {"activemq.exclusive": "true"}, {"exclusive": "1"})
    ] == [
        False,
        True,
        True,
        False,
    ]
    assert [wants_requeue(h) for h in ({}, {"requeue": "true"}, {"requeue": "false"})] == [True, True, False]
