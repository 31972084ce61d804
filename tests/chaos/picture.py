"""The timeline of a run as SVG, drawn like a score: staves of equal time below each other.

A stave shows about half a minute, so that a long run stays legible; its lanes are,
from above: the faults with their names; one line for each node, thick where it leads (with its
term), broken where it is down; the operations a second, and below the same baseline, mirrored,
those that failed or whose outcome is unknown. The scale of the operations is the same on all
staves, so that heights can be compared. Colours follow those of Okabe and Ito (2008), which
colour-blind people can tell apart; the text says everything that the colours say.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from tests.chaos.timeline import BUCKET_SECONDS, Bar, Bucket, Lane, Span, Timeline

WIDTH = 1480
LEFT, RIGHT = 92, 28
HEAD_HEIGHT = 128
ROW_HEIGHT, LANE_HEIGHT, CHART_HEIGHT, TROUBLE_HEIGHT = 19, 18, 64, 20
AXIS_HEIGHT, STAVE_GAP = 20, 30
STAVE_SECONDS = 30.0
LETTER_WIDTH, BOLD = 6.1, 1.15
"""About that of the letters of a sans-serif of 11 px, and how much wider bold ones are."""

INK, PALE, RULE, PAPER = "#1f2430", "#6b7280", "#e5e7eb", "#ffffff"
FAMILY_COLOURS = {
    "partition": "#d55e00",
    "bad lines": "#e69f00",
    "killed": "#7b2d8e",
    "paused": "#cc79a7",
    "disk": "#8c6d46",
    "members": "#2f6f73",
}
NODE_COLOURS = ("#0072b2", "#009e73", "#56b4e9", "#3d5a98", "#2a9d8f")
OK, FAILED, UNKNOWN = "#9ec9e8", "#c1121f", "#374151"
GOOD, WRONG = "#00785a", "#b00020"


@dataclass(frozen=True, slots=True)
class Heading:
    """The words above the picture."""

    title: str
    facts: str
    verdict: str
    passed: bool


@dataclass(frozen=True, slots=True)
class Stave:
    """A stretch of time and where it stands on the paper."""

    begin: float
    end: float
    length: float
    top: float
    rows: int
    """Of faults."""
    lanes: int

    @property
    def height(self) -> float:
        """All lanes, and the room below."""
        lanes = self.rows * ROW_HEIGHT + self.lanes * LANE_HEIGHT
        return lanes + 12 + CHART_HEIGHT + TROUBLE_HEIGHT + AXIS_HEIGHT + STAVE_GAP

    def x(self, seconds: float) -> float:
        """The place of a moment."""
        share = (min(max(seconds, self.begin), self.end) - self.begin) / self.length
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def shows(self, begin: float, end: float) -> bool:
        """Whether anything from ``begin`` to ``end`` is on this stave."""
        return begin < self.end and end >= self.begin


def draw(timeline: Timeline, heading: Heading) -> str:
    """The picture."""
    staves = list(_staves(timeline))
    height = HEAD_HEIGHT + sum(stave.height for stave in staves)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height:.0f}" '
        f'viewBox="0 0 {WIDTH} {height:.0f}" font-family="Inter, Helvetica, Arial, sans-serif">',
        "<style>text{fill:" + INK + ";font-size:11px}.pale{fill:" + PALE + "}"
        ".light{fill:#fff;font-weight:600}</style>",
        '<defs><pattern id="hatch" width="5" height="5" patternUnits="userSpaceOnUse" '
        f'patternTransform="rotate(45)"><rect width="5" height="5" fill="{PAPER}"/>'
        f'<rect width="2" height="5" fill="{FAMILY_COLOURS["paused"]}"/></pattern></defs>',
        f'<rect width="{WIDTH}" height="{height:.0f}" fill="{PAPER}"/>',
        *_head(heading),
        *_legend(),
    ]
    peak = max((_rate(bucket.acknowledged) for bucket in timeline.buckets), default=0.0) or 1.0
    for stave in staves:
        parts += _stave(timeline, stave, peak)
    return "\n".join([*parts, "</svg>", ""])


def _staves(timeline: Timeline) -> Iterator[Stave]:
    seconds = max(timeline.seconds, 1.0)
    count = max(1, math.ceil(seconds / STAVE_SECONDS - 0.2))
    length = seconds / count
    top = float(HEAD_HEIGHT)
    for number in range(count):
        begin, end = number * length, (number + 1) * length
        rows = [bar.row for bar in timeline.bars if bar.begin < end and bar.end >= begin]
        stave = Stave(begin, end, length, top, max(rows, default=0) + 1, len(timeline.lanes))
        top += stave.height
        yield stave


# --- Head ---


def _head(heading: Heading) -> Iterator[str]:
    colour = GOOD if heading.passed else WRONG
    yield _text(LEFT, 40, heading.title, size=22, weight=700)
    yield _text(LEFT, 62, heading.facts, size=13, pale=True)
    yield f'<circle cx="{LEFT + 6}" cy="80" r="6" fill="{colour}"/>'
    yield _text(LEFT + 20, 84.5, heading.verdict, size=13, weight=600)


def _legend() -> Iterator[str]:
    x = float(LEFT)
    entries = [*FAMILY_COLOURS.items(), ("", ""), ("acknowledged", OK), ("failed", FAILED)]
    for name, colour in [*entries, ("unknown", UNKNOWN)]:
        if not name:
            x += 24
            continue
        yield f'<rect x="{x:.0f}" y="101" width="12" height="10" rx="2" fill="{colour}"/>'
        yield _text(x + 17, 110, name, pale=True)
        x += 17 + len(name) * LETTER_WIDTH + 18


# --- One stave ---


def _stave(timeline: Timeline, stave: Stave, peak: float) -> Iterator[str]:
    nodes_top = stave.top + stave.rows * ROW_HEIGHT + 4
    chart_top = nodes_top + len(timeline.lanes) * LANE_HEIGHT + 8
    baseline = chart_top + CHART_HEIGHT
    bottom = baseline + TROUBLE_HEIGHT
    yield from _grid(stave, bottom)
    yield _text(LEFT - 12, stave.top + 13, "faults", anchor="end", pale=True)
    for bar in timeline.bars:
        if stave.shows(bar.begin, bar.end):
            yield from _bar(bar, stave)
    for number, lane in enumerate(timeline.lanes):
        colour = NODE_COLOURS[number % len(NODE_COLOURS)]
        yield from _lane(lane, stave, nodes_top + number * LANE_HEIGHT, colour)
    yield _text(LEFT - 12, chart_top + 10, f"{peak:,.0f}/s", anchor="end", pale=True)
    yield _text(LEFT - 12, baseline - 22, "operations", anchor="end", pale=True)
    yield _text(LEFT - 12, baseline + 13, "troubled", anchor="end", pale=True)
    yield from _chart(timeline.buckets, stave, baseline, peak)


def _grid(stave: Stave, bottom: float) -> Iterator[str]:
    step = 5 if stave.length > 20 else 1
    for second in range(-int(-stave.begin // step) * step, int(stave.end) + 1, step):
        x = stave.x(second)
        yield _line(x, stave.top, x, bottom, RULE)
        label = f"{second // 60}:{second % 60:02}"
        yield _text(x, bottom + 14, label, anchor="middle", pale=True)


def _bar(bar: Bar, stave: Stave) -> Iterator[str]:
    """A fault; its name inside if it fits, else beside it."""
    left, right = stave.x(bar.begin), stave.x(bar.end)
    y, width = stave.top + bar.row * ROW_HEIGHT, max(right - left, 2.5)
    place = f'x="{left:.1f}" y="{y:.1f}" width="{width:.1f}" height="15" rx="3"'
    title = f"{bar.label}, {bar.begin:.1f} to {bar.end:.1f} s"
    yield f'<rect {place} fill="{FAMILY_COLOURS[bar.family]}"><title>{escape(title)}</title></rect>'
    letters = len(bar.label) * LETTER_WIDTH
    if letters * BOLD < width - 8:
        yield _text(left + 5, y + 11.5, bar.label, light=True)
    elif right + letters < WIDTH - 8:
        yield _text(left + width + 4, y + 11.5, bar.label)
    elif bar.end <= stave.end:
        yield _text(left - 4, y + 11.5, bar.label, anchor="end")


def _shortened(text: str, width: float) -> str:
    letters = int(width / LETTER_WIDTH)
    if len(text) <= letters:
        return text
    return text[: letters - 1] + "…" if letters > 4 else ""


def _lane(lane: Lane, stave: Stave, top: float, colour: str) -> Iterator[str]:
    middle = top + LANE_HEIGHT / 2
    yield _text(LEFT - 12, middle + 4, lane.node, anchor="end", weight=600)
    yield _line(stave.x(stave.begin), middle, stave.x(stave.end), middle, "#cbd5e1", 2)
    order = {"leader": 0, "full": 1, "paused": 2, "down": 3}
    for span in sorted(lane.spans, key=lambda span: (order[span.state], span.begin)):
        if stave.shows(span.begin, span.end):
            yield from _span(span, stave, top, colour)


def _span(span: Span, stave: Stave, top: float, colour: str) -> Iterator[str]:
    left, right = stave.x(span.begin), stave.x(span.end)
    width = max(right - left, 1.5)
    place = f'x="{left:.1f}" width="{width:.1f}"'
    match span.state:
        case "leader":
            yield f'<rect {place} y="{top + 2:.1f}" height="14" rx="2" fill="{colour}"/>'
            label = _shortened(f"term {span.label}", width - 8) or _shortened(span.label, width)
            yield _text(left + 4, top + 12.7, label, light=True)
        case "down":
            yield f'<rect {place} y="{top + 1:.1f}" height="16" fill="{PAPER}"/>'
            yield from _cross(left, right, top + LANE_HEIGHT / 2)
        case "paused":
            yield f'<rect {place} y="{top + 4:.1f}" height="10" fill="url(#hatch)"/>'
        case _:
            fill = FAMILY_COLOURS["disk"]
            yield f'<rect {place} y="{top + 14:.1f}" height="3" fill="{fill}"/>'


def _cross(left: float, right: float, middle: float) -> Iterator[str]:
    """A node that dies and comes back: a dashed line between two posts."""
    colour = FAMILY_COLOURS["killed"]
    for x in (left, right):
        yield _line(x, middle - 6, x, middle + 6, colour, 1.6)
    yield (
        f'<line x1="{left:.1f}" y1="{middle:.1f}" x2="{right:.1f}" y2="{middle:.1f}" '
        f'stroke="{colour}" stroke-width="1.2" stroke-dasharray="2 3"/>'
    )


def _chart(buckets: Sequence[Bucket], stave: Stave, baseline: float, peak: float) -> Iterator[str]:
    first = int(stave.begin / BUCKET_SECONDS)
    shown = list(enumerate(buckets))[first : int(stave.end / BUCKET_SECONDS) + 1]
    yield _area(shown, stave, baseline, peak)
    for number, bucket in shown:
        left, right = (stave.x((number + step) * BUCKET_SECONDS) for step in (0, 1))
        y = baseline + 1.0
        for value, colour in ((bucket.failed, FAILED), (bucket.unknown, UNKNOWN)):
            # One is visible, and a hundred fit.
            height = min(TROUBLE_HEIGHT / 2 - 1, 2 + value**0.5) if value else 0
            if height and right > left:
                yield (
                    f'<rect x="{left:.1f}" y="{y:.1f}" width="{right - left:.1f}" '
                    f'height="{height:.1f}" fill="{colour}"/>'
                )
            y += height
    yield _line(stave.x(stave.begin), baseline, stave.x(stave.end), baseline, PALE)


def _area(shown: Iterable[tuple[int, Bucket]], stave: Stave, baseline: float, peak: float) -> str:
    points = [f"{stave.x(stave.begin):.1f},{baseline:.1f}"]
    for number, bucket in shown:
        y = baseline - _rate(bucket.acknowledged) / peak * CHART_HEIGHT
        for step in (0, 1):
            points.append(f"{stave.x((number + step) * BUCKET_SECONDS):.1f},{y:.1f}")
    points.append(f"{stave.x(stave.end):.1f},{baseline:.1f}")
    return f'<polygon points="{" ".join(points)}" fill="{OK}"/>'


def _rate(count: int) -> float:
    return count / BUCKET_SECONDS


# --- Ink ---


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, width: float = 1) -> str:
    place = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {place} stroke="{colour}" stroke-width="{width:g}"/>'


def _text(
    x: float,
    y: float,
    text: str,
    *,
    anchor: str = "start",
    size: int = 11,
    weight: int = 400,
    pale: bool = False,
    light: bool = False,
) -> str:
    if not text:
        return ""
    kind = ' class="light"' if light else ' class="pale"' if pale else ""
    style = (
        f' style="font-size:{size}px;font-weight:{weight}"' if (size, weight) != (11, 400) else ""
    )
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{kind}{style}>{escape(text)}</text>'
    )
