"""``kvorum-server restore``: the data directory of a node of a new cluster, made from a backup.

Restoring is done by each node for itself, from the same file and the same few words, without a
network. Everything that the nodes of a cluster must agree on is therefore a function of these:
cluster id and identities are hashes of the file's checksum, the initial cluster, the options and a
*token*, a text that names this restore. Who restores twice takes another token, and the two
clusters are strangers to each other; so are nodes that were given different words by mistake.

What is written is what a running node would have left behind: the rows of every group that this
node holds, flushed; then a log with the birth certificate and one installed snapshot for each
group, at an index that the old cluster never reached (see ``kv/backup.py``). The catalog has no
rows: like after every birth it makes them from the certificate.

The directory is made beside its place, under the name ``<data>.restoring``, synced, and renamed at
the end: there is a whole data directory or none. A failure removes what it has begun, a crash
leaves a name that no node is started with.

Left out: changing the number of partitions, which would give keys to other groups.
"""

import argparse
import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kvorum_proto.backup_file import BackupError, BackupReader, DamagedBackup, ItemsBlock
from kvorum_proto.backup_pb2 import BackupGroup, BackupHeader
from kvorum_proto.peer_pb2 import Bootstrap
from kvorum_server.config import MIB, Config, ConfigError
from kvorum_server.consensus import PROTOCOLS
from kvorum_server.initial_cluster import InitialCluster
from kvorum_server.kv.backup import contradiction, impossible, restored_meta, restored_rows
from kvorum_server.offline import ToolOptions, refuse
from kvorum_server.placement.bootstrap import (
    initial_configurations,
    make_bootstrap,
    with_cluster_settings,
)
from kvorum_server.storage.disk import DiskFull
from kvorum_server.storage.errors import EngineDamage
from kvorum_server.storage.filedisk import FileDisk
from kvorum_server.storage.record import (
    BootstrapRecord,
    HardStateChanged,
    Record,
    ReplicaCreated,
    SnapshotInstalled,
)
from kvorum_server.storage.rocksdb import RocksEngine
from kvorum_server.storage.rows import MetaRow
from kvorum_server.storage.wal import WriteAheadLog
from kvorum_server.types import (
    CATALOG_GROUP,
    FEATURE_LEVEL,
    Configuration,
    GroupId,
    HardState,
    ReplicaId,
    SnapshotMeta,
)

REVISION_BUMP_DEFAULT = 1_000_000_000
REVISION_BUMP_MAX = 1 << 48
REPLICAS_DEFAULT = 3
PARTITIONS_MAX = 1 << 16
STAGING_SUFFIX = ".restoring"
FLUSH_BYTES = 64 * MIB
"""Rows that gather in memory before they are flushed."""
PROGRESS_BYTES = 4 * MIB
CLUSTER_ID_BYTES = 16
IDENTITY_BYTES = 8


