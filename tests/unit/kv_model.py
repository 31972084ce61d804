"""What a group's map should do, said in the plainest way: a whole dictionary for every revision.

The model has no rows, no history, no clean-up and no undo. A transaction works on a copy that is
thrown away when it is refused. Where product and model agree over random stories, the product's
economy has not changed the meaning. Limits on bytes are not modelled; their tests are written out.
"""

from dataclasses import dataclass, field

from kvorum_proto.command_pb2 import (
    Compare,
    Delete,
    DeleteRange,
    Error,
    ErrorCode,
    Get,
    Increment,
    Item,
    Operation,
    Put,
    Range,
    Result,
    Submission,
    Txn,
)


@dataclass(frozen=True)
class Version:
    """A key's value and where it came from."""

    value: bytes
    create_revision: int
    mod_revision: int
    version: int


State = dict[bytes, Version]


class Refused(Exception):
    """The command has no effect."""

    def __init__(self, code: ErrorCode) -> None:
        super().__init__(code)
        self.code = code


@dataclass
class Budget:
    """What a command may still touch."""

    keys: int
    items: int
    spent: bool = False

    def take(self) -> bool:
        """One more item; the first always."""
        if self.spent and self.items == 0:
            return False
        self.spent = True
        self.items -= 1
        return True


@dataclass
class Model:
    """The map at every revision."""

    range_keys_max: int
    page_keys_max: int
    revision: int = 1
    compacted: int = 0
    states: dict[int, State] = field(default_factory=lambda: {1: {}})

    # --- Commands ---

    def apply(self, submission: Submission) -> Result:
        """The answer, and the state after it."""
        result = Result()
        arm = submission.WhichOneof("command")
        try:
            if arm == "compact":
                self._compact(submission.compact.revision, result)
                return result
            attempt = Attempt(self)
            command = submission.txn if arm == "txn" else _operation(submission)
            if isinstance(command, Txn):
                attempt.txn(command, attempt.choose(command), result)
            else:
                attempt.operation(command, result)
        except Refused as refused:
            return Result(error=Error(code=refused.code))
        if attempt.changed:
            self.revision += 1
            self.states[self.revision] = attempt.state
        return result

    def _compact(self, revision: int, result: Result) -> None:
        if revision <= self.compacted:
            raise Refused(ErrorCode.COMPACTED)
        if revision > self.revision:
            raise Refused(ErrorCode.FUTURE_REVISION)
        self.compacted = revision
        result.compact.revision = self.revision

    # --- Queries ---

    def readable(self) -> range:
        """Every revision that can be asked for."""
        return range(max(self.compacted, 1), self.revision + 1)

    def get(self, query: Get) -> Result:
        """The answer to a point read."""
        result = Result()
        result.get.revision = self.revision
        version = self.states[query.revision or self.revision].get(query.key)
        if version is not None:
            result.get.item.CopyFrom(item(query.key, version))
        return result

    def range(self, query: Range) -> Result:
        """The answer to a range read: its first page."""
        result = Result()
        result.range.revision = self.revision
        budget = Budget(self.range_keys_max, self.page_keys_max)
        state = self.states[query.revision or self.revision]
        page(query, state, result, None if query.count_only else budget)
        return result


