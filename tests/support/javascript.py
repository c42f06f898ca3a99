"""What is written in JavaScript and tested here: its packages, and where the programs are that run it.

The packages of `tests/web/package-lock.json` are installed once, beside the virtual environment: nothing of them is in
the tree.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DIRECTORY = Path(__file__).parents[1] / "web"
NODE, NPM = shutil.which("node"), shutil.which("npm")
CHROMIUM = shutil.which("chromium")
needs_node = pytest.mark.skipif(NODE is None or NPM is None, reason="install node and npm (Debian: nodejs, npm)")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="install chromium")
_INSTALL_S = 180


def install_modules() -> Path:
    """Where the packages are installed; skip the test if they cannot be fetched."""
    assert NPM is not None
    files = [DIRECTORY / name for name in ("package.json", "package-lock.json")]
    name = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]
    home = Path(sys.prefix) / "web" / name
    home.mkdir(parents=True, exist_ok=True)
    with (home / "lock").open("w") as lock:
        # each worker of the tests comes by
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / "installed").exists():
            for file in files:
                shutil.copy(file, home)
            command = [NPM, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
            done = subprocess.run(command, cwd=home, capture_output=True, text=True, timeout=_INSTALL_S)
            if done.returncode:
                pytest.skip(f"npm cannot fetch the packages: {done.stderr.strip().splitlines()[-1:]}")
            (home / "installed").touch()
    return home
