"""Reading a passcode: from the terminal, twice and without an echo, or the first line of standard input."""

from __future__ import annotations

import getpass
import sys

from forkbroker.errors import ForkbrokerError


class PasscodeError(ForkbrokerError):
    """No passcode was given that can be used."""


def read_passcode(name: str) -> str:
    """Read the new passcode of a user.

    Raises:
        PasscodeError: it is empty, is not text, or was not the same twice.
    """
    passcode = _ask(name) if sys.stdin.isatty() else _read_line()
    if not passcode:
        raise PasscodeError("the passcode is empty")
    return passcode


def _ask(name: str) -> str:
    try:
        passcode = getpass.getpass(f"Passcode for {name}: ")
        again = getpass.getpass("Once more: ")
    except EOFError:
        raise PasscodeError("no passcode was given") from None
    if passcode != again:
        raise PasscodeError("the passcodes differ")
    return passcode


def _read_line() -> str:
    try:
        return sys.stdin.buffer.readline().removesuffix(b"\n").removesuffix(b"\r").decode()
    except UnicodeDecodeError:
        raise PasscodeError("the passcode is not UTF-8") from None
