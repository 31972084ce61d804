"""Is there an order of the operations that explains what every client saw?

A history is linearizable (Herlihy and Wing, 1990) when its operations can be put in one order
that a correct server could have executed, and that puts every operation which ended before another
began in front of it. The search is the one of Wing and Gong (1993) with the memory of Lowe
(2017): try, one after another, each operation that may come next; undo on a dead end; never visit
the same pair of (operations placed, state of the model) twice.

Operations whose outcome is unknown (their client gave up) may take effect at any time after they
began, or never: they have no end, and the search may leave them out. They are tried last, since
most of them explain nothing.

A history is searched as a whole, revisions included, which also judges scans and transactions
over several keys; the numbers leave the search little choice. A failure is then searched for key
by key, without revisions (linearizability is local: a history is linearizable if the history of
each object is), because a single key explains it better. A search that exceeds its number of steps
is undecided, which is not a failure; the report counts such cases, so that they cannot become the
rule.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from tests.simulator.model import (
    Decided,
    Found,
    Incremented,
    Item,
    Model,
    Operation,
    Outcome,
    Written,
    is_read,
    keys_of,
    without_revisions,
)

NEVER = 2**62
"""The end of an operation whose outcome is unknown."""

NO_ITEMS: frozenset[Item] = frozenset()


@dataclass(frozen=True, slots=True)
class Call:
    """One operation of one client: when it began and ended, what it asked, what it was told.

    ``outcome`` None: unknown, and then ``end`` is ``NEVER``.
    """

    client: int
    begin: int
    end: int
    operation: Operation
    outcome: Outcome | None

    def __post_init__(self) -> None:
        assert self.begin <= self.end
        assert (self.outcome is None) == (self.end == NEVER)


@dataclass(frozen=True, slots=True)
class Verdict:
    """``linearizable`` None: the search was given up. ``explanation`` is for people."""

    linearizable: bool | None
    steps: int
    explanation: str = ""


def check_history(history: Sequence[Call], steps_max: int = 100_000) -> Verdict:
    """The whole history; where that search is given up or has failed, each key by itself.

    A key's own history explains a failure better than the whole does.
    """
    whole = search(history, Model.numbered(), steps_max)
    if whole.linearizable:
        return whole
    keys = check_keys(history, steps_max)
    steps = whole.steps + keys.steps
    if keys.linearizable is False:
        return replace(keys, steps=steps)
    if whole.linearizable is False:
        return Verdict(False, steps, f"the whole model: {whole.explanation}")
    return replace(whole, steps=steps)


def check_keys(history: Sequence[Call], steps_max: int = 200_000) -> Verdict:
    """Each key by itself, without revisions: quick, and enough where clients do not see them."""
    undecided: Verdict | None = None
    steps = 0
    for key, calls in _by_key(history).items():
        verdict = search(calls, Model.unnumbered(), steps_max)
        steps += verdict.steps
        if verdict.linearizable is False:
            return Verdict(False, steps, f"key {key!r} alone: {verdict.explanation}")
        undecided = undecided or (verdict if verdict.linearizable is None else None)
    return replace(undecided or Verdict(True, steps), steps=steps)


def _by_key(history: Sequence[Call]) -> dict[bytes, list[Call]]:
    """Histories of single keys, revisions removed.

    Operations on several keys are left out, together with every key that they may write: without
    them the history of such a key is not complete.
    """
    spoiled: set[bytes] = set()
    every_key_spoiled = False
    partitions: dict[bytes, list[Call]] = {}
    for call in history:
        keys = keys_of(call.operation)
        if keys is not None and len(keys) == 1:
            (key,) = keys
            outcome = None if call.outcome is None else without_revisions(call.outcome)
            partitions.setdefault(key, []).append(replace(call, outcome=outcome))
        elif keys is not None:
            spoiled |= keys
        elif not is_read(call.operation):
            every_key_spoiled = True
    if every_key_spoiled:
        return {}
    return {key: calls for key, calls in sorted(partitions.items()) if key not in spoiled}


def search(history: Sequence[Call], initial: Model, steps_max: int) -> Verdict:
    """Looks for one order of the calls that the model can execute from ``initial``."""
    calls = sorted(
        (call for call in history if call.outcome is not None or not is_read(call.operation)),
        key=lambda call: (call.begin, call.end),
    )
    known = sum(1 << number for number, call in enumerate(calls) if call.outcome is not None)
    evidence = _Evidence(calls)
    frontier = _Frontier(calls)
    path: list[tuple[int, Model, Iterator[int]]] = [(0, initial, frontier.candidates(0))]
    seen: set[tuple[int, Model]] = set()
    deepest: tuple[int, Model] = (0, initial)
    steps = 0
    while path:
        placed, model, candidates = path[-1]
        if placed & known == known:
            return Verdict(True, steps)
        for number in candidates:
            steps += 1
            call = calls[number]
            after, outcome = model.apply(call.operation)
            if call.outcome is not None and outcome != call.outcome:
                continue
            if after is model and call.outcome is None:
                # Left out or tried later: either is as good.
                continue
            if after is not model and evidence.contradicts(call, model, after):
                continue
            there = (placed | 1 << number, after)
            if after is model and call.outcome is not None:
                # What fits and changes nothing may come first in any order that goes on from here.
                path[-1] = (placed, model, iter(()))
            if there not in seen:
                seen.add(there)
                path.append((*there, frontier.candidates(there[0])))
                deepest = max(deepest, there, key=lambda place: (place[0] & known).bit_count())
                break
        else:
            path.pop()
        if steps > steps_max:
            return Verdict(None, steps, f"gave up after {steps} steps")
    return Verdict(False, steps, _explain(calls, frontier, *deepest))


class _Evidence:
    """What the outcomes tell of the revisions, whatever the order: who guesses wrong is told early.

    An item that was seen says which revision wrote it, and that nothing wrote its key from then
    until the revision at which it was seen. Without this a wrong guess about an operation with an
    unknown outcome would be found out by the next read of its key only, many steps later.
    """

    __slots__ = ("_claimed", "_quiet", "_written")

    def __init__(self, calls: Sequence[Call]) -> None:
        self._written: dict[int, set[Item]] = {}
        self._quiet: set[tuple[bytes, int]] = set()
        self._claimed: set[int] = set()
        seen: dict[Item, int] = {}
        for call in calls:
            match call.outcome:
                case Found(revision, items):
                    seen.update((item, max(revision, seen.get(item, 0))) for item in items)
                case Decided(_, _, outcomes):
                    found = (part.items for part in outcomes if isinstance(part, Found))
                    seen.update((item, seen.get(item, 0)) for items in found for item in items)
                case Written(revision) | Incremented(revision):
                    self._claimed.add(revision)
        for item, revision in seen.items():
            self._written.setdefault(item.mod_revision, set()).add(item)
            quiet = range(item.mod_revision + 1, revision + 1)
            self._quiet.update((item.key, number) for number in quiet)

    def contradicts(self, call: Call, before: Model, after: Model) -> bool:
        """Whether ``call`` cannot have been the one that made ``after`` from ``before``."""
        revision = after.revision
        if not revision:
            return False
        if call.outcome is None and revision in self._claimed:
            return True
        items = frozenset(after.items)
        if not self._written.get(revision, NO_ITEMS) <= items:
            return True
        changed = items.symmetric_difference(before.items)
        return any((item.key, revision) in self._quiet for item in changed)


class _Frontier:
    """Which calls may come next: those that began before any call not yet placed ended."""

    __slots__ = ("_calls", "_unknown")

    def __init__(self, calls: Sequence[Call]) -> None:
        self._calls = calls
        self._unknown = [number for number, call in enumerate(calls) if call.outcome is None]

    def candidates(self, placed: int) -> Iterator[int]:
        """Numbers of the calls that may come next: known outcomes first, by their ends."""
        calls = self._calls
        # The lowest bit that is not set: every call before it is placed.
        number = (~placed & (placed + 1)).bit_length() - 1
        deadline = NEVER
        window: list[int] = []
        while number < len(calls) and calls[number].begin <= deadline:
            if not placed >> number & 1 and calls[number].outcome is not None:
                deadline = min(deadline, calls[number].end)
                window.append(number)
            number += 1
        window = [number for number in window if calls[number].begin <= deadline]
        yield from sorted(window, key=lambda number: calls[number].end)
        for number in self._unknown:
            if not placed >> number & 1 and calls[number].begin <= deadline:
                yield number


def _explain(calls: Sequence[Call], frontier: _Frontier, placed: int, model: Model) -> str:
    """The longest order that was found and what could not follow it."""
    lines = [
        f"{placed.bit_count()} of {len(calls)} operations can be put in order; then the model is",
        f"    revision {model.revision}: " + ", ".join(map(str, model.items)),
        "and none of these can come next:",
    ]
    for number in frontier.candidates(placed):
        call = calls[number]
        expected = model.apply(call.operation)[1]
        end = "..." if call.end == NEVER else call.end
        lines.append(f"    client {call.client} [{call.begin}, {end}] {call.operation}")
        lines.append(f"        saw      {call.outcome}")
        lines.append(f"        expected {expected}")
    return "\n".join(lines)
