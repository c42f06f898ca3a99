"""Opening files that are named by options, with the rights of root and without being led astray; replacing files.

A directory that a user may write can have a link in the place of a log or a pidfile: root would write into whatever it
leads to, or give that file away. So root follows no link in the last part of a name, and takes no file that belongs to
somebody else or has a second name. All is asked of the open descriptor, never of the name: what a name means may change
in between. Without the rights of root a process cannot be led to anything that it may not do anyway.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection
from pathlib import Path


def open_own(path: Path, flags: int, mode: int, owners: Collection[int] = ()) -> int:
    """Open `path`, or create it; root takes only files of its own, of the users in `owners`, or devices and FIFOs.

    Raises:
        OSError: as open(2); for root also if the file is a link, has another owner, or several names.
    """
    if os.geteuid() != 0:
        return os.open(path, flags, mode)
    fd = os.open(path, flags | os.O_NOFOLLOW, mode)
    problem = _find_problem(os.fstat(fd), {0, *owners})
    if problem:
        os.close(fd)
        raise PermissionError(errno.EPERM, problem, str(path))
    return fd


def _find_problem(found: os.stat_result, owners: Collection[int]) -> str:
    if found.st_uid not in owners:
        return f"it belongs to user {found.st_uid}; remove it, or change its owner"
    if stat.S_ISREG(found.st_mode) and found.st_nlink > 1:
        return "it has other names (hard links); remove it"
    return ""


def replace(path: Path, octets: bytes, *, mode: int, owner: tuple[int, int] | None = None) -> None:
    """Give a file another content, so that each reader, and the disk, has the old one or the new one as a whole.

    The new file is written beside the old one, and takes its name when it is on the disk. A death before that leaves it
    there, and the next call removes it. `owner`: user and group; None: those of this process.

    Raises:
        OSError: it cannot be written, and the old file is as it was; or nobody knows whether the new one has its name
            on the disk.
    """
    beside = path.with_name(f".{path.name}.new")
    beside.unlink(missing_ok=True)
    fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            if owner is not None and owner != (os.geteuid(), os.getegid()):
                os.fchown(fd, *owner)
            os.fchmod(fd, mode)
            file.write(octets)
            file.flush()
            os.fsync(fd)
        beside.rename(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def explain(error: OSError) -> str:
    """Say why a file cannot be opened."""
    if error.errno == errno.ELOOP:
        return "it is a link, which root does not follow; remove it, or name the file that is meant"
    return error.strerror or str(error)
