"""docs/kiltshop.md, compared with the programs that it shows."""

from __future__ import annotations

import re
from pathlib import Path

from support.shop import PROGRAMS

from forkbroker.config.file import parse_text

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "kiltshop.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
FILES = {path.relative_to(PROGRAMS).as_posix(): path.read_text() for path in PROGRAMS.rglob("*.*") if path.is_file()}


def test_the_lines_that_are_shown_are_those_of_the_programs() -> None:
    """Each block is a piece of one of the files, and the configuration can be read."""
    shown = [block for language, block in BLOCKS if language in ("python", "javascript")]
    configurations = [block for language, block in BLOCKS if language == "toml"]

    assert len(shown) >= 6
    assert [block for block in shown if not any(block in text for text in FILES.values())] == []
    assert [len(parse_text(block, "f").permissions.grants or ()) for block in configurations] == [7]


def test_the_table_has_all_programs() -> None:
    """And what the text names is there."""
    named = set(re.findall(r"`(?:examples/kiltshop/)?([\w/]+\.(?:py|sh|js|toml|html))`", TEXT))

    assert named <= FILES.keys()
    assert {name for name in FILES if name.endswith((".py", ".sh"))} - named == {"places.py"}


def test_the_shop_prints_what_the_text_shows() -> None:
    """The welcome of demo.py, with the addresses that places.py has without more."""
    pages = re.findall(r"^ +http://127\.0\.0\.1:8080(/\w+\.html +for .+)$", TEXT, re.MULTILINE)

    assert pages == re.findall(r"^ +http://\{0\}:\{1\}(/\w+\.html +for .+)$", FILES["demo.py"], re.MULTILINE)
    assert len(pages) == 3
    assert '"127.0.0.1:8080"' in FILES["places.py"]
