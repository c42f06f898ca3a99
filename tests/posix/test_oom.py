"""Who goes first when memory is used up."""

from __future__ import annotations

import os

import pytest

from forkbroker.posix.oom import SCORE, go_first


@pytest.mark.skipif(not SCORE.exists(), reason="needs Linux")
def test_a_child_goes_before_its_parent(in_child) -> None:
    """Its number is higher than before, however often it asks no more than the most; the parent's stays."""
    before = int(SCORE.read_text())

    def volunteer() -> int:
        go_first()
        first = int(SCORE.read_text())
        for _ in range(3):
            go_first()
        return int(first == min(1000, before + 500)) + 2 * int(int(SCORE.read_text()) == 1000)

    assert os.waitstatus_to_exitcode(in_child(volunteer)) == 3
    assert int(SCORE.read_text()) == before


@pytest.mark.parametrize("text", ["", "many"])
def test_a_system_without_such_a_number_is_left_alone(tmp_path, text) -> None:
    """No file, and one that has another form."""
    go_first(tmp_path / "none")
    path = tmp_path / "score"
    path.write_text(text)
    go_first(path)

    assert not (tmp_path / "none").exists()
    assert path.read_text() == text
