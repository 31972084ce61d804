"""Is everything that the clients saw explained, and did every node do its duty?

The history is judged generation by generation (see ``workload``): every operation touches the keys
of one generation only, so a generation is one object, and linearizability is a property of each
object by itself (Herlihy and Wing, 1990, theorem 1). The final state of every generation, read when
all faults were over, is part of its history. Revisions, which not every call of the SDK shows, are
left out of that search and judged by themselves, which is quick and says more plainly what is
wrong:

* no two writes have one revision, and a write that began after another was acknowledged has the
  greater one;
* a read shows nothing older than the latest write to its key that was acknowledged before the read
  began: this is what *stale* means;
* every value acknowledged in the ledger is there at the end.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from tests.chaos.records import Record
from tests.chaos.workload import LEDGER, generation_of
from tests.simulator.linearizability import Call, Verdict, search
from tests.simulator.model import (
    Decided,
    Found,
    Get,
    Item,
    Model,
    Put,
    Scan,
    Written,
    without_revisions,
)

STEPS_MAX = 400_000
REVISION_MISTAKES_MAX = 5


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the histories say. ``undecided``: generations whose search was given up."""

    operations: int
    generations: int
    undecided: int
    violations: tuple[str, ...]
    stale_reads: int
    lost_writes: int
    ledger_writes: int


def judge(
    records: Sequence[Record], final: Sequence[Record], ledger: Mapping[bytes, bytes] | None
) -> Judgement:
    """Judges all records of a run; ``final`` are the last reads, ``ledger`` what it holds then.

    None: nobody could read it, and nothing is known of it.
    """
    verdicts = {
        generation: search(calls, Model.unnumbered(), STEPS_MAX)
        for generation, calls in sorted(histories([*records, *final]).items())
    }
    lost = [] if ledger is None else list(lost_writes(records, ledger))
    stale = list(stale_reads([*records, *final]))
    return Judgement(
        operations=len(records),
        generations=len(verdicts),
        undecided=sum(verdict.linearizable is None for verdict in verdicts.values()),
        violations=(
            *(complaint(number, v) for number, v in verdicts.items() if v.linearizable is False),
            *list(revision_mistakes(records))[:REVISION_MISTAKES_MAX],
            *stale[:REVISION_MISTAKES_MAX],
            *lost[:REVISION_MISTAKES_MAX],
        ),
        stale_reads=len(stale),
        lost_writes=len(lost),
        ledger_writes=sum(1 for _ in acknowledged_in_ledger(records)),
    )


def complaint(generation: int, verdict: Verdict) -> str:
    """Why a generation is not linearizable."""
    return f"generation {generation} is not linearizable: {verdict.explanation}"


def histories(records: Iterable[Record]) -> dict[int, list[Call]]:
    """The calls of each generation, without revisions."""
    found: dict[int, list[Call]] = defaultdict(list)
    for record in records:
        call, generation = record.call, generation_of(record.operation)
        if call is not None and generation is not None:
            outcome = None if call.outcome is None else without_revisions(call.outcome)
            found[generation].append(replace(call, outcome=outcome))
    return found


# --- The ledger ---


def acknowledged_in_ledger(records: Iterable[Record]) -> Iterator[Put]:
    """Every write to the ledger that was acknowledged."""
    for record in records:
        operation = record.operation
        if isinstance(operation, Put) and operation.key.startswith(LEDGER) and record.outcome:
            yield operation


def lost_writes(records: Iterable[Record], ledger: Mapping[bytes, bytes]) -> Iterator[str]:
    """Acknowledged writes that the ledger does not hold at the end."""
    for put in acknowledged_in_ledger(records):
        if ledger.get(put.key) != put.value:
            yield f"{put.key!r} was acknowledged as {put.value!r} and is {ledger.get(put.key)!r}"


# --- Revisions ---


def revision_of(record: Record) -> int:
    """The revision that an acknowledged write made; 0 when it made none or does not say."""
    match record.outcome:
        case Written(revision):
            return revision
        case Decided(revision, True, _):
            return revision
    return 0


def revision_mistakes(records: Iterable[Record]) -> Iterator[str]:
    """Revisions given twice, or in another order than the writes they belong to."""
    writes = [(revision_of(record), record) for record in records if revision_of(record)]
    by_revision = sorted(writes, key=lambda pair: pair[0])
    for (one, first), (two, second) in pairwise(by_revision):
        if one == two:
            yield f"revision {one} was given to {first.operation} and to {second.operation}"
    acknowledged = sorted(writes, key=lambda pair: pair[1].end_ns)
    latest, position = 0, 0
    for revision, record in sorted(writes, key=lambda pair: pair[1].begin_ns):
        while acknowledged[position][1].end_ns < record.begin_ns:
            latest = max(latest, acknowledged[position][0])
            position += 1
        if revision < latest:
            yield f"{record.operation} got revision {revision} after {latest} was acknowledged"


def stale_reads(records: Iterable[Record]) -> Iterator[str]:
    """Reads that show an item older than one acknowledged as written or read before they began.

    Deleted keys are left to the search: their absence has no revision.
    """
    seen: dict[bytes, list[tuple[int, int]]] = defaultdict(list)
    reads: list[tuple[Record, Item]] = []
    for record in records:
        if isinstance(record.operation, Put) and revision_of(record):
            seen[record.operation.key].append((record.end_ns, revision_of(record)))
        if isinstance(record.operation, Get | Scan) and isinstance(record.outcome, Found):
            for item in record.outcome.items:
                seen[item.key].append((record.end_ns, item.mod_revision))
                reads.append((record, item))
    for evidence in seen.values():
        evidence.sort()
    progress: dict[bytes, tuple[int, int]] = {}
    for record, item in sorted(reads, key=lambda pair: pair[0].begin_ns):
        position, latest = progress.get(item.key, (0, 0))
        evidence = seen[item.key]
        while position < len(evidence) and evidence[position][0] < record.begin_ns:
            latest = max(latest, evidence[position][1])
            position += 1
        progress[item.key] = (position, latest)
        if item.mod_revision < latest:
            yield f"client {record.client} read {item} when revision {latest} was known"
