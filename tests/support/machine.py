"""A fresh Debian whose systemd runs as process 1, in namespaces of its own: what an administrator begins with.

The base is made once by debootstrap, of the release and from the mirror that this machine has. A machine is an overlay
on a base, so it can be thrown away. It has its own processes, mounts, network (loopback only), semaphores and control
groups. Its mounts are in its mount namespace; if the test is killed, process 1 is killed, and with it all others.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from support.deadline import stretched, wait_until

TOOLS = {"debootstrap": "debootstrap", "unshare": "util-linux", "nsenter": "util-linux", "setpriv": "util-linux"}
_AUTHORITIES = "/etc/authorities.pem"
"""Whom this machine trusts: the way to PyPI may lead through a proxy of its own."""
_CLONE_NEWNET = 0x40000000
_COMMAND_S = 120.0
_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}

_OVERLAY = """
set -eu
mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=$LOWER,upperdir=$HERE/upper,workdir=$HERE/work" "$HERE/root"
cd "$HERE/root"
"""
"""In a mount namespace: the overlay, which nobody else sees."""

_UNBOOTED = f"""
{_OVERLAY}
mount -t proc proc proc
mount --bind /dev dev
exec chroot . sh -ec "$1"
"""

_BOOT = f"""
{_OVERLAY}
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
mount -t tmpfs -o mode=755 tmpfs dev
for device in null zero full random urandom tty; do
    touch "dev/$device"
    mount --bind "/dev/$device" "dev/$device"
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
mount -t tmpfs tmpfs dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mkdir -p run/old
pivot_root . run/old
umount -l /run/old
exec env -i container=chroot /lib/systemd/systemd --log-target=journal --show-status=no
"""

_ENTER_GROUP = 'echo $$ > "$GROUP/cgroup.procs"; exec "$@"'
_UNSHARE = ["unshare", "--pid", "--fork", "--kill-child", "--mount", "--net", "--uts", "--ipc", "--cgroup"]


def find_obstacle() -> str:
    """Why no machine can be booted here; empty if one can."""
    if os.geteuid() != 0:
        return "needs root, to make namespaces"
    if missing := [f"{tool} (Debian: {package})" for tool, package in TOOLS.items() if shutil.which(tool) is None]:
        return f"needs {' and '.join(missing)}"
    if not _find_release():
        return "needs Debian or Ubuntu: /etc/os-release names no VERSION_CODENAME, or /etc/apt no mirror for it"
    if _find_groups() is None:
        return "needs control groups of version 2, and none are mounted"
    tried = subprocess.run([*_UNSHARE, "true"], capture_output=True, text=True, check=False)
    return f"cannot make namespaces: {tried.stderr.strip()}" if tried.returncode else ""


def _find_release() -> tuple[str, str] | None:
    """Return the code name of this machine's release, and the mirror of its packages."""
    with suppress(OSError):
        found = re.search(r'^VERSION_CODENAME="?(\w+)', Path("/etc/os-release").read_text(), re.MULTILINE)
        release = found[1] if found else ""
        lists = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").iterdir())]
        text = "\n".join(path.read_text() for path in lists if path.exists())
        one_line = rf"^deb (?:\[.*\] )?(\S+) {release} "
        stanza = rf"^URIs: (\S+)\nSuites: (?:.* )?{release}(?: |$)"
        if release and (mirror := re.search(f"{one_line}|{stanza}", text, re.MULTILINE)):
            return release, mirror[1] or mirror[2]
    return None


def _find_groups() -> Path | None:
    mounts = (line.split() for line in Path("/proc/self/mounts").read_text().splitlines())
    return next((Path(words[1]) for words in mounts if words[2] == "cgroup2"), None)


def make_base(directory: Path, packages: Sequence[str]) -> None:
    """Install a minimal Debian with systemd and these packages into a directory. Raises CalledProcessError."""
    found = _find_release()
    assert found is not None
    release, mirror = found
    settings = directory / "etc" / "dpkg" / "dpkg.cfg.d"
    settings.mkdir(parents=True)
    settings.joinpath("forkbroker-test").write_text("force-unsafe-io\n")  # it need not survive a power failure
    wanted = ",".join(["systemd", "systemd-sysv", "dbus", *packages])
    _run(["debootstrap", "--variant=minbase", f"--include={wanted}", release, str(directory), mirror], timeout_s=600.0)
    for name in ("resolv.conf", "hosts"):
        shutil.copy(Path("/etc", name), directory / "etc" / name)
    shutil.copy(os.environ.get("PIP_CERT", "/etc/ssl/certs/ca-certificates.crt"), directory / _AUTHORITIES.lstrip("/"))


def _run(
    command: Sequence[str], *, env: Mapping[str, str] | None = None, timeout_s: float = _COMMAND_S, check: bool = True
) -> str:
    ended = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=None if env is None else {**_ENVIRONMENT, **env},
        timeout=stretched(timeout_s),
        check=False,
    )
    assert not check or ended.returncode == 0, f"{command} ended with {ended.returncode}: {ended.stdout}"
    return ended.stdout


