"""What rules know, as plain data: to be handed over to another process.

A parent that replaces its program (execve(2); its children and their channels stay) has to give the new one all that
its rules know. `dump` makes plain data of a rule and of whatever it refers to; `load` lets a new one know the same.
Both belong between two turns of the loop, when nothing is half done.

A `Rule` is there once in a router, and its constructor has connected it with others. It is filled in place, as others
may have one of its containers at hand. A `Record` (a queue, a run, an offer) is there many times, and several things
may refer to it. It is dumped once, has a number by which it is found again, and is made without its constructor.

Each class names in `ANEW` the attributes that are not dumped. These follow from others (sums, indexes, heaps, caches),
come from the configuration, or mean something only while a call lasts. What follows is worked out by `rebuild`.

Plain data is None, bool, int, float, str, bytes, lists of these, and dicts with one key each: the key tells what the
value was (`deque`, `Details`, `record`). marshal, version 4, carries it: JSON has no bytes, and would have to rewrite
all bodies. These types have had the same octets in all versions of Python since 3.4, so another Python can read them.

A dump is true on its machine until that starts again. Its times are those of two clocks of the machine, and neither of
them starts anew with a program: CLOCK_MONOTONIC, and the system clock.

The names of all attributes are in the dump, and a program in which they are others refuses it. To give one of them
another meaning, raise `VERSION`. A program that is to follow older ones turns their dumps into its own before it loads
them, step by step from version to version, as `store/schema.py` does with tables: the names are there for that.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Iterator, Sequence
from enum import Enum
from typing import Any, ClassVar, TypeVar

from forkbroker.errors import ForkbrokerError
from forkbroker.wire.details import DURABLY, PLAIN, Details, unpack_details
from forkbroker.wire.envelope import Envelope

VERSION = 1

_PLAIN = frozenset((type(None), bool, int, float, str, bytes))
_ROWS: dict[str, type[Any]] = {kind.__name__: kind for kind in (tuple, set, deque)}
_MAPS: dict[str, type[Any]] = {kind.__name__: kind for kind in (dict, OrderedDict, Counter)}


class HandoverError(ForkbrokerError):
    """A dump that this program can't load."""


class Dumped:
    """Something whose attributes are dumped."""

    __slots__: tuple[str, ...] = ()

    DUMPED: ClassVar[tuple[str, ...]] = ()
    """Their names; none: all of `__slots__`, but for those in `ANEW`."""
    ANEW: ClassVar[tuple[str, ...]] = ()
    """The others, as far as they are not parts of the house or containers that are dumped elsewhere."""

    @classmethod
    def fields(cls) -> tuple[str, ...]:
        """Return the names of what is dumped, in order: of a class, what it has of another one comes first."""
        slots = (name for kind in reversed(cls.__mro__) for name in kind.__dict__.get("__slots__", ()))
        return cls.DUMPED or tuple(name for name in slots if name not in cls.ANEW)


class Record(Dumped):
    """One of many things that a rule keeps."""

    __slots__ = ()

    def rebuild(self) -> None:
        """Work out what is not dumped, once all that is has been loaded."""


class Rule(Dumped):
    """A part of the house. Those of its parts that are rules themselves are dumped with it."""

    __slots__ = ()

    def rebuild(self, loaded: Loaded) -> None:
        """Work out what is not dumped, once all that is has been loaded, and records have been rebuilt."""


R = TypeVar("R", bound=Record)


def dump(rule: Rule) -> dict[str, Any]:
    """Return what the rule, its parts and all records that they refer to know, as plain data."""
    return _Dump().of(rule)


def load(rule: Rule, data: dict[str, Any], records: Sequence[type[Record]]) -> None:
    """Let a new rule know what one of the same class has dumped.

    `records`: their classes, those first of which others work something out.

    Raises:
        HandoverError: another version of this program has made the dump, or another configuration.
    """
    if data.get("version") != VERSION:
        raise HandoverError(f"a dump of version {data.get('version')}, this program reads version {VERSION}")
    loaded = Loaded(data, records)
    rules = list(loaded.fill(rule, data["rule"]))
    loaded.rebuild(rules)


