"""docs/kiltshop.md, compared with the programs that it shows."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.shop import PROGRAMS

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "kiltshop.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
FILES = {path.relative_to(PROGRAMS).as_posix(): path.read_text() for path in PROGRAMS.rglob("*.*") if path.is_file()}


def test_the_lines_that_are_shown_are_those_of_the_programs() -> None:
    """Each block is a piece of one of the files."""
    shown = [block for language, block in BLOCKS if language in ("python", "javascript", "sh")]

    assert len(shown) >= 7
    assert [block for block in shown if not any(block in text for text in FILES.values())] == []


@pytest.mark.parametrize(
    ("right", "destination", "status"),
    [
        ("write", "/queue/orders.place", 0),
        ("create", "/queue/orders.place", 0),
        ("write", "/queue/orders.start", 1),
        ("read", "/queue/orders.place", 1),
        ("read", "/topic/order.fiona.*", 0),
        ("read", "/topic/order.*.*", 1),
    ],
)
def test_customers_have_the_rights_that_they_need(tmp_path: Path, right: str, destination: str, status: int) -> None:
    """By the tables that are shown."""
    (block,) = (block for language, block in BLOCKS if language == "toml")
    (file := tmp_path / "forkbroker.toml").write_text(block)
    can = [sys.executable, ROOT / "bin" / "stomp-brokerctl", "can", "--config", file, "fiona", right, destination]

    assert subprocess.run(can, capture_output=True).returncode == status


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
