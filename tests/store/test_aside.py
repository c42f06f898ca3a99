"""What was kept for the administrator, to be read."""

from __future__ import annotations

import subprocess
import sys

import pytest

from forkbroker.errors import Exit
from forkbroker.store.aside import describe_file, main
from forkbroker.wire.envelope import pack
from forkbroker.wire.kinds import Flag, Kind
from store.driven import delete, fan, spill, write


def lines(*changes: list[bytes | bytearray | memoryview]) -> list[str]:
    return list(describe_file(b"".join(bytes(buffer) for change in changes for buffer in change)))


def test_messages_are_listed_with_headers_and_bodies() -> None:
    """One change after the other."""
    assert lines(write(1, [b"one", b"two"], serial=7), delete(2, 3, 4)) == [
        "WRITE of 2 messages for /queue/a, serials from 7",
        "  message 1, 3 bytes:",
        "    destination:/queue/a",
        "    ",
        "    one",
        "  message 2, 3 bytes:",
        "    destination:/queue/a",
        "    ",
        "    two",
        "DELETE of 4 messages for no queue, serials from 3",
    ]


def test_a_fan_is_listed_with_its_queues() -> None:
    """And its messages once."""
    assert lines(fan(1, [(5, b"/dsub/a"), (9, b"/dsub/b")], spill(0, [b"x"], queue=b""))) == [
        "FAN of 1 messages for 2 queues",
        "  /dsub/a, serials from 5",
        "  /dsub/b, serials from 9",
        "  message 1, 1 bytes:",
        "    destination:/queue/a",
        "    ",
        "    x",
    ]


def test_headers_of_mixed_messages_are_their_own() -> None:
    """And no terminal is harmed by what clients send."""
    text = lines(write(1, [b"a:b\n\n\x1b[2J\xff"], flags=Flag.MIXED))

    assert text[2:] == ["    a:b", "    ", "    \\x1b[2J\\xff"]


def test_what_can_not_be_decoded_is_said() -> None:
    """Where, and how much there is of it; what came before is listed."""
    broken = lines(delete(1, 3), [b"no envelope at all"])
    assert len(broken) == 2
    assert broken[1].startswith("at 48: not an envelope")
    assert broken[1].endswith("18 bytes are left")
    assert "cannot be decoded" in lines(pack(Kind.WRITE, number=1, serial=1, count=3))[1]


def test_the_command_prints_a_file(tmp_path) -> None:
    """As docs/administration.md says."""
    path = tmp_path / "queues.db.refused"
    path.write_bytes(b"".join(delete(1, 3)))
    command = [sys.executable, "-m", "forkbroker.store.aside"]
    done = subprocess.run([*command, str(path)], capture_output=True, text=True, check=True)

    assert done.stdout == "DELETE of 1 messages for no queue, serials from 3\n"


def test_a_file_that_was_printed_is_no_error(tmp_path, capsys) -> None:
    """An empty one has no line."""
    path = tmp_path / "queues.db.refused"
    path.touch()

    assert main([str(path)]) == Exit.OK
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("arguments", "status"), [([], Exit.USAGE), (["--help"], Exit.USAGE), (["/gone"], Exit.IOERR)])
def test_the_command_says_what_is_wrong(capsys, arguments, status) -> None:
    """In one line."""
    assert main(arguments) == status
    assert len(capsys.readouterr().err.splitlines()) == 1
