"""The documents say what the code does: tables against code, links against files.

``UPDATE_GOLDEN=1`` rewrites the option table of ``docs/configuration.md``; ``make fix`` does that.
"""

import dataclasses
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvorum_server.config import Config
from kvorum_server.options import CLIENT_VARIABLES, GROUPS, amount_of, default_of

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
DECISIONS = sorted((ROOT / "docs/adr").glob("*.md"))

TABLE_START = "<!-- Made from server/kvorum_server/config.py by `make fix`. -->\n"
TABLE_END = "<!-- End of what is made. -->\n"
DECISION_LINES_MAX = 60
"""One page."""


def read(path: str | Path) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def option_tables() -> Iterator[str]:
    for option in dataclasses.fields(Config):
        if option.name in GROUPS:
            yield f"\n### {GROUPS[option.name]}\n\n| option | default | meaning |\n|---|---|---|\n"
        shown = f"`{default_of(option.name)}`" if default_of(option.name) else "none"
        meaning = str(option.metadata["help"])
        least = option.metadata["minimum"]
        if least is not None and least > 1:
            meaning += f" At least {amount_of(option.name, least)}."
        yield f"| `{option.name}` | {shown} | {meaning} |\n"


def test_the_option_table_is_what_the_config_says() -> None:
    path = "docs/configuration.md"
    before, start, rest = read(path).partition(TABLE_START)
    _, end, after = rest.partition(TABLE_END)
    assert start, "the mark where the table starts is gone"
    assert end, "the mark where the table ends is gone"
    expected = before + start + "".join(option_tables()) + "\n" + end + after
    if os.environ.get("UPDATE_GOLDEN") == "1":
        (ROOT / path).write_text(expected, encoding="utf-8")
    assert read(path) == expected, "run `make fix`"


def test_the_variables_of_the_client_are_explained() -> None:
    text = read("docs/configuration.md")
    assert all(f"`{variable}`" in text for variable in CLIENT_VARIABLES)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    text = re.sub(r"```.*?```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?:", target):
            continue
        name, _, anchor = target.partition("#")
        file = document.parent / name if name else document
        assert file.exists(), f"{document.name} links to {target}, which is not there"
        if anchor and file.suffix == ".md":
            assert anchor in anchors(file), f"{document.name} links to {target}: no such heading"


def anchors(document: Path) -> set[str]:
    """The anchors that a page gives its headings: lower case, dashes for spaces, letters only."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings
    }


def test_paths_in_documents_exist() -> None:
    named = re.compile(r"`((?:client|server|cli|proto|tests|docs|requirements)/[\w./-]+\w)`")
    for document in DOCUMENTS:
        for path in named.findall(document.read_text(encoding="utf-8")):
            assert (ROOT / path).exists(), f"{document.relative_to(ROOT)} names {path}"


def test_no_word_is_explained_twice() -> None:
    text, _, banned = read("docs/glossary.md").partition("## Words that name nothing here")
    rows = re.findall(r"^\| ([^|]+) \| [^|]+ \|", text, re.MULTILINE)
    words = [word.strip() for row in rows for word in row.split(",") if row != "word"]
    assert len(words) > 80
    assert sorted(words) == sorted(set(words))
    never = re.findall(r"^\| ([a-z]+) \|", banned, re.MULTILINE)
    assert not set(never) & set(words), "a word of ours is banned"


def test_decisions_are_numbered_without_gaps() -> None:
    numbers = [int(path.name[:4]) for path in DECISIONS]
    assert numbers == list(range(1, len(DECISIONS) + 1))
    assert numbers


@pytest.mark.parametrize("decision", DECISIONS, ids=lambda path: path.stem)
def test_a_decision_has_context_choice_and_price_on_one_page(decision: Path) -> None:
    text = decision.read_text(encoding="utf-8")
    number = int(decision.name[:4])
    assert re.fullmatch(r"\d{4}(-[a-z0-9]+)+\.md", decision.name)
    assert text.startswith(f"# {number}. ")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == [
        "Context",
        "Choice",
        "What we gave up",
    ]
    assert len(text.splitlines()) <= DECISION_LINES_MAX


def test_the_changelog_keeps_its_form() -> None:
    text = read("CHANGELOG.md")
    version = re.search(r'__version__ = "(.+)"', read("client/kvorum/_version.py"))
    assert version is not None
    releases = re.findall(r"^## \[(.+?)\]", text, re.MULTILINE)
    assert releases[0] == "Unreleased"
    assert version[1] in releases or len(releases) == 1, "the released version has no section"
    kinds = set(re.findall(r"^### (.+)$", text, re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_every_make_target_is_listed_by_help() -> None:
    text = read("Makefile")
    targets = set(re.findall(r"^\.PHONY: (\S+)$", text, re.MULTILINE))
    explained = set(re.findall(r"^([a-z-]+):.*## \S", text, re.MULTILINE))
    assert targets == explained
    assert {"up", "test", "check", "fix"} <= targets
