"""``kvorum-server verify``: is this data directory what a healthy node leaves behind?

Read-only in the strict sense: not a byte, not a name, not a time stamp of the directory changes,
and it may lie on a read-only mount. The log is opened for reading. The engine is opened through a
*shadow*, a directory elsewhere with links to its files, because RocksDB and its binding like to
write beside them. A node that runs holds the lock of the log; then verify refuses, because it would
take a log in motion for a damaged one.

The log comes first: it says which replicas there are, in which spaces, and how far their states
have to reach. When it is damaged, the rows are read all the same, for their checksums, but there is
nothing to compare them with.

``--entry GROUP:INDEX`` shows one entry of the log instead, decoded, with the checksum by which
``recover --skip-entry`` asks for it.
"""

import argparse
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from google.protobuf import text_format
from google.protobuf.message import DecodeError

from kvorum_proto.peer_pb2 import Bootstrap
from kvorum_server.config import Config, ConfigError
from kvorum_server.offline import ToolOptions
from kvorum_server.offline.log_check import LogCheck, newest_configuration
from kvorum_server.offline.report import Findings, GroupReport, Report
from kvorum_server.offline.row_check import RowCheck
from kvorum_server.state_machine import parse_batch
from kvorum_server.storage.data_directory import (
    DAMAGE_FILE,
    LOG_DIRECTORY,
    STATE_DIRECTORY,
    noted_damage,
)
from kvorum_server.storage.engine import Engine, space_prefix
from kvorum_server.storage.errors import EngineDamage
from kvorum_server.storage.filedisk import ReadOnlyDisk
from kvorum_server.storage.memory import MemoryEngine
from kvorum_server.storage.record import entry_checksum
from kvorum_server.storage.recovery import RecoveredReplica
from kvorum_server.storage.rocksdb import RocksEngine
from kvorum_server.types import Configuration, Entry, EntryKind, GroupId

BAR_CELLS = 30

Progress = Callable[[str, int, int], None]
"""What is being read, how much of it is done, and how much there is (0 = not known)."""

_PLACE = re.compile(r"(\d+\.sst) offset (\d+)")
_COPIED = ("CURRENT", "rocksdict-config.json")
"""Small files that the binding writes again when it opens an instance."""


def main(arguments: Sequence[str]) -> int:
    """The subcommand: 0 when all is well or the entry was found, 1 when something is damaged."""
    options = ToolOptions("verify", "Check a data directory, changing nothing in it.")
    options.add_argument("--data", type=Path, required=True, help="Directory of a stopped node.")
    options.add_argument(
        "--output", choices=("text", "json"), default="text", help="Form of the report. [text]"
    )
    options.add_argument(
        "--entry",
        type=entry_place,
        metavar="GROUP:INDEX",
        help="Show one entry of the log instead.",
    )
    given = options.parse_args(arguments)
    if given.entry is not None:
        print(show_entry(given.data, *given.entry))
        return 0
    report = verify(given.data, _bar if sys.stderr.isatty() else _silence)
    print(report.as_json() if given.output == "json" else report.as_text())
    return 0 if report.is_clean else 1


def entry_place(word: str) -> tuple[GroupId, int]:
    """Group and index of ``GROUP:INDEX``.

    >>> entry_place("1:17")
    (1, 17)
    """
    match = re.fullmatch(r"([0-9]{1,9}):([0-9]{1,18})", word)
    if match is None:
        raise argparse.ArgumentTypeError(f"{word!r} must be GROUP:INDEX, 1:17 for instance")
    return int(match[1]), int(match[2])


def _silence(what: str, done: int, count: int) -> None:
    """Progress for programs: none."""


def _bar(what: str, done: int, count: int) -> None:
    """Progress for people, on one line of the terminal that is wiped at the end."""
    filled = BAR_CELLS * done // count if count else 0
    bar = f"[{'=' * filled}{' ' * (BAR_CELLS - filled)}] {done} of {count}" if count else f"{done}"
    end = "\r\x1b[K" if count and done == count else ""
    print(f"\r\x1b[K{what} {bar}{end}", end="", file=sys.stderr, flush=True)


