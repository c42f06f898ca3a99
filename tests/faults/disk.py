"""A small disk whose contents can be photographed while a broker writes to it: what a power cut at that moment leaves.

The disk is an ext4 file system in an image file behind a loop device. What the broker has not synced is in the page
cache of that file system and not in the image, so a copy of the image is what a machine would find after its power
came back. Mounting the copy replays the journal of ext4, as a machine does when it starts.

A copy is only true if nothing was written to the image while it was made: a commit record without the data that were
written before it is no state in which a disk can be. The kernel counts writes, so a copy during which the count has
changed is made again.

The image stands for a disk without a write cache of its own: what the kernel has given to it survives.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from support.deadline import stretched

_MEBIBYTES = 192
_TOOLS = ("mkfs.ext4", "mount", "umount", "losetup")
_COPY_WITHIN_S = 20.0


def find_obstacle() -> str:
    """Why disks can't be made here; empty if they can."""
    if os.geteuid() != 0:
        return "needs root, to mount an image"
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if missing:
        return f"needs {' and '.join(missing)} (Debian: e2fsprogs, mount)"
    if subprocess.run(["losetup", "--find"], capture_output=True, check=False).returncode:
        return "needs a loop device, and there is none"
    return ""


class Disk:
    """A mounted image. Use it in a `with` block, which unmounts it."""

    def __init__(self, image: Path, mountpoint: Path) -> None:
        """Make an empty file system in `image` unless the file exists; it will be mounted at `mountpoint`."""
        self.mountpoint = mountpoint
        self._image = image
        self._writes = Path()
        if not image.exists():
            with image.open("wb") as file:
                file.truncate(_MEBIBYTES << 20)
            # a journal of the smallest size, and no lazy initialisation that would write later
            options = ["-E", "lazy_itable_init=0,lazy_journal_init=0", "-J", "size=4", "-m", "0"]
            _run("mkfs.ext4", "-q", "-F", *options, image)

    def __enter__(self) -> Self:
        self.mountpoint.mkdir(exist_ok=True)
        device = _run("losetup", "--find", "--show", self._image)
        try:
            _run("mount", device, self.mountpoint)
        finally:
            # the device goes when it is unmounted
            _run("losetup", "--detach", device)
        self._writes = Path("/sys/block") / Path(device).name / "stat"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _run("umount", self.mountpoint)

    def photograph(self, copy: Path) -> None:
        """Make `copy` of what is on the disk at one moment, and of nothing that is only in memory."""
        give_up = time.monotonic() + stretched(_COPY_WITHIN_S)
        while True:
            before = self._count_writes()
            _run("cp", "--sparse=always", self._image, copy)
            if before is not None and before == self._count_writes():
                return
            assert time.monotonic() < give_up, "the disk is written to without a pause, and cannot be photographed"

    def _count_writes(self) -> str | None:
        """How many writes the device has had; None while there are some under way."""
        fields = self._writes.read_text().split()
        return None if int(fields[8]) else f"{fields[4]} {fields[6]}"


def _run(*command: str | Path) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command[0]}: {done.stderr}"
    return done.stdout.strip()
