"""What a client did, as a line of JSON, and back: histories outlive the processes that made them.

A record is more than a ``Call`` of the checker: operations that failed without effect are no part
of a history, but the report counts and draws them. Times are nanoseconds of the machine's monotonic
clock, which all its processes share whatever namespace they live in.

Values of the model (operations, outcomes, items) are written as ``["Put", key, value]``, tuples as
``["tuple", ...]``, bytes as Latin-1 text.
"""

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from tests.simulator import model
from tests.simulator.linearizability import NEVER, Call

TYPES: dict[str, Callable[..., object]] = {
    kind.__name__: kind
    for kind in (
        *(model.Put, model.Delete, model.Increment, model.Get, model.Scan, model.DeleteRange),
        *(model.Transaction, model.Item, model.Written, model.Deleted, model.Incremented),
        *(model.Found, model.Decided, model.Refused),
    )
}
TUPLE = "tuple"


@dataclass(frozen=True, slots=True)
class Record:
    """One operation: when it began and ended, and what came of it.

    ``outcome`` and no ``error``: acknowledged. ``error`` says why there is no outcome; ``unknown``
    that the operation may have been applied all the same.
    """

    client: int
    begin_ns: int
    end_ns: int
    operation: model.Operation
    outcome: model.Outcome | None = None
    error: str = ""
    unknown: bool = False

    def __post_init__(self) -> None:
        assert self.begin_ns <= self.end_ns
        assert (self.outcome is None) == bool(self.error)
        assert self.error or not self.unknown

    @property
    def call(self) -> Call | None:
        """The operation as the checker judges it; None: it had no effect."""
        if self.unknown:
            return Call(self.client, self.begin_ns, NEVER, self.operation, None)
        if self.outcome is None:
            return None
        return Call(self.client, self.begin_ns, self.end_ns, self.operation, self.outcome)

    def line(self) -> str:
        """The record as a line of JSON."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return json.dumps({name: _plain(value) for name, value in fields.items()}) + "\n"

    @classmethod
    def of(cls, line: str) -> "Record":
        """A record from its line.

        >>> record = Record(1, 5, 9, model.Put(b"key", b"1"), model.Written(0))
        >>> Record.of(record.line()) == record
        True
        """
        fields = json.loads(line)
        for name in ("operation", "outcome"):
            fields[name] = _valued(fields[name])
        return cls(**fields)


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, tuple):
        return [TUPLE, *map(_plain, value)]
    if dataclasses.is_dataclass(value):
        fields = (getattr(value, field.name) for field in dataclasses.fields(value))
        return [type(value).__name__, *map(_plain, fields)]
    return value


def _valued(value: object) -> object:
    if isinstance(value, str):
        return value.encode("latin-1")
    if not isinstance(value, list):
        return value
    name, *parts = value
    inner = tuple(map(_valued, parts))
    return inner if name == TUPLE else TYPES[cast(str, name)](*inner)


def read(paths: Iterable[Path]) -> list[Record]:
    """All records of some files, by the time they began."""
    return sorted(_lines(paths), key=lambda record: record.begin_ns)


def _lines(paths: Iterable[Path]) -> Iterator[Record]:
    for path in paths:
        with path.open() as file:
            yield from map(Record.of, file)
