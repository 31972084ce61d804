"""``kvorum-server recover``: two decisions that only a person may take, written into the log.

*Skip an entry.* An entry that stops apply stops every node, at the same place, again after every
start. ``--skip-entry GROUP:INDEX:CHECKSUM`` makes apply take it for an empty one. Replicas stay
equal only if all of them skip it, so it is to be run on every node that holds the group; the
checksum (``verify --entry`` shows it) makes sure that all mean the same entry. On a node that has
not received the entry yet the decision waits for it.

*Found a new cluster on what is left.* When a majority is lost for ever, nobody may commit or elect,
and rightly so: a survivor cannot know what the others had acknowledged. ``--force-new-cluster``
makes the node the only voter of every group that it holds. It appends a configuration entry of one
voter, at a new term; the next start elects itself and commits all that is in its log. What only the
lost nodes had is lost.

The survivor gets a *new cluster id* at the same moment, in the same write. Were it to keep the old
one, a lost majority that came back (a machine repaired, a network healed) would elect its own
leader beside it, and both would be right: two clusters under one name, and nobody could tell. So
they are strangers from then on: peers and clients of the old cluster are refused by its id, and the
old nodes can only come back empty.

Both refuse what is damaged, change nothing before everything is checked, and write all of it as one
write of the log: there is no half of a recovery.

Left out: joining what several survivors hold (choose the one that holds most), and partitions that
have no replica here (they are named, and lost).
"""

import re
import secrets
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from kvorum_proto.command_pb2 import CommandBatch, MemberInfo, RecoverCluster, Submission
from kvorum_proto.peer_pb2 import Bootstrap
from kvorum_server.config import Config, ConfigError
from kvorum_server.offline import ToolOptions, ToolRefused
from kvorum_server.offline.log_check import LogCheck, newest_configuration
from kvorum_server.offline.report import Findings
from kvorum_server.offline.verify import state_of, verify
from kvorum_server.placement.catalog import CatalogMachine
from kvorum_server.placement.roster import INITIAL_LEVEL
from kvorum_server.storage.data_directory import LOG_DIRECTORY
from kvorum_server.storage.disk import DiskFull
from kvorum_server.storage.errors import NoRoom
from kvorum_server.storage.filedisk import FileDisk
from kvorum_server.storage.overlay import Overlay
from kvorum_server.storage.record import (
    ClusterRecovered,
    EntriesAppended,
    EntrySkipped,
    HardStateChanged,
    Record,
    entry_checksum,
)
from kvorum_server.storage.recovery import RecoveredReplica
from kvorum_server.storage.rows import MetaRow
from kvorum_server.storage.wal import WriteAheadLog
from kvorum_server.types import (
    CATALOG_GROUP,
    FEATURE_LEVEL,
    Configuration,
    Entry,
    EntryKind,
    GroupId,
    HardState,
    Member,
    NodeId,
)

CLUSTER_ID_BYTES = 16


@dataclass(frozen=True, slots=True)
class EntryName:
    """An entry as an operator names it: where it stands, and which one it is."""

    group: GroupId
    index: int
    checksum: int

    @classmethod
    def parse(cls, word: str) -> "EntryName":
        """
        >>> EntryName.parse("1:17:00c0ffee")
        EntryName(group=1, index=17, checksum=12648430)
        """
        match = re.fullmatch(r"([0-9]{1,9}):([0-9]{1,18}):([0-9a-fA-F]{8})", word)
        if match is None:
            raise ArgumentTypeError(
                f"{word!r} must be GROUP:INDEX:CHECKSUM, as 'kvorum-server verify --entry' has them"
            )
        return cls(int(match[1]), int(match[2]), int(match[3], 16))


