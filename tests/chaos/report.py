"""The report of a run: words, figures, a picture, and the history to judge it again.

A directory holds ``report.md``, ``timeline.svg``, the nodes' logs, and the clients' histories, one
record a line (``records``). The words say first what matters: whether anything is wrong, and with
which command to see it again.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median

from tests.chaos.campaign import Evidence
from tests.chaos.conductor import Blow
from tests.chaos.picture import Heading, draw
from tests.chaos.records import Record
from tests.chaos.timeline import Timeline, family_of, timeline_of

REPORT, PICTURE = "report.md", "timeline.svg"
EXPLANATION_LINES_MAX = 40
AFTERMATH_NS = 2_000_000_000
"""A silence that begins so soon after a fault is its fault."""


def write(evidence: Evidence, directory: Path) -> Path:
    """Writes the report; the path of its words."""
    (directory / PICTURE).write_text(draw(timeline(evidence), heading(evidence)))
    path = directory / REPORT
    path.write_text("\n".join(text(evidence)) + "\n")
    return path


def timeline(evidence: Evidence) -> Timeline:
    """What the picture shows: from the first load to the end of the recovery."""
    return timeline_of(
        evidence.begin_ns,
        evidence.recovered_ns,
        sorted(evidence.resident_bytes_max),
        evidence.records,
        evidence.blows,
        evidence.reigns,
        evidence.starts,
    )


def verdict(evidence: Evidence) -> str:
    """One sentence."""
    judgement = evidence.judgement
    if not evidence.passed:
        return f"{len(evidence.violations)} violations; the first: {evidence.violations[0][:150]}"
    return (
        f"Linearizable in all {judgement.generations - judgement.undecided} generations that were "
        f"decided ({judgement.undecided} were not); 0 of {judgement.ledger_writes:,} acknowledged "
        f"writes lost, 0 stale reads; back {evidence.recovery_seconds:.1f} s after the last fault"
    )


def heading(evidence: Evidence) -> Heading:
    """The words above the picture."""
    run, total = evidence.run, Counter(map(ending_of, evidence.records))
    facts = (
        f"{run.settings.nodes} nodes, {seconds_of(evidence):.0f} s, {len(evidence.blows)} faults, "
        f"{total['acknowledged']:,} operations acknowledged, {total['failed']:,} failed, "
        f"{total['unknown']:,} unknown"
    )
    title = f"kvorum under chaos, seed {run.seed}"
    return Heading(title, facts, verdict(evidence), evidence.passed)


def ending_of(record: Record) -> str:
    """acknowledged, failed or unknown."""
    return "unknown" if record.unknown else "failed" if record.error else "acknowledged"


def seconds_of(evidence: Evidence) -> float:
    """From the first load to the end of the recovery."""
    return (evidence.recovered_ns - evidence.begin_ns) / 1e9


def text(evidence: Evidence) -> Iterator[str]:
    """The lines of the report."""
    run = evidence.run
    yield f"# {heading(evidence).title}"
    yield ""
    yield f"**{'Passed' if evidence.passed else 'FAILED'}.** {verdict(evidence)}."
    yield ""
    yield f"![What happened when]({PICTURE})"
    yield ""
    yield "Again, with the same faults at the same times (what the machine does is its own affair):"
    yield ""
    yield f"    make chaos ARGS='{command_line(evidence)}'"
    yield ""
    if evidence.violations:
        yield "## What is wrong"
        yield ""
        for violation in evidence.violations:
            lines = violation.splitlines()
            yield f"* {lines[0]}"
            yield from (f"      {line}" for line in lines[1:EXPLANATION_LINES_MAX])
        yield ""
    yield from _figures(evidence)
    yield from _faults(evidence)
    yield from _errors(evidence.records)
    yield f"Nodes ran with `{' '.join(run.settings.arguments())}`."


def command_line(evidence: Evidence) -> str:
    """The options that make this schedule again."""
    run = evidence.run
    return f"--seed {run.seed} --seconds {run.seconds:g} --nodes {run.settings.nodes}"


def _figures(evidence: Evidence) -> Iterator[str]:
    judgement = evidence.judgement
    total = Counter(map(ending_of, evidence.records))
    memory = max(evidence.resident_bytes_max.values(), default=0)
    yield "## Figures"
    yield ""
    yield "| figure | value |"
    yield "|---|---|"
    for name, value in (
        ("duration", f"{seconds_of(evidence):.0f} s"),
        ("operations acknowledged", f"{total['acknowledged']:,}"),
        ("operations failed, without effect", f"{total['failed']:,}"),
        ("operations with unknown outcome", f"{total['unknown']:,}"),
        ("generations of keys judged", f"{judgement.generations}"),
        ("generations given up by the checker", f"{judgement.undecided}"),
        ("acknowledged writes to the ledger", f"{judgement.ledger_writes:,}"),
        ("of them lost", f"{judgement.lost_writes}"),
        ("stale reads", f"{judgement.stale_reads}"),
        ("leaders elected", f"{len(evidence.reigns)}"),
        ("recovery after the last fault", f"{evidence.recovery_seconds:.2f} s"),
        ("most memory of a node", f"{memory >> 20} MiB"),
    ):
        yield f"| {name} | {value} |"
    yield ""


def _faults(evidence: Evidence) -> Iterator[str]:
    """One row for each family, and one for each blow."""
    ends = sorted(record.end_ns for record in evidence.records if not record.error)
    silences = {blow: longest_silence_ms(ends, blow) for blow in evidence.blows}
    yield "## Faults"
    yield ""
    yield "A silence is the longest time without an acknowledged operation, all clients together,"
    yield "that began during a fault or in the two seconds after it."
    yield ""
    yield "| kind | faults | median silence | longest silence |"
    yield "|---|---|---|---|"
    families = Counter(family_of(blow.strike.fault) for blow in evidence.blows)
    for family, count in sorted(families.items()):
        of_family = [ms for b, ms in silences.items() if family_of(b.strike.fault) == family]
        yield f"| {family} | {count} | {median(of_family):,.0f} ms | {max(of_family):,.0f} ms |"
    yield ""
    yield "| at | lasted | fault | silence |"
    yield "|---|---|---|---|"
    for blow in evidence.blows:
        at = (blow.begin_ns - evidence.begin_ns) / 1e9
        lasted = (blow.end_ns - blow.begin_ns) / 1e9
        yield f"| {at:.1f} s | {lasted:.1f} s | {blow} | {silences[blow]:,.0f} ms |"
    yield ""


def longest_silence_ms(ends: Sequence[int], blow: Blow) -> float:
    """The longest time without an acknowledged operation that began during a fault, or soon after.

    ``ends`` are in order. A silence that lasts longer than the fault counts to its end.
    """
    until = blow.end_ns + AFTERMATH_NS
    gaps = (
        later - max(earlier, blow.begin_ns)
        for earlier, later in pairwise(ends)
        if later > blow.begin_ns and earlier < until
    )
    return max(gaps, default=0) / 1e6


def _errors(records: Sequence[Record]) -> Iterator[str]:
    """Which errors the clients met."""
    kinds = Counter(record.error.partition(":")[0] for record in records if record.error)
    if not kinds:
        return
    yield "## Errors that clients met"
    yield ""
    yield "| error | times |"
    yield "|---|---|"
    for kind, times in kinds.most_common():
        yield f"| {kind} | {times:,} |"
    yield ""
