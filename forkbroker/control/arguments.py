"""The members of a request's JSON object: their names, their forms, and what is said of those that are wrong.

All values are plain JSON: strings, numbers, booleans, lists and objects of strings. `read` understands what a client
has written, and returns the canonical form, in which names of queues have their prefix; of that form it returns the
same again, so whoever gets it from a process that it does not believe asks again.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final

from forkbroker.destinations import DestinationError, Sort, is_queue, is_system, parse_subscription
from forkbroker.errors import ForkbrokerError

MAX_BODY: Final = 65_535
"""Octets of a request, in the canonical form: what comes to the parent process is small, and quickly read."""
MAX_TEXT = 1024
"""Characters of a string that is not the name of a destination."""
MAX_ITEMS = 1000
"""Members of a list, or of an object, at most."""
MAX_SPAN_S = 315_360_000
"""Seconds: ten years."""

_SHOWN = 60
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


class RequestError(ForkbrokerError):
    """A request that cannot be carried out. The text is one sentence for who has asked."""

    def __init__(self, word: str, text: str) -> None:
        """`word` is one of `WORDS`."""
        super().__init__(text)
        self.word = word

    def answer(self) -> dict[str, Any]:
        """The whole answer."""
        return {"ok": False, "error": self.word, "text": str(self)}


WORDS = {
    "bad-request": "The request is not what the verb takes.",
    "unknown-verb": "There is no such verb.",
    "denied": "The client does not have the right.",
    "not-found": "What is named does not exist.",
    "conflict": "It cannot be done in the present state.",
    "unavailable": "It cannot be done now, and may be later.",
}
"""What stands as `error` in an answer, and what it means; `text` is the sentence."""


def bad(text: str) -> RequestError:
    """The request is not what it should be."""
    return RequestError("bad-request", text)


@dataclass(frozen=True, slots=True)
class Form:
    """What a value may be."""

    name: str
    """For people: `a string`."""
    read: Callable[[Any], Any]
    """Return the canonical form. Raises ValueError, whose text goes on after `must be`; DestinationError."""


def _text(most: int = MAX_TEXT) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if not isinstance(value, str) or not value or len(value) > most or "\0" in value:
            raise ValueError(f"a string of 1 to {most:,} characters")
        return value

    return read


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def _number(least: int, most: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise ValueError(f"a whole number from {least:,} to {most:,}")
        return value

    return read


def _span(value: Any) -> float:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or not 0 < value <= MAX_SPAN_S:
        raise ValueError(f"seconds, more than 0 and at most {MAX_SPAN_S:,}")
    return float(value)


def _queue(value: Any) -> str:
    name = _destination(value)
    if not is_queue(name.encode(errors="surrogateescape")):
        raise ValueError("the name of a queue: /queue/NAME, or /dsub/NAME for a durable subscription")
    return name


def _destination(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("the name of a destination, a string")
    try:
        # a bare name is that of a queue: these are what is administered
        found = parse_subscription(value, "queue")
        if found.is_pattern:
            raise ValueError("one name, without wildcards")
        return found.name.decode(errors="surrogateescape")
    except UnicodeError:
        raise ValueError("the name of a destination, in UTF-8") from None


def _durable(value: Any) -> str:
    name = _destination(value)
    if not name.startswith(Sort.DURABLE.value):
        raise ValueError("the name of a durable subscription, /dsub/NAME")
    return name


def _topic(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("the name of a topic, a string")
    try:
        found = parse_subscription(value, "topic")
    except UnicodeError:
        raise ValueError("the name of a topic, in UTF-8") from None
    if found.sort is not Sort.TOPIC or is_system(found.name):
        raise ValueError("the name of a topic, or a pattern of topics, to which clients can send")
    return found.name.decode(errors="surrogateescape")


def _texts(value: Any) -> list[str]:
    fault = f"a list of 1 to {MAX_ITEMS:,} strings, each of 1 to {MAX_TEXT:,} characters"
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_ITEMS:
        raise ValueError(fault)
    read = _text()
    try:
        return [read(item) for item in value]
    except ValueError:
        raise ValueError(fault) from None


def _names(value: Any) -> list[str]:
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_ITEMS:
        raise ValueError(f"a list of 1 to {MAX_ITEMS:,} names of destinations")
    return [_any_name(item) for item in value]


def _any_name(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("a list of strings")
    try:
        return parse_subscription(value, "queue").name.decode(errors="surrogateescape")
    except UnicodeError:
        raise ValueError("a list of names in UTF-8") from None


def _pairs(value: Any) -> dict[str, str]:
    fault = f"an object of 1 to {MAX_ITEMS:,} strings, each of at most {MAX_TEXT:,} characters"
    if not isinstance(value, dict) or not 1 <= len(value) <= MAX_ITEMS:
        raise ValueError(fault)
    if not all(isinstance(item, str) and len(item) <= MAX_TEXT for item in value.values()):
        raise ValueError(fault)
    return value


def _file(value: Any) -> str:
    if not isinstance(value, str) or not _FILE.fullmatch(value):
        raise ValueError("the name of a file, of up to 200 letters, digits, '.', '_' and '-', and no path")
    return value


TEXT = Form("a string", _text())
PATTERN = Form("a pattern, as of a shell", _text(255))
QUEUE = Form("a queue", _queue)
DURABLE = Form("a durable subscription", _durable)
TOPIC = Form("a topic or a pattern", _topic)
DESTINATION = Form("a destination", _destination)
FLAG = Form("true or false", _flag)
SPAN = Form("seconds", _span)
IDS = Form("a list of message-ids", _texts)
FILE = Form("the name of a file", _file)
PAIRS = Form("an object of strings", _pairs)
NAMES = Form("a list of destinations", _names)


def number(least: int, most: int) -> Form:
    """A whole number within these limits."""
    return Form(f"a number from {least:,} to {most:,}", _number(least, most))


def word(*words: str) -> Form:
    """One of these."""

    def read(value: Any) -> str:
        if value not in words:
            raise ValueError(f"one of {', '.join(words)}")
        return str(value)

    return Form("one of " + ", ".join(words), read)


@dataclass(frozen=True, slots=True)
class Argument:
    """A member of a request."""

    name: str
    form: Form
    help: str
    is_required: bool = False


def parse(octets: bytes) -> dict[str, Any]:
    """The JSON object of a request; none at all is an empty one.

    Raises:
        RequestError: it is not one.
    """
    if not octets.strip():
        return {}
    if len(octets) > MAX_BODY:
        raise bad(f"the request has {len(octets):,} bytes, at most {MAX_BODY:,} are permitted: ask for less at a time")
    try:
        found = json.loads(octets, parse_constant=_no_constant)
    except RecursionError:
        raise bad("the request is nested too deeply: it must be an object of strings and numbers") from None
    except ValueError as error:  # also what is not UTF-8
        raise bad(f"the request is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise bad(f'the request must be a JSON object such as {{"pattern": "orders.*"}}, not {_shown(found)}')
    return found


def _no_constant(text: str) -> None:
    raise ValueError(f"{text} is no number")


def read(verb: str, arguments: Sequence[Argument], given: Mapping[str, Any]) -> dict[str, Any]:
    """The canonical form of what was given.

    Raises:
        RequestError: a member is unknown, missing, or not of its form.
    """
    known = {argument.name: argument for argument in arguments}
    for name in given:
        if name not in known:
            raise bad(_describe_unknown(verb, name, list(known)))
    found: dict[str, Any] = {}
    for argument in arguments:
        if argument.name in given:
            found[argument.name] = _read_one(verb, argument, given[argument.name])
        elif argument.is_required:
            raise bad(f"{verb} needs {argument.name!r}: {argument.help}")
    return found


def pack(found: Mapping[str, Any]) -> bytes:
    """The canonical form as octets.

    Raises:
        RequestError: they are too many.
    """
    octets = json.dumps(found, separators=(",", ":")).encode()
    if len(octets) > MAX_BODY:
        raise bad(f"the request has {len(octets):,} bytes, at most {MAX_BODY:,} are permitted: ask for less at a time")
    return octets


def _read_one(verb: str, argument: Argument, value: Any) -> Any:
    try:
        return argument.form.read(value)
    except (ValueError, TypeError) as error:
        problem = f"must be {error}, not {_shown(value)}"
    except DestinationError as error:
        problem = str(error)
    raise bad(f"{verb}: {argument.name!r} {problem}")


def _describe_unknown(verb: str, name: str, known: list[str]) -> str:
    text = f"{verb} knows no member {_shown(name)}"
    if not known:
        return f"{text}: its object is empty"
    near = get_close_matches(name[:_SHOWN], known, 1)
    return f"{text}: did you mean {near[0]!r}?" if near else f"{text}: known are {', '.join(known)}"


def _shown(value: Any) -> str:
    """What a client has sent, in a text for it, and not too long."""
    try:
        text = json.dumps(value)
    except RecursionError:
        text = "something nested deeply"
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
