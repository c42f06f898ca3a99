"""Envelopes that bring descriptors along: how a socket gets from one process of the broker to another (SCM_RIGHTS).

The receiver is a process that does nothing but wait for such an envelope, and takes one at a time, without buffering:
what its channel holds behind is left there for whoever reads it afterwards. The sender writes it with `Channel.hand`.
The envelope is not made an object here: nursery and spares touch as few pages as they can. (Frames in a file come among
other envelopes: `forkbroker.wire.channel.FileChannel`.)

On a stream, descriptors come with the first octets of what they were sent with. So these are read alone: a read that
takes octets of two envelopes could lose a descriptor on one system or another.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence

from forkbroker.errors import EnvelopeError
from forkbroker.wire.envelope import HEADER, LENGTH

_BITS = 26
MOST = (1 << _BITS) - 1
"""Octets that an envelope may have which is received in this way: EQUIP has all users."""
MOST_DESCRIPTORS = 8

_LENGTH = 4
_ONE = struct.Struct("i")
_SIZE = _ONE.size
_LEAST = HEADER.size
_WHOLE = int(socket.MSG_WAITALL)
_ROOM = socket.CMSG_SPACE(MOST_DESCRIPTORS * _SIZE)
ROOM_FOR_ONE = socket.CMSG_SPACE(_SIZE)
"""What recvmsg(2) needs for one descriptor; `unpack_one` makes it of what comes."""


def unpack_one(ancillary: Sequence[tuple[int, int, bytes]]) -> int:
    """The descriptor that recvmsg(2) gave, where there is one."""
    (descriptor,) = _ONE.unpack(ancillary[0][2])
    return int(descriptor)


def rights(descriptors: Sequence[int]) -> list[tuple[int, int, bytes]]:
    """What sendmsg(2) is given to send copies of descriptors."""
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack(f"{len(descriptors)}i", *descriptors))]


def receive(end: socket.socket) -> tuple[bytes, tuple[int, ...]] | None:
    """Wait for an envelope on a blocking socket: its octets, and the descriptors that come with it.

    None: the other side is gone.

    Raises:
        EnvelopeError: what came is no envelope, or none of this length can be.
    """
    try:
        start, ancillary, _flags, _address = end.recvmsg(_LENGTH, _ROOM)
    except ConnectionResetError:  # it is gone, and has not read all that it was sent
        return None
    descriptors = ()
    if ancillary:
        octets = ancillary[0][2]
        one_alone = len(octets) == _SIZE
        descriptors = _ONE.unpack_from(octets) if one_alone else struct.unpack(f"{len(octets) // _SIZE}i", octets)
    if len(start) < _LENGTH:
        return None
    # `unpack_from` as well, as everywhere else: another method is another page
    (total,) = LENGTH.unpack_from(start)
    # two small numbers, which the interpreter has in one place: another one is another page
    if total < _LEAST or total >> _BITS:
        raise EnvelopeError(f"an envelope of {total} bytes with a descriptor, {MOST} permitted")
    raw = start + end.recv(total - _LENGTH, _WHOLE)
    return (raw, descriptors) if len(raw) == total else None
