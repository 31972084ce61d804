"""Mistakes to plant around the protocol: durability, checkpoints, snapshots, sessions, apply.

As in ``mistakes_in_agreement.py``: each function breaks the product in one place for as long as
its patch lasts, and its docstring says the mistake in one sentence.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from kvorum_server.checkpoint import Checkpoints
from kvorum_server.consensus.core import Ready
from kvorum_server.events import Effects
from kvorum_server.host import Host
from kvorum_server.kv.session import STALE, Session, SessionTable
from kvorum_server.outbox import Outbox
from kvorum_server.replica import Replica
from kvorum_server.snapshot import SnapshotSender
from kvorum_server.storage.log_state import ReplicaState
from kvorum_server.storage.overlay import Overlay
from kvorum_server.storage.rows import PREFIX_BYTES, Table
from kvorum_server.transfer import Transfers
from kvorum_server.types import Entry, HardState, ReplicaId
from tests.simulator.client import Client, Request
from tests.simulator.disk import SimulatedFile

TABLE_BYTE = PREFIX_BYTES - 1

# --- Durability ---


def acknowledge_before_sync(patch: pytest.MonkeyPatch) -> None:
    """Votes and append acknowledgements leave before the write that they promise is durable."""
    original = Replica._write

    def write(self: Replica, ready: Ready, outbox: Outbox) -> None:
        ready.messages += ready.messages_after_append
        ready.messages_after_append = []
        original(self, ready, outbox)

    patch.setattr(Replica, "_write", write)


def sync_nothing(patch: pytest.MonkeyPatch) -> None:
    """A sync returns and has made nothing durable."""
    patch.setattr(SimulatedFile, "sync", lambda self: None)


def forget_the_term_with_its_segment(patch: pytest.MonkeyPatch) -> None:
    """A new segment does not repeat term and vote: they go with the last segment that has them."""
    original = ReplicaState.encode

    def encode(self: ReplicaState) -> bytes:
        return original(replace(self, hard_state=HardState()))

    patch.setattr(ReplicaState, "encode", encode)


def cut_before_the_flush(patch: pytest.MonkeyPatch) -> None:
    """The log is cut when a checkpoint is asked for, not when the state is durable."""

    def after_flush(self: Checkpoints, action: Callable[[Outbox], None]) -> None:
        asked.append(action)

    def effects(self: Host, outbox: Outbox) -> Effects:
        while asked:
            asked.pop()(outbox)
        return original(self, outbox)

    asked: list[Callable[[Outbox], None]] = []
    original = Host._effects
    patch.setattr(Checkpoints, "after_flush", after_flush)
    patch.setattr(Host, "_effects", effects)


# --- Apply ---


def write_the_applied_index_apart(patch: pytest.MonkeyPatch) -> None:
    """The applied index goes into the engine with a write of its own, the data with the next."""

    def flush(self: Overlay) -> None:
        rows, self._rows, self._keys = self._rows, {}, None
        meta = {key: row for key, row in rows.items() if key[TABLE_BYTE] == Table.META}
        data = {key: row for key, row in rows.items() if key not in meta}
        for part in (meta, data):
            if part:
                self.engine.write(part)

    patch.setattr(Overlay, "flush", flush)


def apply_the_clock_of_the_node(patch: pytest.MonkeyPatch) -> None:
    """Apply looks at something that is not in the log: replicas drift apart."""
    original = Replica._apply_entry

    def apply(self: Replica, entry: Entry, outbox: Outbox) -> int:
        assert self._now is not None
        return original(self, replace(entry, stamp=entry.stamp + self._now % 2), outbox)

    patch.setattr(Replica, "_apply_entry", apply)


# --- Sessions ---


def retry_without_a_session(patch: pytest.MonkeyPatch) -> None:
    """A client repeats what nothing protects from being applied twice."""

    def is_at_most_once(self: Client, request: Request) -> bool:
        return False

    patch.setattr(Client, "_is_at_most_once", is_at_most_once)


def drop_the_sessions_at_restart(patch: pytest.MonkeyPatch) -> None:
    """A node that starts, or has installed a snapshot, knows no session."""
    original = SessionTable.__init__

    def init(self: SessionTable, space: int, overlay: Overlay, config: Any) -> None:
        original(self, space, overlay, config)
        for session in list(self._sessions.values()):
            self._remove(session)

    patch.setattr(SessionTable, "__init__", init)


def apply_late_copies(patch: pytest.MonkeyPatch) -> None:
    """A copy that arrives after the client has acknowledged the result is applied again."""
    judge, keep = SessionTable.judge, Session.keep

    def judge_kindly(
        self: SessionTable, session: Session, sequence: int, acknowledged_below: int
    ) -> bytes | None:
        answer = judge(self, session, sequence, acknowledged_below)
        return None if answer is STALE else answer

    def keep_the_awaited(self: Session, sequence: int, result: bytes) -> None:
        if sequence >= self.acknowledged_below:
            keep(self, sequence, result)

    patch.setattr(SessionTable, "judge", judge_kindly)
    patch.setattr(Session, "keep", keep_the_awaited)


# --- Snapshots ---


def leave_sessions_out_of_snapshots(patch: pytest.MonkeyPatch) -> None:
    """A snapshot has the keys and not the sessions."""
    original = SnapshotSender.__init__

    def init(self: SnapshotSender, **arguments: Any) -> None:
        original(self, **arguments)
        rows = self._rows
        assert rows is not None
        self._rows = (row for row in rows if row[0][TABLE_BYTE] != Table.SESSION)

    patch.setattr(SnapshotSender, "__init__", init)


def forget_the_newer_snapshot(patch: pytest.MonkeyPatch) -> None:
    """A follower that needs a second snapshot in the turn in which the first arrives gets none."""

    def begin(self: Transfers, replica: Replica, target: ReplicaId) -> None:
        if target not in self._senders:
            self._wanted.add(target)

    patch.setattr(Transfers, "begin", begin)
