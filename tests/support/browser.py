"""Debian's Chromium, told by a test what to do: `tests/web/browser.js`, by playwright-core."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from support.deadline import stretched, wait_until
from support.javascript import CHROMIUM, DIRECTORY, NODE, install_modules
from support.leftovers import processes


class Browser:
    """A browser, from the entry of the `with` block to its end."""

    def __init__(self, profile: Path) -> None:
        """`profile` is the directory of its user's data."""
        self._profile = profile

    def __enter__(self) -> Self:
        assert NODE is not None and CHROMIUM is not None
        command = [NODE, str(DIRECTORY / "browser.js"), str(install_modules()), CHROMIUM, str(self._profile)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._process.communicate(timeout=stretched(10))
            wait_until(lambda: not processes(self._process.pid), "the end of the browser")
        finally:
            if processes(self._process.pid):
                os.killpg(self._process.pid, signal.SIGKILL)

    def run(self, page: str, script: str, **given: Any) -> Any:
        """Run a script in node, which has `page`, a Page of playwright, and `given`; what it returns.

        A page is opened when its name is used for the first time. What a script waits for, it waits for 30 s.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps({"page": page, "script": script, "given": given}) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline() or '{"error": "the browser has ended"}')
        assert "error" not in answer, f"{page}: {answer['error']}\n{script}"
        return answer["result"]