def main(arguments: Sequence[str]) -> int:
    """The subcommand: 0 when it is done."""
    options = ToolOptions(
        "recover", "Skip an entry that stops apply, or found a new cluster on a lone survivor."
    )
    options.add_argument("--data", type=Path, required=True, help="Directory of a stopped node.")
    what = options.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--skip-entry",
        type=EntryName.parse,
        metavar="GROUP:INDEX:CHECKSUM",
        help="Apply takes this entry for an empty one. The same on EVERY node that has the group.",
    )
    what.add_argument(
        "--force-new-cluster",
        action="store_true",
        help="A majority is lost FOR EVER: this node founds a new cluster on what it holds.",
    )
    options.add_argument(
        "--yes",
        metavar="CLUSTER_ID",
        help="Instead of typing the id of the old cluster, for --force-new-cluster.",
    )
    given = options.parse_args(arguments)
    if given.skip_entry is not None:
        skip_entry(given.data, given.skip_entry)
        print(
            f"entry {given.skip_entry.index} of group {given.skip_entry.group} will be skipped; "
            "do the same on EVERY other node that has the group, then start them"
        )
        return 0

    def confirm(warning: str) -> str:
        print(warning)
        return str(given.yes) if given.yes is not None else _typed("Type the cluster id to go on: ")

    print(force_new_cluster(given.data, confirm, secrets.token_bytes(CLUSTER_ID_BYTES)))
    return 0


def _typed(question: str) -> str:
    """What the operator types; nothing when there is nobody, or somebody who would rather not."""
    try:
        return input(question)
    except (EOFError, KeyboardInterrupt):
        return ""


# --- Skip an entry ---


def skip_entry(data: Path, name: EntryName) -> None:
    """Writes the decision. Raises ToolRefused when the entry is another one or applied already,
    and StorageError.
    """
    with _stopped_node(data) as (disk, check):
        replica = check.replicas.get(name.group)
        if replica is None:
            raise ToolRefused(
                f"this node has no replica of group {name.group}: there is nothing to skip here"
            )
        with state_of(data) as engine:
            row = engine.get(MetaRow.key(replica.space))
        applied = 0 if row is None else MetaRow.decode(replica.space, row).index
        if name.index <= applied:
            raise ToolRefused(
                f"entry {name.index} of group {name.group} is applied on this node already, which "
                f"is at {applied}: skip it nowhere, or the replicas differ for ever"
            )
        held = next((entry for entry in replica.entries if entry.index == name.index), None)
        if held is not None:
            _check_named(name, held)
        _write(disk, [EntrySkipped(name.group, replica.replica, name.index, name.checksum)])


def _check_named(name: EntryName, entry: Entry) -> None:
    found = entry_checksum(entry)
    if found != name.checksum:
        raise ToolRefused(
            f"entry {name.index} of group {name.group} has checksum {found:08x} here, not "
            f"{name.checksum:08x}: it is another entry; look at it with 'kvorum-server verify "
            f"--entry {name.group}:{name.index}' on every node"
        )
    if entry.kind is not EntryKind.COMMANDS:
        raise ToolRefused(
            f"entry {name.index} of group {name.group} is a {entry.kind.name.lower()}, which never "
            "stops apply; only commands can be skipped"
        )
    if entry.level > FEATURE_LEVEL:
        raise ToolRefused(
            f"entry {name.index} of group {name.group} needs feature level {entry.level}, this "
            f"program knows {FEATURE_LEVEL}: upgrade kvorum-server instead of skipping it"
        )


# --- A new cluster on a lone survivor ---


