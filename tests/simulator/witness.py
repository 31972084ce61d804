"""The log as a witness: it names the order, and the clients' histories must fit it.

Looking for an order that explains a history is hard when nothing is known about it
(``linearizability.py``). The simulator knows more: the order in which commands took effect is the
order of the committed log. So there is nothing to search. Each write stands where the log has it;
each read goes into a gap between two commands in which the model would have answered it as it
was answered; and no operation may stand before one that had ended when it began.

*Why a wrong witness cannot hide a violation.* The log only proposes. What is accepted is an order
in which every write that has an effect is one that a client sent, every answer that a client got
was computed again by the model (in ``replay.py`` for commands, here for reads), and real time was
compared for every pair: that is the definition of a linearizable history, wherever the order came
from. And *why a refusal is one*: for the order of the writes that the log has, each read takes the
first gap that fits and that time allows; constraints only push later, so if the first does not do,
none does. Another order of the writes may exist that explains what clients saw, but it is not the
order in which the replicas executed them.

The same bookkeeping answers for exactly-once:

*   a write that was acknowledged is in the log, with that outcome (nothing acknowledged is lost);
*   every effect in the log belongs to one call of a client, and no two effects to the same one;
*   a call that ended with an unknown outcome is found there once, or never;
*   a call that was told that nothing was done appears in no history, so its effect would belong to
    nobody.

Reads of the past, and compactions, are judged here as well: ``Replay.past`` has every revision.
"""

import heapq
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from kvorum_proto.command_pb2 import COMPACTED, FUTURE_REVISION
from tests.simulator.checkers import require
from tests.simulator.linearizability import Call, mutates
from tests.simulator.model import (
    Compact,
    Forgotten,
    Found,
    Get,
    Model,
    Operation,
    Outcome,
    Refused,
    Scan,
    is_read,
    revision_of,
)
from tests.simulator.replay import Applied, Replay

Place = int
"""2, 4, 6...: the first, second, third command of the log. 1, 3, 5...: the gaps around them."""


