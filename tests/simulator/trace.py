"""What happened in a run, for people and for the proof that a seed always gives the same run.

Every happening is one line: when (milliseconds of virtual time), who, what. The hash covers all
lines, those that nobody keeps included: two runs of a seed that differ anywhere have different
hashes.
"""

from hashlib import blake2b

from tests.simulator.scheduler import MILLISECOND, Scheduler


class Trace:
    """A timeline; ``print_lines`` prints it while it grows.

    >>> trace = Trace(Scheduler())
    >>> trace.note("n1", "crash")
    >>> print(trace.lines[0])
       0.000 n1       crash
    """

    __slots__ = ("_hash", "_lines_max", "_print_lines", "_scheduler", "lines")

    def __init__(
        self, scheduler: Scheduler, *, print_lines: bool = False, lines_max: int = 200_000
    ) -> None:
        self._scheduler = scheduler
        self._print_lines = print_lines
        self._lines_max = lines_max
        self._hash = blake2b(digest_size=8)
        self.lines: list[str] = []

    def note(self, who: str, what: str) -> None:
        """Something a reader of the timeline wants to see."""
        line = f"{self._scheduler.now / MILLISECOND:8.3f} {who:<8} {what}"
        self._hash.update(line.encode())
        if len(self.lines) < self._lines_max:
            self.lines.append(line)
        if self._print_lines:
            print(line)

    def digest(self, data: bytes) -> None:
        """Something that must repeat and that nobody wants to read: a frame, say."""
        self._hash.update(b"%d " % self._scheduler.now + data)

    def hash(self) -> str:
        """The fingerprint of the run so far."""
        return self._hash.hexdigest()
