"""Text of strangers on one line."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forkbroker.posix.printable import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            "alice zo\N{LATIN SMALL LETTER E WITH DIAERESIS} \N{PILE OF POO} \\\\ 'x'",
            None,
        ),
        ("a\x1b[2J\r\nb\tc\x00\x7f", r"a\x1b[2J\x0d\x0ab\x09c\x00\x7f"),
        ("\x9b\x85", r"\x9b\x85"),
        ("\u202e\u2066\u200f\u061c", r"\u202e\u2066\u200f\u061c"),
        ("\u2028\u2029", r"\u2028\u2029"),
        ("\u200b\ufeff", r"\u200b\ufeff"),
        ("\udcff", r"\udcff"),
        ("\U000e0001", r"\U000e0001"),
        ("", ""),
    ],
)
def test_what_would_not_show_is_escaped(text: str, shown: str | None) -> None:
    """Controls, marks of direction, separators, what has no width, half characters; all else stays as it is."""
    assert printable(text) == (text if shown is None else shown)


@given(st.text())
def test_the_result_is_one_line_of_characters_that_show(text: str) -> None:
    """Whatever it was."""
    result = printable(text)

    assert result.isprintable()
    assert len(result.splitlines()) <= 1
    assert not any(unicodedata.bidirectional(letter) in ("RLO", "LRO", "RLI", "LRI", "RLE") for letter in result)
