"""Archive, wheel and package, and each way to install on a fresh Debian with systemd: `make packages` runs this.

The commands are those of the README, typed as they stand there. It takes minutes, and packages from a mirror, so it is
none of the tests that `make test` finds. Where no machine can be booted, each test says why and is skipped.
"""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.deadline import wait_until
from support.machine import Machine, find_obstacle, make_base
from support.manual import examples, typed
from support.rawclient import RawClient

import forkbroker

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PORT = 61613
SERVICE = "stomp-broker.service"
JOBS = "/queue/jobs"
BASE = ("sudo", "procps", "iproute2", "logrotate")
"""What each Debian has that is no minimal one."""
NOT_OURS = (
    "var/(cache|log|lib/(dpkg|apt|systemd|python|pam|logrotate))(/|$)|root/|run/|tmp/|etc/(passwd|group|g?shadow)"
)
"""Of the files of the system: what other programs write, and the user of the service, who stays."""

pytestmark = pytest.mark.timeout(600)


def commands_of_readme(word: str) -> list[str]:
    """Return the commands of the block with this word in the README's section, without their comments."""
    section = README.partition("## Run it for good\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"(?:^    .+\n)+", section, re.MULTILINE)
    (block,) = (block for block in blocks if word in block)
    return [line.partition(" # ")[0].strip() for line in block.splitlines()]


@pytest.fixture(scope="module")
def room() -> Iterator[Path]:
    """A directory for gigabytes, which does not outlive the tests."""
    with tempfile.TemporaryDirectory(prefix="forkbroker-test-") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def base(room: Path) -> Path:
    """A minimal Debian."""
    if obstacle := find_obstacle():
        pytest.skip(obstacle)
    directory = room / "base"
    make_base(directory, BASE)
    apt = directory / "etc" / "apt" / "apt.conf.d" / "90forkbroker"
    apt.write_text('APT::Get::Assume-Yes "true";\nAPT::Install-Recommends "false";\nDpkg::Use-Pty "false";\n')
    return directory


@pytest.fixture(scope="module")
def source(room: Path) -> Path:
    """The source archive, unpacked; it is what others get."""
    directory = room / "source"
    subprocess.run(["make", "dist"], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    with tarfile.open(ROOT / "dist" / f"forkbroker-{forkbroker.__version__}.tar.gz") as archive:
        archive.extractall(directory, filter="data")
    return directory / f"forkbroker-{forkbroker.__version__}"


@pytest.fixture(scope="module")
def packages(base: Path, source: Path, room: Path) -> Path:
    """The directory `dist` as the README's commands make it on a fresh machine, from the source archive."""
    with Machine(room / "builder", base) as builder:
        builder.put(source, "/root/forkbroker")
        for command in [*commands_of_readme("build-dep"), *commands_of_readme("make deb")[:1]]:
            builder.prepare(f"cd /root/forkbroker; {command}", timeout_s=400.0)
        return builder.changes / "root" / "forkbroker" / "dist"


@pytest.fixture(scope="module")
def package(packages: Path) -> Path:
    """The package, of this version."""
    (found,) = packages.glob("forkbroker_*.deb")
    return found


@pytest.fixture(scope="module")
def machine(base: Path, package: Path, room: Path) -> Iterator[Machine]:
    """A machine on which the README's commands have installed the package."""
    with Machine(room / "package", base) as made:
        made.put(package, f"/root/dist/{package.name}")
        made.prepare(f"apt-get --download-only install /root/dist/{package.name}", timeout_s=300.0)
        made.boot()
        made.files_before = files(made)  # type: ignore[attr-defined]
        for command in commands_of_readme("make deb")[1:]:
            made.run(f"cd /root; {command}")
        yield made


@pytest.fixture
def service(machine: Machine) -> Iterator[Machine]:
    """The machine whose service has just been started, without messages, and with the configuration of the package."""
    kept = machine.path("/etc/forkbroker/forkbroker.toml").read_text()
    machine.run(f"systemctl reset-failed {SERVICE}; systemctl restart {SERVICE}")
    yield machine
    machine.path("/etc/forkbroker/forkbroker.toml").write_text(kept)
    machine.run(
        f"rm -rf /run/systemd/system/{SERVICE}.d; systemctl daemon-reload; systemctl disable --now stomp-broker.socket;"
        f"systemctl stop {SERVICE}; rm -f /var/lib/forkbroker/queues.db*; systemctl enable {SERVICE}"
    )


def connect(machine: Machine) -> RawClient:
    """Connect to the broker of the machine, and log in."""
    with machine.network():
        client = RawClient(PORT)
    client.login()
    return client


def drop_in(machine: Machine, line: str) -> None:
    """Give the service another setting, until the end of the test, and restart it."""
    directory = f"/run/systemd/system/{SERVICE}.d"
    machine.run(f"mkdir -p {directory}; printf '[Service]\\n{line}\\n' > {directory}/test.conf")
    machine.run(f"systemctl daemon-reload; systemctl restart {SERVICE}")


def ask(machine: Machine, name: str) -> str:
    """Return a property of the service, as systemd has it."""
    return machine.run(f"systemctl show --property={name} --value {SERVICE}").strip()


def files(machine: Machine) -> set[str]:
    """The names of all files and directories of the system."""
    shown = machine.run(f"find / -xdev -mindepth 1 -printf '%P\\n' | grep -E -v '^({NOT_OURS})'")
    return set(shown.splitlines())


def journal(machine: Machine) -> str:
    """What the service has written to the journal."""
    return machine.run(f"journalctl --unit={SERVICE} --output=cat")


def test_the_source_archive_has_each_file(source: Path) -> None:
    """Of those that git knows, and what an archive has besides."""
    shown = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    known = set(filter(None, shown.split("\0")))
    found = {str(path.relative_to(source)) for path in source.rglob("*") if path.is_file()}

    assert known - found == set()
    assert {name for name in found - known if ".egg-info/" not in name} == {"PKG-INFO", "MANIFEST.in"}


def test_the_wheel_carries_the_files_of_the_service_and_the_manual(source: Path) -> None:
    """As data, from which `install-service` takes them."""
    with zipfile.ZipFile(ROOT / "dist" / f"forkbroker-{forkbroker.__version__}-py3-none-any.whl") as wheel:
        names = wheel.namelist()
    data = {name.partition(".data/data/share/")[2] for name in names} - {""}
    pages = {f"man/man{path.suffix[1:]}/{path.name}" for path in (ROOT / "man").iterdir()}
    of_etc = (path.relative_to(ROOT / "etc") for path in (ROOT / "etc").rglob("*") if path.is_file())
    files_of_etc = {f"forkbroker/{path}" for path in of_etc} - {"forkbroker/requirements.lock"}

    assert data == pages | files_of_etc


@pytest.mark.skipif(shutil.which("lintian") is None, reason="install lintian")
def test_the_package_is_as_debian_wants_it(package: Path) -> None:
    """No error and no warning of lintian, about the sources either."""
    (about_source,) = (package.parent / "deb").glob("*.dsc")
    command = ["lintian", "--allow-root", "--fail-on=error,warning", package, about_source]
    shown = subprocess.run(command, capture_output=True, text=True)

    assert (shown.returncode, shown.stdout) == (0, "")


def test_after_the_commands_of_the_readme_the_service_runs_and_starts_at_boot(machine: Machine) -> None:
    """As its own user, found by its name, and all that it needs has come with it."""
    client = connect(machine)
    client.publish(JOBS, "a", persistent="true")
    client.close()

    assert machine.run(f"systemctl is-enabled {SERVICE}") == "enabled\n"
    assert machine.run("pgrep -x stomp-broker").strip() == ask(machine, "MainPID")
    assert machine.run("pgrep --count --uid stomp-broker") != "0\n"
    assert machine.run("stat -c '%U:%G %a' /var/lib/forkbroker /var/lib/forkbroker/queues.db").splitlines() == [
        "stomp-broker:stomp-broker 700",
        "stomp-broker:stomp-broker 600",
    ]
    assert machine.run("getent passwd stomp-broker").rstrip().endswith(":/var/lib/forkbroker:/usr/sbin/nologin")
    assert "\nmax-clients = 2000" in machine.run("stomp-broker --check-config")
    assert float(re.findall(r"level for \S+: ([\d.]+)", machine.run(f"systemd-analyze security {SERVICE}"))[0]) <= 1.2


def test_it_is_ready_when_the_start_returns_and_gone_when_the_stop_does(service: Machine) -> None:
    """enable --now and disable --now; its state is shown in between."""
    service.run(f"systemctl disable --now {SERVICE}")
    assert service.run("pgrep --count --uid stomp-broker", check=False) == "0\n"
    assert service.run("ls /dev/shm") == ""
    for _ in range(3):
        service.run(f"systemctl enable --now {SERVICE}")
        with connect(service):
            wait_until(lambda: ask(service, "StatusText").startswith("1 client"), "the state")
        service.run(f"systemctl stop {SERVICE}")
        assert ask(service, "Result") == "success"


def test_a_stopped_parent_is_replaced_by_the_watchdog(service: Machine) -> None:
    """SIGSTOP: no sign of life comes any more. What is stored is there again."""
    drop_in(service, "WatchdogSec=2")
    first = ask(service, "MainPID")
    with connect(service) as client:
        client.publish(JOBS, "kept", persistent="true")
        service.run(f"kill -STOP {first}")
        client.expect_eof()
    wait_until(lambda: ask(service, "MainPID") not in (first, "0"), "another parent", 30.0)
    wait_until(lambda: ask(service, "ActiveState") == "active", "the service", 30.0)
    with connect(service) as client:
        client.subscribe(JOBS)
        client.expect_messages("kept")
    assert "Watchdog timeout" in service.run(f"journalctl --unit={SERVICE}")


def test_the_socket_starts_the_service(service: Machine) -> None:
    """At each first connection, and no connection is refused while the service restarts."""
    (line,) = (text for text in examples("stomp-broker.8") if "stomp-broker.socket" in text)
    service.run(f"systemctl disable --now {SERVICE}; {line.lstrip('# ')}")
    for _ in range(2):
        assert ask(service, "ActiveState") == "inactive"
        with connect(service) as client:
            client.publish(JOBS, "a")
        assert ask(service, "ActiveState") == "active"
        service.run(f"systemctl stop {SERVICE} 2>&1")
    with service.network():
        waiting = RawClient(PORT)
    service.run(f"systemctl restart {SERVICE}")
    waiting.login()
    waiting.close()


def test_a_reload_takes_the_file_over_and_a_mistake_changes_nothing(service: Machine) -> None:
    """While a client is served."""
    file = service.path("/etc/forkbroker/forkbroker.toml")
    with connect(service) as client:
        pid = ask(service, "MainPID")
        file.write_text("max-clients = 1\n")
        service.run(f"systemctl reload {SERVICE}")
        wait_until(lambda: "max-clients" in journal(service), "the line about the reload")
        with service.network():
            refused = RawClient(PORT)
        refused.send("CONNECT", [("accept-version", "1.2"), ("host", "test")])
        refused.expect("ERROR")
        refused.close()
        file.write_text("max-clientz = 5\n")
        service.run(f"systemctl reload {SERVICE}", check=False)
        wait_until(lambda: "max-clientz" in journal(service), "the line about the mistake")
        client.sync()

        assert ask(service, "MainPID") == pid


def test_a_restart_gives_unsettled_messages_back(service: Machine) -> None:
    """A client that had one is told, and gets it again."""
    with connect(service) as client:
        client.publish(JOBS, "job", persistent="true")
        client.subscribe(JOBS, ack="client")
        client.expect_messages("job")
        service.run(f"systemctl restart {SERVICE}")
        client.expect_error("")
    with connect(service) as client:
        client.subscribe(JOBS, ack="client")
        (message,) = client.expect_messages("job")

        assert message["redelivered"] == "true"


def test_a_killed_parent_leaves_nothing_and_is_replaced(service: Machine) -> None:
    """kill -9: its children end, systemd starts another one, and stored messages are there."""
    with connect(service) as client:
        client.publish(JOBS, "kept", persistent="true")
        old = set(service.run("pgrep --uid stomp-broker").split())
        service.run(f"systemctl kill --kill-whom=main --signal=KILL {SERVICE}")
        client.expect_eof()
    wait_until(lambda: ask(service, "ActiveState") == "active" and ask(service, "MainPID") not in old, "a parent", 30.0)
    with connect(service) as client:
        client.subscribe(JOBS)
        client.expect_messages("kept")

    assert old.isdisjoint(service.run("pgrep --uid stomp-broker").split())
    service.run(f"systemctl stop {SERVICE}")
    assert service.run("ls /dev/shm") == ""


def test_another_host_logs_in_after_what_the_readme_says_and_not_before(service: Machine) -> None:
    """A password file, two options, and two lines for the unit, without which no packet comes through."""
    section = README.partition("## Run it beyond loopback\n")[2].partition("\n## ")[0]
    make_file, add_user = re.findall(r"^    (sudo .+)$", section, re.MULTILINE)
    options = "".join(re.findall(r"^    ([a-z-]+ = .+\n)", section.partition("Tables stand")[0], re.MULTILINE))
    (line,) = re.findall(r"^    \[Service\]\n    (.+)$", section, re.MULTILINE)
    service.run(f"ip address add 192.0.2.7/32 dev lo; {make_file}; echo secret | {add_user}")
    service.path("/etc/forkbroker/forkbroker.toml").write_text(options)
    service.run(f"systemctl restart {SERVICE}")
    with service.network(), socket.socket() as other:
        other.settimeout(1.5)
        with pytest.raises(TimeoutError):
            other.connect(("192.0.2.7", PORT))
    drop_in(service, line)
    with service.network():
        client = RawClient(PORT, "192.0.2.7")
    client.login(login="alice", passcode="secret")
    client.close()
    service.run("rm /etc/forkbroker/users")


def test_a_log_file_of_the_init_script_is_rotated(service: Machine) -> None:
    """The package has the rule for logrotate, and it is valid."""
    assert "error" not in service.run("logrotate --debug /etc/logrotate.d/stomp-broker 2>&1")


def test_the_init_script_does_not_start_a_second_broker_beside_systemd(service: Machine) -> None:
    """It asks systemd."""
    assert "Active: active (running)" in service.run("/etc/init.d/stomp-broker status")
    service.run("/etc/init.d/stomp-broker stop")
    assert ask(service, "ActiveState") == "inactive"


def test_an_upgrade_restarts_the_service_and_keeps_what_was_changed(service: Machine, package: Path) -> None:
    """Messages, the configuration, and whether it starts at boot."""
    newer = newer_package(package, service)
    service.path("/etc/forkbroker/forkbroker.toml").write_text("max-clients = 77\n")
    with connect(service) as client:
        pid = ask(service, "MainPID")
        client.publish(JOBS, "kept", persistent="true")
        service.run(f"dpkg --install {newer}")
        client.expect_error("")

    assert ask(service, "MainPID") not in (pid, "0")
    assert service.path("/etc/forkbroker/forkbroker.toml").read_text() == "max-clients = 77\n"
    with connect(service) as client:
        client.subscribe(JOBS)
        client.expect_messages("kept")
    service.run(f"systemctl disable --now {SERVICE}; dpkg --install {newer}")
    assert service.run(f"systemctl is-enabled {SERVICE}", check=False) == "disabled\n"
    assert ask(service, "ActiveState") == "inactive"


def newer_package(package: Path, machine: Machine) -> str:
    """Put the same package with another version into the machine; its name there."""
    name = f"/root/newer/{package.name}"
    machine.run(
        f"rm -rf /root/newer; mkdir -p /root/newer; dpkg-deb --raw-extract /root/dist/{package.name} /root/newer/tree; "
        "sed -i 's/^Version: .*/&+newer/' /root/newer/tree/DEBIAN/control; "
        f"dpkg-deb --root-owner-group --build /root/newer/tree {name}"
    )
    return name


def test_remove_keeps_what_belongs_to_the_administrator_and_purge_leaves_nothing(service: Machine) -> None:
    """Not even if it runs, by its socket, and with users; but for the user of the service, as Debian advises."""
    with connect(service) as client:
        client.publish(JOBS, "a", persistent="true")
    service.run(f"systemctl disable --now {SERVICE}; systemctl enable --now stomp-broker.socket")
    service.run("install -m 640 -g stomp-broker /dev/null /etc/forkbroker/users")
    connect(service).close()
    service.run("apt-get remove forkbroker")
    assert service.run("pgrep --count --uid stomp-broker", check=False) == "0\n"
    assert service.run("systemctl is-active stomp-broker.socket", check=False) != "active\n"
    assert service.path("/var/lib/forkbroker/queues.db").exists()
    assert service.path("/etc/forkbroker/forkbroker.toml").exists()
    assert not service.path("/usr/lib/forkbroker").exists()
    service.run("apt-get purge forkbroker")

    listed = service.run("cat /var/lib/dpkg/info/*.list").splitlines()
    of_others = {re.sub("^lib", "usr/lib", name.lstrip("/")) for name in listed} | {name.lstrip("/") for name in listed}
    left = files(service) - service.files_before - of_others  # type: ignore[attr-defined]
    of_python = re.compile("etc/inputrc|etc/python3|usr/local/lib/python3|.*/__pycache__")
    assert {name for name in left if re.search("forkbroker|stomp", name) or not of_python.match(name)} == set()
    service.run(f"apt-get install /root/dist/*.deb && systemctl is-active {SERVICE}")


@pytest.fixture(scope="module")
def prepared(base: Path, source: Path, room: Path) -> Path:
    """What a machine needs beyond the base for `make install`: what README says, the sources, and what PyPI has."""
    with Machine(room / "prepared", base) as made:
        made.put(source, "/root/forkbroker")
        made.put(next(ROOT.joinpath("dist").glob("*.whl")), "/root/wheels/")
        for command in commands_of_readme("python3-venv make"):
            made.prepare(command, timeout_s=300.0)
        made.prepare(
            "python3 -m venv /root/pip; cd /root/wheels;"
            "/root/pip/bin/pip download --quiet --require-hashes -r /root/forkbroker/etc/requirements.lock;"
            "/root/pip/bin/pip download --quiet 'setuptools>=77';"
            "printf '[global]\\nno-index = true\\nfind-links = /root/wheels\\n' > /etc/pip.conf",
            timeout_s=300.0,
        )
        return made.changes


@pytest.fixture
def bare(base: Path, prepared: Path, room: Path, tmp_path: Path) -> Iterator[Machine]:
    """A machine with the sources, booted; pip takes what it needs from files."""
    with Machine(room / tmp_path.name, prepared, base) as made:
        made.boot()
        yield made


def test_make_install_and_one_command_more_are_enough(bare: Machine) -> None:
    """And `make uninstall` leaves what belongs to the administrator, and nothing else."""
    before = files(bare)
    for command in commands_of_readme("make install"):
        bare.run(f"cd /root/forkbroker; {command}", timeout_s=300.0)
    with connect(bare) as client:
        client.publish(JOBS, "a", persistent="true")
    assert bare.run(f"systemctl is-enabled {SERVICE}") == "enabled\n"
    assert bare.run("pgrep -x stomp-broker").strip() == ask(bare, "MainPID")
    assert bare.run("stat -c %U /var/lib/forkbroker/queues.db") == "stomp-broker\n"
    assert bare.run("stomp-broker --version").startswith("stomp-broker ")
    bare.run("cd /root/forkbroker; sudo make uninstall")

    assert bare.run("pgrep --count --uid stomp-broker", check=False) == "0\n"
    left = files(bare) - before
    assert bare.path("/var/lib/forkbroker/queues.db").exists()
    assert {
        name for name in left if not name.startswith("var/lib/forkbroker") and not bare.path(name).is_dir()
    } == set()


def test_the_wheel_in_an_environment_makes_itself_a_service(bare: Machine) -> None:
    """By `install-service`, and the commands that it names."""
    *before, install = typed("stomp-brokerctl.1", "install-service")
    for command in before:
        bare.run(command, timeout_s=300.0)
    shown = bare.run(install)
    for command in re.findall(r"^    (.+)$", shown, re.MULTILINE):
        bare.run(command)
    connect(bare).close()

    assert bare.run("pgrep -x stomp-broker").strip() == ask(bare, "MainPID")
    assert bare.run("stat -c %a /etc/forkbroker") == "755\n"
    assert bare.run("stat -c %U /var/lib/forkbroker/queues.db") == "stomp-broker\n"
    again = bare.run(install)
    assert "\nwrote " not in f"\n{again}"
