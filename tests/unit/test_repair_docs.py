"""``docs/repair.md`` explains every message with which a node stops, in its own words."""

import re
from pathlib import Path

import pytest

from kvorum_server.rpc.server import PortInUse
from kvorum_server.state_machine import UnknownLevel
from kvorum_server.storage import errors
from kvorum_server.storage.rows import DamagedRows
from kvorum_server.types import Entry, EntryKind

TEXT = (Path(__file__).resolve().parents[2] / "docs/repair.md").read_text(encoding="utf-8")

SAMPLES: tuple[errors.StorageError, ...] = (
    errors.DirectoryInUse("data"),
    errors.DirectoryUnusable("data", "permission denied"),
    errors.NoRoom("data", 17),
    errors.NewerFormat("0000000000000001.wal", 3, 2),
    errors.WalDamage("0000000000000001.wal", 640, "the segment is missing"),
    errors.DiskFailure("sync", "input/output error"),
    errors.EngineDamage("read", "data/state", "Corruption: block checksum mismatch"),
    errors.StateDamaged(1, 2, 3),
    errors.StateBeyondRepair(errors.StateDamaged(1, 2, 3), 1),
    DamagedRows(1, "no event row holds revision 7"),
    UnknownLevel(1, Entry(5, 1, EntryKind.COMMANDS, 0, 9, b"")),
    PortInUse("cannot listen on 127.0.0.1:7400: the port is in use"),
)

NEVER_SHOWN = {errors.CorruptRecord}
"""Always caught and told as damage of the log."""


def rows() -> list[re.Pattern[str]]:
    """The first column of the table of messages, as patterns."""
    _, _, section = TEXT.partition("## Messages")
    section, _, _ = section.partition("\n## ")
    shown = re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE)
    return [re.compile(re.escape(text).replace(r"\.\.\.", ".*")) for text in shown]


@pytest.mark.parametrize("error", SAMPLES, ids=lambda error: type(error).__name__)
def test_every_message_has_a_row_of_its_own(error: errors.StorageError) -> None:
    found = [row for row in rows() if row.match(str(error))]
    assert found, f"docs/repair.md does not explain: {error}"


def test_no_row_explains_a_message_that_does_not_exist() -> None:
    for row in rows():
        assert any(row.match(str(error)) for error in SAMPLES), row.pattern


def test_every_error_that_stops_a_node_is_sampled() -> None:
    explained = {type(error) for error in SAMPLES} | NEVER_SHOWN
    assert set(errors.StorageError.__subclasses__()) <= explained
