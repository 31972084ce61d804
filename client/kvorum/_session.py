"""The client's half of exactly-once: who may be sent under which number, and what may be forgotten.

A session belongs to one client and one group. Each command takes the next *sequence* when it is
first sent and keeps it through every repetition, so the group can tell a repetition from a new
command and answer it with the stored result. ``acknowledged_below`` tells the group which results
nobody wants any more: everything below the lowest sequence that still waits. A command that its
caller gave up stops waiting like one that was answered; once nothing older waits,
acknowledged_below passes it and a late copy of it can no longer be applied.

Sequences run at most ``window`` ahead of acknowledged_below; what does not fit is held back by the
caller of :meth:`Session.take`, in its queue.

A session dies after ``idle`` seconds of its group's log time without a command. Log time never
runs faster than ours by more than an election timeout a turn, and we count from the *sending* of
the last answered command; stopping at half the idle time leaves the other half for everything
else. A retired session keeps serving the repetitions of what was sent under it; only new commands
go elsewhere.

No clock here: ``now`` is seconds of any monotonic clock.
"""


class Session:
    """One open session of one group."""

    __slots__ = (
        "_idle",
        "_low",
        "_next",
        "_waiting",
        "_window",
        "expired",
        "identifier",
        "used_at",
    )

    def __init__(self, identifier: int, *, idle_ms: int, window: int, now: float) -> None:
        assert identifier > 0, "0 is no session"
        assert window > 0, "a session without a window could send nothing"
        self.identifier = identifier
        self.used_at = now
        self.expired = False
        self._idle = idle_ms / 1000
        self._window = window
        self._next = 1
        self._low = 1
        self._waiting: set[int] = set()

    @property
    def acknowledged_below(self) -> int:
        """The lowest sequence whose answer somebody waits for; the next one when nobody does."""
        low, upper, waiting = self._low, self._next, self._waiting
        while low < upper and low not in waiting:
            low += 1
        self._low = low
        return low

    @property
    def waiting(self) -> int:
        """How many sequences wait for an answer."""
        return len(self._waiting)

    def usable(self, now: float) -> bool:
        """Whether a new command may be sent under this session."""
        return not self.expired and now - self.used_at < self._idle / 2

    def has_room(self) -> bool:
        """Whether the window lets one more sequence out."""
        return self._next - self._low < self._window or (
            self._next - self.acknowledged_below < self._window
        )

    def take(self) -> int:
        """The next sequence; it waits until :meth:`finish`."""
        assert self.has_room(), "the window is full"
        sequence = self._next
        self._next = sequence + 1
        self._waiting.add(sequence)
        return sequence

    def finish(self, sequence: int) -> None:
        """Nobody waits for the answer any more."""
        assert 0 < sequence < self._next, "a sequence that was never taken"
        self._waiting.discard(sequence)

    def answered(self, sequence: int, sent_at: float) -> None:
        """The group answered a command that was sent then: the session lived at that time."""
        self.finish(sequence)
        if sent_at > self.used_at:
            self.used_at = sent_at
