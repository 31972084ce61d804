"""Runs golden stories about a partition: blocks of commands, three dashes, and what came of them.

    # A comment. Blocks are separated by empty lines.
    put greeting hello
    get greeting
    ---
    put greeting hello -> revision 2
    get greeting -> hello @2 created 2 version 1

A line is a command of its own entry; what stands between " ; " shares one entry. A command that is
proposed takes ``session=``, ``sequence=`` and ``below=``; a session is named by its order of
opening. The lines of a transaction follow it, indented: ``if``, ``then`` and ``else``, and
transactions nest. Bytes are written as in Python. ``UPDATE_GOLDEN=1 pytest tests/scripts`` writes
what happened into the files; the difference is then read like code."""

from collections.abc import Iterator

from kvorum_proto.command_pb2 import (
    Compact,
    Compare,
    Delete,
    DeleteRange,
    ErrorCode,
    Get,
    Increment,
    Item,
    Operation,
    Put,
    Query,
    Range,
    Result,
    SessionClose,
    SessionOpen,
    Submission,
    Txn,
)
from kvorum_server.config import Config
from kvorum_server.storage.rows import Table
from tests.unit.kv_harness import Harness

CONFIG = Config(
    range_keys_max=4,
    scan_page_keys_max=4,
    compaction_slice_rows=2,
    session_window=4,
    session_idle_ms=1000,
    sessions_max=3,
)

RELATIONS = {
    "=": Compare.EQUAL,
    "!=": Compare.NOT_EQUAL,
    "<": Compare.LESS,
    ">": Compare.GREATER,
}


def run_script(text: str) -> str:
    """The script with what really happened."""
    runner = Runner()
    blocks = []
    for block in text.strip("\n").split("\n\n"):
        commands = block.split("\n---")[0].rstrip("\n")
        happened = [
            line for command in commands_of(commands.split("\n")) for line in runner.run(command)
        ]
        if all(line.startswith("#") for line in commands.split("\n")):
            blocks.append(commands)
        else:
            blocks.append("\n".join([commands, "---", *happened]))
    return "\n\n".join(blocks) + "\n"


def commands_of(lines: list[str]) -> Iterator[list[str]]:
    """Commands with the indented lines that belong to them; comments are left out."""
    command: list[str] = []
    for line in lines:
        if line.startswith("#"):
            continue
        if not line.startswith(" ") and command:
            yield command
            command = []
        command.append(line)
    if command:
        yield command


class Runner:
    """One machine, its sessions and the words of the scripts."""

    def __init__(self) -> None:
        self.harness = Harness(CONFIG)
        self.sessions: list[int] = []

    def run(self, command: list[str]) -> list[str]:
        """What a command makes happen, line by line."""
        verb, *words = command[0].split(" ")
        match verb:
            case "get" | "range":
                return [f"{command[0]} -> {shown(self.harness.read(query(verb, words)))}"]
            case "restart":
                self.harness.restart()
                return ["restarted"]
            case "wait":
                self.harness.stamp += int(words[0])
                return []
            case "clear":
                more = self.harness.machine.clear_away()
                self.harness.overlay.flush()
                return [f"clear -> {'more' if more else 'nothing left'}"]
            case "due":
                due = self.harness.machine.maintenance()
                return [f"due -> {'nothing' if due is None else due.compact.revision}"]
            case "status":
                status = self.harness.machine.status()
                return [
                    f"status -> applied {status.applied_index} revision {status.revision} "
                    f"compacted {status.compacted_revision} sessions {status.sessions}"
                ]
            case "rows":
                wanted = {Table[word.upper()] for word in words} or set(Table)
                return [row(*one) for one in self.harness.rows() if one[0][4] in wanted]
            case _:
                return self.apply(command)

    def apply(self, command: list[str]) -> list[str]:
        """Proposes an entry and tells the result of each of its commands."""
        texts = command[0].split(" ; ")
        submissions = []
        for text in texts:
            submission = self.submission(text.split(" "), command[1:])
            error = self.harness.machine.admit(submission)
            if error is not None:
                return [f"{text} -> not admitted: {ErrorCode.Name(error.code)}: {error.message}"]
            submissions.append(submission)
        results = self.harness.apply(*submissions)
        for result in results:
            if result.HasField("session_open"):
                self.sessions.append(result.session_open.session)
        lines = []
        for text, result in zip(texts, results, strict=True):
            lines.append(f"{text} -> {shown(result)}")
            lines += nested(result, "  ")
        return lines

    def submission(self, words: list[str], lines: list[str]) -> Submission:
        """The command that a line names."""
        options = dict(word.split("=", 1) for word in words[1:] if is_option(word))
        submission = Submission()
        if "session" in options:
            number = int(options["session"])
            known = 0 < number <= len(self.sessions)
            submission.session = self.sessions[number - 1] if known else number
            submission.sequence = int(options["sequence"])
            submission.acknowledged_below = int(options.get("below", 0))
        match words[0]:
            case "open":
                submission.session_open.CopyFrom(SessionOpen())
            case "close":
                submission.session_close.CopyFrom(
                    SessionClose(session=self.sessions[int(words[1]) - 1])
                )
            case "compact":
                submission.compact.CopyFrom(Compact(revision=int(words[1])))
            case "txn":
                submission.txn.CopyFrom(transaction(lines))
            case _:
                one = operation(words, [])
                arm = one.WhichOneof("operation")
                assert arm is not None, words
                getattr(submission, arm).CopyFrom(getattr(one, arm))
        return submission


# --- Reading scripts ---


def is_option(word: str) -> bool:
    """Whether a word is name=value; values and keys in scripts have no such form."""
    name, equals, _ = word.partition("=")
    return bool(equals) and name.isidentifier()