def force_new_cluster(data: Path, confirm: Callable[[str], str], new_cluster_id: bytes) -> str:
    """Makes the node the first one of a new cluster; what to do next, for people.

    ``confirm`` is shown the warning and returns what the operator typed. Raises ToolRefused when
    that is not the id of the old cluster or the directory is not fit for it, and StorageError.
    """
    report = verify(data, lambda what, done, count: None)
    if not report.is_clean:
        raise ToolRefused(
            f"{data} is damaged ({report.findings.kept[0].line()}): choose another survivor, or "
            "restore a backup; 'kvorum-server verify' lists the damage"
        )
    with _stopped_node(data) as (disk, check):
        state = check.reading.state
        if state.bootstrap is None:
            raise ToolRefused(f"the node in {data} belongs to no cluster yet: start it instead")
        old = Bootstrap.FromString(state.bootstrap)
        lost = [group for group, replica in check.replicas.items() if replica.state_lost]
        if lost:
            raise ToolRefused(
                f"the state of group {lost[0]} is lost on this node: choose another survivor, or "
                "restore a backup"
            )
        if CATALOG_GROUP not in check.replicas:
            raise ToolRefused("this node has no catalog yet: choose another survivor")
        members = _members(data, old, check.replicas[CATALOG_GROUP])
        survivor = members.pop(state.identity, None)
        if survivor is None:
            raise ToolRefused(
                "the catalog of this node does not know the node itself: choose another survivor"
            )
        survivor.learner, survivor.leaving_since = False, 0
        others = [member.name for member in members.values()]
        typed = confirm(warning_text(old, survivor, others, list(check.replicas.values())))
        if typed.strip() != old.cluster_id.hex():
            raise ToolRefused(
                f"{typed.strip()!r} is not the id of the cluster; nothing was changed"
            )
        _write(disk, recovery(old, survivor, check.replicas, new_cluster_id))
    return (
        f"this node is the first one of the new cluster {new_cluster_id.hex()}; start it with the "
        "options that it had, look at its data, then bring in others with empty directories: "
        "kvorum member add"
    )


def recovery(
    old: Bootstrap,
    survivor: MemberInfo,
    replicas: Mapping[GroupId, RecoveredReplica],
    cluster_id: bytes,
) -> list[Record]:
    """All that a recovery writes: the new certificate, and in every log a configuration of one
    voter. In the catalog a command follows it that forgets the other members; every configuration
    says that it follows that command, so that no leader acts on an older catalog.
    """
    catalog = _end_of(replicas[CATALOG_GROUP])
    command = RecoverCluster(survivor=survivor, groups=sorted(replicas))
    batch = CommandBatch(submissions=[Submission(recover_cluster=command)])
    forget = catalog.index + 2
    certificate = new_certificate(old, cluster_id)
    records: list[Record] = [ClusterRecovered(certificate.SerializeToString(deterministic=True))]
    for group, replica in sorted(replicas.items()):
        entries = [_sole_voter(replica, survivor.identity, version=forget)]
        if group == CATALOG_GROUP:
            payload = batch.SerializeToString()
            entries.append(
                replace(entries[0], index=forget, kind=EntryKind.COMMANDS, payload=payload)
            )
        hard_state = HardState(entries[0].term, replica.replica, replica.hard_state.commit)
        records += [
            HardStateChanged(group, replica.replica, hard_state),
            EntriesAppended(group, replica.replica, tuple(entries)),
        ]
    return records


def new_certificate(old: Bootstrap, cluster_id: bytes) -> Bootstrap:
    """The certificate of the new cluster: that of the old one under another id.

    Its members stay, although they are gone: the catalog begins as the certificate says, and a
    replica that has only the log must come to the same catalog as one that has its rows.
    """
    assert cluster_id != old.cluster_id, "the old cluster must never take the new one for itself"
    bootstrap = Bootstrap()
    bootstrap.CopyFrom(old)
    bootstrap.cluster_id = cluster_id
    bootstrap.recovered_from = old.cluster_id
    return bootstrap


def _sole_voter(replica: RecoveredReplica, identity: NodeId, *, version: int) -> Entry:
    """The entry that makes a replica the only voter of its group.

    Its term is above every one that this replica has heard of. It follows everything that the log
    holds, so what was not known to be committed becomes so as well: it may have been acknowledged.
    ``version`` may be lower than before: versions are indexes of the catalog's log, and of that the
    survivor may have held less than the group's last leader.
    """
    end, before = _end_of(replica), newest_configuration(replica)
    configuration = Configuration(
        voters=(replica.replica,),
        outgoing=(),
        learners=(),
        members=(Member(replica.replica, identity),),
        next_replica=max(before.next_replica, replica.replica + 1),
        version=version,
    )
    term = max(replica.hard_state.term, end.term) + 1
    return Entry(
        end.index + 1, term, EntryKind.CONFIGURATION, end.stamp, end.level, configuration.encode()
    )


