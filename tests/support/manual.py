"""The examples of the manual pages."""

from __future__ import annotations

import re
from pathlib import Path

PAGES = sorted((Path(__file__).parents[2] / "man").iterdir())
_EXAMPLE = re.compile(r"^\.Dl ([^\n]+)\n|^\.Bd -literal[^\n]*\n(.*?)^\.Ed$", re.MULTILINE | re.DOTALL)


def read_page(name: str) -> str:
    """The source of a page."""
    return next(page for page in PAGES if page.name == name).read_text()


def examples(name: str) -> list[str]:
    """The literal lines and blocks of a page, in order, as a reader sees them."""
    found = [line or block.rstrip("\n") for line, block in _EXAMPLE.findall(read_page(name))]
    return [text.replace("\\(aq", "'").replace("\\e", "\\").replace("\\&", "") for text in found]


def typed(name: str, word: str) -> list[str]:
    """The commands of the example with this word, without their prompts."""
    (block,) = (text for text in examples(name) if word in text)
    return re.findall(r"^[#$] (.+)$", block, re.MULTILINE)
