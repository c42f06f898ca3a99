"""How values of options are written: numbers, sizes, times, choices, paths.

Each function reads one text and gives the value, or raises a `ConfigurationError` that tells what would be right.
Those with an argument give such a function.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from pathlib import Path

from forkbroker.errors import ConfigurationError

_SIZE = re.compile(r"([0-9]{1,18})\s*(|KiB|MiB|GiB)")
_OCTETS = {"": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}

_TIME = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(|ms|s|min|h|d)")
_SECONDS = {"": 1.0, "ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}

_MOST_DIGITS = 18
"""Of a whole number: it fits into 63 bits, and so do its sums and products with anything that has a limit."""
_MOST_S = 10_000_000_000
"""A time in seconds: 316 years, which can be added to any date."""

_NAME = 255
"""Characters of the name of a user or group of the system."""

_FACTOR = re.compile(r"[0-9]+(\.[0-9]+)?")
_URL = re.compile(r"[a-z][a-z0-9+.-]*:")

_HEART_BEAT = re.compile(r"([0-9]{1,9}),([0-9]{1,9})")


def number(least: int, most: int | None = None) -> Callable[[str], int]:
    """Whole numbers from `least` on."""
    span = f"from {least} to {most}" if most is not None else f"of {least} or more"

    def parse(text: str) -> int:
        if not text.isascii() or not text.isdecimal():
            raise ConfigurationError(text, "not a whole number", f"give one {span}")
        if len(text) > _MOST_DIGITS:
            raise ConfigurationError(text, "too large", f"give a number {span}, of {_MOST_DIGITS} digits at most")
        return _within(text, int(text), least, most, f"give a number {span}")

    return parse


def size(least: int, most: int | None = None) -> Callable[[str], int]:
    """Octets, plain or in KiB, MiB, GiB."""

    def parse(text: str) -> int:
        match = _SIZE.fullmatch(text)
        if match is None:
            raise ConfigurationError(text, "not a size", "give bytes, or a number with KiB, MiB or GiB")
        remedy = f"give {least} bytes or more" + (f", {most} at most" if most is not None else "")
        return _within(text, int(match[1]) * _OCTETS[match[2]], least, most, remedy)

    return parse


def _within(text: str, value: int, least: int, most: int | None, remedy: str) -> int:
    if value < least:
        raise ConfigurationError(text, "too small", remedy)
    if most is not None and value > most:
        raise ConfigurationError(text, "too large", remedy)
    return value


def seconds(least: float) -> Callable[[str], float]:
    """A time in seconds; written plain, or with ms, s, min, h or d."""

    def parse(text: str) -> float:
        match = _TIME.fullmatch(text)
        if match is None:
            raise ConfigurationError(text, "not a time", "give seconds, or a number with ms, s, min, h or d")
        value = float(match[1]) * _SECONDS[match[2]]
        if value < least:
            raise ConfigurationError(text, "too short", f"give {least:g} s or more")
        if value > _MOST_S:
            raise ConfigurationError(text, "too long", f"give {_MOST_S} s (316 years) or less")
        return value

    return parse


def milliseconds(least: int) -> Callable[[str], int]:
    """A time as `seconds` reads it, in milliseconds."""
    parse_seconds = seconds(least / 1000)

    def parse(text: str) -> int:
        return round(parse_seconds(text) * 1000)

    return parse


def none_or(parse: Callable[[str], int]) -> Callable[[str], int]:
    """0, which means no limit, or what `parse` permits."""
    return lambda text: 0 if text == "0" else parse(text)


def factor(least: float, most: float) -> Callable[[str], float]:
    """A number that need not be whole."""

    def parse(text: str) -> float:
        if _FACTOR.fullmatch(text) is None or not least <= float(text) <= most:
            raise ConfigurationError(text, "not a factor", f"give a number from {least:g} to {most:g}, as in 1.5")
        return float(text)

    return parse


def yes_or_no(text: str) -> bool:
    """`true` or `false`."""
    return choice("true", "false")(text) == "true"


def queue_name(text: str) -> bytes:
    """The canonical name of one queue."""
    if not text.startswith("/queue/") or len(text) == len("/queue/") or set(text) & set("*#>\0"):
        raise ConfigurationError(text, "not a queue", "give one name, as in /queue/failed")
    return text.encode()


def store_url(text: str) -> str:
    """A URL whose scheme says which backend has the store; what follows is the backend's to understand."""
    if _URL.match(text) is None:
        raise ConfigurationError(text, "not a URL", "give memory: or sqlite:///PATH")
    return text