def verify(data: Path, progress: Progress) -> Report:
    """Checks all of a data directory. Raises ConfigError when it is none, DirectoryInUse when a
    node runs on it, NewerFormat when this program is too old for it.
    """
    with _log_of(data) as disk:
        report = Report(str(data))
        check = _check_log(disk, report, progress)
        replicas = list(check.replicas.values())
        report.groups = [_group_report(replica) for replica in replicas]
        _check_state(data, check, report, progress)
        return report


def show_entry(data: Path, group: GroupId, index: int) -> str:
    """One entry for people; what of the log can be read is enough. Raises ConfigError when the log
    does not hold the entry, and what :func:`verify` raises.
    """
    with _log_of(data) as disk:
        findings = Findings()
        check = LogCheck(findings, [])
        check.run(disk, lambda done, count: None)
        held = check.reading.entries.get(group, [])
        entry = next((entry for entry in held if entry.index == index), None)
        if entry is None:
            there = f"{held[0].index} to {held[-1].index}" if held else "none"
            raise ConfigError(f"the log holds no entry {index} of group {group}; it holds {there}")
        file, offset = check.places[group, index]
        damage = [f"damage: {finding.line()}" for finding in findings.kept]
        return "\n".join([*_shown(group, entry, f"{file}, write at byte {offset}"), *damage])


@contextmanager
def state_of(data: Path) -> Iterator[Engine]:
    """The rows of a stopped node, for reading only; none when there are no files. Raises
    EngineDamage.
    """
    if not _has_state(data / STATE_DIRECTORY):
        yield MemoryEngine()
        return
    with (
        _shadow(data / STATE_DIRECTORY) as shadow,
        closing(RocksEngine(shadow, Config(), read_only=True)) as engine,
    ):
        yield engine


@contextmanager
def _log_of(data: Path) -> Iterator[ReadOnlyDisk]:
    if not (data / LOG_DIRECTORY).is_dir():
        raise ConfigError(f"{data} is no data directory of a node: it has no {LOG_DIRECTORY}/")
    with closing(ReadOnlyDisk(data / LOG_DIRECTORY)) as disk:
        yield disk


def _check_log(disk: ReadOnlyDisk, report: Report, progress: Progress) -> LogCheck:
    check = LogCheck(report.findings, report.notes)
    check.run(disk, lambda done, count: progress("log segments", done, count))
    if not check.files and report.is_clean:
        raise ConfigError(f"{disk.path} holds no segment: no node was ever started on it")
    state = check.reading.state
    report.identity = f"{state.identity:016x}"
    report.boot = state.boot
    if state.bootstrap is not None:
        try:
            report.cluster_id = Bootstrap.FromString(state.bootstrap).cluster_id.hex()
        except DecodeError:
            report.findings.add(LOG_DIRECTORY, None, "the birth certificate does not parse")
    report.segments = check.used_segments
    report.spare_segments = len(check.files) - check.used_segments
    report.writes = check.reading.writes
    report.entries = check.entries
    report.records = dict(check.records)
    return check


def _group_report(replica: RecoveredReplica) -> GroupReport:
    configuration = newest_configuration(replica)
    start = replica.log_start[0]
    return GroupReport(
        group=replica.group,
        replica=replica.replica,
        space=replica.space,
        term=replica.hard_state.term,
        vote=replica.hard_state.vote,
        commit=replica.hard_state.commit,
        applied=None,
        checkpoint=replica.checkpoint_index,
        log_first=start + 1,
        log_last=start + len(replica.entries),
        voters=list(configuration.voters),
        outgoing=list(configuration.outgoing),
        learners=list(configuration.learners),
        skipped=sorted(replica.skipped),
        state_lost=replica.state_lost,
    )


# --- The state ---


