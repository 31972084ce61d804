"""docs/cli.md says what the command line does: every verb, option, exit code, and its examples."""

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from kvorum_cli.exits import Exit
from kvorum_cli.main import cli
from kvorum_cli.settings import Verb
from kvorum_cli.txn_text import parse

TEXT = (Path(__file__).resolve().parents[2] / "docs/cli.md").read_text(encoding="utf-8")
SECTIONS = dict(
    re.findall(r"^### (kvorum [a-z ]+)\n(.*?)(?=^##|\Z)", TEXT, re.MULTILINE | re.DOTALL)
)


def verbs(group: click.Group = cli, path: str = "kvorum") -> Iterator[tuple[str, Verb]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from verbs(command, f"{path} {name}")
        else:
            assert isinstance(command, Verb)
            yield f"{path} {name}", command


def test_every_verb_has_its_section_and_every_section_its_verb() -> None:
    assert sorted(SECTIONS) == sorted(path for path, _ in verbs())


@pytest.mark.parametrize(("path", "verb"), list(verbs()), ids=lambda value: str(value))
def test_every_option_of_a_verb_is_explained_in_its_section(path: str, verb: Verb) -> None:
    own = [parameter for parameter in verb.params if parameter not in verb.global_options]
    options = [option for parameter in own for option in parameter.opts if option.startswith("-")]
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", SECTIONS[path]))
    assert named == set(options)


def test_global_options_are_explained() -> None:
    section = TEXT.partition("## Global options")[2].partition("\n## ")[0]
    for parameter in cli.global_options:
        names = (*parameter.opts, *parameter.secondary_opts)
        assert all(f"`{name}" in section for name in names), names


def test_every_exit_code_is_explained() -> None:
    assert re.findall(r"^\| (\d+) \|", TEXT, re.MULTILINE) == [str(int(code)) for code in Exit]


def test_the_txn_of_the_page_is_one() -> None:
    (example,) = re.findall(r"^```\n(when.*?)```", TEXT, re.MULTILINE | re.DOTALL)
    txn = parse(example)
    assert (len(txn.when), len(txn.then), len(txn.otherwise)) == (3, 2, 1)
