"""What the documents say, compared with what the code has."""

from __future__ import annotations

import ast
import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

import forkbroker
from forkbroker.config.evaluation import make_settings
from forkbroker.config.file import parse_text
from forkbroker.config.options.option import Effect
from forkbroker.config.options.table import CHAPTERS, OPTIONS
from forkbroker.config.policy_keys import policy_line
from forkbroker.ctl.main import COMMANDS, CONNECTING
from forkbroker.testing.broker import RunningBroker
from forkbroker.wire.kinds import Role

ROOT = Path(__file__).parents[2]
MANUAL = (ROOT / "man" / "stomp-broker.8").read_text()
FILE_MANUAL = (ROOT / "man" / "forkbroker.toml.5").read_text()
README = (ROOT / "README.md").read_text()
FOREIGN = {"fail-with-body", "now", "quick", "only", "markdown", "json", "broker", "list", "server", "help"}
"""Options of other programs that the documents show: systemctl, the programs of benchmarks/."""


def test_the_manual_has_every_option_and_no_other() -> None:
    """The table is the truth."""
    in_manual = set(re.findall(r"^\.It Fl -([a-z-]+)", MANUAL, re.MULTILINE)) - {"version"}
    not_in_file = FILE_MANUAL.partition("command line only:")[2].partition(".Pp")[0]

    assert in_manual == {option.name for option in OPTIONS}
    assert set(re.findall(r"^\.Fl -([a-z-]+)", not_in_file, re.MULTILINE)) == {
        option.name for option in OPTIONS if not option.in_file
    }


def test_the_manual_has_the_chapters_of_the_table() -> None:
    """Who looks for an option finds it under the same title, and so in the module of that name."""
    section = MANUAL.partition(".Sh OPTIONS")[2].partition("\n.Sh ")[0]
    chapters = [part.partition("\n") for part in section.split("\n.Ss ")[1:]]
    in_manual = {title: re.findall(r"^\.It Fl -([a-z-]+)", text, re.MULTILINE) for title, _, text in chapters}

    assert {title: sorted(set(names) - {"version"}) for title, names in in_manual.items() if names} == {
        chapter.title.partition(" (")[0]: sorted(option.name for option in chapter.options) for chapter in CHAPTERS
    }


def test_the_manual_of_the_file_says_of_each_option_when_a_reload_takes_it_over() -> None:
    """As the table has it."""
    section = FILE_MANUAL.partition(".Sh RELOAD")[2].partition(".Sh FILES")[0]
    at_once, _, rest = section.partition("These options take effect for clients that connect")
    for text, effect in ((at_once, Effect.ALL), (rest, Effect.NEW)):
        named = set(re.findall(r"^\.Fl -([a-z-]+)", text, re.MULTILINE))

        assert named == {option.name for option in OPTIONS if option.effect is effect}


def test_the_examples_of_configuration_files_can_be_used() -> None:
    """Those of the manual page and of the README."""
    examples = FILE_MANUAL.split(".Bd -literal -offset indent\n")[1:]
    example, tables, hosts = (text.partition("\n.Ed")[0] for text in examples)
    options, _, tables_of_readme = README.partition("Tables stand behind all options")
    of_readme = "\n".join(re.findall(r"^    ([a-z-]+ = .+)$", options, re.MULTILINE))
    block = "\n".join(re.findall(r"^    (\[.+\]|[a-z]+ = .+)$", tables_of_readme, re.MULTILINE))
    assert [len(parse_text(text, "f").permissions.grants or ()) for text in (tables, block)] == [8, 3]
    assert [host.key for host in parse_text(hosts, "f").permissions.hosts.all] == ["shop", "default"]
    for text in (example, of_readme):
        file = parse_text(text, "f")
        make_settings(file.given, file.origins)

        assert len(file.given) >= 3


def test_the_manual_has_the_defaults_of_the_table() -> None:
    """Word for word."""
    parts = re.split(r"^\.It ", MANUAL, flags=re.MULTILINE)
    told = {part.split()[1].lstrip("-"): part for part in parts if part.startswith("Fl -")}

    assert [
        option.name for option in OPTIONS if option.default and f"default is {option.default}." not in told[option.name]
    ] == []


def test_the_other_documents_name_no_option_that_there_is_not() -> None:
    """As the options are called now."""
    texts = [
        README,
        (ROOT / "CONTRIBUTING.md").read_text(),
        *(path.read_text() for path in (ROOT / "docs").rglob("*.md")),
    ]
    named = {name for text in texts for name in re.findall(r"(?<![\w-])--([a-z][a-z-]+)", text)}

    of_ctl = {param.name[2:] for some in (CONNECTING, *(c.params for c in COMMANDS)) for param in some}
    assert named - FOREIGN - of_ctl - {option.name for option in OPTIONS} == set()


def test_helps_of_options_are_short() -> None:
    """A reminder, in one or two lines of a terminal; the manual page is the reference."""
    assert [option.name for option in OPTIONS if len(option.help) > 70 or option.help.endswith(".")] == []


