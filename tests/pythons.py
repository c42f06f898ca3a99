#!/usr/bin/env python3
"""Runs the tests of the rules under each of these versions of Python that this machine has: `make test-pythons`.

A version is found by its name on the path, or among the versions of pyenv. Each has a virtual environment of its own,
.venv/pythons/VERSION. One that is not found is named, and is no failure; if none is found, that is one.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
RULES = [
    "config",
    "routing",
    "session",
    "stomp",
    "wire",
    *sorted(path.name for path in (ROOT / "tests").glob("test_*.py")),
]
"""Tests without processes: what could differ between versions is the language and the library."""


def find_python(version: str) -> Path | None:
    """Find an interpreter of this version, such as 3.12, that runs."""
    named = shutil.which(f"python{version}")
    of_pyenv = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python{version}"))
    for path in [*([Path(named)] if named else []), *of_pyenv]:
        # what pyenv has on the path is a script that may find nothing
        shown = subprocess.run(
            [path, "-c", "import sys, venv; print('%d.%d' % sys.version_info[:2])"], capture_output=True
        )
        if shown.stdout.decode().strip() == version:
            return path
    return None


def test(version: str, python: Path, pip_flags: list[str], arguments: list[str]) -> bool:
    """Run the tests; whether all have passed."""
    venv = ROOT / ".venv" / "pythons" / version
    if not venv.joinpath("installed").exists():
        subprocess.run([python, "-m", "venv", "--clear", venv], check=True)
        pip = [venv / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *pip_flags]
        subprocess.run([*pip, "--editable", f"{ROOT}[test]"], check=True)
        venv.joinpath("installed").touch()
    tests = [ROOT / "tests" / name for name in RULES]
    command = [venv / "bin" / "python", "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments, *tests]
    return subprocess.run(command, cwd=ROOT).returncode == 0


def main() -> int:
    """Run them all; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("versions", metavar="VERSION", nargs="+", help="such as 3.12")
    parser.add_argument("--pip", default="", help="options for pip")
    parser.add_argument("--pytest", default="", help="options for pytest")
    parsed = parser.parse_args()
    results = {}
    for version in parsed.versions:
        if python := find_python(version):
            print(f"== Python {version}, {python}", flush=True)
            passed = test(version, python, parsed.pip.split(), parsed.pytest.split())
            results[version] = "passed" if passed else "FAILED"
        else:
            results[version] = "not on this machine"
    print("\n".join(f"Python {version}: {result}" for version, result in results.items()))
    return 0 if "passed" in results.values() and "FAILED" not in results.values() else 1


if __name__ == "__main__":
    sys.exit(main())
