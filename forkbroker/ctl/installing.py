"""The files of the service, for a program that pip or pipx has installed.

The wheel carries them as data, with the paths of a package of the system. Here they get the path of the program, and
are written where the administrator's files are, below /etc. Each begins with a hash of what follows: a file that still
has its hash is replaced when a newer program brings another one, and a file that somebody has changed is not.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from forkbroker.ctl.command import Command, Context, Param
from forkbroker.ctl.connection import CtlError
from forkbroker.errors import Exit
from forkbroker.posix.files import replace

UNIT = Path("/etc/systemd/system/stomp-broker.service")
TARGETS: Mapping[str, Path] = {
    "systemd/stomp-broker.service": UNIT,
    "systemd/stomp-broker.socket": UNIT.with_suffix(".socket"),
    "systemd/notify-reload.conf": Path(f"{UNIT}.d/notify-reload.conf"),
    "sysusers.d/forkbroker.conf": Path("/etc/sysusers.d/forkbroker.conf"),
    "tmpfiles.d/forkbroker.conf": Path("/etc/tmpfiles.d/forkbroker.conf"),
}
"""Where each file of the wheel is written."""

_ONLY_NEWER = "systemd/notify-reload.conf"
_KNOWS_NOTIFY_RELOAD = 253
"""The version of systemd that has Type=notify-reload."""

_UNITS_OF_PACKAGES = ("usr/local/lib/systemd/system", "usr/lib/systemd/system", "lib/systemd/system")
_HIDDEN = ("/home", "/root", "/run/user")
"""What ProtectHome=yes of the unit hides from the service (systemd.exec(5))."""

_HEAD = "# Written by stomp-brokerctl install-service, which replaces it while it is unchanged: sha256 "
_NEXT = """\
Next, as root:
    systemd-sysusers /etc/sysusers.d/forkbroker.conf
    systemd-tmpfiles --create /etc/tmpfiles.d/forkbroker.conf
    systemctl daemon-reload
    systemctl enable --now stomp-broker
Options of the broker go into /etc/forkbroker/forkbroker.toml; {example} has them all as comments."""


def _run(context: Context) -> int:
    parsed = context.parsed
    program = Path(sys.argv[0]).resolve().with_name("stomp-broker")
    try:
        source = find_source()
        texts = make_files(source, program)
        if parsed.only_print:
            print("\n".join(f"# {path}\n{text}" for path, text in texts.items()), end="")
            return Exit.OK
        check_program(program, Path(sys.executable))
        for path, written in install(texts, parsed.root, force=parsed.force):
            print(f"{'wrote' if written else 'is there already:'} {path}")
    except OSError as error:
        status = Exit.NOPERM if isinstance(error, PermissionError) else Exit.CANTCREAT
        raise CtlError(f"{error.filename}: {error.strerror}", status) from None
    print(_NEXT.format(example=source / "forkbroker.toml"))
    return Exit.OK


def find_source() -> Path:
    """Find the directory with the files: that of the wheel's data, or of a checkout. Raises CtlError."""
    with suppress(PackageNotFoundError):
        found = distribution("forkbroker")
        for name in found.files or ():
            if name.parts[-3:] == ("forkbroker", "systemd", UNIT.name):
                return Path(str(found.locate_file(name))).resolve().parents[1]
    checkout = Path(__file__).parents[2] / "etc"
    if checkout.joinpath("systemd", UNIT.name).exists():
        return checkout
    raise CtlError(
        "this forkbroker has no files of the service; the package that it came with has installed them",
        Exit.UNAVAILABLE,
    )


def make_files(source: Path, program: Path) -> dict[Path, str]:
    """Make the text of each file, by the path where it belongs. Raises CtlError, OSError."""
    if not re.fullmatch(r"[\w/.+@~-]+", str(program), re.ASCII):
        raise CtlError(f"{program}: a unit cannot name this; install it below a name without blanks", Exit.CONFIG)
    texts = {}
    for name, target in TARGETS.items():
        if name == _ONLY_NEWER and _find_systemd() < _KNOWS_NOTIFY_RELOAD:
            continue
        body = source.joinpath(name).read_text().replace("/usr/bin/stomp-broker", str(program))
        texts[target] = f"{_HEAD}{_hash(body)}\n{body}"
    return texts


def _find_systemd() -> int:
    """Return the version of systemd; 0: there is none."""
    if shutil.which("systemctl") is None:
        return 0
    shown = subprocess.run(["systemctl", "--version"], stdout=subprocess.PIPE, text=True, check=False).stdout
    found = re.match(r"systemd (\d+)", shown)
    return int(found[1]) if found else 0


def _hash(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()


def check_program(program: Path, interpreter: Path) -> None:
    """Raise CtlError where the service's own user could not run the program: it is in somebody's home, say."""
    if not os.access(program, os.X_OK):
        raise CtlError(f"{program}: there is no such program to start", Exit.NOINPUT)
    for path in (program, interpreter, interpreter.resolve()):
        for place in path.parents:
            if str(place) in _HIDDEN or not place.stat().st_mode & stat.S_IXOTH:
                raise CtlError(
                    f"{path}: the service has no access to {place}; install the program where all users can run it, "
                    "for example in a virtual environment /opt/forkbroker",
                    Exit.NOPERM,
                )


def install(texts: Mapping[Path, str], root: Path, *, force: bool = False) -> Iterator[tuple[Path, bool]]:
    """Write the files, and yield each name, and whether it was written; it is there already otherwise.

    Raises:
        CtlError: a file was changed, or a package has the service; then nothing is written, without `force`.
        OSError: a file cannot be written; those before it are.
    """
    places = {root / path.relative_to("/"): text for path, text in texts.items()}
    if not force:
        changed = [path for path, text in places.items() if not _may_replace(path, text)]
        if changed:
            raise CtlError(
                f"{', '.join(map(str, changed))}: was changed, or somebody else has written it; nothing is written "
                "(--force replaces it, --print shows what would be written)",
                Exit.CANTCREAT,
            )
        for directory in _UNITS_OF_PACKAGES:
            if (there := root / directory / UNIT.name).exists():
                raise CtlError(
                    f"{there}: the service is installed already; nothing is written (--force hides that unit)",
                    Exit.CANTCREAT,
                )
    for path, text in places.items():
        if _read(path) == text:
            yield path, False
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            replace(path, text.encode(), mode=0o644)
            yield path, True


def _may_replace(path: Path, text: str) -> bool:
    """Whether the file does not exist, is the same, or is as another version of this command has written it."""
    if path.is_symlink():
        return False
    there = _read(path)
    head, _, body = (there or "").partition("\n")
    return there in (None, text) or head == f"{_HEAD}{_hash(body)}"


def _read(path: Path) -> str | None:
    try:
        return path.read_bytes().decode(errors="surrogateescape")
    except FileNotFoundError:
        return None


COMMANDS = (
    Command(
        "install-service",
        "write the files of the service for systemd, and say what to do next",
        _run,
        (
            Param("--print", "print the files, and write nothing", dest="only_print"),
            Param("--force", "replace files that somebody has changed"),
            Param("--root", "write below DIR", "DIR", Path, Path("/"), completes="file"),
        ),
    ),
)
