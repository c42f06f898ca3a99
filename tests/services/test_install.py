"""What `make install` puts where, and files for programs of the system."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path

import pytest
from support.deadline import wait_until
from support.rawclient import RawClient

import forkbroker
from forkbroker.ctl.connection import SOCKET
from forkbroker.testing.broker import RunningBroker

ROOT = Path(__file__).parents[2]


def make(*arguments: str) -> str:
    """Run make; what it prints."""
    return subprocess.run(["make", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def files(directory: Path) -> set[str]:
    """Return the names of all files below a directory, without those of the virtual environment."""
    names = {str(path.relative_to(directory)) for path in directory.rglob("*") if not path.is_dir()}
    return {name for name in names if not name.startswith("usr/local/lib/forkbroker/")}


def test_make_alone_prints_its_targets() -> None:
    """Each that is meant for people, and nothing happens."""
    told = set(re.findall(r"^make ([\w-]+) ", make(), re.MULTILINE))
    (phony,) = re.findall(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)

    assert told == set(phony.split()) - {"help", "install-linux"}


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_program_has_an_environment_of_its_own_and_leaves_nothing(tmp_path: Path) -> None:
    """In a directory for packages: names in it are those of the final place, and nothing is made in the checkout."""
    before = {path for path in ROOT.iterdir() if path.name in ("build", "dist")}
    make("install", f"DESTDIR={tmp_path}", "PREFIX=/usr/local")
    private = tmp_path / "usr" / "local" / "lib" / "forkbroker"
    shown = subprocess.run(
        [private / "bin" / "python", private / "bin" / "stomp-broker", "--version"], capture_output=True, text=True
    )
    packages = {path.name.split("-")[0] for path in private.glob("lib/python*/site-packages/*.dist-info")}

    assert shown.stdout.startswith("stomp-broker ")
    assert (private / "bin" / "stomp-broker").read_text().startswith("#!/usr/local/lib/forkbroker/bin/python\n")
    assert os.readlink(tmp_path / "usr" / "local" / "bin" / "stomp-broker") == "../lib/forkbroker/bin/stomp-broker"  # noqa: PTH115
    control = [private / "bin" / "python", private / "bin" / "stomp-brokerctl", "--version"]
    assert subprocess.run(control, capture_output=True, text=True).stdout.startswith("stomp-brokerctl ")
    assert packages == {"forkbroker", "posix_ipc", "setproctitle"}
    unit = (tmp_path / "usr/local/lib/systemd/system/stomp-broker.service").read_text()
    assert "\nExecStart=/usr/local/bin/stomp-broker $OPTIONS\n" in unit
    assert "usr/local/share/man/man5/forkbroker.toml.5" in files(tmp_path)
    assert "usr/local/share/man/man1/stomp-brokerctl.1" in files(tmp_path)
    assert "usr/local/share/bash-completion/completions/stomp-brokerctl" in files(tmp_path)
    assert {path for path in ROOT.iterdir() if path.name in ("build", "dist")} == before
    make("uninstall", f"DESTDIR={tmp_path}", "PREFIX=/usr/local")
    assert files(tmp_path) == set()
    assert not private.exists()


def test_the_lock_has_what_the_broker_needs_and_nothing_else() -> None:
    """Each with hashes, and of a version that is permitted."""
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    needed = dict(re.findall(r"^(\w+) >= ([\d.]+)$", config["options"]["install_requires"], re.MULTILINE))
    lock = (ROOT / "etc" / "requirements.lock").read_text()
    locked = {
        name.replace("-", "_"): version for name, version in re.findall(r"^([\w-]+)==([\d.]+) ", lock, re.MULTILINE)
    }

    assert locked.keys() == needed.keys()
    assert all(number(locked[name]) >= number(needed[name]) for name in needed)
    assert not [
        line
        for line in lock.splitlines()
        if line and not line.startswith(("#", "    --hash=sha256:")) and "==" not in line
    ]


def number(version: str) -> tuple[int, ...]:
    """Return a version that can be compared."""
    return tuple(map(int, version.split(".")))


def test_the_versions_of_python_that_are_promised_are_those_that_are_tested() -> None:
    """By `make test-pythons`, from the oldest one that is permitted on."""
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    promised = re.findall(
        r"^Programming Language :: Python :: (3\.\d+)$", config["metadata"]["classifiers"], re.MULTILINE
    )
    (tested,) = re.findall(r"^PYTHONS = (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)

    assert promised == tested.split()
    assert config["options"]["python_requires"] == f">={promised[0]}"


def test_the_versions_of_the_package_and_of_the_program_are_the_same() -> None:
    """The newest entry of debian/changelog."""
    assert (ROOT / "debian" / "changelog").read_text().startswith(f"forkbroker ({forkbroker.__version__}-")


def test_the_user_of_all_files_is_the_same() -> None:
    """That of the unit, of the init scripts, of the log, and the one that is made."""
    (user,) = re.findall(r"^u (\S+)", (ROOT / "etc/sysusers.d/forkbroker.conf").read_text(), re.MULTILINE)
    texts = {
        "etc/systemd/stomp-broker.service": f"\nUser={user}\n",
        "etc/init.d/stomp-broker": f"RUN_AS=${{RUN_AS-{user}}}\n",
        "etc/rc.d/stomp_broker": f":={user}}}",
        "etc/logrotate.d/stomp-broker": f" {user} {user}\n",
        "Dockerfile": f"\nUSER {user}\n",
    }

    assert [name for name, text in texts.items() if text not in (ROOT / name).read_text()] == []


def test_the_image_stops_as_the_broker_wants_it() -> None:
    """No root, the signal of a clean shutdown, and only files that there are."""
    text = (ROOT / "Dockerfile").read_text()

    assert "\nSTOPSIGNAL SIGTERM\n" in text
    assert (ROOT / "etc" / "requirements.lock").exists()
    assert text.index("\nUSER ") < text.index("\nENTRYPOINT ")


def test_the_health_check_of_the_image_notices_a_broker_that_hangs(make_broker) -> None:
    """With the status that Docker understands: 0 or 1."""
    (check,) = re.findall(r"^HEALTHCHECK .* CMD (.+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    broker: RunningBroker = make_broker()
    command = f"{sys.executable} {ROOT}/bin/stomp-brokerctl health --url stomp://127.0.0.1:{broker.port}"
    check = check.replace("stomp-brokerctl health", command).replace("--timeout 8s", "--timeout 1s")

    assert "127.0.0.1" in check and "1s" in check
    assert subprocess.run(check, shell=True, capture_output=True).returncode == 0
    broker.kill(signal.SIGSTOP)
    assert subprocess.run(check, shell=True, capture_output=True).returncode == 1
    broker.kill(signal.SIGCONT)
    broker.stop()
    assert subprocess.run(check, shell=True, capture_output=True).returncode == 1


@pytest.mark.parametrize("has_users", [False, True])
def test_the_health_check_of_the_image_needs_no_login(make_broker, tmp_path: Path, has_users: bool) -> None:
    """With the image's own configuration, and with users in its place: it asks on the Unix socket."""
    (check,) = re.findall(r"^HEALTHCHECK .* CMD (.+); test", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    path, text = tmp_path / "forkbroker.toml", (ROOT / "etc" / "docker" / "forkbroker.toml").read_text()
    assert f"COPY etc/docker/{path.name} /etc/forkbroker/{path.name}\n" in (ROOT / "Dockerfile").read_text()
    assert tomllib.loads(text)["listen"] == ["0.0.0.0:61613", f"unix:{SOCKET}"]
    if has_users:
        users = tmp_path / "users"
        users.touch(0o600)
        text = text.replace("allow-anonymous = true", f'users = "{users}"')
    path.write_text(text)
    broker: RunningBroker = make_broker("--config", str(path), "--listen", f"unix:{tmp_path}/socket")
    command = [sys.executable, f"{ROOT}/bin/{check.split()[0]}", *check.split()[1:]]
    environment = {**os.environ, "FORKBROKER_URL": f"unix:{tmp_path}/socket"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)

    assert (done.returncode, done.stdout[:4]) == (0, "OK: ")
    if has_users:
        environment["FORKBROKER_URL"] = f"127.0.0.1:{broker.port}"
        assert subprocess.run(command, capture_output=True, env=environment).returncode == 3


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory of root's that everybody may enter."""
    directory = Path(tempfile.mkdtemp(prefix="forkbroker-test-", dir="/tmp"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.mark.skipif(os.getuid() != 0 or shutil.which("logrotate") is None, reason="needs root, and logrotate")
def test_logrotate_and_the_broker_agree(make_broker, open_directory: Path) -> None:
    """The example, in root's directory: the broker is not root any more, and its next line is in the new file."""
    log, example = open_directory / "stomp-broker.log", open_directory / "conf"
    text = (ROOT / "etc" / "logrotate.d" / "stomp-broker").read_text()
    text = text.replace("/var/log/stomp-broker.log", str(log)).replace("stomp-broker stomp-broker", "nobody nogroup")
    example.write_text(text)
    broker: RunningBroker = make_broker("--user", "nobody", "--log-file", str(log), "--store", "memory:")
    wait_until(lambda: "listens on" in log.read_text(), "the first lines")
    subprocess.run(["logrotate", "-f", "-s", open_directory / "state", example], check=True)
    wait_until(lambda: "log: opened again, the file was moved" in log.read_text(), "the new file")
    with RawClient(broker.port) as client:
        client.login()
        wait_until(lambda: "client 1 " in log.read_text(), "a line about the client")

    assert "listens on" in (open_directory / "stomp-broker.log.1").read_text()
    assert "client 1 " not in (open_directory / "stomp-broker.log.1").read_text()
