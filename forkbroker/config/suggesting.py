"""What to write in the place of a word that is not known."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


def suggest(word: str, known: Iterable[str], otherwise: str) -> str:
    """Return a remedy: the known word that is most like this one; if none is, `otherwise`."""
    close = get_close_matches(word, list(known), 1)
    return f"write {close[0]}" if close else otherwise


def list_words(words: Sequence[str]) -> str:
    """Return these as `read, write or create`."""
    return f"{', '.join(words[:-1])} or {words[-1]}"
