"""What is made of a run's evidence: every kind of lie is found out, and the picture shows all."""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.chaos.__main__ import cleared
from tests.chaos.checks import Judgement, judge, lost_writes, revision_mistakes, stale_reads
from tests.chaos.conductor import Blow
from tests.chaos.faults import FullDisk, Kill, Partition, Pause, Shape, Strike, Victim
from tests.chaos.node_logs import NodeLog, Reign, leader_of
from tests.chaos.picture import Heading, draw
from tests.chaos.records import Record, read
from tests.chaos.report import REPORT, longest_silence_ms
from tests.chaos.timeline import Bar, Span, pack, timeline_of
from tests.chaos.workload import LEDGER, compare_and_set, prefix_of, scan_of
from tests.simulator.model import Decided, Found, Get, Item, Put, Written

KEY = prefix_of(1) + b"register/0"
SECOND = 1_000_000_000


def put(begin: int, end: int, value: bytes, revision: int) -> Record:
    """An acknowledged put."""
    return Record(1, begin, end, Put(KEY, value), Written(revision))


def got(begin: int, end: int, value: bytes, revision: int, version: int = 1) -> Record:
    """A get that found a value."""
    item = Item(KEY, value, 2, revision, version)
    return Record(2, begin, end, Get(KEY), Found(0, (item,)))


def verdict(*records: Record) -> Judgement:
    return judge(records, [], {})


# --- Judging ---


def test_an_honest_history_passes() -> None:
    conflict = Decided(0, False, (Found(0, (Item(KEY, b"1", 2, 2, 1),)),))
    refused = Record(1, 50, 60, compare_and_set(KEY, None, b"3"), conflict)
    last = Record(9, 90, 95, scan_of(1), Found(0, (Item(KEY, b"1", 2, 2, 1),)))
    judgement = verdict(put(1, 10, b"1", 2), got(5, 20, b"1", 2), refused, last)
    assert judgement.violations == ()
    assert (judgement.generations, judgement.undecided) == (1, 0)


def test_a_lost_write_is_found_in_the_last_read() -> None:
    last = Record(9, 90, 95, scan_of(1), Found(0, ()))
    (violation,) = judge([put(1, 10, b"1", 2)], [last], {}).violations
    assert "generation 1 is not linearizable" in violation


def test_an_unknown_write_may_or_may_not_be_there() -> None:
    unknown = Record(1, 1, 10, Put(KEY, b"1"), None, "UnknownOutcome: ...", unknown=True)
    absent = Record(2, 20, 30, Get(KEY), Found(0, ()))
    assert verdict(unknown, absent).violations == ()
    assert verdict(unknown, got(20, 30, b"1", 2)).violations == ()


def test_a_failed_write_must_not_be_there() -> None:
    failed = Record(1, 1, 10, Put(KEY, b"1"), None, "Unavailable: ...")
    assert verdict(failed, got(20, 30, b"1", 2)).violations


def test_a_stale_read_is_called_by_its_name() -> None:
    old, new = put(1, 10, b"1", 2), put(20, 30, b"2", 3)
    assert list(stale_reads([old, new, got(25, 40, b"1", 2)])) == [], "both were on their way"
    (stale,) = stale_reads([old, new, got(31, 40, b"1", 2)])
    assert "when revision 3 was known" in stale
    assert verdict(old, new, got(31, 40, b"1", 2)).stale_reads == 1
    read_by_others = [old, got(20, 30, b"2", 3, 2), got(31, 40, b"1", 2)]
    assert len(list(stale_reads(read_by_others))) == 1, "a value that was read must not vanish"


def test_revisions_given_twice_or_backwards_are_found() -> None:
    one, other = put(1, 10, b"1", 2), put(20, 30, b"2", 3)
    assert list(revision_mistakes([one, other])) == []
    (twice,) = revision_mistakes([one, replace(other, outcome=Written(2))])
    assert "revision 2 was given to" in twice
    (backwards,) = revision_mistakes([replace(one, outcome=Written(4)), other])
    assert "got revision 3 after 4" in backwards


def test_the_ledger_keeps_what_was_acknowledged() -> None:
    key = LEDGER + b"0001/00000001"
    kept = Record(1, 1, 10, Put(key, b"1"), Written(2))
    failed = Record(1, 1, 10, Put(LEDGER + b"other", b"1"), None, "Busy: ...")
    assert list(lost_writes([kept, failed], {key: b"1"})) == []
    (lost,) = lost_writes([kept, failed], {})
    assert "acknowledged as b'1' and is None" in lost


def test_histories_survive_on_disk(tmp_path: Path) -> None:
    records = [put(5, 10, bytes(range(256)), 2), got(1, 20, b"1", 2)]
    paths = [tmp_path / "one", tmp_path / "other"]
    for path, record in zip(paths, records, strict=True):
        path.write_text(record.line())
    assert read(paths) == [records[1], records[0]], "by their beginning"


# --- Logs ---


def line(at: int, event: str, **details: object) -> str:
    stamp = f"1970-01-01T00:00:{at:02}.000000Z"
    return json.dumps({"timestamp": stamp, "level": "info", "event": event, **details}) + "\n"


def test_reigns_are_read_as_the_log_grows(tmp_path: Path) -> None:
    log = NodeLog("n1", tmp_path / "n1.log", wall_offset_ns=100)
    log.read()
    assert leader_of([log]) is None
    text = line(1, "serving") + line(2, "role", group=1, role="leader", term=3)
    log.path.write_text(text[:-10])
    log.read()
    assert log.reigns == [], "half a line says nothing"
    log.path.write_text(text + line(4, "role", group=0, role="follower", term=9))
    log.read()
    assert log.reigns == [Reign("n1", 3, 2 * SECOND + 100)]
    newer = NodeLog("n2", tmp_path / "n2.log", 0, reigns=[Reign("n2", 4, 3 * SECOND)])
    assert leader_of([log, newer]) == "n2", "the other one has not noticed yet"
    newer.deposed(5 * SECOND)
    assert leader_of([log, newer]) == "n1"
    log.ended(6 * SECOND)
    assert leader_of([log, newer]) is None
    assert not log.serving


