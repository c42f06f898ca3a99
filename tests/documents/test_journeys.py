"""How much a reader opens to follow a message, and whether docs/architecture.md says so."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_FILES = {"SEND to a topic": 18, "SEND to a queue, delivery, ACK": 32, "persistent SEND, RECEIPT": 34}
"""At most. Who gets by with less writes it down here."""

_BESIDE = {
    *("connecting.py", "subscribing.py", "transacting.py", "transport.py", "interest.py", "durables.py"),
    *("cutting.py", "collecting.py", "kinds.py", "lobby.py", "rendering.py", "memory_file.py", "sharing.py"),
}
"""What the path names as well: it has its part before or after, for other frames, or in a table."""


def _load_journeys():
    spec = importlib.util.spec_from_file_location("journeys", _ROOT / "benchmarks" / "journeys.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # dataclasses look their module up
    sys.modules["journeys"] = module
    spec.loader.exec_module(module)
    return module


journeys = _load_journeys()


@pytest.mark.parametrize("name", _FILES)
def test_a_message_goes_through_so_many_files_at_most(name: str) -> None:
    """From the client's socket to the answer: of all processes together."""
    files = {function.file for function in journeys.trace(journeys.JOURNEYS[name])}

    assert {"forkbroker/child/child.py", "forkbroker/session/session.py", "forkbroker/routing/router.py"} <= files
    assert len(files) <= _FILES[name]


def test_the_path_in_the_documents_is_the_one_that_is_gone() -> None:
    """Every module that it names is on the way of one of the journeys, or beside it."""
    text = (_ROOT / "docs" / "architecture.md").read_text()
    path = text[text.index("## The path of a message") : text.index("What takes long is done in steps")]
    named = set(re.findall(r"`([a-z_/]+\.py)`", path))
    gone = {function.file for name in _FILES for function in journeys.trace(journeys.JOURNEYS[name])}

    missing = [name for name in named if not any(file.endswith(f"/{name}") for file in gone)]
    assert {Path(name).name for name in missing} <= _BESIDE
