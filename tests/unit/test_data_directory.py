"""Quarantine: a damaged log and its state are moved away, whatever interrupts the moving."""

import os
from pathlib import Path

import pytest

from kvorum_server.storage.data_directory import (
    OpenLog,
    must_join,
    open_log,
    quarantine,
    quarantines,
)
from kvorum_server.storage.errors import DirectoryInUse, DirectoryUnusable, WalDamage
from kvorum_server.storage.record import BootstrapRecord

DAMAGE = WalDamage("0000000000000002.wal", 640, "a write that was durable cannot be read")


class PowerFailure(Exception):
    """Ends the test's process, so to speak."""


def directory(data: Path, mark: str = "old") -> Path:
    (data / "log").mkdir(parents=True)
    (data / "log/0000000000000001.wal").write_text(f"log of {mark}")
    (data / "state").mkdir()
    (data / "state/000001.sst").write_text(f"state of {mark}")
    return data


def contents(place: Path) -> dict[str, str]:
    return {
        str(path.relative_to(place)): path.read_text()
        for path in place.rglob("*")
        if path.is_file()
    }


OLD = {"log/0000000000000001.wal": "log of old", "state/000001.sst": "state of old"}
NOTE = {"damage.txt": f"{DAMAGE.found}\n"}


def test_everything_is_moved_and_nothing_is_lost(tmp_path: Path) -> None:
    data = directory(tmp_path)
    assert quarantines(data) == []
    place = quarantine(data, DAMAGE)
    assert place == data / "quarantine-1"
    assert contents(place) == OLD | NOTE
    assert [path.name for path in data.iterdir()] == ["quarantine-1"]


def test_each_damage_gets_a_quarantine_of_its_own(tmp_path: Path) -> None:
    for number in range(1, 12):
        directory(tmp_path, str(number))
        assert quarantine(tmp_path, DAMAGE).name == f"quarantine-{number}"
    assert [place.name for place in quarantines(tmp_path)][-2:] == [
        "quarantine-10",
        "quarantine-11",
    ]
    assert contents(tmp_path / "quarantine-3")["log/0000000000000001.wal"] == "log of 3"


def test_a_log_without_a_state_is_moved_as_well(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    assert contents(quarantine(tmp_path, DAMAGE)) == NOTE
    assert (tmp_path / "quarantine-1/log").is_dir()


@pytest.mark.parametrize("steps", range(12))
def test_a_crash_between_any_two_steps_is_finished_by_the_next_start(
    tmp_path: Path, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = directory(tmp_path)
    left = steps

    def dying(call: object) -> object:
        def step(*arguments: object) -> object:
            nonlocal left
            if left == 0:
                raise PowerFailure
            left -= 1
            return call(*arguments)  # type: ignore[operator]

        return step

    with monkeypatch.context() as patch:
        for name in ("rename", "fsync"):
            patch.setattr(os, name, dying(getattr(os, name)))
        try:
            quarantine(data, DAMAGE)
        except PowerFailure:
            assert set(OLD.values()) <= set(contents(data).values()), "nothing is ever lost"
    if (data / "log").exists():
        # The next start finds the same damage in the same log.
        assert quarantine(data, DAMAGE) == data / "quarantine-1"
    assert [path.name for path in data.iterdir()] == ["quarantine-1"]
    assert contents(data / "quarantine-1") == OLD | NOTE


def test_other_names_are_no_quarantine(tmp_path: Path) -> None:
    for name in ("quarantine-0", "quarantine-x", "quarantine", "quarantine-1.old"):
        (tmp_path / name).mkdir()
    (tmp_path / "quarantine-7").write_text("a file")
    assert quarantines(tmp_path) == []
    assert quarantines(tmp_path / "missing") == []


# --- Opening ---


def opened(data: Path, *, may_join: bool, identity: int = 7) -> OpenLog:
    return open_log(data, segment_bytes=4096, new_identity=lambda: identity, may_join=may_join)


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """The directory of a member of a cluster, with a flipped bit in what was promised."""
    found = opened(tmp_path, may_join=False)
    found.log.append([BootstrapRecord(b"certificate")])
    found.log.sync()
    found.log.claim()
    found.log.sync()
    found.close()
    path = tmp_path / "log/0000000000000001.wal"
    content = bytearray(path.read_bytes())
    content[200] ^= 1
    path.write_bytes(content)
    return tmp_path


def test_a_damaged_node_that_knows_others_comes_back_as_a_new_one(damaged: Path) -> None:
    before = (damaged / "log/0000000000000001.wal").read_bytes()
    found = opened(damaged, may_join=True, identity=8)
    assert found.recovered.fresh
    assert found.recovered.identity == 8
    assert found.damage is not None
    assert found.place == damaged / "quarantine-1"
    assert (found.place / "log/0000000000000001.wal").read_bytes() == before
    assert must_join(damaged, found.recovered)
    found.close()
    again = opened(damaged, may_join=True, identity=9)
    assert (again.damage, again.recovered.identity) == (None, 8), "quarantined once"
    assert must_join(damaged, again.recovered), "until it belongs to a cluster"
    again.log.append([BootstrapRecord(b"certificate")])
    again.log.sync()
    again.close()
    member = opened(damaged, may_join=True)
    assert not must_join(damaged, member.recovered)
    member.close()


def test_a_damaged_node_that_knows_nobody_is_left_as_it_is(damaged: Path) -> None:
    before = contents_as_bytes(damaged)
    with pytest.raises(WalDamage, match="start the node with --join"):
        opened(damaged, may_join=False)
    assert contents_as_bytes(damaged) == before
    with pytest.raises(WalDamage):
        opened(damaged, may_join=False)


def contents_as_bytes(place: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in place.rglob("*") if path.is_file()}


def test_what_is_healthy_or_new_is_opened_as_it_is(tmp_path: Path) -> None:
    found = opened(tmp_path, may_join=True)
    assert found.recovered.fresh
    assert not must_join(tmp_path, found.recovered), "a new node may found a cluster"
    with pytest.raises(DirectoryInUse):
        opened(tmp_path, may_join=True)
    found.close()
    assert quarantines(tmp_path) == []


def test_a_directory_that_cannot_be_moved_is_told_in_one_line(
    damaged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "rename", full)
    with pytest.raises(DirectoryUnusable, match="No space left on device"):
        opened(damaged, may_join=True)
    monkeypatch.undo()
    found = opened(damaged, may_join=True, identity=8)
    assert found.recovered.identity == 8
    found.close()
