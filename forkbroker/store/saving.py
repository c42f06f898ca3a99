"""The process that makes a backup: it lives as long as that takes, and says what has come of it (SAVED or FAILED)."""

from __future__ import annotations

import logging
import os
import socket
from contextlib import suppress

from forkbroker.errors import Exit
from forkbroker.posix.titles import set_title
from forkbroker.store.api import Store, StoreError
from forkbroker.wire.envelope import pack
from forkbroker.wire.kinds import Kind

log = logging.getLogger(__name__)

_NICE = 10
"""The store's process comes first, and so do the clients."""


def main(end: socket.socket, store: Store, name: str) -> int:
    """Back the store up under this name, and say so; the exit status. `end` is this process's end of the channel."""
    set_title("backup")
    parent = os.getppid()
    with suppress(OSError):
        os.nice(_NICE)
    try:
        saved = store.back_up(name, lambda: os.getppid() == parent)
        said = pack(
            Kind.SAVED, number=saved.messages, serial=saved.octets, block=saved.where.encode("utf-8", "surrogateescape")
        )
        status = Exit.OK
    except StoreError as error:
        said = pack(Kind.FAILED, token=error.status, block=str(error).encode("utf-8", "replace"))
        status = Exit(error.status)
    end.setblocking(True)
    with suppress(BrokenPipeError):
        # the broker may have ended meanwhile
        end.sendall(b"".join(said))
    end.close()
    return status
