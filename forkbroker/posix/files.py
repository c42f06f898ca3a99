"""Opening files that are named by options, with the rights of root and without being led astray.

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


def explain(error: OSError) -> str:
    """Say why a file cannot be opened."""
    if error.errno == errno.ELOOP:
        return "it is a link, which root does not follow; remove it, or name the file that is meant"
    return error.strerror or str(error)
