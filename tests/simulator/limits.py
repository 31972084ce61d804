"""Nothing grows without a bound: every queue and table of a replica keeps to its limit in Config.

Looked at after turns, from outside, with the limits that the seed has drawn (two commands pending,
sixteen sessions, an uncut log of two KiB). What is let go beyond a limit is written here next to
it: an unlimited queue is a bug, and so is a limit that nobody can state.

The inbox, and what waits for a slow client or peer, belong to the shell; the simulator has one of
its own, so they are tested with the shell.
"""

from collections.abc import Iterator

from kvorum_server.config import KIB, Config
from kvorum_server.consensus.raft import LOG_OVERRUN
from kvorum_server.replica import CALLS_MAX, Replica
from tests.simulator.checkers import require

ENTRY_SLACK_BYTES = 4 * KIB
"""A log takes whole entries: it may end beyond its limit by one, and none in a run is larger."""


def queues(replica: Replica, config: Config) -> Iterator[tuple[str, int, int]]:
    """Name, length and limit of everything that a replica keeps for others."""
    requests = replica.requests
    # A node may propose a few commands for itself when its clients have used up the limit.
    yield "pending commands", requests.pending_commands, config.pending_commands_max + CALLS_MAX
    yield "waiting queries", requests.readers.waiting, config.pending_commands_max
    yield "sessions", replica.machine.status().sessions, config.sessions_max
    yield "chunks under way", replica.transfers.chunks_under_way, config.snapshot_window
    # A follower takes in whole messages.
    log_bytes_max = LOG_OVERRUN * config.log_bytes_max + config.append_bytes_max + ENTRY_SLACK_BYTES
    yield "bytes of uncut log", replica.consensus.log_bytes, log_bytes_max


def check_limits(name: str, replica: Replica, config: Config) -> None:
    """Raises Violation for a queue of the node of that name that is longer than it may be."""
    for queue, length, limit in queues(replica, config):
        require(
            length <= limit,
            f"{name}, group {replica.group}: {length} {queue}, at most {limit} are allowed",
        )
