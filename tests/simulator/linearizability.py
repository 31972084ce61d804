"""Is there an order of the operations that explains what every client saw?

A history is linearizable (Herlihy and Wing, 1990) when its operations can be put in one order
that a correct server could have executed, and that puts every operation which ended before another
began in front of it. The search is the one of Wing and Gong (1993) with the memory of Lowe
(2017): try, one after another, each operation that may come next; undo on a dead end; never visit
the same pair of (operations placed, state of the model) twice.

Operations whose outcome is unknown (their client gave up) may take effect at any time after they
began, or never: they have no end, and the search may leave them out. They are tried last, since
most of them explain nothing.

*Revisions are an order.* An answer that names a revision says where its operation stands among all
others that name one: writes of a smaller revision come before, reads of a smaller revision too. The
search places such operations in that order only. An order that contradicts the revisions is none
that the product may use, so nothing is excused by this, and what is left to choose is the place
of the operations with unknown outcomes.

*Partition.* Linearizability is local: a history is linearizable if the history of each object is.
An object here is a set of keys that operations over several keys tie together; a key that meets
none is an object of its own. ``check_keys`` judges each by itself, without the numbers themselves
but in their order. ``check_history`` searches the whole, numbers included, which is stricter: with
them one counter ties everything together; where that fails or is given up, the keys explain it
better. Reads of the past change nothing and are not placed here; whoever has the log judges them
(``witness.py``), and needs no search at all.

A search that exceeds its number of steps is undecided, which is not a failure.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from tests.simulator.model import (
    Decided,
    Deleted,
    DeleteRange,
    Found,
    Incremented,
    Item,
    Model,
    Operation,
    Outcome,
    Scan,
    Transaction,
    Written,
    is_about_the_past,
    is_read,
    keys_of,
    revision_of,
    without_revisions,
)

NEVER = 2**62
"""The end of an operation whose outcome is unknown."""

NO_ITEMS: frozenset[Item] = frozenset()


@dataclass(frozen=True, slots=True)
class Call:
    """One operation of one client: when it began and ended, what it asked, what it was told.

    ``outcome`` None: unknown, and then ``end`` is ``NEVER``. ``operation`` is what really ran: a
    page of a scan may be shorter than what was asked.
    """

    client: int
    begin: int
    end: int
    operation: Operation
    outcome: Outcome | None
    session: int = 0
    """0 = sent without one, at most once."""
    sequence: int = 0
    staleness: int | None = None
    """A read that may be so old; 0 = however old; None = it must be linearizable."""

    def __post_init__(self) -> None:
        assert self.begin <= self.end
        assert (self.outcome is None) == (self.end == NEVER)

    @property
    def earliest(self) -> int:
        """It took effect at this time or later: a stale read may show any state of the past."""
        return self.begin if self.staleness is None else 0


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
    """Each key by itself, or with those that some operation ties it to: quick."""
    undecided: Verdict | None = None
    steps = 0
    for keys, calls in partition(history):
        verdict = search(calls, Model.unnumbered(), steps_max)
        steps += verdict.steps
        if verdict.linearizable is False:
            named = ", ".join(map(repr, keys))
            alone = f"key {named} alone" if len(keys) == 1 else f"keys {named}"
            return Verdict(False, steps, f"{alone}: {verdict.explanation}")
        undecided = undecided or (verdict if verdict.linearizable is None else None)
    return replace(undecided or Verdict(True, steps), steps=steps)


def partition(history: Sequence[Call]) -> list[tuple[tuple[bytes, ...], list[Call]]]:
    """Sets of keys that no operation leaves, with their calls.

    >>> from tests.simulator.model import Put
    >>> puts = [Put(key, b"") for key in (b"a", b"b", b"c")]
    >>> calls = [Call(0, 0, 9, put, Written(2 + n)) for n, put in enumerate(puts)]
    >>> [keys for keys, _ in partition([*calls, Call(0, 0, 9, Scan(b"b", b"d"), Found(4, ()))])]
    [(b'a',), (b'b', b'c')]
    """
    judged = [call for call in history if not is_about_the_past(call.operation)]
    names = sorted(set().union(*map(_named, judged)))
    above = {key: key for key in names}

    def root(key: bytes) -> bytes:
        while above[key] != key:
            above[key] = above[above[key]]
            key = above[key]
        return key

    touched = [_touched(call.operation, names) for call in judged]
    for keys in touched:
        for key in keys[1:]:
            above[root(key)] = root(keys[0])
    parts: dict[bytes, list[Call]] = {}
    for call, keys in zip(judged, touched, strict=True):
        if keys:
            parts.setdefault(root(keys[0]), []).append(call)
    members: dict[bytes, list[bytes]] = {}
    for key in names:
        members.setdefault(root(key), []).append(key)
    return sorted((tuple(members[top]), calls) for top, calls in parts.items())


def _named(call: Call) -> set[bytes]:
    """The keys that an operation or its answer names."""
    keys = set(_keys_named(call.operation))
    if isinstance(call.outcome, Found):
        keys |= {item.key for item in call.outcome.items}
    return keys


def _keys_named(operation: Operation) -> Iterator[bytes]:
    if isinstance(operation, Transaction):
        yield from (key for key, _ in operation.expected)
        for part in (*operation.success, *operation.failure):
            yield from _keys_named(part)
    else:
        yield from keys_of(operation) or ()


def _touched(operation: Operation, names: Sequence[bytes]) -> list[bytes]:
    """Those of the keys that an operation reads or writes."""
    match operation:
        case Scan(start, end) | DeleteRange(start, end):
            return [key for key in names if start <= key < end]
        case Transaction():
            keys = [key for key, _ in operation.expected]
            for part in (*operation.success, *operation.failure):
                keys += _touched(part, names)
            return keys
        case _:
            return list(keys_of(operation) or ())


def mutates(outcome: Outcome) -> bool:
    """Whether an operation changed something, as its answer tells.

    >>> mutates(Written(2)), mutates(Deleted(2, 0)), mutates(Decided(2, True, (Written(0),)))
    (True, False, True)
    """
    match outcome:
        case Written() | Incremented():
            return True
        case Deleted(_, count):
            return count > 0
        case Decided(_, _, outcomes):
            return any(map(mutates, outcomes))
        case _:
            return False


def _rank(call: Call) -> int | None:
    """The place that its revision gives to a call: a write comes before the reads that see it."""
    revision = None if call.outcome is None else revision_of(call.outcome)
    if not revision:
        return None
    assert call.outcome is not None
    return 2 * revision + (not mutates(call.outcome))


def search(history: Sequence[Call], initial: Model, steps_max: int) -> Verdict:
    """Looks for one order of the calls that the model can execute from ``initial``."""
    judged = (
        call
        for call in history
        if not is_about_the_past(call.operation)
        and (call.outcome is not None or not is_read(call.operation))
    )
    calls = sorted(judged, key=lambda call: (call.earliest, call.end))
    frontier = _Frontier(calls)
    if not initial.revision:
        calls = [_stripped(call) for call in calls]
    known = sum(1 << number for number, call in enumerate(calls) if call.outcome is not None)
    evidence = _Evidence(calls)
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


def _stripped(call: Call) -> Call:
    """Without the numbers, whose order the frontier keeps."""
    return call if call.outcome is None else replace(call, outcome=without_revisions(call.outcome))


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
    """Which calls may come next: those that began before any call not yet placed ended, and that
    no smaller revision waits for."""

    __slots__ = ("_before", "_calls", "_unknown")

    def __init__(self, calls: Sequence[Call]) -> None:
        self._calls = calls
        self._unknown = [number for number, call in enumerate(calls) if call.outcome is None]
        self._before = [0] * len(calls)
        """For each call the set of those whose revisions put them in front of it."""
        ranked = sorted(
            (rank, number) for number, call in enumerate(calls) if (rank := _rank(call)) is not None
        )
        smaller, equal, last = 0, 0, 0
        for rank, number in ranked:
            if rank != last:
                smaller, equal, last = smaller | equal, 0, rank
            equal |= 1 << number
            self._before[number] = smaller

    def candidates(self, placed: int) -> Iterator[int]:
        """Numbers of the calls that may come next: known outcomes first, by their ends."""
        window, deadline = self.window(placed)
        for number in window:
            if not self._before[number] & ~placed:
                yield number
        for number in self._unknown:
            if not placed >> number & 1 and self._calls[number].earliest <= deadline:
                yield number

    def waits_for(self, number: int, placed: int) -> int | None:
        """A call with a smaller revision that is not placed yet."""
        waiting = self._before[number] & ~placed
        return waiting.bit_length() - 1 if waiting else None

    def window(self, placed: int) -> tuple[list[int], int]:
        """Calls with a known outcome that time alone lets come next, and when the first ended."""
        calls = self._calls
        # The lowest bit that is not set: every call before it is placed.
        number = (~placed & (placed + 1)).bit_length() - 1
        deadline = NEVER
        window: list[int] = []
        while number < len(calls) and calls[number].earliest <= deadline:
            if not placed >> number & 1 and calls[number].outcome is not None:
                deadline = min(deadline, calls[number].end)
                window.append(number)
            number += 1
        window = [number for number in window if calls[number].earliest <= deadline]
        return sorted(window, key=lambda number: calls[number].end), deadline


def _explain(calls: Sequence[Call], frontier: _Frontier, placed: int, model: Model) -> str:
    """The longest order that was found and what could not follow it."""
    lines = [
        f"{placed.bit_count()} of {len(calls)} operations can be put in order; then the model is",
        f"    revision {model.revision}: " + ", ".join(map(str, model.items)),
        "and none of these can come next:",
    ]
    for number in frontier.window(placed)[0]:
        lines += _tell(calls[number], model)
        earlier = frontier.waits_for(number, placed)
        if earlier is not None:
            lines.append("        by its revision it comes after:")
            lines += _tell(calls[earlier], model)
    return "\n".join(lines)


def _tell(call: Call, model: Model) -> list[str]:
    end = "..." if call.end == NEVER else call.end
    return [
        f"    client {call.client} [{call.earliest}, {end}] {call.operation}",
        f"        saw      {call.outcome}",
        f"        expected {model.apply(call.operation)[1]}",
    ]
