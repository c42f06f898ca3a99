"""Users, and what the system lets a process use.

The parent starts with the rights that its start needs (ports below 1024, files in directories of root) and gives them
up for good before the first client. Everything that is needed later must be open, or imported, by then: after it, even
the interpreter's own directory may be unreadable.
"""

from __future__ import annotations

import grp
import os
import pwd
import resource
from dataclasses import dataclass

from forkbroker.errors import Exit, StartError


@dataclass(frozen=True, slots=True)
class SystemUser:
    """Whom the broker becomes."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    """Supplementary groups, as the group database has them for the user."""


def resolve(user: str | None, group: str | None) -> SystemUser | None:
    """Look `user` and `group` up, by name or number; None when neither is given.

    Without `group` it is the user's own; without `user` this process's user stays.

    Raises:
        StartError: there is no such user or group, or this process may not become it.
    """
    if user is None and group is None:
        return None
    entry = find_user(user, "--user") if user is not None else None
    uid = entry.pw_uid if entry else os.getuid()
    gid = find_group(group, "--group") if group is not None else entry.pw_gid if entry else os.getgid()
    name = entry.pw_name if entry else str(uid)
    groups = tuple(os.getgrouplist(name, gid)) if entry else (gid,)
    if os.geteuid() != 0 and (uid, gid) != (os.getuid(), os.getgid()):
        raise StartError(f"only root can become user {name}, group {gid}; start as root, or as that user", Exit.NOPERM)
    return SystemUser(name, uid, gid, groups)


def resolve_user(user: str, option: str) -> SystemUser:
    """Look a user up by name or number, with the groups of the user. `option` is named in errors.

    Raises:
        StartError: there is no such user, or this process may not become it.
    """
    entry = find_user(user, option)
    if os.geteuid() not in (0, entry.pw_uid):
        raise StartError(
            f"only root can become user {entry.pw_name}; start as root, or give another {option}", Exit.NOPERM
        )
    return SystemUser(entry.pw_name, entry.pw_uid, entry.pw_gid, tuple(os.getgrouplist(entry.pw_name, entry.pw_gid)))


def find_user(user: str, option: str) -> pwd.struct_passwd:
    """Look a user up by name or number. `option` is named if there is none.

    Raises:
        StartError: there is no such user.
    """
    try:
        return pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
    except (KeyError, OverflowError):
        raise StartError(f"no user {user} on this system; create it, or give another {option}", Exit.NOUSER) from None


def find_group(group: str, option: str) -> int:
    """The number of a group, looked up by name or number. `option` is named if there is none.

    Raises:
        StartError: there is no such group.
    """
    try:
        return (grp.getgrgid(int(group)) if group.isdecimal() else grp.getgrnam(group)).gr_gid
    except (KeyError, OverflowError):
        raise StartError(f"no group {group} on this system; create it, or give another {option}", Exit.NOUSER) from None


def drop(system_user: SystemUser) -> None:
    """Become `system_user`, for good.

    Groups first and the user last: after the user is changed nothing else can be. Real, effective and saved numbers
    are all set, so there is no way back; that is tried.

    Raises:
        StartError: the system refuses.
    """
    if os.geteuid() != 0:
        return
    try:
        os.setgroups(system_user.groups)
        os.setresgid(system_user.gid, system_user.gid, system_user.gid)
        os.setresuid(system_user.uid, system_user.uid, system_user.uid)
    except OSError as error:
        raise StartError(f"cannot become user {system_user.name}: {error.strerror}", Exit.NOPERM) from error
    if system_user.uid != 0:
        _check_no_way_back(system_user)


def _check_no_way_back(system_user: SystemUser) -> None:
    try:
        os.setuid(0)
    except PermissionError:
        return
    raise AssertionError(f"user {system_user.name} could become root again")


def raise_file_limit() -> int:
    """Use as many descriptors as the administrator permits, one or two for each client; gives that number."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def apply_limits(*, memory_bytes: int | None, cpu_s: int | None, files: int | None) -> None:
    """Limit this process for good; None leaves a limit as it is. For a child, before it reads from its client.

    `memory_bytes` is address space, shared pages and the interpreter included, so 100 MiB is little; at the limit the
    process meets a MemoryError. `cpu_s` is processor time; at the limit SIGXCPU ends it, a second later SIGKILL.
    `files` is the number of open descriptors.
    """
    if memory_bytes is not None:
        _lower(resource.RLIMIT_AS, memory_bytes, memory_bytes)
    if cpu_s is not None:
        _lower(resource.RLIMIT_CPU, cpu_s, cpu_s + 1)
    if files is not None:
        _lower(resource.RLIMIT_NOFILE, files, files)


def lower_limits(*, memory_bytes: int, cpu_s: int, nice: int) -> None:
    """As `apply_limits`, for a process whose client has shown who it is; 0 leaves a limit as it is.

    `nice` is how much lower its priority is from now on.
    """
    apply_limits(memory_bytes=memory_bytes or None, cpu_s=cpu_s or None, files=None)
    if nice:
        os.nice(nice)


def _lower(limit: int, soft: int, hard: int) -> None:
    """Set a limit, but never above the one that is there: only root could, and nobody means to."""
    ceiling = resource.getrlimit(limit)[1]
    if ceiling != resource.RLIM_INFINITY:
        soft, hard = min(soft, ceiling), min(hard, ceiling)
    resource.setrlimit(limit, (soft, hard))
