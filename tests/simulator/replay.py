"""The committed log of a run, executed once more by two that must agree: the product and the model.

What a group has committed is all that it may ever have done. This module goes through it from the
first entry, with a state machine of the product that never crashes, restarts or installs a
snapshot, and with the model of ``model.py`` beside it, and wants at every command:

*   *once*: the first time that a (session, sequence) is executed decides its result; every later
    copy is answered with the same bytes, or as expired or stale, and changes nothing;
*   *right*: the result is what the model says;
*   *in step*: revision and compacted revision are the model's after every entry and never fall.

The model is told of first executions only, so a copy that was applied twice leaves the two out of
step at once. How a session refuses (expired, stale, window, bytes) is taken from the product: a
refusal changes nothing, and refusing too much is no danger to what clients were promised.

The figures of the lonely state machine are compared with those that the replicas of the run had at
the same indexes (``Checkers.states``): a replica that lost something in a crash differs from it,
even when all replicas lost the same. What comes out, the list of ``Applied``, is what the clients
are judged by (``witness.py``).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from kvorum_proto import command_pb2
from kvorum_proto.command_pb2 import CommandBatch, Result
from kvorum_server.config import Config
from kvorum_server.kv.machine import KvMachine
from kvorum_server.state_machine import MachineStatus
from kvorum_server.storage.memory import MemoryEngine
from kvorum_server.storage.overlay import Overlay
from kvorum_server.types import Entry, EntryKind, GroupId
from tests.simulator.checkers import require
from tests.simulator.model import Model, Operation, Outcome
from tests.simulator.translation import operation_of_submission, outcome_of

SESSION_REFUSALS = frozenset(
    (
        command_pb2.SESSION_EXPIRED,
        command_pb2.STALE_SEQUENCE,
        command_pb2.WINDOW_EXCEEDED,
        command_pb2.LIMIT_EXCEEDED,
    )
)
"""What a session answers instead of executing. No operation of the workload is too large by
itself, so the limit is always the session's."""

LATE_REFUSALS = frozenset((command_pb2.SESSION_EXPIRED, command_pb2.STALE_SEQUENCE))
"""What a copy of an executed command may be answered instead of the stored result."""


@dataclass(frozen=True, slots=True)
class Applied:
    """One command of the log, executed for the first time."""

    index: int
    """Of the entry."""
    session: int
    sequence: int
    asked: Operation
    ran: Operation
    """Shorter than ``asked`` where a limit cut it."""
    outcome: Outcome
    before: Model
    after: Model

    @property
    def changes(self) -> bool:
        """Whether anything is different afterwards."""
        return self.after is not self.before


@dataclass(slots=True)
class Replay:
    """The commands of one group in the order of its log."""

    group: GroupId
    config: Config
    applied: list[Applied] = field(default_factory=list)
    model: Model = field(default_factory=Model.numbered)
    past: dict[int, Model] = field(default_factory=dict)
    """The model after each revision."""
    _results: dict[tuple[int, int], bytes] = field(default_factory=dict)

    def run(
        self, log: Iterable[Entry], seen: Mapping[int, tuple[MachineStatus, object]]
    ) -> "Replay":
        """Goes through a log from its first entry. ``seen``: the figures that some replica had
        after an index. Raises Violation."""
        self.past[self.model.revision] = self.model
        overlay = Overlay(MemoryEngine())
        machine = KvMachine(space=1, overlay=overlay, config=self.config, group=self.group)
        for entry in log:
            before = self.model
            results = machine.apply(entry)
            overlay.flush()
            if entry.kind is EntryKind.COMMANDS:
                batch = CommandBatch.FromString(entry.payload)
                for submission, result in zip(batch.submissions, results, strict=True):
                    self._execute(entry, submission, result)
            status = machine.status()
            where = f"group {self.group}, entry {entry.index}"
            for name in ("revision", "compacted_revision"):
                was, now = getattr(before, name), getattr(self.model, name)
                told = getattr(status, name)
                require(told == now, f"{where}: {name} is {told} and not {now}")
                require(now >= was, f"{where}: {name} fell from {was} to {now}")
            if entry.index in seen:
                other, node = seen[entry.index]
                require(
                    other == status,
                    f"{where}: node {node} has {other}, the log alone gives {status}",
                )
        return self

    def _execute(self, entry: Entry, submission: command_pb2.Submission, encoded: bytes) -> None:
        """One command and the answer that the product gave to it."""
        operation = operation_of_submission(submission, self.config.range_keys_max)
        if operation is None:
            return
        number = (submission.session, submission.sequence)
        where = f"group {self.group}, entry {entry.index}, session {number[0]}, {number[1]}"
        result = Result.FromString(encoded)
        code = result.error.code if result.WhichOneof("result") == "error" else None
        if submission.session:
            known = self._results.get(number)
            if known is not None:
                require(
                    encoded == known or code in LATE_REFUSALS,
                    f"{where}: executed again or answered otherwise: first "
                    f"{Result.FromString(known)}, now {result}",
                )
                return
            if code in SESSION_REFUSALS:
                return
            self._results[number] = encoded
        ran, outcome = outcome_of(operation, result)
        before = self.model
        self.model, expected = before.apply(ran)
        require(outcome == expected, f"{where}: {ran} gave {outcome}, expected {expected}")
        self.past.setdefault(self.model.revision, self.model)
        self.applied.append(
            Applied(entry.index, *number, operation, ran, outcome, before, self.model)
        )


def replay(
    group: GroupId,
    config: Config,
    log: Sequence[Entry],
    seen: Mapping[int, tuple[MachineStatus, object]],
) -> Replay:
    """The whole committed log of a group. Raises Violation."""
    return Replay(group, config).run(log, seen)
