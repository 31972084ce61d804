"""Every number and switch of a node, in one frozen value, parsed and validated once at start.

A field's unit stands last in its name. ``metadata["help"]`` is the text of ``kvorum-server
--help`` and of ``docs/configuration.md``; a test compares them. The same names serve as flags
(``--tick-ms``), environment variables (``KVORUM_TICK_MS``) and TOML keys (``tick_ms``); flags win
over the environment, which wins over the file.

Limits are here and not in the code that obeys them, so that the simulator can shrink them (a
batch of one command, a segment of 4 KiB) and make rare paths common.
"""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

KIB = 1024
MIB = 1024 * KIB


class ConfigError(ValueError):
    """An option is missing, unknown or has an impossible value; the message names it and the
    remedy.
    """


def _option(default: Any, help: str, minimum: int | None = None) -> Any:
    return field(default=default, metadata={"help": help, "minimum": minimum})


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All options of one node.

    >>> Config(name="n1", initial_cluster="n1=127.0.0.1:7400").tick_ms
    25
    """

    # Identity and place
    name: str = _option("n1", "Name of this node, unique in the cluster.")
    data: Path = _option(Path("kvorum-data"), "Directory that this node keeps everything in.")
    listen: str = _option("127.0.0.1:7400", "host:port of the gRPC server for clients and peers.")
    initial_cluster: str = _option(
        "",
        "The nodes of a new cluster, name=host:port,... with the addresses under which they reach "
        "each other; the first named one starts it.",
    )
    join: str = _option(
        "",
        "host:port,... of members of a running cluster that this node joins; it must be expected "
        "there (kvorum member add).",
    )
    partitions: int = _option(1, "Partitions of a new cluster; fixed for its life.", 1)
    replicas: int = _option(3, "Replicas of each partition of a new cluster.", 1)
    consensus: str = _option("raft", "Consensus protocol of a new cluster.")

    # Time
    tick_ms: int = _option(
        25, "Length of a tick; elections and heartbeats are counted in ticks.", 1
    )
    heartbeat_ticks: int = _option(2, "A leader sends a heartbeat every so many ticks.", 1)
    election_ticks_min: int = _option(20, "Shortest election timeout.", 2)
    election_ticks_max: int = _option(40, "Longest election timeout.", 3)
    reconnect_wait_ms_max: int = _option(
        30, "A follower that lost its connection to the leader waits a random time up to this.", 0
    )

    # Requests
    key_bytes_max: int = _option(8 * KIB, "Longest key.", 1)
    value_bytes_max: int = _option(1 * MIB, "Longest value.", 1)
    request_bytes_max: int = _option(2 * MIB, "Largest single request.", 1)
    transaction_operations_max: int = _option(128, "Operations and compares in one txn.", 1)
    transaction_depth_max: int = _option(4, "Nesting of txn in txn.", 1)
    range_keys_max: int = _option(1000, "Keys that one delete-range command may touch.", 1)
    scan_page_keys_max: int = _option(1000, "Items in one answer to a scan.", 1)
    scan_page_bytes_max: int = _option(1 * MIB, "Bytes in one answer to a scan.", 1)
    scan_slice_rows: int = _option(4096, "Rows that a scan or count reads in one turn.", 1)
    entry_commands_max: int = _option(1024, "Commands in one log entry (at most 1024).", 1)
    entry_bytes_max: int = _option(
        1 * MIB, "Bytes in one log entry; a larger command goes alone.", 1
    )
    apply_commands_max: int = _option(
        4096, "Commands applied, and single keys read, in one turn.", 1
    )
    inbox_events_max: int = _option(8192, "Events waiting for a turn; beyond, clients get BUSY.", 1)
    pending_commands_max: int = _option(
        16384,
        "Requests in flight on a node, and commands in a group; above half of it a connection gets "
        "no more than its share, beyond it BUSY.",
        1,
    )
    client_connections_max: int = _option(1024, "Client streams on one node.", 1)
    client_outbox_bytes_max: int = _option(
        32 * MIB, "Replies waiting for one slow client before its stream is closed.", 1
    )
    replies_bytes_max: int = _option(
        256 * MIB, "Replies waiting for all clients of a node; beyond, requests get BUSY.", 1
    )
    turn_reply_bytes_max: int = _option(
        4 * MIB, "Bytes that queries are answered with in one turn; the rest waits for the next.", 1
    )

    # Sessions
    session_idle_ms: int = _option(600_000, "Log time after which an unused session dies.", 1)
    session_window: int = _option(4096, "Sequences of a session beyond its acknowledged ones.", 1)
    session_bytes_max: int = _option(8 * MIB, "Stored results of one session.", 1)
    sessions_max: int = _option(100_000, "Sessions of a group.", 1)

    # Log, checkpoints, snapshots
    log_bytes_max: int = _option(64 * MIB, "Uncut log in memory; beyond: checkpoint and cut.", 1)
    log_inflight_bytes_max: int = _option(
        16 * MIB,
        "Log bytes that a leader appends before they are committed, and bytes of requests in "
        "flight on a node, shared like pending_commands_max.",
        1,
    )
    log_tail_entries: int = _option(1000, "Entries that a cut leaves for slow followers.", 0)
    segment_bytes: int = _option(16 * MIB, "Size of a write-ahead-log segment.", 4 * KIB)
    claim_idle_ms: int = _option(50, "Silence after which a bare durable claim is written.", 1)
    checkpoint_bytes: int = _option(32 * MIB, "Log bytes between two checkpoints.", 1)
    checkpoint_entries: int = _option(100_000, "Entries between two checkpoints.", 1)
    checkpoint_age_ms: int = _option(
        300_000, "Time between two checkpoints while there are writes.", 1
    )
    snapshot_chunk_bytes: int = _option(256 * KIB, "Size of a chunk of a snapshot.", 1)
    snapshot_window: int = _option(4, "Chunks of a snapshot on the way at once.", 1)
    snapshot_timeout_ticks: int = _option(
        400, "A snapshot transfer or backup without progress fails.", 1
    )
    backup_streams_max: int = _option(2, "Backups that a node serves at once; beyond: BUSY.", 0)
    backup_slice_rows: int = _option(
        500, "Rows that a backup reads before everything else gets its turn.", 1
    )

    # Replication
    append_bytes_max: int = _option(1 * MIB, "Bytes in one append message.", 1)
    learner_lag_entries_max: int = _option(
        100, "A learner this close to the end of the log may become a voter.", 0
    )
    append_inflight_max: int = _option(64, "Append messages on the way to one follower.", 1)
    peer_outbox_bytes_max: int = _option(
        64 * MIB, "Bytes waiting for one peer; beyond, messages are dropped (Raft repeats them).", 1
    )

    # State
    history_revisions_max: int = _option(
        1_000_000, "Old revisions kept; older ones are compacted; 0 = never by count.", 0
    )
    history_age_ms: int = _option(
        3_600_000, "Age after which revisions are compacted; 0 = never.", 0
    )
    compaction_slice_rows: int = _option(1000, "Event rows cleared away in one turn.", 1)
    disk_reserve_bytes: int = _option(
        256 * MIB, "Free disk space below which writes are refused.", 0
    )
    state_hash_interval_ms: int = _option(
        600_000, "Log time between two comparisons of the replicas' states; 0 = never.", 0
    )
    state_hash_slice_rows: int = _option(1000, "Rows that a comparison reads in one tick.", 1)
    memtable_bytes: int = _option(32 * MIB, "RocksDB write buffer.", 64 * KIB)
    row_cache_bytes: int = _option(64 * MIB, "Current rows of a partition kept in memory.", 0)
    block_cache_bytes: int = _option(64 * MIB, "RocksDB block cache.", 0)

    # Shell
    switch_interval_us: int = _option(
        100, "Python's thread switch interval: how long a finished fsync may wait for the loop.", 1
    )
    shutdown_grace_ms: int = _option(4000, "Longest graceful shutdown after SIGTERM.", 1)
    log_level: str = _option("info", "debug, info, warning or error.")
    log_format: str = _option("console", "console or json.")

    def __post_init__(self) -> None:
        for option in dataclasses.fields(self):
            minimum = option.metadata["minimum"]
            value = getattr(self, option.name)
            if minimum is not None and value < minimum:
                raise ConfigError(f"{option.name} is {value}; it must be at least {minimum}")
        if self.election_ticks_min <= self.heartbeat_ticks * 2:
            raise ConfigError(
                f"election_ticks_min is {self.election_ticks_min}; it must be more than twice "
                f"heartbeat_ticks ({self.heartbeat_ticks}), or a late heartbeat deposes a leader"
            )
        if self.election_ticks_max <= self.election_ticks_min:
            raise ConfigError(
                f"election_ticks_max is {self.election_ticks_max}; it must be greater than "
                f"election_ticks_min ({self.election_ticks_min})"
            )
        if self.entry_commands_max > 1024:
            raise ConfigError(
                f"entry_commands_max is {self.entry_commands_max}; session ids leave room for 1024"
            )

    @property
    def election_timeout_ms(self) -> int:
        """The shortest election timeout in milliseconds."""
        return self.election_ticks_min * self.tick_ms
