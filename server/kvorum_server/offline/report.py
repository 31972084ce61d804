"""What ``kvorum-server verify`` has to say, as values, as text for people and as JSON for programs.

A *finding* is damage: the directory is not what a healthy node leaves behind, and the exit code is
1. A *note* is something worth knowing that is no damage: a torn tail, which the next start cuts, or
the rows of a snapshot that never arrived in full. A damaged disk has a lot to tell, so the number
of findings is bounded; that there were more is said.

Left out: colours and bars; the text is for terminals, tickets and mails alike.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field

FINDINGS_MAX = 100
"""Findings that are kept; the first ones are those that say where to look."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One piece of damage: where (``offset`` in bytes, None where a file has no say) and what."""

    file: str
    offset: int | None
    message: str

    def line(self) -> str:
        """One line for people.

        >>> Finding("log/0000000000000001.wal", 640, "a write cannot be read").line()
        'log/0000000000000001.wal at byte 640: a write cannot be read'
        """
        place = "" if self.offset is None else f" at byte {self.offset}"
        return f"{self.file}{place}: {self.message}"


class Findings:
    """The damage found so far; at most ``FINDINGS_MAX`` are kept, all are counted."""

    def __init__(self) -> None:
        self.kept: list[Finding] = []
        self.count = 0

    def add(self, file: str, offset: int | None, message: str) -> None:
        """One more."""
        self.count += 1
        if len(self.kept) < FINDINGS_MAX:
            self.kept.append(Finding(file, offset, message))


@dataclass(slots=True)
class GroupReport:
    """One replica of this node. ``applied`` is None where the state could not be read.

    ``rows`` counts the rows of each table of its space.
    """

    group: int
    replica: int
    space: int
    term: int
    vote: int
    commit: int
    applied: int | None
    checkpoint: int
    log_first: int
    log_last: int
    voters: list[int]
    outgoing: list[int]
    learners: list[int]
    skipped: list[int]
    state_lost: bool
    rows: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Report:
    """Everything about one data directory."""

    directory: str
    identity: str = ""
    boot: int = 0
    cluster_id: str = ""
    segments: int = 0
    spare_segments: int = 0
    writes: int = 0
    entries: int = 0
    records: dict[str, int] = field(default_factory=dict)
    groups: list[GroupReport] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    findings: Findings = field(default_factory=Findings)

    @property
    def is_clean(self) -> bool:
        """Whether nothing is damaged."""
        return not self.findings.count

    def as_json(self) -> str:
        """The report as one JSON object; ``findings`` has the kept ones, ``damage`` counts all."""
        values = {
            "directory": self.directory,
            "clean": self.is_clean,
            "identity": self.identity,
            "boot": self.boot,
            "cluster_id": self.cluster_id,
            "segments": self.segments,
            "spare_segments": self.spare_segments,
            "writes": self.writes,
            "entries": self.entries,
            "records": self.records,
            "groups": [asdict(group) for group in self.groups],
            "notes": self.notes,
            "damage": self.findings.count,
            "findings": [asdict(finding) for finding in self.findings.kept],
        }
        return json.dumps(values, indent=2)

    def as_text(self) -> str:
        """The report for people."""
        records = ", ".join(f"{count} {name}" for name, count in sorted(self.records.items()))
        lines = [
            f"node      {self.identity}, started {self.boot} times, "
            f"{f'of cluster {self.cluster_id}' if self.cluster_id else 'of no cluster yet'}",
            f"log       {self.segments} segments and {self.spare_segments} spare ones, "
            f"{self.writes} writes, {self.entries} entries",
            f"records   {records or 'none'}",
        ]
        if self.groups:
            lines += ["", *_table(self.groups)]
        if self.notes:
            lines += ["", *(f"note: {note}" for note in self.notes)]
        if self.is_clean:
            return "\n".join([*lines, "", "no damage found"])
        lines += ["", *(f"damage: {finding.line()}" for finding in self.findings.kept)]
        rest = self.findings.count - len(self.findings.kept)
        if rest:
            lines.append(f"damage: and {rest} more")
        return "\n".join([*lines, "", f"damaged: {self.findings.count} findings"])


def _table(groups: Sequence[GroupReport]) -> list[str]:
    head = ("GROUP", "REPLICA", "TERM", "VOTE", "COMMIT", "APPLIED", "LOG", "MEMBERS", "ROWS")
    rows = [
        (
            str(one.group),
            str(one.replica),
            str(one.term),
            str(one.vote or "-"),
            str(one.commit),
            "lost" if one.state_lost else "?" if one.applied is None else str(one.applied),
            f"{one.log_first}-{one.log_last}" if one.log_last >= one.log_first else "empty",
            _members(one),
            ", ".join(f"{count} {table}" for table, count in one.rows.items()) or "none",
        )
        for one in groups
    ]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return [_aligned(row, widths) for row in (head, *rows)]


def _members(one: GroupReport) -> str:
    """
    >>> _members(GroupReport(1, 1, 1, 1, 0, 0, 0, 0, 1, 0, [1, 4], [1, 2], [5], [], False))
    '1 4, outgoing 1 2, learners 5'
    """
    parts = [" ".join(map(str, one.voters))]
    for name, replicas in (("outgoing", one.outgoing), ("learners", one.learners)):
        if replicas:
            parts.append(f"{name} {' '.join(map(str, replicas))}")
    return ", ".join(parts)


def _aligned(cells: Iterable[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
