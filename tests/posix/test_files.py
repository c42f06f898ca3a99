"""Files that get another content as a whole."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from forkbroker.posix.files import replace


def test_a_file_is_replaced_with_the_mode_that_is_asked_for(tmp_path: Path) -> None:
    """Whoever has the old one open goes on reading it; nothing stays beside, not even what a death has left."""
    path = tmp_path / "users"
    path.write_text("old")
    (tmp_path / ".users.new").write_text("left behind")

    with path.open() as reader:
        replace(path, b"new", mode=0o640)
        seen = reader.read()

    assert (seen, path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == ("old", b"new", 0o640)
    assert os.listdir(tmp_path) == ["users"]  # noqa: PTH208 (names alone)


def test_what_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    """With nothing beside it."""
    path = tmp_path / "users"
    path.write_text("old")

    with pytest.raises(IsADirectoryError):
        replace(tmp_path, b"new", mode=0o600)
    with pytest.raises(TypeError):
        replace(path, "text", mode=0o600)  # type: ignore[arg-type]

    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["users"]  # noqa: PTH208 (names alone)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give a file away")
def test_it_stays_its_owners(tmp_path: Path) -> None:
    """Also if somebody else changes it."""
    path = tmp_path / "users"

    replace(path, b"new", mode=0o600, owner=(12_345, 23_456))

    assert (path.stat().st_uid, path.stat().st_gid) == (12_345, 23_456)