class Machine:
    """A machine on a base, before and after its boot. Use it in a `with` block, which ends it."""

    def __init__(self, directory: Path, *below: Path) -> None:
        """`directory` takes what is changed; what is `below`, the uppermost first, stays as it is."""
        self._directory = directory
        self._below = below
        self._unshare: subprocess.Popen[bytes] | None = None
        self._group: Path | None = None
        self.pid = 0
        """Process 1 of the machine, as this machine numbers it; 0: it is not booted."""
        for name in ("upper", "work", "root"):
            (directory / name).mkdir(parents=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def _settings(self) -> dict[str, str]:
        return {"LOWER": ":".join(map(str, self._below)), "HERE": str(self._directory)}

    @property
    def changes(self) -> Path:
        """What it has that is not below it: with that, the base of other machines."""
        return self._directory / "upper"

    def prepare(self, command: str, timeout_s: float = _COMMAND_S) -> str:
        """Have a shell run a command before the boot, as root with the network of this machine; what it prints."""
        assert not self.pid
        of_pip = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
        env = {**self._settings, "DEBIAN_FRONTEND": "noninteractive", **of_pip, "PIP_CERT": _AUTHORITIES}
        return _run(
            ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", _UNBOOTED, "sh", command],
            env=env,
            timeout_s=timeout_s,
        )

    def put(self, source: Path, target: str) -> None:
        """Copy a file or directory into the machine, before its boot; `target` is absolute, and may end in / ."""
        assert not self.pid
        place = self._directory / "upper" / target.lstrip("/")
        (place if target.endswith("/") else place.parent).mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, place, symlinks=True)
        else:
            shutil.copy(source, place)

    def boot(self) -> None:
        """Start systemd, and return when it has started what it starts by itself."""
        groups = _find_groups()
        assert groups is not None
        self._group = groups / f"forkbroker-test-{os.getpid()}-{self._directory.name}"
        self._group.mkdir()
        die_with_us = ["setpriv", "--pdeathsig", "KILL"]
        with self._directory.joinpath("boot.log").open("wb") as log:
            self._unshare = subprocess.Popen(
                ["sh", "-c", _ENTER_GROUP, "sh", *die_with_us, *_UNSHARE, "sh", "-c", _BOOT],
                env={**_ENVIRONMENT, **self._settings, "GROUP": str(self._group)},
                stdin=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )
        self.pid = wait_until(self._find_first, "the machine's process 1")
        wait_until(
            lambda: "running" in self.run("systemctl is-system-running", check=False).split(),
            "the end of the boot",
            60.0,
        )

    def _find_first(self) -> int:
        """Return the process that unshare has made, once it is systemd."""
        assert self._unshare is not None
        pid = self._unshare.pid
        assert self._unshare.poll() is None, f"no boot: {(self._directory / 'boot.log').read_text()}"
        with suppress(OSError):
            for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
                if Path(f"/proc/{child}/comm").read_text() == "systemd\n":
                    return int(child)
        return 0

    def run(self, command: str, *, check: bool = True, timeout_s: float = _COMMAND_S) -> str:
        """Have the machine's shell run a command as root; what it prints."""
        assert self.pid
        return _run(
            ["nsenter", "--target", str(self.pid), "--all", "--wd", "sh", "-c", command],
            env={"HOME": "/root", "SYSTEMD_PAGER": "", "DEBIAN_FRONTEND": "noninteractive"},
            check=check,
            timeout_s=timeout_s,
        )

    def path(self, name: str) -> Path:
        """Return where a file of the machine is seen from here."""
        assert self.pid
        return Path(f"/proc/{self.pid}/root", name.lstrip("/"))

    @contextmanager
    def network(self) -> Iterator[None]:
        """Make sockets of this thread in the machine's network; they stay there."""
        libc = ctypes.CDLL(None, use_errno=True)
        own = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        other = os.open(f"/proc/{self.pid}/ns/net", os.O_RDONLY)
        try:
            assert libc.setns(other, _CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
            try:
                yield
            finally:
                assert libc.setns(own, _CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        finally:
            os.close(own)
            os.close(other)

    def stop(self) -> None:
        """Kill process 1, and with it all others."""
        if self._unshare is None:
            return
        if self.pid:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        else:
            self._unshare.kill()
        self._unshare.wait(stretched(_COMMAND_S))
        self._unshare = None
        self.pid = 0
        assert self._group is not None
        wait_until(self._remove_groups, f"an empty {self._group}")

    def _remove_groups(self) -> bool:
        assert self._group is not None
        for directory, _, _ in os.walk(self._group, topdown=False):
            with suppress(OSError):
                Path(directory).rmdir()
        return not self._group.exists()