def test_help_has_every_option() -> None:
    """--help is made from the same table."""
    text = subprocess.run([sys.executable, "-m", "forkbroker", "--help"], capture_output=True, text=True, cwd=ROOT)

    assert text.returncode == 0
    assert [option.name for option in OPTIONS if f"--{option.name}" not in text.stdout] == []


@pytest.mark.skipif(shutil.which("mandoc") is None, reason="install mandoc")
@pytest.mark.parametrize("page", sorted((ROOT / "man").iterdir()), ids=lambda page: page.name)
def test_the_manual_is_clean(page: Path) -> None:
    """As the BSDs would have it."""
    assert subprocess.run(["mandoc", "-T", "lint", "-W", "warning", page], capture_output=True).stdout == b""


def test_every_row_of_the_protocol_has_a_test_and_every_mark_a_row() -> None:
    """docs/conformance.md promises; a test that is marked with the row shows it."""
    promised = set(re.findall(r"^\| ([A-Z]\d\d) \|", document("conformance"), re.MULTILINE))
    shown = {row for path in (ROOT / "tests").rglob("test_*.py") for row in marks(path)}

    assert len(promised) > 100
    assert shown == promised


def marks(path: Path) -> set[str]:
    """The rows that stand in `pytest.mark.row(...)` of a file."""
    return {
        argument.value
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "row"
        for argument in node.args
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
    }


def test_the_commands_of_the_readme_are_targets_of_the_makefile() -> None:
    """So whoever types them gets what they say."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    texts = README + (ROOT / "CONTRIBUTING.md").read_text()
    named = set(re.findall(r"^ +(?:sudo )?make ([a-z-]+)", texts, re.MULTILINE))

    assert {"run", "test", "install"} <= named
    assert named <= targets


def test_the_files_that_the_documents_name_exist() -> None:
    """Links, and the modules on the way of a frame."""
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    linked = [
        page.parent / link for page in pages for link in re.findall(r"\]\(([\w/.-]+)(?![\w/.:-])", page.read_text())
    ]
    texts = document("architecture") + document("internals")
    modules = re.findall(r"`((?:child|stomp|session|wire|parent|routing|store)/(?:\w+/)?\w+\.py)`", texts)

    assert [path for path in linked if not path.exists()] == []
    assert len(modules) > 10
    assert [path for path in modules if not (ROOT / "forkbroker" / path).exists()] == []


def test_the_table_of_the_parent_has_all_its_modules() -> None:
    """And no other one; the helpers' table has a row for each role but the client's."""
    architecture = document("architecture")
    table = architecture.partition("| in `parent/` |")[2].partition("\n\n")[0]
    helpers = architecture.partition("| role |")[2].partition("\n\n")[0]
    modules = {path.name for path in (ROOT / "forkbroker" / "parent").glob("*.py")} - {"__init__.py"}

    assert set(re.findall(r"`(\w+\.py)`", table)) == modules
    assert set(re.findall(r"^\| (\w+) \|", helpers, re.MULTILINE)) == {role.value for role in Role} - {"client"}


def document(name: str) -> str:
    """Return the text of docs/NAME.md."""
    return (ROOT / "docs" / f"{name}.md").read_text()


def test_the_changelog_has_this_version() -> None:
    """The newest one first."""
    versions = re.findall(r"^## (\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)

    assert versions[0] == forkbroker.__version__


def test_the_statements_for_administrators_run(tmp_path: Path) -> None:
    """On the database of a broker, in their order."""
    with RunningBroker(store_directory=tmp_path):
        pass
    statements = re.findall(r"^    ((?:SELECT|INSERT|UPDATE|DELETE)[^;]+);", document("administration"), re.MULTILINE)
    statements += re.findall(r'sqlite3 (?:-readonly )?queues\.db "([^"]+)"', MANUAL)

    with closing(sqlite3.connect(tmp_path / "queues.db")) as connection:
        for statement in statements:
            connection.execute(statement)

    assert len(statements) >= 10


def test_the_policies_of_the_documents_can_be_read() -> None:
    """As they would be on a command line."""
    texts = [README, MANUAL, *(path.read_text() for path in (ROOT / "docs").rglob("*.md"))]
    rules = [rule for text in texts for rule in re.findall(r"--policy '([^']+)'", text)]

    assert len({policy_line(rule).pattern for rule in rules if rule != "PATTERN key=value ..."}) >= 3


def test_the_documents_name_no_file_of_the_code_that_there_is_not() -> None:
    """Whoever follows a name finds it; those of the tutorial are the reader's own."""
    folders = ("forkbroker", "tests", "benchmarks", "examples", "debian")
    there = [f"/{path.relative_to(ROOT).as_posix()}" for folder in folders for path in (ROOT / folder).rglob("*.py")]
    documents = [*(ROOT / "docs").rglob("*.md"), ROOT / "CONTRIBUTING.md", ROOT / "README.md"]
    named = {
        (path.name, name)
        for path in documents
        if path.name != "tutorial.md"
        for name in re.findall(r"`((?:\w+/)*\w+\.py)`", path.read_text())
    }

    assert {(where, name) for where, name in named if not any(file.endswith(f"/{name}") for file in there)} == set()
    assert len(named) > 100
