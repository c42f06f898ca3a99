"""Who is at the other end of a Unix socket, as the kernel says: the user that the client had when it connected.

Linux has getsockopt SO_PEERCRED (unix(7)); the BSDs and macOS have getpeereid(3).
"""

from __future__ import annotations

import ctypes
import grp
import os
import pwd
import socket
import struct
from contextlib import suppress

_CREDENTIALS = struct.Struct("3i")
"""struct ucred: process, user, group."""


def uid_of(client: socket.socket) -> int | None:
    """The number of the user at the other end; None: it is no Unix socket, or the system does not say."""
    if client.family != socket.AF_UNIX:
        return None
    with suppress(OSError):
        if hasattr(socket, "SO_PEERCRED"):
            octets = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
            _, uid, _ = _CREDENTIALS.unpack(octets)
            return int(uid) if uid >= 0 else None
        return _getpeereid(client.fileno())
    return None


def _getpeereid(fd: int) -> int | None:
    function = getattr(ctypes.CDLL(None), "getpeereid", None)
    uid, gid = ctypes.c_uint(), ctypes.c_uint()
    if function is None or function(fd, ctypes.byref(uid), ctypes.byref(gid)):
        return None
    return uid.value


def user_name(uid: int) -> str:
    """The name of a user of the system; the number if there is none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def is_member(uid: int, group: str) -> bool:
    """Whether a user of the system is in this group; a group that there is not has no members."""
    try:
        user, gid = pwd.getpwuid(uid), grp.getgrnam(group).gr_gid
    except KeyError:
        return False
    return gid in os.getgrouplist(user.pw_name, user.pw_gid)
