"""A state machine with its engine and its place in the log, for tests of everything in ``kv``."""

from kvorum_proto.command_pb2 import (
    CommandBatch,
    Get,
    Put,
    Query,
    Range,
    Result,
    SessionOpen,
    Submission,
)
from kvorum_server.config import Config
from kvorum_server.kv.machine import KvMachine
from kvorum_server.storage.memory import MemoryEngine
from kvorum_server.storage.overlay import Overlay
from kvorum_server.types import Entry, EntryKind

SPACE = 7


class Harness:
    """Commits entries to one KvMachine, each with a stamp ten milliseconds later."""

    def __init__(self, config: Config | None = None, engine: MemoryEngine | None = None) -> None:
        self.config = config or Config()
        self.engine = engine or MemoryEngine()
        self.restart()
        self.stamp = self.machine.status().log_time

    def restart(self) -> None:
        """What was not written to the engine is lost, and so is everything in memory."""
        self.overlay = Overlay(self.engine)
        self.machine = KvMachine(space=SPACE, overlay=self.overlay, config=self.config, group=1)

    def entry(self, *submissions: Submission, stamp: int | None = None) -> Entry:
        """The next entry of the log."""
        self.stamp = self.stamp + 10 if stamp is None else stamp
        payload = CommandBatch(submissions=submissions).SerializeToString()
        index = self.machine.status().applied_index + 1
        return Entry(index, 1, EntryKind.COMMANDS, self.stamp, 1, payload)

    def apply(self, *submissions: Submission, stamp: int | None = None) -> list[Result]:
        """One entry, as a leader applies it; its rows are written."""
        entry = self.entry(*submissions, stamp=stamp)
        results = [Result.FromString(one) for one in self.machine.apply(entry, submissions)]
        self.overlay.flush()
        self.machine.check_invariants()
        return results

    def do(self, submission: Submission, *, stamp: int | None = None) -> Result:
        """One command in an entry of its own."""
        (result,) = self.apply(submission, stamp=stamp)
        return result

    def put(self, key: bytes, value: bytes) -> int:
        """The revision of a plain put."""
        return self.do(Submission(put=Put(key=key, value=value))).put.revision

    def open_session(self) -> int:
        """A new session's id."""
        return self.do(Submission(session_open=SessionOpen())).session_open.session

    def read(self, query: Query) -> Result:
        """The answer, however many slices it takes."""
        answer = self.machine.read(query)
        while not isinstance(answer, Result):
            found = answer.advance()
            if found is not None:
                return found
        return answer

    def get(self, key: bytes, revision: int = 0) -> bytes | None:
        """A value, None when the key is not there."""
        answer = self.read(Query(get=Get(key=key, revision=revision))).get
        return answer.item.value if answer.HasField("item") else None

    def keys(self, query: Range) -> list[bytes]:
        """The keys that a range query answers with."""
        return [item.key for item in self.read(Query(range=query)).range.items]

    def rows(self) -> list[tuple[bytes, bytes]]:
        """Everything in the engine."""
        return list(self.engine.scan(b"", b"\xff" * 5))
