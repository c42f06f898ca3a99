"""stomp-brokerctl install-service: what it writes, and what it leaves alone.

`make packages` has it install a service that runs.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from forkbroker.ctl.connection import CtlError
from forkbroker.ctl.installing import TARGETS, UNIT, check_program, find_source, install, make_files

ROOT = Path(__file__).parents[2]
PROGRAM = Path("/opt/forkbroker/bin/stomp-broker")


@pytest.fixture
def texts() -> dict[Path, str]:
    """The files for a program in /opt."""
    return make_files(find_source(), PROGRAM)


def place(root: Path, path: Path) -> Path:
    """Where a file is below a directory of the test."""
    return root / path.relative_to("/")


def test_the_unit_starts_the_program_and_has_all_that_the_delivered_one_has(texts: dict[Path, str]) -> None:
    """Only the path differs; and the files that the unit needs are there."""
    delivered = (ROOT / "etc" / "systemd" / UNIT.name).read_text()

    assert f"\nExecStart={PROGRAM} $OPTIONS\n" in texts[UNIT]
    assert texts[UNIT].partition("\n")[2] == delivered.replace("/usr/bin/stomp-broker", str(PROGRAM))
    assert set(TARGETS.values()) - set(texts) <= {TARGETS["systemd/notify-reload.conf"]}


def test_files_are_written_once(texts: dict[Path, str], tmp_path: Path) -> None:
    """For all to read; nothing is left beside them, and a second time nothing is written."""
    assert all(written for _, written in install(texts, tmp_path))
    files = {path for path in tmp_path.rglob("*") if not path.is_dir()}

    assert {path: path.read_text() for path in files} == {place(tmp_path, path): text for path, text in texts.items()}
    assert {path.stat().st_mode & 0o777 for path in files} == {0o644}
    assert not any(written for _, written in install(texts, tmp_path))


def test_what_an_older_version_has_written_is_replaced(texts: dict[Path, str], tmp_path: Path) -> None:
    """Its hash tells that nobody has changed it."""
    older = make_files(find_source(), Path("/opt/older/bin/stomp-broker"))
    list(install(older, tmp_path))

    assert (place(tmp_path, UNIT), True) in list(install(texts, tmp_path))
    assert place(tmp_path, UNIT).read_text() == texts[UNIT]


@pytest.mark.parametrize("kind", ["changed", "foreign", "masked"])
def test_what_somebody_has_changed_stays_and_then_nothing_is_written(
    kind: str, texts: dict[Path, str], tmp_path: Path
) -> None:
    """Neither this file nor another one, until --force."""
    unit = place(tmp_path, UNIT)
    unit.parent.mkdir(parents=True)
    if kind == "masked":
        unit.symlink_to("/dev/null")
    else:
        unit.write_text(texts[UNIT] + "Nice=5\n" if kind == "changed" else "[Service]\n")
    before = os.readlink(unit) if kind == "masked" else unit.read_text()  # noqa: PTH115

    with pytest.raises(CtlError, match=re.escape(f"{unit}: was changed")):
        list(install(texts, tmp_path))
    assert (os.readlink(unit) if kind == "masked" else unit.read_text()) == before  # noqa: PTH115
    assert [path for path in tmp_path.rglob("*") if not path.is_dir()] == [unit]
    list(install(texts, tmp_path, force=True))
    assert unit.read_text() == texts[UNIT]
    assert not unit.is_symlink()


def test_the_service_of_a_package_is_not_hidden(texts: dict[Path, str], tmp_path: Path) -> None:
    """A unit below /etc would go before that of the package."""
    there = tmp_path / "usr/lib/systemd/system" / UNIT.name
    there.parent.mkdir(parents=True)
    there.touch()

    with pytest.raises(CtlError, match="is installed already"):
        list(install(texts, tmp_path))
    assert not (tmp_path / "etc").exists()


def test_a_program_that_the_service_cannot_reach_is_refused(tmp_path: Path) -> None:
    """In a home, below a directory that is closed, or not there at all; one for all users is accepted."""
    public, interpreter = Path("/usr/bin/env"), Path("/bin/sh")
    check_program(public, interpreter)
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    (closed / "stomp-broker").touch(mode=0o755)

    with pytest.raises(CtlError, match="no such program"):
        check_program(tmp_path / "stomp-broker", interpreter)
    with pytest.raises(CtlError, match="has no access to"):
        check_program(closed / "stomp-broker", interpreter)
    with pytest.raises(CtlError, match="has no access to"):
        check_program(public, closed / "stomp-broker")


def test_a_name_that_a_unit_cannot_have_is_refused() -> None:
    """With a blank, or a specifier of systemd."""
    for name in ("/opt/my programs/stomp-broker", "/opt/100%/stomp-broker"):
        with pytest.raises(CtlError, match="a unit cannot name this"):
            make_files(find_source(), Path(name))


def test_print_shows_the_files_and_writes_nothing(tmp_path: Path) -> None:
    """Each with its name, as `systemctl cat` has it."""
    command = [sys.executable, ROOT / "bin" / "stomp-brokerctl", "install-service", "--print", "--root", tmp_path]
    shown = subprocess.run(command, capture_output=True, text=True)

    assert (shown.returncode, shown.stderr) == (0, "")
    assert f"\nExecStart={ROOT}/bin/stomp-broker $OPTIONS\n" in shown.stdout
    assert re.findall(r"^# (/etc/\S+)$", shown.stdout, re.MULTILINE)[:2] == [
        str(UNIT),
        str(UNIT.with_suffix(".socket")),
    ]
    assert list(tmp_path.iterdir()) == []