def test_what_is_no_event_is_a_complaint(tmp_path: Path) -> None:
    log = NodeLog("n1", tmp_path / "n1.log", 0)
    error = line(1, "bug").replace("info", "error")
    log.path.write_text("Traceback (most recent call last):\n\n" + error + line(2, "serving"))
    log.read()
    assert log.complaints == ["Traceback (most recent call last):", error.strip()]
    with log.path.open("a") as file:
        file.write(line(3, "stopped") + "CancelledError\n" + line(4, "serving") + "bad news\n")
    log.read()
    assert log.complaints[2:] == ["bad news"], "what gRPC says after the end is not the node's"
    assert log.serving


# --- Picture ---


def blow(fault: Kill | Pause | FullDisk | Partition, begin: int, end: int) -> Blow:
    strike = Strike(begin, end - begin, fault, Victim.LEADER, 0)
    return Blow(strike, ("n1",), begin * SECOND, end * SECOND)


BLOWS = [
    blow(Kill(), 2, 4),
    blow(Partition(Shape.DEAF), 3, 8),
    blow(Pause(), 40, 42),
    blow(FullDisk(brim=True), 50, 52),
]
RECORDS = [
    put(1 * SECOND, 1 * SECOND + 1, b"1", 2),
    Record(1, SECOND, 3 * SECOND, Put(KEY, b"2"), None, "Unavailable: ..."),
    Record(1, SECOND, 61 * SECOND, Put(KEY, b"3"), None, "UnknownOutcome: ...", unknown=True),
]


def test_a_timeline_says_what_happened_when() -> None:
    reigns = [Reign("n1", 1, 0, 2 * SECOND), Reign("n2", 2, 3 * SECOND)]
    starts = {"n1": (0, 6 * SECOND, 9 * SECOND)}
    timeline = timeline_of(0, 60 * SECOND, ["n1", "n2"], RECORDS, BLOWS, reigns, starts)
    assert timeline.seconds == 60
    assert [bar.row for bar in timeline.bars] == [0, 1, 0, 0]
    assert {bar.family for bar in timeline.bars} == {"killed", "partition", "paused", "disk"}
    first, second = timeline.lanes
    assert Span(0, 2, "leader", "1") in first.spans
    assert Span(2, 6, "down") in first.spans, "until it serves again"
    assert {span.state for span in first.spans} == {"leader", "down", "paused", "full"}
    assert second.spans == (Span(3, 60, "leader", "2"),), "to the end"
    assert timeline.buckets[4].acknowledged == 1
    assert timeline.buckets[12].failed == 1
    assert timeline.buckets[-1].unknown == 1, "what ended later is at the end"


def test_bars_are_packed_without_overlap() -> None:
    bars = pack([Bar(begin, begin + 2.5, "", "") for begin in range(10)])
    assert max(bar.row for bar in bars) == 2
    named = pack([Bar(0, 1, "a long name", ""), Bar(1.5, 9, "short", ""), Bar(9, 10, "", "")])
    assert [bar.row for bar in named] == [0, 1, 0], "the name needs room, too"
    for row in range(3):
        ours = [bar for bar in bars if bar.row == row]
        assert all(one.end <= other.begin for one, other in pairwise(ours))


def test_the_picture_is_valid_and_names_everything() -> None:
    timeline = timeline_of(0, 60 * SECOND, ["n1", "n2"], RECORDS, BLOWS, [], {})
    heading = Heading("under <chaos>", "2 nodes", "all is well", passed=True)
    root = ElementTree.fromstring(draw(timeline, heading))
    words = " ".join(element.text or "" for element in root.iter())
    for name in ("under <chaos>", "all is well", "n1 hears nobody", "n1 SIGSTOP", "0:55", "n2"):
        assert name in words
    assert float(root.attrib["height"]) > 2 * 150, "a minute has two staves"


@pytest.mark.parametrize("seconds", [0, 1, 29, 31, 3600])
def test_a_picture_can_be_drawn_of_any_length(seconds: int) -> None:
    timeline = timeline_of(0, seconds * SECOND, ["n1"], [], [], [], {})
    assert ElementTree.fromstring(draw(timeline, Heading("", "", "", passed=False))) is not None


def test_a_silence_is_the_longest_gap_that_a_fault_has_a_share_in() -> None:
    ends = [second * SECOND for second in (0, 3, 5, 6, 16, 30)]
    assert longest_silence_ms(ends[:4], BLOWS[0]) == pytest.approx(2000), "from 3 to 5"
    assert longest_silence_ms(ends[:2], BLOWS[0]) == pytest.approx(1000), "what was before is not"
    assert longest_silence_ms(ends, BLOWS[0]) == pytest.approx(2000), "from 6 is too late"
    ends.remove(6 * SECOND)
    assert longest_silence_ms(ends, BLOWS[0]) == pytest.approx(11_000), "to its end"
    assert longest_silence_ms([], BLOWS[0]) == 0


def test_a_report_takes_the_place_of_an_older_one_and_of_nothing_else(tmp_path: Path) -> None:
    directory = tmp_path / "report"
    assert cleared(directory)
    (directory / "n1.log").write_text("what a node of an earlier run complained of")
    assert not cleared(directory), "it may be somebody's data"
    (directory / REPORT).write_text("# kvorum under chaos")
    assert cleared(directory)
    assert not list(directory.iterdir())