class RestoreRefused(Exception):
    """This file cannot become this directory; one line that says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restore:
    """What is to be restored, and as what."""

    file: Path
    data: Path
    name: str
    cluster: InitialCluster
    token: str
    replicas: int
    revision_bump: int = REVISION_BUMP_DEFAULT

    def derive(self, purpose: str, checksum: bytes, size_bytes: int) -> bytes:
        """Bytes that every node of this restore, and nobody else, comes to for a purpose."""
        digest = hashlib.blake2b(digest_size=size_bytes, person=b"kvorum restore")
        numbers = f"{self.replicas} {self.revision_bump}"
        for part in (purpose, self.token, self.cluster.text, numbers):
            encoded = part.encode()
            digest.update(len(encoded).to_bytes(4, "big") + encoded)
        digest.update(checksum)
        return digest.digest()

    def identity(self, name: str, checksum: bytes) -> int:
        """The identity of a node of the new cluster."""
        return int.from_bytes(self.derive(f"node {name}", checksum, IDENTITY_BYTES), "big") or 1

    def bootstrap(self, header: BackupHeader, checksum: bytes) -> Bootstrap:
        """The birth certificate of the new cluster. Raises ConfigError."""
        names = [name for name, _ in self.cluster.members]
        return make_bootstrap(
            cluster_id=self.derive("cluster", checksum, CLUSTER_ID_BYTES),
            members=self.cluster.members,
            identities={name: self.identity(name, checksum) for name in names},
            partitions=header.partitions,
            replicas=self.replicas,
            protocol=header.protocol,
            initial_cluster_hash=self.cluster.hash,
            settings=with_cluster_settings(Config(), Bootstrap(settings=header.settings)),
        )


@dataclass(frozen=True, slots=True)
class Place:
    """A group as this node sees it: the replica that it holds, if any, and the space of its rows.

    ``meta`` is where the group begins; the catalog begins with nothing.
    """

    configuration: Configuration
    replica: ReplicaId | None
    space: int
    meta: MetaRow | None = None


Report = Callable[[int, int], None]
"""Told now and then: items restored, bytes of the file read."""


def main(arguments: Sequence[str]) -> int:
    """The subcommand: progress as lines of JSON, then a last line about what was restored."""
    try:
        restored = restore(_wanted(arguments), _print_progress)
    except (BackupError, RestoreRefused) as error:
        return refuse(str(error), 1)
    print(json.dumps({"restored": restored}), flush=True)
    return 0


def restore(wanted: Restore, report: Report) -> dict[str, object]:
    """Makes the directory; what it holds, for people and programs.

    Raises BackupError for the file, RestoreRefused, StorageError or OSError for the directory,
    ConfigError for the options. Then nothing is left behind.
    """
    _check_place(wanted.data)
    with wanted.file.open("rb") as file:
        reader = BackupReader(file, str(wanted.file))
        _check_header(reader.header, str(wanted.file))
        bootstrap = wanted.bootstrap(reader.header, reader.stated_checksum)
        identity = wanted.identity(wanted.name, reader.stated_checksum)
        places = {
            group: Place(configuration, configuration.replica_of(identity), space)
            for space, (group, configuration) in enumerate(
                initial_configurations(bootstrap).items(), 1
            )
        }
        with _staging(wanted.data) as staging:
            loading = _Loading(staging / "state", reader, wanted.revision_bump, places, report)
            items = loading.run()
            _write_log(staging / "log", identity, bootstrap, loading.places)
    return {
        "cluster_id": bootstrap.cluster_id.hex(),
        "identity": f"{identity:016x}",
        "items": items,
        "revisions": {
            str(group): place.meta.revision
            for group, place in loading.places.items()
            if place.meta is not None
        },
    }


def _check_place(data: Path) -> None:
    """A restore fills a directory that does not exist yet or is empty, and nothing else."""
    if data.is_mount():
        raise RestoreRefused(
            f"{data} is a mount point, which cannot be replaced in one step; "
            f"restore into a directory below it, --data {data / 'data'}"
        )
    if data.exists() and (not data.is_dir() or any(data.iterdir())):
        raise RestoreRefused(f"{data} is not empty; choose another --data directory")
    staging = data.with_name(data.name + STAGING_SUFFIX)
    if staging.exists():
        raise RestoreRefused(
            f"{staging} is there: another restore is under way, or one has crashed; "
            "remove it when none is"
        )


def _check_header(header: BackupHeader, name: str) -> None:
    if header.level > FEATURE_LEVEL:
        raise RestoreRefused(
            f"{name} comes from a cluster of feature level {header.level}, this program knows "
            f"{FEATURE_LEVEL}; upgrade kvorum"
        )
    if header.protocol not in PROTOCOLS:
        raise RestoreRefused(
            f"{name} comes from a cluster that agrees by {header.protocol!r}, "
            "which this program does not know; upgrade kvorum"
        )
    if not 1 <= header.partitions <= PARTITIONS_MAX:
        raise RestoreRefused(f"{name} comes from a cluster of {header.partitions} partitions")


@contextlib.contextmanager
def _staging(data: Path) -> Iterator[Path]:
    """A directory that becomes ``data`` at the end, or nothing."""
    staging = data.with_name(data.name + STAGING_SUFFIX)
    staging.mkdir(parents=True)
    try:
        yield staging
        _sync_directory(staging)
        staging.rename(data)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    _sync_directory(data.parent)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class _Loading:
    """Reads the file into the rows of a new engine; ``places`` learn where their groups begin."""

    def __init__(
        self,
        path: Path,
        reader: BackupReader,
        revision_bump: int,
        places: dict[GroupId, Place],
        report: Report,
    ) -> None:
        self.places = dict(places)
        self._path = path
        self._reader = reader
        self._bump = revision_bump
        self._report = report
        self._unflushed_bytes = 0
        self._reported_bytes = 0
        self._items = 0
        self._last_key = b""

    def run(self) -> int:
        """The number of items, when all rows are durable."""
        try:
            with contextlib.closing(RocksEngine(self._path, Config())) as engine:
                self._load(engine)
                engine.flush()
        except EngineDamage as error:
            raise RestoreRefused(f"cannot write {self._path}: {error.reason}") from error
        missing = [
            group
            for group, place in self.places.items()
            if group != CATALOG_GROUP and place.meta is None
        ]
        if missing:
            raise self._damaged(f"it lacks group {missing[0]}")
        return self._items

    def _load(self, engine: RocksEngine) -> None:
        saved = BackupGroup()
        for block in self._reader.blocks():
            if isinstance(block, BackupGroup):
                saved = block
                self._last_key = b""
                self._begin_group(engine, saved)
            else:
                self._load_items(engine, saved, block)
            if self._reader.offset - self._reported_bytes >= PROGRESS_BYTES:
                self._reported_bytes = self._reader.offset
                self._report(self._items, self._reader.offset)

    def _begin_group(self, engine: RocksEngine, saved: BackupGroup) -> None:
        place = self.places.get(saved.group)
        if place is None or saved.group == CATALOG_GROUP:
            raise self._damaged(f"it has a group {saved.group}, which its header does not know")
        reason = impossible(saved)
        if reason is not None:
            raise self._damaged(reason)
        meta = restored_meta(saved, self._bump)
        self.places[saved.group] = dataclasses.replace(place, meta=meta)
        if place.replica is not None:
            engine.write({MetaRow.key(place.space): meta.encode()})

    def _load_items(self, engine: RocksEngine, saved: BackupGroup, block: ItemsBlock) -> None:
        items = list(block.items())
        reason = contradiction(saved, self._last_key, items)
        if reason is not None:
            raise self._damaged(reason)
        place = self.places[saved.group]
        if not items or place.replica is None:
            return
        self._last_key = items[-1].key
        engine.write(restored_rows(place.space, items))
        self._items += len(items)
        self._unflushed_bytes += len(block.payload)
        if self._unflushed_bytes >= FLUSH_BYTES:
            engine.flush()
            self._unflushed_bytes = 0

    def _damaged(self, reason: str) -> DamagedBackup:
        return DamagedBackup(self._reader.name, self._reader.offset, reason)


def _write_log(
    path: Path, identity: int, bootstrap: Bootstrap, places: dict[GroupId, Place]
) -> None:
    """The log of a node that was born, and then installed a snapshot of each of its groups."""
    records: list[Record] = [BootstrapRecord(bootstrap.SerializeToString(deterministic=True))]
    for group, place in places.items():
        replica = place.replica
        if replica is None:
            continue
        records.append(ReplicaCreated(group, replica, place.space, place.configuration))
        if place.meta is not None:
            meta = SnapshotMeta(
                place.meta.index, place.meta.term, place.meta.stamp, place.configuration
            )
            records += [
                HardStateChanged(group, replica, HardState(term=place.meta.term)),
                SnapshotInstalled(group, replica, place.space, meta),
            ]
    disk = FileDisk(path)
    try:
        log, _ = WriteAheadLog.open(
            disk, segment_bytes=Config().segment_bytes, new_identity=lambda: identity
        )
        log.append(records)
        log.sync()
        log.close()
    except DiskFull as error:
        raise RestoreRefused(
            f"cannot write {path}: its disk has {disk.free_bytes()} free bytes; free some space"
        ) from error
    finally:
        disk.close()


def _print_progress(items: int, read_bytes: int) -> None:
    print(json.dumps({"items": items, "read_bytes": read_bytes}), flush=True)


def _number(least: int, most: int) -> Callable[[str], int]:
    def number(word: str) -> int:
        if not (word.isascii() and word.isdigit() and least <= int(word) <= most):
            raise argparse.ArgumentTypeError(f"{word!r} must be a number from {least} to {most}")
        return int(word)

    return number


def _wanted(arguments: Sequence[str]) -> Restore:
    """The command line. Raises ConfigError."""
    options = ToolOptions("restore", "Make a node of a new cluster from a backup.")
    options.add_argument("file", type=Path, help="What 'kvorum backup save' has written.")
    options.add_argument("--data", type=Path, required=True, help="Directory to make.")
    options.add_argument("--name", required=True, help="Name of this node.")
    options.add_argument(
        "--initial-cluster",
        required=True,
        metavar="NAME=HOST:PORT,...",
        help="The nodes of the new cluster, the same text on each.",
    )
    options.add_argument(
        "--token", required=True, help="Names this restore: the same on each node, never again."
    )
    options.add_argument(
        "--replicas",
        type=_number(1, 1 << 16),
        help=f"Replicas of each partition. [{REPLICAS_DEFAULT}, or fewer with fewer nodes]",
    )
    options.add_argument(
        "--revision-bump",
        type=_number(1, REVISION_BUMP_MAX),
        default=REVISION_BUMP_DEFAULT,
        help=f"Added to the revision of every group. [{REVISION_BUMP_DEFAULT}]",
    )
    given = options.parse_args(arguments)
    cluster = InitialCluster.parse(given.initial_cluster)
    if given.name not in cluster.addresses:
        raise ConfigError(f"name is {given.name!r}, which initial_cluster does not name")
    return Restore(
        file=given.file,
        data=given.data.absolute(),
        name=given.name,
        cluster=cluster,
        token=given.token,
        replicas=given.replicas or min(REPLICAS_DEFAULT, len(cluster.members)),
        revision_bump=given.revision_bump,
    )
