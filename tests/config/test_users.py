"""The password file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from forkbroker.config.users import MAX_BYTES, check_group, parse_line, parse_users, read_users
from forkbroker.errors import ConfigurationFileError, Exit
from forkbroker.passwords import PasswordError

HASH = "$scrypt$ln=1,r=8,p=1$MDEyMzQ1Njc4OWFiY2RlZg$" + "A" * 43
OWN = {os.geteuid()}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file with a user."""
    path = tmp_path / "users"
    path.write_text(f"# people\n\nalice:{HASH}\n")
    path.chmod(0o600)
    return path


def problem(path: Path, owners: set[int] = OWN) -> str:
    with pytest.raises(ConfigurationFileError) as caught:
        read_users(path, owners)
    assert caught.value.status is Exit.CONFIG
    return str(caught.value)


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o400, 0o440])
def test_each_line_is_a_user(file: Path, mode: int) -> None:
    """Comments and empty lines are none; the group may read the file."""
    file.chmod(mode)

    assert read_users(file, OWN).hashes == {"alice": HASH}


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o602, 0o660, 0o620])
def test_a_file_that_others_can_read_or_write_is_refused(file: Path, mode: int) -> None:
    """The error says the mode, and what would be right."""
    file.chmod(mode)

    assert problem(file) == (
        f"{file}: the password file has mode {mode:04o}: other users may read or write it; chmod 0640 or 0600"
    )


def test_a_file_of_somebody_else_is_refused(file: Path) -> None:
    """Its owner could change the users."""
    assert "belongs to user" in problem(file, {os.geteuid() + 1})


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    """No file, a directory, a FIFO that nobody writes."""
    os.mkfifo(tmp_path / "fifo", 0o600)

    assert "No such file" in problem(tmp_path / "none")
    assert "not a file" in problem(tmp_path / "fifo") and "not a file" in problem(tmp_path)


def test_the_size_is_bounded(file: Path) -> None:
    """The parent takes the table over in one turn."""
    text = b"#" * (MAX_BYTES - 1) + b"\n"
    file.write_bytes(text)
    assert read_users(file, OWN).hashes == {}
    file.write_bytes(text + b"\n")

    assert "too large" in problem(file)


@pytest.mark.parametrize(
    ("line", "what"),
    [
        (b"bob", "no colon"),
        (b"bob:passcode", "form"),
        (b":" + HASH.encode(), "a name has"),
        (b"b\xff:x", "not UTF-8"),
        (b"alice:" + HASH.encode(), "the same name"),
        (b"bob:" + HASH.encode() + b"\r", "form"),
        (b"bob:" + HASH.encode() + b":a,", "the name of a group"),
        (b"bob:" + HASH.encode() + b":a, b", "the name of a group"),
        (b"bob:" + HASH.encode() + b":a:b", "the name of a group"),
        (b"bob:" + HASH.encode() + b":a,b,a", "named twice"),
    ],
)
def test_a_bad_line_is_named_and_not_shown(line: bytes, what: str) -> None:
    """File and number, never what stands there."""
    with pytest.raises(ConfigurationFileError, match=rf"^f, line 3: .*{what}") as caught:
        parse_users(f"# x\nalice:{HASH}\n".encode() + line + b"\n", "f")
    assert "passcode;" not in str(caught.value)
    assert HASH not in str(caught.value)


def test_the_last_line_needs_no_end() -> None:
    """As editors leave it."""
    assert parse_users(f"alice:{HASH}\nbob:{HASH}".encode(), "f").hashes == {"alice": HASH, "bob": HASH}


def test_a_line_may_name_groups() -> None:
    """The members are in the order of the lines, and each group is known by the first line that names it."""
    found = parse_users(f"alice:{HASH}:ops,night shift\nbob:{HASH}:\ncarol:{HASH}:ops".encode(), "f")

    assert list(found.hashes.items()) == [("alice", HASH), ("bob", HASH), ("carol", HASH)]
    assert found.groups == {"ops": ("alice", "carol"), "night shift": ("alice",)}
    assert found.places == {"ops": "f, line 1", "night shift": "f, line 1"}


def test_a_user_becomes_the_line_that_was_read() -> None:
    """With groups and without."""
    for line in (f"alice:{HASH}", f"alice:{HASH}:a,b"):
        entry = parse_line(line.encode())
        assert entry is not None and entry.to_line() == line.encode()


@pytest.mark.parametrize("name", ["", "a,b", "a:b", " a", "#a", "x" * 256])
def test_a_group_cannot_be_called_so(name: str) -> None:
    """The file could not be read any more."""
    with pytest.raises(PasswordError, match="the name of a group"):
        check_group(name)
