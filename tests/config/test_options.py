"""The table of options and the settings that come of it."""

from __future__ import annotations

import dataclasses
import typing

import pytest

from forkbroker.config.evaluation import make_settings
from forkbroker.config.options.table import OPTIONS
from forkbroker.config.settings import Settings
from forkbroker.errors import ConfigurationError


def test_table_and_settings_have_the_same_fields() -> None:
    """An option without a field would have no effect, a field without an option no value."""
    assert [field.name for field in dataclasses.fields(Settings)] == [option.field for option in OPTIONS]


def test_every_default_has_the_type_of_its_field() -> None:
    """Read with the option's own parser."""
    settings = make_settings({})
    hints = typing.get_type_hints(Settings)

    for option in OPTIONS:
        value = getattr(settings, option.field)
        hint = hints[option.field]
        if typing.get_origin(hint) is typing.Literal:
            assert value in typing.get_args(hint), option.name
        elif typing.get_origin(hint) is tuple:
            assert isinstance(value, tuple), option.name
        else:
            assert isinstance(value, hint), option.name


def test_every_choice_of_a_field_is_one_of_its_option() -> None:
    """And the other way round: the help names them, the parser takes them."""
    hints = typing.get_type_hints(Settings)

    for option in OPTIONS:
        if typing.get_origin(hints[option.field]) is typing.Literal:
            words = typing.get_args(hints[option.field])
            assert [option.parse(word) for word in words] == list(words)
            with pytest.raises(ConfigurationError, match=f"choose .*{words[-1]}$"):
                option.parse("other")


def test_every_row_is_complete() -> None:
    """Flags have no value and no default, others a name for theirs; the help is one sentence without its end."""
    for option in OPTIONS:
        assert option.help
        assert not option.help.endswith(".")
        assert bool(option.metavar) != option.is_flag
        assert not (option.is_flag and option.default)
        assert not (option.default and option.example), "the file shows the default"
