"""``docs/reliability.md`` names checks; here it is checked that they exist.

The page tells a sceptic which test, script or canary would notice which bug. A name that nothing
has any more would be worse than none, so every one is looked up. The table of the canaries is
written by ``UPDATE_GOLDEN=1`` (``make fix``); its last column, the figures of a campaign, is kept,
or taken from the ``campaign.json`` that ``make campaign ARGS="--report campaign"`` has left.
"""

import ast
import json
import os
import re
from dataclasses import fields
from functools import cache
from pathlib import Path

from tests.chaos.nemesis import DECK
from tests.simulator.canaries import CANARIES, Canary
from tests.simulator.options import Options

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/reliability.md"
CAMPAIGN = ROOT / "campaign.json"
TABLE = re.compile(r"(<!-- Canaries: .*?-->\n)(.*?)(<!-- End of the canaries. -->)", re.DOTALL)
NOT_MEASURED = "-"


def section(heading: str) -> str:
    """A section of the page, up to the next one of its level."""
    _, found, rest = PAGE.read_text(encoding="utf-8").partition(f"\n## {heading}\n")
    assert found, f"docs/reliability.md has no section {heading}"
    return rest.split("\n## ")[0]


@cache
def functions(path: Path) -> frozenset[str]:
    """The tests of a module."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def test_every_test_that_is_named_exists() -> None:
    named = re.findall(r"`(\w+/test_\w+\.py)::(\w+)`", PAGE.read_text(encoding="utf-8"))
    assert len(named) > 40
    for module, function in named:
        assert function in functions(ROOT / "tests" / module), f"{module} has no {function}"


def test_every_script_that_is_named_exists() -> None:
    named = re.findall(r"`(\w+\.txt)`", section("Bugs that others shipped"))
    assert len(named) > 20
    for name in named:
        assert (ROOT / "tests/scripts/consensus" / name).exists(), name


def test_every_canary_that_is_named_exists() -> None:
    named = set(re.findall(r"canary `(\w+)`", PAGE.read_text(encoding="utf-8")))
    assert len(named) > 20
    assert named <= {canary.name for canary in CANARIES}


def test_every_fault_has_its_row() -> None:
    text = section("Faults")
    struck = [option.name for option in fields(Options) if option.name.endswith("_every")]
    missing = [name for name in [*struck, *(card.name for card in DECK)] if f"`{name}`" not in text]
    assert not missing


def test_the_canary_table_is_what_the_canaries_say() -> None:
    text = PAGE.read_text(encoding="utf-8")
    table = TABLE.search(text)
    assert table is not None, "the marks around the canaries are gone"
    expected = (
        text[: table.start(2)] + "\n" + canary_table(figures(table[2])) + text[table.end(2) :]
    )
    if os.environ.get("UPDATE_GOLDEN") == "1":
        PAGE.write_text(expected, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == expected, (
        "run `UPDATE_GOLDEN=1 .venv/bin/pytest tests/unit/test_reliability_docs.py`"
    )


def figures(table: str) -> dict[str, str]:
    """Canary -> seeds needed in the general swarm, as far as somebody has measured it."""
    known = dict(re.findall(r"^\| `(\w+)` .*\| ([^|]+) \|$", table, re.MULTILINE))
    if os.environ.get("UPDATE_GOLDEN") == "1" and CAMPAIGN.exists():
        for hunt in json.loads(CAMPAIGN.read_text(encoding="utf-8"))["canaries"]:
            known[hunt["name"]] = str(hunt["seed"] or f"not within {hunt['tried']}")
    return known


def canary_table(known: dict[str, str]) -> str:
    """All canaries, in their order."""
    lines = [
        "| canary | the mistake | stands for | its profile, seed | seeds of the swarm |",
        "|---|---|---|---|---:|",
    ]
    lines += [row(canary, known.get(canary.name, NOT_MEASURED)) for canary in CANARIES]
    return "\n".join([*lines, "", ""])


def row(canary: Canary, needed: str) -> str:
    """One canary."""
    weather = f"`{canary.profile.__name__}`, {canary.hint}"
    return f"| `{canary.name}` | {canary.mistake} | {canary.seen_in} | {weather} | {needed} |"
