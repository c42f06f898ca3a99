"""The units, and what the broker says to systemd: checked with systemd's own tools where they are installed."""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from support.deadline import wait_until
from support.rawclient import connect

from forkbroker.cli.main import FILES_BESIDE_CLIENTS
from forkbroker.config.evaluation import make_settings
from forkbroker.errors import Exit

UNITS = Path(__file__).parents[2] / "etc" / "systemd"
ROOT = Path(__file__).parents[2]

with_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="install systemd")
with_activate = pytest.mark.skipif(shutil.which("systemd-socket-activate") is None, reason="install systemd")


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units as `make install` writes them, for a program that exists."""
    for unit in UNITS.iterdir():
        (tmp_path / unit.name).write_text(unit.read_text().replace("/usr/bin/stomp-broker", "/bin/true"))
    return tmp_path


@with_systemd
def test_the_units_are_valid(units: Path) -> None:
    """Without a complaint about a key or a value."""
    files = [str(path) for path in units.iterdir() if path.suffix in (".service", ".socket")]
    ended = subprocess.run(["systemd-analyze", "verify", "--man=no", *files], capture_output=True, text=True)

    assert (ended.returncode, ended.stderr) == (0, "")


def systemd_version() -> int:
    """Return the version that is installed; 0: none is."""
    if shutil.which("systemd-analyze") is None:
        return 0
    shown = subprocess.run(["systemd-analyze", "--version"], capture_output=True, text=True, check=True).stdout
    return int(shown.split()[1])


@pytest.mark.skipif(systemd_version() < 253, reason="install systemd 253 or newer")
def test_the_addition_for_newer_systems_is_valid(units: Path) -> None:
    """`systemctl reload` waits for the end of the reload there."""
    (units / "stomp-broker.service.d").mkdir()
    (units / "notify-reload.conf").rename(units / "stomp-broker.service.d" / "notify-reload.conf")
    ended = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(units / "stomp-broker.service")], capture_output=True, text=True
    )

    assert (ended.returncode, ended.stderr) == (0, "")


@with_systemd
def test_the_service_is_confined(units: Path) -> None:
    """systemd's own measure of exposure, from 0 to 10, is 1.2 at most."""
    ended = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", str(units / "stomp-broker.service")],
        capture_output=True,
        text=True,
    )
    level = re.search(r"exposure level for stomp-broker.service: ([\d.]+)", ended.stdout)

    assert level is not None
    assert float(level[1]) <= 1.2


def test_a_start_is_not_repeated_for_what_it_cannot_mend() -> None:
    """Statuses of mistakes; what may pass by itself (an address in use, no room) is tried again."""
    text = (UNITS / "stomp-broker.service").read_text()
    (statuses,) = re.findall(r"^RestartPreventExitStatus=(.+)$", text, re.MULTILINE)

    assert set(map(int, statuses.split())) == {Exit.USAGE, Exit.DATAERR, Exit.NOUSER, Exit.NOPERM, Exit.CONFIG}
    assert "\nOOMPolicy=continue\n" in text


def test_the_service_may_have_all_its_clients() -> None:
    """Tasks and descriptors above the default of --max-clients."""
    text = (UNITS / "stomp-broker.service").read_text()
    limits = dict(re.findall(r"^(TasksMax|LimitNOFILE)=(\d+)$", text, re.MULTILINE))

    assert set(limits) == {"TasksMax", "LimitNOFILE"}
    assert all(int(number) > make_settings({}).max_clients + FILES_BESIDE_CLIENTS for number in limits.values())


def test_the_service_ends_by_a_signal_to_the_parent() -> None:
    """Children obey the parent; and systemd waits for longer than the broker takes."""
    text = (UNITS / "stomp-broker.service").read_text()
    (timeout,) = re.findall(r"^TimeoutStopSec=(\d+)$", text, re.MULTILINE)

    assert "KillMode=mixed\n" in text
    assert int(timeout) > make_settings({}).shutdown_timeout


def test_the_manager_hears_of_readiness_state_life_and_end(make_broker, tmp_path: Path) -> None:
    """READY=1 when clients can connect, STATUS= as they do, WATCHDOG=1 while the loop turns, STOPPING=1 at the end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.setblocking(False)
        said = ""

        def heard(text: str) -> bool:
            nonlocal said
            while select.select([receiver], [], [], 0)[0]:
                said += receiver.recv(4096).decode() + "\n"
            return text in said

        broker = make_broker(env={"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "4000000"})
        wait_until(lambda: heard("READY=1"), "READY")
        with connect(broker.port):
            wait_until(lambda: heard("1 client"), "the state")
        wait_until(lambda: heard("WATCHDOG=1"), "a sign of life")
        broker.stop()

        assert heard("STOPPING=1")


@with_activate
def test_sockets_that_systemd_passes_are_served(tmp_path: Path) -> None:
    """The broker starts with the first connection, and serves it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ["systemd-socket-activate", "-l", f"127.0.0.1:{port}", "-E", "PYTHONPATH", "-E", "STATE_DIRECTORY"]
    activator = subprocess.Popen(
        [*command, sys.executable, "-m", "forkbroker"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "STATE_DIRECTORY": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        wait_until(lambda: can_connect(port), "the activator's socket")
        with connect(port) as client:
            client.send("SEND", destination="/topic/a", receipt="r")

            assert client.expect("RECEIPT").get("receipt-id") == "r"
    finally:
        os.killpg(activator.pid, signal.SIGTERM)
        activator.communicate(timeout=20)


def can_connect(port: int) -> bool:
    """Somebody listens there."""
    with socket.socket() as attempt:
        return attempt.connect_ex(("127.0.0.1", port)) == 0