class Attempt:
    """One command on a copy of the newest state."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.state = dict(model.states[model.revision])
        self.changed = False
        self.budget = Budget(model.range_keys_max, model.page_keys_max)

    def revision(self) -> int:
        """The revision the group would have now."""
        return self.model.revision + self.changed

    def choose(self, txn: Txn) -> tuple[bool, list[object]]:
        """The branches that run, judged before anything is written."""
        succeeded = all(self.holds(compare) for compare in txn.compares)
        branch = txn.success if succeeded else txn.failure
        return succeeded, [self.choose(one.txn) for one in branch if one.HasField("txn")]

    def holds(self, compare: Compare) -> bool:
        """Whether a compare holds for every key of its range."""
        if not compare.range_end:
            return compare_one(compare, self.state.get(compare.key))
        found = False
        for key in sorted(self.state):
            if not contains(compare.key, compare.range_end, key):
                continue
            if self.budget.keys == 0:
                raise Refused(ErrorCode.RANGE_TOO_LARGE)
            self.budget.keys -= 1
            found = True
            if not compare_one(compare, self.state[key]):
                return False
        return found or compare_one(compare, None)

    def txn(self, txn: Txn, path: tuple[bool, list[object]], result: Result) -> None:
        """The chosen branch, in order."""
        succeeded, nested = path
        result.txn.succeeded = succeeded
        paths = iter(nested)
        for operation in txn.success if succeeded else txn.failure:
            one = result.txn.results.add()
            if operation.HasField("txn"):
                inner = next(paths)
                assert isinstance(inner, tuple)
                self.txn(operation.txn, inner, one)
            else:
                self.operation(operation, one)
        result.txn.revision = self.revision()

    def operation(self, operation: Operation, result: Result) -> None:
        """Anything but a transaction."""
        match operation.WhichOneof("operation"):
            case "put":
                self.put(operation.put, result)
            case "delete":
                self.delete(operation.delete, result)
            case "delete_range":
                self.delete_range(operation.delete_range, result)
            case "increment":
                self.increment(operation.increment, result)
            case "range":
                self.range(operation.range, result)
            case other:
                raise AssertionError(other)

    def write(self, key: bytes, value: bytes) -> None:
        """A new version of a key."""
        old = self.state.get(key)
        revision = self.model.revision + 1
        if old is None:
            self.state[key] = Version(value, revision, revision, 1)
        else:
            self.state[key] = Version(value, old.create_revision, revision, old.version + 1)
        self.changed = True

    def put(self, put: Put, result: Result) -> None:
        """Sets a key."""
        old = self.state.get(put.key)
        if put.lease:
            raise Refused(ErrorCode.LEASE_NOT_FOUND)
        if old is None and (put.ignore_value or put.ignore_lease):
            raise Refused(ErrorCode.KEY_NOT_FOUND)
        if put.previous and old is not None:
            self.spend()
            result.put.previous.CopyFrom(item(put.key, old))
        self.write(put.key, old.value if old is not None and put.ignore_value else put.value)
        result.put.revision = self.revision()

    def delete(self, delete: Delete, result: Result) -> None:
        """Removes a key, if it is there."""
        old = self.state.pop(delete.key, None)
        if old is not None:
            self.changed = True
            if delete.previous:
                self.spend()
                result.delete.previous.CopyFrom(item(delete.key, old))
        result.delete.deleted = old is not None
        result.delete.revision = self.revision()

    def delete_range(self, delete: DeleteRange, result: Result) -> None:
        """Removes the first keys of a range."""
        doomed: list[bytes] = []
        for key in sorted(self.state):
            if not contains(delete.key, delete.range_end, key):
                continue
            if len(doomed) == self.budget.keys or (delete.previous and not self.budget.take()):
                if delete.atomic:
                    raise Refused(ErrorCode.RANGE_TOO_LARGE)
                result.delete_range.next_key = key
                break
            doomed.append(key)
        self.budget.keys -= len(doomed)
        for key in doomed:
            old = self.state.pop(key)
            self.changed = True
            if delete.previous:
                result.delete_range.previous.append(item(key, old))
        result.delete_range.deleted = len(doomed)
        result.delete_range.revision = self.revision()

    def increment(self, increment: Increment, result: Result) -> None:
        """Adds to a number."""
        old = self.state.get(increment.key)
        text = b"0" if old is None else old.value
        try:
            number = int(text)
        except ValueError:
            raise Refused(ErrorCode.NOT_AN_INTEGER) from None
        if str(number).encode() != text or not -(2**63) <= number < 2**63:
            raise Refused(ErrorCode.NOT_AN_INTEGER)
        number += increment.by
        low = increment.minimum if increment.HasField("minimum") else -(2**63)
        high = increment.maximum if increment.HasField("maximum") else 2**63 - 1
        if not low <= number <= high:
            raise Refused(ErrorCode.OUT_OF_BOUNDS)
        self.write(increment.key, str(number).encode())
        result.increment.value = number
        result.increment.revision = self.revision()

    def range(self, query: Range, result: Result) -> None:
        """Reads inside a transaction: its own writes, or one key of the past."""
        model = self.model
        if query.revision:
            if query.range_end:
                raise Refused(ErrorCode.INVALID_REQUEST)
            if query.revision > model.revision:
                raise Refused(ErrorCode.FUTURE_REVISION)
            if query.revision < model.compacted:
                raise Refused(ErrorCode.COMPACTED)
        result.range.revision = self.revision()
        state = model.states[query.revision] if query.revision else self.state
        page(query, state, result, self.budget)

    def spend(self) -> None:
        """A previous item cannot be cut."""
        if not self.budget.take():
            raise Refused(ErrorCode.LIMIT_EXCEEDED)


def page(query: Range, state: State, result: Result, budget: Budget | None) -> None:
    """The first page of a range of one state."""
    answer = result.range
    for key in sorted(state, reverse=query.reverse):
        if not contains(query.key, query.range_end, key):
            continue
        at_limit = not query.count_only and query.limit and answer.count == query.limit
        if at_limit or (budget is not None and not budget.take()):
            answer.next_key = key
            return
        if not query.count_only:
            found = item(key, state[key])
            if query.keys_only:
                found.value = b""
            answer.items.append(found)
        answer.count += 1


def item(key: bytes, version: Version) -> Item:
    """What a client sees of a key."""
    return Item(
        key=key,
        value=version.value,
        create_revision=version.create_revision,
        mod_revision=version.mod_revision,
        version=version.version,
    )


def contains(key: bytes, range_end: bytes, candidate: bytes) -> bool:
    """Whether a range names a key."""
    if not range_end:
        return candidate == key
    return key <= candidate and (range_end == b"\x00" or candidate < range_end)


def compare_one(compare: Compare, version: Version | None) -> bool:
    """Whether a compare holds for one key."""
    target = compare.WhichOneof("target")
    assert target is not None
    wanted = getattr(compare, target)
    if target == "value":
        if version is None:
            return False
        present: bytes | int = version.value
    elif version is None or target == "lease":
        present = 0
    else:
        present = getattr(version, target)
    return bool(
        {
            Compare.EQUAL: present == wanted,
            Compare.NOT_EQUAL: present != wanted,
            Compare.LESS: present < wanted,
            Compare.GREATER: present > wanted,
        }[compare.relation]
    )


def _operation(submission: Submission) -> Operation:
    """A single command as the operation of a transaction that it also is."""
    operation = Operation()
    arm = submission.WhichOneof("command")
    assert arm is not None
    getattr(operation, arm).CopyFrom(getattr(submission, arm))
    return operation