@dataclass(slots=True)
class Witness:
    """One history against one replayed log."""

    replayed: Replay
    history: Sequence[Call]
    places: dict[int, Place] = field(default_factory=dict)
    """Where the log has a call, by its number in the history."""
    models: list[Model] = field(default_factory=list)
    """Before the first command, and after each."""

    def judge(self) -> None:
        """Raises Violation unless the order of the log explains the history."""
        applied = self.replayed.applied
        first = applied[0].before if applied else self.replayed.model
        self.models = [first, *(one.after for one in applied)]
        self._find_writes()
        self._require_owners()
        self._place()

    # --- Whose is which effect? ---

    def _find_writes(self) -> None:
        """Calls with a session have a number in the log; the others are known by what they did."""
        numbered = {
            (one.session, one.sequence): position
            for position, one in enumerate(self.replayed.applied)
            if one.session
        }
        nameless: dict[tuple[Operation, Outcome], deque[int]] = {}
        for position, one in enumerate(self.replayed.applied):
            if not one.session and one.changes:
                nameless.setdefault((one.ran, one.outcome), deque()).append(position)
        lost: list[int] = []
        for number, call in enumerate(self.history):
            if call.session:
                found = numbered.get((call.session, call.sequence))
                self._check_acknowledged(call, found)
                if found is not None:
                    self.places[number] = 2 * found + 2
            elif call.outcome is None:
                lost.append(number)
            elif _has_effect(call.outcome):
                positions = nameless.get((call.operation, call.outcome))
                require(bool(positions), f"acknowledged, and not in the log: {call}")
                assert positions is not None
                self.places[number] = 2 * positions.popleft() + 2
        self._find_lost(lost, nameless.values())

    def _check_acknowledged(self, call: Call, position: int | None) -> None:
        if call.outcome is None:
            return
        require(position is not None, f"acknowledged, and not in the log: {call}")
        assert position is not None
        one = self.replayed.applied[position]
        require(
            (one.ran, one.outcome) == (call.operation, call.outcome),
            f"{call} was answered otherwise than entry {one.index} of the log: {one.ran} gave "
            f"{one.outcome}",
        )

    def _find_lost(self, lost: list[int], left: Iterable[deque[int]]) -> None:
        """Calls without number and without answer: equal ones are as good as each other, so the
        one that began first gets the effect that came first. A compaction may have been the
        leader's own idea, so it is nobody's."""
        positions: dict[Operation, deque[int]] = {}
        for position in sorted(position for some in left for position in some):
            one = self.replayed.applied[position]
            if not _is_automatic(one):
                positions.setdefault(one.asked, deque()).append(position)
        for number in sorted(lost, key=lambda number: self.history[number].begin):
            waiting = positions.get(self.history[number].operation)
            if waiting:
                self.places[number] = 2 * waiting.popleft() + 2

    def _require_owners(self) -> None:
        owned = set(self.places.values())
        require(len(owned) == len(self.places), "two calls share one effect")
        for position, one in enumerate(self.replayed.applied):
            mine = 2 * position + 2 in owned or not one.changes or _is_automatic(one)
            require(
                mine,
                f"entry {one.index} of the log applied {one.asked} (session {one.session}, "
                f"sequence {one.sequence}), which no client waited for: nobody sent it, it was "
                "sent once and applied again, or its client was told that nothing was done",
            )

    # --- When? ---

    def _place(self) -> None:
        """Every call in the order of their beginnings, as early as what has ended allows."""
        revisions = [model.revision for model in self.models]
        ended: list[tuple[int, int, Place]] = []
        bound: Place = 0
        bound_by: Call | None = None
        for number, call in sorted(
            enumerate(self.history), key=lambda pair: (pair[1].earliest, pair[0])
        ):
            while ended and ended[0][0] < call.earliest:
                _, other, place = heapq.heappop(ended)
                if place > bound:
                    bound, bound_by = place, self.history[other]
            place = self.places.get(number, 0)
            if call.outcome is not None and not place:
                place = self._gap(call, bound, revisions)
            elif not place:
                continue
            require(
                place > bound or (place == bound and place % 2 == 1),
                f"not linearizable: {self._tell(call, place)}\n"
                f"began after this had ended: {bound_by and self._tell(bound_by, bound)}",
            )
            heapq.heappush(ended, (call.end, number, place))

    def _gap(self, call: Call, bound: Place, revisions: list[int]) -> Place:
        """The first gap, not before ``bound``, that gives the answer that was given; an earlier
        one if only such do."""
        assert call.outcome is not None
        revision = revision_of(call.outcome)
        low, high = 0, len(self.models)
        if revision is not None:
            low, high = bisect_left(revisions, revision), bisect_right(revisions, revision)
        early = 0
        for position in range(low, high):
            if self._answer(call.operation, self.models[position]) != call.outcome:
                continue
            place = 2 * position + 1
            if place >= bound:
                return place
            early = place
        require(early > 0, f"no state that ever was explains {call}")
        return early

    def _answer(self, operation: Operation, model: Model) -> Outcome | None:
        """What an operation that changes nothing is answered; None: here it changes something."""
        if isinstance(operation, Get | Scan) and operation.revision:
            return self._answer_from_the_past(operation, model)
        after, outcome = model.apply(operation)
        return outcome if after is model else None

    def _answer_from_the_past(self, operation: Get | Scan, model: Model) -> Outcome:
        if operation.revision > model.revision:
            return Refused(FUTURE_REVISION)
        if operation.revision < model.compacted_revision:
            return Refused(COMPACTED)
        _, outcome = self.replayed.past[operation.revision].apply(replace(operation, revision=0))
        assert isinstance(outcome, Found), "a read finds"
        return replace(outcome, revision=model.revision)

    def _tell(self, call: Call, place: Place) -> str:
        end = "..." if call.outcome is None else call.end
        model = self.models[(place - 1) // 2]
        kind = "read" if is_read(call.operation) else "write"
        return (
            f"{kind} of client {call.client} [{call.earliest}, {end}] {call.operation} saw "
            f"{call.outcome}, which was so at revision {model.revision} (place {place})"
        )


def _has_effect(outcome: Outcome) -> bool:
    return mutates(outcome) or isinstance(outcome, Forgotten)


def _is_automatic(one: Applied) -> bool:
    """A compaction that the leader may have proposed by itself."""
    return isinstance(one.asked, Compact) and not one.session


def judge(history: Sequence[Call], replayed: Replay) -> None:
    """Raises Violation unless the order of a log explains a history."""
    Witness(replayed, history).judge()
