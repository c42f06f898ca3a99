"""A broker whose addresses are in its configuration file as well: a reload can change them."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

from forkbroker.testing.broker import PATIENCE_S
from support.deadline import stretched, wait_until


class FileBroker:
    """A broker in the foreground whose only option is its file."""

    def __init__(self, directory: Path, text: str) -> None:
        """Start, and return when clients can connect."""
        self.file, self._log = directory / "f.toml", directory / "stderr"
        self.file.write_text(text)
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "forkbroker", "--config", str(self.file), "--store", "memory:"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        self.addresses = re.findall(r"^listening on (.+)$", self._read_addresses(), re.MULTILINE)
        """All that it listens on at first, in the order of the file."""
        self._said = 0

    @property
    def port(self) -> int:
        """Of the first address."""
        return int(self.addresses[0].rpartition(":")[2])

    def _read_addresses(self) -> str:
        """It writes all its addresses at once."""
        assert self.process.stdout is not None
        said, give_up = b"", time.monotonic() + stretched(PATIENCE_S)
        while not said.endswith(b"\n"):
            ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, give_up - time.monotonic()))
            piece = os.read(self.process.stdout.fileno(), 65_536) if ready else b""
            assert piece, self.log
            said += piece
        return said.decode()

    @property
    def log(self) -> str:
        """What was logged."""
        return self._log.read_text()

    def reload(self, text: str) -> str:
        """Change the file, and wait for what the broker says to it."""
        self.begin_reload(text)
        wait_until(self._lines, "a word about the reload")
        return self.end_reload()

    def begin_reload(self, text: str) -> None:
        """Change the file, and let the broker read it."""
        self.file.write_text(text)
        self.process.send_signal(signal.SIGHUP)

    def end_reload(self) -> str:
        """What the broker has said to it; nothing if it has not."""
        lines = self._lines()
        self._said += len(lines)
        return lines[-1] if lines else ""

    def _lines(self) -> list[str]:
        return [line[24:] for line in self.log.splitlines() if " reload: " in line][self._said :]

    def stop(self) -> int:
        """End it with SIGTERM; its exit status."""
        self.process.terminate()
        try:
            return self.process.wait(stretched(PATIENCE_S))
        finally:
            self.process.kill()
            self.process.wait()
            assert self.process.stdout is not None
            self.process.stdout.close()
