"""The verbs backup save, backup inspect and backup restore.

*Save* asks the cluster, through the SDK, and writes a file that appears under its name only when it
is whole and synced: until then it has another one beside it. *Inspect* needs no cluster: it judges
every byte of a file and says what is in it. *Restore* makes the data directories of a new cluster.
What is in those is the node's business, so the node does it, as a process (``kvorum-server
restore``); here its progress is shown, and the directory is laid out as ``kvorum up`` expects it.

While it lasts, a terminal shows how far it has got; a log does not need to know.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kvorum_cli.exits import Exit, Stop
from kvorum_cli.output import write_json, write_line
from kvorum_cli.settings import (
    Number,
    Verb,
    Verbs,
    call,
    settings,
    show_help_without_verb,
)

if TYPE_CHECKING:
    from kvorum import BackupSummary
    from kvorum_cli.restore import Show
    from kvorum_proto.backup_file import BackupContents, BackupReader

NODES_MAX = 15
REVISION_BUMP_MAX = 1 << 48
BACKUP_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group(cls=Verbs)
@click.pass_context
def backup(context: click.Context) -> None:
    """Save, inspect and restore backups."""
    show_help_without_verb(context)


# --- Save ---


@backup.command(
    "save",
    cls=Verb,
    examples="""
    kvorum backup save nightly.kvb
    kvorum backup save nightly.kvb --from n3 --force
    """,
)
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--from", "source", default="", metavar="NAME", help="Node to read. [the leader]")
@click.option("--force", is_flag=True, help="Replace a file that exists.")
def save(file: Path, source: str, force: bool) -> None:
    """Save all keys and values to FILE.

    The cluster goes on meanwhile. The file holds the state at one revision, every write included
    that was acknowledged before.
    """
    if file.exists() and not force:
        raise Stop(Exit.REFUSED, f"{file} exists; --force replaces it")
    part = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        summary = _save(file, part, source)
        part.replace(file)
        _sync_directory(file.parent)
    except OSError as error:
        raise Stop(Exit.INPUT_OUTPUT, f"cannot write {file}: {error.strerror or error}") from None
    finally:
        part.unlink(missing_ok=True)
    if settings().json:
        write_json(
            {
                "file": str(file),
                "cluster_id": summary.cluster_id.hex(),
                "items": summary.items,
                "size_bytes": summary.size_bytes,
                "revisions": {str(group): revision for group, revision in summary.revisions},
                "checksum": summary.checksum.hex(),
            }
        )
        return
    from kvorum_cli.table import human_size

    write_line(
        f"saved {_count(summary.items)} at {_revisions(dict(summary.revisions))} to {file}, "
        f"{human_size(summary.size_bytes)}"
    )


def _save(file: Path, part: Path, source: str) -> BackupSummary:
    """Writes and syncs the file. Raises Stop or OSError."""
    with part.open("xb") as opened, _shown("saving") as show:
        summary = call(
            lambda client: client.backup(
                opened,
                source=source,
                progress=lambda items, size_bytes: show(_count(items), size_bytes, None),
            ),
            str(file),
        )
        opened.flush()
        os.fsync(opened.fileno())
    return summary


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# --- Inspect ---


@backup.command(
    "inspect",
    cls=Verb,
    examples="""
    kvorum backup inspect nightly.kvb
    kvorum backup inspect nightly.kvb --output json
    """,
)
@click.argument("file", type=BACKUP_FILE)
def inspect(file: Path) -> None:
    """Verify FILE and say what is in it.

    Reads every byte and checks every checksum; needs no cluster. Exits with 5 when the file is
    damaged, naming the byte.
    """
    contents = _read(file)
    if settings().json:
        write_json(_json_contents(file, contents))
        return
    for line in _contents_lines(file, contents):
        write_line(line)


def _read(file: Path) -> BackupContents:
    """What a whole and undamaged file holds. Raises Stop."""
    from kvorum_proto.backup_file import BackupError, read_through

    try:
        with file.open("rb") as opened, _shown("reading") as show:

            def progress(reader: BackupReader) -> None:
                show("", reader.offset, reader.size_bytes)

            return read_through(opened, str(file), progress)
    except BackupError as error:
        raise Stop(Exit.REFUSED, str(error)) from None
    except OSError as error:
        raise Stop(Exit.INPUT_OUTPUT, f"cannot read {file}: {error.strerror or error}") from None


def _json_contents(file: Path, contents: BackupContents) -> dict[str, object]:
    from kvorum_proto.backup_file import FORMAT

    header = contents.header
    return {
        "file": str(file),
        "format": FORMAT,
        "size_bytes": contents.size_bytes,
        "checksum": contents.checksum.hex(),
        "cluster_id": header.cluster_id.hex(),
        "created_ms": header.created_ms,
        "version": header.version,
        "protocol": header.protocol,
        "level": header.level,
        "partitions": header.partitions,
        "settings": dict(sorted(header.settings.items())),
        "groups": [
            {
                "group": group.group,
                "revision": group.revision,
                "compacted_revision": group.compacted_revision,
                "index": group.index,
                "term": group.term,
                "log_time_ms": group.log_time,
                "items": count.items,
                "item_bytes": count.item_bytes,
            }
            for group, count in contents.groups
        ],
    }


def _contents_lines(file: Path, contents: BackupContents) -> Iterator[str]:
    from datetime import UTC, datetime

    from kvorum_cli.table import human_size
    from kvorum_proto.backup_file import FORMAT

    header = contents.header
    created = datetime.fromtimestamp(header.created_ms / 1000, UTC)
    partitions = "1 partition" if header.partitions == 1 else f"{header.partitions} partitions"
    yield f"{file}: whole and undamaged, {human_size(contents.size_bytes)}, format {FORMAT}"
    yield f"saved     {created:%Y-%m-%d %H:%M:%S} UTC from kvorum {header.version}"
    yield f"cluster   {header.cluster_id.hex()}, {header.protocol}, {partitions}"
    yield f"checksum  {contents.checksum.hex()}"
    yield ""
    columns = "{:<5}  {:>12}  {:>12}  {:>12}  {:>9}"
    yield columns.format("GROUP", "REVISION", "COMPACTED", "ITEMS", "SIZE")
    for group, count in contents.groups:
        yield columns.format(
            group.group,
            group.revision,
            group.compacted_revision,
            count.items,
            human_size(count.item_bytes),
        )


# --- Restore ---


@backup.command(
    "restore",
    cls=Verb,
    examples="""
    kvorum backup restore nightly.kvb --data ./new && kvorum up --data ./new
    kvorum backup restore nightly.kvb --data ./new --nodes 3
    kvorum backup restore nightly.kvb --data /var/lib/kvorum/data --name n1 --token 2026-11-23
    --initial-cluster n1=10.0.0.1:7400,n2=10.0.0.2:7400,n3=10.0.0.3:7400
    """,
)
@click.argument("file", type=BACKUP_FILE)
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    metavar="DIRECTORY",
    help="What to make: it must be empty or not exist.",
)
@click.option(
    "--nodes", type=Number(1, NODES_MAX), metavar="N", help="Nodes on this machine, for 'up'. [1]"
)
@click.option(
    "--base-port", type=Number(1, 65_535), metavar="PORT", help="Port of the first one. [7400]"
)
@click.option("--name", metavar="NAME", help="Make one node of a cluster of several machines.")
@click.option("--initial-cluster", metavar="NAME=HOST:PORT,...", help="All its nodes.")
@click.option("--token", metavar="TEXT", help="Names this restore: the same on every machine.")
@click.option(
    "--replicas",
    type=Number(1),
    metavar="N",
    help="Replicas of each partition. [3, or fewer with fewer nodes]",
)
@click.option(
    "--revision-bump",
    type=Number(1, REVISION_BUMP_MAX),
    metavar="N",
    help="How far revisions jump. [1000000000]",
)
def restore(
    file: Path,
    data: Path,
    nodes: int | None,
    base_port: int | None,
    name: str | None,
    initial_cluster: str | None,
    token: str | None,
    replicas: int | None,
    revision_bump: int | None,
) -> None:
    """Make a new cluster from FILE.

    The nodes must not run yet. The new cluster has another id; the old one is not touched.
    """
    from kvorum_cli.restore import Options, restore_here, restore_one

    machine = (name, initial_cluster, token)
    if any(machine) and not all(machine):
        raise click.UsageError("--name, --initial-cluster and --token go together")
    if any(machine) and (nodes or base_port):
        raise click.UsageError("--nodes and --base-port are for clusters on this machine only")
    options = Options(file=file, replicas=replicas, revision_bump=revision_bump)
    with _shown("restoring") as show:
        if name and initial_cluster and token:
            restored = restore_one(options, data, name, initial_cluster, token, show)
        else:
            restored = restore_here(options, data, nodes or 1, base_port, show)
    if settings().json:
        write_json(
            {
                "data": str(data),
                "nodes": list(restored.names),
                "cluster_id": restored.cluster_id,
                "items": restored.items,
                "revisions": {str(group): number for group, number in restored.revisions.items()},
            }
        )
        return
    start = f"; 'kvorum up --data {data}' starts it" if not name else ""
    write_line(
        f"restored {_count(restored.items)} at {_revisions(restored.revisions)} into {data} "
        f"({', '.join(restored.names)}){start}"
    )


# --- Words and progress ---


def _count(items: int) -> str:
    return f"{items:,} {'item' if items == 1 else 'items'}"


def _revisions(revisions: dict[int, int]) -> str:
    """Where the groups stand.

    >>> _revisions({1: 18}), _revisions({1: 18, 2: 9})
    ('revision 18', 'revisions 18 (group 1), 9 (group 2)')
    """
    if len(revisions) == 1:
        return f"revision {next(iter(revisions.values()))}"
    return "revisions " + ", ".join(f"{at} (group {group})" for group, at in revisions.items())


@contextlib.contextmanager
def _shown(activity: str) -> Iterator[Show]:
    """A progress bar on standard error, if that is a terminal."""
    if not sys.stderr.isatty() or settings().json:
        yield lambda words, done_bytes, total_bytes: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TextColumn("{task.fields[words]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    task = progress.add_task(activity, total=None, words="")

    def show(words: str, done_bytes: int, total_bytes: int | None) -> None:
        progress.update(task, completed=done_bytes, total=total_bytes, words=words)

    with progress:
        yield show