def choice(*words: str) -> Callable[[str], str]:
    """One of `words`."""

    def parse(text: str) -> str:
        if text not in words:
            raise ConfigurationError(text, "not a choice", f"choose {', '.join(words[:-1])} or {words[-1]}")
        return text

    return parse


def heart_beat(text: str) -> tuple[int, int]:
    """Milliseconds between beats as in the header: what the broker can send, what it wants; 0 for none."""
    match = _HEART_BEAT.fullmatch(text)
    if match is None:
        raise ConfigurationError(text, "not two times", "give SEND,WANT in milliseconds, as in 10000,10000")
    return int(match[1]), int(match[2])


def path(text: str) -> Path:
    """A file's path, made absolute: a daemon changes its directory."""
    if not text or "\0" in text:
        raise ConfigurationError(text, "not a path", "give a file's name")
    try:
        return Path(text).absolute()
    except OSError as error:
        raise ConfigurationError(
            text, f"this directory has no name: {error.strerror}", "give an absolute path, or go to another directory"
        ) from None


def file_mode(text: str) -> int:
    """Permissions of a file in octal."""
    if re.fullmatch(r"0?[0-7]{3}", text) is None:
        raise ConfigurationError(text, "not permissions of a file", "give three octal digits, as in 0660")
    return int(text, 8)


def instance(text: str) -> str:
    """The name of a broker, one word for titles."""
    if re.fullmatch(r"[A-Za-z0-9._-]{1,32}", text) is None:
        raise ConfigurationError(text, "not a name of a broker", "give up to 32 letters, digits, '.', '_' or '-'")
    return text


def host_name(text: str) -> str:
    """The name of a host, for ids: without its domain."""
    if re.fullmatch(r"[A-Za-z0-9_-]{1,63}", text) is None:
        raise ConfigurationError(text, "not a short host name", "give up to 63 letters, digits, '-' or '_'")
    return text


def network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """An address, or a network with the length of its prefix."""
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise ConfigurationError(text, f"not a network: {error}", "give an address, or one as in 10.0.0.0/8") from None


_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
_SECRET_ALGORITHMS = ("HS256", "HS384", "HS512")


def algorithms(text: str) -> tuple[str, ...]:
    """Names of algorithms for signatures, with commas between them."""
    names = tuple(part.strip() for part in text.split(","))
    known = (*_ALGORITHMS, *_SECRET_ALGORITHMS)
    if not set(names) <= set(known):
        raise ConfigurationError(text, "not a list of algorithms", f"give some of {', '.join(known)}")
    return names


def name(text: str) -> str:
    """A user's or group's name or number; whether there is one, the system says at start."""
    if not text:
        raise ConfigurationError(text, "empty", "give a name or a number")
    if len(text) > _NAME or not text.isprintable():
        raise ConfigurationError(text, "not a name", f"give up to {_NAME} characters that can be printed")
    return text


def url_path(text: str) -> str:
    """A path of URLs, without a query."""
    if re.fullmatch(r"/[^\s?#]*", text) is None:
        raise ConfigurationError(text, "not a path", "begin with a slash, as in /ws, and give no query")
    return text


_ORIGIN = re.compile(r"\*|null|[a-z][a-z0-9+.-]*://(?:[^\s/?#@:\[\]]+|\[[0-9a-f:.]+\])(?::[0-9]+)?")


def origin(text: str) -> str:
    """The origin of pages, as browsers send it (RFC 6454, 6.2)."""
    if _ORIGIN.fullmatch(text.lower()) is None:
        right = "write SCHEME://HOST or SCHEME://HOST:PORT as in https://www.example.org, null for files, or * for all"
        raise ConfigurationError(text, "not the origin of a page", right)
    return text.lower()


def cookie_name(text: str) -> str:
    """The name of a cookie (RFC 6265, 4.1.1)."""
    if re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", text) is None:
        raise ConfigurationError(text, "not the name of a cookie", "give letters, digits, '-', '_' or '.'")
    return text