def raw(word: str) -> bytes:
    """The bytes that a word stands for; a dash stands for none."""
    if word == "-":
        return b""
    return word.encode().decode("unicode_escape").encode("latin-1")


def transaction(lines: list[str]) -> Txn:
    """A transaction from its indented lines."""
    txn = Txn()
    depth = len(lines[0]) - len(lines[0].lstrip()) if lines else 0
    place = 0
    while place < len(lines):
        inner = place + 1
        while inner < len(lines) and lines[inner].startswith(" " * (depth + 1)):
            inner += 1
        word, *words = lines[place].split()
        if word == "if":
            txn.compares.append(compare(words))
        elif word == "then":
            txn.success.append(operation(words, lines[place + 1 : inner]))
        else:
            assert word == "else", lines[place]
            txn.failure.append(operation(words, lines[place + 1 : inner]))
        place = inner
    return txn


def compare(words: list[str]) -> Compare:
    """``target key [..end] relation value``."""
    target, key, *rest = words
    found = Compare(key=raw(key))
    if rest[0].startswith(".."):
        found.range_end = raw(rest.pop(0)[2:])
    found.relation = RELATIONS[rest[0]]
    if target == "value":
        found.value = raw(rest[1])
    else:
        setattr(found, target, int(rest[1]))
    return found


def operation(words: list[str], lines: list[str]) -> Operation:
    """An operation; its options are words after it."""
    verb, *rest = words
    options = dict(word.split("=", 1) for word in rest if is_option(word))
    plain = [word for word in rest if not is_option(word)]
    match verb:
        case "put":
            key, value, *flags = plain
            put = Put(key=raw(key), value=raw(value), lease=int(options.get("lease", 0)))
            set_flags(put, flags)
            return Operation(put=put)
        case "delete":
            return Operation(delete=Delete(key=raw(plain[0]), previous="previous" in plain))
        case "delete_range":
            delete = DeleteRange(key=raw(plain[0]), range_end=raw(plain[1]))
            set_flags(delete, plain[2:])
            return Operation(delete_range=delete)
        case "increment":
            increment = Increment(key=raw(plain[0]), by=int(plain[1]))
            for bound in ("minimum", "maximum"):
                if bound in options:
                    setattr(increment, bound, int(options[bound]))
            return Operation(increment=increment)
        case "range":
            return Operation(range=query("range", rest).range)
        case "txn":
            return Operation(txn=transaction(lines))
        case _:
            raise ValueError(f"no such command: {verb}")


def set_flags(message: Put | DeleteRange | Range, flags: list[str]) -> None:
    """Sets the fields that the words name."""
    for flag in flags:
        setattr(message, flag, True)


def query(verb: str, words: list[str]) -> Query:
    """``get key [at=]`` or ``range key end [limit=] [at=] [flags]``."""
    options = dict(word.split("=", 1) for word in words if is_option(word))
    plain = [word for word in words if not is_option(word)]
    revision = int(options.get("at", 0))
    if verb == "get":
        return Query(get=Get(key=raw(plain[0]), revision=revision))
    found = Range(key=raw(plain[0]), range_end=raw(plain[1]), revision=revision)
    found.limit = int(options.get("limit", 0))
    set_flags(found, plain[2:])
    return Query(range=found)


# --- Showing results ---


def text(value: bytes) -> str:
    """Bytes as Python writes them, without quotes; nothing is a dash."""
    return repr(value)[2:-1] or "-"


def item(found: Item) -> str:
    """One item of an answer."""
    return (
        f"{text(found.value)} @{found.mod_revision} created {found.create_revision} "
        f"version {found.version}"
    )


def shown(result: Result) -> str:
    """A result in one line."""
    match result.WhichOneof("result"):
        case "error":
            return f"{ErrorCode.Name(result.error.code)}: {result.error.message}"
        case "get":
            return item(result.get.item) if result.get.HasField("item") else "not found"
        case "range":
            page = result.range
            items = [f"{text(one.key)}={item(one)}" for one in page.items]
            goes_on = f"; goes on at {text(page.next_key)}" if page.next_key else ""
            return f"{page.count} at revision {page.revision}: {', '.join(items) or '-'}{goes_on}"
        case "put":
            previous = result.put.previous
            was = f", was {item(previous)}" if result.put.HasField("previous") else ""
            return f"revision {result.put.revision}{was}"
        case "delete":
            was = item(result.delete.previous) if result.delete.HasField("previous") else ""
            done = "deleted" if result.delete.deleted else "nothing there"
            return f"revision {result.delete.revision}, {done}{', was ' + was if was else ''}"
        case "delete_range":
            answer = result.delete_range
            goes_on = f"; goes on at {text(answer.next_key)}" if answer.next_key else ""
            were = "".join(f", {text(one.key)} was {item(one)}" for one in answer.previous)
            return f"revision {answer.revision}, {answer.deleted} deleted{were}{goes_on}"
        case "increment":
            return f"revision {result.increment.revision}, {result.increment.value}"
        case "txn":
            branch = "then" if result.txn.succeeded else "else"
            return f"revision {result.txn.revision}, {branch}"
        case "compact":
            return f"revision {result.compact.revision}, compacted"
        case "session_open":
            return f"session, idle {result.session_open.idle_ms} ms"
        case other:
            return str(other)


def nested(result: Result, indent: str) -> list[str]:
    """The results inside a transaction, indented."""
    lines = []
    for one in result.txn.results:
        lines.append(f"{indent}{shown(one)}")
        lines += nested(one, indent + "  ")
    return lines


def row(key: bytes, value: bytes) -> str:
    """A row as it stands in the engine, without its space."""
    return f"{Table(key[4]).name.lower()} {text(key[5:])} -> {text(value)}"