class _Dump:
    """A dump that is being made."""

    def __init__(self) -> None:
        self._records: list[Any] = []
        self._numbers: dict[int, int] = {}
        """Their numbers in this list, by the identity of each."""
        self._fields: dict[str, list[str]] = {}
        """The names of what is dumped, by class."""

    def of(self, rule: Rule) -> dict[str, Any]:
        """Return all of it."""
        data = self._encode_rule(rule)
        # each may bring others, which come behind it: no depth of references is too deep
        records = [self._encode_record(record) for record in self._records]
        return {"version": VERSION, "fields": self._fields, "rule": data, "records": records}

    def _encode_rule(self, rule: Rule) -> list[Any]:
        values = (getattr(rule, name) for name in self._fields_of(type(rule)))
        return [
            type(rule).__name__,
            *[self._encode_rule(value) if isinstance(value, Rule) else self._encode(value) for value in values],
        ]

    def _encode_record(self, record: Record | Envelope) -> list[Any]:
        if isinstance(record, Envelope):
            return ["Envelope", bytes(record.raw), record.sender]
        kind = type(record)
        return [kind.__name__, *[self._encode(getattr(record, name)) for name in self._fields_of(kind)]]

    def _fields_of(self, kind: type[Dumped]) -> list[str]:
        fields = self._fields.get(kind.__name__)
        if fields is None:
            fields = self._fields[kind.__name__] = list(kind.fields())
        return fields

    def _encode(self, value: Any) -> Any:
        kind = type(value)
        if kind in _PLAIN:
            return value
        if kind is list:
            return [self._encode(each) for each in value]
        name = kind.__name__
        if name in _ROWS:
            return {name: [self._encode(each) for each in value]}
        if name in _MAPS:
            return {name: [[self._encode(key), self._encode(each)] for key, each in value.items()]}
        if kind is Details:
            # as in envelopes: these two are known by their identity
            return {name: [value.persistent, b"" if value is PLAIN or value is DURABLY else value.pack()]}
        if kind in (bytearray, memoryview):
            return bytes(value)
        if isinstance(value, Enum):
            # whoever has it makes it one again
            return value.value
        if isinstance(value, Record | Envelope):
            return {"record": self._number_of(value)}
        raise AssertionError(f"{name} is nothing that can be handed over")

    def _number_of(self, record: object) -> int:
        number = self._numbers.get(id(record))
        if number is None:
            number = self._numbers[id(record)] = len(self._records)
            self._records.append(record)
        return number


class Loaded:
    """A dump that is being loaded: its records."""

    def __init__(self, data: dict[str, Any], records: Sequence[type[Record]]) -> None:
        """Make them, and let each have what was dumped of it."""
        self._fields: dict[str, list[str]] = data["fields"]
        self._classes = {record.__name__: record for record in records}
        self._records = [self._make(*row) for row in data["records"]]
        for record, (_, *values) in zip(self._records, data["records"], strict=True):
            if isinstance(record, Record):
                self._complete(record, values)

    def all(self, kind: type[R]) -> Iterator[R]:
        """Go through the records of this class."""
        return (record for record in self._records if isinstance(record, kind))

    def fill(self, rule: Rule, data: list[Any]) -> Iterator[Rule]:
        """Let the rule and its parts have what was dumped of them; return them all."""
        name, *values = data
        if name != type(rule).__name__:
            raise HandoverError(f"a dump of {name}, this program has {type(rule).__name__} there")
        yield rule
        for field, value in zip(self._fields_of(type(rule)), values, strict=True):
            there = getattr(rule, field)
            if isinstance(there, Rule):
                yield from self.fill(there, value)
            elif isinstance(there, list | deque):
                there.clear()
                there.extend(self._decode(value))
            elif isinstance(there, dict | set):
                there.clear()
                there.update(self._decode(value))
            else:
                setattr(rule, field, self._decode(value))

    def rebuild(self, rules: Sequence[Rule]) -> None:
        """Let all work out what was not dumped."""
        for kind in self._classes.values():
            for record in self.all(kind):
                record.rebuild()
        for rule in rules:
            rule.rebuild(self)

    def _make(self, name: str, *values: Any) -> Record | Envelope:
        """Return a record that has nothing yet: others that are made later may belong to it."""
        if name == "Envelope":
            envelope = Envelope(values[0])
            envelope.sender = values[1]
            return envelope
        kind = self._classes[name]
        return kind.__new__(kind)

    def _fields_of(self, kind: type[Dumped]) -> list[str]:
        fields = self._fields[kind.__name__]
        if fields != list(kind.fields()):
            raise HandoverError(f"a dump of {kind.__name__} with {fields}, this program has {list(kind.fields())}")
        return fields

    def _complete(self, record: Record, values: list[Any]) -> None:
        for name, value in zip(self._fields_of(type(record)), values, strict=True):
            # some of them are frozen, but from now on only
            object.__setattr__(record, name, self._decode(value))

    def _decode(self, value: Any) -> Any:
        kind = type(value)
        if kind is list:
            return [self._decode(each) for each in value]
        if kind is not dict:
            return value
        ((name, content),) = value.items()
        if name == "record":
            return self._records[content]
        if name in _ROWS:
            return _ROWS[name]([self._decode(each) for each in content])
        if name in _MAPS:
            return _MAPS[name]({self._decode(key): self._decode(each) for key, each in content})
        return unpack_details(content[1], persistent=content[0])