def _end_of(replica: RecoveredReplica) -> Entry:
    """The last entry of a log; for a log that was cut behind its last one, what is known of it."""
    if replica.entries:
        return replica.entries[-1]
    index, term = replica.log_start
    return Entry(index, term, EntryKind.NO_OP, replica.log_start_stamp, INITIAL_LEVEL, b"")


def _members(data: Path, old: Bootstrap, catalog: RecoveredReplica) -> dict[NodeId, MemberInfo]:
    """The members of the old cluster, as the catalog of this node describes them."""
    with state_of(data) as engine:
        machine = CatalogMachine(
            space=catalog.space, overlay=Overlay(engine), config=Config(), bootstrap=old
        )
        return machine.roster.members


def warning_text(
    old: Bootstrap,
    survivor: MemberInfo,
    others: Sequence[str],
    replicas: Sequence[RecoveredReplica],
) -> str:
    """All that the operator has to know before."""
    own, other_names = survivor.name, ", ".join(sorted(others)) or "none"
    missing = set(range(1, old.partitions + 1)) - {replica.group for replica in replicas}
    return "\n".join(
        [
            f"!!! This founds a NEW cluster on {own}, with what {own} holds and nothing else. !!!",
            "",
            f"old cluster: {old.cluster_id.hex()}",
            f"its other nodes: {other_names}",
            "",
            "ACKNOWLEDGED WRITES MAY BE LOST: all that the other nodes had and this one lacks:",
            *(f"  {line}" for replica in replicas for line in _limits(replica)),
            *(f"  group {group}: EVERYTHING; it has no replica here" for group in sorted(missing)),
            "",
            f"NEVER START THE OTHER NODES AGAIN with their data ({other_names}): they would go on",
            "as the old cluster, and clients would write to both. Remove their data directories.",
            "They can come back empty only, by 'kvorum member add'.",
            "",
            "Clients that know the old cluster id are refused until they are started again.",
            "Do this only when a majority is lost FOR EVER. If its disks exist, start it instead.",
        ]
    )


def _limits(replica: RecoveredReplica) -> Iterator[str]:
    last = replica.log_start[0] + len(replica.entries)
    term = replica.entries[-1].term if replica.entries else replica.log_start[1]
    stamp = replica.entries[-1].stamp if replica.entries else replica.log_start_stamp
    yield (
        f"group {replica.group}: every entry after {last} (term {term}, log time {stamp} ms), and "
        f"any that another leader put in its place"
    )
    commit = replica.hard_state.commit
    if commit < last:
        yield (
            f"group {replica.group}: entries {commit + 1} to {last} were not known to be committed "
            "here; they are kept, and become so"
        )


# --- The log of a stopped node ---


@contextmanager
def _stopped_node(data: Path) -> Iterator[tuple[FileDisk, LogCheck]]:
    """The locked log of a node that does not run, read and unchanged. Raises ToolRefused when it is
    damaged, ConfigError when there is none.
    """
    if not (data / LOG_DIRECTORY).is_dir():
        raise ConfigError(f"{data} is no data directory of a node: it has no {LOG_DIRECTORY}/")
    with closing(FileDisk(data / LOG_DIRECTORY)) as disk:
        findings = Findings()
        check = LogCheck(findings, [])
        check.run(disk, lambda done, count: None)
        for file in check.files:
            file.file.close()
        if findings.kept:
            raise ToolRefused(f"the log is damaged: {findings.kept[0].line()}; nothing was changed")
        if not check.files:
            raise ConfigError(f"{disk.path} holds no segment: no node was ever started on it")
        yield disk, check


def _write(disk: FileDisk, records: Sequence[Record]) -> None:
    """Makes the records durable, all or none; new segments get the size of the smallest one."""
    sizes = []
    for name in disk.names():
        with closing(disk.open(name)) as file:
            sizes.append(file.size())
    try:
        log, _ = WriteAheadLog.open(disk, segment_bytes=min(sizes), new_identity=_no_identity)
        with closing(log):
            log.append(records)
            log.sync()
    except DiskFull:
        raise NoRoom(str(disk.path), disk.free_bytes()) from None


def _no_identity() -> int:
    raise AssertionError("the log was there a moment ago")