def _check_state(data: Path, check: LogCheck, report: Report, progress: Progress) -> None:
    directory = data / STATE_DIRECTORY
    if not _has_state(directory):
        for replica in check.replicas.values():
            if replica.checkpoint_index and not replica.state_lost:
                report.findings.add(
                    STATE_DIRECTORY,
                    None,
                    f"it is missing, but a checkpoint of group {replica.group} at "
                    f"{replica.checkpoint_index} was made",
                )
        return
    noted = noted_damage(data)
    if noted:
        report.findings.add(f"{STATE_DIRECTORY}/{DAMAGE_FILE}", None, noted)
    try:
        with state_of(data) as engine:
            _check_spaces(engine, check, report, progress)
    except EngineDamage as damage:
        _blame_engine(damage, report.findings)


def _has_state(directory: Path) -> bool:
    return directory.is_dir() and any(directory.iterdir())


@contextmanager
def _shadow(directory: Path) -> Iterator[Path]:
    """A directory that looks like another one; what is written into it goes nowhere."""
    with tempfile.TemporaryDirectory(prefix="kvorum-verify-") as name:
        shadow = Path(name)
        for file in directory.iterdir():
            if file.name in _COPIED:
                shutil.copyfile(file, shadow / file.name)
            elif file.is_file():
                (shadow / file.name).symlink_to(file.resolve())
        yield shadow


def _check_spaces(engine: Engine, check: LogCheck, report: Report, progress: Progress) -> None:
    """Every space that the log names against its replica; the rows of others for their checksums
    only.
    """
    spaces = {replica.space: replica for replica in check.replicas.values()}
    groups = {group.group: group for group in report.groups}
    for space in sorted({*spaces, *engine.spaces()}):
        replica = spaces.get(space)
        try:
            if replica is not None and not replica.state_lost:
                rows = RowCheck(engine, replica, report.findings)
                rows.run(_of_group(replica.group, progress))
                group = groups[replica.group]
                group.rows = dict(rows.counts)
                group.applied = rows.meta.index if rows.meta is not None else 0
                continue
            rows_read = sum(1 for _ in engine.scan(space_prefix(space), space_prefix(space + 1)))
            if replica is None and check.replicas:
                report.notes.append(
                    f"space {space} with {rows_read} rows belongs to no replica (a snapshot that "
                    "never arrived in full, or a state that was replaced); the next start drops it"
                )
        except EngineDamage as damage:
            _blame_engine(damage, report.findings)


def _of_group(group: GroupId, progress: Progress) -> Callable[[int], None]:
    return lambda done: progress(f"rows of group {group}", done, 0)


def _blame_engine(damage: EngineDamage, findings: Findings) -> None:
    """RocksDB names the file and the block that it could not read."""
    place = _PLACE.search(damage.reason)
    reason = damage.reason.replace(damage.directory, STATE_DIRECTORY).strip()
    if place is None:
        findings.add(STATE_DIRECTORY, None, reason)
    else:
        findings.add(f"{STATE_DIRECTORY}/{place[1]}", int(place[2]), reason)


# --- One entry ---


def _shown(group: GroupId, entry: Entry, place: str) -> Iterator[str]:
    yield f"group     {group}"
    yield f"index     {entry.index}"
    yield f"term      {entry.term}"
    yield f"kind      {entry.kind.name.lower()}"
    yield f"stamp     {entry.stamp} ms of log time"
    yield f"level     {entry.level}"
    yield f"payload   {len(entry.payload)} bytes"
    yield f"checksum  {entry_checksum(entry):08x}"
    yield f"place     {place}"
    yield from _contents(entry)


def _contents(entry: Entry) -> Iterator[str]:
    try:
        match entry.kind:
            case EntryKind.COMMANDS:
                for position, submission in enumerate(parse_batch(entry.payload)):
                    text = text_format.MessageToString(submission, as_one_line=True)
                    yield f"command   {position}: {text}"
            case EntryKind.CONFIGURATION:
                configuration = Configuration.decode(entry.payload)
                text = text_format.MessageToString(configuration.to_proto(), as_one_line=True)
                yield f"members   {text}"
            case EntryKind.NO_OP:
                yield "contents  none: a new leader's first entry"
    except DecodeError:
        yield f"contents  do not parse; apply takes the entry for an empty one: {entry.payload!r}"
